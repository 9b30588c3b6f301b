//! Rows that cannot be read: a scan that fails is never taken for the end of its rows, whoever scans.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use layerhold::check::{CheckOptions, Finding, Level, Outcome, RepairOptions, Severity};
use layerhold::error::Failure;
use layerhold::format::keys;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::store::{
    CommitError, Direction, Durability, KeyRange, LockMode, LockSet, Member, MetadataStore, Milestone, View, Visit,
};
use layerhold::{Components, Engine, StorageError, Stores};
use layerhold_testkit::engine::{ManualClock, SeededEntropy, options};
use layerhold_testkit::fs::{SimFileSystem, damage};

use crate::scene::{Scene, call};

/// A store of which one scan fails, and every other does its work: an error that is lost is not found by the next one.
struct OneBadScan {
    inner: Journaled<MemTable>,
    /// Rows that scans still give before one fails; negative for never.
    rows_left: AtomicI64,
}

struct OneBadView<'a> {
    inner: Box<dyn View + 'a>,
    rows_left: &'a AtomicI64,
}

impl OneBadScan {
    fn fail_after(&self, rows: i64) {
        self.rows_left.store(rows, Ordering::SeqCst);
    }

    /// Lets no scan fail; whether one did since it was told to.
    fn recover(&self) -> bool {
        self.rows_left.swap(-1, Ordering::SeqCst) < 0
    }
}

impl View for OneBadView<'_> {
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.inner.get_many(keys)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        let mut failed = false;
        self.inner.scan(range, direction, &mut |key, value| {
            let left = self.rows_left.load(Ordering::SeqCst);
            if left >= 0 {
                self.rows_left.store(left - 1, Ordering::SeqCst);
            }
            failed = left == 0;
            if failed { ControlFlow::Break(()) } else { visit(key, value) }
        })?;
        if failed {
            return Err(StorageError::Table { operation: "scan", message: "told to".to_owned() });
        }
        Ok(())
    }
}

impl MetadataStore for OneBadScan {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        self.inner.lock_and_get(rows)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        Ok(Box::new(OneBadView { inner: self.inner.view()?, rows_left: &self.rows_left }))
    }

    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        self.inner.commit(group, last_sequence, durability, reached)
    }

    fn recovered_sequence(&self) -> u64 {
        self.inner.recovered_sequence()
    }

    fn maintain(&self) -> Result<(), StorageError> {
        self.inner.maintain()
    }
}

/// What a scene left, opened over a store whose scans can fail.
fn shaky(scene: &Scene) -> (Engine, Arc<OneBadScan>) {
    let fs: Arc<dyn FileSystem> = Arc::new(scene.fs().kill());
    let table = scene.test.table().unwrap().crashed();
    let journaled = JournaledOptions::default()
        .with_segment_bytes(options().journal_segment_bytes)
        .with_guard_checks(true)
        .with_unguarded(|key| !keys::is_guard(key));
    let format = damage::read(&*fs, Path::new("FORMAT")).unwrap();
    let metadata = Journaled::open(Arc::clone(&fs), table, format[12..28].try_into().unwrap(), journaled).unwrap();
    let metadata = Arc::new(OneBadScan { inner: metadata, rows_left: AtomicI64::new(-1) });
    let stores = Stores { metadata: Arc::clone(&metadata) as _, blobs: Arc::new(LocalBlobStore::open(fs).unwrap()) };
    let components = Components {
        clock: Arc::new(ManualClock::default()),
        entropy: Arc::new(SeededEntropy::new(1 << 30)),
        spawner: None,
    };
    (Engine::open_with(stores, options(), components).unwrap(), metadata)
}

fn found(engine: &Engine) -> Result<Vec<&'static str>, Failure> {
    let mut all: Vec<(Finding, Outcome)> = Vec::new();
    engine.check(&CheckOptions::default().with_level(Level::Bytes), &mut all)?;
    all.retain(|(finding, _)| finding.fault.severity() > Severity::Allowed);
    let mut names: Vec<_> = all.iter().map(|(finding, _)| finding.fault.name()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn is_told(failure: &Failure) -> bool {
    matches!(failure, Failure::Storage(StorageError::Table { operation: "scan", .. }))
}

#[test]
fn a_scan_that_fails_ends_a_check_and_is_never_the_end_of_its_rows() {
    for scene in [Scene::new(), crate::crash::damaged(SimFileSystem::new(1))] {
        let (engine, metadata) = shaky(&scene);
        let whole = found(&engine).unwrap();
        let mut rows = 0;
        loop {
            metadata.fail_after(rows);
            let answer = found(&engine);
            let failed = metadata.recover();
            match answer {
                Err(failure) => assert!(failed && is_told(&failure), "after {rows} rows: {failure}"),
                Ok(names) => {
                    assert!(!failed, "a scan failed after {rows} rows, and the check ended well");
                    assert_eq!(names, whole, "after {rows} rows");
                    break;
                }
            }
            rows += 1;
        }
        assert!(rows > 150, "{rows} rows");
    }
}

#[test]
fn a_scan_that_fails_ends_a_repair_which_has_mended_nothing_wrongly_until_then() {
    let scene = crate::crash::damaged(SimFileSystem::new(1));
    let mut rows = 0;
    loop {
        let (engine, metadata) = shaky(&scene);
        let repair = || {
            let mut all: Vec<(Finding, Outcome)> = Vec::new();
            engine.repair(&RepairOptions::default().with_level(Level::Files), &call(), &mut all)
        };
        metadata.fail_after(rows);
        let answer = repair();
        let failed = metadata.recover();
        // Rows and file of what was given up go by themselves, later, should that fail now.
        if let Err(failure) = &answer {
            assert!(is_told(failure), "after {rows} rows: {failure}");
            repair().unwrap();
        }
        engine.maintain().unwrap();
        assert_eq!(found(&engine).unwrap(), [] as [&str; 0], "after {rows} rows");
        if !failed {
            break;
        }
        rows += 7;
    }
    assert!(rows > 600, "{rows} rows");
}
