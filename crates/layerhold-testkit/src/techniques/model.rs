//! Random scripts on the engine and on the reference model side by side.

use crate::campaign::one;
use crate::engine;
use crate::operation::Script;
use crate::runner::{Disagreement, Runner};
use crate::technique::{Outcome, Technique, Unit};

/// Over memory.
pub(super) struct Model;

/// Over RocksDB and real files.
#[cfg(feature = "rocksdb")]
pub(super) struct ModelOnRocks;

fn script(unit: &Unit, run: impl Fn(&Script) -> Result<u64, Disagreement>) -> Outcome {
    let mut outcome = Outcome::default();
    match one(unit.seed, unit.number, run) {
        Ok(done) => {
            outcome.count("operations", done.operations);
            outcome.count("requests", done.requests);
        }
        Err(report) => outcome.violation(report),
    }
    outcome
}

impl Technique for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn about(&self) -> &'static str {
        "random operations with reopening and kills, in memory: every answer is the reference model's"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        60
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        script(unit, |script| Runner::new(engine::memory(), script.small_limits).run(script))
    }
}

#[cfg(feature = "rocksdb")]
impl Technique for ModelOnRocks {
    fn name(&self) -> &'static str {
        "model-rocksdb"
    }

    fn about(&self) -> &'static str {
        "the same over RocksDB and real files"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        10
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        script(unit, |script| Runner::new(engine::rocks(&unit.scratch()), script.small_limits).run(script))
    }
}
