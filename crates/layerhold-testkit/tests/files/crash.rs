//! Goal: whatever a blob store acknowledged is there after any power cut. Method: the same uploads run once for each
//! of their mutating calls, are cut off at it, and each state that the cut can leave is opened and asked for all that
//! was acknowledged; then the recovery itself is cut off in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use layerhold::store::fs::FileSystem;
use layerhold::store::local::{FOOTER_LEN, LocalBlobStore};
use layerhold::store::{BlobStore, Location, StorageError};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem, is_crash};

/// What the store said yes to.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    /// Bytes that a sync covered and no publishing yet.
    staged: BTreeMap<Location, u64>,
    published: BTreeSet<Location>,
}

/// Locations in two shards, one of them shared.
const LOCATIONS: [Location; 3] = [Location([0xab; 16]), Location(*b"\xab-the-same-shard"), Location([0x01; 16])];

const SEED: u64 = 20_260_727;

/// The byte at a place of a blob, so that bytes of another place or blob are never right.
fn bytes(location: Location, from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ location.0[15]).collect()
}

fn footer(location: Location) -> Vec<u8> {
    vec![location.0[15]; usize::try_from(FOOTER_LEN).unwrap()]
}

/// How much is acknowledged after each sync, and how long a blob is.
const SYNCED: [u64; 2] = [20_000, 30_000];
const LEN: u64 = 45_000;

/// Uploads all blobs side by side; stops at the first refusal, with what was acknowledged until then.
fn upload(fs: &SimFileSystem, acknowledged: &mut Acknowledged) -> Result<(), StorageError> {
    let store = LocalBlobStore::open(Arc::new(fs.clone()))?;
    let mut staged = Vec::new();
    for location in LOCATIONS {
        staged.push((location, store.stage(location)?));
    }
    let mut from = 0;
    for to in SYNCED {
        for (location, staged) in &mut staged {
            staged.append(from, &bytes(*location, from, to - 1000))?;
            staged.append(to - 1000, &bytes(*location, to - 1000, to))?;
        }
        for (location, staged) in &mut staged {
            staged.sync()?;
            acknowledged.staged.insert(*location, to);
        }
        from = to;
    }
    for (location, staged) in &mut staged {
        staged.append(from, &bytes(*location, from, LEN))?;
    }
    for (location, staged) in &mut staged {
        staged.publish(LEN, &footer(*location))?;
        acknowledged.staged.remove(location);
        acknowledged.published.insert(*location);
    }
    Ok(())
}

/// Takes up what was staged, finishes it, and asks for all that was acknowledged.
fn recover(fs: &SimFileSystem, acknowledged: &Acknowledged) -> Result<(), StorageError> {
    let store = LocalBlobStore::open(Arc::new(fs.clone()))?;
    let mut listed = Vec::new();
    store.list(&mut |location| {
        listed.push(location);
        ControlFlow::Continue(())
    })?;
    for location in &acknowledged.published {
        assert!(listed.contains(location));
        let mut read = vec![0; LEN as usize];
        store.open(*location, LEN)?.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes(*location, 0, LEN), "a published blob has other bytes location={location}");
    }
    for (location, len) in &acknowledged.staged {
        assert!(listed.contains(location));
        let mut staged = store.resume(*location, *len)?;
        let mut read = vec![0; *len as usize];
        staged.read_exact_at(&mut read, 0)?;
        assert!(read == bytes(*location, 0, *len), "synced bytes have changed location={location}");
        staged.append(*len, &bytes(*location, *len, LEN))?;
        staged.publish(LEN, &footer(*location))?;
    }
    if !acknowledged.staged.is_empty() {
        let published = acknowledged.published.iter().chain(acknowledged.staged.keys()).copied().collect();
        let finished = Acknowledged { published, staged: BTreeMap::new() };
        assert_found(&fs.crash(CrashPolicy::DropUnsynced), &finished);
    }
    Ok(())
}

fn assert_found(fs: &SimFileSystem, acknowledged: &Acknowledged) {
    if let Err(e) = recover(fs, acknowledged) {
        panic!("acknowledged data is lost: {e} acknowledged={acknowledged:?}");
    }
}

fn new_store() -> SimFileSystem {
    let fs = SimFileSystem::new(SEED);
    LocalBlobStore::create(Arc::new(fs.clone())).unwrap();
    fs
}

