//! The group committer: transactions that are ready at the same time become durable with one sync.
//!
//! The first waiter leads: it takes everything that is queued, gives each member its sequence, adds change-log and
//! operation rows, folds counter deltas, and hands the group to the store. Its members are told as soon as it is durable
//! and readers see it. As soon as the store can take the next group, the first of those who queued up meanwhile leads that
//! one, so that one group is applied while the next one is being synced. The locks of a group are held until it is applied.

use std::cell::Cell;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::call::OperationId;
use crate::change::{ChangeRow, Event};
use crate::clock::Clock;
use crate::format::keys::{self, KeyBytes};
use crate::format::values::{ClockRow, OperationRow, Row, UsageRow};
use crate::name::Principal;
use crate::store::{Batch, CommitError, Durability, LockSet, Member, MetadataStore, Milestone, StorageError};
use crate::time::EngineTime;

/// Adds to the four counters of one usage row.
#[derive(Debug, Clone)]
pub(crate) struct Delta {
    /// The usage row.
    pub(crate) key: KeyBytes,
    /// What is added to each counter.
    pub(crate) add: [i64; 4],
    /// The counter that must not pass a limit, and the limit.
    pub(crate) cap: Option<(usize, u64)>,
    /// Whether it counts from nothing, whatever the row says: a repair counted anew, under a lock that keeps others from
    /// counting.
    pub(crate) anew: bool,
}

/// A decided transaction: what it writes, and the locks under which it was decided.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) locks: LockSet,
    pub(crate) batch: Batch,
    /// Rows whose key ends in the sequence that the committer gives.
    pub(crate) sequenced: Vec<(KeyBytes, Vec<u8>)>,
    pub(crate) deltas: Vec<Delta>,
    pub(crate) operation_id: OperationId,
    pub(crate) arguments: [u8; 32],
    pub(crate) result: Vec<u8>,
    pub(crate) principal: Principal,
    pub(crate) event: Event,
}

/// Why a submission is not committed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A counter would pass its limit. Certainly absent.
    OverLimit { limit: u64 },
    /// The store said so.
    Store(CommitError),
}

/// See the module.
pub(crate) struct Committer {
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    time: EngineTime,
    /// How long a submission waits to be put into a group.
    wait_ms_max: u64,
    queue: Mutex<Queue>,
    ledger: Mutex<Ledger>,
    /// Why nothing can be committed any more: the outcome of an earlier group is not known.
    poisoned: OnceLock<String>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Slot>>,
    led: bool,
}

/// A group takes no more members once their writes are this long together: it is held in memory twice while it is written,
/// and everybody in it waits for all of it.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// How many usage rows are remembered beyond those that groups in flight write.
const COUNTERS_KEPT: usize = 4_096;

/// What the leader knows beyond what can be read.
struct Ledger {
    last_sequence: u64,
    acknowledged_sequence: u64,
    /// Usage rows as they are after the last group that was formed. The committer alone writes them, so a row that is
    /// remembered need not be read.
    counters: HashMap<KeyBytes, Counter>,
}

/// A usage row, and how many groups in flight write it.
struct Counter {
    row: UsageRow,
    groups: usize,
}

/// One waiter.
struct Slot {
    /// Length of its writes.
    bytes: usize,
    state: Mutex<SlotState>,
    changed: Condvar,
}

enum SlotState {
    /// Not decided; the submission waits to be taken.
    Waiting(Option<Submission>),
    /// The waiter is to lead the next group, its own submission among it.
    Leading(Option<Submission>),
    /// Decided.
    Done(Option<Result<u64, Refusal>>),
}

/// A group on its way to the store.
#[derive(Default)]
struct Group {
    members: Vec<Member>,
    slots: Vec<(Arc<Slot>, u64)>,
    /// The usage rows it writes, with what was remembered of them before.
    counters: Vec<(KeyBytes, Option<UsageRow>)>,
    first_sequence: u64,
    last_sequence: u64,
}

