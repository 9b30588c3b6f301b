//! Damage to what was acknowledged: every journal file, every kind, never silent.

use std::path::{Path, PathBuf};

use layerhold::store::mem::MemTable;
use layerhold::store::{MetadataStore, StorageError};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem, damage};

use crate::crash::run_until;
use layerhold_testkit::journal::{Run, Step, create, open, workloads};

/// A store at rest, and what must be found in it.
struct Rest {
    name: String,
    run: Run,
    fs: SimFileSystem,
    table: MemTable,
}

/// Stores after each workload: closed in order, and killed without a power cut.
fn at_rest() -> Vec<Rest> {
    let mut rests = Vec::new();
    for (seed, (name, steps)) in workloads().into_iter().enumerate() {
        for closed in [true, false] {
            let fs = SimFileSystem::new(seed as u64);
            let table = MemTable::new();
            let store = create(&fs, &table).unwrap();
            let mut run = Run::new();
            run.drive(&store, &steps, 1).unwrap();
            let fs = if closed {
                store.maintain().unwrap();
                fs.crash(CrashPolicy::DropUnsynced)
            } else {
                fs.kill()
            };
            for kept in [0, usize::MAX] {
                let name = format!("{name}, closed {closed}, kept {kept}");
                rests.push(Rest { name, run: run.clone(), fs: fs.kill(), table: table.crashed_after(kept) });
            }
        }
    }
    rests
}

#[derive(Debug, Default)]
struct Tally {
    harmless: usize,
    refused: usize,
}

/// Opens the damaged store: everything is there, or an error with a name says otherwise and nothing was changed.
fn judge(rest: &Rest, fs: &SimFileSystem, what: &str, tally: &mut Tally) {
    let before = fs.fingerprint();
    match open(fs, &rest.table.crashed()) {
        Ok(store) => {
            rest.run.check(&store, &format!("{}: {what}", rest.name));
            tally.harmless += 1;
        }
        Err(
            StorageError::Corrupt { .. }
            | StorageError::AcknowledgedDataLoss { .. }
            | StorageError::UnknownFormat { .. },
        ) => {
            assert_eq!(fs.fingerprint(), before, "{}: {what}: a refused store was changed", rest.name);
            tally.refused += 1;
        }
        Err(other) => panic!("{}: {what}: {other}", rest.name),
    }
}

fn journal_files(fs: &SimFileSystem) -> Vec<(PathBuf, Vec<u8>)> {
    let files = damage::files(fs).unwrap();
    files.into_iter().map(|path| (path.clone(), damage::read(fs, &path).unwrap())).collect()
}

/// Bytes up to the last one that is not zero.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1)
}

