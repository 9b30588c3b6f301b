//! A file system in memory that can be cut off at any call and found again as a power cut may leave it.
//!
//! A file has durable bytes and, in order, pages of 4 KiB that were written and not synced; its length is a change of
//! its own, so that it may be on disk without the bytes or the bytes without it. A directory has durable names and
//! changes of names that wait for a sync of the directory. Syncing a file says nothing of its name. A rename is two
//! changes, the new name and then the end of the old one, so that a crash may leave both names but never neither. Of a
//! lock file only the name can be lost.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layerhold::store::fs::{Entry, EntryKind, File, FileSystem, LockHeld, OpenMode, Space};

use super::rng::{Rng, mix};
use tree::{DirectoryNode, FileNode, Id, Node, ROOT, Tree};

mod content;
mod crash;
mod tree;

use crash::Cut;
pub use crash::{CrashPolicy, CrashStates};

/// The most that a lock's refusal repeats of the lock file.
const HOLDER_BYTES_MAX: usize = 1024;

const EXCLUSIVE: usize = usize::MAX;

/// A crashing file system in memory. Clones are the same file system.
///
/// Everything follows from the seed and the order of the calls.
#[derive(Clone)]
pub struct SimFileSystem {
    state: Arc<Mutex<State>>,
}

struct State {
    tree: Tree,
    seed: u64,
    /// How many hold a file's lock together; `EXCLUSIVE` stands for one who holds it alone.
    locked: BTreeMap<Id, usize>,
    /// Processes that ended so far: their locks ended with them.
    ended: u64,
    calls: u64,
    mutating_calls: u64,
    syncs: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// The sync, by its number, that fails and loses what it was to make durable.
    fail_sync: Option<u64>,
    capacity: u64,
    used: u64,
    files_max: u64,
    watcher: Option<Watcher>,
}

/// Called before each call that changes the medium, with the file system as it stands.
type Watcher = Box<dyn FnMut(&SimFileSystem) + Send>;

/// The error of every call once the file system is cut off.
#[derive(Debug)]
struct SimulatedCrash;

impl std::fmt::Display for SimulatedCrash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the simulated machine lost its power")
    }
}

impl std::error::Error for SimulatedCrash {}

/// Whether `error`, or what led to it, is a call to a file system that was cut off.
#[must_use]
pub fn is_crash(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<SimulatedCrash>() || inner.is_some_and(|inner| inner.is::<SimulatedCrash>()) {
            return true;
        }
        next = error.source();
    }
    false
}

enum Kind {
    Reading,
    Mutating,
}

