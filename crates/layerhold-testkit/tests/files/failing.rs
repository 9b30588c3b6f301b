//! Goal: a call that fails is an error of the right kind, harms nothing that was acknowledged, and is never followed
//! by a second try of a sync. Method: the same upload runs with each of its calls failing in each way.

use std::path::Path;
use std::sync::Arc;

use layerhold::store::fs::FileSystem;
use layerhold::store::local::{FOOTER_LEN, LocalBlobStore};
use layerhold::store::{BlobStore, Location, StorageError};
use layerhold_testkit::fs::{Call, CrashPolicy, FailingFileSystem, Failure, Fault, Repeat, SimFileSystem};

const LOCATION: Location = Location([0x42; 16]);

fn footer() -> Vec<u8> {
    vec![1; usize::try_from(FOOTER_LEN).unwrap()]
}

/// The last length that was acknowledged, as (synced, published), and how it ended.
fn upload(fs: Arc<dyn FileSystem>) -> ((u64, bool), Result<(), StorageError>) {
    let mut acknowledged = (0, false);
    let run = || {
        let store = LocalBlobStore::open(fs)?;
        let mut staged = store.stage(LOCATION)?;
        for part in 0..3 {
            staged.append(part * 5000, &[part as u8 + 1; 5000])?;
            staged.sync()?;
            acknowledged.0 += 5000;
        }
        let mut read = [0; 5000];
        staged.read_exact_at(&mut read, 10_000)?;
        assert_eq!(read, [3; 5000]);
        staged.publish(15_000, &footer())?;
        acknowledged.1 = true;
        let blob = store.open(LOCATION, 15_000)?;
        let read = |e| StorageError::io("read", "blob", e);
        blob.read_exact_at(&mut [0; 100], 4950).map_err(read)?;
        assert_eq!(blob.map(4999, 2).map_err(read)?[..], [1, 2]);
        store.list(&mut |_| std::ops::ControlFlow::Continue(()))
    };
    let result = run();
    (acknowledged, result)
}

fn assert_found(fs: SimFileSystem, (len, published): (u64, bool)) {
    let store = LocalBlobStore::open(Arc::new(fs)).unwrap();
    let mut read = vec![0; len as usize];
    if published {
        store.open(LOCATION, len).unwrap().read_exact_at(&mut read, 0).unwrap();
    } else if len > 0 {
        store.resume(LOCATION, len).unwrap().read_exact_at(&mut read, 0).unwrap();
    }
    assert!(read.chunks(5000).zip(1..).all(|(part, fill)| part.iter().all(|byte| *byte == fill)));
}

#[test]
fn every_call_that_fails_is_an_error_and_harms_nothing_acknowledged() {
    let mut fired = 0;
    for failure in Failure::ALL {
        for repeat in [Repeat::Once, Repeat::Sticky] {
            for nth in 1.. {
                let sim = SimFileSystem::new(nth);
                LocalBlobStore::create(Arc::new(sim.clone())).unwrap();
                let failing = FailingFileSystem::new(Arc::new(sim.clone()));
                failing.arm(Fault { call: None, nth, failure, repeat });
                let (acknowledged, result) = upload(Arc::new(failing.clone()));
                let done = failing.all_calls() < nth;
                if failing.fired() > 0 {
                    fired += 1;
                    match (failure, &result) {
                        (Failure::ShortWrite, result) => assert!(result.is_ok(), "{result:?}"),
                        (Failure::Enospc, Err(StorageError::NoSpace { .. })) => {}
                        // Reads and writes go on after a signal; nothing else is tried again.
                        (Failure::Eintr, Ok(()) | Err(StorageError::Io { .. })) => {}
                        (Failure::Eio | Failure::ZeroWrite, Err(StorageError::Io { .. })) => {}
                        (Failure::Erofs, Err(StorageError::ReadOnly { .. })) => {}
                        // Whatever the reason, a failed sync stays one: nobody may try it again.
                        (Failure::Erofs, Err(error)) if error.is_failed_sync() => {}
                        _ => panic!("failure={failure:?} repeat={repeat:?} nth={nth} result={result:?}"),
                    }
                } else {
                    result.unwrap();
                }
                assert_found(sim.crash(CrashPolicy::DropUnsynced), acknowledged);
                assert_found(sim.crash(CrashPolicy::KeepAll), acknowledged);
                if done {
                    break;
                }
            }
        }
    }
    println!("faults={fired}");
    assert!(fired > 100, "faults={fired}");
}

