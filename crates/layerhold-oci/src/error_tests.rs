//! The table: every error of the engine that an adapter can meet, and its status and code.

use layerhold::store::StorageError;
use layerhold::upload::UploadNotFound;
use layerhold::{
    Digest, Failure, OperationId, Reference, RegistryName, RepositoryName, RepositoryNotFound, Tag, UploadId,
};
use layerhold::{blob, manifest, repository, tag, upload};

use super::*;

const NAME: &str = "library/app";

fn digest() -> Digest {
    Digest::sha256(b"bytes")
}

fn missing_repository() -> RepositoryNotFound {
    RepositoryNotFound {
        registry: RegistryName::parse("test").unwrap(),
        repository: RepositoryName::parse(NAME).unwrap(),
    }
}

fn missing_upload() -> UploadNotFound {
    UploadNotFound { upload: UploadId([7; 16]) }
}

fn tag_v1() -> Tag {
    Tag::parse("v1").unwrap()
}

fn reference() -> Reference {
    Reference::Tag(tag_v1())
}

fn full() -> Failure {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    Failure::Storage(StorageError::io("write", "secret/path", source))
}

#[track_caller]
fn is(error: &OciError, status: u16, code: &str) {
    assert_eq!((error.status().as_u16(), error.code().as_str()), (status, code), "error={error}");
}

