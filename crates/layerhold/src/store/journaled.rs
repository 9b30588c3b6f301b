//! A durable, transactional store out of a table that may forget: the journal is the commit point, the table serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::batch::Write;
use super::cache::RowCache;
use super::fs::{FileSystem, OpenMode};
use super::journal::{self, Ahead, Decided, Journal, StoreId};
use super::lock::{LockGuard, LockTable};
use super::pending::Pending;
use super::table::Table;
use super::{
    Batch, CommitError, Durability, LockMode, LockSet, Member, MetadataStore, Milestone, StorageError, Values, View,
};
use crate::clock::{Clock, Spawner, SystemClock};

/// How often a table that takes no writes is asked whether it does again.
const STALL_LOOK_MS: u64 = 5;

/// Settings of a [`Journaled`] store. Plain values; each has a default.
#[derive(Debug, Clone)]
#[must_use]
pub struct JournaledOptions {
    segment_bytes: u64,
    full_segments_max: usize,
    lock_wait_ms: u64,
    row_cache_bytes: usize,
    check_guards: bool,
    unguarded: fn(&[u8]) -> bool,
    spawner: Option<Arc<dyn Spawner>>,
    clock: Arc<dyn Clock>,
}

impl Default for JournaledOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            full_segments_max: 4,
            lock_wait_ms: 10_000,
            row_cache_bytes: 4 << 20,
            check_guards: cfg!(debug_assertions),
            unguarded: |_| false,
            spawner: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

impl JournaledOptions {
    /// Length of a journal segment in bytes; 32 MiB by default, at least 8 KiB. A larger one is preallocated less
    /// often and makes opening after a crash slower. A group that does not fit gets a segment of its own length.
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How many full segments may wait before [`MetadataStore::maintain`] flushes the table and takes them back; 4 by
    /// default. With twice as many the thread whose commit filled the last one does it.
    pub fn with_full_segments_max(mut self, segments: usize) -> Self {
        self.full_segments_max = segments;
        self
    }

    /// How long one call of [`MetadataStore::lock_and_get`] waits for its locks, in milliseconds; 10,000 by default.
    pub fn with_lock_wait_ms(mut self, ms: u64) -> Self {
        self.lock_wait_ms = ms;
        self
    }

    /// How many bytes of rows are kept in memory for those who lock or peek at them next; 4 MiB by default.
    pub fn with_row_cache_bytes(mut self, bytes: usize) -> Self {
        self.row_cache_bytes = bytes;
        self
    }

    /// Runs the making of the next segment's file beside the commits. Without one `maintain` makes it in time, or else
    /// the commit that needs it.
    pub fn with_spawner(mut self, spawner: Option<Arc<dyn Spawner>>) -> Self {
        self.spawner = spawner;
        self
    }

    /// Whether each commit checks that its members hold every row that they write exclusive. It panics where one does
    /// not: that is a mistake in the program. On by default in builds with debug assertions.
    pub fn with_guard_checks(mut self, check: bool) -> Self {
        self.check_guards = check;
        self
    }

    /// Tells which keys need no lock because the committer alone writes them; none by default.
    pub fn with_unguarded(mut self, unguarded: fn(&[u8]) -> bool) -> Self {
        self.unguarded = unguarded;
        self
    }

    /// Where waits are measured; the machine's clock by default.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

/// A [`MetadataStore`] over a [`Table`] and a journal of its own (docs/format-journal.md).
///
/// A group is durable when its record in the journal is, with one sync. It is applied to the table after that, in the
/// order of the journal, so readers see nothing that a crash can take back. Until it is in the table, readers see it over the
/// table: its callers need not wait for that. While one group is applied, the next one is written.
pub struct Journaled<T> {
    fs: Arc<dyn FileSystem>,
    table: T,
    rows: RowCache,
    store_id: StoreId,
    locks: Arc<LockTable>,
    options: JournaledOptions,
    journal: Arc<Mutex<Journal>>,
    ahead: Ahead,
    turns: Turns,
    pending: Pending,
    recovered_sequence: u64,
    applied_sequence: AtomicU64,
    // Held during maintenance, which is one thread's work at a time; the sequence up to which the table is flushed.
    flushed_sequence: Mutex<u64>,
    poison: Mutex<Option<String>>,
}

/// A journal that was judged whole and is not open yet.
pub struct DecidedJournal {
    fs: Arc<dyn FileSystem>,
    decided: Decided,
    store_id: StoreId,
}

impl DecidedJournal {
    /// The sequence that the store will have.
    #[must_use]
    pub fn recovered(&self) -> u64 {
        self.decided.recovered()
    }

