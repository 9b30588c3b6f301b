//! The directories that blobs are spread over, and which of their names are durable.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::{Condvar, Mutex};

use super::DIRECTORY;
use crate::store::StorageError;
use crate::store::error::SHARED_SYNC;
use crate::store::fs::{EntryKind, FileSystem};

/// One shard for each first byte of a location.
const SHARDS: usize = 256;

/// All shards of a store.
#[derive(Debug)]
pub(super) struct Shards {
    shards: Box<[Shard]>,
    /// Held while a shard is made, so that at most one name in the directory of blobs waits for its sync.
    making: Mutex<()>,
}

#[derive(Debug)]
struct Shard {
    state: Mutex<State>,
    /// Tells the waiting that a sync ended.
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    existence: Existence,
    /// Syncs that failed so far.
    failures: u64,
    /// Syncs of this directory that began, and the youngest of them that succeeded.
    begun: u64,
    succeeded: u64,
    running: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existence {
    Absent,
    Durable,
    /// The sync of its name failed, and no other sync can make up for that.
    Unknown,
}

/// What a file that is about to be made must remember of its shard: the syncs that had failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    failures: u64,
}

/// The shard that a directory name stands for; `None` for a foreign name.
pub(super) fn number_of(name: &str) -> Option<u8> {
    let number = u8::from_str_radix(name, 16).ok()?;
    (format!("{number:02x}") == name).then_some(number)
}

fn path_of(shard: u8) -> PathBuf {
    format!("{DIRECTORY}/{shard:02x}").into()
}

impl Shards {
    /// Finds the shards that exist and makes their names durable: a process that was killed may have left one whose
    /// name is not.
    pub(super) fn open(fs: &dyn FileSystem) -> io::Result<Self> {
        let mut existing = [Existence::Absent; SHARDS];
        for entry in fs.list(Path::new(DIRECTORY))? {
            let number = (entry.kind == EntryKind::Directory).then(|| number_of(&entry.name)).flatten();
            if let Some(shard) = number.and_then(|number| existing.get_mut(usize::from(number))) {
                *shard = Existence::Durable;
            }
        }
        fs.sync_dir(Path::new(DIRECTORY))?;
        Ok(Self::new(existing))
    }

    /// Shards that nothing is known of, for a store that makes no files.
    pub(super) fn unknown() -> Self {
        Self::new([Existence::Unknown; SHARDS])
    }

    fn new(existing: [Existence; SHARDS]) -> Self {
        let shards = existing.into_iter().map(|existence| Shard {
            state: Mutex::new(State { existence, failures: 0, begun: 0, succeeded: 0, running: false }),
            ended: Condvar::new(),
        });
        Self { shards: shards.collect(), making: Mutex::new(()) }
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many shards as bytes")]
    fn shard(&self, number: u8) -> &Shard {
        &self.shards[usize::from(number)]
    }

    /// Makes the shard, with its name durable, unless it exists. Comes before a file is made in it.
    pub(super) fn enter(&self, fs: &dyn FileSystem, number: u8) -> Result<Entry, StorageError> {
        let shard = self.shard(number);
        if let Some(entry) = shard.entry(number)? {
            return Ok(entry);
        }
        let _making = self.making.lock();
        // Another thread may have made it while this one waited.
        if let Some(entry) = shard.entry(number)? {
            return Ok(entry);
        }
        let path = path_of(number);
        match fs.create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::io("create directory", path, e));
            }
            _ => {}
        }
        let result = fs.sync_dir(Path::new(DIRECTORY));
        let mut state = shard.state.lock();
        if let Err(e) = result {
            if !never_began(&e) {
                state.existence = Existence::Unknown;
            }
            return Err(StorageError::io("sync directory", DIRECTORY, e));
        }
        state.existence = Existence::Durable;
        Ok(Entry { failures: state.failures })
    }

    /// Makes durable that the files are gone which were removed from the shard before the call. Once a sync of the shard
    /// failed nobody can tell of which of them that holds, until the store is opened again.
    pub(super) fn sync_removed(&self, fs: &dyn FileSystem, number: u8) -> Result<(), StorageError> {
        let entry = match self.shard(number).entry(number)? {
            None => return Ok(()),
            Some(Entry { failures: 0 }) => Entry { failures: 0 },
            Some(_) => return Err(failed_earlier(number)),
        };
        self.sync(fs, number, entry)
    }

    /// Makes durable the names of all files that were made in the shard before the call. Callers that wait at the same
    /// time share one sync.
    pub(super) fn sync(&self, fs: &dyn FileSystem, number: u8, entry: Entry) -> Result<(), StorageError> {
        let shard = self.shard(number);
        let mut state = shard.state.lock();
        // A sync that runs already may have begun before the file was made; the next one cannot have.
        let enough = state.begun + 1;
        while state.failures == entry.failures && state.succeeded < enough {
            if state.running {
                shard.ended.wait(&mut state);
                continue;
            }
            state.running = true;
            state.begun += 1;
            let this = state.begun;
            drop(state);
            let result = fs.sync_dir(&path_of(number));
            state = shard.state.lock();
            state.running = false;
            match &result {
                Ok(()) => state.succeeded = this,
                Err(e) if never_began(e) => {}
                Err(_) => state.failures += 1,
            }
            shard.ended.notify_all();
            if let Err(e) = result {
                return Err(StorageError::io("sync directory", path_of(number), e));
            }
        }
        if state.failures == entry.failures { Ok(()) } else { Err(failed_earlier(number)) }
    }
}

impl Shard {
    fn entry(&self, number: u8) -> Result<Option<Entry>, StorageError> {
        let state = self.state.lock();
        match state.existence {
            Existence::Absent => Ok(None),
            Existence::Durable => Ok(Some(Entry { failures: state.failures })),
            Existence::Unknown => Err(failed_earlier(number)),
        }
    }
}

/// Whether a directory could not even be opened for its sync: nothing was handed to the medium, so nothing is lost.
fn never_began(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn failed_earlier(number: u8) -> StorageError {
    let message = "an earlier sync of the directory failed";
    StorageError::io(SHARED_SYNC, path_of(number), io::Error::other(message))
}
