//! Many lives of a journaled store alone.

use crate::journal::lives::{LIVES, live};
use crate::technique::{Outcome, Technique, Unit};

pub(super) struct Journal;

impl Technique for Journal {
    fn name(&self) -> &'static str {
        "journal-lives"
    }

    fn about(&self) -> &'static str {
        "the commit journal alone through 12 openings of random work and power cuts, also inside recovery"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        400
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let mut outcome = Outcome::default();
        live(unit.mixed());
        outcome.count("openings", LIVES as u64);
        outcome
    }
}
