//! A medium that fills up: what needs room is refused before there is none, what makes room goes on, reads go on.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::path::Path;
use std::sync::Arc;

use layerhold::directory::Place;
use layerhold::manifest::ImageId;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::mem::MemTable;
use layerhold::store::{Batch, CommitError, Durability, Member, MetadataStore, StorageError};
use layerhold::{
    Algorithm, Call, CompleteUpload, Components, DeleteMode, Engine, ErrorKind, Expected, OperationId, Options,
    PutManifest, RegistryName, Repository, RepositoryName, RepositorySettings, Tag,
};
use layerhold_testkit::engine::ManualClock;
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{FailingFileSystem, Failure, Fault, Repeat, SimFileSystem, damage};
use layerhold_testkit::witness::{Witness, small_options};

const FREE: u64 = 256 << 10;
const BALLAST: u64 = 128 << 10;
const SEGMENT: u64 = 64 << 10;

fn options() -> Options {
    small_options().with_free_bytes_min(FREE).with_ballast_bytes(BALLAST)
}

fn place(fs: &SimFileSystem) -> Place {
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)))
}

fn components() -> Components {
    Components { spawner: None, ..Components::default() }
}

fn repository(engine: &Engine) -> Repository {
    let registry = engine.registry(&RegistryName::parse("witness").unwrap());
    registry.repository(&RepositoryName::parse("app").unwrap())
}

/// Leaves `bytes` free.
fn leave(fs: &SimFileSystem, bytes: u64) {
    fs.set_capacity(u64::MAX);
    let used = u64::MAX - fs.space().unwrap().available;
    fs.set_capacity(used + bytes);
}

fn has_ballast(fs: &SimFileSystem) -> bool {
    fs.file_len(Path::new("ballast")).is_ok()
}

#[test]
fn a_medium_that_fills_up_takes_deletions_and_reads_to_the_last_byte() {
    let fs = SimFileSystem::new(1);
    let engine = Engine::create_in(&place(&fs), options(), components()).unwrap();
    assert!(has_ballast(&fs));
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    let repository = repository(&engine);
    let call = Call::anonymous();
    let id = repository.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = repository.upload_writer(&id, None, &call).unwrap();
    writer.write(&[7; 10_000]).unwrap();
    writer.commit().unwrap();
    writer.write(&[8; 5_000]).unwrap();

    leave(&fs, FREE - 1);
    let no_space = |error: ErrorKind| assert_eq!(error, ErrorKind::NoSpace);
    no_space(writer.write(&[9; 10]).unwrap_err().kind());
    no_space(writer.commit().unwrap_err().kind());
    no_space(repository.begin_upload(Algorithm::Sha256, &call).unwrap_err().kind());
    no_space(repository.put_blob(b"bytes", &Expected::Computed, &call).unwrap_err().kind());
    no_space(engine.create_registry(&RegistryName::parse("other").unwrap(), &call).unwrap_err().kind());
    assert!(has_ballast(&fs), "there is room for deletions");
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0);

    // Somebody else takes the last byte.
    leave(&fs, 0);
    repository.delete_image(&ImageId::from(layerhold::Reference::Tag(Tag::parse("v1").unwrap())), &call).unwrap();
    assert!(!has_ballast(&fs), "it was given up");
    engine.maintain().unwrap();
    assert!(witness.check(&engine, engine.sequence()).unwrap_err().contains("Absent"), "the tag is gone");

    // There is room again: nothing has to be reopened, and the session goes on at its durable byte.
    fs.set_capacity(u64::MAX);
    engine.maintain().unwrap();
    assert!(has_ballast(&fs));
    assert!(writer.commit().unwrap() >= 10_000);
    drop(writer);
    let writer = repository.upload_writer(&id, None, &call).unwrap();
    writer.complete(&CompleteUpload::expecting(Expected::Computed)).unwrap();
    engine
        .registry(&RegistryName::parse("witness").unwrap())
        .delete_repository(&RepositoryName::parse("app").unwrap(), DeleteMode::Force, &call)
        .unwrap();
}