impl SimFileSystem {
    /// An empty file system without limits. The seed decides the order of listings and which states
    /// [`SimFileSystem::crash_states`] chooses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::found(Tree::new(), seed)
    }

    fn found(tree: Tree, seed: u64) -> Self {
        let used = used(&tree);
        Self::found_with(tree, seed, used)
    }

    fn found_with(tree: Tree, seed: u64, used: u64) -> Self {
        let state = State {
            tree,
            seed,
            locked: BTreeMap::new(),
            ended: 0,
            calls: 0,
            mutating_calls: 0,
            syncs: 0,
            crash_at: None,
            crashed: false,
            fail_sync: None,
            capacity: u64::MAX,
            used,
            files_max: u64::MAX,
            watcher: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A test that panics while it holds the lock must not hide its message behind another one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `watcher` before each mutating call from now on, with the file system as it stands; `None` ends it.
    pub fn watch(&self, watcher: Option<Watcher>) {
        self.state().watcher = watcher;
    }

    /// A copy as it stands, pending changes included, that goes its own way. Cheap: bytes are shared until one side writes.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copy = Self::found_with(state.tree.clone(), mix(state.seed ^ state.calls), state.used);
        (copy.state().capacity, copy.state().files_max) = (state.capacity, state.files_max);
        copy
    }

    fn begin(&self, kind: Kind) -> io::Result<MutexGuard<'_, State>> {
        if matches!(kind, Kind::Mutating) {
            let watcher = self.state().watcher.take();
            if let Some(mut watcher) = watcher {
                watcher(self);
                self.state().watcher = Some(watcher);
            }
        }
        let mut state = self.state();
        state.calls += 1;
        if matches!(kind, Kind::Mutating) {
            state.mutating_calls += 1;
            state.crashed |= state.crash_at.is_some_and(|at| state.mutating_calls >= at);
        }
        if state.crashed { Err(io::Error::other(SimulatedCrash)) } else { Ok(state) }
    }

    /// Calls so far, refused ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Calls so far that change something or make it durable, refused ones included.
    #[must_use]
    pub fn mutating_calls(&self) -> u64 {
        self.state().mutating_calls
    }

    /// Syncs of files and directories so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Cuts the file system off at its `n`-th mutating call, counted from its beginning and from 1: that call does
    /// nothing and fails, and so does every call after it. See [`is_crash`].
    pub fn crash_at(&self, n: u64) {
        self.state().crash_at = Some(n);
    }

    /// Whether it is cut off.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Lets the `n`-th sync from now, counted from 1, fail with EIO and lose what it was to make durable: the bytes or
    /// names stay visible, later syncs succeed, and a crash still takes what was lost, as on ext4.
    pub fn fail_sync(&self, n: u64) {
        let mut state = self.state();
        state.fail_sync = Some(state.syncs + n);
    }

    /// Limits the sum of all file lengths; more is `StorageFull`. What is deleted is free at once.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Leaves room for `files` more files and directories; beyond that making one is `StorageFull`. What is deleted makes room
    /// at once.
    pub fn leave_files(&self, files: u64) {
        let mut state = self.state();
        state.files_max = state.files().saturating_add(files);
    }

    /// Deletes a directory and everything in it behind the store's back, durably. No call is counted.
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory` where there is no such directory.
    pub fn delete_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.tree.remove_directory(path)?;
        state.used = used(&state.tree);
        Ok(())
    }

    /// Makes everything durable as it is visible. No call is counted.
    pub fn settle(&self) {
        self.state().tree.settle();
    }

    /// How many changes a power cut now could keep or lose.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.cut().pending()
    }

    /// A hash of all visible names and bytes: equal for equal file systems, whatever led to them.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let state = self.state();
        crash::hash(&state.tree.nodes, ROOT, &mut vec![false; state.tree.nodes.len()])
    }

    /// The same for one directory; 0 where it is not.
    #[must_use]
    pub fn fingerprint_of(&self, path: &Path) -> u64 {
        let state = self.state();
        let mut named = vec![false; state.tree.nodes.len()];
        state.tree.directory_at(path).map_or(0, |id| crash::hash(&state.tree.nodes, id, &mut named))
    }

    /// The file system as it is found after a power cut now. This one stays as it is.
    #[must_use]
    pub fn crash(&self, policy: CrashPolicy) -> Self {
        let cut = self.cut();
        let (tree, hash) = cut.state(cut.fates(policy));
        Self::found(tree, mix(self.state().seed ^ hash))
    }

    /// At most `limit` distinct states that a power cut now can leave, first the one without any pending change, then
    /// the one with all.
    ///
    /// With at most 12 pending changes they are all subsets, then the same with the last page of each torn. With more
    /// they are prefixes (the last page whole and torn), all changes but one, each change alone, and random mixtures,
    /// in an order that the seed decides.
    #[must_use]
    pub fn crash_states(&self, limit: usize) -> CrashStates {
        let cut = self.cut();
        let seed = { mix(self.state().seed ^ 1) };
        CrashStates::new(cut, seed, limit)
    }

    /// The same file system without the process that had it open, as after a kill: everything visible stays visible
    /// and everything pending stays pending, no lock is held, and it is not cut off. This one stays as it is.
    #[must_use]
    pub fn kill(&self) -> Self {
        let (tree, seed) = {
            let state = self.state();
            (state.tree.clone(), mix(state.seed ^ 2))
        };
        Self::found(tree, seed)
    }

    /// Lets go of all locks, as the end of the process that holds them does, whoever still has handles of it here.
    pub fn end_process(&self) {
        let mut state = self.state();
        state.locked.clear();
        state.ended += 1;
    }

    fn cut(&self) -> Cut {
        let tree = self.state().tree.clone();
        Cut::new(tree)
    }

    fn handle(&self, id: Id, writable: bool) -> Box<dyn File> {
        Box::new(SimFile { fs: self.clone(), id, writable })
    }

    fn sync(&self, find: impl FnOnce(&Tree) -> io::Result<Id>) -> io::Result<()> {
        let mut state = self.begin(Kind::Mutating)?;
        state.syncs += 1;
        let id = find(&state.tree)?;
        if state.fail_sync == Some(state.syncs) {
            state.tree.lose(id);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        match state.tree.node(id) {
            Node::File(_) => state.tree.sync_file(id),
            Node::Directory(_) => state.tree.sync_directory(id),
        }
        Ok(())
    }
}

/// The sum of all file lengths.
fn used(tree: &Tree) -> u64 {
    let lengths = tree.within_reach().into_iter().map(|id| match tree.node(id) {
        Node::File(file) => file.visible.len(),
        Node::Directory(_) => 0,
    });
    lengths.sum()
}

impl State {
    fn held(&self, id: Id) -> LockHeld {
        let mut bytes = vec![0; HOLDER_BYTES_MAX];
        let len = self.tree.file(id).visible.read_at(&mut bytes, 0);
        LockHeld::new(String::from_utf8_lossy(&bytes[..len]))
    }

    /// Files and directories that have a name.
    fn files(&self) -> u64 {
        let mut named = vec![false; self.tree.nodes.len()];
        crash::hash(&self.tree.nodes, ROOT, &mut named);
        named.iter().filter(|named| **named).count() as u64
    }

    fn files_left(&self) -> u64 {
        if self.files_max == u64::MAX { u64::MAX } else { self.files_max.saturating_sub(self.files()) }
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<Id> {
        if self.files_left() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.tree.create(path, node)
    }

    fn forget(&mut self, id: Id) {
        self.used = self.used.saturating_sub(self.tree.file(id).visible.len());
    }
}

impl Debug for SimFileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("SimFileSystem")
            .field("seed", &state.seed)
            .field("calls", &state.calls)
            .field("crashed", &state.crashed)
            .finish_non_exhaustive()
    }
}

impl FileSystem for SimFileSystem {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.begin(Kind::Mutating)?;
        let id = state.create(path, Node::File(Arc::new(FileNode::default())))?;
        Ok(self.handle(id, true))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let id = self.begin(Kind::Reading)?.tree.file_at(path)?;
        Ok(self.handle(id, mode == OpenMode::ReadWrite))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Kind::Mutating)?;
        let id = state.tree.remove_file(path)?;
        state.forget(id);
        Ok(())
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Kind::Mutating)?.tree.rename(from, to, false).map(|_| ())
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Kind::Mutating)?;
        if let Some(replaced) = state.tree.rename(from, to, true)? {
            state.forget(replaced);
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let node = Node::Directory(Arc::new(DirectoryNode::default()));
        self.begin(Kind::Mutating)?.create(path, node).map(|_| ())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync(|tree| tree.directory_at(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.begin(Kind::Reading)?;
        let directory = state.tree.directory(state.tree.directory_at(path)?);
        let kind = |id: &Id| match state.tree.node(*id) {
            Node::File(_) => EntryKind::File,
            Node::Directory(_) => EntryKind::Directory,
        };
        let mut entries: Vec<Entry> =
            directory.visible.iter().map(|(name, id)| Entry { name: name.to_string(), kind: kind(id) }).collect();
        // Nobody may rely on an order, so each listing has another one.
        let mut rng = Rng::new(state.seed ^ state.calls);
        for last in (1..entries.len()).rev() {
            entries.swap(last, rng.below(last as u64 + 1) as usize);
        }
        Ok(entries)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let state = self.begin(Kind::Reading)?;
        Ok(state.tree.file(state.tree.file_at(path)?).visible.len())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.begin(Kind::Reading)?;
        let available = state.capacity.saturating_sub(state.used);
        Ok(Space { available, total: state.capacity, files: state.files_left() })
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let mut state = self.begin(Kind::Mutating)?;
        let id = match state.tree.file_at(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                state.create(path, Node::File(Arc::new(FileNode::default())))?
            }
            found => found?,
        };
        if state.locked.contains_key(&id) {
            return Err(state.held(id).into());
        }
        state.locked.insert(id, EXCLUSIVE);
        state.forget(id);
        state.tree.hold(id, holder.as_bytes());
        state.used += holder.len() as u64;
        Ok(Box::new(SimLock { fs: self.clone(), id, ended: state.ended }))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        let mut state = self.begin(Kind::Reading)?;
        let id = state.tree.file_at(path)?;
        match state.locked.get(&id) {
            Some(&EXCLUSIVE) => return Err(state.held(id).into()),
            holders => {
                let together = holders.map_or(1, |holders| holders + 1);
                state.locked.insert(id, together);
            }
        }
        Ok(Box::new(SimLock { fs: self.clone(), id, ended: state.ended }))
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFileSystem,
    id: Id,
    ended: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if state.ended != self.ended {
            return;
        }
        match state.locked.get_mut(&self.id) {
            Some(holders) if *holders > 1 && *holders != EXCLUSIVE => *holders -= 1,
            _ => drop(state.locked.remove(&self.id)),
        }
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFileSystem,
    id: Id,
    writable: bool,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.fs.begin(Kind::Reading)?.tree.file(self.id).visible.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.fs.begin(Kind::Mutating)?;
        self.writable()?;
        if buf.is_empty() {
            return Ok(0);
        }
        let len = state.tree.file(self.id).visible.len();
        let room = len.saturating_add(state.capacity.saturating_sub(state.used)).saturating_sub(offset);
        let buf = &buf[..buf.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if buf.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state.used += (offset + buf.len() as u64).saturating_sub(len);
        state.tree.write(self.id, buf, offset);
        Ok(buf.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.begin(Kind::Mutating)?;
        self.writable()?;
        let used = (state.used + len).saturating_sub(state.tree.file(self.id).visible.len());
        if used > state.capacity && used > state.used {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state.used = used;
        state.tree.set_len(self.id, len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.begin(Kind::Reading)?.tree.file(self.id).visible.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.sync(|_| Ok(self.id))
    }

    fn start_writeback(&self, _offset: u64, _len: u64) -> io::Result<()> {
        // A crash may keep what was written and not synced anyway.
        self.fs.begin(Kind::Reading).map(|_| ())
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        let state = self.fs.begin(Kind::Reading)?;
        let content = &state.tree.file(self.id).visible;
        if offset.checked_add(len as u64).is_none_or(|end| end > content.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        content.read_at(&mut bytes, offset);
        Ok(Box::new(bytes))
    }
}
