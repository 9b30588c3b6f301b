//! The two storage traits and what implements them.
//!
//! Everything above this module works on an ordered map of rows ([`MetadataStore`]) and on files of bytes that are
//! written once ([`BlobStore`]). What a store must promise is written on the traits; the contract suites of
//! `layerhold-testkit` hold every implementation to it.
//!
//! | trait | implementations |
//! |---|---|
//! | [`MetadataStore`] | [`Journaled`](journaled::Journaled) over a [`Table`](table::Table): RocksDB, or memory |
//! | [`BlobStore`] | [`LocalBlobStore`](local::LocalBlobStore) over a [`FileSystem`](fs::FileSystem) |
//! | [`FileSystem`](fs::FileSystem) | [`RealFileSystem`](real::RealFileSystem); failing and crashing ones in the test kit |

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

pub mod batch;
pub mod blobs;
mod cache;
pub mod error;
pub mod fs;
mod hashed;
pub mod home;
pub mod journal;
pub mod journaled;
pub mod local;
pub mod lock;
pub mod mem;
mod mmap;
pub(crate) mod overlay;
mod pending;
pub(crate) mod readonly;
pub mod real;
#[cfg(feature = "rocksdb")]
pub mod rocks;
mod sys;
pub mod table;
mod values;

pub use batch::Batch;
pub use blobs::{BlobStore, Location, StagedBlob, StoredBlob};
pub use error::{CommitError, StorageError};
pub use values::Values;

/// How a row is held from [`MetadataStore::lock_and_get`] until its [`LockSet`] is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// "I read it and rely on it": any number of holders, none of them exclusive.
    Shared,
    /// "I write it, delete it, or rely on its absence": one holder.
    Exclusive,
}

/// What is on the medium when [`MetadataStore::commit`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The group survives a process kill and a power cut.
    Synced,
    /// The group survives neither for certain, is applied whole or not at all, and takes no sequence number.
    Relaxed,
}

/// How far a group has come while [`MetadataStore::commit`] is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// It is as durable as it was asked to be, and every view made from now on shows it: whoever wrote it may be told.
    Committed,
    /// The store can take the following group.
    Next,
}

/// One transaction's writes, with the locks it holds until they are applied.
#[derive(Debug)]
pub struct Member {
    /// The rows that are held; released when the member is dropped.
    pub locks: LockSet,
    /// What to write. Shared: readers may look at it while it is applied.
    pub batch: Arc<Batch>,
}

impl Member {
    /// A member that writes `batch` under `locks`.
    #[must_use]
    pub fn new(locks: LockSet, batch: Batch) -> Self {
        Self { locks, batch: Arc::new(batch) }
    }
}

/// Rows that are locked, with the values they had once the locks were held.
pub struct LockSet {
    values: Values,
    guard: Box<dyn Any + Send + Sync>,
}

impl LockSet {
    /// Wraps `values`, in the order in which the rows were asked for, and whatever releases the locks when dropped.
    pub fn new(values: Values, guard: Box<dyn Any + Send + Sync>) -> Self {
        Self { values, guard }
    }

    /// What releases the locks, for the store that made it: it may ask its own guard what is held.
    pub fn guard(&self) -> &(dyn Any + Send + Sync) {
        &*self.guard
    }

    /// The value of each row asked for, in that order; `None` for an absent row.
    pub fn values(&self) -> &Values {
        &self.values
    }
}

impl std::fmt::Debug for LockSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockSet").field("rows", &self.values.len()).finish_non_exhaustive()
    }
}

/// A run of keys: from `start` (inclusive) to `end` (exclusive). Both bounds are always given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the run.
    pub start: Vec<u8>,
    /// First key after the run.
    pub end: Vec<u8>,
}

/// Which end of a [`KeyRange`] a scan starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// Called with the key and the value of one row after another; breaking ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reads of one moment: everything a view answers is the state after the same group of commits.
///
/// A view lives inside one engine call. It takes no locks, so a decision must not rest on it alone.
pub trait View {
    /// The value of each key, in order; `None` where the row is absent. A read error is an error, never an absence.
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError>;

    /// Calls `visit` with each row of `range` in order until it breaks or the range ends.
    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError>;

    /// The value of one key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.get_many(&[key])?.pop().flatten())
    }
}

/// An ordered, transactional map of rows.
///
/// Keys are compared as byte strings. A row is visible to readers only once the group that wrote it is durable, and before
/// anybody is told that it is.
pub trait MetadataStore: Send + Sync {
    /// Locks every row in one sorted step, then reads them.
    ///
    /// The answer holds the values in the order asked for. A key asked for twice is locked once in the stronger mode.
    /// Waiting is bounded: a lock that does not come in time is [`StorageError::Unavailable`], and nothing is held.
    ///
    /// A row that is written under its own lock is here as it was committed last. One that others write without it may be
    /// older than what its writer was told: what such a row holds, a view tells.
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError>;

    /// The same without waiting for a lock: `None`, and nothing held, where one is not free. A store that cannot tell
    /// beforehand waits.
    fn try_lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<Option<LockSet>, StorageError> {
        self.lock_and_get(rows).map(Some)
    }

    /// Values of rows, present or not, in the order of the keys. Unlike those of a view they need not belong together, and
    /// what a commit that has not returned yet writes may be among them or not, whatever a view showed or its callers were
    /// told: good for a guess that is judged again under locks, and cheaper where rows are asked for often.
    fn peek(&self, keys: &[&[u8]]) -> Result<Values, StorageError> {
        Ok(self.view()?.get_many(keys)?.into())
    }

    /// A view of the latest applied state.
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError>;

    /// Makes the members' batches durable with one sync (see [`Durability`]), applies them in order, and returns.
    ///
    /// `last_sequence` is the highest sequence number in the group (the committer counts them); it grows from one
    /// synced group to the next and is what [`MetadataStore::recovered_sequence`] answers after reopening. For
    /// [`Durability::Relaxed`] it is ignored.
    ///
    /// `reached` is told of each [`Milestone`] once, in their order. After [`Milestone::Next`] another thread may hand in
    /// the following group; groups are applied in the order in which they became durable. A group that fails before
    /// [`Milestone::Committed`] reaches neither: nothing can rest on it, and where it is certainly absent its sequence
    /// numbers are free. An error after [`Milestone::Committed`] takes nothing back, it says that the store takes no other
    /// group.
    ///
    /// The locks stay with the members: the caller releases them after this returns, whatever it returns.
    ///
    /// # Errors
    /// [`CommitError::Failed`]: certainly absent. [`CommitError::Unknown`]: may be present after reopening; the store
    /// refuses every later commit until then. [`CommitError::Conflict`]: absent, worth running again.
    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError>;

    /// The sequence number that the store had when it was opened; 0 for a new one.
    fn recovered_sequence(&self) -> u64;

    /// Why this handle refuses every later commit, once it does.
    fn poisoned(&self) -> Option<String> {
        None
    }

    /// The random number that all files of the store bear, where it has one.
    fn store_id(&self) -> Option<journal::StoreId> {
        None
    }

    /// Takes back what the store's own files no longer need and syncs what a last group left unsynced. Bounded work.
    fn maintain(&self) -> Result<(), StorageError>;

    /// The same at the end of the store's use, which it writes down where it can: after damage that tells more of what is
    /// lost. A commit that comes all the same is as good as any other.
    fn close(&self) -> Result<(), StorageError> {
        self.maintain()
    }

    /// The most members that one group may have: 1 where locks live in a database session.
    fn group_members_max(&self) -> usize {
        256
    }
}
