//! Locations that somebody of this process reads, and the removal of those that nobody needs any more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::{Inner, collect};
use crate::format::keys;
use crate::store::{Batch, Direction, Location, LockMode, LockSet, StorageError};

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

/// What is left of a location whose file is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retired {
    /// Nothing.
    Gone,
    /// So many chaining values that one step does not take all of them away, and the tombstone.
    Partly,
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
    /// Removes the file of a location that a committed tombstone gave up, unless somebody still reads it. The tombstone stays
    /// for [`Engine::maintain`](crate::Engine::maintain), and so does everything where this fails: bytes too many, never
    /// bytes missing.
    pub(crate) fn retire(&self, location: Location) {
        drop(self.remove_file(location));
    }

    /// The same; `false` where somebody reads the file, or no tombstone speaks of it.
    pub(crate) fn remove_file(&self, location: Location) -> Result<bool, StorageError> {
        if self.open_blobs.is_read(location) {
            return Ok(false);
        }
        let (_locks, tombstone) = self.lock_removal(location)?;
        if !tombstone {
            return Ok(false);
        }
        self.blobs.delete(location)?;
        Ok(true)
    }

    /// Keeps everybody else from removing what is at a location; also whether a tombstone speaks of it. Who writes a tombstone
    /// does not lock it, so a view tells that, and not what comes with the lock.
    fn lock_removal(&self, location: Location) -> Result<(LockSet, bool), StorageError> {
        let removal_key = keys::removal(location);
        let locks = self.txn.store.lock_and_get(&[(&removal_key, LockMode::Exclusive)])?;
        let tombstone = self.txn.store.view()?.get(&removal_key)?.is_some();
        Ok((locks, tombstone))
    }

    /// Drops the chaining values of a location whose file is gone for good, and then the tombstone.
    pub(crate) fn drop_removal(&self, location: Location) -> Result<Retired, StorageError> {
        let removal_key = keys::removal(location);
        let (locks, tombstone) = self.lock_removal(location)?;
        if !tombstone {
            return Ok(Retired::Gone);
        }
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
