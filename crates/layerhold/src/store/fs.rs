//! The file system as the stores see it.
//!
//! No code above this trait names `std::fs`. Three implementations exist: the real one ([`super::real`]), one that
//! fails at the N-th call and one that simulates a crash (both in the test kit).

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// How an existing file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reads alone.
    Read,
    /// Reads and writes.
    ReadWrite,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else; no store makes one.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// What it stands for.
    pub kind: EntryKind,
}

/// Room on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The bytes that an ordinary process may still use.
    pub available: u64,
    /// The size of the file system, in bytes.
    pub total: u64,
    /// How many more files and directories an ordinary process may make; `u64::MAX` where bytes alone limit them.
    pub files: u64,
}

/// What is known of a medium before anything is written to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suitability {
    /// Why no store should be there, in words.
    pub refused: Option<String>,
    /// What whoever runs a store there should know.
    pub warning: Option<String>,
}

/// What a `WouldBlock` error of [`FileSystem::lock`] carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lock is held holder={holder}")]
pub struct LockHeld {
    /// The contents of the lock file; empty where the holder has not written them yet.
    pub holder: String,
}

impl LockHeld {
    /// Names the holder.
    pub fn new(holder: impl Into<String>) -> Self {
        Self { holder: holder.into() }
    }

    /// Takes it out of the error that carries it.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<LockHeld> for io::Error {
    fn from(held: LockHeld) -> Self {
        Self::new(io::ErrorKind::WouldBlock, held)
    }
}

/// A file system below one root directory. Paths are relative to that root and use `/`.
///
/// Nothing is durable before it is synced: a file's bytes and length by [`File::sync_data`], its *name* by
/// [`FileSystem::sync_dir`] on the directory that holds it. A failed sync must never be tried again: the system may
/// have dropped the bytes and would then say yes.
pub trait FileSystem: Send + Sync + Debug {
    /// Makes a new file, open for reading and writing. `AlreadyExists` where the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens an existing file. `NotFound` where there is none.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// Removes a file's name. Open handles keep reading.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Renames a file without replacing: `AlreadyExists` where `to` is taken.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, replacing `to` in one step.
    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes one directory; its parent exists. `AlreadyExists` where the name is taken. The root itself is `""`.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order. `NotFound` where there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// A file's length in bytes. `NotFound` where there is none.
    fn file_len(&self, path: &Path) -> io::Result<u64>;

    /// Room below the root.
    fn space(&self) -> io::Result<Space>;

    /// Takes an exclusive lock on a file, made if it is absent, for as long as the value lives. `WouldBlock` where
    /// another process or another value of this process holds it; [`LockHeld::of`] then tells who, as far as the file
    /// says. The file's contents become `holder`.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>>;

    /// Takes a shared lock on an existing file and changes nothing. Any number may hold it, but nobody beside one who
    /// holds [`FileSystem::lock`]. `NotFound` where there is no such file, `WouldBlock` as there.
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>>;

    /// Gives a file a second name, `AlreadyExists` where that is taken. `Unsupported` where the system cannot, and always
    /// where it was not built.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether a store may be kept here.
    fn suitability(&self) -> Suitability {
        Suitability::default()
    }

    /// The directory on this machine that is the root, where there is one (RocksDB opens files by itself).
    fn native_root(&self) -> Option<&Path> {
        None
    }
}

/// Length of the pieces in which a file is copied.
const COPIED_BYTES: usize = 64 << 10;

/// Makes `to` a copy of `from`, whole or not at all, with its bytes durable and its name not. A copy that is there already
/// stays as it is.
///
/// # Errors
/// Those of the file system.
pub(crate) fn copy_file(fs: &dyn FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    if exists(fs, to)? {
        return Ok(());
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    remove_if_there(fs, part)?;
    let source = fs.open(from, OpenMode::Read)?;
    let target = fs.create_new(part)?;
    let mut buffer = vec![0; COPIED_BYTES];
    let mut at = 0;
    loop {
        let read = match source.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        target.write_all_at(buffer.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    target.sync_data()?;
    fs.rename_noreplace(part, to)
}

/// Whether a file is there.
pub(crate) fn exists(fs: &dyn FileSystem, path: &Path) -> io::Result<bool> {
    match fs.file_len(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a file, should it be there.
pub(crate) fn remove_if_there(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    match fs.remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a directory where there is none; its name is durable in either case.
pub(crate) fn make_dir(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    match fs.create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs.sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// An open file. Positioned calls alone, so that one handle serves any number of threads.
#[expect(clippy::len_without_is_empty, reason = "the length is a system call that may fail, not a property")]
pub trait File: Send + Sync + Debug {
    /// Reads at most `buf.len()` bytes at `offset`; 0 at or past the end. May read less than asked for.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most all of `buf` at `offset` and says how much; the file grows as needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Extends to `len` bytes that have their place on the medium, where the system can.
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Makes the file's bytes and length durable, but not its name.
    fn sync_data(&self) -> io::Result<()>;

    /// Asks the system to start writing `len` bytes at `offset` out, without waiting. A hint: no durability follows.
    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Asks the system to drop what it caches of a range and has written out, so that the next read of it comes from the
    /// medium. A hint: nothing follows from it.
    fn forget(&self, _offset: u64, _len: u64) {}

    /// `len` bytes at `offset`, mapped where the system can. The file must never be shortened while the value lives.
    /// A sector that cannot be read is an error here, not a signal later.
    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>>;

    /// Reads exactly `buf.len()` bytes; `UnexpectedEof` where the file is shorter. Interrupted calls are repeated.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = buf.get_mut(n..).unwrap_or_default();
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of `buf`. Interrupted calls are repeated; a call that writes nothing is `WriteZero`, so that this
    /// never spins.
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    buf = buf.get(n..).unwrap_or_default();
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
