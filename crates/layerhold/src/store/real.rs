//! The operating system's files, below one directory.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags};

use super::fs::{Entry, EntryKind, File, FileSystem, LockHeld, OpenMode, Space, Suitability};
use super::{mmap, sys};

/// Only the store's own user may read what it keeps.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// The most that is read of a lock file that somebody else holds.
const HOLDER_BYTES_MAX: u64 = 1024;

/// File systems that a store must not live on, by the number that `statfs` gives them (linux/magic.h), and why.
const REFUSED: [(i64, &str); 6] = [
    (0x6969, "nfs: syncs, locks and renames are only as good as the server"),
    (0x517b, "smb: syncs and locks are only as good as the server"),
    (0xff53_4d42, "cifs: syncs and locks are only as good as the server"),
    (0xfe53_4d42, "smb2: syncs and locks are only as good as the server"),
    (0x0102_1997, "9p: syncs and locks are only as good as the server"),
    (0x4d44, "fat: directory entries are not made durable by a directory sync"),
];

/// Those on which a store does what it should and yet does not last, or may not.
const WARNED: [(i64, &str); 4] = [
    (0x0102_1994, "tmpfs: nothing outlives a restart of the machine"),
    (0x8584_58f6, "ramfs: nothing outlives a restart of the machine"),
    (
        0x794c_7630,
        "overlayfs: what is written lasts only as long as the upper layer, which often goes with its container",
    ),
    (0x6573_5546, "fuse: syncs and locks are only as good as the program behind it"),
];

/// What the kind of a file system says for and against it.
fn suitability_of(kind: i64) -> Suitability {
    let said =
        |list: &[(i64, &str)]| list.iter().find(|(number, _)| *number == kind).map(|(_, words)| (*words).to_owned());
    Suitability { refused: said(&REFUSED), warning: said(&WARNED) }
}

/// How many files this process may have open; `None` without a limit.
#[must_use]
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Lets a write beyond the process's limit of file sizes fail with an error, which is then `NoSpace`, instead of ending the
/// process. For a host to call once when it starts: what signals do belongs to the whole process.
///
/// # Errors
/// What the system says.
pub fn ignore_file_size_signal() -> io::Result<()> {
    sys::ignore_file_size_signal()
}

/// A directory of this machine as the root of a store.
///
/// Files are made with mode 0600 and directories with 0700. Data syncs are `fdatasync`, directory syncs `fsync`; an
/// interrupted sync counts as failed, because no sync is ever repeated.
#[derive(Debug, Clone)]
pub struct RealFileSystem {
    root: PathBuf,
}

