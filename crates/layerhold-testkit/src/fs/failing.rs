//! A file system that fails where a test wants it to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layerhold::store::fs::{Entry, File, FileSystem, OpenMode, Space, Suitability};

use super::SimFileSystem;

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
    /// A sync of a file fails with EIO and loses what it was to keep, while that stays visible, as on ext4. Other calls are
    /// left alone; a file system that cannot keep a name takes no further change at all. Over a simulated file system
    /// only: see [`FailingFileSystem::over`].
    LostSync,
}

impl Failure {
    /// Every way that any file system can fail in.
    pub const ALL: [Self; 6] = [Self::Eio, Self::Enospc, Self::Eintr, Self::Erofs, Self::ShortWrite, Self::ZeroWrite];

    fn error(self) -> Option<io::Error> {
        let number = match self {
            Self::Eio => libc::EIO,
            Self::Enospc => libc::ENOSPC,
            Self::Eintr => libc::EINTR,
            Self::Erofs => libc::EROFS,
            Self::ShortWrite | Self::ZeroWrite | Self::LostSync => return None,
        };
        Some(io::Error::from_raw_os_error(number))
    }
}

/// How often a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// One call alone.
    Once,
    /// That call and every later one of the fault's kind of call.
    Sticky,
    /// That call and every later one of the same kind of call and of file, as a broken directory or a broken device of the
    /// journal alone would be.
    StickyKind,
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

/// Where a call is made: what it does, to which kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The kind of call.
    pub call: Call,
    /// The kind of file or directory.
    pub class: &'static str,
}

impl Site {
    fn of(call: Call, path: &Path) -> Self {
        Self { call, class: class_of(path) }
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.call, self.class)
    }
}

/// The kind of file or directory that a path of a store stands for.
#[must_use]
pub fn class_of(path: &Path) -> &'static str {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        [] => "root",
        ["blobs"] => "directory of blobs",
        ["blobs", _] => "shard of blobs",
        ["blobs", _, _] => "blob",
        ["journal"] => "journal",
        ["journal", "mark"] => "journal mark",
        ["journal", name] if name.starts_with("spare") => "journal spare",
        ["journal", _] => "journal segment",
        ["table"] => "directory of the table",
        ["FORMAT" | "FORMAT.new" | "FORMAT.again"] => "format file",
        ["RECOVERY" | "RECOVERY.new"] => "recovery plan",
        ["ballast"] => "ballast",
        ["LOCK"] => "lock file",
        [name] if name.starts_with("aside-") => "directory aside",
        [name, ..] if name.starts_with("aside-") => "file set aside",
        [_] => "file in the root",
        _ => "file elsewhere",
    }
}

/// Passes calls on to another file system, counts them, and lets chosen ones fail before they have any effect.
///
/// Clones share counts and fault. A sync that fails here has no effect on the file system below; one that also loses
/// what it was asked to keep is [`SimFileSystem::fail_sync`](super::SimFileSystem::fail_sync).
#[derive(Debug, Clone)]
pub struct FailingFileSystem {
    inner: Arc<dyn FileSystem>,
    sim: Option<SimFileSystem>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: [u64; Call::ALL.len()],
    fault: Option<Fault>,
    armed: bool,
    /// Calls of the fault's kind since it was armed, and how many of them failed.
    matching: u64,
    fired: u64,
    sticks_to: Option<Site>,
    /// Every place where a call was made while a fault was armed, and how often one failed there.
    sites: BTreeMap<Site, u64>,
    /// Files whose sync failed, and directories whose sync failed and in which no name has changed since; and what of both
    /// was synced again nevertheless.
    failed_syncs: BTreeSet<PathBuf>,
    synced_again: BTreeSet<PathBuf>,
    /// How many syncs failed since the fault was armed.
    syncs_failed: u64,
    /// The names that open files have now.
    open: BTreeMap<u64, PathBuf>,
    opened: u64,
}

/// What becomes of a call that is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Whole,
    Short,
    Nothing,
    /// A sync that fails below.
    Lost,
}

