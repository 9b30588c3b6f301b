//! Syncs of blob files and of their directories: what a failed one costs, and what is not believed without one.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::sync::Arc;

use layerhold::check::{CheckOptions, Finding, Level, Outcome};
use layerhold::clock::Entropy;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::{
    Algorithm, Call, Components, Engine, ErrorKind, Expected, Options, RegistryName, Repository, RepositoryName,
    RepositorySettings, Stores, UploadWriter,
};
use layerhold_testkit::engine::{self, SeededEntropy, TestEngine};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem, damage};

/// Long enough to be staged in a file.
const LEN: usize = 40_000;

fn name() -> RepositoryName {
    RepositoryName::parse("app").unwrap()
}

fn repository(test: &TestEngine) -> Repository {
    let registry = test.registry();
    // It exists already where the store was opened again.
    let _ = registry.create_repository(&name(), &RepositorySettings::default(), &Call::anonymous());
    registry.repository(&name())
}

/// A writer whose bytes are in a file that nothing has made durable.
fn staged(repository: &Repository) -> UploadWriter {
    let id = repository.begin_upload(Algorithm::Sha256, &Call::anonymous()).unwrap();
    let mut writer = repository.upload_writer(&id, None, &Call::anonymous()).unwrap();
    writer.write(&[7; LEN]).unwrap();
    writer
}

fn put(repository: &Repository, byte: u8) -> Result<(), ErrorKind> {
    let put = repository.put_blob(&[byte; LEN], &Expected::Computed, &Call::anonymous());
    put.map(drop).map_err(|error| error.kind())
}

/// Lets the next sync of a blob's file (1) or of its directory (2) fail.
fn lose_one(test: &TestEngine, sync: u64) {
    let mut writer = staged(&repository(test));
    let id = writer.id();
    test.fs().unwrap().fail_sync(sync);
    writer.commit().unwrap_err();
    drop(writer);
    let status = repository(test).upload_status(&id, &Call::anonymous());
    assert_eq!(status.unwrap_err().kind(), ErrorKind::NotFound, "its session is over");
}

#[test]
fn three_failed_syncs_within_a_minute_stop_all_writing_until_the_store_is_opened_again() {
    let mut test = engine::memory();
    let app = repository(&test);
    let kept = app.put_blob(&[1; LEN], &Expected::Computed, &Call::anonymous()).unwrap().digest;
    lose_one(&test, 1);
    lose_one(&test, 2);
    put(&app, 2).unwrap();
    test.clock().advance(61_000);
    lose_one(&test, 1);
    put(&app, 3).unwrap();
    lose_one(&test, 2);
    put(&app, 4).unwrap();
    test.clock().advance(59_000);
    lose_one(&test, 1);
    assert_eq!(put(&app, 5), Err(ErrorKind::ReadOnly));
    assert_eq!(test.engine().maintain().unwrap_err().kind(), ErrorKind::ReadOnly);
    test.clock().advance(600_000);
    assert_eq!(put(&app, 5), Err(ErrorKind::ReadOnly), "time alone mends no medium");
    let mut bytes = vec![0; LEN];
    assert_eq!(app.blob(&kept).unwrap().read_at(0, &mut bytes).unwrap(), LEN, "reads go on");
    test.kill().unwrap();
    put(&repository(&test), 5).unwrap();
}

