//! Sessions that are being written in this process: one writer at a time each, and the state of the last few kept
//! warm, so that the next part need not rebuild its hashes.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::store::StorageError;

use super::UploadId;
use super::session::Live;

/// How many idle sessions are kept warm. Each holds a descriptor and a few KiB.
const IDLE_MAX: usize = 128;

/// See the module.
#[derive(Default)]
pub(crate) struct Writers {
    entries: Mutex<Entries>,
    released: Condvar,
}

#[derive(Default)]
struct Entries {
    sessions: HashMap<UploadId, Entry>,
    uses: u64,
}

enum Entry {
    /// Somebody writes.
    Held,
    /// Nobody writes; used last at this count of uses.
    Idle(Box<Live>, u64),
}

impl Writers {
    /// Becomes the writer of a session, waiting at most `wait_ms` for another one; with what is still warm of it.
    pub(crate) fn acquire(
        &self,
        id: UploadId,
        wait_ms: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Box<Live>>, StorageError> {
        let mut entries = self.entries.lock();
        let since_ms = clock.monotonic_ms();
        let mut timed_out = false;
        loop {
            match entries.sessions.insert(id, Entry::Held) {
                None => return Ok(None),
                Some(Entry::Idle(live, _)) => return Ok(Some(live)),
                Some(Entry::Held) if timed_out => {
                    return Err(StorageError::Unavailable {
                        what: "another writer of the same upload",
                        waited_ms: wait_ms,
                    });
                }
                Some(Entry::Held) => {
                    // Every session's release wakes every waiter, so the time that has passed is counted.
                    let waited_ms = clock.monotonic_ms().saturating_sub(since_ms);
                    let left = Duration::from_millis(wait_ms.saturating_sub(waited_ms));
                    timed_out = self.released.wait_for(&mut entries, left).timed_out();
                }
            }
        }
    }

    /// Drops what is warm of a session that is gone, with the descriptor that keeps its deleted file's room.
    pub(crate) fn forget(&self, id: UploadId) {
        let mut entries = self.entries.lock();
        if matches!(entries.sessions.get(&id), Some(Entry::Idle(..))) {
            entries.sessions.remove(&id);
        }
    }

    /// Ends being the writer; `live` stays warm for the next one.
    pub(crate) fn release(&self, id: UploadId, live: Option<Box<Live>>) {
        let mut entries = self.entries.lock();
        entries.uses += 1;
        let now = entries.uses;
        match live {
            None => {
                entries.sessions.remove(&id);
            }
            Some(live) => {
                entries.sessions.insert(id, Entry::Idle(live, now));
            }
        }
        let idle = |entry: &Entry| if let Entry::Idle(_, used) = entry { Some(*used) } else { None };
        if entries.sessions.len() > IDLE_MAX
            && let Some((oldest, _)) = entries
                .sessions
                .iter()
                .filter_map(|(id, entry)| Some((*id, idle(entry)?)))
                .min_by_key(|(_, used)| *used)
        {
            entries.sessions.remove(&oldest);
        }
        self.released.notify_all();
    }
}