#[test]
fn a_failed_sync_is_never_followed_by_another() {
    for call in [Call::SyncData, Call::SyncDir] {
        let sim = SimFileSystem::new(1);
        LocalBlobStore::create(Arc::new(sim.clone())).unwrap();
        let failing = FailingFileSystem::new(Arc::new(sim));
        let store = LocalBlobStore::open(Arc::new(failing.clone())).unwrap();
        let mut staged = store.stage(LOCATION).unwrap();
        staged.append(0, b"bytes").unwrap();
        failing.arm(Fault { call: Some(call), nth: 1, failure: Failure::Eio, repeat: Repeat::Once });
        staged.sync().unwrap_err();
        assert_eq!(failing.fired(), 1);
        let before = failing.all_calls();
        staged.sync().unwrap_err();
        staged.append(5, b"more").unwrap_err();
        staged.read_exact_at(&mut [0; 5], 0).unwrap_err();
        staged.publish(5, &footer()).unwrap_err();
        assert_eq!(failing.all_calls(), before, "the file is not touched again call={call:?}");
    }
}

#[test]
fn a_name_that_waited_for_a_failed_directory_sync_is_given_up() {
    let sim = SimFileSystem::new(1);
    let store = LocalBlobStore::create(Arc::new(sim.clone())).unwrap();
    let neighbour = Location(*b"\x42-another-upload");
    let mut staged = store.stage(LOCATION).unwrap();
    let mut waiting = store.stage(neighbour).unwrap();
    // The first sync is the file's own, the second that of the directory.
    sim.fail_sync(2);
    staged.append(0, b"bytes").unwrap();
    staged.sync().unwrap_err();
    waiting.append(0, b"bytes").unwrap();
    waiting.sync().expect_err("the failed sync lost this name as well");
    // A file that is made later has nothing to do with it.
    let later = Location(*b"\x42-a-later-upload");
    let mut staged = store.stage(later).unwrap();
    staged.append(0, b"bytes").unwrap();
    staged.publish(5, &footer()).unwrap();
    let found = LocalBlobStore::open(Arc::new(sim.crash(CrashPolicy::KeepAll))).unwrap();
    found.open(later, 5).unwrap();
    assert!(found.open(neighbour, 5).is_err());
}

#[test]
fn a_shard_whose_name_may_be_lost_is_not_used() {
    let sim = SimFileSystem::new(1);
    let store = LocalBlobStore::create(Arc::new(sim.clone())).unwrap();
    sim.fail_sync(1);
    assert!(store.stage(LOCATION).is_err());
    assert!(store.stage(LOCATION).is_err(), "no second sync can make up for the first");
    let elsewhere = Location([0x43; 16]);
    let mut staged = store.stage(elsewhere).unwrap();
    staged.publish(0, &footer()).unwrap();
    LocalBlobStore::open(Arc::new(sim.crash(CrashPolicy::DropUnsynced))).unwrap().open(elsewhere, 0).unwrap();
}