#[test]
fn a_flipped_bit_is_never_silent() {
    let mut tally = Tally::default();
    for (number, rest) in at_rest().iter().enumerate() {
        for (path, bytes) in journal_files(&rest.fs) {
            // Every bit of the headers, and every so many of the rest, another start each time.
            let used = used(&bytes) * 8;
            let bits = (0..used.min(64 * 8)).chain((number as u64 * 7 % 29..used).step_by(29));
            for bit in bits {
                let fs = rest.fs.kill();
                damage::flip_bit(&fs, &path, bit).unwrap();
                judge(rest, &fs, &format!("bit {bit} of {}", path.display()), &mut tally);
            }
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 5_000 && tally.harmless > 500, "{tally:?}");
}

#[test]
fn zeros_cuts_and_garbage_are_never_silent() {
    let mut tally = Tally::default();
    for rest in at_rest() {
        for (path, bytes) in journal_files(&rest.fs) {
            let used = used(&bytes);
            let places = (0..used).step_by(56).chain((4096..used).step_by(8));
            for at in places {
                let what = |kind: &str| format!("{kind} from {at} of {}", path.display());
                let rest_len = bytes.len() - at as usize;
                for (kind, len) in [("zeros to the end", rest_len), ("a zeroed sector", rest_len.min(512))] {
                    let fs = rest.fs.kill();
                    damage::zero(&fs, &path, at, len).unwrap();
                    judge(&rest, &fs, &what(kind), &mut tally);
                }
                let fs = rest.fs.kill();
                damage::overwrite(&fs, &path, at, &[0xa5; 100][..rest_len.min(100)]).unwrap();
                judge(&rest, &fs, &what("garbage"), &mut tally);
            }
            for len in (0..bytes.len() as u64).step_by(97) {
                let fs = rest.fs.kill();
                damage::truncate(&fs, &path, len).unwrap();
                judge(&rest, &fs, &format!("{} cut to {len}", path.display()), &mut tally);
            }
            let fs = rest.fs.kill();
            damage::append(&fs, &path, &[0x5a; 700]).unwrap();
            judge(&rest, &fs, &format!("{} grown", path.display()), &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 5_000, "{tally:?}");
}

#[test]
fn files_that_are_gone_swapped_or_older_are_never_silent() {
    let mut tally = Tally::default();
    for rest in at_rest() {
        let files = journal_files(&rest.fs);
        for (path, _) in &files {
            let fs = rest.fs.kill();
            damage::delete(&fs, path).unwrap();
            judge(&rest, &fs, &format!("{} deleted", path.display()), &mut tally);
            for (other, _) in files.iter().filter(|(other, _)| other > path) {
                let fs = rest.fs.kill();
                damage::swap(&fs, path, other).unwrap();
                judge(&rest, &fs, &format!("{} and {} swapped", path.display(), other.display()), &mut tally);
            }
        }
    }
    println!("{tally:?}");

    // One file as it was some groups ago: a write that the medium lost, or a copy that was put back.
    for (seed, (name, steps)) in workloads().into_iter().enumerate() {
        let fs = SimFileSystem::new(seed as u64);
        let table = MemTable::new();
        let store = create(&fs, &table).unwrap();
        let mut run = Run::new();
        let mut history = vec![fs.kill()];
        for step in &steps {
            run.drive(&store, std::slice::from_ref(step), 1).unwrap();
            history.push(fs.kill());
        }
        store.maintain().unwrap();
        let rest = Rest { name: name.to_owned(), run, fs: fs.kill(), table: table.crashed() };
        for (age, older) in history.iter().enumerate() {
            for (path, now) in journal_files(&rest.fs) {
                let Ok(then) = damage::read(older, &path) else { continue };
                if then == now {
                    continue;
                }
                let fs = rest.fs.kill();
                damage::overwrite(&fs, &path, 0, &then).unwrap();
                judge(&rest, &fs, &format!("{} as after step {age}", path.display()), &mut tally);
            }
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 100, "{tally:?}");
}

#[test]
fn deleting_everything_or_another_stores_files_is_noticed() {
    let rest = at_rest().remove(0);
    let fs = rest.fs.kill();
    for (path, _) in journal_files(&fs) {
        damage::delete(&fs, &path).unwrap();
    }
    let gone = open(&fs, &rest.table.crashed()).unwrap_err();
    assert!(matches!(gone, StorageError::Corrupt { .. }), "{gone}");

    let nothing = open(&SimFileSystem::new(1), &MemTable::new()).unwrap_err();
    assert_eq!(nothing.to_string(), "stored data is damaged what=the directory journal is missing");

    let fs = std::sync::Arc::new(rest.fs.kill());
    let id = *b"some other store";
    let foreign = layerhold::store::journaled::Journaled::open(
        fs,
        rest.table.crashed(),
        id,
        layerhold_testkit::journal::options(),
    );
    assert!(foreign.unwrap_err().to_string().contains("belongs to another store"));

    let twice = create(&rest.fs.kill(), &MemTable::new()).unwrap_err();
    assert!(matches!(twice, StorageError::NotEmpty { .. }), "{twice}");
}

#[test]
fn a_table_that_knows_more_than_the_journal_is_noticed() {
    // The journal is put back from a copy, the table is not.
    let fs = SimFileSystem::new(9);
    let table = MemTable::new();
    let store = create(&fs, &table).unwrap();
    let mut run = Run::new();
    run.drive(&store, &[Step::Group { members: 1, value_bytes: 20 }; 3], 1).unwrap();
    store.maintain().unwrap();
    let copy = fs.kill();
    run.drive(&store, &[Step::Group { members: 1, value_bytes: 20 }; 2], 1).unwrap();
    let error = open(&copy, &table.crashed_after(usize::MAX)).unwrap_err();
    // Nothing is lost: the table has it all. But the journal is not the one that belongs to it.
    assert_eq!(error.to_string(), "stored data is damaged what=the journal ends at 3 before the table at 5");
    // And the other way round: an older table is brought up to date as long as the journal still has the groups.
    let store = open(&fs.kill(), &MemTable::new()).unwrap();
    run.check(&store, "an empty table under a whole journal");
}

#[test]
fn between_a_power_cut_and_the_next_sync_only_the_last_group_can_go_unnoticed() {
    // The documented window: the last group was acknowledged, the power went before its seal or the mark were written
    // out, and the same accident damaged that very record. Nothing says that it was more than a torn one.
    let path = Path::new("journal/0000000000000001");
    let mut silent = 0;
    let fs = SimFileSystem::new(4);
    let table = MemTable::new();
    let store = create(&fs, &table).unwrap();
    let mut run = Run::new();
    run.drive(&store, &[Step::Group { members: 1, value_bytes: 20 }; 4], 1).unwrap();
    let cut = fs.crash(CrashPolicy::DropUnsynced);
    let used = used(&damage::read(&cut, path).unwrap()) * 8;
    for bit in 0..used {
        let fs = cut.kill();
        damage::flip_bit(&fs, path, bit).unwrap();
        match open(&fs, &table.crashed()) {
            Ok(store) if store.recovered_sequence() == 3 => silent += 1,
            Ok(store) => assert_eq!(run.check(&store, &format!("bit {bit}")), 4),
            Err(StorageError::Corrupt { .. } | StorageError::AcknowledgedDataLoss { .. }) => {}
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    assert!(silent > 0, "the window is smaller than it is said to be: say so in docs/format.md");

    // A clean close shuts it.
    store.maintain().unwrap();
    let closed = fs.crash(CrashPolicy::DropUnsynced);
    for bit in 0..used {
        let fs = closed.kill();
        damage::flip_bit(&fs, path, bit).unwrap();
        if let Ok(store) = open(&fs, &table.crashed()) {
            run.check(&store, &format!("closed, bit {bit}"));
        }
    }
}

#[test]
fn seal_and_mark_each_prove_the_last_group_alone() {
    // Two harms at once: the last record is damaged, and one of the two that speak for it is silenced.
    let segment = Path::new("journal/0000000000000001");
    let mark = Path::new("journal/mark");
    for maintained in [true, false] {
        let fs = SimFileSystem::new(4);
        let table = MemTable::new();
        let store = create(&fs, &table).unwrap();
        let mut run = Run::new();
        let old_mark = damage::read(&fs, mark).unwrap();
        let mut before_last = 0;
        for _ in 0..4 {
            before_last = used(&damage::read(&fs, segment).unwrap());
            run.drive(&store, &[Step::Group { members: 1, value_bytes: 20 }], 1).unwrap();
        }
        let fs = if maintained {
            store.maintain().unwrap();
            fs.crash(CrashPolicy::DropUnsynced)
        } else {
            // A power cut before anything spoke for the group; opening makes up for it.
            let fs = fs.crash(CrashPolicy::DropUnsynced);
            drop(open(&fs, &table.crashed()).unwrap());
            fs.crash(CrashPolicy::DropUnsynced)
        };
        let bytes = damage::read(&fs, segment).unwrap();
        // Inside the last record: behind the seal before it, and well before its own seal.
        let inside = before_last + 60;
        let lost = |fs: &SimFileSystem| match open(fs, &table.crashed()) {
            Err(StorageError::AcknowledgedDataLoss { expected: 4, recovered: 3 }) => {}
            other => panic!("maintained {maintained}: {other:?}"),
        };
        let without_mark = fs.kill();
        damage::overwrite(&without_mark, mark, 0, &old_mark).unwrap();
        assert_eq!(open(&without_mark.kill(), &table.crashed()).unwrap().recovered_sequence(), 4);
        damage::flip_bit(&without_mark, segment, inside * 8).unwrap();
        lost(&without_mark);

        let without_seal = fs.kill();
        damage::zero(&without_seal, segment, inside, bytes.len() - inside as usize).unwrap();
        lost(&without_seal);
    }
}

/// Puts the mark back as it was at the beginning, deletes the newest segment, and asserts that it is missed.
fn assert_last_segment_is_missed(fs: &SimFileSystem, table: &MemTable, what: &str) {
    let mark = Path::new("journal/mark");
    let young = SimFileSystem::new(0);
    drop(create(&young, &MemTable::new()).unwrap());
    damage::overwrite(fs, mark, 0, &damage::read(&young, mark).unwrap()).unwrap();
    let files = damage::files(fs).unwrap();
    let last = files.iter().rfind(|path| path.to_string_lossy().contains("/00")).unwrap();
    damage::delete(fs, last).unwrap();
    match open(fs, table) {
        Err(StorageError::Corrupt { .. } | StorageError::AcknowledgedDataLoss { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_newest_segment_that_is_gone_is_missed_without_the_mark() {
    for (seed, (name, steps)) in workloads().into_iter().enumerate() {
        let fs = SimFileSystem::new(seed as u64);
        let table = MemTable::new();
        let store = create(&fs, &table).unwrap();
        Run::new().drive(&store, &steps, 1).unwrap();
        assert_last_segment_is_missed(&fs.crash(CrashPolicy::DropUnsynced), &table.crashed(), name);

        // Whatever a crash while segments change left undone, opening does.
        for cut in 1.. {
            let Some((run, fs, table)) = run_until(&steps, cut, seed as u64) else { break };
            for (number, fs) in fs.crash_states(6).enumerate() {
                let what = format!("{name}, cut {cut}, state {number}");
                let table = table.crashed();
                let store = open(&fs, &table).unwrap();
                let mut run = run.resumed(run.check(&store, &what));
                run.group(&store, 1, 20, 2).unwrap();
                assert_last_segment_is_missed(&fs.crash(CrashPolicy::DropUnsynced), &table.crashed(), &what);
            }
        }
    }
}