impl Committer {
    /// `last_sequence` is the highest sequence in the store.
    pub(crate) fn new(
        store: Arc<dyn MetadataStore>,
        last_sequence: u64,
        clock: Arc<dyn Clock>,
        time: EngineTime,
        wait_ms_max: u64,
    ) -> Self {
        let ledger = Ledger { last_sequence, acknowledged_sequence: last_sequence, counters: HashMap::new() };
        let (queue, ledger) = (Mutex::default(), Mutex::new(ledger));
        Self { store, clock, time, wait_ms_max, queue, ledger, poisoned: OnceLock::new() }
    }

    /// Engine time, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.time.now_ms(self.clock.as_ref())
    }

    /// Wall time, in milliseconds, for display.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// The sequence of the last acknowledged change.
    pub(crate) fn acknowledged_sequence(&self) -> u64 {
        self.ledger.lock().acknowledged_sequence
    }

    /// An error once the outcome of a commit is not known, or one failed and no other can follow. Until the store is opened
    /// again nobody can tell which rows hold, or can write down what became of a file, so nothing beside the rows may be
    /// touched either: a file that a row in doubt speaks of must stay as it is, and no failed sync be tried again.
    pub(crate) fn check_certain(&self) -> Result<(), StorageError> {
        match self.poisoned.get() {
            Some(cause) => Err(StorageError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Reads a usage row again when it is next written. `false` while a group is in flight that writes it.
    ///
    /// What is remembered is right even where the stored row is damaged, so whoever is about to add what a count found to
    /// be missing from the stored row must have it forgotten first.
    pub(crate) fn forget_counter(&self, key: &[u8]) -> bool {
        let mut ledger = self.ledger.lock();
        let in_flight = ledger.counters.get(key).is_some_and(|counter| counter.groups > 0);
        if !in_flight {
            ledger.counters.remove(key);
        }
        !in_flight
    }

    /// The highest sequence that was given to anybody.
    pub(crate) fn given_sequence(&self) -> u64 {
        self.ledger.lock().last_sequence
    }

    /// Commits and waits; the sequence of the commit, which is durable and readable when this returns.
    ///
    /// Where the groups before it do not end in time it is refused with [`StorageError::Unavailable`] and certainly absent.
    /// Once it is in a group it waits for the outcome, however long that takes: nothing else could be said for certain.
    pub(crate) fn submit(&self, submission: Submission) -> Result<u64, Refusal> {
        let bytes = submission.batch.as_bytes().len();
        let state = Mutex::new(SlotState::Waiting(Some(submission)));
        let slot = Arc::new(Slot { bytes, state, changed: Condvar::new() });
        let lead = {
            let mut queue = self.queue.lock();
            queue.waiting.push_back(Arc::clone(&slot));
            !std::mem::replace(&mut queue.led, true)
        };
        if lead {
            self.lead();
        }
        let mut since_ms = self.clock.monotonic_ms();
        loop {
            let mut state = slot.state.lock();
            match &mut *state {
                SlotState::Done(outcome) => {
                    if let Some(outcome) = outcome.take() {
                        return outcome;
                    }
                    // Unreachable: the outcome is taken once, by the one waiter of the slot.
                    return Err(Refusal::Store(CommitError::Failed(StorageError::Closed)));
                }
                SlotState::Leading(submission) => {
                    let submission = submission.take();
                    *state = SlotState::Waiting(submission);
                    drop(state);
                    self.lead();
                }
                // In a group: what becomes of it is known when the store says so, and not before.
                SlotState::Waiting(None) => slot.changed.wait(&mut state),
                SlotState::Waiting(Some(_)) => {
                    let waited_ms = self.clock.monotonic_ms().saturating_sub(since_ms);
                    let left = Duration::from_millis(self.wait_ms_max.saturating_sub(waited_ms));
                    if slot.changed.wait_for(&mut state, left).timed_out() {
                        drop(state);
                        if self.withdraw(&slot) {
                            let waited_ms = self.wait_ms_max;
                            let error = StorageError::Unavailable { what: "the commits before this one", waited_ms };
                            return Err(Refusal::Store(CommitError::Failed(error)));
                        }
                        // A leader has it and will say so.
                        since_ms = self.clock.monotonic_ms();
                    }
                }
            }
        }
    }

    /// Takes a waiter out of the queue, unless it is in a group or to lead one.
    fn withdraw(&self, slot: &Arc<Slot>) -> bool {
        let mut queue = self.queue.lock();
        let waits = matches!(&*slot.state.lock(), SlotState::Waiting(Some(_)));
        let place = queue.waiting.iter().position(|other| Arc::ptr_eq(other, slot));
        match place.filter(|_| waits) {
            Some(place) => queue.waiting.remove(place).is_some(),
            None => false,
        }
    }

    /// Commits without a sync, a sequence or a change-log entry.
    pub(crate) fn submit_relaxed(&self, locks: LockSet, batch: Batch) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let group = [Member::new(locks, batch)];
        self.store.commit(&group, 0, Durability::Relaxed, &mut |_| {}).map_err(|error| match error {
            CommitError::Failed(error) | CommitError::Unknown(error) => error,
            CommitError::Conflict => StorageError::Unavailable { what: "an unsynced commit", waited_ms: 0 },
        })
    }

    fn lead(&self) {
        let slots = self.queue.lock().take_group(self.store.group_members_max());
        let led = Led { committer: self, slots, stage: Cell::new(Stage::Forming), handed_over: Cell::new(false) };
        let group = self.form(&led.slots);
        if group.members.is_empty() {
            led.stage.set(Stage::Ended);
            return;
        }
        led.stage.set(Stage::Committing);
        let mut reached = |milestone| match milestone {
            Milestone::Committed => {
                self.ledger.lock().acknowledged_sequence = group.last_sequence;
                led.stage.set(Stage::Committed);
                group.slots.iter().for_each(|(slot, sequence)| slot.finish(Ok(*sequence)));
            }
            Milestone::Next => {
                led.handed_over.set(true);
                self.hand_over();
            }
        };
        let outcome = self.store.commit(&group.members, group.last_sequence, Durability::Synced, &mut reached);
        let committed = led.stage.get() == Stage::Committed;
        self.settle(&group, &outcome, committed);
        // The locks go before anybody is told of a failure, so that whoever tries again finds them free.
        drop(group.members);
        if !committed {
            for (slot, sequence) in &group.slots {
                slot.finish(match &outcome {
                    Ok(()) => Ok(*sequence),
                    Err(error) => Err(Refusal::Store(repeat(error))),
                });
            }
        }
        led.stage.set(Stage::Ended);
    }

    /// Gives the next group to the first of those who wait, or lets the next submission lead.
    fn hand_over(&self) {
        let slot = {
            let mut queue = self.queue.lock();
            let Some(slot) = queue.waiting.front().cloned() else {
                queue.led = false;
                return;
            };
            let mut state = slot.state.lock();
            if let SlotState::Waiting(submission) = &mut *state {
                *state = SlotState::Leading(submission.take());
            }
            drop(state);
            slot
        };
        // Without the locks, which it would want at once.
        slot.changed.notify_one();
    }

    /// Turns queued submissions into a group; those whose quota is used up are told at once.
    fn form(&self, slots: &[Arc<Slot>]) -> Group {
        let mut ledger = self.ledger.lock();
        let mut group = Group { first_sequence: ledger.last_sequence + 1, ..Group::default() };
        let (engine_ms, wall_ms) = (self.now_ms(), self.clock.wall_ms());
        // In the order of the keys: what is asked in the same way is written as the same bytes, so that a seed repeats it.
        let mut touched: BTreeMap<KeyBytes, UsageRow> = BTreeMap::new();
        for slot in slots {
            let Some(submission) = slot.take() else { continue };
            if let Err(error) = self.check_certain() {
                drop(submission);
                slot.finish(Err(Refusal::Store(CommitError::Failed(error))));
                continue;
            }
            match self.fold(&ledger, &mut touched, &submission.deltas) {
                Ok(()) => {}
                Err(refusal) => {
                    drop(submission);
                    slot.finish(Err(refusal));
                    continue;
                }
            }
            ledger.last_sequence += 1;
            let sequence = ledger.last_sequence;
            group.members.push(complete_member(submission, sequence, engine_ms, wall_ms));
            group.slots.push((Arc::clone(slot), sequence));
        }
        group.last_sequence = ledger.last_sequence;
        if let Some(last) = group.members.last_mut() {
            // Nobody else has it yet.
            let batch = Arc::make_mut(&mut last.batch);
            batch.put(&keys::meta::clock(), &ClockRow { engine_ms, wall_ms }.encode());
            for (key, row) in touched {
                batch.put(&key, &row.encode());
                let before = match ledger.counters.entry(key.clone()) {
                    Entry::Occupied(mut entry) => {
                        entry.get_mut().groups += 1;
                        Some(std::mem::replace(&mut entry.get_mut().row, row))
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(Counter { row, groups: 1 });
                        None
                    }
                };
                group.counters.push((key, before));
            }
        }
        group
    }

    /// Adds one member's deltas to what the group has so far; nothing is added when one of them is refused.
    fn fold(
        &self,
        ledger: &Ledger,
        touched: &mut BTreeMap<KeyBytes, UsageRow>,
        deltas: &[Delta],
    ) -> Result<(), Refusal> {
        let failed = |error| Refusal::Store(CommitError::Failed(error));
        // What follows reads each row as it was before this member.
        debug_assert!(
            deltas.iter().enumerate().all(|(n, delta)| deltas.iter().skip(n + 1).all(|other| other.key != delta.key)),
            "a transaction counts twice in one usage row"
        );
        let mut folded = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let current = match (touched.get(&delta.key), ledger.counters.get(&delta.key)) {
                _ if delta.anew => UsageRow::default(),
                (Some(row), _) => *row,
                (None, Some(counter)) => counter.row,
                (None, None) => {
                    let stored = self.store.view().and_then(|view| view.get(&delta.key)).map_err(failed)?;
                    UsageRow::decode_optional(stored.as_deref()).map_err(failed)?.unwrap_or_default()
                }
            };
            let mut row = current;
            for (counter, add) in row.0.iter_mut().zip(delta.add) {
                *counter = counter.checked_add_signed(add).ok_or_else(|| {
                    failed(StorageError::corrupt(format!("usage row counts below zero or beyond 64 bits: {current:?}")))
                })?;
            }
            if let Some((index, limit)) = delta.cap {
                let exceeded = delta.add.get(index).is_some_and(|add| *add > 0)
                    && row.0.get(index).is_some_and(|value| *value > limit);
                if exceeded {
                    return Err(Refusal::OverLimit { limit });
                }
            }
            folded.push((delta.key.clone(), row));
        }
        touched.extend(folded);
        Ok(())
    }

    /// Brings the ledger up to date with what became of a group.
    fn settle(&self, group: &Group, outcome: &Result<(), CommitError>, committed: bool) {
        let mut ledger = self.ledger.lock();
        // Nothing of the group is there, and no later group was formed because none is before this one is committed: its
        // sequences and its counting are undone.
        let undone = matches!(outcome, Err(CommitError::Failed(_) | CommitError::Conflict)) && !committed;
        for (key, before) in &group.counters {
            if let Entry::Occupied(mut entry) = ledger.counters.entry(key.clone()) {
                entry.get_mut().groups -= 1;
                match before {
                    _ if !undone => {}
                    Some(before) => entry.get_mut().row = *before,
                    None => drop(entry.remove()),
                }
            }
        }
        if ledger.counters.len() > COUNTERS_KEPT {
            ledger.counters.retain(|_, counter| counter.groups > 0);
        }
        match outcome {
            Ok(()) => ledger.acknowledged_sequence = ledger.acknowledged_sequence.max(group.last_sequence),
            Err(_) if undone => {
                ledger.last_sequence = group.first_sequence - 1;
                // Whoever ends something because of a failed sync and cannot even commit that must not go on with its file.
                if let Some(cause) = self.store.poisoned() {
                    self.poisoned.get_or_init(|| cause);
                }
            }
            Err(error) => {
                self.poisoned.get_or_init(|| describe(error));
            }
        }
    }
}

