//! A file system that fails where a test wants it to.

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layerhold::store::fs::{Entry, File, FileSystem, OpenMode, Space};

/// The kinds of calls that are counted and can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Call {
    CreateNew,
    Open,
    RemoveFile,
    Rename,
    CreateDir,
    SyncDir,
    List,
    FileLen,
    Space,
    Lock,
    Read,
    Write,
    SetLen,
    Len,
    SyncData,
    StartWriteback,
    Map,
}

impl Call {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::CreateNew,
        Self::Open,
        Self::RemoveFile,
        Self::Rename,
        Self::CreateDir,
        Self::SyncDir,
        Self::List,
        Self::FileLen,
        Self::Space,
        Self::Lock,
        Self::Read,
        Self::Write,
        Self::SetLen,
        Self::Len,
        Self::SyncData,
        Self::StartWriteback,
        Self::Map,
    ];
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// EIO: the medium.
    Eio,
    /// ENOSPC: no room.
    Enospc,
    /// EINTR: a signal. Sticky, it comes three times, because a caller may repeat it for as long as it comes.
    Eintr,
    /// EROFS: the file system became read-only.
    Erofs,
    /// A write takes only a part of the bytes. Other calls are left alone.
    ShortWrite,
    /// A write takes no byte and reports no error. Other calls are left alone.
    ZeroWrite,
}

impl Failure {
    /// Every way.
    pub const ALL: [Self; 6] = [Self::Eio, Self::Enospc, Self::Eintr, Self::Erofs, Self::ShortWrite, Self::ZeroWrite];

    fn error(self) -> Option<io::Error> {
        let number = match self {
            Self::Eio => libc::EIO,
            Self::Enospc => libc::ENOSPC,
            Self::Eintr => libc::EINTR,
            Self::Erofs => libc::EROFS,
            Self::ShortWrite | Self::ZeroWrite => return None,
        };
        Some(io::Error::from_raw_os_error(number))
    }
}

/// How often a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// One call alone.
    Once,
    /// That call and every later one of the kind.
    Sticky,
}

/// What fails, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The kind of call; `None` for any.
    pub call: Option<Call>,
    /// Which call of the kind, counted from 1 and from [`FailingFileSystem::arm`].
    pub nth: u64,
    /// How it fails.
    pub failure: Failure,
    /// How often.
    pub repeat: Repeat,
}

/// Passes calls on to another file system, counts them, and lets chosen ones fail before they have any effect.
///
/// Clones share counts and fault. A sync that fails here has no effect on the file system below; one that also loses
/// what it was asked to keep is [`SimFileSystem::fail_sync`](super::SimFileSystem::fail_sync).
#[derive(Debug, Clone)]
pub struct FailingFileSystem {
    inner: Arc<dyn FileSystem>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: [u64; Call::ALL.len()],
    fault: Option<Fault>,
    /// Calls of the fault's kind since it was armed, and how many of them failed.
    matching: u64,
    fired: u64,
}

/// What becomes of a call that is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Whole,
    Short,
    Nothing,
}

/// How often a sticky interruption comes.
const INTERRUPTIONS: u64 = 3;

impl FailingFileSystem {
    /// `inner`, with nothing failing yet.
    #[must_use]
    pub fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// Sets the one fault there is and begins to count for it.
    pub fn arm(&self, fault: Fault) {
        let mut shared = self.shared();
        (shared.fault, shared.matching, shared.fired) = (Some(fault), 0, 0);
    }

    /// Lets everything succeed again.
    pub fn disarm(&self) {
        self.shared().fault = None;
    }

    /// How many calls failed since the fault was armed.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.shared().fired
    }

    /// Calls of one kind so far, failed ones included.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.shared().counts[call as usize]
    }

    /// Calls of all kinds so far, failed ones included.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.shared().counts.iter().sum()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: Call) -> io::Result<Pass> {
        let mut shared = self.shared();
        shared.counts[call as usize] += 1;
        let Some(fault) = shared.fault.filter(|fault| fault.call.is_none_or(|kind| kind == call)) else {
            return Ok(Pass::Whole);
        };
        shared.matching += 1;
        let last = match (fault.repeat, fault.failure) {
            (Repeat::Once, _) => fault.nth,
            (Repeat::Sticky, Failure::Eintr) => fault.nth.saturating_add(INTERRUPTIONS - 1),
            (Repeat::Sticky, _) => u64::MAX,
        };
        if !(fault.nth..=last).contains(&shared.matching) {
            return Ok(Pass::Whole);
        }
        let pass = match fault.failure {
            Failure::ShortWrite => Pass::Short,
            Failure::ZeroWrite => Pass::Nothing,
            _ => Pass::Whole,
        };
        if pass != Pass::Whole && call != Call::Write {
            return Ok(Pass::Whole);
        }
        shared.fired += 1;
        fault.failure.error().map_or(Ok(pass), Err)
    }

    fn wrap(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(FailingFile { fs: self.clone(), inner: file })
    }
}

impl FileSystem for FailingFileSystem {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.begin(Call::CreateNew)?;
        self.inner.create_new(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.begin(Call::Open)?;
        self.inner.open(path, mode).map(|file| self.wrap(file))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.begin(Call::RemoveFile)?;
        self.inner.remove_file(path)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Call::Rename)?;
        self.inner.rename_noreplace(from, to)
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Call::Rename)?;
        self.inner.rename_replace(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(Call::CreateDir)?;
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(Call::SyncDir)?;
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.begin(Call::List)?;
        self.inner.list(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.begin(Call::FileLen)?;
        self.inner.file_len(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.begin(Call::Space)?;
        self.inner.space()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.begin(Call::Lock)?;
        self.inner.lock(path, holder)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.begin(Call::Lock)?;
        self.inner.lock_shared(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Call::Rename)?;
        self.inner.hard_link(from, to)
    }

    fn native_root(&self) -> Option<&Path> {
        self.inner.native_root()
    }
}

#[derive(Debug)]
struct FailingFile {
    fs: FailingFileSystem,
    inner: Box<dyn File>,
}

impl File for FailingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.begin(Call::Read)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        match self.fs.begin(Call::Write)? {
            Pass::Whole => self.inner.write_at(buf, offset),
            Pass::Short => self.inner.write_at(&buf[..buf.len().div_ceil(2)], offset),
            Pass::Nothing => Ok(0),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.begin(Call::SetLen)?;
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.fs.begin(Call::Len)?;
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.begin(Call::SyncData)?;
        self.inner.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fs.begin(Call::StartWriteback)?;
        self.inner.start_writeback(offset, len)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        self.fs.begin(Call::Map)?;
        self.inner.map(offset, len)
    }
}
