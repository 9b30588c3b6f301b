//! Harm to what is stored of an upload.

use std::path::PathBuf;

use layerhold::format::keys;
use layerhold::format::values::{Row, UploadRow};
use layerhold::upload::{AppendError, CompleteError, StatusError};
use layerhold::{Algorithm, CompleteUpload, Digest, ErrorKind, Expected, PartRange, ReadBack, UploadId};
use layerhold_testkit::fs::{Call, Failure, Fault, Repeat, damage};
use layerhold_testkit::operation::pool::noise;

use super::support::{GROUP, Rig, call, options, read};

const LEN: usize = 3 * GROUP + 50;

/// A session with one durable part, and nothing of it in memory.
fn begun(len: usize) -> (Rig, UploadId, Vec<u8>) {
    let rig = Rig::new();
    let bytes = noise(1, len);
    let id = rig.app().begin_upload(Algorithm::Sha256, &call()).unwrap();
    let range = PartRange { first_byte: 0, len: len as u64 };
    rig.app().append_part(&id, range, bytes.clone(), &call()).unwrap();
    (rig.killed(), id, bytes)
}

fn row(rig: &Rig, id: &UploadId) -> UploadRow {
    UploadRow::decode(&rig.row(&keys::upload(&id.0)).unwrap()).unwrap()
}

fn file(rig: &Rig, id: &UploadId) -> PathBuf {
    let location = row(rig, id).location.to_string();
    PathBuf::from(format!("blobs/{}/{location}", &location[..2]))
}

fn resume(rig: &Rig, id: &UploadId) -> Result<(), AppendError> {
    rig.app().append_part(id, PartRange { first_byte: LEN as u64, len: 3 }, b"end".to_vec(), &call()).map(drop)
}

fn assert_ended(rig: &Rig, id: &UploadId) {
    assert!(matches!(rig.app().upload_status(id, &call()), Err(StatusError::UploadNotFound(_))));
    assert_eq!(rig.incidents(), ["upload damaged"]);
    assert!(damage::files(&rig.fs).unwrap().iter().all(|path| !path.starts_with("blobs")), "its file is gone");
    let (digest, bytes) = rig.pushed(8);
    assert_eq!(read(&rig.app(), &digest), bytes, "nothing else is harmed");
}

#[test]
fn damage_that_is_noticed_when_a_session_goes_on_ends_it() {
    type Harm = fn(&Rig, &UploadId);
    let harms: [(&str, Harm); 6] = [
        ("tail", |rig, id| damage::flip_bit(&rig.fs, &file(rig, id), 3 * GROUP as u64 * 8 + 70).unwrap()),
        ("short", |rig, id| damage::truncate(&rig.fs, &file(rig, id), GROUP as u64).unwrap()),
        ("gone", |rig, id| damage::delete(&rig.fs, &file(rig, id)).unwrap()),
        ("hash state", |rig, id| {
            let mut encoded = row(rig, id).encode();
            let state = row(rig, id).hash_state;
            let at = encoded.windows(state.len()).position(|bytes| bytes == state).unwrap();
            encoded[at + 9] ^= 1;
            rig.set_row(&keys::upload(&id.0), Some(&encoded));
        }),
        ("frontier", |rig, id| {
            let mut encoded = row(rig, id).encode();
            let frontier = row(rig, id).frontier;
            let at = encoded.windows(frontier.len()).position(|bytes| bytes == frontier).unwrap();
            encoded[at + 20] ^= 1;
            rig.set_row(&keys::upload(&id.0), Some(&encoded));
        }),
        ("the state of another session", |rig, id| {
            let other = rig.app().begin_upload(Algorithm::Sha256, &call()).unwrap();
            let range = PartRange { first_byte: 0, len: LEN as u64 };
            rig.app().append_part(&other, range, noise(2, LEN), &call()).unwrap();
            let (one, two) = (row(rig, id), row(rig, &other));
            let mut encoded = one.encode();
            for (ours, theirs) in [(&one.hash_state, &two.hash_state), (&one.frontier, &two.frontier)] {
                let at = encoded.windows(ours.len()).position(|bytes| bytes == ours).unwrap();
                encoded[at..at + ours.len()].copy_from_slice(theirs);
            }
            rig.set_row(&keys::upload(&id.0), Some(&encoded));
            rig.app().cancel_upload(&other, &call()).unwrap();
        }),
    ];
    for (harm, act) in harms {
        let (rig, id, _) = begun(LEN);
        act(&rig, &id);
        let refused = resume(&rig, &id).unwrap_err();
        assert!(matches!(refused, AppendError::Damaged(_)), "{harm}: {refused}");
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert_ended(&rig, &id);
    }
}

