//! From each of the engine's errors to the protocol's answer: the one place where statuses and codes are chosen.
//!
//! `docs/errors.md` is this file as a table. An answer is made from an error's fields, never from its text; texts of
//! storage failures name files and go to the log alone. What the caller may not see and what does not exist are one
//! answer.

use http::StatusCode;
use http::header::RANGE;
use layerhold::manifest::document::ManifestError;
use layerhold::{Digest, ErrorKind, blob, manifest, repository, tag, upload};
use serde_json::json;

use crate::code::{ErrorCode, OciError};
use crate::range;

/// The answer to an error of this kind that has no answer of its own.
fn kind(kind: ErrorKind) -> OciError {
    match kind {
        ErrorKind::Unavailable
        | ErrorKind::NoSpace
        | ErrorKind::ReadOnly
        | ErrorKind::Locked
        | ErrorKind::Closed
        | ErrorKind::Conflict => OciError::unavailable(),
        ErrorKind::LimitExceeded => denied("a limit of the registry would be passed"),
        ErrorKind::Corrupt => internal("the stored bytes are damaged; push them again"),
        ErrorKind::Indeterminate => {
            internal("it is not known whether the request took effect; look before trying again")
        }
        _ => internal("the registry failed"),
    }
}

/// An error that this file has no answer of its own for: a failure of the storage, nearly always.
fn unforeseen(of: ErrorKind, error: &dyn std::error::Error) -> OciError {
    kind(of).with_cause(chain(error))
}

/// An error and everything below it, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(": ");
        text.push_str(&error.to_string());
        below = error.source();
    }
    text
}

pub(crate) fn internal(message: &str) -> OciError {
    OciError::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, message)
}

fn denied(message: impl Into<String>) -> OciError {
    OciError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
}

/// 404: nothing lives at this path.
pub(crate) fn unknown_path() -> OciError {
    OciError::not_found(ErrorCode::Unsupported, "the path is not one of this protocol")
}

/// 404: no such repository. One text for every way of finding out.
pub(crate) fn unknown_name(name: &str) -> OciError {
    OciError::not_found(ErrorCode::NameUnknown, format!("the repository does not exist name={name}"))
}

/// 404: no such upload here, or not the caller's.
pub(crate) fn unknown_upload() -> OciError {
    OciError::not_found(ErrorCode::BlobUploadUnknown, "the upload does not exist in this repository")
}

/// 404: no such manifest.
pub(crate) fn unknown_manifest() -> OciError {
    OciError::not_found(ErrorCode::ManifestUnknown, "the manifest does not exist in this repository")
}

/// 404: no such blob in this repository, whoever else may have it.
pub(crate) fn unknown_blob(digest: &Digest) -> OciError {
    OciError::not_found(ErrorCode::BlobUnknown, "the blob does not exist in this repository")
        .with_detail(json!({ "digest": digest.to_string() }))
}

pub(crate) fn create_repository(error: &repository::CreateError, name: &str) -> OciError {
    match error {
        repository::CreateError::LimitExceeded { limit } => {
            denied(format!("the registry has as many repositories as it may limit={limit}"))
        }
        repository::CreateError::RegistryNotFound { .. } => unknown_name(name),
        error => unforeseen(error.kind(), error),
    }
}

/// For everything that is asked of a repository as a whole: its tags, which blobs it holds.
pub(crate) fn read_repository(error: &repository::ReadError, name: &str) -> OciError {
    match error {
        repository::ReadError::RepositoryNotFound { .. } => unknown_name(name),
        error => unforeseen(error.kind(), error),
    }
}

pub(crate) fn begin_upload(error: &upload::BeginError, name: &str) -> OciError {
    match error {
        upload::BeginError::RepositoryNotFound { .. } => unknown_name(name),
        error => unforeseen(error.kind(), error),
    }
}

pub(crate) fn upload_status(error: &upload::StatusError, name: &str) -> OciError {
    match error {
        upload::StatusError::RepositoryNotFound { .. } => unknown_name(name),
        upload::StatusError::UploadNotFound { .. } => unknown_upload(),
        error => unforeseen(error.kind(), error),
    }
}

pub(crate) fn cancel_upload(error: &upload::CancelError, name: &str) -> OciError {
    match error {
        upload::CancelError::RepositoryNotFound { .. } => unknown_name(name),
        upload::CancelError::UploadNotFound { .. } => unknown_upload(),
        error => unforeseen(error.kind(), error),
    }
}

