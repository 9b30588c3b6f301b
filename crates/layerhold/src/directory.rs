//! A store in a directory of this machine: what lies where, and how it is told from anything else.
//!
//! ```text
//! FORMAT    what this is: magic, format version, store id; written last when a store is made
//! LOCK      who has it open
//! journal/  the commit log (docs/format.md, "Journal")
//! table/    rows, in RocksDB
//! blobs/    large blobs, a file each
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Components;
use crate::engine::{Engine, OpenError, Stores};
use crate::format::codec::{Decoder, Encoder};
use crate::format::{FORMAT_VERSION, keys};
use crate::options::Options;
use crate::store::StorageError;
use crate::store::fs::{FileSystem, OpenMode};
use crate::store::journaled::{Journaled, JournaledOptions};
use crate::store::local::LocalBlobStore;
use crate::store::real::RealFileSystem;
use crate::store::rocks::{RocksOptions, RocksTable};

const FORMAT: &str = "FORMAT";
const LOCK: &str = "LOCK";
const TABLE: &str = "table";
const MAGIC: &[u8; 8] = b"LHSTORE\n";
const FORMAT_LEN: usize = 32;

impl Engine {
    /// Makes a store in `dir`, which must be absent or empty, and opens it. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] where anything is there already; [`StorageError::Io`], [`StorageError::NoSpace`].
    pub fn create(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::create_at(dir.as_ref(), options, Components::default())
    }

    /// Opens the store in `dir`; never makes one. Until the last clone of the engine is dropped, nobody else can open
    /// it.
    ///
    /// # Errors
    /// [`StorageError::NotAStore`], [`StorageError::UnknownFormat`], [`StorageError::Locked`],
    /// [`StorageError::AcknowledgedDataLoss`], [`StorageError::Corrupt`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::open_at(dir.as_ref(), options, Components::default())
    }

    /// [`Engine::create`] with clock, randomness and threads of the caller's.
    pub fn create_at(dir: &Path, options: Options, components: Components) -> Result<Self, OpenError> {
        let fs = make_directory(dir)?;
        if !fs.list(Path::new("")).map_err(|e| StorageError::io("list directory", dir, e))?.is_empty() {
            return Err(StorageError::NotEmpty { path: dir.to_owned() });
        }
        let lock = lock(&fs, dir)?;
        let mut store_id = [0; 16];
        components.entropy.fill(&mut store_id);
        let table = RocksTable::create(&dir.join(TABLE), rocks_options(&options))?;
        let fs: Arc<dyn FileSystem> = Arc::new(fs);
        let journaled = Journaled::create(Arc::clone(&fs), table, store_id, journal_options(&options, &components))?;
        let blobs = LocalBlobStore::create(Arc::clone(&fs))?;
        let stores = Stores { metadata: Arc::new(journaled), blobs: Arc::new(blobs) };
        let engine = Self::create_exclusively(stores, options, components, Some(lock))?;
        write_format(fs.as_ref(), store_id)?;
        Ok(engine)
    }

    /// [`Engine::open`] with clock, randomness and threads of the caller's.
    pub fn open_at(dir: &Path, options: Options, components: Components) -> Result<Self, OpenError> {
        let not_a_store = |reason: &str| StorageError::NotAStore { path: dir.to_owned(), reason: reason.to_owned() };
        let fs = RealFileSystem::new(dir.to_owned()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_a_store("there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_store("it is not a directory"),
            _ => StorageError::io("open directory", dir, e),
        })?;
        let store_id = read_format(&fs, dir)?;
        let lock = lock(&fs, dir)?;
        let fs: Arc<dyn FileSystem> = Arc::new(fs);
        let table = RocksTable::open(&dir.join(TABLE), rocks_options(&options))?;
        let journaled = Journaled::open(Arc::clone(&fs), table, store_id, journal_options(&options, &components))?;
        let blobs = LocalBlobStore::open(Arc::clone(&fs))?;
        let stores = Stores { metadata: Arc::new(journaled), blobs: Arc::new(blobs) };
        Self::open_exclusively(stores, options, components, Some(lock))
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

fn lock(fs: &RealFileSystem, dir: &Path) -> Result<Box<dyn std::fmt::Debug + Send + Sync>, StorageError> {
    fs.lock(Path::new(LOCK), &format!("process {}", std::process::id())).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => StorageError::Locked { holder: holder(fs) },
        _ => StorageError::io("lock", dir.join(LOCK), e),
    })
}