impl RealFileSystem {
    /// The file system below `root`, which must be an existing directory.
    ///
    /// A relative path is taken from where the process is now, and stays there if the process moves.
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory` where there is no such directory.
    pub fn new(root: PathBuf) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        if fs::metadata(&root)?.is_dir() { Ok(Self { root }) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// The machine's path for a path of the store, which may not lead out of the root.
    fn native(&self, path: &Path) -> io::Result<PathBuf> {
        if path.components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(if path == Path::new("") { self.root.clone() } else { self.root.join(path) })
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "path leaves the root of the store"))
        }
    }
}

impl FileSystem for RealFileSystem {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(self.native(path)?)?;
        Ok(Box::new(RealFile { file }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).write(mode == OpenMode::ReadWrite).open(self.native(path)?)?;
        Ok(Box::new(RealFile { file }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.native(path)?)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.native(from)?, self.native(to)?);
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.native(from)?, self.native(to)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIRECTORY_MODE).create(self.native(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(self.native(path)?, flags, Mode::empty())?;
        Ok(rustix::fs::fsync(directory)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.native(path)?)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_file() => EntryKind::File,
                Ok(kind) if kind.is_dir() => EntryKind::Directory,
                Ok(_) => EntryKind::Other,
                // Removed while the directory was being read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            // A name that is not text is nobody's of ours, and cannot become equal to one of ours by the replacement.
            entries.push(Entry { name: OsStr::to_string_lossy(&entry.file_name()).into_owned(), kind });
        }
        Ok(entries)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let metadata = fs::metadata(self.native(path)?)?;
        if metadata.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(metadata.len()) }
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            // Where inodes are made as they are needed, both numbers are 0.
            files: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        })
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(self.native(path)?)?;
        // The lock belongs to this opening of the file, so that it also keeps out a second one of this process.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(file)?.into()),
            Err(e) => return Err(e.into()),
        }
        let lock = RealLock { file: RealFile { file } };
        // The lock is held; that the holder's name finds no room on a full medium is no reason to give it up. Written
        // before the old name is cut off, because what is written over needs no room.
        let named = lock.file.write_all_at(holder.as_bytes(), 0);
        let _ = named.and_then(|()| lock.file.set_len(holder.len() as u64));
        Ok(Box::new(lock))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        let file = OpenOptions::new().read(true).open(self.native(path)?)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Box::new(RealLock { file: RealFile { file } })),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(held(file)?.into()),
            Err(e) => Err(e.into()),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(self.native(from)?, self.native(to)?)
    }

    /// Knows network file systems, those that live in memory or in a program, FAT, and directories that cannot be synced.
    fn suitability(&self) -> Suitability {
        let kind = match rustix::fs::statfs(&self.root) {
            Ok(stat) => stat.f_type,
            Err(e) => {
                let refused = Some(format!("the kind of the file system is unknown error={e}"));
                return Suitability { refused, warning: None };
            }
        };
        let Suitability { refused, warning } = suitability_of(kind);
        // Any other error says that this sync failed, which opening says better: it syncs for itself.
        let cannot = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS));
        let unsynced = || {
            let failed = self.sync_dir(Path::new("")).err().filter(cannot);
            failed.map(|e| format!("directories cannot be synced error={e}"))
        };
        Suitability { refused: refused.or_else(unsynced), warning }
    }

    fn native_root(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

/// Who says in a lock file that the lock is theirs.
fn held(file: fs::File) -> io::Result<LockHeld> {
    let mut bytes = Vec::new();
    file.take(HOLDER_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(LockHeld::new(String::from_utf8_lossy(&bytes)))
}

/// The lock, held for as long as this value lives. The file stays: removing it would let two processes lock two files
/// of one name.
#[derive(Debug)]
struct RealLock {
    file: RealFile,
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // A child that was forked meanwhile shares the opening; closing ours alone would leave the lock with it.
        let _ = rustix::fs::flock(&self.file.file, FlockOperation::Unlock);
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = vec![0; 64 << 10];
                let mut at = 0;
                while at < len {
                    let run = zeros.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
                    self.write_all_at(zeros.get(..run).unwrap_or_default(), at)?;
                    at += run as u64;
                }
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        // The standard library's call repeats an interrupted sync; this one does not.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        sys::start_writeback(self.file.as_fd(), offset, len)
    }

    fn forget(&self, offset: u64, len: u64) {
        // Without a length it would mean everything up to the end.
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), rustix::fs::Advice::DontNeed);
        }
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::InvalidInput)?;
        // Also bounds the allocation below by what the file really has.
        if end > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if len == 0 {
            return Ok(Box::new(Vec::new()));
        }
        if let Some(map) = mmap::populated(&self.file, offset, len) {
            return Ok(Box::new(map));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        self.read_exact_at(&mut bytes, offset)?;
        Ok(Box::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From linux/magic.h.
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517b;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    const V9FS: i64 = 0x0102_1997;
    const MSDOS: i64 = 0x4d44;
    const FUSE: i64 = 0x6573_5546;
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAYFS: i64 = 0x794c_7630;
    const EXT4: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;

    #[test]
    fn media_are_known_by_their_kind() {
        for (kind, name) in [(NFS, "nfs"), (SMB, "smb"), (CIFS, "cifs"), (SMB2, "smb2"), (V9FS, "9p"), (MSDOS, "fat")] {
            let said = suitability_of(kind);
            assert!(said.refused.is_some_and(|reason| reason.starts_with(name)), "{name}");
            assert_eq!(said.warning, None, "{name}");
        }
        for (kind, name) in [(FUSE, "fuse"), (TMPFS, "tmpfs"), (OVERLAYFS, "overlayfs")] {
            let said = suitability_of(kind);
            assert!(said.warning.is_some_and(|warning| warning.starts_with(name)), "{name}");
            assert_eq!(said.refused, None, "{name}");
        }
        for kind in [EXT4, XFS, BTRFS] {
            assert_eq!(suitability_of(kind), Suitability::default());
        }
    }
}
