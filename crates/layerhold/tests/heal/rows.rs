//! Harm to rows: small blobs, chaining values, roots.

use layerhold::ErrorKind;
use layerhold::format::keys;
use layerhold::format::values::Row;
use layerhold::store::{Direction, MetadataStore};
use layerhold_testkit::fs::damage;

use layerhold_testkit::operation::pool::noise;

use super::odd::Oddity;
use super::support::{GROUP, REGISTRY, Rig, options, read};

/// The keys of a blob's chaining-value rows.
fn group_rows(rig: &Rig, digest: &layerhold::Digest) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let view = rig.metadata.view().unwrap();
    view.scan(&keys::all_groups(rig.location(digest)), Direction::Forward, &mut |key, _| {
        found.push(key.to_vec());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// Turns each byte of a row over in turn, and takes the row away.
fn harms(row: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut harms = vec![None, Some(Vec::new()), Some(row[..row.len() - 1].to_vec())];
    for at in (0..row.len()).step_by(7) {
        let mut harmed = row.to_vec();
        harmed[at] ^= 1;
        harms.push(Some(harmed));
    }
    harms
}

#[test]
fn chaining_values_that_the_bytes_disprove_are_computed_again() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let rows = group_rows(&rig, &digest);
    assert_eq!(rows.len(), 1);
    let row = rig.row(&rows[0]).unwrap();
    for (number, harmed) in harms(&row).into_iter().enumerate() {
        rig.set_row(&rows[0], harmed.as_deref());
        assert_eq!(read(&rig.app(), &digest), bytes, "harm {number}");
        assert_eq!(rig.row(&rows[0]).unwrap(), row, "harm {number}");
        assert_eq!(rig.incidents().len(), number + 1);
    }
    assert!(rig.incidents().iter().all(|incident| incident == "blob rebuilt"));
    assert!(rig.is_present(&digest));
}

/// More chaining values than one commit takes are computed twice.
#[test]
fn chaining_values_of_any_number_are_computed_again() {
    use layerhold::blob::fingerprint::GroupLen;

    let rig = Rig::with(options().with_group_len(GroupLen::new(1_024).unwrap()));
    let bytes = noise(1, (65_536 + 40) * 1_024 + 5);
    let digest = rig.push(&bytes);
    let rows = group_rows(&rig, &digest);
    let damaged = [&rows[0], &rows[rows.len() / 2], rows.last().unwrap()];
    let lose = || damaged.iter().for_each(|row| rig.set_row(row, None));
    lose();
    let reader = rig.app().blob(&digest).unwrap();
    let mut found = [0; 10];
    assert_eq!(reader.read_at(bytes.len() as u64 - 10, &mut found).unwrap(), 10);
    assert_eq!(found, bytes[bytes.len() - 10..]);
    assert_eq!(rig.incidents(), ["blob rebuilt"; 2]);
    let rebuilt: Vec<_> = group_rows(&rig, &digest).into_iter().map(|key| (rig.row(&key).unwrap(), key)).collect();
    let done = rig.engine.scrub_step(layerhold::ScrubBudget::bytes(u64::MAX)).unwrap();
    assert!(done.pass_completed && done.findings.is_empty(), "{done:?}");

    // The second reading is wrong where the first was right: nothing of it is written, and the next try is right.
    lose();
    rig.odd.oddity.tell(Some((rig.file(&digest), Oddity::FlippedOnce(60_000 * 1_024, 1))));
    let reader = rig.app().blob(&digest).unwrap();
    assert_eq!(reader.read_at(bytes.len() as u64 - 10, &mut found).unwrap(), 10);
    assert!(found == bytes[bytes.len() - 10..] && !rig.odd.oddity.is_told());
    for (row, key) in &rebuilt {
        assert!(rig.row(key).unwrap() == *row);
    }
    assert_eq!(rig.incidents(), ["blob rebuilt"; 4]);
    assert!(rig.is_present(&digest) && read(&rig.app(), &digest) == bytes);
}

#[test]
fn a_row_behind_the_last_group_is_taken_away() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let location = rig.location(&digest);
    let rows = group_rows(&rig, &digest);
    rig.set_row(&rows[0], None);
    let stray = layerhold::format::values::GroupsRow(vec![[7; 32]]);
    rig.set_row(&keys::groups(location, 40), Some(&stray.encode(location, 40)));
    assert_eq!(read(&rig.app(), &digest), bytes);
    assert_eq!(group_rows(&rig, &digest), rows);
}

