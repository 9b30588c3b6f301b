//! What every blob store must do, apart from surviving crashes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use layerhold::store::local::FOOTER_LEN;
use layerhold::store::{BlobStore, Location, StagedBlob, StorageError};

/// Holds the stores that `make` gives, each of them empty, to the contract.
///
/// # Panics
/// Where one breaks it.
pub fn check(make: impl Fn() -> Arc<dyn BlobStore>) {
    published_bytes_come_back(make().as_ref());
    an_empty_blob_is_a_blob(make().as_ref());
    a_location_is_staged_once(make().as_ref());
    appends_are_in_order(make().as_ref());
    staged_bytes_can_be_read(make().as_ref());
    a_resumed_upload_goes_on_where_it_was_synced(make().as_ref());
    publishing_twice_does_no_harm(make().as_ref());
    what_is_not_whole_is_corrupt(make().as_ref());
    deleted_means_gone(make().as_ref());
    everything_is_listed(make().as_ref());
    uploads_run_side_by_side(make().as_ref());
}

fn location(number: u8) -> Location {
    let mut bytes = [0x5a; 16];
    // Neighbours meet in one directory of a store that spreads them by the first byte.
    (bytes[0], bytes[15]) = (number / 4, number);
    Location(bytes)
}

/// `count` appends of one granule each, none of them alike.
fn granules(store: &dyn BlobStore, count: usize) -> Vec<Vec<u8>> {
    let len = usize::try_from(store.append_granularity().max(1000)).unwrap();
    (0..count).map(|i| (0..len).map(|j| (i * 31 + j) as u8).collect()).collect()
}

fn footer(fill: u8) -> Vec<u8> {
    vec![fill; usize::try_from(FOOTER_LEN).unwrap()]
}

fn append_all(staged: &mut dyn StagedBlob, mut offset: u64, parts: &[Vec<u8>]) -> u64 {
    for part in parts {
        staged.append(offset, part).unwrap();
        offset += part.len() as u64;
    }
    offset
}

fn publish(store: &dyn BlobStore, location: Location, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut staged = store.stage(location).unwrap();
    let len = append_all(staged.as_mut(), 0, parts);
    staged.publish(len, &footer(1)).unwrap();
    parts.concat()
}

fn assert_holds(store: &dyn BlobStore, location: Location, expected: &[u8]) {
    let blob = store.open(location, expected.len() as u64).unwrap();
    let mut bytes = vec![0; expected.len()];
    blob.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == expected, "other bytes came back location={location}");
}

fn is_corrupt<T>(result: Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Corrupt { .. }))
}

