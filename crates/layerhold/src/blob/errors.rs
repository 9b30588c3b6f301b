//! What each blob operation can answer instead of doing its work.

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RepositoryNotFound, storage_into};
use crate::store::StorageError;

pub use crate::repository::ReadError;

/// Why a blob cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The repository may not read such a blob: there is none, or only others may.
    #[error("blob does not exist digest={digest}")]
    NotFound {
        /// The blob.
        digest: Digest,
    },
    /// The stored bytes are damaged. Pushing the blob again heals it.
    #[error("stored blob is damaged digest={digest}")]
    Corrupt {
        /// The blob.
        digest: Digest,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why bytes of an open blob cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFault {
    /// The stored bytes are not the ones that were pushed. None of them was given out. Pushing the blob again heals it.
    #[error("stored blob is damaged digest={digest} offset={offset}")]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// Where the damaged group begins.
        offset: u64,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a blob was not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The target repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// There is no such source: neither the repository nor the blob in it is told from the other.
    #[error("mount source does not exist digest={digest}")]
    SourceNotFound {
        /// The blob.
        digest: Digest,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why a blob was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The repository may not read such a blob.
    #[error("blob does not exist digest={digest}")]
    NotFound {
        /// The blob.
        digest: Digest,
    },
    /// Manifests of the repository reference it.
    #[error("blob is referenced digest={digest} manifests={}", manifests.len())]
    Referenced {
        /// The blob.
        digest: Digest,
        /// Some of the manifests, at most ten.
        manifests: Vec<Digest>,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(OpenError, MountError, DeleteError);

impl OpenError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl ReadFault {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Storage(error) => error.kind(),
        }
    }
}

impl MountError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::SourceNotFound { .. } => ErrorKind::NotFound,
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
            Self::Referenced { .. } => ErrorKind::Conflict,
            Self::Storage(failure) => failure.kind(),
        }
    }
}
