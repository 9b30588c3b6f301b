//! What happens to processes on RocksDB and real files: kills, damage, failing calls, media in every state.

use crate::real::{Place, child, damage, failing, generations, kill_points, mounts};
use crate::technique::{Outcome, Record, Technique, Unit};

/// Generations of a store, and of the first one, which a short look takes.
const GENERATIONS: u64 = 500;
const GENERATIONS_BRIEF: u64 = 50;

/// Mutations of one store.
const MUTATIONS: u64 = 100;

pub(super) struct KillPoints;

impl Technique for KillPoints {
    fn name(&self) -> &'static str {
        "kill-points"
    }

    fn about(&self) -> &'static str {
        "a process killed at each of its mutating system calls, RocksDB's included: nothing acknowledged is lost or half"
    }

    fn units(&self, _: u64) -> Option<u64> {
        Some(kill_points::workloads())
    }

    fn units_brief(&self) -> u64 {
        1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let place = Place::of(unit).map_err(|e| e.to_string());
        place.and_then(|place| kill_points::sweep(&place, unit.number, false)).unwrap_or_else(wrong)
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let swept = record.counts.get("workloads swept to the end").copied().unwrap_or(0);
        let missing = kill_points::workloads().saturating_sub(swept);
        let unswept = (missing > 0).then(|| format!("{missing} workloads were not swept to their end"));
        unswept.into_iter().chain(never(record, "seen", "killed")).collect()
    }

    fn child(&self, arguments: &[String]) -> i32 {
        child::run(self.name(), arguments)
    }
}

pub(super) struct KillGenerations;

impl Technique for KillGenerations {
    fn name(&self) -> &'static str {
        "kill-generations"
    }

    fn about(&self) -> &'static str {
        "a process killed at random, 500 times on one store: what was acknowledged is there, and every blob reads back"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let generations = if unit.number == 0 { GENERATIONS_BRIEF } else { GENERATIONS };
        let place = Place::of(unit).map_err(|e| e.to_string());
        place.and_then(|place| generations::live(&place, unit.mixed(), generations, false)).unwrap_or_else(wrong)
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let never = |name: &&str| record.counts.get(*name).copied().unwrap_or(0) == 0;
        let met = ["kills", "kills while the store was opened", "orderly closes", "tags read back"];
        met.iter().filter(|name| never(name)).map(|name| format!("this was never met: {name}")).collect()
    }

    fn child(&self, arguments: &[String]) -> i32 {
        child::run(self.name(), arguments)
    }
}

pub(super) struct DamageRocks;

impl Technique for DamageRocks {
    fn name(&self) -> &'static str {
        "damage-rocks"
    }

    fn about(&self) -> &'static str {
        "one file of a store on RocksDB damaged, of every class in every way: every answer is right or says damage"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let place = Place::of(unit).map_err(|e| e.to_string());
        place.and_then(|place| damage::spoil(&place, unit.mixed(), MUTATIONS, false)).unwrap_or_else(wrong)
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn child(&self, arguments: &[String]) -> i32 {
        child::run(self.name(), arguments)
    }
}

pub(super) struct FailingSyscalls;

impl Technique for FailingSyscalls {
    fn name(&self) -> &'static str {
        "failing-syscalls"
    }

    fn about(&self) -> &'static str {
        "every kind of call on every kind of file of 12 workloads on RocksDB fails: EIO, ENOSPC, EROFS, EINTR, EMFILE; once and sticky"
    }

    fn units(&self, _: u64) -> Option<u64> {
        Some(kill_points::workloads() * failing::SLICES)
    }

    fn units_brief(&self) -> u64 {
        1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        // Neighbouring units are of different workloads.
        let (slice, number) = (unit.number / kill_points::workloads(), unit.number % kill_points::workloads());
        let place = Place::of(unit).map_err(|e| e.to_string());
        place.and_then(|place| failing::fail(&place, number, slice, unit.mixed())).unwrap_or_else(wrong)
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        never(record, "made", "failed").collect()
    }

    fn child(&self, arguments: &[String]) -> i32 {
        child::run(self.name(), arguments)
    }
}

pub(super) struct Mounts;

impl Technique for Mounts {
    fn name(&self) -> &'static str {
        "mounts"
    }

    fn about(&self) -> &'static str {
        "media that are full, without inodes, read-only or of the wrong kind, held stores, no memory: errors that say so, nothing lost"
    }

    fn units(&self, _: u64) -> Option<u64> {
        Some(mounts::cases())
    }

    fn units_brief(&self) -> u64 {
        // All but the last: a whole run must have tried every case, and a short look need not find root and loop devices.
        mounts::cases() - 1
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let place = Place::of(unit).map_err(|e| e.to_string());
        place.and_then(|place| mounts::try_case(&place, unit.number)).unwrap_or_else(wrong)
    }

    fn repeatable(&self) -> bool {
        false
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let tried = |name: &&str| record.counts.contains_key(&mounts::counted(name));
        mounts::names().filter(|name| !tried(name)).map(|name| format!("this case was not tried: {name}")).collect()
    }

    fn child(&self, arguments: &[String]) -> i32 {
        child::run(self.name(), arguments)
    }
}

/// What the counts know under one word and not under the other.
fn never<'a>(record: &'a Record, met: &'a str, done: &'a str) -> impl Iterator<Item = String> + 'a {
    let sites = record.counts.keys().filter_map(move |name| name.strip_prefix(met)?.strip_prefix(": "));
    let missed = sites.filter(move |site| !record.counts.contains_key(&format!("{done}: {site}")));
    missed.map(move |site| format!("{met} and never {done}: {site}"))
}

/// A unit that could not be run has shown nothing.
fn wrong(what: String) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.violation(what);
    outcome
}
