//! Power cuts at every call, while working and while recovering, and what each may leave.

use std::sync::Arc;

use layerhold::store::journaled::Journaled;
use layerhold::store::mem::MemTable;
use layerhold::store::{CommitError, MetadataStore, StorageError};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem};

use layerhold_testkit::journal::{Run, STORE_ID, Step, create, open, options, workloads};

/// States that are tried for each cut while working, and for each cut while recovering from one of those.
const STATES: usize = 40;
const STATES_IN_RECOVERY: usize = 5;

/// What a cut left: the run so far, the files, and the table with a number of its writes that reached the medium.
struct Wreck {
    run: Run,
    fs: SimFileSystem,
    table: MemTable,
    what: String,
}

/// Runs `steps` on a new store and cuts the power at its `cut`-th mutating call after creation. `None` when there are
/// fewer calls.
pub(crate) fn run_until(steps: &[Step], cut: u64, seed: u64) -> Option<(Run, SimFileSystem, MemTable)> {
    let fs = SimFileSystem::new(seed);
    let table = MemTable::new();
    let store = create(&fs, &table).unwrap();
    fs.crash_at(fs.mutating_calls() + cut);
    let mut run = Run::new();
    let done = run.drive(&store, steps, 1);
    if fs.crashed() {
        // A cut that only a seal or the mark noticed leaves the group acknowledged.
        return Some((run, fs, table));
    }
    done.unwrap();
    None
}

/// The states that the power cut may leave.
fn wrecks(run: &Run, fs: &SimFileSystem, table: &MemTable, limit: usize, what: &str) -> Vec<Wreck> {
    fs.crash_states(limit)
        .enumerate()
        .map(|(number, fs)| {
            // The table lost everything, nothing, or some of what was not flushed.
            let kept = [0, usize::MAX, table.unflushed() / 2][number % 3];
            let what = format!("{what}, state {number}, {} table writes kept", kept.min(table.unflushed()));
            Wreck { run: run.clone(), fs, table: table.crashed_after(kept), what }
        })
        .collect()
}

/// Opens, checks, commits more under other values, cuts the power again keeping nothing, and checks once more.
fn recover_and_go_on(wreck: &Wreck) {
    let store = open(&wreck.fs, &wreck.table).unwrap_or_else(|e| panic!("{}: {e}", wreck.what));
    let recovered = wreck.run.check(&store, &wreck.what);
    let mut run = wreck.run.resumed(recovered);
    let mut steps = vec![Step::Group { members: 1, value_bytes: 5 }; 3];
    steps.push(Step::Group { members: 2, value_bytes: 1_500 });
    run.drive(&store, &steps, 2).unwrap_or_else(|e| panic!("{}: {e}", wreck.what));
    drop(store);
    for (number, fs) in wreck.fs.crash_states(3).enumerate() {
        let what = format!("{}, then cut again, state {number}", wreck.what);
        let store = open(&fs, &wreck.table.crashed()).unwrap_or_else(|e| panic!("{what}: {e}"));
        run.check(&store, &what);
    }
}

/// Cuts the power at each mutating call of the recovery itself and recovers from what that leaves.
fn recover_through_cuts(wreck: &Wreck) -> u64 {
    for cut in 1.. {
        let fs = wreck.fs.kill();
        let table = wreck.table.crashed();
        fs.crash_at(cut);
        let opened = open(&fs, &table);
        if !fs.crashed() {
            opened.unwrap_or_else(|e| panic!("{}: {e}", wreck.what));
            return cut - 1;
        }
        let what = format!("{}, cut {cut} in recovery", wreck.what);
        for again in wrecks(&wreck.run, &fs, &table, STATES_IN_RECOVERY, &what) {
            let store = open(&again.fs, &again.table).unwrap_or_else(|e| panic!("{}: {e}", again.what));
            again.run.check(&store, &again.what);
        }
    }
    unreachable!()
}

#[test]
fn a_power_cut_at_any_call_keeps_what_was_acknowledged() {
    let mut states = 0;
    for (seed, (name, steps)) in workloads().into_iter().enumerate() {
        let mut cuts = 0;
        for cut in 1.. {
            let Some((run, fs, table)) = run_until(&steps, cut, seed as u64) else { break };
            cuts = cut;
            for wreck in wrecks(&run, &fs, &table, STATES, &format!("{name}, cut {cut}")) {
                let untouched = Wreck { fs: wreck.fs.kill(), table: wreck.table.crashed(), ..wreck };
                recover_and_go_on(&untouched);
                states += 1;
            }
        }
        assert!(cuts > 15, "{name} made {cuts} calls");
    }
    println!("{states} states");
    assert!(states > 1_500, "{states} states");
}

#[test]
fn a_power_cut_inside_recovery_changes_nothing() {
    let mut cuts = 0;
    for (seed, (name, steps)) in workloads().into_iter().enumerate() {
        for cut in 1.. {
            let Some((run, fs, table)) = run_until(&steps, cut, seed as u64) else { break };
            for wreck in wrecks(&run, &fs, &table, 8, &format!("{name}, cut {cut}")) {
                cuts += recover_through_cuts(&wreck);
            }
        }
    }
    println!("{cuts} cuts in recovery");
    assert!(cuts > 1_000, "{cuts} cuts");
}

#[test]
fn a_kill_keeps_a_group_only_once_it_is_on_the_medium() {
    // The process dies between write and sync: the group is whole in memory. Whoever opens the store next may show
    // it only when it survives a power cut.
    let small = [Step::Group { members: 1, value_bytes: 40 }];
    for cut in 1.. {
        let Some((run, fs, table)) = run_until(&small, cut, 7) else { break };
        let killed = fs.kill();
        let store = open(&killed, &table.crashed()).unwrap();
        let shown = run.check(&store, "after the kill");
        for state in killed.crash_states(STATES) {
            let store = open(&state, &table.crashed()).unwrap();
            assert_eq!(store.recovered_sequence(), shown, "cut {cut}: a group was shown and is gone");
        }
    }
}

#[test]
fn a_group_whose_sync_failed_does_not_hide_behind_the_page_cache() {
    // The sync fails, the bytes stay visible, and later syncs succeed without writing them: what ext4 does. The group
    // is long enough to have pages that nothing else touches.
    let fs = SimFileSystem::new(3);
    let table = MemTable::new();
    let settings = options().with_segment_bytes(64 << 10);
    let store = Journaled::create(Arc::new(fs.clone()), table.clone(), STORE_ID, settings).unwrap();
    let mut run = Run::new();
    run.group(&store, 1, 20, 1).unwrap();
    fs.fail_sync(1);
    run.group(&store, 1, 20_000, 1).unwrap_err();
    assert_eq!(run.unknown, Some(2));
    let refused = run.clone().group(&store, 1, 20, 1).unwrap_err();
    assert!(matches!(refused, CommitError::Failed(StorageError::Poisoned { .. })), "{refused:?}");
    assert!(matches!(store.maintain(), Err(StorageError::Poisoned { .. })));
    drop(store);
    let killed = fs.kill();
    let store = open(&killed, &table.crashed()).unwrap();
    let shown = run.check(&store, "after the failed sync");
    assert_eq!(shown, 2, "the record is visible and whole");
    let mut run = run.resumed(shown);
    run.group(&store, 1, 20, 2).unwrap();
    for fs in [killed.crash(CrashPolicy::DropUnsynced), killed.crash(CrashPolicy::KeepAll)] {
        run.check(&open(&fs, &table.crashed()).unwrap(), "after the power cut");
    }
}
