//! Many lives of the blob files alone.

use crate::blob_lives::generations;
use crate::technique::{Outcome, Technique, Unit};

pub(super) struct BlobFiles;

impl Technique for BlobFiles {
    fn name(&self) -> &'static str {
        "blob-lives"
    }

    fn about(&self) -> &'static str {
        "blob files alone through 12 power cuts of random uploads, resumptions and deletions"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        60
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.count("states opened", generations(unit.mixed()));
        outcome
    }
}