/// How often a sticky interruption comes.
const INTERRUPTIONS: u64 = 3;

impl FailingFileSystem {
    /// `inner`, with nothing failing yet.
    #[must_use]
    pub fn new(inner: Arc<dyn FileSystem>) -> Self {
        Self { inner, sim: None, shared: Arc::default() }
    }

    /// The same over a simulated file system, whose syncs can also lose what they were to keep.
    #[must_use]
    pub fn over(sim: &SimFileSystem) -> Self {
        Self { inner: Arc::new(sim.clone()), sim: Some(sim.clone()), shared: Arc::default() }
    }

    /// Sets the one fault there is and begins to count for it.
    pub fn arm(&self, fault: Fault) {
        let mut shared = self.shared();
        shared.armed = true;
        (shared.fault, shared.matching, shared.fired, shared.sticks_to) = (Some(fault), 0, 0, None);
        shared.syncs_failed = 0;
    }

    /// Lets everything succeed again.
    pub fn disarm(&self) {
        self.shared().armed = false;
    }

    /// Whether as many calls were made since the fault was armed as it wants, whether or not that one could fail.
    #[must_use]
    pub fn reached(&self) -> bool {
        let shared = self.shared();
        shared.fault.is_some_and(|fault| shared.matching >= fault.nth)
    }

    /// How many calls failed since the fault was armed.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.shared().fired
    }

    /// How many syncs of files and directories failed since the fault was armed.
    #[must_use]
    pub fn syncs_failed(&self) -> u64 {
        self.shared().syncs_failed
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

    /// Every place where a call was made while a fault was armed, and how often one failed there.
    #[must_use]
    pub fn sites(&self) -> BTreeMap<Site, u64> {
        self.shared().sites.clone()
    }

    /// Files that were synced after a sync of theirs had failed, and directories where that happened with no name changed
    /// between the two: such a sync can only mean to make good for the first.
    #[must_use]
    pub fn synced_again(&self) -> Vec<PathBuf> {
        self.shared().synced_again.iter().cloned().collect()
    }

    /// A store that is opened again writes what it needs again and may sync it.
    pub fn forget_failed_syncs(&self) {
        self.shared().failed_syncs.clear();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: Call, path: &Path) -> io::Result<Pass> {
        let mut shared = self.shared();
        let site = Site::of(call, path);
        // Where nothing can fail, a call says nothing of where failures were met.
        if shared.armed {
            shared.sites.entry(site).or_default();
        }
        let is_sync = matches!(call, Call::SyncData | Call::SyncDir);
        if is_sync && shared.failed_syncs.contains(path) {
            shared.synced_again.insert(path.to_owned());
        }
        let pass = shared.begin(site);
        if !matches!(pass, Ok(Pass::Whole)) {
            *shared.sites.entry(site).or_default() += 1;
            if is_sync {
                shared.failed_syncs.insert(path.to_owned());
                shared.syncs_failed += 1;
            }
        }
        pass
    }

    fn wrap(&self, file: Box<dyn File>, path: &Path) -> Box<dyn File> {
        let mut shared = self.shared();
        shared.opened += 1;
        let number = shared.opened;
        shared.open.insert(number, path.to_owned());
        Box::new(FailingFile { fs: self.clone(), inner: file, number })
    }

    /// Lets the sync that comes next fail below.
    fn lose(&self, pass: Pass) {
        if let (Pass::Lost, Some(sim)) = (pass, &self.sim) {
            sim.fail_sync(1);
        }
    }

    /// A name changed, so its directory has something new to make durable.
    fn changed(&self, name: &Path) {
        self.shared().failed_syncs.remove(name.parent().unwrap_or(Path::new("")));
    }

    /// Open files go by the name that they have now.
    fn renamed(&self, from: &Path, to: &Path) {
        self.changed(from);
        self.changed(to);
        for path in self.shared().open.values_mut().filter(|path| *path == from) {
            *path = to.to_owned();
        }
    }
}

