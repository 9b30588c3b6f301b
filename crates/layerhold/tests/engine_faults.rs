//! What the engine does when the medium fails below it, and what it leaves behind when callers go away.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use layerhold::directory::Place;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::store::table::Table;
use layerhold::store::{Batch, CommitError, Durability, LockMode, LockSet, Member, MetadataStore, Milestone, View};
use layerhold::{
    Algorithm, Call, CompleteUpload, Components, Digest, Engine, ErrorKind, Expected, Failure, OperationId, Options,
    PartRange, PutManifest, Reference, RegistryName, Repository, RepositoryName, RepositorySettings, StorageError,
    Stores, TagMutability,
};
use layerhold_testkit::engine::{self, TestEngine};
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{SimFileSystem, damage};
use layerhold_testkit::witness::{Witness, small_options};
use parking_lot::{Condvar, Mutex};

/// Long enough to be staged in a file.
const LEN: usize = 40_000;

fn repository(test: &TestEngine) -> Repository {
    let name = RepositoryName::parse("app").unwrap();
    let registry = test.registry();
    // It exists already where the store was opened again.
    let _ = registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous());
    registry.repository(&name)
}

fn content() -> Vec<u8> {
    (0..LEN).map(|n| (n % 251) as u8).collect()
}

fn read(repository: &Repository, digest: &Digest) -> Vec<u8> {
    let blob = repository.blob(digest).unwrap();
    let mut bytes = vec![0; usize::try_from(blob.size()).unwrap()];
    blob.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_completion_of_unknown_outcome_is_not_tried_on_its_file_again() {
    let mut test = engine::memory();
    let call = Call::anonymous();
    let before = repository(&test);
    // Live already, so that the completion in doubt gives up bytes that were acknowledged.
    let digest = before.put_blob(&content(), &Expected::Computed, &call).unwrap().digest;
    let id = before.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = before.upload_writer(&id, None, &call).unwrap();
    writer.write(&content()).unwrap();
    // The syncs of the file, of the directory that names it (and of the one above, where that is new), of the journal.
    let syncs = test.fs().unwrap().syncs();
    test.fs().unwrap().fail_sync(3);
    let error = writer.complete(&CompleteUpload::expecting(Expected::Digest(digest))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error} after {} syncs", test.fs().unwrap().syncs() - syncs);
    // What every client does next. The session's row is still to be seen, and its file may be the blob's.
    assert_eq!(before.upload_writer(&id, Some(0), &call).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(before.cancel_upload(&id, &call).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(read(&before, &digest), content(), "reads go on");
    test.kill().unwrap();
    let after = repository(&test);
    assert!(after.upload_status(&id, &call).is_err(), "the group was in the journal after all");
    assert_eq!(read(&after, &digest), content());
}

/// How many files of blobs there are, staged ones included.
fn blob_files(test: &TestEngine) -> usize {
    let files = damage::files(test.fs().unwrap()).unwrap();
    files.iter().filter(|path| path.starts_with("blobs")).count()
}

#[test]
fn bytes_that_no_commit_spoke_of_leave_no_file() {
    let mut test = engine::memory();
    let call = Call::anonymous();
    let app = repository(&test);
    let begin = || app.begin_upload(Algorithm::Sha256, &call).unwrap();
    let wrong = Expected::Digest(Digest::sha256(b"other bytes"));

    let mut writer = app.upload_writer(&begin(), None, &call).unwrap();
    writer.write(&content()).unwrap();
    assert_eq!(blob_files(&test), 1);
    drop(writer);
    assert_eq!(blob_files(&test), 0, "the client went away");

    let mut writer = app.upload_writer(&begin(), None, &call).unwrap();
    writer.write(&content()).unwrap();
    writer.complete(&CompleteUpload::expecting(wrong.clone())).unwrap_err();
    assert_eq!(blob_files(&test), 0, "the digest was wrong");

    app.put_blob(&content(), &wrong, &call).unwrap_err();
    assert_eq!(blob_files(&test), 0, "the digest was wrong in one step");

    // The process ends between the file and the commit that would have spoken of it.
    let id = begin();
    app.append_part(&id, PartRange { first_byte: 0, len: 10 }, vec![1; 10], &call).unwrap();
    let mut writer = app.upload_writer(&id, None, &call).unwrap();
    writer.write(&content()).unwrap();
    std::mem::forget(writer);
    test.kill().unwrap();
    assert_eq!(blob_files(&test), 1);
    repository(&test).cancel_upload(&id, &call).unwrap();
    assert_eq!(blob_files(&test), 0, "the session was cancelled");
}

#[test]
fn a_full_disk_ends_no_session_and_stops_no_writing() {
    let test = engine::memory();
    let call = Call::anonymous();
    let app = repository(&test);
    let id = app.begin_upload(Algorithm::Sha256, &call).unwrap();
    app.append_part(&id, PartRange { first_byte: 0, len: LEN as u64 }, content(), &call).unwrap();
    let complete = CompleteUpload::expecting(Expected::Computed);
    // No room for the footer.
    test.fs().unwrap().set_capacity(0);
    for _ in 0..4 {
        assert_eq!(app.complete_upload(&id, &complete, &call).unwrap_err().kind(), ErrorKind::NoSpace);
    }
    test.fs().unwrap().set_capacity(u64::MAX);
    let completed = app.complete_upload(&id, &complete, &call).unwrap();
    assert_eq!(read(&app, &completed.digest), content());
}

#[test]
fn a_writer_that_is_older_than_the_closing_commits_nothing() {
    let test = engine::memory();
    let call = Call::anonymous();
    let app = repository(&test);
    let id = app.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = app.upload_writer(&id, None, &call).unwrap();
    writer.write(&content()).unwrap();
    test.engine().close().unwrap();
    assert_eq!(writer.commit().unwrap_err().kind(), ErrorKind::Closed);
    let error = writer.complete(&CompleteUpload::expecting(Expected::Computed)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn a_replaced_blob_goes_when_its_last_reader_does_and_keeps_nobody_waiting() {
    let test = engine::memory();
    let call = Call::anonymous();
    let app = repository(&test);
    let digest = app.put_blob(&content(), &Expected::Computed, &call).unwrap().digest;
    let reader = app.blob(&digest).unwrap();
    app.put_blob(&content(), &Expected::Computed, &call).unwrap();
    let done = test.engine().maintain().unwrap();
    assert_eq!((done.files_removed, done.more, blob_files(&test)), (0, false, 2), "{done:?}");
    drop(reader);
    let done = test.engine().maintain().unwrap();
    assert_eq!((done.files_removed, done.more, blob_files(&test)), (1, false, 1), "{done:?}");
    assert_eq!(read(&app, &digest), content());
}

/// A metadata store that panics in one commit or at one of the next views of it, or lets every commit lose, as it is told.
struct Told<T> {
    inner: Journaled<T>,
    panics: AtomicBool,
    conflicts: AtomicBool,
    view_in: AtomicU32,
}

impl<T: Table> MetadataStore for Told<T> {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        self.inner.lock_and_get(rows)
    }

    fn try_lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<Option<LockSet>, StorageError> {
        self.inner.try_lock_and_get(rows)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        let view_in = self.view_in.load(Ordering::SeqCst);
        self.view_in.store(view_in.saturating_sub(1), Ordering::SeqCst);
        assert!(view_in != 1, "told to");
        self.inner.view()
    }

    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to");
        if self.conflicts.load(Ordering::SeqCst) {
            return Err(CommitError::Conflict);
        }
        self.inner.commit(group, last_sequence, durability, reached)
    }

    fn recovered_sequence(&self) -> u64 {
        self.inner.recovered_sequence()
    }

    fn maintain(&self) -> Result<(), StorageError> {
        self.inner.maintain()
    }
}

/// How long calls wait for what others hold.
const LOCK_WAIT_MS: u64 = 200;

/// An engine over a metadata store that can be told to fail.
fn told<T: Table + 'static>(fs: Arc<dyn FileSystem>, table: T) -> (Engine, Arc<Told<T>>) {
    let options = JournaledOptions::default().with_guard_checks(false).with_lock_wait_ms(LOCK_WAIT_MS);
    let inner = Journaled::create(Arc::clone(&fs), table, [1; 16], options).unwrap();
    let (panics, conflicts, view_in) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
    let metadata = Arc::new(Told { inner, panics, conflicts, view_in });
    let stores = Stores { metadata: Arc::clone(&metadata) as _, blobs: Arc::new(LocalBlobStore::create(fs).unwrap()) };
    (Engine::create_with(stores, Options::default(), Components::default()).unwrap(), metadata)
}

#[test]
fn a_panic_in_a_commit_keeps_nobody_waiting() {
    let (engine, metadata) = told(Arc::new(SimFileSystem::new(1)), MemTable::new());
    metadata.panics.store(true, Ordering::SeqCst);
    let create = |name: &str| engine.create_registry(&RegistryName::parse(name).unwrap(), &Call::anonymous());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| create("one"))).is_err());
    assert_eq!(create("two").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert!(engine.registries(None, 1).unwrap().items.is_empty(), "reads go on");
}

