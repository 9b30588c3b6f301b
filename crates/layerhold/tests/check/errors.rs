//! Rows that cannot be read: a scan that fails is never taken for the end of its rows, whoever scans.

use std::sync::Arc;

use layerhold::check::{CheckOptions, Finding, Level, Outcome, RepairOptions, Severity};
use layerhold::error::Failure;
use layerhold::format::keys;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::{Components, Engine, StorageError, Stores};
use layerhold_testkit::engine::{ManualClock, SeededEntropy, options};
use layerhold_testkit::fs::SimFileSystem;

use crate::scene::{Scene, call};
use crate::shaky::Shaky;

/// What a scene left, opened over a store whose scans can fail.
fn shaky(scene: &Scene) -> (Engine, Arc<Shaky>) {
    let fs: Arc<dyn FileSystem> = Arc::new(scene.fs().kill());
    let table = scene.test.table().unwrap().crashed();
    let journaled = JournaledOptions::default()
        .with_segment_bytes(options().journal_segment_bytes)
        .with_guard_checks(true)
        .with_unguarded(|key| !keys::is_guard(key));
    let metadata = Journaled::open(Arc::clone(&fs), table, *b"layerhold tests!", journaled).unwrap();
    let metadata = Arc::new(Shaky::new(metadata));
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
            metadata.recover();
            match answer {
                Err(failure) => assert!(is_told(&failure), "after {rows} rows: {failure}"),
                Ok(names) => {
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
        metadata.recover();
        let done = answer.is_ok();
        if let Err(failure) = answer {
            assert!(is_told(&failure), "after {rows} rows: {failure}");
            repair().unwrap();
        }
        assert_eq!(found(&engine).unwrap(), [] as [&str; 0], "after {rows} rows");
        if done {
            break;
        }
        rows += 7;
    }
    assert!(rows > 600, "{rows} rows");
}
