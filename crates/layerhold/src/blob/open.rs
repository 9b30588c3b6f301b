//! Locations that somebody of this process reads, and the removal of those that nobody needs any more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::{Inner, collect};
use crate::format::keys;
use crate::store::{Batch, Direction, Location, LockMode, StorageError};

/// Chaining-value rows that one removal takes away at a time.
const GROUP_ROWS_AT_ONCE: usize = 1_000;

/// Counts the readers of each location.
#[derive(Default)]
pub(crate) struct OpenBlobs {
    readers: Arc<Mutex<HashMap<Location, usize>>>,
}

/// Keeps a location from being removed while it lives.
#[derive(Debug)]
pub(crate) struct Pinned {
    readers: Arc<Mutex<HashMap<Location, usize>>>,
    location: Location,
}

/// What became of a location that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retired {
    /// Nothing of it is left.
    Gone,
    /// Its file is gone, and so many of its chaining values as one step takes away.
    Partly,
    /// Somebody reads it.
    Read,
}

impl OpenBlobs {
    /// Pins a location. Whoever pins must look at the blob's row again afterwards: the location may have been given up
    /// a moment before.
    pub(crate) fn pin(&self, location: Location) -> Pinned {
        *self.readers.lock().entry(location).or_default() += 1;
        Pinned { readers: Arc::clone(&self.readers), location }
    }

    pub(crate) fn is_read(&self, location: Location) -> bool {
        self.readers.lock().contains_key(&location)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        if let Some(count) = readers.get_mut(&self.location) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.location);
            }
        }
    }
}

impl Inner {
    /// Removes what a committed tombstone gave up, unless somebody still reads it. A failure leaves the tombstone for
    /// [`Engine::maintain`](crate::Engine::maintain): bytes too many, never bytes missing.
    pub(crate) fn retire(&self, location: Location) {
        drop(self.try_retire(location));
    }

    /// Removes the file, then its chaining values, then the tombstone.
    pub(crate) fn try_retire(&self, location: Location) -> Result<Retired, StorageError> {
        if self.open_blobs.is_read(location) {
            return Ok(Retired::Read);
        }
        let removal_key = keys::removal(location);
        let locks = self.txn.store.lock_and_get(&[(&removal_key, LockMode::Exclusive)])?;
        if locks.values().first().is_none_or(Option::is_none) {
            return Ok(Retired::Gone);
        }
        self.blobs.delete(location)?;
        let view = self.txn.store.view()?;
        let range = keys::all_groups(location);
        let rows = collect(view.as_ref(), &range, Direction::Forward, GROUP_ROWS_AT_ONCE, |key, _| Ok(key.to_vec()))?;
        drop(view);
        let mut batch = Batch::new();
        rows.iter().for_each(|key| batch.delete(key));
        let whole = rows.len() < GROUP_ROWS_AT_ONCE;
        if whole {
            batch.delete(&removal_key);
        }
        self.txn.committer.submit_relaxed(locks, batch)?;
        Ok(if whole { Retired::Gone } else { Retired::Partly })
    }
}