#[test]
fn a_transaction_that_loses_every_time_says_so() {
    let (engine, metadata) = told(Arc::new(SimFileSystem::new(1)), MemTable::new());
    let before = engine.sequence();
    metadata.conflicts.store(true, Ordering::SeqCst);
    let create = || engine.create_registry(&RegistryName::parse("one").unwrap(), &Call::anonymous());
    let refused = create().unwrap_err();
    assert!(matches!(refused, Failure::Contended { attempts: 64 }), "{refused:?}");
    assert_eq!((refused.kind(), engine.sequence()), (ErrorKind::Unavailable, before));
    metadata.conflicts.store(false, Ordering::SeqCst);
    assert!(create().unwrap());
    assert_eq!(engine.sequence(), before + 1);
}

/// A table that takes no writes for as long as it is told so.
#[derive(Clone, Default)]
struct Stalling {
    rows: MemTable,
    stalled: Arc<AtomicBool>,
}

impl Table for Stalling {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.rows.view()
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.rows.get_many(keys)
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        assert!(!self.stalled.load(Ordering::SeqCst), "this would wait for ever");
        self.rows.apply(batches, sequence)
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        self.rows.applied_sequence()
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.rows.flush()
    }

    fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }
}

/// A table that takes so many groups.
#[derive(Default)]
struct Permitting {
    rows: MemTable,
    permits: Mutex<u32>,
    changed: Condvar,
}

