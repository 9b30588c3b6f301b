//! Goal: a process that dies at any moment over RocksDB and real files loses nothing that it acknowledged, and the machinery
//! that says so notices one that does.
//!
//! Method: the command kills processes of its own, and the gate runs a little of that; here children acknowledge before they
//! act, as no engine may.

#![cfg(all(feature = "rocksdb", target_os = "linux"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use layerhold_testkit::real::blocks::{self, KINDS, Planted};
use layerhold_testkit::real::{Place, damage, generations, kill_points};

const COMMAND: &str = env!("CARGO_BIN_EXE_layerhold-testkit");

fn place(scratch: &tempfile::TempDir) -> Place {
    Place { program: COMMAND.into(), scratch: scratch.path().to_owned() }
}

#[test]
fn an_answer_before_its_time_is_noticed_at_a_kill_point() {
    let scratch = tempfile::tempdir().unwrap();
    let outcome = kill_points::sweep(&place(&scratch), 5, true).unwrap();
    assert!(!outcome.violations.is_empty(), "{:?}", outcome.counts);
}

#[test]
fn some_generations_of_kills_lose_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let outcome = generations::live(&place(&scratch), 7, 25, false).unwrap();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
    assert!(outcome.counts["kills"] > 15 && outcome.counts["answers"] > 25, "{:?}", outcome.counts);
}

#[test]
fn an_answer_before_its_time_is_noticed_after_a_random_kill() {
    let scratch = tempfile::tempdir().unwrap();
    let outcome = generations::live(&place(&scratch), 7, 40, true).unwrap();
    assert!(!outcome.violations.is_empty(), "{:?}", outcome.counts);
}

#[test]
fn a_refusal_for_another_reason_than_damage_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let outcome = damage::spoil(&place(&scratch), 5, 10, true).unwrap();
    assert_eq!(outcome.violations.len(), 10, "{:?}", outcome.counts);
}

#[test]
fn disks_that_nothing_can_mount_are_no_states() {
    for kind in KINDS.into_iter().filter(|kind| kind.missing().is_none()) {
        let scratch = tempfile::tempdir().unwrap();
        let wrong = blocks::cut(&place(&scratch), kind, 11, 3, Planted::NoMounts).unwrap_err();
        assert!(wrong.contains("nothing mounts any more"), "{}: {wrong}", kind.technique);
    }
}

/// Otherwise a run that finds nothing would mean nothing. A name whose directory is not synced shows on ext4 for certain: Btrfs
/// often writes it out with the file, and XFS always.
#[test]
fn a_sync_that_is_left_out_is_noticed_below_a_file_system() {
    for kind in KINDS {
        if let Some(missing) = kind.missing() {
            println!("NOT RUN: {} is not available here: {missing}", kind.technique);
            continue;
        }
        for planted in [Planted::NoFileSync, Planted::NoDirectorySync] {
            let scratch = tempfile::tempdir().unwrap();
            let outcome = blocks::cut(&place(&scratch), kind, 11, 40, planted).unwrap();
            println!("{} {planted:?}: {} of 40 states lose something", kind.technique, outcome.violations.len());
            let shows = planted == Planted::NoFileSync || kind.technique.contains("ext4");
            assert!(!shows || !outcome.violations.is_empty(), "{} {planted:?}: {:?}", kind.technique, outcome.counts);
        }
    }
}
