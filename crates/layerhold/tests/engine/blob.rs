//! Blobs.

use layerhold::blob::{DeleteError, MountError, OpenError, download};
use layerhold::format::keys::{self, RegistryId};
use layerhold::format::values::{BlobRow, BlobState, Row};
use layerhold::store::Batch;
use layerhold::store::table::Table;
use layerhold::{BlobStatus, Digest, ErrorKind, Expected, RepositorySettings};
use layerhold_testkit::operation::pool::noise;

use super::support::{Store, call, create, name, push_blob, push_image, read, store};

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

const LEASE_MS: u64 = 3_600_000;

/// The row of a blob as the store has it.
fn blob_row(store: &Store, digest: &Digest) -> BlobRow {
    let key = keys::blob(RegistryId(1), digest);
    let row = store.test.table().expect("a table in memory").get_many(&[&key]).expect("memory").pop().flatten();
    BlobRow::decode(&row.expect("a blob")).expect("a whole row")
}

/// Until when a blob is leased, from now on.
fn lease_left(store: &Store, digest: &Digest) -> u64 {
    blob_row(store, digest).lease_until_ms.saturating_sub(store.test.engine().now_ms())
}

#[test]
fn an_answer_that_saves_an_upload_leases_the_blob_for_half_a_term_at_least() {
    let store = store();
    let digest = push_blob(&store.repository, b"layer");
    let present = || {
        let status = store.repository.check_blobs(&[digest]).expect("a check");
        assert!(matches!(status[..], [BlobStatus::Present { .. }]), "{status:?}");
    };
    assert_eq!(lease_left(&store, &digest), LEASE_MS);
    store.test.clock().advance(LEASE_MS / 2);
    let writes = store.test.table().expect("a table in memory").unflushed();
    present();
    assert_eq!(lease_left(&store, &digest), LEASE_MS / 2, "half a term is enough");
    assert_eq!(store.test.table().expect("a table in memory").unflushed(), writes, "and nothing is written");
    store.test.clock().advance(1);
    let sequence = store.test.engine().sequence();
    present();
    assert_eq!((lease_left(&store, &digest), store.test.engine().sequence()), (LEASE_MS, sequence));

    store.test.clock().advance(LEASE_MS);
    let other = create(&store.test, "other", &RepositorySettings::default());
    other.mount_blob(&digest, &name("app"), &call()).expect("a mount");
    assert_eq!(lease_left(&store, &digest), LEASE_MS, "so does a mount");
}

#[test]
fn a_grant_leases_until_it_expires_and_a_later_upload_shortens_nothing() {
    let store = store();
    let digest = push_blob(&store.repository, b"layer");
    let grant = store.repository.grant_download(&digest, 10 * LEASE_MS).expect("a grant");
    assert_eq!(blob_row(&store, &digest).lease_until_ms, grant.expires_ms);
    assert_eq!(lease_left(&store, &digest), 10 * LEASE_MS);
    push_blob(&store.repository, b"layer");
    assert_eq!(lease_left(&store, &digest), 10 * LEASE_MS);
    store.repository.grant_download(&digest, LEASE_MS).expect("a grant");
    assert_eq!(lease_left(&store, &digest), 10 * LEASE_MS);
}

#[test]
fn a_quarantined_blob_is_leased_to_nobody() {
    let mut store = store();
    let digest = push_blob(&store.repository, b"layer");
    let table = store.test.table().expect("a table in memory");
    let mut batch = Batch::new();
    let quarantined = BlobRow { state: BlobState::Quarantined, ..blob_row(&store, &digest) };
    batch.put(&keys::blob(RegistryId(1), &digest), &quarantined.encode());
    table.apply(&[&batch], None).expect("memory");
    table.flush().expect("memory");
    store.test.kill().expect("the store opens");
    store.test.clock().advance(LEASE_MS);
    let app = store.test.registry().repository(&name("app"));
    assert_eq!(app.check_blobs(&[digest]).expect("a check"), [BlobStatus::Absent]);
    assert!(matches!(app.grant_download(&digest, LEASE_MS), Err(OpenError::Corrupt { .. })));
    assert_eq!(blob_row(&store, &digest), quarantined);
}
