//! The simulated file system keeps what was synced, may lose the rest, and says the same for the same seed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use layerhold::store::fs::{FileSystem, OpenMode};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem, damage, is_crash};

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// Every file with its bytes.
fn all(fs: &SimFileSystem) -> Vec<(String, Vec<u8>)> {
    let files = damage::files(fs).unwrap();
    files.iter().map(|path| (path.to_str().unwrap().to_owned(), damage::read(fs, path).unwrap())).collect()
}

fn write(fs: &SimFileSystem, name: &str, bytes: &[u8]) {
    let file = fs.create_new(path(name)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

fn sync(fs: &SimFileSystem, name: &str) {
    fs.open(path(name), OpenMode::ReadWrite).unwrap().sync_data().unwrap();
}

#[test]
fn a_synced_file_without_its_name_is_lost_and_a_name_alone_is_empty() {
    let fs = SimFileSystem::new(1);
    write(&fs, "file", b"bytes");
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)), []);
    sync(&fs, "file");
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)), [], "syncing the file says nothing of its name");
    write(&fs, "other", b"lost");
    fs.sync_dir(path("")).unwrap();
    let found = all(&fs.crash(CrashPolicy::DropUnsynced));
    assert_eq!(found, [("file".to_owned(), b"bytes".to_vec()), ("other".to_owned(), Vec::new())]);
    assert_eq!(all(&fs.crash(CrashPolicy::KeepAll)), all(&fs));
}

#[test]
fn a_directory_without_its_name_takes_everything_below_along() {
    let fs = SimFileSystem::new(1);
    fs.create_dir(path("directory")).unwrap();
    write(&fs, "directory/file", b"bytes");
    sync(&fs, "directory/file");
    fs.sync_dir(path("directory")).unwrap();
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)), []);
    fs.sync_dir(path("")).unwrap();
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)).len(), 1);
}

#[test]
fn length_and_bytes_reach_the_disk_apart() {
    let fs = SimFileSystem::new(1);
    write(&fs, "file", b"");
    fs.settle();
    fs.open(path("file"), OpenMode::ReadWrite).unwrap().write_all_at(b"ab", 0).unwrap();
    assert_eq!(fs.pending(), 2);
    let states: BTreeSet<Vec<u8>> = fs.crash_states(100).map(|state| all(&state).remove(0).1).collect();
    assert_eq!(states, BTreeSet::from([b"".to_vec(), b"\0\0".to_vec(), b"ab".to_vec()]));
}

#[test]
fn what_was_cut_off_may_come_back_until_the_cut_is_synced() {
    let fs = SimFileSystem::new(1);
    write(&fs, "file", &[1; 10_000]);
    fs.settle();
    let file = fs.open(path("file"), OpenMode::ReadWrite).unwrap();
    file.set_len(100).unwrap();
    file.write_all_at(&[2; 5000], 100).unwrap();
    let mut expected = vec![1; 100];
    expected.resize(5100, 2);
    let states: BTreeSet<Vec<u8>> = fs.crash_states(1000).map(|state| all(&state).remove(0).1).collect();
    assert!(states.contains(&vec![1; 10_000]) && states.contains(&vec![1; 100]) && states.contains(&expected));
    assert!(states.contains(&vec![1; 5100]), "the new length over the old bytes");
    assert!(states.iter().all(|bytes| bytes[..100] == [1; 100]), "what was durable before stays");
    file.sync_data().unwrap();
    assert_eq!(fs.pending(), 0);
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)).remove(0).1, expected);
}

#[test]
fn a_page_tears_between_sectors() {
    let fs = SimFileSystem::new(1);
    write(&fs, "file", &[1; 4096]);
    fs.settle();
    fs.open(path("file"), OpenMode::ReadWrite).unwrap().write_all_at(&[2; 4096], 0).unwrap();
    let mut torn = BTreeSet::new();
    for seed in 0..200 {
        let bytes = all(&fs.crash(CrashPolicy::Random(seed))).remove(0).1;
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        torn.insert(bytes);
    }
    assert!(torn.len() > 10, "old, new, and much between");
}