impl Queue {
    /// The first of those who wait, at least one where there is one.
    fn take_group(&mut self, members_max: usize) -> Vec<Arc<Slot>> {
        let mut bytes = 0;
        let fits = |slot: &&Arc<Slot>| {
            bytes += slot.bytes;
            bytes <= GROUP_BYTES_MAX
        };
        let len = self.waiting.iter().take(members_max).take_while(fits).count().max(1);
        self.waiting.drain(..len.min(self.waiting.len())).collect()
    }
}

/// A group with its leader. However the leader ends, the next group gets one. Should it panic, the members are told, and
/// nothing is committed any more: nobody waits for a leader that is gone.
struct Led<'a> {
    committer: &'a Committer,
    slots: Vec<Arc<Slot>>,
    stage: Cell<Stage>,
    handed_over: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The store knows nothing of it.
    Forming,
    /// It is in the store's hands.
    Committing,
    /// It is committed, every member knows, and the store is still at it.
    Committed,
    /// Every member knows its outcome, and the store is done with it.
    Ended,
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        let stage = self.stage.get();
        if stage != Stage::Ended {
            let cause = "the leader of a commit panicked";
            self.committer.poisoned.get_or_init(|| cause.to_owned());
            for slot in &self.slots {
                let error = StorageError::Poisoned { cause: cause.to_owned() };
                slot.abandon(Refusal::Store(match stage {
                    Stage::Forming => CommitError::Failed(error),
                    _ => CommitError::Unknown(error),
                }));
            }
        }
        if !self.handed_over.get() {
            self.committer.hand_over();
        }
    }
}