impl Permitting {
    fn permit(&self, groups: u32) {
        *self.permits.lock() += groups;
        self.changed.notify_all();
    }
}

struct PermitAll<'a>(&'a Permitting);

impl Drop for PermitAll<'_> {
    fn drop(&mut self) {
        self.0.permit(1_000);
    }
}

impl Table for Permitting {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.rows.view()
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.rows.get_many(keys)
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        let mut permits = self.permits.lock();
        self.changed.wait_while(&mut permits, |permits| *permits == 0);
        *permits -= 1;
        self.rows.apply(batches, sequence)
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        self.rows.applied_sequence()
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.rows.flush()
    }
}

/// A repository that takes images without their blobs, in an engine over a table that takes what it is permitted.
fn permitting() -> (Engine, Arc<Told<Permitting>>, Repository, SimFileSystem) {
    let (table, fs, call) = (Permitting::default(), SimFileSystem::new(1), Call::anonymous());
    table.permit(100);
    let (engine, metadata) = told(Arc::new(fs.clone()), table);
    let registry = RegistryName::parse("busy").unwrap();
    engine.create_registry(&registry, &call).unwrap();
    let name = RepositoryName::parse("app").unwrap();
    let settings = RepositorySettings { sparse_images: true, ..RepositorySettings::default() };
    engine.registry(&registry).create_repository(&name, &settings, &call).unwrap();
    let repository = engine.registry(&registry).repository(&name);
    (engine, metadata, repository, fs)
}

fn put_image(repository: &Repository, number: u8) -> Digest {
    let config = Digest::sha256(&[number]);
    let put = PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":1}},"layers":[]}}"#
    ));
    repository.put_manifest(&put, &Call::anonymous()).unwrap().digest
}

