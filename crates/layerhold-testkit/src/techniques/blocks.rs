//! Power cuts below real file systems.

use crate::real::blocks::{CHECKED, Kind, Planted, REFUSED, cut};
use crate::real::{Place, child};
use crate::technique::{Outcome, Record, Technique, Unit};

/// States of one recorded workload.
const STATES: u64 = 250;

/// How a short look is numbered: the first unit has fewer states.
const STATES_BRIEF: u64 = 25;

/// Of so many disks one may be the file system's own loss; more of them would be no test of the store.
const REFUSED_ONE_IN: u64 = 20;

pub(super) struct Blocks(pub(super) Kind);

impl Technique for Blocks {
    fn name(&self) -> &'static str {
        self.0.technique
    }

    fn about(&self) -> &'static str {
        "block writes of RocksDB and real files on this kernel's file system, cut and torn: nothing acknowledged is lost"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(missing) = self.0.missing() {
            eprintln!("{}: NOT RUN, not available here: {missing}", self.name());
            outcome.count(&format!("units not run for lack of {missing}"), 1);
            // A short look is for machines of every kind. Whoever asks for more must not take nothing for it.
            if unit.number >= self.units_brief() {
                outcome.violation(format!("not run, not available here: {missing}"));
            }
            return outcome;
        }
        let states = if unit.number == 0 { STATES_BRIEF } else { STATES };
        let place = Place::of(unit).map_err(|e| e.to_string());
        match place.and_then(|place| cut(&place, self.0, unit.mixed(), states, Planted::Nothing)) {
            Ok(found) => outcome = found,
            Err(wrong) => outcome.violation(wrong),
        }
        outcome
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let count = |name: &str| record.counts.get(name).copied().unwrap_or(0);
        let (checked, refused) = (count(CHECKED), count(REFUSED));
        let mut gaps = Vec::new();
        if checked == 0 {
            gaps.push("no state was checked".to_owned());
        }
        if refused * REFUSED_ONE_IN > checked + refused {
            gaps.push(format!("{refused} disks do not mount, and {checked} do"));
        }
        gaps
    }

    fn child(&self, arguments: &[String]) -> i32 {
        child::run(self.name(), arguments)
    }
}
