//! Row locks of this process.
//!
//! A transaction takes all its locks in one call. Keys are hashed to 64 bits, so a lock costs the same whatever the
//! key; two keys that collide share a lock, which can only make somebody wait who need not. The hashes are taken in
//! ascending order, so transactions that take their locks in one call each never wait in a circle.
//!
//! Whoever comes first is served first: a shared holder that arrives while an exclusive waiter is queued waits behind
//! it. Otherwise the base layers that every push shares would keep a deletion waiting for ever.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::hashed::Hashed;
use super::{LockMode, StorageError};
use crate::clock::Clock;

/// Shards of the table. More than any machine has threads in this code at one time, so that two of them seldom meet.
const SHARDS: usize = 128;

/// A shard whose last lock was released gives its memory back when it had grown beyond this many rows.
const IDLE_ROWS_MAX: usize = 64;

/// The locks of one store; see the module documentation.
pub struct LockTable {
    shards: Box<[Shard]>,
    wait_max: Duration,
    clock: Arc<dyn Clock>,
}

// One cache line each, so that threads in neighbouring shards do not slow one another down.
#[derive(Default)]
#[repr(align(64))]
struct Shard {
    rows: Mutex<Rows>,
}

type Rows = HashMap<u64, Row, Hashed>;

/// One locked row: present in its shard only while somebody holds it or waits for it.
#[derive(Default)]
struct Row {
    exclusive: bool,
    shared: u32,
    waiters: VecDeque<Arc<Waiter>>,
}

struct Waiter {
    mode: LockMode,
    // Written and read under the shard's mutex; atomic only because it is shared.
    granted: AtomicBool,
    wake: Condvar,
}

impl LockTable {
    /// A table whose waits end after `wait_max`; `clock` measures how long one call has waited in all.
    pub fn new(wait_max: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), wait_max, clock }
    }

    /// Takes every lock in `rows`, in ascending order of the keys' hashes. A key given twice is taken once, in the
    /// stronger mode.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the locks did not come within the time given to [`LockTable::new`]; nothing
    /// is held then.
    pub fn acquire(self: &Arc<Self>, rows: &[(&[u8], LockMode)]) -> Result<LockGuard, StorageError> {
        let mut guard = self.guard(rows);
        let mut waiting_since = None;
        while let Some(&(row, mode)) = guard.rows.get(guard.held) {
            self.take(row, mode, &mut waiting_since)?;
            guard.held += 1;
        }
        Ok(guard)
    }

    /// The same without waiting: `None`, and nothing held, where somebody holds one of the rows or stands in line for it.
    pub fn try_acquire(self: &Arc<Self>, rows: &[(&[u8], LockMode)]) -> Option<LockGuard> {
        let mut guard = self.guard(rows);
        while let Some(&(row, mode)) = guard.rows.get(guard.held) {
            if !self.shard(row).entry(row).or_default().take_free(mode) {
                return None;
            }
            guard.held += 1;
        }
        Some(guard)
    }

    /// A guard for `rows` that holds none of them yet.
    fn guard(self: &Arc<Self>, rows: &[(&[u8], LockMode)]) -> LockGuard {
        let mut wanted: Vec<(u64, LockMode)> = rows.iter().map(|(key, mode)| (hash(key), *mode)).collect();
        wanted.sort_unstable();
        wanted.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.max(later.1);
            }
            same
        });
        LockGuard { table: Arc::clone(self), rows: wanted, held: 0 }
    }

    /// How many rows are held or waited for. Nothing is kept of any other row.
    pub fn rows_in_use(&self) -> usize {
        self.shards.iter().map(|shard| shard.rows.lock().len()).sum()
    }

    fn shard(&self, row: u64) -> MutexGuard<'_, Rows> {
        // The upper bits choose the shard, the map inside uses the lower ones.
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
        self.shards[(row >> 48) as usize % SHARDS].rows.lock()
    }

    fn take(&self, row: u64, mode: LockMode, waiting_since: &mut Option<u64>) -> Result<(), StorageError> {
        let mut rows = self.shard(row);
        let entry = rows.entry(row).or_default();
        if entry.take_free(mode) {
            return Ok(());
        }
        let waiter = Arc::new(Waiter { mode, granted: AtomicBool::new(false), wake: Condvar::new() });
        entry.waiters.push_back(Arc::clone(&waiter));
        let since = *waiting_since.get_or_insert_with(|| self.clock.monotonic_ms());
        loop {
            let waited = Duration::from_millis(self.clock.monotonic_ms().saturating_sub(since));
            let timed_out = waiter.wake.wait_for(&mut rows, self.wait_max.saturating_sub(waited)).timed_out();
            if waiter.granted.load(Ordering::Relaxed) {
                return Ok(());
            }
            if timed_out {
                if let Some(entry) = rows.get_mut(&row) {
                    entry.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                    // Whoever stood behind this waiter may be admitted by what holds the row.
                    entry.admit_waiters();
                }
                forget_if_idle(&mut rows, row);
                let waited_ms = u64::try_from(self.wait_max.as_millis()).unwrap_or(u64::MAX);
                return Err(StorageError::Unavailable { what: "a row lock", waited_ms });
            }
        }
    }

    fn release(&self, row: u64, mode: LockMode) {
        let mut rows = self.shard(row);
        if let Some(entry) = rows.get_mut(&row) {
            entry.subtract(mode);
            entry.admit_waiters();
        }
        forget_if_idle(&mut rows, row);
    }
}

