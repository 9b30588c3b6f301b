//! Carrying a request out on an open store.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use layerhold::check::{CheckOptions, Finding, Observer, Outcome, Progress, RepairOptions};
use layerhold::{Call, Engine, Principal};
use tokio::time::Instant;

use super::{Line, Request};

/// So often it is said how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Takes lines; breaks where nobody reads them any more.
pub type Say<'a> = &'a mut dyn FnMut(&Line) -> ControlFlow<()>;

/// Carries `request` out and says everything; the last line is said whatever happens, unless nobody reads.
/// It ends early once `stop` is set.
pub fn carry_out(engine: &Engine, request: Request, stop: &AtomicBool, say: Say<'_>) {
    let mut teller = Teller { say, stop, broken: false, said: None };
    let done = match request {
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

impl Observer for Teller<'_> {
    fn finding(&mut self, finding: &Finding, outcome: &Outcome) {
        self.say(&Line::finding(finding, outcome));
    }

    fn progress(&mut self, progress: &Progress) -> ControlFlow<()> {
        if self.said.is_none_or(|said| said.elapsed() >= PROGRESS_EVERY) {
            self.said = Some(Instant::now());
            self.say(&Line::progress(progress));
        }
        if self.broken || self.stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