#[test]
fn a_full_medium_is_told_at_open_and_the_ballast_opens_it() {
    let fs = SimFileSystem::new(1);
    let engine = Engine::create_in(&place(&fs), options(), components()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    drop(engine);
    leave(&fs, 0);
    // Its own ballast is enough.
    let engine = Engine::open_in(&place(&fs), options(), components()).unwrap();
    assert!(!has_ballast(&fs));
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0);
    drop(engine);
    leave(&fs, FREE / 4 - 1);
    let before = fs.fingerprint();
    let error = Engine::open_in(&place(&fs), options(), components()).unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
    assert_eq!(fs.fingerprint(), before, "nothing was changed");
    let shown = Engine::open_read_only_in(&place(&fs), options(), components()).unwrap();
    assert_eq!(witness.check(&shown, witness.sequence).unwrap().damaged, 0);
    drop(shown);
    leave(&fs, FREE / 4);
    drop(Engine::open_in(&place(&fs), options(), components()).unwrap());
    // A new one is not begun either.
    let fs = SimFileSystem::new(2);
    fs.set_capacity(FREE / 4 - 1);
    let error = Engine::create_in(&place(&fs), options(), components()).unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
    assert!(fs.list(Path::new("")).unwrap().is_empty());
}

/// How many files of blobs there are, staged ones included.
fn blob_files(fs: &SimFileSystem) -> usize {
    damage::files(fs).unwrap().iter().filter(|path| path.starts_with("blobs")).count()
}

#[test]
fn maintenance_gives_room_back_where_there_is_none_for_its_own_files() {
    let fs = SimFileSystem::new(1);
    let clock = ManualClock::default();
    let options = small_options().with_free_bytes_min(0).with_ballast_bytes(0).with_journal_segment_bytes(SEGMENT);
    let idle_ms = options.upload_idle_ms;
    let components = Components { clock: Arc::new(clock.clone()), ..components() };
    let engine = Engine::create_in(&place(&fs), options, components).unwrap();
    Witness::begin(&engine).unwrap();
    let (repository, call) = (repository(&engine), Call::anonymous());
    let layer = vec![7; 10_000];
    let digest = repository.put_blob(&layer, &Expected::Computed, &call).unwrap().digest;
    let reader = repository.blob(&digest).unwrap();
    repository.put_blob(&layer, &Expected::Computed, &call).unwrap();
    let id = repository.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = repository.upload_writer(&id, None, &call).unwrap();
    writer.write(&[8; 5_000]).unwrap();
    writer.finish().unwrap();
    // More than half of the journal's segment is used, so that the next one is due.
    for n in 0..12 {
        repository.put_blob(&[n; 3_500], &Expected::Computed, &call).unwrap();
    }
    drop(reader);
    assert_eq!(blob_files(&fs), 3, "a blob, the one it replaced, and a session");
    clock.advance(idle_ms + 1);
    leave(&fs, 0);
    assert_eq!(engine.maintain().unwrap_err().kind(), ErrorKind::NoSpace, "no room for the next segment");
    assert_eq!(blob_files(&fs), 1);
    assert!(fs.space().unwrap().available >= 15_000);
}

#[test]
fn a_medium_that_runs_out_of_files_takes_deletions_and_reads_to_the_last_one() {
    const FILES: u64 = 256;
    let fs = SimFileSystem::new(1);
    let engine = Engine::create_in(&place(&fs), options(), components()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    let repository = repository(&engine);
    let call = Call::anonymous();
    let large = vec![7; 50_000];

    fs.leave_files(FILES + 5);
    repository.put_blob(&large, &Expected::Computed, &call).unwrap();
    fs.leave_files(FILES - 1);
    let no_space = |error: ErrorKind| assert_eq!(error, ErrorKind::NoSpace);
    no_space(repository.begin_upload(Algorithm::Sha256, &call).unwrap_err().kind());
    no_space(repository.put_blob(&large, &Expected::Computed, &call).unwrap_err().kind());
    no_space(repository.put_blob(b"small", &Expected::Computed, &call).unwrap_err().kind());
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0);
    fs.leave_files(0);
    repository.delete_image(&ImageId::from(layerhold::Reference::Tag(Tag::parse("v1").unwrap())), &call).unwrap();
    // The journal's next segment is a file, and so is what a table makes.
    fs.leave_files(FILES / 4);
    engine.maintain().unwrap();
    engine.close().unwrap();
    drop((repository, engine));

    fs.leave_files(FILES / 4 - 1);
    let before = fs.fingerprint();
    let error = Engine::open_in(&place(&fs), options(), components()).unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
    assert_eq!(fs.fingerprint(), before, "nothing was changed");
    drop(Engine::open_read_only_in(&place(&fs), options(), components()).unwrap());
    drop(Engine::open_in(&place(&fs), options().with_free_bytes_min(0), components()).unwrap());
    fs.leave_files(u64::MAX);
    let engine = Engine::open_in(&place(&fs), options(), components()).unwrap();
    engine
        .registry(&RegistryName::parse("witness").unwrap())
        .repository(&RepositoryName::parse("app").unwrap())
        .put_blob(&large, &Expected::Computed, &call)
        .unwrap();
}