impl std::fmt::Debug for LockTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockTable").field("wait_max", &self.wait_max).finish_non_exhaustive()
    }
}

impl Row {
    fn admits(&self, mode: LockMode) -> bool {
        match mode {
            LockMode::Shared => !self.exclusive,
            LockMode::Exclusive => !self.exclusive && self.shared == 0,
        }
    }

    /// Takes the row where nobody is in the way, nor in line before.
    fn take_free(&mut self, mode: LockMode) -> bool {
        let free = self.waiters.is_empty() && self.admits(mode);
        if free {
            self.add(mode);
        }
        free
    }

    fn add(&mut self, mode: LockMode) {
        match mode {
            LockMode::Shared => self.shared += 1,
            LockMode::Exclusive => self.exclusive = true,
        }
    }

    fn subtract(&mut self, mode: LockMode) {
        match mode {
            LockMode::Shared => self.shared -= 1,
            LockMode::Exclusive => self.exclusive = false,
        }
    }

    /// Hands the row to the waiters at the head of the queue. The lock is theirs before they wake, so nobody who
    /// arrives in between can take it from them.
    fn admit_waiters(&mut self) {
        while let Some(waiter) = self.waiters.front() {
            if !self.admits(waiter.mode) {
                return;
            }
            let Some(waiter) = self.waiters.pop_front() else { return };
            self.add(waiter.mode);
            waiter.granted.store(true, Ordering::Relaxed);
            waiter.wake.notify_one();
        }
    }

    fn is_idle(&self) -> bool {
        !self.exclusive && self.shared == 0 && self.waiters.is_empty()
    }
}