    /// Whether opening gives up a group that was begun and never acknowledged.
    #[must_use]
    pub fn tail_dropped(&self) -> bool {
        self.decided.tail_dropped()
    }
}

impl std::fmt::Debug for DecidedJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecidedJournal").field("recovered", &self.recovered()).finish_non_exhaustive()
    }
}

impl<T: Table> Journaled<T> {
    /// Makes a new store out of an empty table. It is durable when this returns.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] when `fs` has a journal already.
    pub fn create(
        fs: Arc<dyn FileSystem>,
        table: T,
        store_id: StoreId,
        options: JournaledOptions,
    ) -> Result<Self, StorageError> {
        let journal = Journal::create(Arc::clone(&fs), store_id, options.segment_bytes)?;
        Ok(Self::new(fs, table, store_id, journal, options))
    }

    /// Opens a store and replays what the table lost since its last flush. Only one handle may be open at a time; the
    /// caller sees to that.
    ///
    /// # Errors
    /// [`StorageError::AcknowledgedDataLoss`] when something that was acknowledged cannot be brought back,
    /// [`StorageError::Corrupt`] when a file of the journal is missing, damaged or another store's. Nothing was
    /// changed then.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        table: T,
        store_id: StoreId,
        options: JournaledOptions,
    ) -> Result<Self, StorageError> {
        table.verify()?;
        let decided = Self::decide(fs, store_id, table.applied_sequence()?, OpenMode::ReadWrite)?;
        Self::open_decided(decided, table, options)
    }

    /// Judges the journal for a table that holds everything up to `applied_sequence`. Nothing is changed: who opens the
    /// table only afterwards can be sure that it changes nothing either before the store is known to be whole. What was
    /// judged with [`OpenMode::Read`] cannot be opened, only looked at.
    ///
    /// # Errors
    /// As [`Journaled::open`].
    pub fn decide(
        fs: Arc<dyn FileSystem>,
        store_id: StoreId,
        applied_sequence: u64,
        mode: OpenMode,
    ) -> Result<DecidedJournal, StorageError> {
        let decided = Journal::decide(Arc::clone(&fs), store_id, applied_sequence, mode)?;
        Ok(DecidedJournal { fs, decided, store_id })
    }

    /// Opens what [`Journaled::decide`] judged, over the table that it judged it for.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where the table is another one than then; those of the file system and the table.
    pub fn open_decided(judged: DecidedJournal, table: T, options: JournaledOptions) -> Result<Self, StorageError> {
        let DecidedJournal { fs, decided, store_id } = judged;
        let applied = table.applied_sequence()?;
        if applied != decided.applied() {
            let what = format!("the table changed while it was opened applied={applied} before={}", decided.applied());
            return Err(StorageError::corrupt(what));
        }
        let mut replay = |batch: Batch, sequence| table.apply(&[&batch], Some(sequence));
        let journal = decided.finish(options.segment_bytes, &mut replay)?;
        Ok(Self::new(fs, table, store_id, journal, options))
    }

    fn new(fs: Arc<dyn FileSystem>, table: T, store_id: StoreId, journal: Journal, options: JournaledOptions) -> Self {
        let recovered = journal.durable_sequence();
        let lock_wait = Duration::from_millis(options.lock_wait_ms);
        let ahead = Ahead::new(options.spawner.clone());
        Self {
            fs,
            table,
            rows: RowCache::new(options.row_cache_bytes),
            store_id,
            locks: Arc::new(LockTable::new(lock_wait, Arc::clone(&options.clock))),
            options,
            journal: Arc::new(Mutex::new(journal)),
            ahead,
            turns: Turns::default(),
            pending: Pending::default(),
            recovered_sequence: recovered,
            applied_sequence: AtomicU64::new(recovered),
            // Nothing is taken back before this handle has seen a flush of its own.
            flushed_sequence: Mutex::new(0),
            poison: Mutex::new(None),
        }
    }

    /// The table below.
    pub fn table(&self) -> &T {
        &self.table
    }

    /// The lock table, for those who want to know how many rows are in use.
    pub fn locks(&self) -> &LockTable {
        &self.locks
    }

    /// Runs `work`; should it panic, nothing more is written: what it left half done is for the next opening to judge.
    fn guarded<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Unwinding<'a, T>(&'a Journaled<T>);
        impl<T> Drop for Unwinding<'_, T> {
            fn drop(&mut self) {
                self.0.poison.lock().get_or_insert_with(|| "a commit panicked".to_owned());
                // The table may hold what was not followed yet, or lack what was acknowledged, and reads go on.
                self.0.pending.stick();
                self.0.rows.clear();
            }
        }
        let unwinding = Unwinding(self);
        let done = work();
        std::mem::forget(unwinding);
        done
    }

    /// The journal, unless somebody else has it for longer than anybody waits for a row: a sync may hang for as long as the
    /// medium does.
    fn lock_journal(&self) -> Result<MutexGuard<'_, Journal>, StorageError> {
        self.lock_in_time(&self.journal, "the journal")
    }

    fn lock_in_time<'a, R>(&self, lock: &'a Mutex<R>, what: &'static str) -> Result<MutexGuard<'a, R>, StorageError> {
        let waited_ms = self.options.lock_wait_ms;
        let held = lock.try_lock_for(Duration::from_millis(waited_ms));
        held.ok_or(StorageError::Unavailable { what, waited_ms })
    }

    fn refuse_if_poisoned(&self) -> Result<(), StorageError> {
        match &*self.poison.lock() {
            Some(cause) => Err(StorageError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&self, cause: &dyn std::error::Error) {
        let text = match cause.source() {
            Some(source) => format!("{cause}: {source}"),
            None => cause.to_string(),
        };
        self.poison.lock().get_or_insert(text);
    }

    /// The first half of a commit: durable in the journal, shown to readers, with a place in the order of applying.
    fn journal(&self, group: &[Member], last_sequence: u64, durability: Durability) -> Result<Turn<'_>, CommitError> {
        let mut journal = self.lock_journal().map_err(CommitError::Failed)?;
        // Under the lock: whoever failed before this group has said so.
        self.refuse_if_poisoned().map_err(CommitError::Failed)?;
        if durability == Durability::Synced {
            let batches = group.iter().map(|member| member.batch.as_bytes());
            if let Err(failure) = journal.append(batches, last_sequence) {
                if failure.poisons {
                    self.poison(&failure.error);
                }
                return Err(failure.error);
            }
            // The group is durable whatever becomes of its second copy; the next one is refused.
            if let Err(error) = journal.write_mark() {
                self.poison(&error);
            }
        }
        let due = if self.ahead.is_possible() { journal.spare_due() } else { None };
        let (turn, bytes) = (self.turns.issue(), journal.segment_bytes());
        if durability == Durability::Synced {
            self.pending.show(group);
        }
        drop(journal);
        if let Some(path) = due {
            self.ahead.make(&self.fs, &self.journal, path, bytes);
        }
        Ok(turn)
    }

    /// The second half, when it is the group's turn: in the table.
    fn apply(&self, group: &[Member], last_sequence: u64, durability: Durability) -> Result<(), StorageError> {
        let batches: Vec<&Batch> = group.iter().map(|member| &*member.batch).collect();
        let sequence = (durability == Durability::Synced).then_some(last_sequence);
        if let Err(error) = self.table.apply(&batches, sequence) {
            self.pending.stick();
            self.rows.clear();
            self.poison(&error);
            return Err(error);
        }
        if let Some(sequence) = sequence {
            self.applied_sequence.store(sequence, Ordering::Release);
            self.pending.applied();
        }
        Ok(())
    }

    /// Brings the rows that are kept up to what the table has taken. The group still holds their locks, so the next one may
    /// be applied meanwhile.
    fn follow(&self, group: &[Member]) {
        for write in group.iter().flat_map(|member| member.batch.iter()) {
            match write {
                Write::Put { key, .. } | Write::Delete { key } if (self.options.unguarded)(key) => {}
                Write::Put { key, value } => self.rows.follow(key, Some(value)),
                Write::Delete { key } => self.rows.follow(key, None),
            }
        }
    }

    /// Seals the journal unless somebody is writing to it: then the next record says the same.
    fn seal(&self) {
        let Some(mut journal) = self.journal.try_lock() else { return };
        if self.refuse_if_poisoned().is_ok()
            && let Err(error) = journal.seal()
        {
            self.poison(&error);
        }
    }

    /// Flushes the table if more than `full_segments` wait for it, and takes back the segments that it covers.
    fn take_back_segments(&self, flushed: &mut u64, full_segments: usize) -> Result<(), StorageError> {
        if self.lock_journal()?.full_segments() > full_segments {
            let through = self.applied_sequence.load(Ordering::Acquire);
            self.table.flush().inspect_err(|error| self.poison(error))?;
            *flushed = through;
        }
        let retired = self.lock_journal()?.retire(*flushed);
        for full in retired {
            let recycled = {
                let mut journal = self.lock_journal()?;
                journal.can_recycle(&full).then(|| journal.spare_name())
            };
            match recycled {
                Some(path) => {
                    // After a failed sync of the journal's directory no name in it is certain, those of later segments included.
                    let spare = full.recycle(&self.fs, path).inspect_err(|error| {
                        if error.is_failed_sync() {
                            self.poison(error);
                        }
                    })?;
                    if let Some(spare) = self.journal.lock().offer_spare(spare) {
                        spare.remove(&*self.fs)?;
                    }
                }
                None => full.remove(&*self.fs)?,
            }
        }
        Ok(())
    }

    fn prepare_next_segment(&self) -> Result<(), StorageError> {
        let (path, bytes) = {
            let mut journal = self.lock_journal()?;
            let Some(path) = journal.spare_due() else { return Ok(()) };
            (path, journal.segment_bytes())
        };
        let made = journal::make_spare(&self.fs, path, bytes);
        let (made, failed) = match made {
            Ok(spare) => (Some(spare), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if let Some(spare) = self.journal.lock().spare_made(made) {
            spare.remove(&*self.fs)?;
        }
        failed
    }

    /// Reads rows from the cache, and from the table what is not there.
    fn read_through(&self, keys: &[&[u8]]) -> Result<Values, StorageError> {
        if self.pending.is_stuck() {
            return Ok(self.view()?.get_many(keys)?.into());
        }
        let mut values = Values::with_capacity(keys.len());
        let (mut asked, mut unknown) = (Vec::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            if let Err(since) = self.rows.get(key, |value| values.push(value)) {
                values.push(None);
                asked.push(*key);
                unknown.push((at, since));
            }
        }
        if asked.is_empty() {
            return Ok(values);
        }
        for ((key, value), (at, since)) in asked.iter().zip(self.table.get_many(&asked)?).zip(unknown) {
            // Rows without a lock of their own change without the cache.
            if !(self.options.unguarded)(key) {
                self.rows.keep(key, value.as_deref(), since);
            }
            values.set(at, value.as_deref());
        }
        Ok(values)
    }

    fn check_guards(&self, group: &[Member]) {
        for member in group {
            let guard = member.locks.guard().downcast_ref::<LockGuard>();
            for Write::Put { key, .. } | Write::Delete { key } in member.batch.iter() {
                assert!(
                    (self.options.unguarded)(key) || guard.is_some_and(|guard| guard.holds_exclusive(key)),
                    "a row is written that is not held exclusive key={}",
                    key.escape_ascii()
                );
            }
        }
    }
}

impl<T: Table> MetadataStore for Journaled<T> {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        self.get_locked(rows, self.locks.acquire(rows)?)
    }

    fn try_lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<Option<LockSet>, StorageError> {
        self.locks.try_acquire(rows).map(|guard| self.get_locked(rows, guard)).transpose()
    }

    fn peek(&self, keys: &[&[u8]]) -> Result<Values, StorageError> {
        self.read_through(keys)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.pending.view(&self.table)
    }

    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        self.guarded(|| self.commit_group(group, last_sequence, durability, reached))
    }

    fn recovered_sequence(&self) -> u64 {
        self.recovered_sequence
    }

    fn poisoned(&self) -> Option<String> {
        self.poison.lock().clone()
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.store_id)
    }

    fn maintain(&self) -> Result<(), StorageError> {
        self.guarded(|| self.maintain_journal(|_| Ok(())))
    }

    fn close(&self) -> Result<(), StorageError> {
        self.guarded(|| self.maintain_journal(Journal::mark_end))
    }
}

