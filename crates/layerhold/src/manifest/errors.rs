//! What each manifest operation can answer instead of doing its work.

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RepositoryNotFound, storage_into};
use crate::name::{Reference, Tag};

use super::ManifestError;

/// Why a manifest was not put. Nothing was changed. Variants stand in the order in which they are judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// More tags at once than allowed.
    #[error("too many tags in one put count={count} limit={limit}")]
    TooManyTags {
        /// Tags given.
        count: usize,
        /// [`Limits::tags_per_put`](crate::Limits::tags_per_put).
        limit: u32,
    },
    /// The document is not an acceptable manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The bytes have another digest than the one given.
    #[error("manifest has another digest expected={expected} computed={computed}")]
    DigestMismatch {
        /// The digest given.
        expected: Digest,
        /// The digest of the bytes.
        computed: Digest,
    },
    /// The tag names another manifest and may not move.
    #[error("tag is immutable tag={tag} current={current}")]
    TagImmutable {
        /// The tag.
        tag: Tag,
        /// What it names.
        current: Digest,
    },
    /// The repository holds as many manifests as it may.
    #[error("too many images limit={limit}")]
    ImageLimit {
        /// [`Limits::images`](crate::Limits::images).
        limit: u64,
    },
    /// The manifest has as many tags as it may.
    #[error("too many tags on one image tag={tag} limit={limit}")]
    TagLimit {
        /// The first tag that is too many.
        tag: Tag,
        /// [`Limits::tags_per_image`](crate::Limits::tags_per_image).
        limit: u32,
    },
    /// The manifest references blobs that the repository does not hold.
    #[error("manifest references missing blobs count={}", digests.len())]
    BlobsMissing {
        /// All of them, in the manifest's order.
        digests: Vec<Digest>,
    },
    /// The image index references manifests that the repository does not hold.
    #[error("image index references missing manifests count={}", digests.len())]
    ManifestsMissing {
        /// All of them, in the document's order.
        digests: Vec<Digest>,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// No such manifest or tag.
    #[error("manifest does not exist reference={reference}")]
    NotFound {
        /// What was asked for.
        reference: Reference,
    },
    /// The tag names another manifest than the one given with it.
    #[error("tag names another manifest tag={tag} current={current}")]
    TagMismatch {
        /// The tag.
        tag: Tag,
        /// What it names.
        current: Digest,
    },
    /// The stored document is damaged. Pushing it again heals it.
    #[error("stored manifest is damaged digest={digest}")]
    Corrupt {
        /// The manifest.
        digest: Digest,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why an image or a tag was not deleted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// No such manifest or tag.
    #[error("manifest does not exist reference={reference}")]
    NotFound {
        /// What was asked for.
        reference: Reference,
    },
    /// The tag names another manifest than the one given with it.
    #[error("tag names another manifest tag={tag} current={current}")]
    TagMismatch {
        /// The tag.
        tag: Tag,
        /// What it names.
        current: Digest,
    },
    /// Image indexes of the repository reference the manifest.
    #[error("manifest is referenced digest={digest} manifests={}", manifests.len())]
    ReferencedBy {
        /// The manifest.
        digest: Digest,
        /// Some of the indexes, at most ten.
        manifests: Vec<Digest>,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(PutError, ReadError, DeleteError);

impl From<crate::repository::ReadError> for ReadError {
    fn from(error: crate::repository::ReadError) -> Self {
        match error {
            crate::repository::ReadError::RepositoryNotFound(error) => error.into(),
            crate::repository::ReadError::Storage(error) => error.into(),
        }
    }
}

impl PutError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) => ErrorKind::NotFound,
            Self::Manifest(_) | Self::TooManyTags { .. } | Self::DigestMismatch { .. } => ErrorKind::Invalid,
            Self::TagImmutable { .. } => ErrorKind::Denied,
            Self::ImageLimit { .. } | Self::TagLimit { .. } => ErrorKind::LimitExceeded,
            Self::BlobsMissing { .. } | Self::ManifestsMissing { .. } => ErrorKind::Conflict,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl ReadError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::TagMismatch { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl DeleteError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::TagMismatch { .. } | Self::ReferencedBy { .. } => ErrorKind::Conflict,
            Self::Storage(failure) => failure.kind(),
        }
    }
}
