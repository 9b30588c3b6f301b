//! A power cut at every call that changes the medium while damage is found and healed, and another one at every call of the
//! life after it.

use layerhold::blob::{OpenError, ReadFault};
use layerhold::format::keys;
use layerhold::{Digest, Expected, StorageError};
use layerhold_testkit::fs::{SimFileSystem, damage};
use layerhold_testkit::operation::pool::noise;

use super::support::{GROUP, Rig, call, options, read};

/// States that are opened after each first cut, so many of them with a second cut, and states after each second one.
const STATES: usize = 24;
const LIVED_AGAIN: usize = 3;
const STATES_AGAIN: usize = 4;

/// How far a life of one damaged blob came before the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Nothing,
    Found,
    Healed,
}

fn harm(rig: &Rig, digest: &Digest, small: bool) {
    if small {
        rig.set_row(&keys::inline_bytes(rig.location(digest)), Some(b"other bytes"));
        // As RocksDB would find it after the cut.
        layerhold::store::table::Table::flush(&rig.table).unwrap();
    } else {
        damage::flip_bit(&rig.fs, &rig.file(digest), GROUP as u64 * 8).unwrap();
    }
}

/// Damages a blob, lets it be found, pushes it again and takes the old bytes away; ends where the power does.
fn live(rig: &Rig, digest: &Digest, bytes: &[u8]) -> Reached {
    let mut served = vec![0; bytes.len()];
    let found = match rig.app().blob(digest) {
        Ok(reader) => match reader.read_at(0, &mut served) {
            Ok(_) => {
                assert!(served == bytes, "damage was served");
                return Reached::Healed;
            }
            Err(fault) => matches!(fault, ReadFault::Corrupt { .. }),
        },
        Err(error) => matches!(error, OpenError::Corrupt { .. }),
    };
    // The answer alone says nothing: the row may not have been written before the power went.
    if !found || rig.fs.crashed() {
        return Reached::Nothing;
    }
    if rig.app().put_blob(bytes, &Expected::Digest(*digest), &call()).is_err() {
        return Reached::Found;
    }
    let _ = rig.engine.maintain();
    Reached::Healed
}

fn cut_everywhere(small: bool) {
    let bytes = noise(1, if small { 300 } else { 3 * GROUP });
    let start = |fs: SimFileSystem| {
        let rig = Rig::on(fs, options());
        let digest = rig.push(&bytes);
        rig.engine.maintain().unwrap();
        harm(&rig, &digest, small);
        (rig, digest)
    };
    let fs = SimFileSystem::new(3);
    let (rig, digest) = start(fs.clone());
    let before = fs.mutating_calls();
    assert_eq!(live(&rig, &digest, &bytes), Reached::Healed);
    let calls = fs.mutating_calls() - before;
    assert!(calls > 4, "{calls}");
    drop(rig);
    let (mut states, mut second_states) = (0, 0);
    for cut in 1..=calls {
        let fs = SimFileSystem::new(3);
        let (rig, digest) = start(fs.clone());
        fs.crash_at(fs.mutating_calls() + cut);
        let reached = live(&rig, &digest, &bytes);
        for (number, left) in fs.crash_states(STATES).enumerate() {
            states += 1;
            let before = rig.over(left.copy()).incidents().len();
            assert_state(rig.over(left.copy()), (&digest, &bytes), small, (0, reached), &format!("cut {cut}"));
            if number >= LIVED_AGAIN {
                continue;
            }
            let calls = {
                let again = rig.over(left.copy());
                let before = again.fs.mutating_calls();
                assert_eq!(live(&again, &digest, &bytes), Reached::Healed);
                again.fs.mutating_calls() - before
            };
            for second in 1..=calls {
                let again = rig.over(left.copy());
                again.fs.crash_at(again.fs.mutating_calls() + second);
                let reached = live(&again, &digest, &bytes);
                for left in again.fs.crash_states(STATES_AGAIN) {
                    second_states += 1;
                    let what = format!("cuts {cut} and {second}");
                    assert_state(again.over(left), (&digest, &bytes), small, (before, reached), &what);
                }
            }
        }
    }
    println!("small={small} cuts={calls} states={states} second states={second_states}");
}

/// Looks at what a cut left of a life that reached so much, and had found so many incidents written down when it began.
fn assert_state(
    after: Rig,
    (digest, bytes): (&Digest, &[u8]),
    small: bool,
    (before, reached): (usize, Reached),
    cut: &str,
) {
    let incidents = after.incidents();
    let expected = match reached {
        // What was under way when the power went may be there.
        Reached::Nothing => before..=before.max(1),
        Reached::Found => before.max(1)..=2,
        Reached::Healed => 2..=2,
    };
    assert!(expected.contains(&incidents.len()), "{cut}: {before} {reached:?} {incidents:?}");
    let present = after.is_present(digest);
    match incidents.len() {
        0 => assert!(present),
        1 => assert!(!present, "{cut}"),
        _ => assert!(present && read(&after.app(), digest) == bytes, "{cut}"),
    }
    // Whatever is left, the damage is not served, and pushing again heals it.
    let served = after.app().blob(digest).is_ok_and(|reader| reader.read_at(0, &mut vec![0; bytes.len()]).is_ok());
    assert_eq!(served, incidents.len() == 2, "{cut}");
    after.push(bytes);
    after.engine.maintain().unwrap();
    assert_eq!(read(&after.app(), digest), bytes, "{cut}");
    let files = damage::files(&after.fs).unwrap();
    let files = files.iter().filter(|path| path.starts_with("blobs")).count();
    let cuts = usize::try_from(after.life).unwrap();
    assert!(small || files <= 1 + cuts, "{cut}: uploads that were cut off may have left a file each, and nothing else");
    let again = after.killed();
    assert_eq!(read(&again.app(), digest), bytes, "{cut}");
}

#[test]
fn a_large_blob_is_served_damaged_in_no_state_and_healed_in_every_one() {
    cut_everywhere(false);
}

#[test]
fn a_small_blob_is_served_damaged_in_no_state_and_healed_in_every_one() {
    cut_everywhere(true);
}

/// The disk is full, or fails, while damage is written down: the blob stays refused by whoever reads it.
#[test]
fn a_quarantine_that_cannot_be_written_serves_nothing() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    harm(&rig, &digest, false);
    rig.fs.fail_sync(1);
    let reader = rig.app().blob(&digest).unwrap();
    assert!(matches!(reader.read_at(0, &mut vec![0; bytes.len()]), Err(ReadFault::Corrupt { .. })));
    let refused = rig.app().put_blob(&bytes, &Expected::Computed, &call()).unwrap_err();
    assert_eq!(refused.kind(), StorageError::Poisoned { cause: String::new() }.kind());
    let rig = rig.killed();
    let again = rig.app().blob(&digest).map(|reader| reader.read_at(0, &mut vec![0; bytes.len()]).is_err());
    assert!(again.unwrap_or(true));
    rig.push(&bytes);
    assert_eq!(read(&rig.app(), &digest), bytes);
}
