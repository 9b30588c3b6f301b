//! What every metadata store must do, apart from surviving crashes.
#![expect(clippy::disallowed_methods, reason = "waits are measured with the machine's clock, between real threads")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use layerhold::store::batch::Write;
use layerhold::store::{
    Batch, Direction, Durability, KeyRange, LockMode, Member, MetadataStore, Milestone, StorageError, View,
};

/// How long the subject's stores wait for a lock.
pub const LOCK_WAIT_MS: u64 = 400;

/// What is held to the contract.
pub trait Subject {
    /// A new, empty store whose lock waits end after [`LOCK_WAIT_MS`].
    fn create(&mut self) -> Arc<dyn MetadataStore>;

    /// Opens the store that was made last again. Nobody holds the one that was open before.
    fn reopen(&mut self) -> Arc<dyn MetadataStore>;
}

/// Holds every store that `subject` makes to the contract.
///
/// # Panics
/// Where one breaks it.
pub fn check(subject: &mut dyn Subject) {
    rows_come_back(&*subject.create());
    a_row_that_was_read_often_is_the_latest(&*subject.create());
    scans_keep_to_their_bounds(&*subject.create());
    a_view_is_one_moment(&*subject.create());
    members_apply_in_order_and_together(&*subject.create());
    a_committed_group_is_seen_at_once_and_whole(&*subject.create());
    a_large_group_is_like_a_small_one(&*subject.create());
    groups_overlap_and_keep_their_order(&subject.create());
    locks_are_held_and_waits_end(&subject.create());
    locked_values_are_the_latest(&subject.create());
    shared_locks_do_not_starve(&subject.create());
    relaxed_commits_take_no_sequence(subject);
    everything_synced_is_there_after_reopening(subject);
    maintenance_changes_nothing_that_is_read(subject);
}

/// Locks `writes` exclusive and commits them as one member with sequence number `sequence`.
///
/// # Panics
/// Where the store refuses.
pub fn put(store: &dyn MetadataStore, sequence: u64, writes: &[(&[u8], Option<&[u8]>)]) {
    commit(store, vec![member(store, writes)], sequence, Durability::Synced);
}

fn member(store: &dyn MetadataStore, writes: &[(&[u8], Option<&[u8]>)]) -> Member {
    let rows: Vec<(&[u8], LockMode)> = writes.iter().map(|(key, _)| (*key, LockMode::Exclusive)).collect();
    let mut batch = Batch::new();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    Member::new(store.lock_and_get(&rows).unwrap(), batch)
}

fn commit(store: &dyn MetadataStore, group: Vec<Member>, sequence: u64, durability: Durability) {
    let mut milestones = Vec::new();
    let mut reached = |milestone| {
        milestones.push(milestone);
        let view = store.view().unwrap();
        for (key, value) in last_writes(&group) {
            assert_eq!(view.get(key).unwrap().as_deref(), value, "not seen at {milestone:?}: {}", key.escape_ascii());
        }
    };
    store.commit(&group, sequence, durability, &mut reached).unwrap();
    assert_eq!(milestones, [Milestone::Committed, Milestone::Next]);
}

/// What a group makes of each row that it writes.
fn last_writes(group: &[Member]) -> BTreeMap<&[u8], Option<&[u8]>> {
    let writes = group.iter().flat_map(|member| member.batch.iter());
    writes
        .map(|write| match write {
            Write::Put { key, value } => (key, Some(value)),
            Write::Delete { key } => (key, None),
        })
        .collect()
}

fn get(store: &dyn MetadataStore, key: &[u8]) -> Option<Vec<u8>> {
    store.view().unwrap().get(key).unwrap()
}

