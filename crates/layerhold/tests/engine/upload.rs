//! Upload sessions.

use std::thread;

use layerhold::upload::{AppendError, BeginError, CompleteError, StatusError, TooManyUploads};
use layerhold::{
    Algorithm, Call, CompleteUpload, Digest, EmptyUpload, ErrorKind, Expected, Limits, OperationId, PartRange,
    Principal, Repository,
};
use layerhold_testkit::operation::pool::noise;

use super::support::{Store, call, read, store};

fn range(first_byte: u64, len: usize) -> PartRange {
    PartRange { first_byte, len: len as u64 }
}

#[test]
fn parts_arrive_in_order_and_say_where_the_next_one_begins() {
    let store = store();
    let repository = &store.repository;
    let id = repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    let first = repository.append_part(&id, range(0, 3), b"abc".to_vec(), &call()).expect("a part");
    assert_eq!((first.durable_offset, first.part), (3, 1));

    let replayed = repository.append_part(&id, range(0, 3), b"abc".to_vec(), &call());
    assert!(matches!(replayed, Err(AppendError::Replayed { durable_offset: 3 })), "{replayed:?}");
    let other_bytes = repository.append_part(&id, range(0, 3), b"xyz".to_vec(), &call());
    assert!(
        matches!(other_bytes, Err(AppendError::OutOfOrder { first_byte: 0, durable_offset: 3 })),
        "{other_bytes:?}"
    );
    let gap = repository.append_part(&id, range(4, 1), b"e".to_vec(), &call());
    assert!(matches!(gap, Err(AppendError::OutOfOrder { first_byte: 4, durable_offset: 3 })), "{gap:?}");
    let short = repository.append_part(&id, range(3, 2), b"d".to_vec(), &call());
    assert!(matches!(short, Err(AppendError::LengthMismatch { declared: 2, received: 1 })), "{short:?}");

    repository.append_part(&id, range(3, 1), b"d".to_vec(), &call()).expect("none of that harmed the session");
    let done =
        repository.complete_upload(&id, &CompleteUpload::expecting(Expected::Computed), &call()).expect("a blob");
    assert_eq!((done.digest, done.size, done.already_linked), (Digest::sha256(b"abcd"), 4, false));
    let gone = repository.upload_status(&id, &call());
    assert!(matches!(gone, Err(StatusError::UploadNotFound(_))), "{gone:?}");
}

#[test]
fn a_session_goes_on_after_a_kill_from_its_last_durable_byte() {
    let mut store = store();
    let bytes = noise(5, 300_000);
    let id = store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    let part = bytes[..100_000].to_vec();
    store.repository.append_part(&id, range(0, part.len()), part, &call()).expect("a part");
    let mut writer = store.repository.upload_writer(&id, Some(100_000), &call()).expect("a writer");
    writer.write(&bytes[100_000..200_000]).expect("bytes");
    writer.commit().expect("a commit");
    writer.write(&bytes[200_000..250_000]).expect("bytes that nothing makes durable");
    drop(writer);

    store.test.kill().expect("the store opens");
    let repository = store.test.registry().repository(store.repository.name());
    let status = repository.upload_status(&id, &call()).expect("the session");
    assert_eq!((status.offset, status.parts), (200_000, 1), "streamed bytes count for no part");
    let mut writer = repository.upload_writer(&id, Some(200_000), &call()).expect("a writer");
    writer.write(&bytes[200_000..]).expect("bytes");
    let expected = CompleteUpload::expecting(Expected::Digest(Digest::of(Algorithm::Sha512, &bytes)));
    let done = writer.complete(&expected).expect("the other algorithm reads the bytes once more");
    assert_eq!(done.digest.algorithm(), Algorithm::Sha512);
    assert_eq!(read(&repository, &done.digest), bytes);
}

