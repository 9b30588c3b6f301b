//! The table on RocksDB: what only it can get wrong. The contract of stores is in `metadata.rs`.
#![cfg(feature = "rocksdb")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test panics where something is wrong"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::real::RealFileSystem;
use layerhold::store::rocks::{RocksOptions, RocksTable};
use layerhold::store::table::Table;
use layerhold::store::{Batch, Direction, Durability, KeyRange, Member, MetadataStore, StorageError, View};

const STORE_ID: [u8; 16] = *b"a store on rocks";

fn small() -> RocksOptions {
    RocksOptions::default().with_memory_bytes(8 << 20)
}

/// A copy of the files is what a kill leaves: RocksDB flushes when it is closed.
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

fn rows(view: &dyn View, direction: Direction) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StorageError> {
    let mut rows = BTreeMap::new();
    let all = KeyRange { start: Vec::new(), end: vec![0xff] };
    view.scan(&all, direction, &mut |key, value| {
        assert!(rows.insert(key.to_vec(), value.to_vec()).is_none());
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

#[test]
fn a_table_is_made_once_opened_once_and_never_made_by_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let absent = RocksTable::open(&path, small()).unwrap_err();
    assert!(matches!(absent, StorageError::Corrupt { .. }), "{absent}");
    let table = RocksTable::create(&path, small()).unwrap();
    let twice = RocksTable::open(&path, small()).unwrap_err();
    assert!(matches!(twice, StorageError::Locked { .. }), "{twice}");
    drop(table);
    let again = RocksTable::create(&path, small()).unwrap_err();
    assert!(matches!(again, StorageError::NotEmpty { .. }), "{again}");
}

#[test]
fn what_was_flushed_is_there_without_the_journal_and_the_rest_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    let table = RocksTable::create(&path, small()).unwrap();
    assert_eq!(table.applied_sequence().unwrap(), 0);
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    batch.put(b"large", &[7; 20_000]);
    table.apply(&[&batch], Some(5)).unwrap();
    table.flush().unwrap();
    let mut batch = Batch::new();
    batch.put(b"a", b"2");
    table.apply(&[&batch], Some(6)).unwrap();
    let killed = directory.path().join("copy");
    copy(&path, &killed);
    let survivor = RocksTable::open(&killed, small()).unwrap();
    assert_eq!(survivor.applied_sequence().unwrap(), 5);
    assert_eq!(survivor.get_many(&[b"a", b"large"]).unwrap(), [Some(b"1".to_vec()), Some(vec![7; 20_000])]);
    // The table's own row is not the engine's to see.
    for direction in [Direction::Forward, Direction::Backward] {
        let rows = rows(&*survivor.view().unwrap(), direction).unwrap();
        assert_eq!(rows.into_keys().collect::<Vec<_>>(), [b"a".to_vec(), b"large".to_vec()]);
    }
}

#[test]
fn a_killed_store_has_every_acknowledged_group() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    fs::create_dir(&root).unwrap();
    let options = || JournaledOptions::default().with_segment_bytes(64 << 10).with_full_segments_max(2);
    let files = |root: &Path| Arc::new(RealFileSystem::new(root.to_owned()).unwrap());
    let table = RocksTable::create(&root.join("table"), small()).unwrap();
    let store = Journaled::create(files(&root), table, STORE_ID, options().with_guard_checks(false)).unwrap();
    let mut expected = BTreeMap::new();
    for sequence in 1..=400_u64 {
        let mut batch = Batch::new();
        let value = vec![sequence as u8; (sequence as usize * 37) % 6_000];
        for key in [sequence % 90, 1_000 + sequence] {
            batch.put(&key.to_be_bytes(), &value);
            expected.insert(key.to_be_bytes().to_vec(), value.clone());
        }
        if sequence > 50 {
            let gone = (1_000 + sequence - 50).to_be_bytes();
            batch.delete(&gone);
            expected.remove(gone.as_slice());
        }
        let group = [Member::new(store.lock_and_get(&[]).unwrap(), batch)];
        store.commit(&group, sequence, Durability::Synced, &mut |_| ()).unwrap();
        if sequence % 60 == 0 {
            store.maintain().unwrap();
        }
        if sequence % 80 == 30 {
            let killed = directory.path().join(format!("killed-{sequence}"));
            copy(&root, &killed);
            let table = RocksTable::open(&killed.join("table"), small()).unwrap();
            let applied = table.applied_sequence().unwrap();
            assert!(applied < sequence, "nothing is left to replay: the test shows nothing");
            let again = Journaled::open(files(&killed), table, STORE_ID, options()).unwrap();
            assert_eq!(again.recovered_sequence(), sequence);
            let view = again.view().unwrap();
            for direction in [Direction::Forward, Direction::Backward] {
                assert!(rows(&*view, direction).unwrap() == expected, "after {sequence}, applied {applied}");
            }
        }
    }
}

