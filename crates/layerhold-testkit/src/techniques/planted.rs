//! Bugs that are planted on purpose, each in a copy of the source tree: the technique that should catch it does.
//!
//! A bug is a file below `planted/`: what it is, which technique has to catch it, within how many units, and replacements
//! of text in source files. A replacement whose old text is not in its file exactly once is an error: a suite that plants
//! nothing would catch nothing and say that all is well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::technique::{Outcome, Record, Technique, Unit};

pub(super) struct Planted;

/// One file below `planted/`.
struct Bug {
    name: String,
    what: String,
    technique: String,
    units: u64,
    edits: Vec<Edit>,
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

impl Bug {
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let head = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.map(str::to_owned).ok_or_else(|| format!("no line that begins with {name}"))
        };
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
        Ok(Self { name, what: head("what")?, technique: head("caught by")?, units, edits })
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

    /// Builds the test kit with the bug and lets the technique look for it; how many units that took.
    fn hunt(&self, seed: u64, scratch: &Path) -> Result<u64, String> {
        let (tree, target) = (scratch.join("tree"), scratch.join("target"));
        let changed = self.apply(&root())?;
        mirror(&root(), &tree, Path::new(""), &changed).map_err(|error| format!("cannot copy the sources: {error}"))?;
        let built = Command::new("cargo")
            .current_dir(&tree)
            .args(["build", "--quiet", "--locked", "-p", "layerhold-testkit", "--no-default-features"])
            .env("CARGO_TARGET_DIR", &target)
            .output()
            .map_err(|error| format!("no cargo: {error}"))?;
        if !built.status.success() {
            return Err(format!("{} does not build:\n{}", self.name, String::from_utf8_lossy(&built.stderr)));
        }
        let report = scratch.join("report.json");
        let _ = fs::remove_file(&report);
        let ran = Command::new(target.join("debug/layerhold-testkit"))
            .args(["run", &self.technique, "--until-violation", "--commit", "planted"])
            .args(["--seed", &seed.to_string(), "--budget", &self.units.to_string()])
            .arg("--report")
            .arg(&report)
            .output()
            .map_err(|error| format!("cannot run: {error}"))?;
        let record = Record::load(&report)
            .map_err(|_| format!("no report: {}", String::from_utf8_lossy(&ran.stderr).trim_end()))?;
        match record.violations {
            0 => Err(format!("NOT CAUGHT by {} within {} units: {}", self.technique, record.units, self.what)),
            _ => Ok(record.units),
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
        "bugs planted in a copy of the sources, one a unit: each is caught by the technique that should (builds; one shard)"
    }

    fn units(&self, _: u64) -> Option<u64> {
        Some(bugs().len() as u64)
    }

    fn units_brief(&self) -> u64 {
        // Each is a build of the engine. That they still apply is a test of its own.
        0
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let mut outcome = Outcome::default();
        let bug = bugs().swap_remove(unit.number as usize);
        match bug.hunt(unit.seed, &unit.kept("planted")) {
            Ok(units) => {
                outcome.count("caught", 1);
                outcome.count(&format!("{}: caught by {} after units", bug.name, bug.technique), units);
            }
            Err(wrong) => outcome.violation(format!("{}: {wrong}", bug.name)),
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_can_be_planted_in_this_tree_and_has_its_hunter() {
        let bugs = bugs();
        assert!(bugs.len() >= 15, "{} bugs", bugs.len());
        for bug in bugs {
            bug.apply(&root()).unwrap_or_else(|wrong| panic!("{wrong}"));
            let known = crate::techniques::all().iter().any(|technique| technique.name() == bug.technique);
            assert!(known, "{}: no technique {}", bug.name, bug.technique);
        }
    }
}