#[test]
fn a_rename_leaves_one_name_or_both() {
    let fs = SimFileSystem::new(1);
    write(&fs, "new", b"new");
    write(&fs, "old", b"old");
    fs.create_dir(path("directory")).unwrap();
    fs.settle();
    fs.rename_replace(path("new"), path("old")).unwrap();
    let names = |fs: &SimFileSystem| all(fs).into_iter().map(|(name, bytes)| (name, bytes[0])).collect::<Vec<_>>();
    let states: BTreeSet<_> = fs.crash_states(100).map(|state| names(&state)).collect();
    let (old, new) = (("old".to_owned(), b'o'), ("old".to_owned(), b'n'));
    let from = ("new".to_owned(), b'n');
    assert_eq!(states, BTreeSet::from([vec![from.clone(), old], vec![from, new.clone()], vec![new]]));
    // Across directories, the end of the old name brings the new one along.
    fs.settle();
    fs.rename_noreplace(path("old"), path("directory/moved")).unwrap();
    fs.sync_dir(path("")).unwrap();
    assert_eq!(names(&fs.crash(CrashPolicy::DropUnsynced)), [("directory/moved".to_owned(), b'n')]);
}

#[test]
fn a_removed_name_may_come_back_with_its_bytes() {
    let fs = SimFileSystem::new(1);
    write(&fs, "file", b"first");
    fs.settle();
    fs.remove_file(path("file")).unwrap();
    write(&fs, "file", b"second");
    let file = [b"".to_vec(), b"first".to_vec(), b"second".to_vec(), vec![0; 6]];
    let states: BTreeSet<Option<Vec<u8>>> =
        fs.crash_states(100).map(|state| all(&state).pop().map(|(_, bytes)| bytes)).collect();
    assert_eq!(states, file.into_iter().map(Some).chain([None]).collect());
}

#[test]
fn a_lock_and_the_file_system_end_with_the_crash() {
    let fs = SimFileSystem::new(1);
    let _held = fs.lock(path("lock"), "me").unwrap();
    let file = fs.create_new(path("file")).unwrap();
    fs.crash_at(fs.mutating_calls() + 2);
    file.write_all_at(b"x", 0).unwrap();
    let refused = file.write_all_at(b"y", 1).unwrap_err();
    assert!(is_crash(&refused) && fs.crashed());
    assert!(is_crash(&fs.list(path("")).unwrap_err()), "reads fail as well");
    let found = fs.crash(CrashPolicy::KeepAll);
    assert!(!found.crashed());
    assert_eq!(damage::read(&found, path("file")).unwrap(), b"x");
    found.lock(path("lock"), "another").unwrap();
    assert!(!is_crash(&std::io::Error::from(ErrorKind::NotFound)));
}