fn scan(view: &dyn View, start: &[u8], end: &[u8], direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    let range = KeyRange { start: start.to_vec(), end: end.to_vec() };
    let mut rows = Vec::new();
    view.scan(&range, direction, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

fn rows_come_back(store: &dyn MetadataStore) {
    assert_eq!(store.recovered_sequence(), 0);
    assert_eq!(get(store, b"a"), None);
    let long = vec![7; 100_000];
    put(store, 1, &[(b"a", Some(b"1")), (b"empty", Some(b"")), (b"\x01\x00\xff", Some(&long))]);
    put(store, 2, &[(b"a", Some(b"2")), (b"b", Some(b"3"))]);
    put(store, 3, &[(b"b", None), (b"never there", None)]);
    let keys: [&[u8]; 6] = [b"empty", b"a", b"b", b"a", b"\x01\x00\xff", b"absent"];
    let expected =
        [Some(Vec::new()), Some(b"2".to_vec()), None, Some(b"2".to_vec()), Some(long), None].map(|value| value);
    assert_eq!(store.view().unwrap().get_many(&keys).unwrap(), expected);
    // The same through locks, for few keys and for many.
    let rows: Vec<_> = keys.iter().map(|key| (*key, LockMode::Shared)).collect();
    assert_eq!(store.lock_and_get(&rows).unwrap().values().to_vec(), expected);
    assert_eq!(store.lock_and_get(&rows[..1]).unwrap().values().to_vec(), expected[..1]);
    assert_eq!(store.lock_and_get(&[]).unwrap().values().len(), 0);
    assert_eq!(store.view().unwrap().get_many(&[]).unwrap().len(), 0);
    assert_eq!(store.peek(&keys).unwrap().to_vec(), expected);
    assert_eq!(store.peek(&[]).unwrap().len(), 0);
}

/// Whatever a store keeps of the rows that were locked, everybody sees what was committed last.
fn a_row_that_was_read_often_is_the_latest(store: &dyn MetadataStore) {
    let (key, other): (&[u8], &[u8]) = (b"often", b"other");
    let mut expected = None;
    for sequence in 1..=60_u64 {
        let value = (sequence % 5 != 0).then(|| sequence.to_be_bytes().to_vec());
        for _ in 0..2 {
            assert_eq!(store.peek(&[key, other]).unwrap().to_vec(), [expected.clone(), None]);
            let rows = [(key, LockMode::Shared), (other, LockMode::Shared)];
            assert_eq!(store.lock_and_get(&rows).unwrap().values().to_vec(), [expected.clone(), None]);
        }
        if sequence % 7 == 0 {
            // What is not synced is read all the same.
            commit(store, vec![member(store, &[(key, value.as_deref())])], 0, Durability::Relaxed);
            put(store, sequence, &[(b"another", Some(b""))]);
        } else {
            put(store, sequence, &[(key, value.as_deref())]);
        }
        expected = value;
    }
    assert_eq!(get(store, key), expected);
}

fn scans_keep_to_their_bounds(store: &dyn MetadataStore) {
    let keys: Vec<Vec<u8>> = (0..300_u16).map(|i| [b"k", i.to_be_bytes().as_slice()].concat()).collect();
    let writes: Vec<(&[u8], Option<&[u8]>)> = keys.iter().map(|key| (key.as_slice(), Some(b"v".as_slice()))).collect();
    put(store, 1, &writes);
    put(store, 2, &[(&keys[10], None), (b"j", Some(b"before")), (b"k\xff\xff\xff", Some(b"after"))]);
    let view = store.view().unwrap();
    let found = |start: &[u8], end: &[u8], direction| -> Vec<Vec<u8>> {
        scan(&*view, start, end, direction).into_iter().map(|(key, _)| key).collect()
    };
    let mut expected: Vec<_> = keys[5..250].iter().filter(|key| **key != keys[10]).cloned().collect();
    assert_eq!(found(&keys[5], &keys[250], Direction::Forward), expected);
    expected.reverse();
    assert_eq!(found(&keys[5], &keys[250], Direction::Backward), expected);
    for direction in [Direction::Forward, Direction::Backward] {
        // Bounds that are no keys, a run without rows, and runs that end before they begin.
        assert_eq!(found(b"k\x00\x0a", b"k\x00\x0a\x00", direction), Vec::<Vec<u8>>::new());
        assert_eq!(found(b"x", b"y", direction), Vec::<Vec<u8>>::new());
        assert_eq!(found(b"k", b"k", direction), Vec::<Vec<u8>>::new());
        assert_eq!(found(b"z", b"a", direction), Vec::<Vec<u8>>::new());
        assert_eq!(found(b"j", b"k", direction), [b"j"]);
        let mut seen = 0;
        let all = KeyRange { start: b"a".to_vec(), end: b"z".to_vec() };
        view.scan(&all, direction, &mut |_, _| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(seen, 3);
        // A visitor may read through the same view.
        view.scan(&all, direction, &mut |key, value| {
            assert_eq!(view.get(key).unwrap().as_deref(), Some(value));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
}

fn a_view_is_one_moment(store: &dyn MetadataStore) {
    put(store, 1, &[(b"a", Some(b"1")), (b"b", Some(b"1"))]);
    let view = store.view().unwrap();
    put(store, 2, &[(b"a", Some(b"2")), (b"b", None), (b"c", Some(b"2"))]);
    let old = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"1".to_vec())];
    assert_eq!(scan(&*view, b"a", b"z", Direction::Forward), old);
    assert_eq!(view.get(b"c").unwrap(), None);
    drop(view);
    assert_eq!(get(store, b"c").as_deref(), Some(b"2".as_slice()));
}

fn members_apply_in_order_and_together(store: &dyn MetadataStore) {
    // Rows that the committer itself adds have no lock; here each member holds what it writes.
    let mut first = member(store, &[(b"a", Some(b"1")), (b"b", Some(b"1"))]);
    let batch = Arc::make_mut(&mut first.batch);
    batch.delete(b"a");
    batch.put(b"a", b"last write wins");
    let second = member(store, &[(b"c", Some(b"2"))]);
    let empty = Member::new(store.lock_and_get(&[]).unwrap(), Batch::new());
    commit(store, vec![first, empty, second], 3, Durability::Synced);
    let view = store.view().unwrap();
    let rows = scan(&*view, b"a", b"z", Direction::Forward);
    let expected: [(&[u8], &[u8]); 3] = [(b"a", b"last write wins"), (b"b", b"1"), (b"c", b"2")];
    assert_eq!(rows, expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
}

fn a_committed_group_is_seen_at_once_and_whole(store: &dyn MetadataStore) {
    put(store, 1, &[(b"a", Some(b"1")), (b"b", Some(b"1")), (b"c", Some(b"1")), (b"e", Some(b"1"))]);
    let group = vec![
        member(store, &[(b"b", None), (b"c", Some(b"2")), (b"d", Some(b"2"))]),
        member(store, &[(b"a", None), (b"f", Some(b"3"))]),
    ];
    let expected = [(b"c", b"2"), (b"d", b"2"), (b"e", b"1"), (b"f", b"3")].map(|(k, v)| (k.to_vec(), v.to_vec()));
    let check = |view: &dyn View| {
        assert_eq!(scan(view, b"a", b"z", Direction::Forward), expected);
        let backward: Vec<_> = expected.iter().rev().cloned().collect();
        assert_eq!(scan(view, b"a", b"z", Direction::Backward), backward);
        let found = view.get_many(&[b"f", b"a", b"e", b"b", b"g"]).unwrap();
        assert_eq!(found, [Some(b"3".to_vec()), None, Some(b"1".to_vec()), None, None]);
    };
    let mut kept = Vec::new();
    store
        .commit(&group, 3, Durability::Synced, &mut |_| {
            let view = store.view().unwrap();
            check(&*view);
            kept.push(view);
        })
        .unwrap();
    drop(group);
    put(store, 4, &[(b"d", None), (b"b", Some(b"4"))]);
    // What was seen once stays as it was for whoever still looks.
    assert_eq!(kept.len(), 2);
    kept.iter().for_each(|view| check(&**view));
}

fn a_large_group_is_like_a_small_one(store: &dyn MetadataStore) {
    let value = vec![5; 60_000];
    let keys: Vec<_> = (0..40_u8).map(|i| [b'l', i]).collect();
    let group: Vec<_> = keys.iter().map(|key| member(store, &[(key, Some(&value))])).collect();
    commit(store, group, 40, Durability::Synced);
    put(store, 41, &[(b"after", Some(b"1"))]);
    let view = store.view().unwrap();
    assert!(keys.iter().all(|key| view.get(key).unwrap().as_ref() == Some(&value)));
    assert_eq!(view.get(b"after").unwrap().as_deref(), Some(b"1".as_slice()));
}

/// Hands groups in as the engine's committer does: one after another, each as soon as the store can take it.
struct Line {
    next: Mutex<(u64, bool)>,
    free: Condvar,
}

impl Line {
    fn commit(&self, store: &dyn MetadataStore, group: impl FnOnce(u64) -> Vec<Member>) -> u64 {
        let mut state = self.next.lock().unwrap();
        while state.1 {
            state = self.free.wait(state).unwrap();
        }
        state.0 += 1;
        state.1 = true;
        let sequence = state.0;
        drop(state);
        let group = group(sequence);
        store
            .commit(&group, sequence, Durability::Synced, &mut |milestone| {
                if milestone == Milestone::Next {
                    self.next.lock().unwrap().1 = false;
                    self.free.notify_one();
                }
            })
            .unwrap();
        sequence
    }
}

fn groups_overlap_and_keep_their_order(store: &Arc<dyn MetadataStore>) {
    let line = Arc::new(Line { next: Mutex::new((0, false)), free: Condvar::new() });
    let threads: Vec<_> = (0..8_u8)
        .map(|thread| {
            let (store, line) = (store.clone(), line.clone());
            thread::spawn(move || {
                for round in 0..40_u8 {
                    let mine = [b'm', thread, round];
                    let sequence = line.commit(&*store, |sequence| {
                        let mut group = vec![member(&*store, &[(&mine, Some(&sequence.to_be_bytes()))])];
                        // No two groups in flight write the same row, except through this one's rotation.
                        let slot = [b's', (sequence % 32) as u8];
                        group.push(member(&*store, &[(&slot, Some(&sequence.to_be_bytes()))]));
                        group
                    });
                    // What is acknowledged is visible, and so is everything before it.
                    let view = store.view().unwrap();
                    assert_eq!(view.get(&mine).unwrap().unwrap(), sequence.to_be_bytes());
                    let slot = [b's', (sequence % 32) as u8];
                    let there = u64::from_be_bytes(view.get(&slot).unwrap().unwrap().try_into().unwrap());
                    assert!(there >= sequence, "an older group overtook a newer one");
                    if sequence > 1 {
                        let before = [b's', ((sequence - 1) % 32) as u8];
                        assert!(view.get(&before).unwrap().is_some(), "a group is visible before its predecessor");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let slots = scan(&*store.view().unwrap(), b"s", b"t", Direction::Forward);
    let mut last: Vec<_> = slots.iter().map(|(_, v)| u64::from_be_bytes(v.as_slice().try_into().unwrap())).collect();
    last.sort_unstable();
    assert_eq!(last, (320 - 31..=320).collect::<Vec<_>>());
}

fn locks_are_held_and_waits_end(store: &Arc<dyn MetadataStore>) {
    const S: LockMode = LockMode::Shared;
    const X: LockMode = LockMode::Exclusive;
    let first = store.lock_and_get(&[(b"a", S), (b"b", X), (b"a", S)]).unwrap();
    drop(store.lock_and_get(&[(b"a", S), (b"c", X)]).unwrap());
    drop(store.try_lock_and_get(&[(b"a", S), (b"c", X)]).unwrap().unwrap());
    for refused in [(b"a", X), (b"b", S), (b"b", X)] {
        let start = Instant::now();
        assert!(store.try_lock_and_get(&[(b"c", X), (refused.0, refused.1)]).unwrap().is_none());
        assert!(start.elapsed() < Duration::from_millis(LOCK_WAIT_MS - 50), "waited {:?}", start.elapsed());
        let start = Instant::now();
        let error = store.lock_and_get(&[(b"c", X), (refused.0, refused.1)]).unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(LOCK_WAIT_MS - 50), "gave up after {waited:?}");
        assert!(waited <= Duration::from_millis(LOCK_WAIT_MS * 20), "waited {waited:?}");
        // Nothing is held after a refusal.
        drop(store.lock_and_get(&[(b"c", X)]).unwrap());
    }
    // Whoever waits comes in when the holder goes.
    let waiter = {
        let store = store.clone();
        thread::spawn(move || drop(store.lock_and_get(&[(b"b", X), (b"a", X)]).unwrap()))
    };
    thread::sleep(Duration::from_millis(20));
    drop(first);
    waiter.join().unwrap();
    // A commit leaves the locks with its member, however it ends.
    let group = vec![member(&**store, &[(b"d", Some(b"1"))])];
    store.commit(&group, 1, Durability::Synced, &mut |_| ()).unwrap();
    assert!(store.lock_and_get(&[(b"d", S)]).is_err());
    drop(group);
    assert_eq!(store.lock_and_get(&[(b"d", S)]).unwrap().values().to_vec(), [Some(b"1".to_vec())]);
}

fn locked_values_are_the_latest(store: &Arc<dyn MetadataStore>) {
    let line = Arc::new(Line { next: Mutex::new((0, false)), free: Condvar::new() });
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let (store, line) = (store.clone(), line.clone());
            thread::spawn(move || {
                for _ in 0..25 {
                    let locks = store.lock_and_get(&[(b"counter", LockMode::Exclusive)]).unwrap();
                    let value = locks.values().get(0).map_or(0, |v| u64::from_be_bytes(v.try_into().unwrap()));
                    let mut batch = Batch::new();
                    batch.put(b"counter", &(value + 1).to_be_bytes());
                    line.commit(&*store, |_| vec![Member::new(locks, batch)]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(get(&**store, b"counter").unwrap(), 150_u64.to_be_bytes());
}

fn shared_locks_do_not_starve(store: &Arc<dyn MetadataStore>) {
    let stop = Arc::new(AtomicBool::new(false));
    let running = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, stop, running) = (store.clone(), stop.clone(), running.clone());
            thread::spawn(move || {
                let row: (&[u8], LockMode) = (b"base layer", LockMode::Shared);
                let mut held = store.lock_and_get(&[row]).unwrap();
                running.fetch_add(1, Ordering::SeqCst);
                // Each takes a new lock a moment after it dropped the old one: some thread always holds the row.
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                    drop(held);
                    held = store.lock_and_get(&[row]).unwrap();
                }
            })
        })
        .collect();
    while running.load(Ordering::SeqCst) < 4 {
        thread::yield_now();
    }
    for _ in 0..10 {
        drop(store.lock_and_get(&[(b"base layer", LockMode::Exclusive)]).unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

fn relaxed_commits_take_no_sequence(subject: &mut dyn Subject) {
    let store = subject.create();
    put(&*store, 1, &[(b"a", Some(b"1"))]);
    let group = vec![member(&*store, &[(b"r", Some(b"1")), (b"s", Some(b"1"))])];
    commit(&*store, group, 0, Durability::Relaxed);
    assert_eq!(get(&*store, b"r").as_deref(), Some(b"1".as_slice()));
    put(&*store, 2, &[(b"b", Some(b"2"))]);
    drop(store);
    let store = subject.reopen();
    assert_eq!(store.recovered_sequence(), 2);
    assert_eq!(get(&*store, b"r"), get(&*store, b"s"), "half of a relaxed group");
}

fn everything_synced_is_there_after_reopening(subject: &mut dyn Subject) {
    let store = subject.create();
    let mut sequence = 0;
    for round in 0..5_u64 {
        assert_eq!(store.recovered_sequence(), 0);
        sequence += 3;
        put(&*store, sequence, &[(b"round", Some(&round.to_be_bytes())), (&round.to_be_bytes(), Some(b"x"))]);
    }
    put(&*store, sequence + 1, &[(&0_u64.to_be_bytes(), None)]);
    drop(store);
    for round in 0..3_u64 {
        let store = subject.reopen();
        assert_eq!(store.recovered_sequence(), sequence + 1 + round);
        let view = store.view().unwrap();
        assert_eq!(view.get(b"round").unwrap().unwrap(), 4_u64.to_be_bytes());
        assert_eq!(view.get(&0_u64.to_be_bytes()).unwrap(), None);
        assert_eq!(scan(&*view, &[0], &[1], Direction::Forward).len(), 4);
        drop(view);
        put(&*store, sequence + 2 + round, &[(b"again", Some(&round.to_be_bytes()))]);
    }
}

fn maintenance_changes_nothing_that_is_read(subject: &mut dyn Subject) {
    let store = subject.create();
    let value = vec![3; 2_000];
    for sequence in 1..=60_u64 {
        put(&*store, sequence, &[(&(sequence % 7).to_be_bytes(), Some(&value)), (b"n", Some(&sequence.to_be_bytes()))]);
        if sequence % 5 == 0 {
            store.maintain().unwrap();
        }
    }
    assert_eq!(get(&*store, b"n").unwrap(), 60_u64.to_be_bytes());
    store.maintain().unwrap();
    drop(store);
    let store = subject.reopen();
    assert_eq!(store.recovered_sequence(), 60);
    assert_eq!(scan(&*store.view().unwrap(), &[0], b"z", Direction::Backward).len(), 8);
    assert!(store.group_members_max() >= 1);
}
