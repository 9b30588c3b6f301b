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