fn forget_if_idle(rows: &mut Rows, row: u64) {
    if rows.get(&row).is_some_and(Row::is_idle) {
        rows.remove(&row);
        if rows.is_empty() && rows.capacity() > IDLE_ROWS_MAX {
            *rows = Rows::default();
        }
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

/// The locks of one transaction; released when it is dropped.
#[must_use = "the rows are unlocked as soon as the guard is dropped"]
pub struct LockGuard {
    table: Arc<LockTable>,
    // Ascending, without repetitions.
    rows: Vec<(u64, LockMode)>,
    // How many of `rows`, from the front, are held: all of them once `acquire` returned.
    held: usize,
}

impl LockGuard {
    /// Whether `key` is held exclusive (or shares its hash with a key that is).
    pub fn holds_exclusive(&self, key: &[u8]) -> bool {
        self.rows.binary_search(&(hash(key), LockMode::Exclusive)).is_ok()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        for &(row, mode) in self.rows.iter().take(self.held) {
            self.table.release(row, mode);
        }
    }
}

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockGuard").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "locks are tested between real threads")]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64};
    use std::thread;

    use super::*;
    use crate::clock::SystemClock;

    fn table(wait_ms: u64) -> Arc<LockTable> {
        Arc::new(LockTable::new(Duration::from_millis(wait_ms), Arc::new(SystemClock::default())))
    }

    const S: LockMode = LockMode::Shared;
    const X: LockMode = LockMode::Exclusive;

    #[test]
    fn shared_holders_meet_and_exclusive_ones_do_not() {
        let table = table(20);
        let first = table.acquire(&[(b"a", S), (b"b", X)]).unwrap();
        let second = table.acquire(&[(b"a", S)]).unwrap();
        let refused = table.acquire(&[(b"c", X), (b"b", S)]).unwrap_err();
        assert!(matches!(refused, StorageError::Unavailable { what: "a row lock", waited_ms: 20 }), "{refused}");
        assert!(table.acquire(&[(b"a", X)]).is_err());
        // What a refused call held of its other rows is free again.
        drop(table.acquire(&[(b"c", X)]).unwrap());
        assert!(first.holds_exclusive(b"b") && !first.holds_exclusive(b"a"));
        drop((first, second));
        assert_eq!(table.rows_in_use(), 0);
        drop(table.acquire(&[(b"a", X), (b"b", X)]).unwrap());
    }

    #[test]
    fn a_key_asked_for_twice_is_held_once_in_the_stronger_mode() {
        let table = table(1);
        let guard = table.acquire(&[(b"a", S), (b"a", X), (b"a", S)]).unwrap();
        assert!(guard.holds_exclusive(b"a"));
        assert!(table.acquire(&[(b"a", S)]).is_err());
        drop(guard);
        assert_eq!(table.rows_in_use(), 0);
    }

    #[test]
    fn shared_holders_do_not_starve_an_exclusive_waiter() {
        let table = table(20_000);
        let stop = Arc::new(AtomicBool::new(false));
        let started = Arc::new(AtomicU32::new(0));
        // Overlapping shared holders: the row is never free by itself.
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let (table, stop, started) = (table.clone(), stop.clone(), started.clone());
                thread::spawn(move || {
                    let mut guard = table.acquire(&[(b"layer", S)]).unwrap();
                    started.fetch_add(1, Ordering::SeqCst);
                    while !stop.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_micros(200));
                        drop(guard);
                        guard = table.acquire(&[(b"layer", S)]).unwrap();
                    }
                })
            })
            .collect();
        while started.load(Ordering::SeqCst) < 8 {
            thread::yield_now();
        }
        for _ in 0..50 {
            drop(table.acquire(&[(b"layer", X)]).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(table.rows_in_use(), 0);
    }

    #[test]
    fn a_shared_request_queues_behind_an_exclusive_waiter_and_goes_on_when_that_gives_up() {
        let patient = table(20_000);
        let holder = patient.acquire(&[(b"a", S)]).unwrap();
        let writer = {
            let table = patient.clone();
            thread::spawn(move || table.acquire(&[(b"a", X)]).unwrap())
        };
        while patient.shard(hash(b"a")).get(&hash(b"a")).unwrap().waiters.is_empty() {
            thread::yield_now();
        }
        let reader = {
            let table = patient.clone();
            thread::spawn(move || drop(table.acquire(&[(b"a", S)]).unwrap()))
        };
        while patient.shard(hash(b"a")).get(&hash(b"a")).unwrap().waiters.len() < 2 {
            thread::yield_now();
        }
        assert_eq!(patient.shard(hash(b"a")).get(&hash(b"a")).unwrap().shared, 1);
        drop(holder);
        drop(writer.join().unwrap());
        reader.join().unwrap();
        assert_eq!(patient.rows_in_use(), 0);

        let hasty = table(50);
        let holder = hasty.acquire(&[(b"a", S)]).unwrap();
        let writer = {
            let table = hasty.clone();
            thread::spawn(move || table.acquire(&[(b"a", X)]).is_err())
        };
        while hasty.shard(hash(b"a")).get(&hash(b"a")).unwrap().waiters.is_empty() {
            thread::yield_now();
        }
        assert!(writer.join().unwrap());
        drop(hasty.acquire(&[(b"a", S)]).unwrap());
        drop(holder);
        assert_eq!(hasty.rows_in_use(), 0);
    }

    #[test]
    fn locks_exclude_one_another_under_contention() {
        let table = table(60_000);
        let counters: Arc<Vec<AtomicU64>> = Arc::new((0..8).map(|_| AtomicU64::new(0)).collect());
        let threads: Vec<_> = (0..8u64)
            .map(|seed| {
                let (table, counters) = (table.clone(), counters.clone());
                thread::spawn(move || {
                    let mut state = seed * 2 + 1;
                    for _ in 0..2_000 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let (a, b) = ((state >> 33) as usize % 8, (state >> 43) as usize % 8);
                        let keys = [[a as u8], [b as u8]];
                        let _guard = table.acquire(&[(&keys[0], X), (&keys[1], X)]).unwrap();
                        for i in [a, b] {
                            // Not atomic on purpose: the locks make it so.
                            let seen = counters[i].load(Ordering::Relaxed);
                            counters[i].store(seen + 1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let total: u64 = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
        assert_eq!(total, 8 * 2_000 * 2);
        assert_eq!(table.rows_in_use(), 0);
    }
}
