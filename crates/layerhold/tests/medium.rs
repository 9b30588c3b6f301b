//! Media on which the engine cannot keep its promises: what is refused, what is warned of, and what is an error of one call.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use layerhold::clock::Entropy;
use layerhold::directory::Place;
use layerhold::store::fs::{Entry, FileSystem, Suitability};
use layerhold::{
    Algorithm, Call, CompleteUpload, Components, Engine, ErrorKind, Expected, Options, RegistryName, RepositoryName,
    StorageError,
};
use layerhold_testkit::engine::SeededEntropy;
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{self, HeldLock, OddFileSystem, Oddity, SimFileSystem};
use layerhold_testkit::witness::{Witness, small_options};

/// The one thing that is wrong with a file system.
#[derive(Debug, Clone)]
struct Wrong {
    kind: Kind,
    /// Syncs of directories of blobs until one cannot open its directory.
    sync_dir_in: Arc<AtomicU32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    /// A lock answers this number.
    NoLock(i32),
    /// Any number of processes hold a lock.
    LocksKeepNobodyOut,
    /// `FORMAT` is also `format`.
    OneCase,
    /// It is said of it that it is not to be trusted.
    Refused,
}

impl Wrong {
    fn with(below: &SimFileSystem, kind: Kind) -> OddFileSystem<Self> {
        OddFileSystem::over(below, Self { kind, sync_dir_in: Arc::default() })
    }
}

fn place(fs: &OddFileSystem<Wrong>) -> Place {
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)))
}

impl Oddity for Wrong {
    fn before(&self, call: fs::Call, path: &Path) -> io::Result<()> {
        match (call, self.kind) {
            (fs::Call::Lock, Kind::NoLock(number)) => Err(io::Error::from_raw_os_error(number)),
            (fs::Call::SyncDir, _) if path.starts_with("blobs") => {
                let left = self.sync_dir_in.load(Ordering::Relaxed);
                self.sync_dir_in.store(left.saturating_sub(1), Ordering::Relaxed);
                if left == 1 { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn file_len(&self, below: &SimFileSystem, path: &Path) -> io::Result<u64> {
        let found = below.file_len(path);
        if found.is_ok() || self.kind != Kind::OneCase {
            return found;
        }
        let is_meant = |entry: &Entry| path.as_os_str().eq_ignore_ascii_case(&entry.name);
        match below.list(Path::new(""))?.into_iter().find(is_meant) {
            Some(entry) => below.file_len(Path::new(&entry.name)),
            None => found,
        }
    }

    fn lock_shared(&self, below: &SimFileSystem, path: &Path) -> io::Result<HeldLock> {
        match self.kind {
            Kind::LocksKeepNobodyOut => Ok(Box::new(())),
            _ => below.lock_shared(path),
        }
    }

    fn suitability(&self, _: &SimFileSystem) -> Suitability {
        let refused = (self.kind == Kind::Refused).then(|| "directories cannot be synced".to_owned());
        Suitability { refused, warning: Some("a word of warning".to_owned()) }
    }
}

fn components() -> Components {
    Components { spawner: None, ..Components::default() }
}

/// What making a store and opening one that was made elsewhere come to on an odd medium.
fn made_and_opened(kind: Kind, options: &Options) -> [Result<Vec<String>, StorageError>; 2] {
    let warnings = |engine: Engine| engine.warnings().to_vec();
    let elsewhere = SimFileSystem::new(1);
    let whole = Wrong::with(&elsewhere, Kind::Nothing);
    drop(Engine::create_in(&place(&whole), small_options(), components()).unwrap());
    let made = Engine::create_in(&place(&Wrong::with(&SimFileSystem::new(2), kind)), options.clone(), components());
    let opened = Engine::open_in(&place(&Wrong::with(&elsewhere.kill(), kind)), options.clone(), components());
    [made.map(warnings), opened.map(warnings)]
}

#[test]
fn a_medium_that_keeps_no_promise_is_refused_unless_any_will_do() {
    let any = small_options().with_any_medium(true);
    for (kind, reason) in
        [(Kind::LocksKeepNobodyOut, "locks keep nobody out"), (Kind::Refused, "directories cannot be synced")]
    {
        for refused in made_and_opened(kind, &small_options()) {
            match refused {
                Err(StorageError::Unsuitable { reason: given, .. }) => assert_eq!(given, reason),
                other => panic!("{reason}: {other:?}"),
            }
        }
        for warnings in made_and_opened(kind, &any) {
            assert!(warnings.unwrap().contains(&reason.to_owned()), "{reason}");
        }
    }
    for number in [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS] {
        for options in [small_options(), any.clone()] {
            for refused in made_and_opened(Kind::NoLock(number), &options) {
                assert!(matches!(refused, Err(StorageError::Unsuitable { .. })), "{number}: {refused:?}");
            }
        }
    }
}

#[test]
fn what_is_only_odd_is_said_and_does_no_harm() {
    for warnings in made_and_opened(Kind::OneCase, &small_options()) {
        assert_eq!(warnings.unwrap(), ["a word of warning", "names are the same in upper and lower case"]);
    }
    for warnings in made_and_opened(Kind::Nothing, &small_options()) {
        assert_eq!(warnings.unwrap(), ["a word of warning"]);
    }
}

/// Draws locations that all lie in one directory.
#[derive(Debug)]
struct OneShard(SeededEntropy);

impl Entropy for OneShard {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
        if let [first, ..] = bytes {
            *first = 0x42;
        }
    }
}

#[test]
fn a_directory_that_cannot_be_opened_for_its_sync_costs_one_call_and_no_more() {
    // That of the directory of shards, and that of the shard.
    for sync in 1..=2 {
        let odd = Wrong::with(&SimFileSystem::new(1), Kind::Nothing);
        let components = Components { entropy: Arc::new(OneShard(SeededEntropy::new(1))), ..components() };
        let engine = Engine::create_in(&place(&odd), small_options(), components).unwrap();
        Witness::begin(&engine).unwrap();
        let registry = engine.registry(&RegistryName::parse("witness").unwrap());
        let app = registry.repository(&RepositoryName::parse("app").unwrap());
        let call = Call::anonymous();
        let mut failed = 0;
        for _ in 0..4 {
            let id = app.begin_upload(Algorithm::Sha256, &call).unwrap();
            let mut writer = app.upload_writer(&id, None, &call).unwrap();
            odd.oddity.sync_dir_in.store(sync, Ordering::Relaxed);
            let written = writer.write(&[7; 40_000]).and_then(|()| writer.commit());
            odd.oddity.sync_dir_in.store(0, Ordering::Relaxed);
            drop(writer);
            if let Err(error) = written {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                failed += 1;
            }
            // The session goes on, in the same shard.
            let mut writer = app.upload_writer(&id, None, &call).unwrap();
            let durable = usize::try_from(writer.offset()).unwrap();
            writer.write(&[7; 40_000][durable..]).unwrap();
            writer.complete(&CompleteUpload::expecting(Expected::Computed)).unwrap();
        }
        assert!(failed > 0);
    }
}
