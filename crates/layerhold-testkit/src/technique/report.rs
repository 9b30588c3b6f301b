//! Puts the records of a run's shards together into one row of docs/testing.md.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::record::Record;
use super::states::States;
use super::{Shard, Technique, Violation};

/// A run with all its shards.
#[derive(Debug, Default)]
pub struct Row {
    /// The technique's name.
    pub technique: String,
    /// The commits of the programs that did it.
    pub commits: BTreeSet<String>,
    /// The seeds.
    pub seeds: BTreeSet<u64>,
    /// The command lines.
    pub commands: BTreeSet<String>,
    /// How many records there were.
    pub shards: u64,
    /// Units that are done.
    pub units: u64,
    /// Whether every unit there is was run.
    pub finished: bool,
    /// The longest time that one shard took.
    pub longest_ms: u64,
    /// How often what was done.
    pub counts: BTreeMap<String, u64>,
    /// How many distinct states were met by all shards together.
    pub states: u64,
    /// How many violations were found.
    pub violations: u64,
    /// The first of them in words.
    pub found: Vec<Violation>,
    /// What the technique says was missed.
    pub gaps: Vec<String>,
}

/// Reads records of one technique and adds them up.
///
/// # Errors
/// Those of the files; `InvalidInput` where they are of several techniques, or one part was given twice.
pub fn merged(paths: &[PathBuf], techniques: &[&dyn Technique]) -> io::Result<Row> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let mut row = Row { finished: true, ..Row::default() };
    let mut states = States::default();
    let mut parts = BTreeSet::new();
    // What is missing with one seed is missing, whatever was done with another.
    let mut of_seeds: BTreeMap<u64, Record> = BTreeMap::new();
    for path in paths {
        let record = Record::load(path).map_err(|e| invalid(format!("{e} path={}", path.display())))?;
        if row.shards > 0 && row.technique != record.technique {
            return Err(invalid(format!("two techniques: {} and {}", row.technique, record.technique)));
        }
        if !parts.insert((record.seed, record.shard.clone())) {
            return Err(invalid(format!("one part twice seed={} shard={}", record.seed, record.shard)));
        }
        row.technique.clone_from(&record.technique);
        row.shards += 1;
        row.commits.extend(record.commits);
        row.seeds.insert(record.seed);
        row.commands.insert(record.command);
        row.units += record.units;
        row.finished &= record.finished;
        row.longest_ms = row.longest_ms.max(record.elapsed_ms);
        let of_seed = of_seeds.entry(record.seed).or_default();
        for (name, count) in record.counts {
            *of_seed.counts.entry(name.clone()).or_default() += count;
            *row.counts.entry(name).or_default() += count;
        }
        for hash in record.hashes.iter() {
            states.insert(hash);
        }
        row.violations += record.violations;
        row.found.extend(record.found);
        of_seed.units += record.units;
        (of_seed.technique, of_seed.seed) = (record.technique, record.seed);
    }
    row.states = states.len();
    let all_parts = parts.iter().all(|(seed, shard)| {
        let count = shard.split_once('/').map_or("1", |(_, count)| count);
        (1..=count.parse().unwrap_or(1)).all(|index: u64| parts.contains(&(*seed, format!("{index}/{count}"))))
    });
    row.finished &= all_parts;
    if let Some(technique) = techniques.iter().find(|technique| technique.name() == row.technique) {
        // One seed with all of it is enough.
        let gaps = of_seeds.values().map(|record| technique.gaps(record));
        row.gaps = gaps.min_by_key(Vec::len).unwrap_or_default();
    }
    Ok(row)
}

impl From<Record> for Row {
    fn from(record: Record) -> Self {
        Self {
            technique: record.technique,
            commits: record.commits,
            seeds: BTreeSet::from([record.seed]),
            commands: BTreeSet::from([record.command]),
            shards: 1,
            units: record.units,
            finished: record.finished && record.shard == Shard::WHOLE.to_string(),
            longest_ms: record.elapsed_ms,
            counts: record.counts,
            states: record.states,
            violations: record.violations,
            found: record.found,
            gaps: Vec::new(),
        }
    }
}

impl std::fmt::Display for Row {
    /// `| technique | commit | seeds | command | duration | counts | violations |`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let join = |texts: Vec<String>| texts.join(", ");
        let seeds = self.seeds.iter().map(u64::to_string).collect();
        let mut counts = vec![format!("units {}{}", grouped(self.units), if self.finished { " (all)" } else { "" })];
        if self.states > 0 {
            counts.push(format!("distinct states {}", grouped(self.states)));
        }
        let plain = self.counts.iter().filter(|(name, _)| !name.contains(':'));
        counts.extend(plain.map(|(name, count)| format!("{name} {}", grouped(*count))));
        let shards = if self.shards > 1 { format!(", {} shards side by side", self.shards) } else { String::new() };
        let commands: Vec<String> = self.commands.iter().map(|command| format!("`{command}`")).collect();
        write!(
            f,
            "| {} | {} | {} | {} | {} s{shards} | {} | {} |",
            self.technique,
            join(self.commits.iter().cloned().collect()),
            join(seeds),
            commands.join("<br>"),
            self.longest_ms.div_ceil(1_000),
            join(counts),
            self.violations
        )
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
