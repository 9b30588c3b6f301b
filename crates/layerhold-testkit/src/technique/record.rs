//! What a run did so far: the state file, and the report. One form for both.
//!
//! The record is a JSON text that is replaced as a whole; hashes of states lie beside it in a file that only grows. A
//! process that is killed at any moment leaves a record that is true, and hashes behind its count that nobody reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::states::States;
use super::{Outcome, Shard, Technique, Unit, Violation};

/// Violations that are kept in words; more are counted.
const VIOLATIONS_KEPT: usize = 100;

/// What one shard of a run did.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The technique's name.
    pub technique: String,
    /// The commits of the programs that did it; more than one where it was resumed with another.
    pub commits: BTreeSet<String>,
    /// The seed.
    pub seed: u64,
    /// Which part of the units, as `1/2`.
    pub shard: String,
    /// The command that did it.
    pub command: String,
    /// Units that are done.
    pub units: u64,
    /// Whether the last unit there is was run.
    pub finished: bool,
    /// Time that was spent.
    pub elapsed_ms: u64,
    /// How often what was done; see [`Outcome::counts`].
    pub counts: BTreeMap<String, u64>,
    /// How many distinct states were met.
    pub states: u64,
    /// How many violations were found.
    pub violations: u64,
    /// The first of them in words.
    pub found: Vec<Violation>,
    #[serde(skip)]
    pub(super) hashes: States,
    /// How many hashes the file beside the record holds.
    #[serde(skip)]
    saved: u64,
}

impl Record {
    /// Nothing done yet.
    pub fn new(technique: &dyn Technique, seed: u64, shard: Shard) -> Self {
        Self { technique: technique.name().to_owned(), seed, shard: shard.to_string(), ..Self::default() }
    }

    /// Adds what one unit came to.
    pub fn add(&mut self, unit: &Unit, outcome: Outcome) {
        self.units += 1;
        for (name, more) in outcome.counts {
            *self.counts.entry(name).or_default() += more;
        }
        for hash in outcome.states {
            self.hashes.insert(hash);
        }
        self.states = self.hashes.len();
        for what in outcome.violations {
            self.violations += 1;
            if self.found.len() < VIOLATIONS_KEPT {
                let (seed, number) = (unit.seed, unit.number);
                let replay = format!("layerhold-testkit run {} --seed {seed} --unit {number}", self.technique);
                self.found.push(Violation { unit: number, what, replay });
            }
        }
    }

    /// Reads a record, with its states.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` for a file of another kind.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut record: Self = serde_json::from_str(&fs::read_to_string(path)?)?;
        record.hashes = States::load(&beside(path), record.states)?;
        record.saved = record.states;
        Ok(record)
    }

    /// Writes the record in one step, after the states it speaks of.
    pub fn save(&mut self, path: &Path) -> io::Result<()> {
        if self.states > self.saved {
            self.hashes.save(&beside(path), self.saved)?;
            self.saved = self.states;
        }
        replace(path, &serde_json::to_string_pretty(self)?)
    }

    /// Writes a copy for others, with all states.
    pub fn export(&self, path: &Path) -> io::Result<()> {
        if self.states > 0 {
            let mut bytes = Vec::new();
            self.hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
            fs::write(beside(path), bytes)?;
        }
        replace(path, &serde_json::to_string_pretty(self)?)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".states");
    name.into()
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    fs::write(&name, text)?;
    fs::rename(&name, path)
}