#[test]
fn chaining_values_that_are_whole_and_wrong_harm_nobody() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    let location = rig.location(&digest);
    let wrong = layerhold::format::values::GroupsRow(vec![[7; 32]; 6]);
    rig.set_row(&keys::groups(location, 0), Some(&wrong.encode(location, 0)));
    assert_eq!(read(&rig.app(), &digest), bytes);
    assert_eq!(rig.incidents(), ["blob rebuilt"]);
}

#[test]
fn chaining_values_and_bytes_that_are_both_damaged_are_the_bytes_damage() {
    let rig = Rig::new();
    let (digest, bytes) = rig.pushed(1);
    rig.set_row(&group_rows(&rig, &digest)[0], None);
    damage::flip_bit(&rig.fs, &rig.file(&digest), 4 * GROUP as u64 * 8).unwrap();
    let reader = rig.app().blob(&digest).unwrap();
    assert_eq!(reader.read_at(0, &mut [0; 10]).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(rig.incidents(), ["blob quarantined: wrong digest"]);
    rig.push(&bytes);
    assert_eq!(read(&rig.app(), &digest), bytes);
}

#[test]
fn a_root_that_the_digest_disproves_is_computed_again() {
    let rig = Rig::new();
    let small = b"a blob that fits into a row".to_vec();
    let one_group = layerhold_testkit::operation::pool::noise(3, 2_000);
    let (several, bytes) = rig.pushed(1);
    for (digest, bytes) in [(rig.push(&small), small), (rig.push(&one_group), one_group), (several, bytes)] {
        let key = keys::blob(REGISTRY, &digest);
        let right = rig.blob_row(&digest);
        let mut wrong = right;
        wrong.root[5] ^= 1;
        rig.set_row(&key, Some(&wrong.encode()));
        assert_eq!(read(&rig.app(), &digest), bytes);
        // Ranges of several groups do not look at the root; a scrub does.
        if bytes.len() < GROUP {
            assert_eq!(rig.blob_row(&digest).root, right.root);
            assert_eq!(rig.incidents().last().unwrap(), "blob rebuilt");
        }
    }
}

#[test]
fn a_small_blob_is_quarantined_and_healed_like_a_large_one() {
    let bytes = b"a blob that fits into a row".to_vec();
    for (harmed, damage) in [
        (None, "missing"),
        (Some(b"a blob that fits into a ro_".to_vec()), "wrong bytes offset=0"),
        (Some(bytes[..20].to_vec()), "wrong length expected=27 found=20"),
    ] {
        let rig = Rig::new();
        let digest = rig.push(&bytes);
        let bystander = rig.push(b"another");
        let key = keys::inline_bytes(rig.location(&digest));
        rig.set_row(&key, harmed.as_deref());
        assert!(matches!(rig.app().blob(&digest), Err(layerhold::blob::OpenError::Corrupt { .. })));
        assert_eq!(rig.incidents(), [format!("blob quarantined: {damage}")]);
        assert!(!rig.is_present(&digest) && rig.is_present(&bystander));
        let rig = rig.killed();
        rig.push(&bytes);
        assert_eq!(read(&rig.app(), &digest), bytes);
        assert_eq!(rig.row(&key), None);
        assert_eq!(rig.incidents().last().unwrap(), "blob healed");
    }
}