pub(crate) fn append_upload(error: &upload::AppendError, name: &str) -> OciError {
    use upload::AppendError;
    match error {
        AppendError::RepositoryNotFound { .. } => unknown_name(name),
        AppendError::UploadNotFound { .. } => unknown_upload(),
        AppendError::Damaged(error) => damaged_upload(error),
        AppendError::OutOfOrder { first_byte, durable_offset } => out_of_order(
            format!("the chunk does not begin where the upload ends first_byte={first_byte} expected={durable_offset}"),
            *durable_offset,
        ),
        AppendError::Replayed { durable_offset } => {
            out_of_order(format!("the chunk is held already expected={durable_offset}"), *durable_offset)
        }
        AppendError::LengthMismatch { declared, received } => length_mismatch(*declared, *received),
        AppendError::TooManyParts { limit } => denied(format!("the upload has as many parts as it may limit={limit}")),
        AppendError::TooLarge { size, limit } => {
            denied(format!("the blob is larger than it may be size={size} limit={limit}"))
        }
        AppendError::PartTooLarge { size, limit } => {
            denied(format!("the chunk is larger than it may be size={size} limit={limit}"))
        }
        AppendError::Empty => OciError::bad_request(ErrorCode::SizeInvalid, "the chunk holds no bytes"),
        error => unforeseen(error.kind(), error),
    }
}

/// 404: the upload is over, so the client begins another one; why goes to the log.
fn damaged_upload(error: &upload::UploadDamaged) -> OciError {
    unknown_upload().with_cause(error.to_string())
}

/// 416: where the upload really ends is in `Range`; the session is as it was.
fn out_of_order(message: String, durable_offset: u64) -> OciError {
    OciError::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid, message)
        .with_header(RANGE, range::held(durable_offset))
}

/// 400: a chunk is longer or shorter than it said.
pub(crate) fn length_mismatch(declared: u64, received: u64) -> OciError {
    OciError::bad_request(
        ErrorCode::SizeInvalid,
        format!("the lengths of the chunk differ range={declared} content={received}"),
    )
}

pub(crate) fn complete_upload(error: &upload::CompleteError, name: &str, expected: &Digest) -> OciError {
    use upload::CompleteError;
    match error {
        CompleteError::RepositoryNotFound { .. } => unknown_name(name),
        CompleteError::UploadNotFound { .. } => unknown_upload(),
        CompleteError::Damaged(error) => damaged_upload(error),
        CompleteError::DigestMismatch { computed } => digest_mismatch(expected, computed),
        CompleteError::Empty { .. } | CompleteError::PartTooSmall { .. } => {
            OciError::bad_request(ErrorCode::BlobUploadInvalid, "the upload cannot be completed as it is")
        }
        CompleteError::Append(error) => append_upload(error, name),
        error => unforeseen(error.kind(), error),
    }
}

pub(crate) fn digest_mismatch(expected: &Digest, computed: &Digest) -> OciError {
    OciError::bad_request(ErrorCode::DigestInvalid, "the digest is not that of the bytes that were sent")
        .with_detail(json!({ "expected": expected.to_string(), "computed": computed.to_string() }))
}

pub(crate) fn open_blob(error: &blob::OpenError, name: &str, digest: &Digest) -> OciError {
    match error {
        blob::OpenError::RepositoryNotFound { .. } => unknown_name(name),
        blob::OpenError::NotFound { .. } => unknown_blob(digest),
        error => unforeseen(error.kind(), error),
    }
}

/// The answer to a read that failed before the headers of a download went out. Afterwards only ending the connection
/// tells the client.
pub fn blob_read_error(fault: &blob::ReadFault) -> OciError {
    unforeseen(fault.kind(), fault)
}

/// `None` where a mount finds nothing to mount, which is no error: the client uploads instead.
pub(crate) fn mount_blob(error: &blob::MountError, name: &str) -> Option<OciError> {
    match error {
        blob::MountError::SourceNotFound { .. } => None,
        blob::MountError::RepositoryNotFound { .. } => Some(unknown_name(name)),
        error => Some(unforeseen(error.kind(), error)),
    }
}

