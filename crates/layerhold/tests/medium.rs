//! Media on which the engine cannot keep its promises: what is refused, what is warned of, and what is an error of one call.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use layerhold::clock::Entropy;
use layerhold::directory::Place;
use layerhold::store::fs::{Entry, File, FileSystem, OpenMode, Space, Suitability};
use layerhold::{
    Algorithm, Call, CompleteUpload, Components, Engine, ErrorKind, Expected, Options, RegistryName, RepositoryName,
    StorageError,
};
use layerhold_testkit::engine::SeededEntropy;
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::SimFileSystem;
use layerhold_testkit::witness::{Witness, small_options};

/// A file system with one thing that is wrong with it.
#[derive(Debug, Clone)]
struct Odd {
    inner: SimFileSystem,
    oddity: Oddity,
    /// Syncs of directories of blobs until one cannot open its directory.
    sync_dir_in: Arc<AtomicU32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    None,
    /// A lock answers this number.
    NoLock(i32),
    /// Any number of processes hold a lock.
    LocksKeepNobodyOut,
    /// `FORMAT` is also `format`.
    OneCase,
    /// It is said of it that it is not to be trusted.
    Refused,
}

impl Odd {
    fn new(inner: &SimFileSystem, oddity: Oddity) -> Self {
        Self { inner: inner.clone(), oddity, sync_dir_in: Arc::default() }
    }

    fn place(&self) -> Place {
        let shared: Arc<dyn FileSystem> = Arc::new(self.clone());
        Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)))
    }
}

impl FileSystem for Odd {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.inner.create_new(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.inner.open(path, mode)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_noreplace(from, to)
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_replace(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let left = if path.starts_with("blobs") { self.sync_dir_in.load(Ordering::Relaxed) } else { 0 };
        if left > 0 {
            self.sync_dir_in.store(left - 1, Ordering::Relaxed);
        }
        if left == 1 { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { self.inner.sync_dir(path) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let found = self.inner.file_len(path);
        if found.is_ok() || self.oddity != Oddity::OneCase {
            return found;
        }
        let is_meant = |entry: &Entry| path.as_os_str().eq_ignore_ascii_case(&entry.name);
        match self.inner.list(Path::new(""))?.into_iter().find(is_meant) {
            Some(entry) => self.inner.file_len(Path::new(&entry.name)),
            None => found,
        }
    }

    fn space(&self) -> io::Result<Space> {
        self.inner.space()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        match self.oddity {
            Oddity::NoLock(number) => Err(io::Error::from_raw_os_error(number)),
            _ => self.inner.lock(path, holder),
        }
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        match self.oddity {
            Oddity::LocksKeepNobodyOut => Ok(Box::new(())),
            _ => self.inner.lock_shared(path),
        }
    }

    fn suitability(&self) -> Suitability {
        let refused = (self.oddity == Oddity::Refused).then(|| "directories cannot be synced".to_owned());
        Suitability { refused, warning: Some("a word of warning".to_owned()) }
    }
}

fn components() -> Components {
    Components { spawner: None, ..Components::default() }
}

/// What making a store and opening one that was made elsewhere come to on an odd medium.
fn made_and_opened(oddity: Oddity, options: &Options) -> [Result<Vec<String>, StorageError>; 2] {
    let warnings = |engine: Engine| engine.warnings().to_vec();
    let elsewhere = SimFileSystem::new(1);
    let whole = Odd::new(&elsewhere, Oddity::None);
    drop(Engine::create_in(&whole.place(), small_options(), components()).unwrap());
    let made = Engine::create_in(&Odd::new(&SimFileSystem::new(2), oddity).place(), options.clone(), components());
    let opened = Engine::open_in(&Odd::new(&elsewhere.kill(), oddity).place(), options.clone(), components());
    [made.map(warnings), opened.map(warnings)]
}

#[test]
fn a_medium_that_keeps_no_promise_is_refused_unless_any_will_do() {
    let any = small_options().with_any_medium(true);
    for (oddity, reason) in
        [(Oddity::LocksKeepNobodyOut, "locks keep nobody out"), (Oddity::Refused, "directories cannot be synced")]
    {
        for refused in made_and_opened(oddity, &small_options()) {
            match refused {
                Err(StorageError::Unsuitable { reason: given, .. }) => assert_eq!(given, reason),
                other => panic!("{reason}: {other:?}"),
            }
        }
        for warnings in made_and_opened(oddity, &any) {
            assert!(warnings.unwrap().contains(&reason.to_owned()), "{reason}");
        }
    }
    for number in [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS] {
        for options in [small_options(), any.clone()] {
            for refused in made_and_opened(Oddity::NoLock(number), &options) {
                assert!(matches!(refused, Err(StorageError::Unsuitable { .. })), "{number}: {refused:?}");
            }
        }
    }
}

#[test]
fn what_is_only_odd_is_said_and_does_no_harm() {
    for warnings in made_and_opened(Oddity::OneCase, &small_options()) {
        assert_eq!(warnings.unwrap(), ["a word of warning", "names are the same in upper and lower case"]);
    }
    for warnings in made_and_opened(Oddity::None, &small_options()) {
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
        let odd = Odd::new(&SimFileSystem::new(1), Oddity::None);
        let components = Components { entropy: Arc::new(OneShard(SeededEntropy::new(1))), ..components() };
        let engine = Engine::create_in(&odd.place(), small_options(), components).unwrap();
        Witness::begin(&engine).unwrap();
        let registry = engine.registry(&RegistryName::parse("witness").unwrap());
        let app = registry.repository(&RepositoryName::parse("app").unwrap());
        let call = Call::anonymous();
        let mut failed = 0;
        for _ in 0..4 {
            let id = app.begin_upload(Algorithm::Sha256, &call).unwrap();
            let mut writer = app.upload_writer(&id, None, &call).unwrap();
            odd.sync_dir_in.store(sync, Ordering::Relaxed);
            let written = writer.write(&[7; 40_000]).and_then(|()| writer.commit());
            odd.sync_dir_in.store(0, Ordering::Relaxed);
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
