//! The journaled store between threads: the order of its groups, what becomes of those behind a failure, what it keeps of rows.
#![allow(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::mem::MemTable;
use layerhold::store::real::RealFileSystem;
use layerhold::store::table::Table;
use layerhold::store::{
    Batch, CommitError, Durability, LockMode, Member, MetadataStore, Milestone, StorageError, View,
};
use layerhold_testkit::fs::SimFileSystem;

/// A table that takes a group only while its gate is open, none where it is broken, and panics once where it is to.
#[derive(Debug, Default)]
struct Gated {
    rows: MemTable,
    shut: Mutex<bool>,
    changed: Condvar,
    broken: AtomicBool,
    panics: AtomicBool,
}

impl Gated {
    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }
}

impl Table for Gated {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.rows.view()
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.rows.get_many(keys)
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        drop(self.changed.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to");
        if self.broken.load(Ordering::SeqCst) {
            return Err(StorageError::corrupt("told to"));
        }
        self.rows.apply(batches, sequence)
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        self.rows.applied_sequence()
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.rows.flush()
    }
}

/// A store over a gated table, and how far its groups came.
struct Line {
    store: Journaled<Gated>,
    /// The last group that is committed.
    committed: AtomicU64,
    /// The last group that asked for the next one.
    asked: AtomicU64,
    _dir: tempfile::TempDir,
}

impl Line {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem::new(dir.path().to_owned()).unwrap());
        let options = JournaledOptions::default().with_guard_checks(false);
        let store = Journaled::create(fs, Gated::default(), [1; 16], options).unwrap();
        Self { store, committed: AtomicU64::new(0), asked: AtomicU64::new(0), _dir: dir }
    }

    fn commit(&self, sequence: u64) -> Result<(), CommitError> {
        let mut batch = Batch::new();
        batch.put(b"row", &sequence.to_be_bytes());
        let group = [Member::new(self.store.lock_and_get(&[]).unwrap(), batch)];
        self.store.commit(&group, sequence, Durability::Synced, &mut |milestone| match milestone {
            Milestone::Committed => self.committed.store(sequence, Ordering::SeqCst),
            Milestone::Next => self.asked.store(sequence, Ordering::SeqCst),
        })
    }

    /// What a view shows.
    fn shown(&self) -> u64 {
        u64::from_be_bytes(self.store.view().unwrap().get(b"row").unwrap().unwrap().try_into().unwrap())
    }

    /// Commits a second group while the first one is being applied, and sees that both are committed before the first is
    /// through; gives which of them had asked for the next one by then, and what came of both.
    #[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
    fn two_groups(&self) -> (u64, [Result<(), CommitError>; 2]) {
        self.store.table().shut(true);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| self.commit(1));
            let begin = Instant::now();
            while self.asked.load(Ordering::SeqCst) < 1 && begin.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            let second = scope.spawn(|| self.commit(2));
            while self.committed.load(Ordering::SeqCst) < 2 && begin.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            assert_eq!(self.shown(), 2);
            assert!(
                self.store.table().view().unwrap().get(b"row").unwrap().is_none(),
                "the table has nothing of it yet"
            );
            std::thread::sleep(Duration::from_millis(200));
            let asked = self.asked.load(Ordering::SeqCst);
            self.store.table().shut(false);
            (asked, [first, second].map(|group| group.join().unwrap()))
        })
    }
}

