//! Runs a technique's units within a budget and remembers what is done.

use std::fs::{File, TryLockError};
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use layerhold::clock::{Clock, SystemClock};

use super::{Budget, Outcome, Record, Shard, Technique, Unit};

/// How often the state file is written, in milliseconds. Whoever kills the process loses the units of so long a time, or
/// the last unit where that is longer.
const SAVE_MS: u64 = 100;

/// How often the progress is told, in milliseconds: on a terminal, and in a log.
const PROGRESS_MS: [u64; 2] = [500, 30_000];

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The seed.
    pub seed: u64,
    /// When to stop.
    pub budget: Budget,
    /// Which part of the units.
    pub shard: Shard,
    /// Where to remember what is done, and to find what was.
    pub state: Option<PathBuf>,
    /// Where units may keep files while they run.
    pub scratch: PathBuf,
    /// The commit of this program, as far as it is known.
    pub commit: String,
    /// The command line, for the report.
    pub command: String,
    /// Whether to tell how far it is.
    pub progress: bool,
    /// Whether to stop after the first unit that finds something.
    pub until_violation: bool,
}

impl Job {
    /// A run without files, for tests.
    pub fn new(seed: u64, budget: Budget) -> Self {
        Self {
            seed,
            budget,
            shard: Shard::WHOLE,
            state: None,
            scratch: std::env::temp_dir(),
            commit: String::new(),
            command: String::new(),
            progress: false,
            until_violation: false,
        }
    }
}

/// Runs the units that the budget asks for and that are not done yet. With a state file it goes on where it stopped.
///
/// # Errors
/// Those of the state file; `InvalidInput` where it remembers another run than this one.
pub fn run(technique: &dyn Technique, job: &Job) -> io::Result<Record> {
    let _held = job.state.as_deref().map(hold).transpose()?;
    let mut record = match &job.state {
        Some(path) if path.exists() => Record::load(path)?,
        _ => Record::new(technique, job.seed, job.shard),
    };
    let same = record.technique == technique.name() && record.seed == job.seed;
    if !same || record.shard != job.shard.to_string() {
        let found = format!("{} seed {} shard {}", record.technique, record.seed, record.shard);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the state file is of another run: {found}")));
    }
    record.commits.insert(job.commit.clone());
    record.command.clone_from(&job.command);
    let clock = SystemClock::default();
    let (began, before) = (clock.monotonic_ms(), record.elapsed_ms);
    let last = technique.units(job.seed).map(|units| job.shard.share(units));
    let (units_max, elapsed_max) = match job.budget {
        Budget::Units(units) => (units, u64::MAX),
        Budget::Brief => (job.shard.share(technique.units_brief()), u64::MAX),
        Budget::Milliseconds(ms) => (u64::MAX, ms),
        Budget::States(_) | Budget::All => (u64::MAX, u64::MAX),
    };
    let states_max = match job.budget {
        Budget::States(states) => states,
        _ => u64::MAX,
    };
    let units_max = units_max.min(last.unwrap_or(u64::MAX));
    let mut told = Told::new(job, technique.name());
    let mut saved_ms = 0;
    while record.units < units_max
        && record.elapsed_ms < elapsed_max
        && record.states < states_max
        && !(job.until_violation && record.violations > 0)
    {
        let unit = Unit::new(job.seed, job.shard.unit(record.units), &job.scratch);
        let outcome = run_one(technique, &unit);
        if job.progress {
            outcome.violations.iter().for_each(|what| told.violation(unit.number, what));
        }
        record.add(&unit, outcome);
        record.elapsed_ms = before + clock.monotonic_ms() - began;
        told.tell(&record, (units_max, elapsed_max), before);
        if let Some(path) = &job.state
            && record.elapsed_ms >= saved_ms + SAVE_MS
        {
            record.save(path)?;
            saved_ms = record.elapsed_ms;
        }
    }
    record.finished = last.is_some_and(|last| record.units >= last);
    if let Some(path) = &job.state {
        record.save(path)?;
    }
    told.end();
    Ok(record)
}

/// Keeps another process from the same state file for as long as the answer lives.
fn hold(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).append(true).open(name)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            let what = format!("another process works with this state file path={}", path.display());
            io::Error::new(io::ErrorKind::WouldBlock, what)
        }
        TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

/// Runs one unit alone; a panic is a violation.
pub fn run_one(technique: &dyn Technique, unit: &Unit) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| technique.unit(unit))).unwrap_or_else(|panic| {
        let mut outcome = Outcome::default();
        outcome.violation(crate::campaign::panic_text(&*panic));
        outcome
    });
    unit.clean();
    outcome
}

/// The line that tells how far it is.
struct Told {
    name: String,
    progress: bool,
    terminal: bool,
    next_ms: u64,
}

impl Told {
    fn new(job: &Job, name: &str) -> Self {
        let name = if job.shard == Shard::WHOLE { name.to_owned() } else { format!("{name} {}", job.shard) };
        Self { name, progress: job.progress, terminal: io::stderr().is_terminal(), next_ms: 0 }
    }

