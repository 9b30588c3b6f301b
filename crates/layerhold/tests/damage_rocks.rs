//! Damage to the files of real stores on RocksDB: a named refusal that changes no file, or a store that is right.
//!
//! RocksDB by itself keeps neither: with a part of its MANIFEST it opens an older state, says nothing, and removes the
//! files of the newer one.
#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use layerhold::change::Event;
use layerhold::name::Principal;
use layerhold::recovery::{self, Choice, Examination, Part, RecoveryError, Verdict};
use layerhold::{Call, Engine, ErrorKind, Opening, RegistryName, StorageError};
use layerhold_testkit::witness::{Witness, small_options};

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                // RocksDB removes what it needs no more while it is open.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

/// Every file with what tells of a change: its bytes and when it was last written.
type State = BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)>;

/// All files but the lock, whose contents say who looked last.
fn state(dir: &Path) -> State {
    let mut state = State::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                todo.push(path);
            } else if path != dir.join("LOCK") {
                let modified = entry.metadata().unwrap().modified().unwrap();
                state.insert(path.strip_prefix(dir).unwrap().to_owned(), (fs::read(&path).unwrap(), modified));
            }
        }
    }
    state
}

fn by() -> Principal {
    Principal::parse("operator").unwrap()
}

/// A store whose journal no longer begins with the first change, as a kill leaves it.
fn grown(dir: &Path) -> (PathBuf, Witness) {
    let path = dir.join("store");
    let engine = Engine::create(&path, small_options()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    for images in [14, 4, 1] {
        witness.work(&engine, images).unwrap();
        engine.maintain().unwrap();
    }
    let killed = dir.join("killed");
    copy(&path, &killed);
    (killed, witness)
}

fn choose(dir: &Path, choice: Choice, examination: &Examination) -> Result<recovery::Recovered, RecoveryError> {
    match choice {
        Choice::AcceptLoss => recovery::accept_loss(dir, &small_options(), &by(), examination.agreed()),
        _ => recovery::restore(dir, &small_options(), &by()),
    }
}

#[derive(Debug, Default)]
struct Tally {
    harmless: usize,
    refused: usize,
    restored: usize,
    accepted: usize,
    damaged: usize,
}

/// Looks at a damaged store, opens it, and carries out each choice on a copy.
fn judge(witness: &Witness, dir: &Path, what: &str, tally: &mut Tally) {
    let before = state(dir);
    let examination = recovery::examine(dir, &small_options()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    assert!(state(dir) == before, "{what}: looking changed the store");
    let copies = dir.with_extension("copy");
    copy(dir, &copies);
    match Engine::open(dir, small_options()) {
        Ok(engine) => {
            assert!(examination.is_sound(), "{what}: {examination:?}");
            assert_eq!(engine.sequence(), witness.sequence, "{what}");
            let found = witness.check(&engine, witness.sequence).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
            tally.damaged += found.damaged;
            tally.harmless += 1;
            fs::remove_dir_all(copies).unwrap();
            return;
        }
        Err(StorageError::Corrupt { .. } | StorageError::AcknowledgedDataLoss { .. }) => {}
        Err(other) => panic!("{what}: {other:?}"),
    }
    tally.refused += 1;
    assert!(state(dir) == before, "{what}: a refused store was changed");
    assert!(!examination.is_sound() && !examination.choices.is_empty(), "{what}: {examination:?}");
    match Engine::open_read_only(dir, small_options()) {
        Ok(engine) => {
            assert!(examination.readable, "{what}");
            assert_eq!((engine.sequence(), engine.opening()), (examination.recovered, Opening::ReadOnly), "{what}");
            witness.check(&engine, examination.recovered).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
            let call = Call::anonymous();
            let refused = engine.create_registry(&RegistryName::parse("other").unwrap(), &call).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{what}");
            engine.close().unwrap();
        }
        Err(error) => assert!(!examination.readable, "{what}: {error:?}"),
    }
    assert!(state(dir) == before, "{what}: a read-only opening changed the store");

    for choice in &examination.choices {
        let chosen = dir.with_extension("chosen");
        copy(&copies, &chosen);
        let recovered = choose(&chosen, *choice, &examination)
            .unwrap_or_else(|e| panic!("{what}, {choice}: {e:?}, {examination:?}"));
        let engine = Engine::open(&chosen, small_options()).unwrap_or_else(|e| panic!("{what}, {choice}: {e:?}"));
        assert_eq!(engine.sequence(), recovered.sequence, "{what}, {choice}");
        let found = witness.check(&engine, recovered.recovered);
        tally.damaged += found.unwrap_or_else(|wrong| panic!("{what}, {choice}: {wrong}")).damaged;
        match choice {
            Choice::Restore => {
                assert_eq!(recovered.recovered, witness.sequence, "{what}: {examination:?}");
                tally.restored += 1;
            }
            _ => tally.accepted += 1,
        }
        let change = engine.changes(recovered.sequence - 1, 1).unwrap().remove(0);
        assert!(matches!(change.event, Event::Recovered { .. }), "{what}: {change:?}");
        assert!(chosen.join(&recovered.aside).is_dir(), "{what}");
        drop(engine);
        // What was out of use is still there: nothing was taken away.
        let kept: Vec<Vec<u8>> = state(&chosen).into_values().map(|(bytes, _)| bytes).collect();
        for (path, (bytes, _)) in state(&copies) {
            let data =
                path.extension().is_some_and(|kind| kind == "sst" || kind == "blob") || path.starts_with("journal");
            assert!(
                !data || path.to_string_lossy().contains("spare") || kept.contains(&bytes),
                "{what}: {path:?} is gone"
            );
        }
        fs::remove_dir_all(chosen).unwrap();
    }
    fs::remove_dir_all(copies).unwrap();
}

#[test]
fn damage_to_any_file_is_named_and_costs_nothing_that_is_still_there() {
    let directory = tempfile::tempdir().unwrap();
    let (rest, witness) = grown(directory.path());
    let mut tally = Tally::default();
    let files = state(&rest);
    let targets: Vec<_> = files.iter().filter(|(path, _)| !path.to_string_lossy().contains("LO")).collect();
    for (path, (bytes, _)) in &targets {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for round in 0..8 {
            if path.starts_with("blobs") && round > 3 {
                continue;
            }
            let damaged = directory.path().join("damaged");
            copy(&rest, &damaged);
            let target = damaged.join(path);
            let mut changed = bytes.clone();
            match round {
                0 => fs::remove_file(&target).unwrap(),
                1 => fs::write(&target, &bytes[..bytes.len() / 2]).unwrap(),
                2 => {
                    changed[used / 3..].fill(0);
                    fs::write(&target, &changed).unwrap();
                }
                _ if used > 0 => {
                    changed[(used - 1) * (round - 3) / 5] ^= 1 << (round % 8);
                    fs::write(&target, &changed).unwrap();
                }
                _ => {}
            }
            judge(&witness, &damaged, &format!("round {round} of {}", path.display()), &mut tally);
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 30 && tally.restored > 10 && tally.accepted > 25 && tally.damaged > 10, "{tally:?}");
}

#[test]
fn half_of_a_manifest_costs_no_file_of_the_newer_state() {
    let directory = tempfile::tempdir().unwrap();
    let (rest, witness) = grown(directory.path());
    let manifest = state(&rest).into_keys().find(|path| path.to_string_lossy().contains("MANIFEST")).unwrap();
    let whole = fs::read(rest.join(&manifest)).unwrap();
    let mut losses = 0;
    for cut in (0..whole.len()).step_by(37) {
        let damaged = directory.path().join("damaged");
        copy(&rest, &damaged);
        fs::write(damaged.join(&manifest), &whole[..cut]).unwrap();
        let before = state(&damaged);
        match Engine::open(&damaged, small_options()) {
            Ok(engine) => drop(witness.check(&engine, witness.sequence).unwrap()),
            Err(error) => {
                losses += usize::from(matches!(error, StorageError::AcknowledgedDataLoss { .. }));
                assert!(state(&damaged) == before, "cut at {cut}: {error}");
                // Put back what was cut off, and the store is as it was.
                fs::write(damaged.join(&manifest), &whole).unwrap();
                let engine = Engine::open(&damaged, small_options()).unwrap();
                assert_eq!(engine.sequence(), witness.sequence, "cut at {cut}");
            }
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    assert!(losses > 0, "no cut gave an older state");
}

/// RocksDB's reader of logs does not move on from such a record: a store whose MANIFEST has one opened for ever.
#[test]
fn one_bit_in_a_manifest_does_not_keep_an_opening_busy_for_ever() {
    const BLOCK: usize = 32 << 10;
    let directory = tempfile::tempdir().unwrap();
    let (rest, _) = grown(directory.path());
    let manifest = state(&rest).into_keys().find(|path| path.to_string_lossy().contains("MANIFEST")).unwrap();
    let whole = fs::read(rest.join(&manifest)).unwrap();
    assert!(whole.len() < BLOCK, "one block");
    let (mut at, mut records) = (0, 0);
    while let Some(&[_, _, _, _, low, high, kind]) = whole.get(at..at + 7) {
        let damaged = directory.path().join("damaged");
        copy(&rest, &damaged);
        let mut bytes = whole.clone();
        bytes[at + 6] = kind ^ 4;
        fs::write(damaged.join(&manifest), bytes).unwrap();
        let before = state(&damaged);
        let (say, hear) = std::sync::mpsc::channel();
        let opened = damaged.clone();
        let open = move || {
            let kinds = [Engine::open(&opened, small_options()), Engine::open_read_only(&opened, small_options())];
            let examined = recovery::examine(&opened, &small_options()).map(|examination| examination.readable);
            let _ = say.send((kinds.map(|opened| opened.map(drop).map_err(|error| error.kind())), examined.unwrap()));
        };
        std::thread::Builder::new().spawn(open).unwrap();
        let (opened, readable) = hear.recv_timeout(std::time::Duration::from_secs(60)).expect("opening ends");
        assert_eq!(opened, [Err(ErrorKind::Corrupt); 2], "record {records}");
        assert!(!readable && state(&damaged) == before, "record {records}");
        fs::remove_dir_all(&damaged).unwrap();
        at += 7 + usize::from(u16::from_le_bytes([low, high]));
        records += 1;
    }
    assert!(records > 2, "{records} records");
}

#[test]
fn whole_parts_that_are_gone_are_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (rest, witness) = grown(directory.path());
    let mut tally = Tally::default();
    for part in ["FORMAT", "LOCK", "journal", "table", "blobs", "table/CURRENT", "table/IDENTITY"] {
        let damaged = directory.path().join("damaged");
        copy(&rest, &damaged);
        let target = damaged.join(part);
        if target.is_dir() {
            fs::remove_dir_all(target).unwrap()
        } else {
            fs::remove_file(target).unwrap()
        }
        judge(&witness, &damaged, &format!("without {part}"), &mut tally);
        fs::remove_dir_all(&damaged).unwrap();
    }
    println!("{tally:?}");
    assert_eq!((tally.refused, tally.harmless), (5, 2), "{tally:?}");
}

#[test]
fn a_whole_store_is_read_by_many_and_written_by_nobody_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let (rest, witness) = grown(directory.path());
    let before = state(&rest);
    let readers = [(); 3].map(|()| Engine::open_read_only(&rest, small_options()).unwrap());
    for reader in &readers {
        let found = witness.check(reader, witness.sequence).unwrap();
        assert_eq!(found.damaged, 0);
    }
    assert!(matches!(Engine::open(&rest, small_options()), Err(StorageError::Locked { .. })));
    drop(readers);
    assert!(state(&rest) == before);
    let examination = recovery::examine(&rest, &small_options()).unwrap();
    assert_eq!((examination.verdict, examination.damages.as_slice()), (Verdict::Clean, [].as_slice()));
    assert!(matches!(recovery::restore(&rest, &small_options(), &by()), Err(RecoveryError::Sound)));
    assert!(state(&rest) == before);
    let writer = Engine::open(&rest, small_options()).unwrap();
    for error in [
        Engine::open_read_only(&rest, small_options()).unwrap_err(),
        recovery::examine(&rest, &small_options()).unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
    }
    drop(writer);
}

#[test]
fn files_of_another_store_are_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (rest, witness) = grown(directory.path());
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    let (other, _) = grown(&other);
    let mut tally = Tally::default();
    for (part, named) in [("FORMAT", Part::Format), ("journal", Part::Journal), ("table", Part::Table)] {
        let damaged = directory.path().join("damaged");
        copy(&rest, &damaged);
        let (from, to) = (other.join(part), damaged.join(part));
        if from.is_dir() {
            fs::remove_dir_all(&to).unwrap();
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
        let examination = recovery::examine(&damaged, &small_options()).unwrap();
        assert!(examination.damages.iter().any(|damage| damage.part == named), "{part}: {examination:?}");
        judge(&witness, &damaged, &format!("{part} of another store"), &mut tally);
        fs::remove_dir_all(&damaged).unwrap();
    }
    // FORMAT alone is made good by what the others say.
    assert_eq!((tally.refused, tally.restored), (3, 1), "{tally:?}");
}

#[test]
fn a_lock_file_that_is_deleted_under_a_writer_lets_no_second_one_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let engine = Engine::create(&path, small_options()).unwrap();
    let mut witness = Witness::begin(&engine).unwrap();
    witness.work(&engine, 3).unwrap();
    fs::remove_file(path.join("LOCK")).unwrap();
    // RocksDB begins its own log of messages anew before it asks for its lock; and the writer may be making a spare.
    let store = || {
        let mut files = state(&path);
        files.retain(|file, _| {
            !["table/LOG", "journal/spare"].iter().any(|start| file.to_string_lossy().starts_with(start))
        });
        files
    };
    let before = store();
    for _ in 0..2 {
        let second = Engine::open(&path, small_options()).expect_err("RocksDB has a lock of its own");
        assert!(matches!(second, StorageError::Locked { .. }), "{second:?}");
    }
    let after = store();
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|file| before.get(*file) != after.get(*file)).collect();
    assert!(changed.is_empty(), "the second one changed {changed:?}");
    witness.work(&engine, 1).unwrap();
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0);
    drop(engine);
    let engine = Engine::open(&path, small_options()).unwrap();
    assert_eq!(witness.check(&engine, witness.sequence).unwrap().damaged, 0);
}