#[test]
fn failures_of_the_storage_say_nothing_of_it() {
    let io = StorageError::io("sync", "secret/path", std::io::Error::other("medium error"));
    for (failure, status) in [
        (full(), 503),
        (Failure::Storage(StorageError::Poisoned { cause: "secret/path".into() }), 503),
        (Failure::Storage(StorageError::ReadOnly { reason: "secret/path".into() }), 503),
        (Failure::Storage(StorageError::Unavailable { what: "a lock", waited_ms: 1 }), 503),
        (Failure::Storage(StorageError::Closed), 503),
        (Failure::Contended { attempts: 3 }, 503),
        (Failure::Storage(io), 500),
        (Failure::Storage(StorageError::corrupt("secret/path")), 500),
        (Failure::OperationIdReused { operation_id: OperationId([1; 16]) }, 500),
        (Failure::OutcomeUnknown { operation_id: OperationId([1; 16]), source: StorageError::Closed }, 500),
    ] {
        let cause = failure.to_string();
        let error = upload::BeginError::from(failure);
        let answer = begin_upload(&error, NAME);
        is(&answer, status, "UNKNOWN");
        let response = answer.into_response();
        assert!(response.cause.as_deref().is_some_and(|text| text.starts_with(&cause)), "cause={:?}", response.cause);
        let crate::Body::Bytes(body) = response.body else { panic!("an error has a body") };
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}

#[test]
fn a_cause_is_told_once() {
    let answer = begin_upload(&upload::BeginError::from(full()), NAME);
    let cause = answer.into_response().cause.unwrap();
    assert_eq!(cause.matches("no space left").count(), 1, "cause={cause}");
}

#[test]
fn repositories() {
    use repository::CreateError;
    let registry = RegistryName::parse("test").unwrap();
    is(&create_repository(&CreateError::RegistryNotFound { registry }, NAME), 404, "NAME_UNKNOWN");
    is(&create_repository(&CreateError::LimitExceeded { limit: 9 }, NAME), 403, "DENIED");
    is(&create_repository(&CreateError::Storage(full()), NAME), 503, "UNKNOWN");
    is(&read_repository(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&read_repository(&full().into(), NAME), 503, "UNKNOWN");
}

#[test]
fn uploads() {
    use upload::{AppendError, CompleteError};
    is(&begin_upload(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&upload_status(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&upload_status(&missing_upload().into(), NAME), 404, "BLOB_UPLOAD_UNKNOWN");
    is(&upload_status(&full().into(), NAME), 503, "UNKNOWN");

    is(&append_upload(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&append_upload(&missing_upload().into(), NAME), 404, "BLOB_UPLOAD_UNKNOWN");
    for error in
        [AppendError::OutOfOrder { first_byte: 5, durable_offset: 10 }, AppendError::Replayed { durable_offset: 10 }]
    {
        let answer = append_upload(&error, NAME);
        is(&answer, 416, "BLOB_UPLOAD_INVALID");
        assert_eq!(answer.into_response().headers["range"], "0-9");
    }
    is(&append_upload(&AppendError::LengthMismatch { declared: 1, received: 2 }, NAME), 400, "SIZE_INVALID");
    is(&append_upload(&AppendError::Empty, NAME), 400, "SIZE_INVALID");
    is(&append_upload(&AppendError::TooManyParts { limit: 1 }, NAME), 403, "DENIED");
    is(&append_upload(&AppendError::PartTooLarge { size: 2, limit: 1 }, NAME), 403, "DENIED");
    is(&append_upload(&AppendError::TooLarge { size: 2, limit: 1 }, NAME), 403, "DENIED");
    is(&append_upload(&full().into(), NAME), 503, "UNKNOWN");

    let complete = |error: CompleteError| complete_upload(&error, NAME, &digest());
    is(&complete(missing_repository().into()), 404, "NAME_UNKNOWN");
    is(&complete(missing_upload().into()), 404, "BLOB_UPLOAD_UNKNOWN");
    is(&complete(CompleteError::Empty { upload: UploadId([7; 16]) }), 400, "BLOB_UPLOAD_INVALID");
    is(&complete(CompleteError::PartTooSmall { part: 1, size: 1, limit: 2 }), 400, "BLOB_UPLOAD_INVALID");
    is(&complete(CompleteError::DigestMismatch { computed: digest() }), 400, "DIGEST_INVALID");
    is(&complete(CompleteError::Append(AppendError::TooLarge { size: 2, limit: 1 })), 403, "DENIED");
    is(&complete(full().into()), 503, "UNKNOWN");
}

#[test]
fn blobs() {
    use blob::{DeleteError, MountError, OpenError, ReadFault};
    let digest = digest();
    is(&open_blob(&missing_repository().into(), NAME, &digest), 404, "NAME_UNKNOWN");
    is(&open_blob(&OpenError::NotFound { digest }, NAME, &digest), 404, "BLOB_UNKNOWN");
    is(&open_blob(&OpenError::Corrupt { digest }, NAME, &digest), 500, "UNKNOWN");
    is(&open_blob(&full().into(), NAME, &digest), 503, "UNKNOWN");
    is(&blob_read_error(&ReadFault::Corrupt { digest, offset: 0 }), 500, "UNKNOWN");
    is(&blob_read_error(&ReadFault::Storage(StorageError::Closed)), 503, "UNKNOWN");

    assert!(mount_blob(&MountError::SourceNotFound { digest }, NAME).is_none());
    is(&mount_blob(&missing_repository().into(), NAME).unwrap(), 404, "NAME_UNKNOWN");
    is(&mount_blob(&full().into(), NAME).unwrap(), 503, "UNKNOWN");

    is(&delete_blob(&missing_repository().into(), NAME, &digest), 404, "NAME_UNKNOWN");
    is(&delete_blob(&DeleteError::NotFound { digest }, NAME, &digest), 404, "BLOB_UNKNOWN");
    let referenced = DeleteError::Referenced { digest, manifests: vec![digest] };
    is(&delete_blob(&referenced, NAME, &digest), 405, "UNSUPPORTED");
    is(&delete_blob(&full().into(), NAME, &digest), 503, "UNKNOWN");
}

#[test]
fn manifests() {
    use manifest::{DeleteError, ManifestError, PutError, ReadError};
    let digest = digest();
    let put = |error: PutError| put_manifest(&error, NAME, NAME);
    is(&put(missing_repository().into()), 404, "NAME_UNKNOWN");
    is(&put(ManifestError::MediaTypeMissing.into()), 400, "MANIFEST_INVALID");
    is(&put(ManifestError::TooDeep { limit: 64 }.into()), 400, "MANIFEST_INVALID");
    is(&put(ManifestError::TooLarge { size: 2, limit: 1 }.into()), 413, "MANIFEST_INVALID");
    is(&put(PutError::TooManyTags { count: 101, limit: 100 }), 414, "TAG_INVALID");
    is(&put(PutError::DigestMismatch { expected: digest, computed: digest }), 400, "DIGEST_INVALID");
    is(&put(PutError::TagImmutable { tag: tag_v1(), current: digest }), 409, "DENIED");
    is(&put(PutError::ImageLimit { limit: 1 }), 403, "DENIED");
    is(&put(PutError::TagLimit { tag: tag_v1(), limit: 1 }), 403, "DENIED");
    is(&put(PutError::BlobsMissing { digests: vec![digest] }), 404, "MANIFEST_BLOB_UNKNOWN");
    is(&put(PutError::ManifestsMissing { digests: vec![digest] }), 404, "MANIFEST_BLOB_UNKNOWN");
    is(&put(full().into()), 503, "UNKNOWN");

    is(&read_manifest(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&read_manifest(&ReadError::NotFound { reference: reference() }, NAME), 404, "MANIFEST_UNKNOWN");
    is(&read_manifest(&ReadError::TagMismatch { tag: tag_v1(), current: digest }, NAME), 404, "MANIFEST_UNKNOWN");
    is(&read_manifest(&ReadError::Corrupt { digest }, NAME), 500, "UNKNOWN");
    is(&head_manifest(&ReadError::Corrupt { digest }, NAME), 404, "MANIFEST_UNKNOWN");
    is(&read_manifest(&full().into(), NAME), 503, "UNKNOWN");

    is(&delete_manifest(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&delete_manifest(&DeleteError::NotFound { reference: reference() }, NAME), 404, "MANIFEST_UNKNOWN");
    let mismatch = DeleteError::TagMismatch { tag: tag_v1(), current: digest };
    is(&delete_manifest(&mismatch, NAME), 404, "MANIFEST_UNKNOWN");
    let referenced = DeleteError::ReferencedBy { digest, manifests: vec![digest] };
    is(&delete_manifest(&referenced, NAME), 405, "UNSUPPORTED");
    is(&delete_manifest(&full().into(), NAME), 503, "UNKNOWN");

    is(&untag(&missing_repository().into(), NAME), 404, "NAME_UNKNOWN");
    is(&untag(&tag::UntagError::NotFound { tag: tag_v1() }, NAME), 404, "MANIFEST_UNKNOWN");
    is(&untag(&full().into(), NAME), 503, "UNKNOWN");
}
