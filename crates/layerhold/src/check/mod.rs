//! Proving that a store is what docs/format.md says, and mending what can be proved right.
//!
//! A check walks over all rows once, in the order of their keys and in one view, and over files and their bytes if it is
//! asked to. It needs no lists of the whole store: rows in the same order are walked together, and sets of facts in
//! different orders are compared by their sums. It runs on a store that is in use and keeps nobody from working; what
//! looks wrong is judged once more under the rows that guard it.
//!
//! A repair is a check that acts: it writes what other rows or files prove, each finding in one transaction with an entry
//! in the change log, and leaves everything else with a word on what an operator can do. It never guesses, takes nothing away
//! that may be the last witness of something, can be cut off anywhere and run again.

mod case;
mod examination;
pub mod finding;
mod judge;
mod medium;
mod pass;
mod rebuild;
mod relation;
pub mod report;
mod row;
mod touched;
mod walk;

use crate::call::Call;
use crate::engine::Engine;
use crate::error::Failure;

use examination::{Examination, Mode};
pub(crate) use judge::differing_row;
use walk::Halt;

pub use finding::{Counters, Fault, Finding, RowKey, Severity, TOUCHED_MAX, Touched, TouchedRepository};
pub use report::{CheckOptions, Level, Observer, Outcome, Progress, RepairOptions, Report, Stage};

/// A repair mends what an earlier mend brought to light; so often it looks again.
const ROUNDS_MAX: u32 = 6;

impl Engine {
    /// Proves the invariants of docs/format.md, section 8, over the store, as far as the level goes, and tells `observer` what
    /// does not hold: at [`Level::Metadata`] all that rows say of one another, and only at [`Level::Bytes`] that bytes give
    /// their digests.
    ///
    /// The store may be in use meanwhile. Memory is bounded whatever the store's size; time is that of reading every row
    /// once, or some families twice where rows do not fit, and at [`Level::Bytes`] every byte of every blob from the medium,
    /// those of a damaged one twice.
    ///
    /// # Errors
    /// Where rows or directories cannot be read, or no file can be opened any more: nothing can be said of the store then.
    /// One file that the medium does not give is a finding.
    pub fn check(&self, options: &CheckOptions, observer: &mut dyn Observer) -> Result<Report, Failure> {
        let mut examination = Examination::new(&self.inner, options.level, Mode::Check, observer);
        finish(examination.walk())?.then_stop(&mut examination);
        Ok(examination.report)
    }

    /// Mends what other rows or files prove, and tells `observer` of each finding what became of it. What is left when it
    /// returns is what the report's [`left`](Report::left) and [`worst`](Report::worst) say. Each mend is durable, and an
    /// [`Event::Repaired`](crate::change::Event::Repaired) under the call's principal; damaged bytes are quarantined as a read
    /// does it, with the event of that and in nobody's name.
    ///
    /// # Errors
    /// As [`Engine::check`]; and what stands in the way of any mutation. Mends until then stay.
    pub fn repair(&self, options: &RepairOptions, call: &Call, observer: &mut dyn Observer) -> Result<Report, Failure> {
        let mode = if options.dry_run { Mode::Plan } else { Mode::Repair(call.clone()) };
        if !options.dry_run {
            self.inner.check_writable()?;
        }
        let mut examination = Examination::new(&self.inner, options.level, mode, observer);
        for _ in 0..ROUNDS_MAX {
            let mended = examination.report.mended;
            examination.begin_round();
            finish(examination.walk())?.then_stop(&mut examination);
            if examination.report.stopped || options.dry_run || examination.report.mended == mended {
                break;
            }
        }
        Ok(examination.report)
    }
}

/// How a walk ended that did not fail.
enum Walked {
    Whole,
    Stopped,
}

impl Walked {
    fn then_stop(self, examination: &mut Examination<'_>) {
        examination.report.stopped = matches!(self, Self::Stopped);
    }
}

fn finish(walked: Result<(), Halt>) -> Result<Walked, Failure> {
    match walked {
        Ok(()) => Ok(Walked::Whole),
        Err(Halt::Stopped) => Ok(Walked::Stopped),
        Err(Halt::Failed(failure)) => Err(failure),
    }
}