#[test]
fn a_full_disk_costs_the_upload_back_to_its_last_sync() {
    let sim = SimFileSystem::new(1);
    let store = LocalBlobStore::create(Arc::new(sim.clone())).unwrap();
    let mut staged = store.stage(LOCATION).unwrap();
    staged.append(0, &[1; 5000]).unwrap();
    staged.sync().unwrap();
    sim.set_capacity(7000);
    assert!(matches!(staged.append(5000, &[2; 5000]), Err(StorageError::NoSpace { .. })));
    assert!(staged.publish(5000, &footer()).is_err(), "bytes of the refused part may lie behind the rest");
    drop(staged);
    sim.set_capacity(u64::MAX);
    let mut staged = store.resume(LOCATION, 5000).unwrap();
    staged.append(5000, &[2; 5000]).unwrap();
    staged.publish(10_000, &footer()).unwrap();
    let mut read = [0; 2];
    store.open(LOCATION, 10_000).unwrap().read_exact_at(&mut read, 4999).unwrap();
    assert_eq!(read, [1, 2]);
}

#[test]
fn long_appends_are_written_out_on_the_way() {
    let failing = FailingFileSystem::new(Arc::new(SimFileSystem::new(1)));
    let store = LocalBlobStore::create(Arc::new(failing.clone())).unwrap();
    let mut staged = store.stage(LOCATION).unwrap();
    let bytes = vec![5; 20 << 20];
    staged.append(0, &bytes[..3 << 20]).unwrap();
    assert_eq!(failing.calls(Call::StartWriteback), 0);
    staged.append(3 << 20, &bytes[3 << 20..]).unwrap();
    assert_eq!(failing.calls(Call::StartWriteback), 2, "at 8 and at 16 MiB");
    assert_eq!(failing.calls(Call::Write), 4, "cut only there");
    staged.publish(20 << 20, &footer()).unwrap();
    assert_eq!(failing.calls(Call::SyncData), 1);
}

#[test]
fn publishing_a_staged_blob_is_one_sync() {
    let failing = FailingFileSystem::new(Arc::new(SimFileSystem::new(1)));
    let store = LocalBlobStore::create(Arc::new(failing.clone())).unwrap();
    let mut staged = store.stage(LOCATION).unwrap();
    staged.append(0, b"bytes").unwrap();
    staged.sync().unwrap();
    let syncs = |kind| failing.calls(kind);
    let (data, directories) = (syncs(Call::SyncData), syncs(Call::SyncDir));
    staged.sync().unwrap();
    assert_eq!((syncs(Call::SyncData), syncs(Call::SyncDir)), (data, directories), "nothing new to sync");
    staged.publish(5, &footer()).unwrap();
    staged.publish(5, &footer()).unwrap();
    assert_eq!((syncs(Call::SyncData), syncs(Call::SyncDir)), (data + 1, directories));
    assert!(failing.list(Path::new("blobs/42")).unwrap().len() == 1);
}

#[test]
fn a_directory_is_synced_again_in_vain_until_a_name_in_it_changes() {
    let failing = FailingFileSystem::over(&SimFileSystem::new(1));
    failing.create_dir(Path::new("d")).unwrap();
    let once = |failure| Fault { call: Some(Call::SyncDir), nth: 1, failure, repeat: Repeat::Once };
    failing.arm(once(Failure::Eio));
    failing.sync_dir(Path::new("d")).unwrap_err();
    assert_eq!(failing.syncs_failed(), 1);
    failing.create_new(Path::new("elsewhere")).unwrap();
    assert!(failing.synced_again().is_empty());
    failing.sync_dir(Path::new("d")).unwrap();
    assert_eq!(failing.synced_again(), [Path::new("d")]);

    let failing = FailingFileSystem::over(&SimFileSystem::new(1));
    failing.create_dir(Path::new("d")).unwrap();
    failing.create_new(Path::new("d/one")).unwrap();
    failing.arm(once(Failure::Eio));
    failing.sync_dir(Path::new("d")).unwrap_err();
    failing.remove_file(Path::new("d/one")).unwrap();
    failing.sync_dir(Path::new("d")).unwrap();
    assert!(failing.synced_again().is_empty(), "there was a name to take away");
}