impl<T: Table> Journaled<T> {
    /// The values of rows that `guard` holds.
    fn get_locked(&self, rows: &[(&[u8], LockMode)], guard: LockGuard) -> Result<LockSet, StorageError> {
        let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| *key).collect();
        Ok(LockSet::new(self.read_through(&keys)?, Box::new(guard)))
    }

    fn commit_group(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        if self.options.check_guards {
            self.check_guards(group);
        }
        self.wait_while_stalled().map_err(CommitError::Failed)?;
        let turn = self.journal(group, last_sequence, durability)?;
        if durability == Durability::Synced {
            reached(Milestone::Committed);
        }
        let uncertain = |error| match durability {
            Durability::Synced => CommitError::Unknown(error),
            Durability::Relaxed => CommitError::Failed(error),
        };
        // A group before this one is durable and not in the table: this one must not overtake it.
        turn.wait().map_err(|()| {
            self.pending.stick();
            self.rows.clear();
            uncertain(StorageError::Poisoned { cause: "an earlier group could not be applied".to_owned() })
        })?;
        // One group is synced while one is applied, and no more: where applying takes longer, those who come meanwhile
        // make one large group, not many that cost a sync each and then stand in line here.
        if durability == Durability::Synced {
            reached(Milestone::Next);
        }
        self.apply(group, last_sequence, durability).map_err(uncertain)?;
        turn.done();
        if durability == Durability::Relaxed {
            reached(Milestone::Committed);
            reached(Milestone::Next);
        }
        self.follow(group);
        if durability == Durability::Synced {
            self.seal();
            // Nobody maintains the store: better one slow commit than a journal without bounds.
            let overdue = self.options.full_segments_max.saturating_mul(2);
            if self.journal.try_lock().is_some_and(|journal| journal.full_segments() > overdue)
                && let Some(mut flushed) = self.flushed_sequence.try_lock()
            {
                // A failure that matters to later commits has poisoned them; this one is done.
                let _ = self.take_back_segments(&mut flushed, overdue);
            }
        }
        Ok(())
    }

    /// Waits for a table that takes no writes. It must be known before the journal has the group: from then on the group
    /// is durable, and there is no way back. A stall that begins only then holds up this group, and no later one.
    fn wait_while_stalled(&self) -> Result<(), StorageError> {
        let mut waited_ms = 0;
        while self.table.is_stalled() {
            if waited_ms >= self.options.lock_wait_ms {
                return Err(StorageError::Unavailable { what: "the metadata table to catch up", waited_ms });
            }
            // Nobody wakes it: a table does not say when it goes on.
            let (nothing, never) = (Mutex::new(()), Condvar::new());
            never.wait_for(&mut nothing.lock(), Duration::from_millis(STALL_LOOK_MS));
            waited_ms += STALL_LOOK_MS;
        }
        Ok(())
    }

    /// Does the work that is due; `last` adds what else is to be synced.
    fn maintain_journal(&self, last: fn(&mut Journal) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let mut flushed = self.lock_in_time(&self.flushed_sequence, "other maintenance")?;
        {
            // Under the lock: a failed sync is told to one caller only, and the next group must not be the one that
            // does not hear of it.
            let mut journal = self.lock_journal()?;
            self.refuse_if_poisoned()?;
            let synced = journal.seal().and_then(|()| last(&mut journal)).and_then(|()| journal.sync());
            synced.inspect_err(|error| self.poison(error))?;
        }
        self.take_back_segments(&mut flushed, self.options.full_segments_max)?;
        self.prepare_next_segment()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Journaled<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journaled")
            .field("table", &self.table)
            .field("applied_sequence", &self.applied_sequence)
            .field("poison", &*self.poison.lock())
            .finish_non_exhaustive()
    }
}

