//! Bugs that are planted on purpose, each in a copy of the source tree: the technique that should catch it does.
//!
//! A bug is a file below `planted/`: what it is, which technique has to catch it, within how many units, with which words
//! (`expect`, one line for each way of saying it), which features of the test kit that takes (`features`, by default none), and
//! replacements of text in source files. A replacement whose old text is not in its file exactly once is an error: a suite
//! that plants nothing would catch nothing and say that all is well.
//!
//! Caught is what goes wrong in the expected words, and only if the sources without the bug do the same units and nothing
//! goes wrong. The first units hunt there, for as long as the most patient bug of a technique asks for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::technique::{Outcome, Record, Technique, Unit};

pub(super) struct Planted;

/// One file below `planted/`.
struct Bug {
    name: String,
    what: String,
    hunter: Hunter,
    units: u64,
    /// One of these is in the words of a violation that is its own.
    expected: Vec<String>,
    edits: Vec<Edit>,
}

/// A technique, in a program that is built with some features.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hunter {
    features: String,
    technique: String,
}

/// One replacement.
struct Edit {
    file: String,
    old: String,
    new: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every bug, in the order of their names.
fn bugs() -> Vec<Bug> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("planted");
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let parse = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a readable file");
        Bug::parse(path, &text).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()))
    };
    paths.iter().map(parse).collect()
}

/// Everybody who hunts, with the most units that a bug gives them.
fn hunters(bugs: &[Bug]) -> Vec<(Hunter, u64)> {
    let mut hunters = BTreeMap::new();
    for bug in bugs {
        let units = hunters.entry(bug.hunter.clone()).or_insert(0);
        *units = bug.units.max(*units);
    }
    hunters.into_iter().collect()
}

/// Takes the directory for as long as this process lives: two that plant in one tree would hunt each other's bugs.
fn alone(scratch: &Path) -> Result<(), String> {
    static TAKEN: Mutex<Option<(PathBuf, fs::File)>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.as_ref().is_some_and(|(path, _)| path == scratch) {
        return Ok(());
    }
    let lock = fs::create_dir_all(scratch).and_then(|()| fs::File::create(scratch.join("lock")));
    let lock = lock.map_err(|error| format!("{}: {error}", scratch.display()))?;
    lock.try_lock()
        .map_err(|error| format!("bugs are planted by one process at a time, in one shard error={error}"))?;
    *taken = Some((scratch.to_owned(), lock));
    Ok(())
}

impl Hunter {
    /// Builds the test kit from the tree with `changed` files and lets the technique look at `units` units, or up to the
    /// first that finds something.
    fn hunt(&self, changed: &[(String, String)], seed: u64, units: u64, scratch: &Path) -> Result<Record, String> {
        alone(scratch)?;
        let (tree, target) = (scratch.join("tree"), scratch.join("target"));
        mirror(&root(), &tree, Path::new(""), changed).map_err(|error| format!("cannot copy the sources: {error}"))?;
        let built = Command::new("cargo")
            .current_dir(&tree)
            .args(["build", "--quiet", "--locked", "-p", "layerhold-testkit", "--no-default-features"])
            .args(["--features", &self.features])
            .env("CARGO_TARGET_DIR", &target)
            // One build differs from the last by a few lines.
            .env("CARGO_INCREMENTAL", "1")
            .output()
            .map_err(|error| format!("no cargo: {error}"))?;
        if !built.status.success() {
            return Err(format!("does not build:\n{}", String::from_utf8_lossy(&built.stderr)));
        }
        let report = scratch.join("report.json");
        let _ = fs::remove_file(&report);
        let ran = Command::new(target.join("debug/layerhold-testkit"))
            .args(["run", &self.technique, "--until-violation", "--commit", "planted"])
            .args(["--seed", &seed.to_string(), "--budget", &units.to_string()])
            .arg("--report")
            .arg(&report)
            .arg("--scratch")
            .arg(scratch)
            .output()
            .map_err(|error| format!("cannot run: {error}"))?;
        Record::load(&report).map_err(|_| format!("no report: {}", String::from_utf8_lossy(&ran.stderr).trim_end()))
    }
}