#[test]
fn a_wrong_digest_ends_the_session_and_an_empty_upload_does_not() {
    let store = store();
    let repository = &store.repository;
    let id = repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    let mut complete = CompleteUpload::expecting(Expected::Digest(Digest::sha256(b"other")));
    complete.empty = EmptyUpload::Refuse;
    let empty = repository.complete_upload(&id, &complete, &call());
    assert!(matches!(empty, Err(CompleteError::Empty { .. })), "{empty:?}");
    repository.append_part(&id, range(0, 4), b"some".to_vec(), &call()).expect("the session is open");
    let wrong = repository.complete_upload(&id, &complete, &call());
    assert!(matches!(wrong, Err(CompleteError::DigestMismatch { computed }) if computed == Digest::sha256(b"some")));
    let gone = repository.upload_status(&id, &call());
    assert!(matches!(gone, Err(StatusError::UploadNotFound(_))), "{gone:?}");
}

#[test]
fn a_sha256_digest_is_had_from_a_session_of_any_algorithm() {
    let store = store();
    let right = Digest::sha256(b"some");
    let (wrong, other) = (Digest::sha256(b"other"), Digest::of(Algorithm::Sha512, b"some"));
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for (expected, accepted) in [
            (Expected::Sha256, true),
            (Expected::AnyOf(vec![wrong, right]), true),
            (Expected::AnyOf(vec![wrong, other]), false),
            (Expected::AnyOf(Vec::new()), false),
        ] {
            let id = store.repository.begin_upload(algorithm, &call()).expect("a session");
            store.repository.append_part(&id, range(0, 4), b"some".to_vec(), &call()).expect("a part");
            let complete = CompleteUpload::expecting(expected.clone());
            match store.repository.complete_upload(&id, &complete, &call()) {
                Ok(done) => assert!(accepted && done.digest == right, "{algorithm:?} {expected:?}"),
                Err(CompleteError::DigestMismatch { computed }) => {
                    assert!(!accepted && computed == right, "{algorithm:?} {expected:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn an_empty_blob_is_a_blob() {
    let store = store();
    let id = store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    let complete = CompleteUpload::expecting(Expected::Digest(Digest::sha256(b"")));
    let done = store.repository.complete_upload(&id, &complete, &call()).expect("a blob without bytes");
    assert_eq!(done.size, 0);
    assert_eq!(read(&store.repository, &done.digest), b"");
}

#[test]
fn a_session_belongs_to_who_began_it() {
    let store = store();
    let other = Call::by(Principal::parse("somebody else").expect("a principal"));
    let id = store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    let refused = store.repository.append_part(&id, range(0, 1), b"a".to_vec(), &other);
    assert!(matches!(refused, Err(AppendError::UploadNotFound(_))), "{refused:?}");
    let refused = store.repository.cancel_upload(&id, &other);
    assert!(matches!(refused, Err(StatusError::UploadNotFound(_))), "{refused:?}");
    store.repository.cancel_upload(&id, &call()).expect("its own caller may");
}

#[test]
fn an_idle_session_expires_in_engine_time_whatever_the_wall_clock_says() {
    let store = store();
    let id = store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    store.test.clock().set_wall_ms(u64::MAX / 2);
    store
        .repository
        .append_part(&id, range(0, 1), b"a".to_vec(), &call())
        .expect("a jump of the wall clock is no time");
    store.test.clock().advance(3_600_001);
    let gone = store.repository.upload_status(&id, &call());
    assert!(matches!(gone, Err(StatusError::UploadNotFound(_))), "{gone:?}");
    let maintained = store.test.engine().maintain().expect("background work");
    assert_eq!(maintained.uploads_expired, 1);
}

#[test]
fn a_completion_asked_for_twice_under_one_id_is_told_the_same() {
    let store = store();
    let id = store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    store.repository.append_part(&id, range(0, 1), b"a".to_vec(), &call()).expect("a part");
    let complete = CompleteUpload::expecting(Expected::Computed);
    let call = call().with_operation_id(OperationId([9; 16]));
    let first = store.repository.complete_upload(&id, &complete, &call).expect("a blob");
    assert_eq!(store.repository.complete_upload(&id, &complete, &call).expect("the same"), first);
}

#[test]
fn uploads_at_once_do_not_wait_for_one_another_and_do_not_mix() {
    let store = store();
    thread::scope(|scope| {
        let pushes = (0..8_u64).map(|seed| {
            let repository = store.repository.clone();
            scope.spawn(move || {
                let bytes = noise(seed + 1, 120_000);
                let id = repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
                let mut writer = repository.upload_writer(&id, Some(0), &call()).expect("a writer");
                for piece in bytes.chunks(7_000) {
                    writer.write(piece).expect("bytes");
                }
                let expected = CompleteUpload::expecting(Expected::Digest(Digest::sha256(&bytes)));
                (writer.complete(&expected).expect("a blob").digest, bytes)
            })
        });
        for push in pushes.collect::<Vec<_>>() {
            let (digest, bytes) = push.join().expect("no panic");
            assert_eq!(read(&store.repository, &digest), bytes);
        }
    });
    assert_eq!(store.repository.describe().expect("the repository").usage.blobs, 8);
}

#[test]
fn a_registry_has_so_many_sessions_open_and_no_more() {
    let mut store = store();
    let mut limits = Limits::default();
    limits.open_uploads = 2;
    let limited = |store: &Store| {
        let registry = store.test.registry().with_limits(limits.clone());
        registry.repository(store.repository.name())
    };
    let app = limited(&store);
    let begin = |app: &Repository| app.begin_upload(Algorithm::Sha256, &call());
    let refused = |app: &Repository| match begin(app) {
        Err(error @ BeginError::TooMany(TooManyUploads { open: 2, limit: 2 })) => {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        }
        other => panic!("{other:?}"),
    };
    let first = begin(&app).expect("a session");
    let second = begin(&app).expect("a session");
    refused(&app);
    let put = app.put_blob(b"bytes", &Expected::Computed, &call());
    assert!(matches!(put, Err(CompleteError::TooMany(_))), "{put:?}");

    app.cancel_upload(&first, &call()).expect("a session to cancel");
    let third = begin(&app).expect("cancelling makes room");
    refused(&app);
    app.append_part(&third, range(0, 3), b"abc".to_vec(), &call()).expect("a part");
    app.complete_upload(&third, &CompleteUpload::expecting(Expected::Computed), &call()).expect("a blob");
    app.put_blob(b"bytes", &Expected::Computed, &call())
        .expect("completing makes room, and so does a blob in one step");
    app.append_part(&second, range(0, 3), b"abc".to_vec(), &call()).expect("a part");
    begin(&app).expect("a session");
    refused(&app);

    // Another process counts what it finds: the start of the last one was not synced.
    store.test.kill().expect("the store opens");
    let app = limited(&store);
    begin(&app).expect("a session");
    refused(&app);
    store.test.clock().advance(3_600_001);
    assert_eq!(store.test.engine().maintain().expect("a step").uploads_expired, 2);
    begin(&app).expect("expiring makes room");
    begin(&app).expect("expiring makes room");
    refused(&app);
}

#[test]
fn there_are_as_many_writers_at_a_time_as_memory_has_room_for() {
    let store = store();
    let begin = || store.repository.begin_upload(Algorithm::Sha256, &call()).expect("a session");
    let mut writers = Vec::new();
    let refused = loop {
        match store.repository.upload_writer(&begin(), None, &call()) {
            Ok(writer) => writers.push(writer),
            Err(error) => break error,
        }
        assert!(writers.len() < 1_000, "nothing bounds them");
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(writers.len() >= 16);
    writers.pop();
    drop(store.repository.upload_writer(&begin(), None, &call()).expect("there is room again"));
}
