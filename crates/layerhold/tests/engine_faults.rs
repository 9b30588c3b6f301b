//! What the engine does when the medium fails below it, and what it leaves behind when callers go away.

use layerhold::{
    Algorithm, Call, CompleteUpload, Digest, ErrorKind, Expected, Repository, RepositoryName, RepositorySettings,
};
use layerhold_testkit::engine::{self, TestEngine};

/// Long enough to be staged in a file.
const LEN: usize = 40_000;

fn repository(test: &TestEngine) -> Repository {
    let name = RepositoryName::parse("app").unwrap();
    let registry = test.registry();
    // It exists already where the store was opened again.
    let _ = registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous());
    registry.repository(&name)
}

fn content() -> Vec<u8> {
    (0..LEN).map(|n| (n % 251) as u8).collect()
}

fn read(repository: &Repository, digest: &Digest) -> Vec<u8> {
    let blob = repository.blob(digest).unwrap();
    let mut bytes = vec![0; usize::try_from(blob.size()).unwrap()];
    blob.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_completion_of_unknown_outcome_is_not_tried_on_its_file_again() {
    let mut test = engine::memory();
    let call = Call::anonymous();
    let before = repository(&test);
    // Live already, so that the completion in doubt gives up bytes that were acknowledged.
    let digest = before.put_blob(&content(), &Expected::Computed, &call).unwrap().digest;
    let id = before.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = before.upload_writer(&id, None, &call).unwrap();
    writer.write(&content()).unwrap();
    // The syncs of the file, of the directory that names it (and of the one above, where that is new), of the journal.
    let syncs = test.fs().unwrap().syncs();
    test.fs().unwrap().fail_sync(3);
    let error = writer.complete(&CompleteUpload::expecting(Expected::Digest(digest))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error} after {} syncs", test.fs().unwrap().syncs() - syncs);
    // What every client does next. The session's row is still to be seen, and its file may be the blob's.
    assert_eq!(before.upload_writer(&id, Some(0), &call).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(before.cancel_upload(&id, &call).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(read(&before, &digest), content(), "reads go on");
    test.kill().unwrap();
    let after = repository(&test);
    assert!(after.upload_status(&id, &call).is_err(), "the group was in the journal after all");
    assert_eq!(read(&after, &digest), content());
}
