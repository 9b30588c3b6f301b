//! Stores in directories of this machine, on RocksDB.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Components;
use crate::directory::{Place, row_cache_bytes};
use crate::engine::{Engine, OpenError};
use crate::options::Options;
use crate::store::StorageError;
use crate::store::fs::FileSystem;
use crate::store::real::{RealFileSystem, descriptors_max};
use crate::store::rocks::{RocksHome, RocksOptions};
use crate::upload::open::memory_share;

impl Engine {
    /// Makes a store in `dir`, which must be absent or empty, and opens it. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] where anything is there already; [`StorageError::Io`], [`StorageError::NoSpace`].
    pub fn create(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::create_at(dir.as_ref(), options, Components::default())
    }

    /// Opens the store in `dir`; never makes one. Until the last clone of the engine is dropped, nobody else can open
    /// it. Nothing is changed before the store is known to be whole.
    ///
    /// # Errors
    /// [`StorageError::NotAStore`], [`StorageError::UnknownFormat`], [`StorageError::Locked`];
    /// [`StorageError::AcknowledgedDataLoss`] and [`StorageError::Corrupt`] where something that the store held is not
    /// there. What to do then: [`recovery`](crate::recovery).
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::open_at(dir.as_ref(), options, Components::default())
    }

    /// Opens the store in `dir` for reads alone and changes nothing in the directory. A damaged store is shown as far as
    /// it can be proved: the state after [`Examination::recovered`](crate::recovery::Examination::recovered). Every
    /// mutation answers [`StorageError::ReadOnly`]. Any number of readers may have it open, nobody beside a writer.
    ///
    /// What the journal holds and the table does not is held in memory: at most a few segments of the journal.
    ///
    /// # Errors
    /// As [`Engine::open`], but [`StorageError::Corrupt`] only where nothing can be shown.
    pub fn open_read_only(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let place = Place::existing(dir.as_ref(), &options)?;
        Self::open_read_only_in(&place, options, Components::default())
    }

    /// [`Engine::create`] with clock, randomness and threads of the caller's.
    pub fn create_at(dir: &Path, options: Options, components: Components) -> Result<Self, OpenError> {
        let fs = make_directory(dir)?;
        Self::create_in(&Place::native(fs, &options)?, options, components)
    }

    /// [`Engine::open`] with clock, randomness and threads of the caller's.
    pub fn open_at(dir: &Path, options: Options, components: Components) -> Result<Self, OpenError> {
        Self::open_in(&Place::existing(dir, &options)?, options, components)
    }
}

impl Place {
    /// The directory `dir`, which must exist.
    pub(crate) fn existing(dir: &Path, options: &Options) -> Result<Self, StorageError> {
        let not_a_store = |reason: &str| StorageError::NotAStore { path: dir.to_owned(), reason: reason.to_owned() };
        let fs = RealFileSystem::new(dir.to_owned()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_a_store("there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_store("it is not a directory"),
            _ => StorageError::io("open directory", dir, e),
        })?;
        Self::native(fs, options)
    }

    fn native(fs: RealFileSystem, options: &Options) -> Result<Self, StorageError> {
        let fs: Arc<dyn FileSystem> = Arc::new(fs);
        let table = RocksHome::new(Arc::clone(&fs), rocks_options(options));
        let table = table.ok_or_else(|| StorageError::corrupt("the file system has no directory on this machine"))?;
        Ok(Self::new(fs, Arc::new(table)))
    }
}

/// Makes the directory where it is absent, and its name durable.
fn make_directory(dir: &Path) -> Result<RealFileSystem, StorageError> {
    let absolute = std::path::absolute(dir).map_err(|e| StorageError::io("find directory", dir, e))?;
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) {
        let parent =
            RealFileSystem::new(parent.to_owned()).map_err(|e| StorageError::io("open directory", parent, e))?;
        match parent.create_dir(Path::new(name)) {
            Ok(()) => parent.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync directory", dir, e))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(StorageError::io("create directory", dir, e)),
        }
    }
    RealFileSystem::new(absolute).map_err(|e| StorageError::io("open directory", dir, e))
}

/// The table gets a quarter of the descriptors that the process may have: the rest is for blobs and for the host.
fn rocks_options(options: &Options) -> RocksOptions {
    const OPEN_FILES: (u64, u64) = (32, 1024);
    let files = descriptors_max().map_or(OPEN_FILES.1, |limit| (limit / 4).clamp(OPEN_FILES.0, OPEN_FILES.1));
    let files = u32::try_from(files).unwrap_or(u32::MAX);
    let memory_bytes = options.memory_bytes - row_cache_bytes(options) - memory_share(options);
    RocksOptions::default().with_memory_bytes(memory_bytes).with_open_files_max(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(dir: &Path) -> StorageError {
        Engine::open(dir, Options::default()).expect_err("no store is here")
    }

    #[test]
    fn what_is_no_store_is_refused_in_words_and_not_made_one() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        assert!(matches!(refusal(&absent), StorageError::NotAStore { .. }));
        assert!(!absent.exists());
        assert!(refusal(dir.path()).to_string().contains("no FORMAT file"));
        std::fs::write(dir.path().join("FORMAT"), b"something else, and long enough to be read").unwrap();
        assert!(refusal(dir.path()).to_string().contains("another program's"));
        assert!(matches!(Engine::create(dir.path(), Options::default()), Err(StorageError::NotEmpty { .. })));
    }

    #[test]
    fn a_store_is_opened_once_and_only_in_its_version() {
        const CHECKED: usize = 28;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let engine = Engine::create(&path, Options::default()).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for way in [&path, &link] {
            let second = Engine::open(way, Options::default()).expect_err("it is open");
            assert!(second.to_string().contains(&format!("process {}", std::process::id())), "{second}");
        }
        drop(engine);
        drop(Engine::open(&path, Options::default()).unwrap());
        let mut bytes = std::fs::read(path.join("FORMAT")).unwrap();
        assert_eq!(bytes.len(), CHECKED + 4);
        bytes[11] ^= 0x40;
        std::fs::write(path.join("FORMAT"), &bytes).unwrap();
        assert!(matches!(refusal(&path), StorageError::Corrupt { .. }));
        let checksum = crc32fast::hash(&bytes[..CHECKED]).to_be_bytes();
        bytes[CHECKED..].copy_from_slice(&checksum);
        std::fs::write(path.join("FORMAT"), &bytes).unwrap();
        assert!(matches!(refusal(&path), StorageError::UnknownFormat { found: 0x41, supported: 1 }));
    }
}