fn listed(store: &dyn BlobStore) -> BTreeSet<Location> {
    let mut found = BTreeSet::new();
    store
        .list(&mut |location| {
            assert!(found.insert(location), "listed twice location={location}");
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn published_bytes_come_back(store: &dyn BlobStore) {
    let parts = granules(store, 3);
    let bytes = publish(store, location(1), &parts);
    assert_holds(store, location(1), &bytes);
    let blob = store.open(location(1), bytes.len() as u64).unwrap();
    let mut middle = vec![0; 700];
    blob.read_exact_at(&mut middle, 900).unwrap();
    assert_eq!(middle, bytes[900..1600]);
    assert!(**blob.map(900, 700).unwrap() == bytes[900..1600]);
    assert!(**blob.map(0, bytes.len()).unwrap() == bytes[..]);
    let end = bytes.len() as u64;
    blob.read_exact_at(&mut [], end).unwrap();
    for (offset, len) in [(end, 1), (end - 1, 2), (0, bytes.len() + 1), (u64::MAX, 1)] {
        let read = blob.read_exact_at(&mut vec![0; len], offset);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof, "the footer is no part of the blob");
        assert!(blob.map(offset, len).is_err(), "the footer is no part of the blob");
    }
}

fn an_empty_blob_is_a_blob(store: &dyn BlobStore) {
    publish(store, location(1), &[]);
    assert_holds(store, location(1), &[]);
}

fn a_location_is_staged_once(store: &dyn BlobStore) {
    let parts = granules(store, 1);
    let mut staged = store.stage(location(1)).unwrap();
    let taken = |store: &dyn BlobStore| match store.stage(location(1)).map(|_| ()) {
        Err(StorageError::Io { source, .. }) => source.kind() == ErrorKind::AlreadyExists,
        _ => false,
    };
    assert!(taken(store), "while it is staged");
    let len = append_all(staged.as_mut(), 0, &parts);
    staged.publish(len, &footer(1)).unwrap();
    assert!(taken(store), "when it is published");
    assert_holds(store, location(1), &parts.concat());
}

fn appends_are_in_order(store: &dyn BlobStore) {
    let parts = granules(store, 2);
    let mut staged = store.stage(location(1)).unwrap();
    let len = parts[0].len() as u64;
    assert!(staged.append(len, &parts[0]).is_err(), "a gap");
    staged.append(0, &parts[0]).unwrap();
    assert!(staged.append(0, &parts[1]).is_err(), "an overlap");
    staged.append(len, &[]).unwrap();
    staged.append(len, &parts[1]).unwrap();
    assert!(staged.publish(len, &footer(1)).is_err(), "a length that is not the staged one");
    assert!(staged.publish(3 * len, &footer(1)).is_err(), "a length that is not the staged one");
    staged.publish(2 * len, &footer(1)).unwrap();
    assert!(staged.append(2 * len, &parts[0]).is_err(), "a published blob never changes");
    assert_holds(store, location(1), &parts.concat());
}

fn staged_bytes_can_be_read(store: &dyn BlobStore) {
    if !store.staged_is_readable() {
        return;
    }
    let parts = granules(store, 2);
    let mut staged = store.stage(location(1)).unwrap();
    let len = append_all(staged.as_mut(), 0, &parts);
    let mut bytes = vec![0; len as usize - 10];
    staged.read_exact_at(&mut bytes, 10).unwrap();
    assert!(bytes == parts.concat()[10..]);
    assert!(staged.read_exact_at(&mut bytes, 11).is_err(), "behind what was appended");
    staged.sync().unwrap();
    staged.read_exact_at(&mut bytes, 10).unwrap();
    assert!(bytes == parts.concat()[10..]);
}

fn a_resumed_upload_goes_on_where_it_was_synced(store: &dyn BlobStore) {
    let parts = granules(store, 4);
    let len = parts[0].len() as u64;
    let mut staged = store.stage(location(1)).unwrap();
    append_all(staged.as_mut(), 0, &parts[..2]);
    staged.sync().unwrap();
    staged.sync().unwrap();
    append_all(staged.as_mut(), 2 * len, &parts[2..]);
    drop(staged);
    assert!(is_corrupt(store.resume(location(2), 0)), "nothing was staged there");
    assert!(is_corrupt(store.resume(location(1), 5 * len)), "more than was ever staged");
    let mut staged = store.resume(location(1), len).unwrap();
    assert!(staged.append(2 * len, &parts[0]).is_err(), "it ends where it was cut");
    append_all(staged.as_mut(), len, &parts[3..]);
    staged.publish(2 * len, &footer(1)).unwrap();
    assert_holds(store, location(1), &[&parts[0][..], &parts[3]].concat());
}

fn publishing_twice_does_no_harm(store: &dyn BlobStore) {
    let parts = granules(store, 2);
    let mut staged = store.stage(location(1)).unwrap();
    let len = append_all(staged.as_mut(), 0, &parts);
    staged.publish(len, &footer(1)).unwrap();
    staged.publish(len, &footer(1)).unwrap();
    assert!(staged.publish(len, &footer(2)).is_err(), "another footer");
    assert!(staged.publish(len, b"short").is_err(), "a footer of another length");
    drop(staged);
    // A process that was killed before it could record the publishing does it again.
    let mut staged = store.resume(location(1), len).unwrap();
    staged.publish(len, &footer(1)).unwrap();
    assert_holds(store, location(1), &parts.concat());
}

fn what_is_not_whole_is_corrupt(store: &dyn BlobStore) {
    let parts = granules(store, 2);
    let mut staged = store.stage(location(1)).unwrap();
    let len = append_all(staged.as_mut(), 0, &parts);
    staged.sync().unwrap();
    assert!(is_corrupt(store.open(location(1), len)), "staged is not published");
    staged.publish(len, &footer(1)).unwrap();
    for wrong in [0, len - 1, len + 1, len + FOOTER_LEN, u64::MAX] {
        assert!(is_corrupt(store.open(location(1), wrong)), "length={wrong}");
    }
    let missing = store.open(location(2), len).map(|_| ()).unwrap_err();
    assert!(missing.to_string().contains(&location(2).to_string()), "damage names its location: {missing}");
}

fn deleted_means_gone(store: &dyn BlobStore) {
    let parts = granules(store, 2);
    store.delete(location(1)).unwrap();
    let bytes = publish(store, location(1), &parts);
    let blob = store.open(location(1), bytes.len() as u64).unwrap();
    store.delete(location(1)).unwrap();
    store.delete(location(1)).unwrap();
    assert!(is_corrupt(store.open(location(1), bytes.len() as u64)));
    let mut read = vec![0; bytes.len()];
    blob.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes, "a reader goes on");
    let staged = store.stage(location(2)).unwrap();
    drop(staged);
    store.delete(location(2)).unwrap();
    assert!(is_corrupt(store.resume(location(2), 0)));
    assert!(listed(store).is_empty());
    let again = publish(store, location(1), &parts[1..]);
    assert_holds(store, location(1), &again);
}

fn everything_is_listed(store: &dyn BlobStore) {
    assert!(listed(store).is_empty());
    let parts = granules(store, 1);
    let expected: BTreeSet<Location> = (0..20).map(location).collect();
    for (number, location) in expected.iter().enumerate() {
        if number % 2 == 0 {
            publish(store, *location, &parts);
        } else {
            let mut staged = store.stage(*location).unwrap();
            append_all(staged.as_mut(), 0, &parts);
            staged.sync().unwrap();
        }
    }
    assert_eq!(listed(store), expected);
    let mut visited = 0;
    let stop_at_three = &mut |_| {
        visited += 1;
        if visited == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.list(stop_at_three).unwrap();
    assert_eq!(visited, 3);
}

fn uploads_run_side_by_side(store: &dyn BlobStore) {
    let parts = granules(store, 3);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let parts = &parts;
            scope.spawn(move || {
                let mut staged = store.stage(location(number)).unwrap();
                let len = parts[0].len() as u64;
                for (i, part) in parts.iter().enumerate() {
                    staged.append(i as u64 * len, part).unwrap();
                    staged.sync().unwrap();
                }
                staged.publish(parts.len() as u64 * len, &footer(number)).unwrap();
            });
        }
    });
    for number in 0..8 {
        assert_holds(store, location(number), &parts.concat());
    }
}