/// Runs the uploads up to each mutating call in turn.
fn for_each_cut(mut check: impl FnMut(&SimFileSystem, &Acknowledged)) {
    for call in 1.. {
        let fs = new_store();
        // Nothing but what the store itself synced is there.
        let fs = fs.crash(CrashPolicy::DropUnsynced);
        fs.crash_at(call);
        let mut acknowledged = Acknowledged::default();
        let result = upload(&fs, &mut acknowledged);
        match &result {
            Ok(()) => assert!(!fs.crashed()),
            Err(e) => assert!(is_crash(e), "{e}"),
        }
        check(&fs, &acknowledged);
        if result.is_ok() {
            return;
        }
    }
}

#[test]
fn whatever_was_acknowledged_is_found_after_any_power_cut() {
    let (mut cuts, mut states) = (0, 0);
    for_each_cut(|fs, acknowledged| {
        cuts += 1;
        for state in fs.crash_states(1000) {
            states += 1;
            assert_found(&state, acknowledged);
        }
    });
    println!("cuts={cuts} states={states} seed={SEED}");
    assert!(cuts > 30 && states > 10_000, "cuts={cuts} states={states}");
}

#[test]
fn a_recovery_that_is_cut_off_takes_nothing_with_it() {
    let mut states = 0;
    for_each_cut(|fs, acknowledged| {
        for state in fs.crash_states(10) {
            for call in 1.. {
                // Opening a state again is cheap, and the same calls come in the same order.
                let again = state.crash(CrashPolicy::KeepAll);
                again.crash_at(call);
                let result = recover(&again, acknowledged);
                for second in again.crash_states(5) {
                    states += 1;
                    assert_found(&second, acknowledged);
                }
                match result {
                    Ok(()) => break,
                    Err(e) => assert!(is_crash(&e), "{e}"),
                }
            }
        }
    });
    println!("states={states} seed={SEED}");
    assert!(states > 1000, "states={states}");
}

#[test]
fn a_store_is_created_whole_or_again() {
    for call in 1.. {
        let fs = SimFileSystem::new(SEED);
        fs.crash_at(call);
        let created = LocalBlobStore::create(Arc::new(fs.clone())).is_ok();
        for state in fs.crash_states(100) {
            if created {
                LocalBlobStore::open(Arc::new(state.clone())).unwrap();
            }
            LocalBlobStore::create(Arc::new(state)).unwrap();
        }
        if created {
            return;
        }
    }
}

#[test]
fn a_killed_process_leaves_no_name_behind_that_another_would_take_for_durable() {
    // Everything stays visible after a kill, the names that no sync covered as well. The next process finds them.
    for call in 1.. {
        let fs = new_store();
        fs.crash_at(fs.mutating_calls() + call);
        let result = upload(&fs, &mut Acknowledged::default());
        let fs = fs.kill();
        let store = LocalBlobStore::open(Arc::new(fs.clone())).unwrap();
        let mut listed = Vec::new();
        store
            .list(&mut |location| {
                listed.push(location);
                ControlFlow::Continue(())
            })
            .unwrap();
        let another = Location(*b"\xab-another-upload");
        let mut acknowledged = Acknowledged::default();
        for location in listed.iter().copied().chain([another]) {
            let resumed = if location == another { store.stage(location) } else { store.resume(location, 0) };
            let mut staged = resumed.unwrap();
            staged.append(0, &bytes(location, 0, LEN)).unwrap();
            staged.publish(LEN, &footer(location)).unwrap();
            acknowledged.published.insert(location);
        }
        for state in fs.crash_states(200) {
            assert_found(&state, &acknowledged);
        }
        if result.is_ok() {
            return;
        }
    }
}

#[test]
fn concurrent_uploads_in_one_shard_share_syncs_and_lose_nothing() {
    let fs = new_store();
    let store = LocalBlobStore::open(Arc::new(fs.clone())).unwrap();
    let locations: Vec<Location> =
        (0..16).map(|number| Location([[7; 15].as_slice(), &[number]].concat().try_into().unwrap())).collect();
    std::thread::scope(|scope| {
        for location in &locations {
            let store = &store;
            scope.spawn(move || {
                let mut staged = store.stage(*location).unwrap();
                staged.append(0, &bytes(*location, 0, LEN)).unwrap();
                staged.publish(LEN, &footer(*location)).unwrap();
            });
        }
    });
    let published = locations.into_iter().collect();
    assert_found(&fs.crash(CrashPolicy::DropUnsynced), &Acknowledged { staged: BTreeMap::new(), published });
    assert!(fs.list("blobs/07".as_ref()).unwrap().len() == 16);
}