#[test]
fn a_failed_sync_of_a_new_directory_costs_its_session_and_counts() {
    let test = engine::memory();
    let app = repository(&test);
    for _ in 0..3 {
        let id = app.begin_upload(Algorithm::Sha256, &Call::anonymous()).unwrap();
        let mut writer = app.upload_writer(&id, None, &Call::anonymous()).unwrap();
        // The file is made with the first bytes that do not fit in a row, and its directory before it.
        test.fs().unwrap().fail_sync(1);
        writer.write(&[7; LEN]).unwrap_err();
        drop(writer);
        assert_eq!(app.upload_status(&id, &Call::anonymous()).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(put(&app, 1), Err(ErrorKind::ReadOnly));
}

/// Draws locations that all lie in one directory.
#[derive(Debug)]
struct OneShard(SeededEntropy);

impl Entropy for OneShard {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
        bytes.first_mut().into_iter().for_each(|first| *first = 0x42);
    }
}

#[test]
fn one_failed_sync_counts_once_however_many_sessions_it_costs() {
    let sim = SimFileSystem::new(1);
    let fs: Arc<dyn FileSystem> = Arc::new(sim.clone());
    let options = JournaledOptions::default().with_guard_checks(false);
    let metadata = Arc::new(Journaled::create(Arc::clone(&fs), MemTable::new(), [1; 16], options).unwrap());
    let stores = Stores { metadata, blobs: Arc::new(LocalBlobStore::create(fs).unwrap()) };
    let entropy = Arc::new(OneShard(SeededEntropy::new(1)));
    let components = Components { entropy, spawner: None, ..Components::default() };
    let engine = Engine::create_with(stores, Options::default(), components).unwrap();
    let registry = RegistryName::parse("test").unwrap();
    engine.create_registry(&registry, &Call::anonymous()).unwrap();
    let registry = engine.registry(&registry);
    registry.create_repository(&name(), &RepositorySettings::default(), &Call::anonymous()).unwrap();
    let app = registry.repository(&name());
    let writers: Vec<_> = (0..4).map(|_| staged(&app)).collect();
    let ids: Vec<_> = writers.iter().map(UploadWriter::id).collect();
    // The first sync is the file's own, the second that of the directory.
    sim.fail_sync(2);
    for mut writer in writers {
        writer.commit().unwrap_err();
    }
    for id in ids {
        assert_eq!(app.upload_status(&id, &Call::anonymous()).unwrap_err().kind(), ErrorKind::NotFound);
    }
    put(&app, 1).unwrap();
}

/// What a check of files finds, by name.
fn found(engine: &Engine) -> Vec<&'static str> {
    let mut findings: Vec<(Finding, Outcome)> = Vec::new();
    engine.check(&CheckOptions::default().with_level(Level::Files), &mut findings).unwrap();
    findings.iter().map(|(finding, _)| finding.fault.name()).collect()
}

fn blob_files(test: &TestEngine) -> usize {
    let files = damage::files(test.fs().unwrap()).unwrap();
    files.iter().filter(|path| path.starts_with("blobs")).count()
}

#[test]
fn a_removed_file_that_a_power_cut_brings_back_is_found_by_the_row_that_speaks_of_it() {
    let test = engine::memory();
    let app = repository(&test);
    put(&app, 1).unwrap();
    put(&app, 1).unwrap();
    assert_eq!(blob_files(&test), 1, "it is gone at once");
    let mut back = 0;
    for maintained in [false, true] {
        if maintained {
            assert_eq!(test.engine().maintain().unwrap().files_removed, 1);
        }
        // The table may have written its own part of it all the same.
        for policy in [CrashPolicy::DropUnsynced, CrashPolicy::KeepAll] {
            for kept in 0..=test.table().unwrap().unflushed() {
                let left = test.after_power_cut(policy, kept).unwrap();
                back += usize::from(blob_files(&left) == 2);
                assert!(!found(left.engine()).contains(&"orphan-file"), "{policy:?} kept={kept}");
                left.engine().maintain().unwrap();
                assert_eq!(blob_files(&left), 1, "{policy:?} kept={kept}");
                assert_eq!(found(left.engine()), [] as [&str; 0], "{policy:?} kept={kept}");
            }
        }
    }
    assert!(back > 0, "no power cut brought the file back");
}

#[test]
fn a_removal_whose_sync_failed_waits_for_the_next_opening() {
    let mut test = engine::memory();
    let app = repository(&test);
    put(&app, 1).unwrap();
    put(&app, 1).unwrap();
    test.fs().unwrap().fail_sync(1);
    test.engine().maintain().unwrap_err();
    for _ in 0..4 {
        // Said again, tried never again, and counted once.
        test.engine().maintain().unwrap_err();
    }
    assert_eq!(found(test.engine()), ["removal-pending"]);
    put(&app, 2).unwrap();
    test.kill().unwrap();
    assert_eq!(test.engine().maintain().unwrap().files_removed, 1);
    assert_eq!(found(test.engine()), [] as [&str; 0]);
}
