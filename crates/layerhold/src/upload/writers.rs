//! Sessions that are being written in this process: one writer at a time each, and the state of the last few kept
//! warm, so that the next part need not rebuild its hashes.
//!
//! One other may wait for a session, which is what a client needs that comes again before its lost connection was noticed.
//! Whoever comes after those two is refused at once: a thread that waits does nothing else, and one session must not take
//! all that a host has.

use std::collections::{HashMap, HashSet};
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
    /// Those that somebody waits for.
    awaited: HashSet<UploadId>,
    uses: u64,
}

enum Entry {
    /// Somebody writes.
    Held,
    /// Nobody writes; used last at this count of uses.
    Idle(Box<Live>, u64),
}

impl Writers {
    /// Becomes the writer of a session, waiting at most `wait_ms` for another one, and not at all where somebody else waits;
    /// with what is still warm of it.
    pub(crate) fn acquire(
        &self,
        id: UploadId,
        wait_ms: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Box<Live>>, StorageError> {
        let mut entries = self.entries.lock();
        if let Some(warm) = entries.take(id) {
            return Ok(warm);
        }
        let refused = |waited_ms| StorageError::Unavailable { what: "another writer of the same upload", waited_ms };
        if !entries.awaited.insert(id) {
            return Err(refused(0));
        }
        let since_ms = clock.monotonic_ms();
        let taken = loop {
            // Every session's release wakes every waiter, so the time that has passed is counted.
            let waited_ms = clock.monotonic_ms().saturating_sub(since_ms);
            let left = Duration::from_millis(wait_ms.saturating_sub(waited_ms));
            let timed_out = self.released.wait_for(&mut entries, left).timed_out();
            match entries.take(id) {
                None if timed_out => break Err(refused(wait_ms)),
                None => {}
                Some(warm) => break Ok(warm),
            }
        };
        entries.awaited.remove(&id);
        taken
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

impl Entries {
    /// Takes a session that nobody writes, with what is still warm of it.
    fn take(&mut self, id: UploadId) -> Option<Option<Box<Live>>> {
        match self.sessions.insert(id, Entry::Held) {
            None => Some(None),
            Some(Entry::Idle(live, _)) => Some(Some(live)),
            Some(Entry::Held) => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "writers are tested between real threads")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn one_waits_for_a_session_and_the_next_is_refused_at_once() {
        let (writers, clock) = (Arc::new(Writers::default()), SystemClock::default());
        let (id, other) = (UploadId([1; 16]), UploadId([2; 16]));
        assert!(writers.acquire(id, 0, &clock).unwrap().is_none());
        let waiter = {
            let writers = Arc::clone(&writers);
            std::thread::spawn(move || writers.acquire(id, 60_000, &SystemClock::default()).map(drop))
        };
        while writers.entries.lock().awaited.is_empty() {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            let refused = writers.acquire(id, 60_000, &clock).map(drop).unwrap_err();
            assert!(matches!(refused, StorageError::Unavailable { waited_ms: 0, .. }), "{refused}");
        }
        drop(writers.acquire(other, 0, &clock).unwrap());
        writers.release(other, None);
        writers.release(id, None);
        waiter.join().unwrap().unwrap();
        let refused = writers.acquire(id, 20, &clock).map(drop).unwrap_err();
        assert!(matches!(refused, StorageError::Unavailable { waited_ms: 20, .. }), "{refused}");
        writers.release(id, None);
        let entries = writers.entries.lock();
        assert!(entries.sessions.is_empty() && entries.awaited.is_empty());
    }
}
