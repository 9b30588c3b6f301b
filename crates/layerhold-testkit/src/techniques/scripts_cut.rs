//! Power cuts everywhere in random scripts over the whole engine.

use crate::crash::{Budget, random_script};
use crate::technique::{Outcome, Technique, Unit};

/// States that are opened at each cut; the recovery of one of them is cut at each of its calls.
const BUDGET: Budget = Budget { states: 6, recovery_cuts: u64::MAX };

pub(super) struct ScriptsCut;

impl Technique for ScriptsCut {
    fn name(&self) -> &'static str {
        "scripts-cut"
    }

    fn about(&self) -> &'static str {
        "long random scripts, the power cut at every mutating call: nothing acknowledged is lost, nothing half is left"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let mut outcome = Outcome::default();
        match random_script(unit.seed, unit.number, BUDGET) {
            Ok(done) => {
                outcome.count("cuts", done.cuts);
                outcome.count("states opened", done.states);
                outcome.count("cuts inside recovery", done.recoveries);
            }
            Err(wrong) => outcome.violation(wrong.to_string()),
        }
        outcome
    }
}