#[test]
fn damage_to_the_tables_files_is_an_error_and_never_another_answer() {
    // RocksDB alone does not keep this: with half of its MANIFEST it opens an older state and says nothing. The
    // journal notices, because the older state names an older sequence.
    #[expect(clippy::disallowed_methods, reason = "how a run is told its seed")]
    let seed: u64 = std::env::var("LAYERHOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("LAYERHOLD_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    fs::create_dir(&root).unwrap();
    let options = || {
        let options = JournaledOptions::default().with_segment_bytes(8 << 10).with_full_segments_max(1);
        options.with_guard_checks(false)
    };
    let files = |root: &Path| Arc::new(RealFileSystem::new(root.to_owned()).unwrap());
    let table = RocksTable::create(&root.join("table"), small()).unwrap();
    let store = Journaled::create(files(&root), table, STORE_ID, options()).unwrap();
    let mut expected = BTreeMap::new();
    for sequence in 1..=40_u64 {
        let mut batch = Batch::new();
        for row in 0..30_u64 {
            let key = [row.to_be_bytes(), (row * sequence % 7).to_be_bytes()].concat();
            let value = vec![(row ^ sequence) as u8; if row % 29 == 1 { 5_000 } else { 40 + row as usize }];
            batch.put(&key, &value);
            expected.insert(key, value);
        }
        let group = [Member::new(store.lock_and_get(&[]).unwrap(), batch)];
        store.commit(&group, sequence, Durability::Synced, &mut |_| ()).unwrap();
        if sequence % 13 == 0 {
            store.maintain().unwrap();
        }
    }
    store.maintain().unwrap();
    let rest = directory.path().join("rest");
    copy(&root, &rest);
    drop(store);

    let mut targets: Vec<_> =
        fs::read_dir(rest.join("table")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    targets.retain(|name| !name.to_string_lossy().contains("LO"));
    targets.sort();
    let keys: Vec<&[u8]> = expected.keys().map(Vec::as_slice).collect();
    let (mut refused, mut harmless, mut state) = (0, 0, seed);
    let mut random = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for name in targets {
        for round in 0..14 {
            let damaged = directory.path().join("damaged");
            copy(&rest, &damaged);
            let target = damaged.join("table").join(&name);
            let mut bytes = fs::read(&target).unwrap();
            let len = bytes.len() as u64;
            match round {
                0 => fs::remove_file(&target).unwrap(),
                1 => fs::write(&target, &bytes[..bytes.len() / 2]).unwrap(),
                2 | 3 if len > 0 => fs::write(&target, &bytes[..random(len) as usize]).unwrap(),
                _ if len > 0 => {
                    bytes[random(len) as usize] ^= 1 << random(8);
                    fs::write(&target, &bytes).unwrap();
                }
                _ => {}
            }
            let what = format!("round {round} of {}", target.display());
            // Opens, reads each row alone, all at once, and by scans.
            let read = || -> Result<(), StorageError> {
                let table = RocksTable::open(&damaged.join("table"), small())?;
                let store = Journaled::open(files(&damaged), table, STORE_ID, options())?;
                assert_eq!(store.recovered_sequence(), 40, "{what}");
                let view = store.view()?;
                let found = view.get_many(&keys)?;
                assert!(found.iter().zip(expected.values()).all(|(found, row)| found.as_ref() == Some(row)), "{what}");
                for (key, row) in &expected {
                    assert!(view.get(key)?.as_ref() == Some(row), "{what}");
                }
                for direction in [Direction::Forward, Direction::Backward] {
                    assert!(rows(&*view, direction)? == expected, "{what}");
                }
                Ok(())
            };
            match read() {
                Ok(()) => harmless += 1,
                Err(
                    StorageError::Corrupt { .. }
                    | StorageError::AcknowledgedDataLoss { .. }
                    | StorageError::Io { .. }
                    | StorageError::Table { .. },
                ) => refused += 1,
                Err(other) => panic!("{what}: {other}"),
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 40, "{refused} refused, {harmless} harmless");
}
