//! Calls that fail: the outcome that the commit names is the one that reopening shows.

use std::sync::Arc;

use layerhold::store::mem::MemTable;
use layerhold::store::{CommitError, MetadataStore, StorageError};
use layerhold_testkit::fs::{Call, CrashPolicy, FailingFileSystem, Failure, Fault, Repeat, SimFileSystem};

use layerhold_testkit::journal::{Run, Step, create, open, rows, workloads};

const CALLS: [Call; 8] = [
    Call::CreateNew,
    Call::Open,
    Call::RemoveFile,
    Call::Rename,
    Call::SyncDir,
    Call::Write,
    Call::SyncData,
    Call::Len,
];

#[test]
fn any_failing_call_has_the_outcome_that_the_commit_names() {
    let mut fired = 0;
    for (seed, (name, steps)) in workloads().into_iter().enumerate() {
        for call in CALLS {
            for failure in Failure::ALL {
                for repeat in [Repeat::Once, Repeat::Sticky] {
                    for nth in 1.. {
                        let what = format!("{name}, {repeat:?} {failure:?} at {call:?} {nth}");
                        if !run_with_fault(&steps, seed as u64, Fault { call: Some(call), nth, failure, repeat }, &what)
                        {
                            break;
                        }
                        fired += 1;
                    }
                }
            }
        }
    }
    println!("{fired} faults");
    assert!(fired > 1_000, "{fired} faults");
}

/// Whether the fault was met.
fn run_with_fault(steps: &[Step], seed: u64, fault: Fault, what: &str) -> bool {
    let disk = SimFileSystem::new(seed);
    let fs = FailingFileSystem::new(Arc::new(disk.clone()));
    let table = MemTable::new();
    let store = create(&fs, &table).unwrap();
    fs.arm(fault);
    let mut run = Run::new();
    let mut unknown = false;
    for step in steps {
        let before = run.acknowledged;
        match run.drive(&store, std::slice::from_ref(step), 1) {
            Ok(()) => assert!(!unknown, "{what}: a commit after an unknown one"),
            Err(CommitError::Unknown(_)) => unknown = true,
            Err(_) => assert_eq!(run.acknowledged, before, "{what}"),
        }
        // Readers see what is acknowledged and nothing else.
        assert!(rows(&store).0 == run.states[&run.acknowledged], "{what}: a reader saw something else");
    }
    if fs.fired() == 0 {
        return false;
    }
    fs.disarm();
    drop(store);
    for policy in [CrashPolicy::DropUnsynced, CrashPolicy::KeepAll, CrashPolicy::Random(seed)] {
        let found = disk.crash(policy);
        let store = open(&found, &table.crashed()).unwrap_or_else(|e| panic!("{what}, {policy:?}: {e}"));
        run.check(&store, what);
    }
    true
}

#[test]
fn a_failed_sync_poisons_and_is_never_tried_again() {
    for failing in 1..=6 {
        let fs = SimFileSystem::new(failing);
        let table = MemTable::new();
        let store = create(&fs, &table).unwrap();
        let mut run = Run::new();
        fs.fail_sync(failing);
        let mut failed = false;
        for _ in 0..8 {
            let syncs = fs.syncs();
            match run.group(&store, 1, 20, 1) {
                Ok(()) => assert!(!failed),
                Err(CommitError::Unknown(_)) => {
                    assert!(!failed);
                    failed = true;
                    assert_eq!(fs.syncs(), syncs + 1);
                }
                Err(CommitError::Failed(StorageError::Poisoned { cause })) => {
                    assert!(failed && cause.contains("sync"), "{cause}");
                    assert_eq!(fs.syncs(), syncs, "a sync after a failed one");
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(failed);
        assert!(matches!(store.maintain(), Err(StorageError::Poisoned { .. })));
        assert_eq!(rows(&store).0, run.states[&run.acknowledged]);
        let killed = fs.kill();
        run.check(&open(&killed, &table.crashed()).unwrap(), "killed");
        run.check(&open(&fs.crash(CrashPolicy::DropUnsynced), &table.crashed()).unwrap(), "cut");
    }
}

#[test]
fn a_full_disk_refuses_the_group_that_needs_a_new_segment_and_takes_it_once_there_is_room() {
    let fs = SimFileSystem::new(2);
    let table = MemTable::new();
    let store = create(&fs, &table).unwrap();
    let mut run = Run::new();
    fs.set_capacity(20 << 10);
    let refused = loop {
        match run.group(&store, 1, 900, 1) {
            Ok(()) => {}
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, CommitError::Failed(StorageError::NoSpace { .. })), "{refused:?}");
    assert_eq!(rows(&store).0, run.states[&run.acknowledged]);
    fs.set_capacity(u64::MAX);
    run.group(&store, 1, 900, 2).unwrap();
    run.check(&open(&fs.crash(CrashPolicy::DropUnsynced), &table.crashed()).unwrap(), "after the full disk");
}

#[test]
fn segments_are_taken_back_and_used_again() {
    let fs = SimFileSystem::new(2);
    let table = MemTable::new();
    let store = create(&fs, &table).unwrap();
    let mut run = Run::new();
    for round in 0..200 {
        run.group(&store, 1, 900, round as u8).unwrap();
        if round % 3 == 0 {
            store.maintain().unwrap();
        }
    }
    let files = layerhold_testkit::fs::damage::files(&fs).unwrap();
    assert!(files.len() <= 6, "{files:?}");
    run.check(&open(&fs.crash(CrashPolicy::DropUnsynced), &table.crashed()).unwrap(), "after many segments");

    // Without anybody who maintains it, the journal still has a bound.
    let fs = SimFileSystem::new(2);
    let store = create(&fs, &MemTable::new()).unwrap();
    let mut run = Run::new();
    for round in 0..200 {
        run.group(&store, 1, 900, round as u8).unwrap();
    }
    let files = layerhold_testkit::fs::damage::files(&fs).unwrap();
    assert!(files.len() <= 8, "{files:?}");
}