pub(crate) fn delete_blob(error: &blob::DeleteError, name: &str, digest: &Digest) -> OciError {
    match error {
        blob::DeleteError::RepositoryNotFound { .. } => unknown_name(name),
        blob::DeleteError::NotFound { .. } => unknown_blob(digest),
        blob::DeleteError::Referenced { manifests, .. } => {
            referenced("the blob belongs to a manifest of this repository", manifests)
        }
        error => unforeseen(error.kind(), error),
    }
}

/// 405: deleting this would break a manifest that is still there.
fn referenced(message: &str, manifests: &[Digest]) -> OciError {
    let manifests: Vec<String> = manifests.iter().map(Digest::to_string).collect();
    OciError::method_not_allowed("GET, HEAD", message).with_detail(json!({ "manifests": manifests }))
}

pub(crate) fn put_manifest(error: &manifest::PutError, repository: &str, name: &str) -> OciError {
    use manifest::PutError;
    match error {
        PutError::RepositoryNotFound { .. } => unknown_name(name),
        PutError::Manifest(error) => document(error),
        PutError::DigestMismatch { expected, computed } => digest_mismatch(expected, computed),
        // ECR's text, which its clients know; the status and code are ours (409, so that no client tries again).
        PutError::TagImmutable { tag, .. } => OciError::new(
            StatusCode::CONFLICT,
            ErrorCode::Denied,
            format!(
                "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten \
                 because the tag is immutable"
            ),
        ),
        PutError::ImageLimit { limit } => denied(format!("the repository has as many images as it may limit={limit}")),
        PutError::TagLimit { tag, limit } => {
            denied(format!("the image has as many tags as it may tag={tag} limit={limit}"))
        }
        PutError::TooManyTags { count, limit } => OciError::new(
            StatusCode::URI_TOO_LONG,
            ErrorCode::TagInvalid,
            format!("the request gives too many tags count={count} limit={limit}"),
        ),
        PutError::BlobsMissing { digests } => references_missing("the manifest names blobs", digests),
        PutError::ManifestsMissing { digests } => references_missing("the manifest names manifests", digests),
        error => unforeseen(error.kind(), error),
    }
}

/// A document that is no manifest, or too large for one.
pub(crate) fn document(error: &ManifestError) -> OciError {
    match error {
        ManifestError::TooLarge { limit, .. } => OciError::manifest_too_large(*limit),
        error => OciError::bad_request(ErrorCode::ManifestInvalid, chain(error)),
    }
}

/// 404: one entry for each thing that the manifest names and the repository does not hold.
pub(crate) fn references_missing<'a>(what: &str, digests: impl IntoIterator<Item = &'a Digest>) -> OciError {
    digests.into_iter().fold(
        OciError::not_found(ErrorCode::ManifestBlobUnknown, format!("{what} that this repository does not hold")),
        |error, digest| error.with_detail(json!({ "digest": digest.to_string() })),
    )
}

pub(crate) fn read_manifest(error: &manifest::ReadError, name: &str) -> OciError {
    match error {
        manifest::ReadError::RepositoryNotFound { .. } => unknown_name(name),
        manifest::ReadError::NotFound { .. } | manifest::ReadError::TagMismatch { .. } => unknown_manifest(),
        error => unforeseen(error.kind(), error),
    }
}

/// Whoever asks whether a manifest is there may be about to push it: one that is damaged is not there, so that it is pushed
/// again. A pull is told.
pub(crate) fn head_manifest(error: &manifest::ReadError, name: &str) -> OciError {
    match error {
        manifest::ReadError::Corrupt { .. } => unknown_manifest(),
        error => read_manifest(error, name),
    }
}

pub(crate) fn delete_manifest(error: &manifest::DeleteError, name: &str) -> OciError {
    match error {
        manifest::DeleteError::RepositoryNotFound { .. } => unknown_name(name),
        manifest::DeleteError::NotFound { .. } | manifest::DeleteError::TagMismatch { .. } => unknown_manifest(),
        manifest::DeleteError::ReferencedBy { manifests, .. } => {
            referenced("the manifest belongs to an index of this repository", manifests)
        }
        error => unforeseen(error.kind(), error),
    }
}

pub(crate) fn untag(error: &tag::UntagError, name: &str) -> OciError {
    match error {
        tag::UntagError::RepositoryNotFound { .. } => unknown_name(name),
        tag::UntagError::NotFound { .. } => unknown_manifest(),
        error => unforeseen(error.kind(), error),
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