/// Runs `work` in as many threads while the table takes nothing: a put of an image is at it, another one behind that, and
/// what the threads commit queues up. When the first is through they become one group, which is durable then and is not
/// applied before `seen`. Whoever leads it waits for the table.
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn behind_the_table(
    table: &Permitting,
    repository: &Repository,
    threads: u8,
    work: impl Fn(u8) + Sync,
    seen: impl Fn() -> bool,
) {
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    *table.permits.lock() = 0;
    let (images, work) = (|| repository.describe().unwrap().usage.images, &work);
    std::thread::scope(|scope| {
        // Should one of what follows not hold, nobody is to wait for the table for ever.
        let _permit_all = PermitAll(table);
        for number in [1, 2] {
            scope.spawn(move || put_image(repository, u8::MAX - number));
            wait("an image that is durable is not seen", &|| images() == u64::from(number));
        }
        (0..threads).for_each(|number| drop(scope.spawn(move || work(number))));
        // Time enough to queue up.
        std::thread::sleep(Duration::from_millis(LOCK_WAIT_MS / 2));
        assert_eq!(images(), 2);
        table.permit(1);
        wait("nobody went on", &seen);
    });
}

/// Goal: whoever is in a durable group goes on before the table has it, and reads what it wrote.
#[test]
fn members_of_a_durable_group_do_not_wait_for_the_table() {
    const CALLS: u8 = 8;
    let (engine, metadata, repository, _) = permitting();
    let table = metadata.inner.table();
    let (before, applied, returned) = (engine.sequence(), table.rows.applied_sequence().unwrap(), AtomicU32::new(0));
    let put = |number| {
        let digest = put_image(&repository, number);
        repository.describe_image(&Reference::Digest(digest).into()).unwrap();
        returned.fetch_add(1, Ordering::SeqCst);
    };
    behind_the_table(table, &repository, CALLS, put, || {
        let (images, returned) = (repository.describe().unwrap().usage.images, returned.load(Ordering::SeqCst));
        // All of the third group but who leads it.
        let seen = images > 3 && u64::from(returned) == images - 3;
        if seen {
            assert_eq!(engine.sequence(), before + images, "the last acknowledged change");
            assert_eq!(table.rows.applied_sequence().unwrap(), applied + 1);
        }
        seen
    });
    assert_eq!(returned.load(Ordering::SeqCst), u32::from(CALLS));
}

/// Goal: a file that a commit gave up goes at once, even where the table does not have the tombstone yet.
#[test]
fn a_file_that_was_given_up_goes_before_the_table_knows() {
    const SESSIONS: u8 = 4;
    let (_engine, metadata, repository, fs) = permitting();
    let call = Call::anonymous();
    let begin = |_| {
        let id = repository.begin_upload(Algorithm::Sha256, &call).unwrap();
        repository.append_part(&id, PartRange { first_byte: 0, len: LEN as u64 }, content(), &call).unwrap();
        id
    };
    let sessions: Vec<_> = (0..SESSIONS).map(begin).collect();
    let files = || damage::files(&fs).unwrap().iter().filter(|path| path.starts_with("blobs")).count();
    assert_eq!(files(), usize::from(SESSIONS));
    let returned = AtomicU32::new(0);
    let cancel = |number| {
        repository.cancel_upload(&sessions[usize::from(number)], &Call::anonymous()).unwrap();
        returned.fetch_add(1, Ordering::SeqCst);
    };
    behind_the_table(metadata.inner.table(), &repository, SESSIONS, cancel, || {
        let gone = returned.load(Ordering::SeqCst) as usize;
        gone > 0 && files() == usize::from(SESSIONS) - gone
    });
    assert_eq!(files(), 0);
}

#[test]
fn a_table_that_takes_no_writes_is_waited_for_within_bounds_and_before_anything_is_durable() {
    let table = Stalling::default();
    let (engine, _) = told(Arc::new(SimFileSystem::new(1)), table.clone());
    let before = engine.sequence();
    let create = |name: &str| engine.create_registry(&RegistryName::parse(name).unwrap(), &Call::anonymous());
    table.stalled.store(true, Ordering::SeqCst);
    let refused = create("one").unwrap_err();
    assert!(
        matches!(refused, Failure::Storage(StorageError::Unavailable { waited_ms, .. }) if waited_ms >= LOCK_WAIT_MS),
        "{refused:?}"
    );
    assert_eq!(engine.sequence(), before);
    assert!(engine.registries(None, 1).unwrap().items.is_empty(), "reads go on");
    // One that catches up in time is waited for.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(LOCK_WAIT_MS / 4));
            table.stalled.store(false, Ordering::SeqCst);
        });
        assert!(create("two").unwrap());
    });
    assert_eq!(engine.sequence(), before + 1);
}