#[test]
fn a_failed_sync_loses_what_it_covered_while_it_stays_visible() {
    let fs = SimFileSystem::new(1);
    write(&fs, "file", b"durable");
    fs.settle();
    let file = fs.open(path("file"), OpenMode::ReadWrite).unwrap();
    file.write_all_at(b"LOST", 0).unwrap();
    file.write_all_at(&[7; 10], 5000).unwrap();
    fs.fail_sync(1);
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
    file.sync_data().unwrap();
    assert_eq!(&damage::read(&fs, path("file")).unwrap()[..7], b"LOSTble");
    assert_eq!(all(&fs.crash(CrashPolicy::KeepAll)).remove(0).1, b"durable");
    // Names are lost in the same way.
    write(&fs, "name", b"");
    fs.fail_sync(1);
    fs.sync_dir(path("")).unwrap_err();
    write(&fs, "later", b"");
    fs.sync_dir(path("")).unwrap();
    let names: Vec<_> = all(&fs.crash(CrashPolicy::KeepAll)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["file", "later"]);
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_back_what_is_deleted() {
    let fs = SimFileSystem::new(1);
    fs.set_capacity(1000);
    let file = fs.create_new(path("file")).unwrap();
    assert_eq!(file.write_at(&[1; 1500], 0).unwrap(), 1000);
    assert_eq!(file.write_at(&[1; 1], 1000).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(&[2; 1000], 0).unwrap();
    assert_eq!(file.set_len(1001).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(fs.space().unwrap().available, 0);
    fs.remove_file(path("file")).unwrap();
    assert_eq!(fs.space().unwrap().available, 1000);
}

/// A few files with a little of everything that can be pending.
fn busy(seed: u64) -> SimFileSystem {
    let fs = SimFileSystem::new(seed);
    fs.create_dir(path("a")).unwrap();
    fs.settle();
    for name in ["a/1", "a/2", "a/3", "top"] {
        write(&fs, name, &[name.len() as u8; 20_000]);
    }
    sync(&fs, "a/1");
    fs.remove_file(path("a/2")).unwrap();
    fs.rename_replace(path("a/3"), path("top")).unwrap();
    fs.open(path("a/1"), OpenMode::ReadWrite).unwrap().set_len(7000).unwrap();
    fs
}

#[test]
fn the_same_seed_gives_the_same_states_and_they_are_distinct() {
    let states = |seed| busy(seed).crash_states(500).map(|state| state.fingerprint()).collect::<Vec<_>>();
    let first = states(1);
    assert_eq!(first.len(), 500);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 500, "distinct");
    assert_eq!(first, states(1));
    assert_ne!(first, states(2));
    let fs = busy(1);
    assert_eq!(first[0], fs.crash(CrashPolicy::DropUnsynced).fingerprint());
    assert_eq!(first[1], fs.crash(CrashPolicy::KeepAll).fingerprint());
    assert_eq!(fs.crash(CrashPolicy::Prefix(usize::MAX)).fingerprint(), fs.fingerprint());
    assert_eq!(fs.crash(CrashPolicy::Prefix(0)).fingerprint(), first[0]);
    assert_eq!(fs.crash(CrashPolicy::Random(7)).fingerprint(), fs.crash(CrashPolicy::Random(7)).fingerprint());
}

#[test]
fn every_small_cut_is_enumerated_whole() {
    let fs = SimFileSystem::new(1);
    for number in 0..10 {
        write(&fs, &number.to_string(), b"");
    }
    assert_eq!(fs.pending(), 10);
    assert_eq!(fs.crash_states(usize::MAX).count(), 1024);
    assert_eq!(fs.crash_states(100).count(), 100);
    for number in 10..13 {
        write(&fs, &number.to_string(), b"");
    }
    // 14 prefixes, 13 without one, 13 with one alone, and those that are two of these at once.
    assert!(fs.crash_states(usize::MAX).count() > 36);
}

#[test]
fn harm_is_done_where_it_was_asked_for() {
    let fs = SimFileSystem::new(1);
    write(&fs, "a", b"abcdef");
    write(&fs, "b", b"xy");
    fs.settle();
    damage::flip_bit(&fs, path("a"), 9).unwrap();
    damage::zero(&fs, path("a"), 2, 2).unwrap();
    damage::append(&fs, path("a"), b"!").unwrap();
    damage::swap(&fs, path("a"), path("b")).unwrap();
    damage::truncate(&fs, path("b"), 6).unwrap();
    damage::overwrite(&fs, path("b"), 5, b"F").unwrap();
    let expected = [("a".to_owned(), b"xy".to_vec()), ("b".to_owned(), b"a`\0\0eF".to_vec())];
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)), expected);
    damage::delete(&fs, path("a")).unwrap();
    assert_eq!(all(&fs.crash(CrashPolicy::DropUnsynced)).len(), 1);
    assert!(damage::flip_bit(&fs, path("b"), 48).is_err());
}

#[test]
fn the_locks_of_a_process_end_with_it() {
    let fs = SimFileSystem::new(1);
    let old = fs.lock(path("lock"), "old").unwrap();
    fs.end_process();
    let new = fs.lock(path("lock"), "new").unwrap();
    drop(old);
    assert!(fs.lock(path("lock"), "third").is_err(), "the lock of the new one");
    drop(new);
    fs.lock(path("lock"), "third").unwrap();
}
