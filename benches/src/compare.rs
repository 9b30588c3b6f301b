//! Ours beside the yardstick: criterion times both, and one line at the end says how far apart they are.

use std::cell::RefCell;
use std::fmt::Write;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};

use crate::took::Took;

/// What the ratio of a row is held to (docs/benchmarks.md).
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At least this share of the yardstick's speed.
    SpeedAtLeast(f64),
    /// At most this many times the yardstick's time.
    TimeAtMost(f64),
    /// It is only reported.
    Reported,
}

/// One row of a table: what is compared, and how much work one iteration is.
#[derive(Debug, Clone)]
pub struct Row {
    /// What is done, as the first words of the line.
    pub name: String,
    /// Work of one iteration.
    pub work: Throughput,
    /// What the ratio is held to.
    pub target: Target,
}

/// The rows of one target, printed when it ends.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<String>,
}

struct Round {
    iterations: u64,
    ours: Took,
    yardstick: Took,
}

impl Table {
    /// Times `ours` and `yardstick` by turns: each is told how many iterations to do and answers what they took. Both
    /// also appear in criterion's own report, as `engine` and `yardstick`.
    pub fn compare(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        row: Row,
        mut ours: impl FnMut(u64) -> Took,
        mut yardstick: impl FnMut(u64) -> Took,
    ) {
        let rounds = RefCell::new(Vec::new());
        group.throughput(row.work.clone());
        group.bench_function(BenchmarkId::new("engine", &row.name), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut rounds = rounds.borrow_mut();
                // Who goes first changes, so that neither always finds what the other left behind.
                let (mine, theirs) = if rounds.len() % 2 == 0 {
                    let theirs = yardstick(iterations);
                    (ours(iterations), theirs)
                } else {
                    (ours(iterations), yardstick(iterations))
                };
                rounds.push(Round { iterations, ours: mine, yardstick: theirs });
                mine.wall
            });
        });
        group.bench_function(BenchmarkId::new("yardstick", &row.name), |bencher| {
            bencher.iter_custom(|iterations| yardstick(iterations).wall);
        });
        let mut rounds = rounds.into_inner();
        // Warming up asks for ever longer rounds; only those of the final length count.
        let full = rounds.last().map_or(0, |round| round.iterations);
        rounds.retain(|round| round.iterations == full);
        if !rounds.is_empty() {
            self.lines.push(line(&row, &rounds));
        }
    }

    /// Adds a line of the caller's own.
    pub fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Prints all lines.
    pub fn print(&self) {
        println!();
        self.lines.iter().for_each(|line| println!("{line}"));
    }
}

fn line(row: &Row, rounds: &[Round]) -> String {
    let iterations = rounds[0].iterations as f64;
    let seconds = |took: &Took| took.wall.as_secs_f64() / iterations;
    let ours = middle(rounds.iter().map(|round| seconds(&round.ours)).collect());
    let yardstick = middle(rounds.iter().map(|round| seconds(&round.yardstick)).collect());
    let mut ratios: Vec<_> = rounds.iter().map(|round| seconds(&round.yardstick) / seconds(&round.ours)).collect();
    let (word, reached) = match row.target {
        Target::TimeAtMost(limit) => {
            ratios.iter_mut().for_each(|ratio| *ratio = ratio.recip());
            (format!("time at most {limit:.2} x"), Some(middle(ratios.clone()) <= limit))
        }
        Target::SpeedAtLeast(limit) => (format!("speed at least {limit:.2} x"), Some(middle(ratios.clone()) >= limit)),
        Target::Reported => ("speed, reported".to_owned(), None),
    };
    ratios.sort_unstable_by(f64::total_cmp);
    let mut line = format!(
        "{:<44} ours {} | yardstick {} | ratio {:.3} ({:.3} to {:.3}, {} rounds) | {word}",
        row.name,
        rate(&row.work, ours),
        rate(&row.work, yardstick),
        middle(ratios.clone()),
        ratios[0],
        ratios[ratios.len() - 1],
        rounds.len(),
    );
    if let Some(reached) = reached {
        line.push_str(if reached { ": reached" } else { ": MISSED" });
    }
    let all = |side: fn(&Round) -> Took| rounds.iter().map(side).fold(Took::default(), Took::and);
    let (ours, yardstick) = (all(|round| round.ours), all(|round| round.yardstick));
    let (mine, theirs) = (ours.cores(), yardstick.cores());
    let _ = write!(line, " | limit: {} (cores busy: ours {mine:.2}, yardstick {theirs:.2}", yardstick.limit());
    // What other programs take from the cores does not show in this one.
    let _ = write!(line, "; processor time {:.2} x)", ours.processor.as_secs_f64() / yardstick.processor.as_secs_f64());
    line
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

fn rate(work: &Throughput, seconds: f64) -> String {
    match work {
        Throughput::Bytes(bytes) => format!("{:.0} MB/s", *bytes as f64 / seconds / 1e6),
        Throughput::Elements(1) if seconds >= 1e-3 => format!("{:.3} ms", seconds * 1e3),
        Throughput::Elements(1) => format!("{:.2} us", seconds * 1e6),
        Throughput::Elements(elements) => format!("{:.0} /s", *elements as f64 / seconds),
        other => format!("{other:?} in {seconds} s"),
    }
}