#[test]
fn a_call_in_doubt_stays_in_doubt_until_the_store_is_opened_again() {
    let mut test = engine::memory();
    let app = repository(&test);
    let under = |id: u8| Call::anonymous().with_operation_id(OperationId([id; 16]));
    let tag = TagMutability::IMMUTABLE;
    test.fs().unwrap().fail_sync(1);
    let put = |app: &Repository, id: u8| app.put_tag_mutability(&tag, &under(id)).map_err(|error| error.kind());
    assert_eq!(put(&app, 1).unwrap_err(), ErrorKind::Indeterminate);
    assert_eq!(put(&app, 1).unwrap_err(), ErrorKind::Indeterminate, "nobody knows more than before");
    assert_eq!(put(&app, 2).unwrap_err(), ErrorKind::ReadOnly);
    test.kill().unwrap();
    assert_eq!(put(&repository(&test), 1).unwrap().settings.tag_mutability, tag);
}

#[test]
fn a_panic_while_a_group_is_formed_keeps_nobody_waiting() {
    let mut in_a_group = 0;
    for view_in in 1.. {
        let (engine, metadata) = told(Arc::new(SimFileSystem::new(1)), MemTable::new());
        let name = RegistryName::parse("one").unwrap();
        engine.create_registry(&name, &Call::anonymous()).unwrap();
        metadata.view_in.store(view_in, Ordering::SeqCst);
        let registry = engine.registry(&name);
        let create = move |name: &str| {
            let name = RepositoryName::parse(name).unwrap();
            registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous())
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| create("first"))).is_ok() {
            break;
        }
        let (told, hears) = std::sync::mpsc::channel();
        let second = move || told.send(create("second").map(drop).map_err(|error| error.kind()));
        std::thread::Builder::new().spawn(second).unwrap();
        match hears.recv_timeout(std::time::Duration::from_secs(20)).expect("somebody waits for a leader that is gone")
        {
            Ok(()) => {}
            Err(kind) => {
                assert_eq!(kind, ErrorKind::ReadOnly);
                in_a_group += 1;
            }
        }
    }
    assert!(in_a_group > 0, "a group reads the counters that it changes");
}

#[test]
fn a_medium_that_hangs_keeps_nobody_waiting_who_is_not_in_its_hands() {
    let fs = SimFileSystem::new(1);
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let place = Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)));
    let options = small_options().with_lock_wait_ms(200);
    let engine = Engine::create_in(&place, options, Components { spawner: None, ..Components::default() }).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 1).unwrap();
    let registry = engine.registry(&RegistryName::parse("witness").unwrap());
    let app = registry.repository(&RepositoryName::parse("app").unwrap());
    let call = Call::anonymous();

    let (hung, hangs) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    fs.watch(Some(Box::new(move |_| {
        let _ = hung.send(());
        let _ = released.recv();
    })));
    // One thread for each, so that one that waits for ever is told from one that waits long.
    let (told, hears) = std::sync::mpsc::channel();
    let say = |what: &'static str, kind: Option<ErrorKind>| told.send((what, kind)).unwrap();
    let (engine, app, call, say) = (&engine, &app, &call, &say);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| app.put_blob(b"one", &Expected::Computed, call));
        hangs.recv().unwrap();
        let other = RegistryName::parse("other").unwrap();
        scope.spawn(move || say("a commit", engine.create_registry(&other, call).err().map(|e| e.kind())));
        scope.spawn(|| say("a push", app.put_blob(b"two", &Expected::Computed, call).err().map(|e| e.kind())));
        scope.spawn(|| say("maintenance", engine.maintain().err().map(|e| e.kind())));
        scope.spawn(|| say("an unsynced commit", app.begin_upload(Algorithm::Sha256, call).err().map(|e| e.kind())));
        let answers: Vec<_> =
            (0..4).map_while(|_| hears.recv_timeout(std::time::Duration::from_secs(20)).ok()).collect();
        let looked = witness.check(engine, witness.sequence);
        drop(release);
        assert_eq!(answers.len(), 4, "somebody waits: {answers:?}");
        for (what, kind) in answers {
            assert_eq!(kind, Some(ErrorKind::Unavailable), "{what}");
        }
        assert_eq!(looked.unwrap().damaged, 0, "reads go on");
        first.join().unwrap().unwrap();
    });
    app.put_blob(b"two", &Expected::Computed, call).unwrap();
    engine.close().unwrap();
}