impl Shared {
    fn begin(&mut self, site: Site) -> io::Result<Pass> {
        let (shared, call) = (self, site.call);
        shared.counts[call as usize] += 1;
        let Some(fault) = shared.fault.filter(|fault| shared.armed && fault.call.is_none_or(|kind| kind == call))
        else {
            return Ok(Pass::Whole);
        };
        shared.matching += 1;
        if shared.matching == fault.nth {
            shared.sticks_to = Some(site);
        }
        let meant = match fault.repeat {
            Repeat::Once => shared.matching == fault.nth,
            Repeat::Sticky => shared.matching >= fault.nth,
            Repeat::StickyKind => shared.sticks_to == Some(site),
        };
        if !meant || (fault.failure == Failure::Eintr && shared.fired >= INTERRUPTIONS) {
            return Ok(Pass::Whole);
        }
        let pass = match fault.failure {
            Failure::ShortWrite => Pass::Short,
            Failure::ZeroWrite => Pass::Nothing,
            Failure::LostSync => Pass::Lost,
            _ => Pass::Whole,
        };
        let concerns = match pass {
            Pass::Whole => true,
            Pass::Short | Pass::Nothing => call == Call::Write,
            Pass::Lost => call == Call::SyncData,
        };
        if !concerns {
            return Ok(Pass::Whole);
        }
        shared.fired += 1;
        fault.failure.error().map_or(Ok(pass), Err)
    }
}

impl FileSystem for FailingFileSystem {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.begin(Call::CreateNew, path)?;
        self.inner.create_new(path).inspect(|_| self.changed(path)).map(|file| self.wrap(file, path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.begin(Call::Open, path)?;
        self.inner.open(path, mode).map(|file| self.wrap(file, path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.begin(Call::RemoveFile, path)?;
        self.inner.remove_file(path).inspect(|()| self.changed(path))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Call::Rename, from)?;
        self.inner.rename_noreplace(from, to).inspect(|()| self.renamed(from, to))
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Call::Rename, from)?;
        self.inner.rename_replace(from, to).inspect(|()| self.renamed(from, to))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(Call::CreateDir, path)?;
        self.inner.create_dir(path).inspect(|()| self.changed(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(Call::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.begin(Call::List, path)?;
        self.inner.list(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.begin(Call::FileLen, path)?;
        self.inner.file_len(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.begin(Call::Space, Path::new(""))?;
        self.inner.space()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.begin(Call::Lock, path)?;
        self.inner.lock(path, holder)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.begin(Call::Lock, path)?;
        self.inner.lock_shared(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Call::Rename, from)?;
        self.inner.hard_link(from, to).inspect(|()| self.changed(to))
    }

    fn suitability(&self) -> Suitability {
        self.inner.suitability()
    }

    fn native_root(&self) -> Option<&Path> {
        self.inner.native_root()
    }
}

#[derive(Debug)]
struct FailingFile {
    fs: FailingFileSystem,
    inner: Box<dyn File>,
    number: u64,
}

impl FailingFile {
    fn begin(&self, call: Call) -> io::Result<Pass> {
        let path = self.fs.shared().open.get(&self.number).cloned().unwrap_or_default();
        self.fs.begin(call, &path)
    }
}

impl Drop for FailingFile {
    fn drop(&mut self) {
        self.fs.shared().open.remove(&self.number);
    }
}

impl File for FailingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.begin(Call::Read)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        match self.begin(Call::Write)? {
            Pass::Whole => self.inner.write_at(buf, offset),
            Pass::Short => self.inner.write_at(&buf[..buf.len().div_ceil(2)], offset),
            Pass::Nothing | Pass::Lost => Ok(0),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.begin(Call::SetLen)?;
        self.inner.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.begin(Call::SetLen)?;
        self.inner.allocate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.begin(Call::Len)?;
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        let pass = self.begin(Call::SyncData)?;
        self.fs.lose(pass);
        self.inner.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.begin(Call::StartWriteback)?;
        self.inner.start_writeback(offset, len)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        self.begin(Call::Map)?;
        self.inner.map(offset, len)
    }
}
