//! Blobs.

use layerhold::blob::{DeleteError, MountError, OpenError, download};
use layerhold::{BlobStatus, Digest, ErrorKind, Expected, RepositorySettings};
use layerhold_testkit::operation::pool::noise;

use super::support::{call, create, name, push_blob, push_image, read, store};

#[test]
fn small_and_large_blobs_come_back_byte_for_byte() {
    let store = store();
    for len in [0, 1, 4_096, 4_097, 65_536, 65_537, 400_000] {
        let bytes = noise(len as u64 + 1, len);
        let digest = push_blob(&store.repository, &bytes);
        assert_eq!(digest, Digest::sha256(&bytes));
        assert_eq!(read(&store.repository, &digest), bytes, "{len} bytes");
    }
}

#[test]
fn a_range_read_gives_the_bytes_of_the_range_and_none_beyond_the_end() {
    let store = store();
    let bytes = noise(1, 200_000);
    let digest = push_blob(&store.repository, &bytes);
    let reader = store.repository.blob(&digest).expect("a blob");
    let mut buf = [0; 1_000];
    for offset in [0_usize, 1, 65_000, 65_536, 131_071, 199_500] {
        let n = reader.read_at(offset as u64, &mut buf).expect("a verified read");
        assert!(n > 0 && buf[..n] == bytes[offset..offset + n], "at {offset}");
    }
    assert_eq!(reader.read_at(200_000, &mut buf).expect("a read at the end"), 0);
    assert_eq!(reader.read_at(u64::MAX, &mut buf).expect("a read far behind the end"), 0);
}

#[test]
fn a_blob_is_seen_only_through_a_repository_that_links_it() {
    let store = store();
    let other = create(&store.test, "other", &RepositorySettings::default());
    let digest = push_blob(&store.repository, b"secret");
    assert!(matches!(other.blob(&digest), Err(OpenError::NotFound { .. })));
    assert_eq!(other.check_blobs(&[digest]).expect("a check"), [BlobStatus::Absent]);
    let refused = other.mount_blob(&digest, &name("nowhere"), &call()).expect_err("no such source");
    assert!(matches!(refused, MountError::SourceNotFound { .. }));
    assert_eq!(refused.kind(), ErrorKind::NotFound);

    let mounted = other.mount_blob(&digest, &name("app"), &call()).expect("a mount");
    assert!(!mounted.already_linked);
    assert_eq!(read(&other, &digest), b"secret");
    store.repository.delete_blob(&digest, &call()).expect("nothing references it");
    assert_eq!(read(&other, &digest), b"secret", "the mount is a link of its own");
}

#[test]
fn a_referenced_blob_is_not_deleted() {
    let store = store();
    let put = push_image(&store.repository, b"layer", &["v1"]);
    let layer = Digest::sha256(b"layer");
    match store.repository.delete_blob(&layer, &call()) {
        Err(DeleteError::Referenced { digest, manifests }) => {
            assert_eq!((digest, manifests), (layer, vec![put.digest]))
        }
        other => panic!("{other:?}"),
    }
    store.repository.delete_manifest(&put.digest, &call()).expect("a deletion");
    store.repository.delete_blob(&layer, &call()).expect("nothing references it any more");
    assert!(matches!(store.repository.delete_blob(&layer, &call()), Err(DeleteError::NotFound { .. })));
}

#[test]
fn a_reader_goes_on_when_its_blob_is_replaced_deleted_or_its_repository_gone() {
    let store = store();
    let bytes = noise(3, 150_000);
    let digest = push_blob(&store.repository, &bytes);
    let reader = store.repository.blob(&digest).expect("a blob");
    let mut buf = vec![0; 10_000];
    reader.read_at(0, &mut buf).expect("a verified read");

    assert!(store.repository.put_blob(&bytes, &Expected::Digest(digest), &call()).expect("again").already_linked);
    store.test.engine().maintain().expect("background work");
    store.repository.delete_blob(&digest, &call()).expect("nothing references it");
    let registry = store.test.registry();
    registry.delete_repository(&name("app"), layerhold::DeleteMode::Force, &call()).expect("a deletion");
    store.test.engine().maintain().expect("background work");

    let n = reader.read_at(140_000, &mut buf).expect("the reader keeps its bytes");
    assert_eq!(buf[..n], bytes[140_000..140_000 + n]);
}

#[test]
fn a_download_token_reads_one_blob_until_it_expires() {
    let store = store();
    let digest = push_blob(&store.repository, b"bytes");
    let engine = store.test.engine();
    let grant = store.repository.grant_download(&digest, 60_000).expect("a token");
    store.repository.delete_blob(&digest, &call()).expect("nothing references it");
    assert_eq!(engine.open_download(&grant.token).expect("a reader").digest(), digest);

    let mut forged = grant.token.clone().into_bytes();
    for at in 0..forged.len() {
        let original = forged[at];
        forged[at] = if original == b'0' { b'1' } else { b'0' };
        let token = String::from_utf8(forged.clone()).expect("a token is text");
        assert!(matches!(engine.open_download(&token), Err(download::Error::Invalid)), "byte {at}");
        forged[at] = original;
    }
    store.test.clock().advance(60_001);
    assert!(matches!(engine.open_download(&grant.token), Err(download::Error::Expired)));
}