/// The order in which groups are applied: that of the journal.
#[derive(Default)]
struct Turns {
    state: Mutex<TurnState>,
    changed: Condvar,
}

#[derive(Default)]
struct TurnState {
    issued: u64,
    done: u64,
    // A turn ended without its group being applied.
    broken: bool,
}

/// One group's place in the order. Ends when it is dropped, so that a panic stops nobody.
struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
    applied: bool,
}

impl Turns {
    /// Called under the journal's lock, which makes the order of the turns that of the journal.
    fn issue(&self) -> Turn<'_> {
        let mut state = self.state.lock();
        let number = state.issued;
        state.issued += 1;
        Turn { turns: self, number, applied: false }
    }
}

impl Turn<'_> {
    /// Waits for every earlier group; an error if one of them could not be applied.
    fn wait(&self) -> Result<(), ()> {
        let mut state = self.turns.state.lock();
        while state.done < self.number {
            self.turns.changed.wait(&mut state);
        }
        if state.broken { Err(()) } else { Ok(()) }
    }

    fn done(mut self) {
        self.applied = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        while state.done < self.number {
            self.turns.changed.wait(&mut state);
        }
        state.done += 1;
        state.broken |= !self.applied;
        drop(state);
        self.turns.changed.notify_all();
    }
}
