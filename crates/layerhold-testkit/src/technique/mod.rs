//! Techniques: ways of looking for violations that a command runs, stops, resumes, splits and reports alike.
//!
//! A [`Technique`] is a numbered sequence of units. A unit is a pure function of the seed and its number: run again, here
//! or on another machine, it does the same and finds the same. From that follow shards (every n-th unit), stopping and
//! resuming (a number in a file), and the replay of one unit that failed. Techniques live in [`crate::techniques`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub mod budget;
pub mod record;
pub mod report;
pub mod run;
mod states;

pub use budget::{Budget, Shard};
pub use record::Record;

/// One way of looking for violations.
pub trait Technique: Sync {
    /// What it is called on the command line: lower case, with hyphens.
    fn name(&self) -> &'static str;

    /// What it does and what it demands, in one line.
    fn about(&self) -> &'static str;

    /// How many units there are; `None` where they go on for as long as anybody asks.
    fn units(&self, seed: u64) -> Option<u64>;

    /// So many units are a short look of some seconds, as a gate takes; 0 where even one takes longer.
    fn units_brief(&self) -> u64;

    /// Runs one unit. It depends on nothing but seed and number, and may panic: that is a violation like any other.
    fn unit(&self, unit: &Unit) -> Outcome;

    /// Whether a unit counts the same each time. Where real processes are killed by the clock it does not.
    fn repeatable(&self) -> bool {
        true
    }

    /// What a run came to may show that the technique missed its aim: a rare branch that was never reached, a call that
    /// never failed. Each text is one such gap; they are told beside the violations. Asked of whole runs alone.
    fn gaps(&self, record: &Record) -> Vec<String> {
        let _ = record;
        Vec::new()
    }

    /// The other side of a technique that needs processes of its own: `layerhold-testkit child NAME ARGUMENT...` calls it
    /// and ends with what it answers.
    fn child(&self, arguments: &[String]) -> i32 {
        eprintln!("{} has no child processes, but one was started arguments={arguments:?}", self.name());
        2
    }
}

/// Which unit of a technique is to run.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The seed of the whole run.
    pub seed: u64,
    /// The unit's number, from 0.
    pub number: u64,
    scratch: PathBuf,
}

impl Unit {
    /// A unit whose directory, should it want one, is below `scratch`.
    pub fn new(seed: u64, number: u64, scratch: &Path) -> Self {
        Self { seed, number, scratch: scratch.to_owned() }
    }

    /// A number that differs from unit to unit and from seed to seed, for generators.
    pub fn mixed(&self) -> u64 {
        crate::fs::mix(crate::fs::mix(self.seed) ^ self.number)
    }

    /// A directory of this unit alone, made and empty; it goes when the unit has run.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn scratch(&self) -> PathBuf {
        let path = self.scratch_path();
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory for one unit");
        path
    }

    /// A directory that units share and that stays, for what is dear to make.
    #[must_use]
    pub fn kept(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("layerhold-testkit-{name}"))
    }

    fn scratch_path(&self) -> PathBuf {
        self.scratch.join(format!("unit-{}-{}-{}", std::process::id(), self.seed, self.number))
    }

    fn clean(&self) {
        let path = self.scratch_path();
        if path.exists() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// What one unit came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How often what was done, by name. A name with a colon (`site: write journal/segment`) is a detail that tables leave out.
    pub counts: BTreeMap<String, u64>,
    /// Hashes of the states that were met, where the technique counts distinct ones. Repetitions are dropped later.
    pub states: Vec<u64>,
    /// What should not have been.
    pub violations: Vec<String>,
}

impl Outcome {
    /// Adds to a count.
    pub fn count(&mut self, name: &str, more: u64) {
        match self.counts.get_mut(name) {
            Some(count) => *count += more,
            None => drop(self.counts.insert(name.to_owned(), more)),
        }
    }

    /// Notes a violation: what was done, what was found, what was demanded. How to run the unit again is added later.
    pub fn violation(&mut self, what: impl Into<String>) {
        let what: String = what.into();
        self.violations.push(what.lines().map(crate::runner::shorten).collect::<Vec<_>>().join("\n"));
    }
}

/// A violation with what is needed to see it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The unit that found it.
    pub unit: u64,
    /// What was done, what was found, what was demanded.
    pub what: String,
    /// The command that finds it again.
    pub replay: String,
}