/// Who says in the lock file that the store is theirs.
fn holder(fs: &RealFileSystem) -> String {
    let mut text = [0; 64];
    let read = fs.open(Path::new(LOCK), OpenMode::Read).and_then(|file| file.read_at(&mut text, 0)).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default()).trim().to_owned();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

/// The last step of making a store: from now on the directory is one.
fn write_format(fs: &dyn FileSystem, store_id: [u8; 16]) -> Result<(), StorageError> {
    let mut encoder = Encoder::bare();
    encoder.raw(MAGIC).u32(FORMAT_VERSION).raw(&store_id);
    let mut bytes = encoder.finish();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    let write = || {
        let file = fs.create_new(Path::new(FORMAT))?;
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        fs.sync_dir(Path::new(""))
    };
    write().map_err(|e| StorageError::io("write", FORMAT, e))
}

fn read_format(fs: &RealFileSystem, dir: &Path) -> Result<[u8; 16], StorageError> {
    let path = PathBuf::from(FORMAT);
    let file = fs.open(&path, OpenMode::Read).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => StorageError::NotAStore {
            path: dir.to_owned(),
            reason:
                "it has no FORMAT file; a store whose making was interrupted has none either: remove it and make it \
                     again"
                    .to_owned(),
        },
        _ => StorageError::io("open", &path, e),
    })?;
    let mut bytes = [0; FORMAT_LEN];
    let whole = file.read_exact_at(&mut bytes, 0);
    let (body, checksum) = bytes.split_at(FORMAT_LEN - 4);
    let mut decoder = Decoder::bare(body, "FORMAT file");
    let magic: [u8; 8] = decoder.array()?;
    let version = decoder.u32()?;
    let store_id = decoder.array()?;
    if magic != *MAGIC {
        let reason = "its FORMAT file is another program's".to_owned();
        return Err(StorageError::NotAStore { path: dir.to_owned(), reason });
    }
    // The version is judged before the checksum: a later version may have another layout behind it.
    if version != FORMAT_VERSION {
        return Err(StorageError::UnknownFormat { found: version, supported: FORMAT_VERSION });
    }
    if whole.is_err() || checksum != crc32fast::hash(body).to_be_bytes() {
        return Err(StorageError::corrupt("FORMAT file: wrong checksum"));
    }
    Ok(store_id)
}

/// How much of the memory goes to rows that were locked lately; the rest is the table's.
fn row_cache_bytes(options: &Options) -> u64 {
    options.memory_bytes / 16
}

fn rocks_options(options: &Options) -> RocksOptions {
    RocksOptions::default().with_memory_bytes(options.memory_bytes - row_cache_bytes(options))
}

fn journal_options(options: &Options, components: &Components) -> JournaledOptions {
    JournaledOptions::default()
        .with_segment_bytes(options.journal_segment_bytes)
        .with_lock_wait_ms(options.lock_wait_ms)
        .with_clock(Arc::clone(&components.clock))
        .with_spawner(components.spawner.clone())
        .with_row_cache_bytes(usize::try_from(row_cache_bytes(options)).unwrap_or(usize::MAX))
        .with_unguarded(|key| !keys::is_guard(key))
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
        std::fs::write(dir.path().join(FORMAT), b"something else, and long enough to be read").unwrap();
        assert!(refusal(dir.path()).to_string().contains("another program's"));
        assert!(matches!(Engine::create(dir.path(), Options::default()), Err(StorageError::NotEmpty { .. })));
    }

    #[test]
    fn a_store_is_opened_once_and_only_in_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let engine = Engine::create(&path, Options::default()).unwrap();
        let second = Engine::open(&path, Options::default()).expect_err("it is open");
        assert!(second.to_string().contains(&format!("process {}", std::process::id())), "{second}");
        drop(engine);
        drop(Engine::open(&path, Options::default()).unwrap());
        let mut bytes = std::fs::read(path.join(FORMAT)).unwrap();
        assert_eq!(bytes.len(), FORMAT_LEN);
        bytes[11] ^= 0x40;
        std::fs::write(path.join(FORMAT), &bytes).unwrap();
        assert!(matches!(refusal(&path), StorageError::UnknownFormat { found: 0x41, supported: 1 }));
        bytes[11] ^= 0x40;
        bytes[20] ^= 1;
        std::fs::write(path.join(FORMAT), &bytes).unwrap();
        assert!(matches!(refusal(&path), StorageError::Corrupt { .. }));
    }
}