/// Goal: where applying is slower than a sync, those who come meanwhile make one large group and cost one sync; they do not
/// stand in line behind one another with groups of one.
#[test]
fn one_group_is_synced_while_one_is_applied_and_no_more() {
    let line = Line::new();
    let (asked, ended) = line.two_groups();
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!((asked, line.asked.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(line.shown(), 2);
    assert!(
        line.store.table().view().unwrap().get(b"row").unwrap().is_some(),
        "nothing is shown beside the table for good"
    );
}

/// Goal: what was acknowledged is read back even where the table does not take it, in every way of reading, and nothing more is
/// committed.
#[test]
fn groups_that_could_not_be_applied_are_shown_and_ask_for_no_other() {
    let line = Line::new();
    line.store.table().broken.store(true, Ordering::SeqCst);
    let (_, ended) = line.two_groups();
    for failed in &ended {
        assert!(matches!(failed, Err(CommitError::Unknown(_))), "{failed:?}");
    }
    assert_eq!(line.asked.load(Ordering::SeqCst), 1);
    assert!(matches!(line.commit(3), Err(CommitError::Failed(StorageError::Poisoned { .. }))));
    let expected = [Some(2_u64.to_be_bytes().to_vec())];
    assert_eq!(line.shown(), 2);
    assert_eq!(line.store.peek(&[b"row"]).unwrap().to_vec(), expected);
    assert_eq!(line.store.lock_and_get(&[(b"row", LockMode::Shared)]).unwrap().values().to_vec(), expected);
}

/// Goal: rows are kept for those who only look, without a lock, and neither a lock nor a look ever shows an older one than was
/// committed, however many look and whatever is kept no longer.
#[test]
fn what_is_kept_of_a_row_is_what_was_committed_last() {
    const WRITERS: u8 = 4;
    const KEYS: u64 = 100;
    // Room for a third of the rows, so that many are unknown when they change.
    let options = JournaledOptions::default().with_row_cache_bytes(16 << 10);
    let store = Journaled::create(Arc::new(SimFileSystem::new(1)), MemTable::new(), [1; 16], options).unwrap();
    let (line, done) = (Mutex::new(0_u64), AtomicBool::new(false));
    let key = |writer: u8, number: u64| [[writer].as_slice(), &number.to_be_bytes()].concat();
    let keys = |writer: u8| -> Vec<Vec<u8>> { (0..KEYS).map(|number| key(writer, number)).collect() };
    let peek = |keys: &[Vec<u8>]| store.peek(&keys.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap().to_vec();
    // Each row is there in every second turn.
    let value = |turn: u64| turn.is_multiple_of(2).then(|| turn.to_be_bytes().to_vec());
    let write = |writer: u8, turn: u64, number: u64| {
        let key = key(writer, number);
        let locks = store.lock_and_get(&[(&key, LockMode::Exclusive)]).unwrap();
        assert_eq!(locks.values().to_vec(), [turn.checked_sub(1).and_then(value)], "turn {turn}");
        let mut batch = Batch::new();
        match value(turn) {
            Some(value) => batch.put(&key, &value),
            None => batch.delete(&key),
        }
        let mut sequence = line.lock().unwrap();
        *sequence += 1;
        store.commit(&[Member::new(locks, batch)], *sequence, Durability::Synced, &mut |_| ()).unwrap();
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (peek, keys, done) = (&peek, &keys, &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    peek(&keys(writer));
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let write = &write;
                scope.spawn(move || (0..30).for_each(|turn| (0..KEYS).for_each(|number| write(writer, turn, number))))
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    for writer in 0..WRITERS {
        assert_eq!(peek(&keys(writer)), vec![value(29); usize::try_from(KEYS).unwrap()]);
    }
}

#[test]
fn a_panic_in_the_middle_of_a_commit_ends_all_writing() {
    for durability in [Durability::Synced, Durability::Relaxed] {
        let fs: Arc<dyn FileSystem> = Arc::new(SimFileSystem::new(1));
        let options = JournaledOptions::default().with_guard_checks(false);
        let store = Journaled::create(fs, Gated::default(), [1; 16], options).unwrap();
        let commit = |sequence: u64, durability| {
            let mut batch = Batch::new();
            batch.put(b"key", &sequence.to_be_bytes());
            let member = Member::new(store.lock_and_get(&[]).unwrap(), batch);
            store.commit(&[member], sequence, durability, &mut |_| ())
        };
        commit(1, Durability::Synced).unwrap();
        store.table().panics.store(true, Ordering::SeqCst);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| commit(2, durability)));
        assert!(panicked.is_err());
        for durability in [Durability::Synced, Durability::Relaxed] {
            let refused = commit(3, durability).unwrap_err();
            assert!(matches!(refused, CommitError::Failed(StorageError::Poisoned { .. })), "{refused:?}");
        }
        assert!(matches!(store.maintain(), Err(StorageError::Poisoned { .. })));
        // Reads go on, and what was acknowledged before the panic is there.
        let expected = Some(if durability == Durability::Synced { 2_u64 } else { 1 }.to_be_bytes().to_vec());
        assert_eq!(store.view().unwrap().get(b"key").unwrap(), expected);
        let locks = store.lock_and_get(&[(b"key", LockMode::Exclusive)]).unwrap();
        assert_eq!(locks.values().to_vec(), [expected]);
    }
}