impl Bug {
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let heads = |name: &str| -> Vec<String> {
            let head = text.split("\nfile: ").next().unwrap_or_default();
            let found = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.map(str::to_owned).collect()
        };
        let head = |name: &str| heads(name).pop().ok_or_else(|| format!("no line that begins with {name}"));
        let mut edits = Vec::new();
        for part in text.split("\nfile: ").skip(1) {
            let (file, rest) = part.split_once("\n--- old").ok_or("a file without an old text")?;
            let (mode, rest) = rest.split_once('\n').ok_or("nothing behind --- old")?;
            let (old, rest) = rest.split_once("--- new\n").ok_or("no --- new")?;
            let (new, _) = rest.split_once("--- end").ok_or("no --- end")?;
            let trim = |text: &str| match mode {
                ", part of a line" => text.strip_suffix('\n').unwrap_or(text).to_owned(),
                _ => text.to_owned(),
            };
            edits.push(Edit { file: file.to_owned(), old: trim(old), new: trim(new) });
        }
        if edits.is_empty() {
            return Err("nothing is replaced".to_owned());
        }
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let units = head("within units")?.parse().map_err(|_| "units are a number")?;
        let hunter = Hunter { features: head("features").unwrap_or_default(), technique: head("caught by")? };
        head("expect")?;
        Ok(Self { name, what: head("what")?, hunter, units, expected: heads("expect"), edits })
    }

    /// The files that it changes, as they are then.
    fn apply(&self, root: &Path) -> Result<Vec<(String, String)>, String> {
        let mut changed: Vec<(String, String)> = Vec::new();
        for Edit { file, old, new } in &self.edits {
            let before = match changed.iter().position(|(other, _)| other == file) {
                Some(place) => changed.remove(place).1,
                None => fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))?,
            };
            match before.matches(old.as_str()).count() {
                1 => changed.push((file.clone(), before.replacen(old.as_str(), new, 1))),
                count => return Err(format!("{}: the old text is {count} times in {file}", self.name)),
            }
        }
        Ok(changed)
    }

    /// Lets the technique look for it; how many units that took.
    fn hunt(&self, seed: u64, scratch: &Path) -> Result<u64, String> {
        let record = self.hunter.hunt(&self.apply(&root())?, seed, self.units, scratch)?;
        self.judge(&record)
    }

    fn judge(&self, record: &Record) -> Result<u64, String> {
        let Self { what, hunter: Hunter { technique, .. }, expected, .. } = self;
        let own = |found: &str| expected.iter().any(|words| found.contains(words.as_str()));
        match record.found.first() {
            None => Err(format!("NOT CAUGHT by {technique} within {} units: {what}", record.units)),
            Some(_) if record.found.iter().any(|found| own(&found.what)) => Ok(record.units),
            Some(other) => Err(format!("NOT CAUGHT by {technique} in the words {expected:?}: {what}\n{}", other.what)),
        }
    }
}

/// Copies what a build needs, and writes only what differs, so that cargo builds only what changed.
fn mirror(from: &Path, to: &Path, below: &Path, changed: &[(String, String)]) -> std::io::Result<()> {
    fs::create_dir_all(to.join(below))?;
    for entry in fs::read_dir(from.join(below))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = below.join(&name);
        let skipped = ["target", ".git", "node_modules", "corpus", "planted", "demo-data"];
        if skipped.iter().any(|skipped| name == *skipped) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            mirror(from, to, &path, changed)?;
            continue;
        }
        let patched = changed.iter().find(|(file, _)| Path::new(file) == path);
        let bytes = match patched {
            Some((_, text)) => text.clone().into_bytes(),
            None => fs::read(entry.path())?,
        };
        if fs::read(to.join(&path)).ok().as_ref() != Some(&bytes) {
            fs::write(to.join(&path), bytes)?;
        }
    }
    Ok(())
}

