//! Maintenance step by step: what waits in its queues, what does not go in one step, and how logs are trimmed.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::sync::Arc;

use layerhold::blob::fingerprint::GroupLen;
use layerhold::check::{CheckOptions, Finding, Level, Outcome};
use layerhold::format::keys::{self, RegistryId};
use layerhold::format::values::{BlobRow, LowWaterRow, Placement, Row};
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::store::table::Table;
use layerhold::store::{Batch, Location};
use layerhold::{
    Algorithm, Call, CompleteUpload, Components, Digest, Engine, Expected, Options, PartRange, RegistryName,
    Repository, RepositoryName, RepositorySettings, Stores, UploadId,
};
use layerhold_testkit::engine::{self, TestEngine};
use layerhold_testkit::fs::SimFileSystem;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn call() -> Call {
    Call::anonymous()
}

fn repository(test: &TestEngine) -> Repository {
    let name = RepositoryName::parse("app").unwrap();
    test.registry().create_repository(&name, &RepositorySettings::default(), &call()).unwrap();
    test.registry().repository(&name)
}

fn row(table: &MemTable, key: &[u8]) -> Option<Vec<u8>> {
    table.get_many(&[key]).unwrap().pop().unwrap()
}

/// Writes a row behind the engine's back.
fn set_row(test: &TestEngine, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    test.table().unwrap().apply(&[&batch], None).unwrap();
}

fn location(table: &MemTable, digest: &Digest) -> Location {
    let row = BlobRow::decode(&row(table, &keys::blob(RegistryId(1), digest)).unwrap()).unwrap();
    match row.placement {
        Placement::Inline(location) | Placement::File(location) => location,
    }
}

/// What a check of all bytes finds, by name.
fn found(engine: &Engine) -> Vec<&'static str> {
    let mut findings: Vec<(Finding, Outcome)> = Vec::new();
    engine.check(&CheckOptions::default().with_level(Level::Bytes), &mut findings).unwrap();
    findings.iter().map(|(finding, _)| finding.fault.name()).collect()
}

#[test]
fn sessions_that_cannot_be_ended_keep_none_behind_them_waiting() {
    let test = engine::memory();
    let app = repository(&test);
    let begin = || app.begin_upload(Algorithm::Sha256, &call()).unwrap();
    let damaged: Vec<UploadId> = (0..100).map(|_| begin()).collect();
    test.clock().advance(1);
    let good = begin();
    let whole = row(&test.table().unwrap(), &keys::upload(&damaged[0].0)).unwrap();
    for id in &damaged {
        set_row(&test, &keys::upload(&id.0), b"\x01");
    }
    test.clock().advance(HOUR_MS + 1);
    assert!(test.engine().maintain().is_err(), "what is wrong is told");
    assert_eq!(test.engine().maintain().unwrap().uploads_expired, 1);
    assert!(row(&test.table().unwrap(), &keys::upload(&good.0)).is_none());
    // One is mended: it is not forgotten, and not asked for in every step.
    set_row(&test, &keys::upload(&damaged[0].0), &whole);
    assert_eq!(test.engine().maintain().unwrap().uploads_expired, 0);
    test.clock().advance(60_000);
    assert!(test.engine().maintain().is_err());
    assert!(row(&test.table().unwrap(), &keys::upload(&damaged[0].0)).is_none());
    // A session of later is found where the walk waits.
    let later = begin();
    test.engine().maintain().unwrap();
    test.clock().advance(HOUR_MS + 1);
    while row(&test.table().unwrap(), &keys::upload(&later.0)).is_some() {
        let _ = test.engine().maintain();
    }
}

#[test]
fn parts_of_an_ended_session_go_at_once_while_they_are_few_and_later_when_they_are_many() {
    for (parts, swept) in [(8, 0), (9, 9), (30, 30)] {
        let test = engine::memory();
        let app = repository(&test);
        let id = app.begin_upload(Algorithm::Sha256, &call()).unwrap();
        for n in 0..parts {
            app.append_part(&id, PartRange { first_byte: n, len: 1 }, vec![1], &call()).unwrap();
        }
        app.cancel_upload(&id, &call()).unwrap();
        let table = test.table().unwrap();
        let left = || (0..parts).filter(|n| row(&table, &keys::upload_part(&id.0, *n)).is_some()).count();
        assert_eq!((left(), row(&table, &keys::upload_sweep(&id.0)).is_some()), (swept, swept > 0), "{parts} parts");
        assert_eq!(test.engine().maintain().unwrap().part_rows_removed, swept);
        assert_eq!((left(), row(&table, &keys::upload_sweep(&id.0)).is_some()), (0, false));
        assert_eq!(found(test.engine()), [] as [&str; 0]);
    }
}