impl Slot {
    fn take(&self) -> Option<Submission> {
        match &mut *self.state.lock() {
            SlotState::Waiting(submission) | SlotState::Leading(submission) => submission.take(),
            SlotState::Done(_) => None,
        }
    }

    fn finish(&self, outcome: Result<u64, Refusal>) {
        *self.state.lock() = SlotState::Done(Some(outcome));
        self.changed.notify_one();
    }

    /// Tells the waiter that there is nobody any more who would tell it more, unless somebody has.
    fn abandon(&self, refusal: Refusal) {
        let mut state = self.state.lock();
        if !matches!(*state, SlotState::Done(_)) {
            *state = SlotState::Done(Some(Err(refusal)));
            self.changed.notify_one();
        }
    }
}

fn complete_member(submission: Submission, sequence: u64, engine_ms: u64, wall_ms: u64) -> Member {
    let Submission { locks, mut batch, sequenced, operation_id, arguments, result, principal, event, .. } = submission;
    for (mut key, value) in sequenced {
        key.extend_from_slice(&sequence.to_be_bytes());
        batch.put(&key, &value);
    }
    let change = ChangeRow { operation_id, engine_ms, wall_ms, principal, event };
    batch.put(&keys::change(sequence), &change.encode());
    batch.put(&keys::operation(&operation_id.0), &OperationRow { sequence, arguments, result }.encode());
    Member::new(locks, batch)
}

/// One store error is told to every member of the group.
fn repeat(error: &CommitError) -> CommitError {
    let again = |source: &StorageError| match source {
        StorageError::NoSpace { operation, path, source } => StorageError::NoSpace {
            operation,
            path: path.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        StorageError::Io { operation, path, source } => StorageError::Io {
            operation,
            path: path.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        StorageError::NoDescriptors { operation, path, source } => StorageError::NoDescriptors {
            operation,
            path: path.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        StorageError::Unavailable { what, waited_ms } => StorageError::Unavailable { what, waited_ms: *waited_ms },
        StorageError::ReadOnly { reason } => StorageError::ReadOnly { reason: reason.clone() },
        StorageError::Poisoned { cause } => StorageError::Poisoned { cause: cause.clone() },
        other => StorageError::Poisoned { cause: other.to_string() },
    };
    match error {
        CommitError::Failed(source) => CommitError::Failed(again(source)),
        CommitError::Unknown(source) => CommitError::Unknown(again(source)),
        CommitError::Conflict => CommitError::Conflict,
    }
}

fn describe(error: &CommitError) -> String {
    match error {
        CommitError::Failed(source) | CommitError::Unknown(source) => source.to_string(),
        CommitError::Conflict => error.to_string(),
    }
}
