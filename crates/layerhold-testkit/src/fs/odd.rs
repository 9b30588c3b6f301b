//! A simulated file system with something odd about it.

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use layerhold::store::fs::{Entry, File, FileSystem, OpenMode, Space, Suitability};

use super::{Call, SimFileSystem};

/// What a lock is held by.
pub type HeldLock = Box<dyn Debug + Send + Sync>;

/// What is odd. What is not said here is as it is below.
pub trait Oddity: Debug + Clone + Send + Sync + 'static {
    /// Before each call about a path: an error is what it answers.
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Bytes of a file that were read at `offset`, and may be others.
    fn read(&self, _path: &Path, _offset: u64, _bytes: &mut [u8]) {}

    /// So many bytes of a file are to be forgotten by the caches of the medium.
    fn forget(&self, _path: &Path, _len: u64) {}

    /// The length of the file of this name.
    fn file_len(&self, below: &SimFileSystem, path: &Path) -> io::Result<u64> {
        below.file_len(path)
    }

    /// A lock that others may hold as well.
    fn lock_shared(&self, below: &SimFileSystem, path: &Path) -> io::Result<HeldLock> {
        below.lock_shared(path)
    }

    /// What is said of the file system.
    fn suitability(&self, below: &SimFileSystem) -> Suitability {
        below.suitability()
    }
}

/// Passes every call on to a simulated file system, but for what is odd.
#[derive(Debug, Clone)]
pub struct OddFileSystem<O> {
    below: SimFileSystem,
    /// What is odd about it.
    pub oddity: O,
}

impl<O: Oddity> OddFileSystem<O> {
    /// Makes `below` odd for those who use it through this.
    pub fn over(below: &SimFileSystem, oddity: O) -> Self {
        Self { below: below.clone(), oddity }
    }

    fn wrap(&self, path: &Path, below: Box<dyn File>) -> Box<dyn File> {
        Box::new(OddFile { below, path: path.to_owned(), oddity: self.oddity.clone() })
    }
}

impl<O: Oddity> FileSystem for OddFileSystem<O> {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.oddity.before(Call::CreateNew, path)?;
        self.below.create_new(path).map(|file| self.wrap(path, file))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.oddity.before(Call::Open, path)?;
        self.below.open(path, mode).map(|file| self.wrap(path, file))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.oddity.before(Call::RemoveFile, path)?;
        self.below.remove_file(path)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.oddity.before(Call::Rename, from)?;
        self.below.rename_noreplace(from, to)
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.oddity.before(Call::Rename, from)?;
        self.below.rename_replace(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.oddity.before(Call::CreateDir, path)?;
        self.below.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.oddity.before(Call::SyncDir, path)?;
        self.below.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.oddity.before(Call::List, path)?;
        self.below.list(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.oddity.before(Call::FileLen, path)?;
        self.oddity.file_len(&self.below, path)
    }

    fn space(&self) -> io::Result<Space> {
        self.oddity.before(Call::Space, Path::new(""))?;
        self.below.space()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<HeldLock> {
        self.oddity.before(Call::Lock, path)?;
        self.below.lock(path, holder)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<HeldLock> {
        self.oddity.lock_shared(&self.below, path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.oddity.before(Call::Rename, from)?;
        self.below.hard_link(from, to)
    }

    fn suitability(&self) -> Suitability {
        self.oddity.suitability(&self.below)
    }
}

#[derive(Debug)]
struct OddFile<O> {
    below: Box<dyn File>,
    path: PathBuf,
    oddity: O,
}

impl<O: Oddity> File for OddFile<O> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.oddity.before(Call::Read, &self.path)?;
        let read = self.below.read_at(buf, offset)?;
        self.oddity.read(&self.path, offset, &mut buf[..read]);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.oddity.before(Call::Write, &self.path)?;
        self.below.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.oddity.before(Call::SetLen, &self.path)?;
        self.below.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.oddity.before(Call::SetLen, &self.path)?;
        self.below.allocate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.oddity.before(Call::Len, &self.path)?;
        self.below.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.oddity.before(Call::SyncData, &self.path)?;
        self.below.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.oddity.before(Call::StartWriteback, &self.path)?;
        self.below.start_writeback(offset, len)
    }

    fn forget(&self, offset: u64, len: u64) {
        self.oddity.forget(&self.path, len);
        self.below.forget(offset, len);
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        self.oddity.before(Call::Map, &self.path)?;
        self.below.map(offset, len)
    }
}
