//! How often an operation goes to its metadata store: across a network each time is a round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layerhold::store::{
    CommitError, Direction, Durability, KeyRange, LockMode, LockSet, Member, MetadataStore, Milestone, StorageError,
    View, Visit,
};

/// Passes every call on and counts those that a database across a network would have to be asked for.
#[derive(Debug)]
pub struct CountingMetadataStore<S: ?Sized> {
    locks: AtomicU64,
    reads: AtomicU64,
    scans: AtomicU64,
    commits: AtomicU64,
    inner: Arc<S>,
}

/// Calls so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trips {
    /// Calls of [`MetadataStore::lock_and_get`] that named a row.
    pub locks: u64,
    /// Calls of [`View::get_many`] that named a key.
    pub reads: u64,
    /// Calls of [`View::scan`].
    pub scans: u64,
    /// Calls of [`MetadataStore::commit`].
    pub commits: u64,
}

impl Trips {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.locks + self.reads + self.scans + self.commits
    }
}

impl<S: MetadataStore + ?Sized> CountingMetadataStore<S> {
    /// `inner`, with nothing counted yet.
    pub fn new(inner: Arc<S>) -> Self {
        Self {
            locks: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            scans: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            inner,
        }
    }

    /// What was counted since the last call of this.
    pub fn take(&self) -> Trips {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Trips {
            locks: take(&self.locks),
            reads: take(&self.reads),
            scans: take(&self.scans),
            commits: take(&self.commits),
        }
    }
}

impl<S: MetadataStore + ?Sized> MetadataStore for CountingMetadataStore<S> {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        self.locks.fetch_add(u64::from(!rows.is_empty()), Ordering::Relaxed);
        self.inner.lock_and_get(rows)
    }

    fn try_lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<Option<LockSet>, StorageError> {
        self.locks.fetch_add(u64::from(!rows.is_empty()), Ordering::Relaxed);
        self.inner.try_lock_and_get(rows)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        Ok(Box::new(CountingView { reads: &self.reads, scans: &self.scans, inner: self.inner.view()? }))
    }

    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(group, last_sequence, durability, reached)
    }

    fn recovered_sequence(&self) -> u64 {
        self.inner.recovered_sequence()
    }

    fn maintain(&self) -> Result<(), StorageError> {
        self.inner.maintain()
    }

    fn group_members_max(&self) -> usize {
        self.inner.group_members_max()
    }
}

struct CountingView<'a> {
    reads: &'a AtomicU64,
    scans: &'a AtomicU64,
    inner: Box<dyn View + 'a>,
}

impl View for CountingView<'_> {
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.reads.fetch_add(u64::from(!keys.is_empty()), Ordering::Relaxed);
        self.inner.get_many(keys)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.inner.scan(range, direction, visit)
    }
}
