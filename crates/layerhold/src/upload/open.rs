//! How many sessions are open, and what those that are being written may hold in memory.
//!
//! The start of a session is not synced and takes no sequence, so no row counts them. They are counted once in a process,
//! before the first of them begins or ends in it, and followed from then on; what it costs is bounded by the limit that
//! earlier processes kept to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::engine::{Inner, collect_some};
use crate::format::keys::{self, RegistryId};
use crate::format::values::{Row, UploadRow};
use crate::options::Options;
use crate::store::{Direction, StorageError};

use super::errors::TooManyUploads;

/// The most that a session holds while a thread hashes beside its writer ([`super::lane`]).
const LANE_BYTES: u64 = 1 << 20;

/// What every session that has a writer holds besides: hash states, and its bytes while they fit in a row.
const WRITER_BYTES: u64 = 16 << 10;

/// Open sessions by registry; nothing before they were counted.
#[derive(Default)]
pub(crate) struct OpenSessions {
    counts: Mutex<Option<HashMap<RegistryId, u64>>>,
}

/// A session that is about to begin; it counts until this is dropped, and for good once it has begun.
pub(crate) struct Beginning<'a> {
    inner: &'a Inner,
    registry: RegistryId,
    begun: bool,
}

impl Beginning<'_> {
    pub(crate) fn begun(mut self) {
        self.begun = true;
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        if !self.begun {
            self.inner.session_ended(self.registry);
        }
    }
}

impl Inner {
    /// Counts a session that is about to begin.
    pub(crate) fn session_begins(
        &self,
        registry: RegistryId,
        limit: u64,
    ) -> Result<Result<Beginning<'_>, TooManyUploads>, StorageError> {
        let mut counts = self.session_counts()?;
        let open = counts.entry(registry).or_default();
        if *open >= limit {
            return Ok(Err(TooManyUploads { open: *open, limit }));
        }
        *open += 1;
        Ok(Ok(Beginning { inner: self, registry, begun: false }))
    }

    /// Comes before a commit that ends a session: whoever counts only afterwards would miss it.
    pub(crate) fn session_ends(&self) -> Result<(), StorageError> {
        self.session_counts().map(drop)
    }

    /// Comes after it.
    pub(crate) fn session_ended(&self, registry: RegistryId) {
        if let Some(open) = self.open_sessions.counts.lock().as_mut().and_then(|counts| counts.get_mut(&registry)) {
            *open = open.saturating_sub(1);
        }
    }

    fn session_counts(&self) -> Result<MappedMutexGuard<'_, HashMap<RegistryId, u64>>, StorageError> {
        let mut counts = self.open_sessions.counts.lock();
        if counts.is_none() {
            let mut found: HashMap<RegistryId, u64> = HashMap::new();
            let view = self.txn.store.view()?;
            // One that cannot be read is nobody's; a check speaks of it.
            collect_some(view.as_ref(), &keys::uploads(), Direction::Forward, usize::MAX, |_, row| {
                if let Ok(row) = UploadRow::decode(row) {
                    *found.entry(row.scope.registry).or_default() += 1;
                }
                Ok(None::<()>)
            })?;
            *counts = Some(found);
        }
        Ok(MutexGuard::map(counts, |counts| counts.get_or_insert_default()))
    }
}

/// The share of [`memory_bytes`](Options::memory_bytes) that uploads have: one half of it for threads that hash beside writers,
/// the other for the writers themselves.
#[derive(Debug)]
pub(crate) struct UploadMemory {
    lanes: Places,
    writers: Places,
}

impl UploadMemory {
    pub(crate) fn new(options: &Options) -> Self {
        let half = memory_share(options) / 2;
        let writer_bytes = WRITER_BYTES.saturating_add(options.inline_blob_bytes_max);
        Self { lanes: Places::new(half / LANE_BYTES, 1), writers: Places::new(half / writer_bytes, 16) }
    }

    /// A place for a thread beside a writer. Without one the writer hashes by itself, and holds no more than the bytes in hand.
    pub(crate) fn lane(&self) -> Option<Place> {
        self.lanes.take()
    }

    /// A place for a writer.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] at once where all are taken: a thread that waited would hold one more thing.
    pub(crate) fn writer(&self) -> Result<Place, StorageError> {
        self.writers.take().ok_or(StorageError::Unavailable { what: "memory for one more upload", waited_ms: 0 })
    }
}

/// How much of the memory goes to uploads; the rest is the metadata's.
pub(crate) fn memory_share(options: &Options) -> u64 {
    options.memory_bytes / 8
}

#[derive(Debug)]
struct Places {
    free: Arc<AtomicUsize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    free: Arc<AtomicUsize>,
}

impl Places {
    fn new(count: u64, least: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(usize::try_from(count).unwrap_or(usize::MAX).max(least))) }
    }

    fn take(&self) -> Option<Place> {
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1));
        taken.is_ok().then(|| Place { free: Arc::clone(&self.free) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free.fetch_add(1, Ordering::AcqRel);
    }
}