#[test]
fn a_small_session_is_judged_by_its_row() {
    for harmed in [None, Some(noise(5, 500)), Some(noise(1, 499))] {
        let (rig, id, _) = begun(500);
        rig.set_row(&keys::upload_bytes(&id.0), harmed.as_deref());
        let complete = CompleteUpload::expecting(Expected::Computed);
        let refused = rig.app().complete_upload(&id, &complete, &call()).unwrap_err();
        assert!(matches!(refused, CompleteError::Damaged(_)), "{refused}");
        assert_ended(&rig, &id);
    }
}

#[test]
fn a_session_that_cannot_be_read_for_a_moment_goes_on() {
    let (rig, id, mut bytes) = begun(LEN);
    rig.failing.arm(Fault { call: Some(Call::Read), nth: 1, failure: Failure::Eio, repeat: Repeat::Once });
    assert_eq!(resume(&rig, &id).unwrap_err().kind(), ErrorKind::Internal);
    resume(&rig, &id).unwrap();
    bytes.extend_from_slice(b"end");
    let expected = Expected::Digest(Digest::sha256(&bytes));
    let done = rig.app().complete_upload(&id, &CompleteUpload::expecting(expected), &call()).unwrap();
    assert_eq!(read(&rig.app(), &done.digest), bytes);
    assert!(rig.incidents().is_empty());
}

#[test]
fn bytes_that_are_read_back_for_another_algorithm_are_checked_first() {
    let (rig, id, bytes) = begun(LEN);
    // Before the group that resuming reads.
    damage::flip_bit(&rig.fs, &file(&rig, &id), GROUP as u64 * 8).unwrap();
    let mut damaged = bytes.clone();
    damaged[GROUP] ^= 1;
    // Were the staged bytes believed, this digest would be right.
    let expected = Expected::Digest(Digest::of(Algorithm::Sha512, &damaged));
    let refused = rig.app().complete_upload(&id, &CompleteUpload::expecting(expected), &call()).unwrap_err();
    assert!(matches!(refused, CompleteError::Damaged(_)), "{refused}");
    assert_ended(&rig, &id);
}

#[test]
fn bytes_that_are_read_back_for_a_state_of_another_version_are_checked_first() {
    for damaged in [false, true] {
        let (rig, id, bytes) = begun(LEN);
        let mut row = row(&rig, &id);
        row.hash_state[0] = 200;
        rig.set_row(&keys::upload(&id.0), Some(&row.encode()));
        if damaged {
            damage::flip_bit(&rig.fs, &file(&rig, &id), GROUP as u64 * 8).unwrap();
        }
        let complete = CompleteUpload::expecting(Expected::Computed);
        match rig.app().complete_upload(&id, &complete, &call()) {
            Ok(done) => assert!(!damaged && done.digest == Digest::sha256(&bytes)),
            Err(error) => {
                assert!(damaged && matches!(error, CompleteError::Damaged(_)), "{error}");
                assert_ended(&rig, &id);
            }
        }
    }
}

#[test]
fn staged_bytes_that_were_damaged_before_they_became_a_blob_are_never_served() {
    let (rig, id, bytes) = begun(LEN);
    damage::flip_bit(&rig.fs, &file(&rig, &id), GROUP as u64 * 8).unwrap();
    let complete = CompleteUpload::expecting(Expected::Digest(Digest::sha256(&bytes)));
    let digest = rig.app().complete_upload(&id, &complete, &call()).unwrap().digest;
    let reader = rig.app().blob(&digest).unwrap();
    assert_eq!(reader.read_at(0, &mut vec![0; LEN]).unwrap_err().kind(), ErrorKind::Corrupt);
    rig.push(&bytes);
    assert_eq!(read(&rig.app(), &digest), bytes);
}

#[test]
fn bytes_that_are_read_back_before_the_commit_are_found_damaged_while_the_client_has_them() {
    for len in [LEN, 500] {
        for damaged in [false, true] {
            let rig = Rig::with(options().with_read_back(ReadBack::BeforeCommit));
            let bytes = noise(1, len);
            let id = rig.app().begin_upload(Algorithm::Sha256, &call()).unwrap();
            let range = PartRange { first_byte: 0, len: len as u64 };
            rig.app().append_part(&id, range, bytes.clone(), &call()).unwrap();
            // The session stays warm, so nothing else looks at the file again. Small ones stay in memory.
            if damaged && len == LEN {
                damage::flip_bit(&rig.fs, &file(&rig, &id), GROUP as u64 * 8).unwrap();
            }
            let complete = CompleteUpload::expecting(Expected::Digest(Digest::sha256(&bytes)));
            match rig.app().complete_upload(&id, &complete, &call()) {
                Ok(done) => assert!(read(&rig.app(), &done.digest) == bytes && !(damaged && len == LEN)),
                Err(error) => {
                    assert!(damaged && matches!(error, CompleteError::Damaged(_)), "{error}");
                    assert_ended(&rig, &id);
                }
            }
        }
    }
}
