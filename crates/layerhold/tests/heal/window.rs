//! Bytes that were verified a short while ago, given out unchecked.

use layerhold_testkit::fs::damage;

use super::support::{GROUP, Rig, options, read};

const WINDOW_MS: u64 = 60_000;

fn flip(rig: &Rig, digest: &layerhold::Digest) {
    damage::flip_bit(&rig.fs, &rig.file(digest), GROUP as u64 * 8).unwrap();
}

#[test]
fn a_window_is_off_unless_it_is_asked_for() {
    let rig = Rig::new();
    let (digest, _) = rig.pushed(1);
    flip(&rig, &digest);
    assert!(rig.app().blob(&digest).unwrap().read_at(0, &mut vec![0; 2 * GROUP]).is_err());
}

#[test]
fn bytes_are_unchecked_within_the_window_and_checked_again_behind_it() {
    let rig = Rig::with(options().with_verified_window_ms(WINDOW_MS));
    let (digest, bytes) = rig.pushed(1);
    let reader = rig.app().blob(&digest).unwrap();
    flip(&rig, &digest);
    let mut wrong = bytes.clone();
    wrong[GROUP] ^= 1;
    assert_eq!(read(&rig.app(), &digest), wrong, "this is the risk that the option states");
    assert_eq!(reader.map_at(0, bytes.len()).unwrap()[..], wrong);
    rig.clock.advance(WINDOW_MS);
    assert!(reader.read_at(0, &mut vec![0; bytes.len()]).is_err(), "an open reader notices the end of the window");
    assert_eq!(rig.incidents().len(), 1);
}

#[test]
fn reading_all_of_a_blob_begins_a_window() {
    let rig = Rig::with(options().with_verified_window_ms(WINDOW_MS));
    let (digest, bytes) = rig.pushed(1);
    rig.clock.advance(2 * WINDOW_MS);
    let verified_ms = rig.engine.now_ms();
    let before = rig.blob_row(&digest).verified_ms;
    // Not from the beginning, and not to the end: nothing is known of the rest.
    let reader = rig.app().blob(&digest).unwrap();
    reader.read_at(GROUP as u64, &mut vec![0; bytes.len()]).unwrap();
    assert_eq!(rig.blob_row(&digest).verified_ms, before);
    assert_eq!(read(&rig.app(), &digest), bytes);
    assert_eq!(rig.blob_row(&digest).verified_ms, verified_ms);
    flip(&rig, &digest);
    assert_ne!(read(&rig.app(), &digest), bytes, "the window");
    rig.clock.advance(WINDOW_MS);
    assert!(rig.app().blob(&digest).unwrap().read_at(0, &mut vec![0; bytes.len()]).is_err());
}

/// A download is read by two threads, of which either may be ahead.
#[test]
fn a_window_begins_in_whatever_order_all_of_a_blob_is_read() {
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let rig = Rig::with(options().with_verified_window_ms(WINDOW_MS));
        let (digest, bytes) = rig.pushed(1);
        rig.clock.advance(2 * WINDOW_MS);
        let before = rig.blob_row(&digest).verified_ms;
        let reader = rig.app().blob(&digest).unwrap();
        let part = bytes.len().div_ceil(3);
        for (count, number) in order.into_iter().enumerate() {
            let mut buf = vec![0; part];
            let offset = (number * part) as u64;
            // What ends it writes that down, so it is not given at once.
            assert_eq!(reader.try_read_at(offset, &mut buf).is_none(), count == 2, "{order:?}");
            assert_eq!(rig.blob_row(&digest).verified_ms, before, "{order:?}");
            if count == 2 {
                reader.read_at(offset, &mut buf).unwrap();
            }
        }
        assert_eq!(rig.blob_row(&digest).verified_ms, rig.engine.now_ms(), "{order:?}");
        flip(&rig, &digest);
        assert_ne!(read(&rig.app(), &digest), bytes, "the window");
    }
}

#[test]
fn a_missing_or_shortened_file_is_noticed_within_the_window_too() {
    for delete in [true, false] {
        let rig = Rig::with(options().with_verified_window_ms(WINDOW_MS));
        let (digest, bytes) = rig.pushed(1);
        let reader = rig.app().blob(&digest).unwrap();
        if delete {
            damage::delete(&rig.fs, &rig.file(&digest)).unwrap();
        } else {
            damage::truncate(&rig.fs, &rig.file(&digest), GROUP as u64).unwrap();
            assert!(reader.read_at(0, &mut vec![0; bytes.len()]).is_err());
        }
        assert!(rig.app().blob(&digest).is_err());
        assert_eq!(rig.incidents().len(), 1);
    }
}
