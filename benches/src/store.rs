//! An engine over a new store on the disk of the build, with one repository, and what clients do to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use layerhold::digest::{Algorithm, Digest};
use layerhold::store::fs::FileSystem;
use layerhold::store::real::RealFileSystem;
use layerhold::{
    Call, CompleteUpload, Completed, Components, Engine, Expected, Limits, Options, RegistryName, Repository,
    RepositoryName, RepositorySettings,
};
use tempfile::TempDir;

use crate::content::Layer;

/// A store that goes when the value does.
#[derive(Debug)]
pub struct Store {
    /// The repository that the bench works in; its number of images is not limited.
    pub repository: Repository,
    /// The engine.
    pub engine: Engine,
    dir: TempDir,
}

impl Store {
    /// Makes a store below `place`.
    #[must_use]
    pub fn create(place: &str, options: Options) -> Self {
        let dir = directory(place);
        let engine = Engine::create(dir.path().join("store"), options).unwrap();
        Self { repository: repository(&engine), engine, dir }
    }

    /// The directory that holds the store.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The file of the one large blob in the store.
    #[must_use]
    pub fn blob_file(&self) -> PathBuf {
        let names = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        names(&self.path().join("blobs")).flat_map(|shard| names(&shard).collect::<Vec<_>>()).next().unwrap()
    }

    /// Does the engine's background work once a second, as a host does, until the value goes.
    #[must_use]
    pub fn maintain(&self) -> Maintenance {
        let (engine, stop) = (self.engine.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                engine.maintain().unwrap();
                std::thread::park_timeout(Duration::from_secs(1));
            }
        });
        Maintenance { stop, thread: Some(thread) }
    }
}

/// A thread that maintains a store.
#[derive(Debug)]
pub struct Maintenance {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

/// A new directory below `place`, without what an earlier bench left for the disk to do.
#[must_use]
pub fn directory(place: &str) -> TempDir {
    // The journal of the file system holds what was removed last; the next sync should not have to write that.
    RealFileSystem::new(place.into()).unwrap().sync_dir(Path::new("")).unwrap();
    tempfile::tempdir_in(place).unwrap()
}

/// The registry and the repository of the bench, made in a new engine.
#[must_use]
pub fn repository(engine: &Engine) -> Repository {
    let (registry, name) = (RegistryName::parse("bench").unwrap(), RepositoryName::parse("bench/app").unwrap());
    engine.create_registry(&registry, &Call::anonymous()).unwrap();
    let mut limits = Limits::default();
    limits.images = u64::MAX;
    let registry = engine.registry(&registry).with_limits(limits);
    registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous()).unwrap();
    registry.repository(&name)
}

/// Pushes a layer as one streamed body.
pub fn push(repository: &Repository, layer: &Layer) -> Completed {
    let call = Call::anonymous();
    let id = repository.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = repository.upload_writer(&id, Some(0), &call).unwrap();
    layer.pieces().for_each(|piece| writer.write_owned(Arc::clone(piece)).unwrap());
    writer.complete(&CompleteUpload::expecting(Expected::Computed)).unwrap()
}

/// Pushes a small blob; gives its digest.
#[must_use]
pub fn put(repository: &Repository, bytes: &[u8]) -> Digest {
    repository.put_blob(bytes, &Expected::Computed, &Call::anonymous()).unwrap().digest
}

/// The machine's clock, randomness and threads.
#[must_use]
pub fn components() -> Components {
    Components::default()
}