#[test]
fn a_store_that_a_full_medium_stopped_gives_its_ballast_up_to_be_opened_again() {
    let sim = SimFileSystem::new(1);
    let failing = FailingFileSystem::over(&sim);
    let shared: Arc<dyn FileSystem> = Arc::new(failing.clone());
    let place = Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)));
    let engine = Engine::create_in(&place, options(), components()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    let call = Call::anonymous();
    let put = || repository(&engine).put_blob(b"bytes", &Expected::Computed, &call).unwrap_err().kind();
    let sync = Some(layerhold_testkit::fs::Call::SyncData);
    failing.arm(Fault { call: sync, nth: 1, failure: Failure::Enospc, repeat: Repeat::Once });
    assert_eq!(put(), ErrorKind::Indeterminate, "the journal found no room");
    assert!(has_ballast(&sim));
    leave(&sim, 0);
    assert_eq!(put(), ErrorKind::ReadOnly, "nothing is written before it is opened again");
    assert!(!has_ballast(&sim), "it was given up");
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0, "reads go on");
    drop(engine);
    let engine = Engine::open_in(&place, options(), components()).unwrap();
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0);
}

#[test]
fn a_call_that_was_carried_out_is_told_so_where_nothing_new_is_taken() {
    let fs = SimFileSystem::new(1);
    let engine = Engine::create_in(&place(&fs), options(), components()).unwrap();
    Witness::begin(&engine).unwrap();
    let under = |id: u8| Call::anonymous().with_operation_id(OperationId([id; 16]));
    let app = repository(&engine);
    app.put_sparse_images(true, &under(9)).unwrap();
    let document = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let image = PutManifest::new(document).with_tag(Tag::parse("v1").unwrap());
    let put = app.put_manifest(&image, &under(1)).unwrap();
    let name = RepositoryName::parse("second").unwrap();
    let second = |engine: &Engine, id: u8| {
        let registry = engine.registry(&RegistryName::parse("witness").unwrap());
        registry.create_repository(&name, &RepositorySettings::default(), &under(id)).map_err(|error| error.kind())
    };
    let made = second(&engine, 2).unwrap();
    drop(app);
    drop(engine);

    let engine = Engine::open_in(&place(&fs), options(), components()).unwrap();
    leave(&fs, FREE - 1);
    let app = repository(&engine);
    assert_eq!(app.put_manifest(&image, &under(1)).unwrap(), put);
    assert_eq!(second(&engine, 2).unwrap(), made);
    assert_eq!(second(&engine, 3).unwrap_err(), ErrorKind::NoSpace);
    let reused = app.put_manifest(&image, &under(2)).unwrap_err();
    assert!(reused.to_string().contains("used with other arguments"), "{reused}");
    let untagged = app.untag(&Tag::parse("v1").unwrap(), &under(4)).unwrap();
    engine.close().unwrap();
    assert_eq!(app.untag(&Tag::parse("v1").unwrap(), &under(4)).unwrap(), untagged);
    assert_eq!(app.untag(&Tag::parse("v1").unwrap(), &under(5)).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_failed_sync_of_the_journals_directory_ends_all_writing() {
    // Segments of one group each; with four full ones the commit takes some back by itself, with five maintenance does.
    for (full_segments_max, groups) in [(1, 3), (4, 6)] {
        let fs = FailingFileSystem::over(&SimFileSystem::new(1));
        let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
        let options = JournaledOptions::default()
            .with_guard_checks(false)
            .with_segment_bytes(8 << 10)
            .with_full_segments_max(full_segments_max);
        let store = Journaled::create(shared, MemTable::new(), [1; 16], options).unwrap();
        let commit = |sequence: u64| {
            let mut batch = Batch::new();
            batch.put(b"key", &[7; 3000]);
            let member = Member::new(store.lock_and_get(&[]).unwrap(), batch);
            store.commit(&[member], sequence, Durability::Synced, &mut |_| ())
        };
        (1..=groups).for_each(|sequence| commit(sequence).unwrap());
        let arm = |nth| {
            let call = Some(layerhold_testkit::fs::Call::SyncDir);
            fs.arm(Fault { call, nth, failure: Failure::Eio, repeat: Repeat::Once });
        };
        if full_segments_max == 1 {
            // The first one belongs to the new segment.
            arm(2);
            commit(groups + 1).unwrap();
        } else {
            arm(1);
            store.maintain().unwrap_err();
        }
        assert_eq!(fs.fired(), 1);
        let refused = commit(groups + 2).unwrap_err();
        assert!(matches!(refused, CommitError::Failed(StorageError::Poisoned { .. })), "{refused:?}");
    }
}