impl Technique for Planted {
    fn name(&self) -> &'static str {
        "planted"
    }

    fn about(&self) -> &'static str {
        "the sources as they are, then with one bug a unit: nothing is found, then each bug by the technique that should (builds; one shard)"
    }

    fn units(&self, _: u64) -> Option<u64> {
        let bugs = bugs();
        Some((hunters(&bugs).len() + bugs.len()) as u64)
    }

    fn units_brief(&self) -> u64 {
        // Each is a build of the engine. That they still apply is a test of its own.
        0
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let (mut outcome, scratch) = (Outcome::default(), unit.kept("planted"));
        let mut bugs = bugs();
        // A program that is built once more is only linked if its features are those of the one before.
        bugs.sort_by(|one, other| (&one.hunter.features, &one.name).cmp(&(&other.hunter.features, &other.name)));
        let hunters = hunters(&bugs);
        let number = usize::try_from(unit.number).unwrap_or(usize::MAX);
        if let Some((hunter, units)) = hunters.get(number) {
            let name = &hunter.technique;
            match hunter.hunt(&[], unit.seed, *units, &scratch) {
                Ok(record) => {
                    outcome.count("techniques that find nothing where no bug is", u64::from(record.found.is_empty()));
                    outcome.count(&format!("no bug: {name} found nothing in units"), record.units);
                    record.found.iter().for_each(|found| outcome.violation(format!("no bug, {name}: {}", found.what)));
                }
                Err(wrong) => outcome.violation(format!("no bug, {name}: {wrong}")),
            }
            return outcome;
        }
        let Some(bug) = bugs.get(number - hunters.len()) else { return outcome };
        match bug.hunt(unit.seed, &scratch) {
            Ok(units) => {
                outcome.count("caught", 1);
                outcome.count(&format!("{}: caught by {} after units", bug.name, bug.hunter.technique), units);
            }
            Err(wrong) => outcome.violation(format!("{}: {wrong}", bug.name)),
        }
        outcome
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let count = |name: &str| record.counts.get(name).copied().unwrap_or(0);
        let bugs = bugs();
        let missing = (bugs.len() as u64).saturating_sub(count("caught"));
        let clean = count("techniques that find nothing where no bug is");
        let loud = (hunters(&bugs).len() as u64).saturating_sub(clean);
        let gaps = [(missing, "bugs were not caught"), (loud, "techniques did not hunt where no bug is")];
        gaps.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::technique::Shard;

    #[test]
    fn every_bug_can_be_planted_in_this_tree_and_has_its_hunter() {
        let bugs = bugs();
        assert!(bugs.len() >= 15, "{} bugs", bugs.len());
        for bug in bugs {
            bug.apply(&root()).unwrap_or_else(|wrong| panic!("{wrong}"));
            let technique = &bug.hunter.technique;
            let known = crate::techniques::all().iter().any(|known| known.name() == technique);
            assert!(known || bug.hunter.features == "rocksdb", "{}: no technique {technique}", bug.name);
        }
    }

    fn no_op(expect: &str) -> Bug {
        let text = format!(
            "what: nothing\ncaught by: model\nwithin units: 1\nexpect: {expect}\n\nfile: Cargo.toml\n--- old, part of a line\n[workspace]\n--- new\n[workspace]\n--- end\n"
        );
        Bug::parse(Path::new("no-op.txt"), &text).unwrap()
    }

    fn record(found: &[&str]) -> Record {
        let mut record = Record::new(&crate::techniques::model::Model, 1, Shard::WHOLE);
        let mut outcome = Outcome::default();
        found.iter().for_each(|what| outcome.violation(*what));
        record.add(&Unit::new(1, 0, Path::new("")), outcome);
        record
    }

    #[test]
    fn what_changes_nothing_is_not_caught() {
        let bug = no_op("disagree");
        let changed = bug.apply(&root()).unwrap();
        assert_eq!(changed[0].1, fs::read_to_string(root().join("Cargo.toml")).unwrap());
        let unit = Unit::new(3, 0, &std::env::temp_dir());
        let outcome = crate::technique::run::run_one(&crate::techniques::model::Model, &unit);
        let found: Vec<&str> = outcome.violations.iter().map(String::as_str).collect();
        assert!(bug.judge(&record(&found)).unwrap_err().contains("NOT CAUGHT"));
    }

    #[test]
    fn a_violation_in_other_words_catches_nothing() {
        let bug = no_op("disagree");
        assert!(bug.judge(&record(&["panicked at index out of bounds"])).unwrap_err().contains("in the words"));
        assert_eq!(bug.judge(&record(&["panicked", "engine and model disagree"])), Ok(1));
    }

    #[test]
    fn one_process_plants_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let other = fs::File::create(directory.path().join("lock")).unwrap();
        other.try_lock().unwrap();
        assert!(alone(directory.path()).unwrap_err().contains("one process at a time"));
        drop(other);
        alone(directory.path()).unwrap();
    }
}
