//! One store through many lives: random work, a cut at a random call, a random state, a recovery that may be cut as well.

use layerhold::store::mem::MemTable;
use layerhold::store::{CommitError, MetadataStore};

use super::{Run, Store, create, open};
use crate::fs::{CrashPolicy, SimFileSystem};

/// How often one store is opened.
pub const LIVES: usize = 12;

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn work(run: &mut Run, store: &Store, numbers: &mut Numbers, generation: u8) -> Result<(), CommitError> {
    for _ in 0..numbers.below(25) {
        match numbers.below(8) {
            0 => store.maintain().map_err(CommitError::Failed)?,
            1 => store.maintain().and_then(|()| store.maintain()).map_err(CommitError::Failed)?,
            2 => run.group(store, 1 + numbers.below(4), numbers.below(3_000) as usize, generation)?,
            _ => run.group(store, 1 + numbers.below(2), numbers.below(400) as usize, generation)?,
        }
    }
    Ok(())
}

fn policy(numbers: &mut Numbers) -> CrashPolicy {
    match numbers.below(6) {
        0 => CrashPolicy::DropUnsynced,
        1 => CrashPolicy::KeepAll,
        2 => CrashPolicy::Prefix(numbers.below(30) as usize),
        _ => CrashPolicy::Random(numbers.below(u64::from(u32::MAX))),
    }
}

/// What the power cut leaves of the files and of the table; or, after a kill, of the files everything.
fn cut(fs: &SimFileSystem, table: &MemTable, numbers: &mut Numbers) -> (SimFileSystem, MemTable) {
    let kept = numbers.below(table.unflushed() as u64 + 1) as usize;
    let fs = if numbers.below(4) == 0 { fs.kill() } else { fs.crash(policy(numbers)) };
    (fs, table.crashed_after(kept))
}

/// Lives the lives that follow from `seed`.
///
/// # Panics
/// Where something acknowledged is gone.
pub fn live(seed: u64) {
    let mut numbers = Numbers(seed);
    let mut fs = SimFileSystem::new(seed);
    let mut table = MemTable::new();
    let mut store = create(&fs, &table).unwrap();
    let mut run = Run::new();
    for life in 0..LIVES {
        let what = format!("seed {seed}, life {life}");
        if numbers.below(5) > 0 {
            fs.crash_at(fs.mutating_calls() + 1 + numbers.below(120));
        }
        let worked = work(&mut run, &store, &mut numbers, life as u8);
        assert!(worked.is_ok() || fs.crashed(), "{what}: {worked:?}");
        drop(store);
        (fs, table) = cut(&fs, &table, &mut numbers);
        while numbers.below(3) == 0 {
            fs.crash_at(fs.mutating_calls() + 1 + numbers.below(8));
            let opened = open(&fs, &table);
            assert!(opened.is_ok() || fs.crashed(), "{what}: {opened:?}");
            drop(opened);
            (fs, table) = cut(&fs, &table, &mut numbers);
        }
        store = open(&fs, &table).unwrap_or_else(|e| panic!("{what}: {e}"));
        run = run.resumed(run.check(&store, &what));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_store_outlives_many_cuts() {
        (1..=400).for_each(super::live);
    }
}