    fn tell(&mut self, record: &Record, (units_max, elapsed_max): (u64, u64), before_ms: u64) {
        if !self.progress || record.elapsed_ms < self.next_ms {
            return;
        }
        self.next_ms = record.elapsed_ms.max(before_ms) + PROGRESS_MS[usize::from(!self.terminal)];
        let per_s = record.units as f64 * 1_000.0 / record.elapsed_ms.max(1) as f64;
        let by_units = match units_max {
            u64::MAX => f64::INFINITY,
            max => (max - record.units.min(max)) as f64 / per_s.max(1e-9),
        };
        let by_time = match elapsed_max {
            u64::MAX => f64::INFINITY,
            max => max.saturating_sub(record.elapsed_ms) as f64 / 1_000.0,
        };
        let left = by_units.min(by_time);
        let left = if left.is_finite() { format!("{left:.0} s left") } else { "without end".to_owned() };
        let of = if units_max == u64::MAX { String::new() } else { format!(" of {units_max}") };
        let states = if record.states > 0 { format!(", {} states", record.states) } else { String::new() };
        let (units, violations) = (record.units, record.violations);
        let line =
            format!("{}: {units}{of} units{states}, {violations} violations, {per_s:.1} units/s, {left}", self.name);
        match self.terminal {
            true => eprint!("\r\x1b[K{line}"),
            false => eprintln!("{line}"),
        }
        let _ = io::stderr().flush();
    }

    fn violation(&mut self, unit: u64, what: &str) {
        self.end();
        eprintln!("{}: VIOLATION in unit {unit}: {what}", self.name);
    }

    fn end(&mut self) {
        if self.progress && self.terminal {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meets 10 states in each unit, half of them known from the unit before, and goes wrong in some.
    struct Toy;

    impl Technique for Toy {
        fn name(&self) -> &'static str {
            "toy"
        }
        fn about(&self) -> &'static str {
            "for this test"
        }
        fn units(&self, _: u64) -> Option<u64> {
            Some(40)
        }
        fn units_brief(&self) -> u64 {
            3
        }
        fn unit(&self, unit: &Unit) -> Outcome {
            let mut outcome = Outcome::default();
            outcome.count("steps", unit.number);
            outcome.states = (unit.number * 5..unit.number * 5 + 10).collect();
            std::fs::write(unit.scratch().join("file"), "x").unwrap();
            assert!(unit.number != 7, "seven");
            if unit.number == 11 {
                outcome.violation("eleven");
            }
            outcome
        }
    }

    /// A unit's directory is named by process, seed and number, so each test has a seed of its own.
    fn job(seed: u64, state: Option<PathBuf>, budget: Budget, shard: &str) -> Job {
        Job { state, shard: shard.parse().unwrap(), ..Job::new(seed, budget) }
    }

    fn json(record: &Record) -> String {
        let mut value = serde_json::to_value(record).unwrap();
        value["elapsed_ms"] = 0.into();
        value.to_string()
    }

    #[test]
    fn a_run_that_was_stopped_goes_on_and_comes_to_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let state = Some(directory.path().join("run.json"));
        let whole = run(&Toy, &job(5, None, Budget::All, "1/1")).unwrap();
        assert_eq!((whole.units, whole.states, whole.violations, whole.finished), (40, 205, 2, true));
        assert_eq!(whole.counts["steps"], (0..40).sum::<u64>() - 7, "what a panic counted is gone with it");
        assert_eq!(whole.found[0].unit, 7);
        assert!(whole.found[0].what.contains("seven"));
        assert_eq!(whole.found[1].replay, "layerhold-testkit run toy --seed 5 --unit 11");
        let part = run(&Toy, &job(5, state.clone(), Budget::Units(9), "1/1")).unwrap();
        assert_eq!((part.units, part.finished), (9, false));
        let again = run(&Toy, &job(5, state.clone(), Budget::Units(9), "1/1")).unwrap();
        assert_eq!(json(&again), json(&part));
        let rest = run(&Toy, &job(5, state.clone(), Budget::All, "1/1")).unwrap();
        assert_eq!(json(&rest), json(&whole));
        assert!(run(&Toy, &job(5, state.clone(), Budget::All, "1/2")).is_err(), "another run's file");
        let held = hold(state.as_deref().unwrap()).unwrap();
        let refused = run(&Toy, &job(5, state.clone(), Budget::All, "1/1")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "{refused}");
        drop(held);
        run(&Toy, &job(5, state, Budget::All, "1/1")).unwrap();
    }

    #[test]
    fn a_run_can_end_with_its_states() {
        let record = run(&Toy, &job(6, None, Budget::States(100), "1/1")).unwrap();
        assert_eq!((record.units, record.states, record.finished), (19, 100, false));
    }

    #[test]
    fn a_killed_process_leaves_a_true_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        run(&Toy, &job(7, Some(path.clone()), Budget::Units(9), "1/1")).unwrap();
        // It wrote hashes of the next unit, and half of the next record.
        let hashes = directory.path().join("run.json.states");
        let mut bytes = std::fs::read(&hashes).unwrap();
        bytes.extend_from_slice(&[9; 19]);
        std::fs::write(&hashes, bytes).unwrap();
        std::fs::write(directory.path().join("run.json.new"), "{\"tech").unwrap();
        let rest = run(&Toy, &job(7, Some(path), Budget::All, "1/1")).unwrap();
        assert_eq!(json(&rest), json(&run(&Toy, &job(7, None, Budget::All, "1/1")).unwrap()));
    }

    #[test]
    fn shards_together_are_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (1..=3).map(|index| directory.path().join(format!("{index}.json"))).collect();
        for (index, path) in paths.iter().enumerate() {
            run(&Toy, &job(8, None, Budget::All, &format!("{}/3", index + 1))).unwrap().export(path).unwrap();
        }
        let row = crate::technique::report::merged(&paths, &[&Toy]).unwrap();
        assert_eq!((row.units, row.states, row.violations, row.finished), (40, 205, 2, true));
        assert!(row.to_string().contains("steps 773"), "{row}");
    }
}