#[test]
fn a_location_of_many_chaining_values_goes_in_several_steps_and_its_tombstone_last() {
    let test = engine::memory();
    let app = repository(&test);
    let put = || app.put_blob(&[7; 40_000], &Expected::Computed, &call()).unwrap().digest;
    let table = test.table().unwrap();
    let old = location(&table, &put());
    for first in 1..=1_500 {
        set_row(&test, &keys::groups(old, first), b"values");
    }
    put();
    let left = || (1..=1_500).filter(|first| row(&table, &keys::groups(old, *first)).is_some()).count();
    let done = test.engine().maintain().unwrap();
    assert_eq!((done.files_removed, done.more, left()), (0, true, 500));
    assert!(row(&table, &keys::removal(old)).is_some());
    let done = test.engine().maintain().unwrap();
    assert_eq!((done.files_removed, done.more, left()), (1, false, 0));
    assert!(row(&table, &keys::removal(old)).is_none());
    assert_eq!(found(test.engine()), [] as [&str; 0]);
}

#[test]
fn operation_ids_go_after_a_day_and_changes_after_a_month() {
    let test = engine::memory();
    let app = repository(&test);
    app.put_blob(b"bytes", &Expected::Computed, &call()).unwrap();
    let low_water = || {
        let row = row(&test.table().unwrap(), &keys::meta::low_water());
        LowWaterRow::decode_optional(row.as_deref()).unwrap().unwrap_or_default()
    };
    let old = usize::try_from(test.engine().sequence()).unwrap();
    let last = test.engine().sequence();
    test.clock().advance(DAY_MS);
    assert_eq!(test.engine().maintain().unwrap().operations_trimmed, 0, "they are kept for a day");
    app.put_blob(b"more bytes", &Expected::Computed, &call()).unwrap();
    test.clock().advance(1);
    let done = test.engine().maintain().unwrap();
    assert_eq!((done.operations_trimmed, done.changes_trimmed), (old, 0));
    assert_eq!((low_water().operations, low_water().changes), (last, 0));
    assert_eq!(test.engine().changes(0, 100).unwrap().len(), old + 1);
    assert_eq!(found(test.engine()), [] as [&str; 0]);

    test.clock().advance(29 * DAY_MS);
    let done = test.engine().maintain().unwrap();
    assert_eq!((done.operations_trimmed, done.changes_trimmed), (1, old));
    assert_eq!((low_water().operations, low_water().changes), (last + 1, last));
    let kept: Vec<_> = test.engine().changes(0, 100).unwrap().iter().map(|change| change.sequence).collect();
    assert_eq!(kept, [last + 1]);
    assert_eq!(found(test.engine()), [] as [&str; 0]);
    app.put_blob(b"yet more", &Expected::Computed, &call()).unwrap();
    assert_eq!(test.engine().sequence(), last + 2, "sequences go on");
}

#[test]
fn parts_of_a_small_blob_leave_no_chaining_values() {
    let fs: Arc<dyn FileSystem> = Arc::new(SimFileSystem::new(1));
    let journal = JournaledOptions::default().with_guard_checks(true).with_unguarded(|key| !keys::is_guard(key));
    let metadata = Arc::new(Journaled::create(Arc::clone(&fs), MemTable::new(), [1; 16], journal).unwrap());
    let stores = Stores { metadata, blobs: Arc::new(LocalBlobStore::create(fs).unwrap()) };
    let options = Options::default().with_group_len(GroupLen::new(1_024).unwrap());
    let engine = Engine::create_with(stores, options, Components::default()).unwrap();
    let registry = RegistryName::parse("test").unwrap();
    engine.create_registry(&registry, &call()).unwrap();
    let (registry, name) = (engine.registry(&registry), RepositoryName::parse("app").unwrap());
    registry.create_repository(&name, &RepositorySettings::default(), &call()).unwrap();
    let app = registry.repository(&name);
    for _ in 0..2 {
        let id = app.begin_upload(Algorithm::Sha256, &call()).unwrap();
        for n in 0..2u64 {
            app.append_part(&id, PartRange { first_byte: n * 4_096, len: 4_096 }, vec![7; 4_096], &call()).unwrap();
        }
        app.complete_upload(&id, &CompleteUpload::expecting(Expected::Computed), &call()).unwrap();
        assert_eq!(found(&engine), [] as [&str; 0]);
        engine.maintain().unwrap();
    }
}
