//! Carrying a request out on an open store.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use layerhold::check::{CheckOptions, Finding, Observer, Outcome, Progress, RepairOptions};
use layerhold::scrub::ScrubBudget;
use layerhold::{Call, Engine, Failure, Principal};
use tokio::time::Instant;

use super::{Line, Request};

/// So often it is said how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What one step of a scrub reads.
const SCRUB_STEP_BYTES: u64 = 16 << 20;

/// Takes lines; breaks where nobody reads them any more.
pub type Say<'a> = &'a mut dyn FnMut(&Line) -> ControlFlow<()>;

/// Carries `request` out and says everything; the last line is said whatever happens, unless nobody reads.
/// It ends early once `stop` is set.
pub fn carry_out(engine: &Engine, request: Request, stop: &AtomicBool, say: Say<'_>) {
    let mut teller = Teller { say, stop, broken: false, said: None };
    let done = match request {
        Request::Scrub => {
            let last =
                scrub(engine, &mut teller).unwrap_or_else(|failure| Line::Failed { cause: crate::chain(&failure) });
            teller.say(&last);
            return;
        }
        Request::Check { level } => engine.check(&CheckOptions::default().with_level(level.into()), &mut teller),
        Request::Repair { level, dry_run } => {
            let options = RepairOptions::default().with_level(level.into()).with_dry_run(dry_run);
            engine.repair(&options, &operator(), &mut teller)
        }
    };
    let last = match done {
        Ok(report) => Line::done(&report),
        Err(failure) => Line::Failed { cause: crate::chain(&failure) },
    };
    if !teller.broken {
        let _ = (teller.say)(&last);
    }
}

/// Reads everything once: the pass that a step began after this was called, or that began with it. Nobody else does steps
/// meanwhile, the server's own work included: damage that they found would be passed by here, and not be said.
fn scrub(engine: &Engine, teller: &mut Teller<'_>) -> Result<Line, Failure> {
    let mut alone = engine.scrub_alone();
    let before = engine.scrub_progress()?;
    let (mut rows, mut bytes, mut files) = (0, 0, 0);
    let mut findings = BTreeMap::new();
    let (mut mended, mut left) = (0, 0);
    let stopped = loop {
        let step = alone.step(ScrubBudget::bytes(SCRUB_STEP_BYTES))?;
        rows += step.rows;
        bytes += step.bytes;
        files += step.blobs;
        for finding in &step.findings {
            let line = Line::scrub_finding(finding);
            if let Line::Finding { name, outcome, .. } = &line {
                *findings.entry(name.clone()).or_insert(0) += 1;
                *(if outcome == "mended" { &mut mended } else { &mut left }) += 1;
            }
            teller.say(&line);
        }
        let stage = "scrub".to_owned();
        let count = mended + left;
        let progress = Line::Progress { stage, rows, rows_total: 0, bytes, bytes_total: 0, findings: count };
        if teller.goes_on(&progress).is_break() {
            break true;
        }
        if step.pass_completed && (!before.running || step.pass > before.pass) {
            break false;
        }
    };
    Ok(Line::Done { sound: left == 0, clean: left == 0, stopped, rows, files, bytes, findings, mended, left })
}

/// In whose name the change log has what an operator does.
pub(crate) fn operator() -> Call {
    Call::by(Principal::parse("operator").unwrap_or_else(|_| Principal::anonymous()))
}

struct Teller<'a> {
    say: Say<'a>,
    stop: &'a AtomicBool,
    broken: bool,
    said: Option<Instant>,
}

impl Teller<'_> {
    fn say(&mut self, line: &Line) {
        if !self.broken {
            self.broken = (self.say)(line).is_break();
        }
    }
}

impl Teller<'_> {
    /// Says how far it is, now and then; breaks when it is to be stopped.
    fn goes_on(&mut self, progress: &Line) -> ControlFlow<()> {
        if self.said.is_none_or(|said| said.elapsed() >= PROGRESS_EVERY) {
            self.said = Some(Instant::now());
            self.say(progress);
        }
        let stop = self.broken || self.stop.load(Ordering::Relaxed);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Observer for Teller<'_> {
    fn finding(&mut self, finding: &Finding, outcome: &Outcome) {
        self.say(&Line::finding(finding, outcome));
    }

    fn progress(&mut self, progress: &Progress) -> ControlFlow<()> {
        self.goes_on(&Line::progress(progress))
    }
}
