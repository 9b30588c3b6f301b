//! What each upload operation can answer instead of doing its work.

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RepositoryNotFound, storage_into};

use super::UploadId;

/// No such session here: never begun, ended, expired, or another repository's or principal's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("upload session does not exist upload={upload}")]
pub struct UploadNotFound {
    /// The id that was asked for.
    pub upload: UploadId,
}

/// What is stored of a session is damaged. The session is over; nothing else is harmed. Begin the upload again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("upload session is damaged and was ended upload={upload}")]
pub struct UploadDamaged {
    /// The id of the session that was.
    pub upload: UploadId,
}

/// The registry has as many upload sessions open as it may. Complete or cancel one, or wait until one expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many open upload sessions open={open} limit={limit}")]
pub struct TooManyUploads {
    /// How many are open.
    pub open: u64,
    /// [`Limits::open_uploads`](crate::Limits::open_uploads).
    pub limit: u64,
}

/// Why an upload was not begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The registry has too many open.
    #[error(transparent)]
    TooMany(#[from] TooManyUploads),
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why a session's status cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The session does not exist.
    #[error(transparent)]
    UploadNotFound(#[from] UploadNotFound),
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why a session was not cancelled.
pub type CancelError = StatusError;

/// Why bytes were not appended. The session stands at its last durable byte, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The session does not exist.
    #[error(transparent)]
    UploadNotFound(#[from] UploadNotFound),
    /// The session's stored bytes are damaged. The session is over.
    #[error(transparent)]
    Damaged(#[from] UploadDamaged),
    /// The bytes do not begin where the session ends.
    #[error("part does not begin at the durable offset first_byte={first_byte} durable_offset={durable_offset}")]
    OutOfOrder {
        /// Where they begin.
        first_byte: u64,
        /// Where the next part must begin.
        durable_offset: u64,
    },
    /// The same bytes were accepted before. Go on at the durable offset.
    #[error("part was accepted before durable_offset={durable_offset}")]
    Replayed {
        /// Where the next part must begin.
        durable_offset: u64,
    },
    /// The range that was declared and the bytes that came do not have the same length.
    #[error("part length differs from its range declared={declared} received={received}")]
    LengthMismatch {
        /// Length of the declared range.
        declared: u64,
        /// Length of the bytes.
        received: u64,
    },
    /// A part of no bytes.
    #[error("part is empty")]
    Empty,
    /// The session holds as many parts as it may.
    #[error("too many parts limit={limit}")]
    TooManyParts {
        /// [`Limits::upload_parts`](crate::Limits::upload_parts).
        limit: u32,
    },
    /// The part is too large.
    #[error("part too large size={size} limit={limit}")]
    PartTooLarge {
        /// Its length in bytes.
        size: u64,
        /// [`Limits::part_bytes`](crate::Limits::part_bytes).
        limit: u64,
    },
    /// The blob would be too large.
    #[error("blob too large size={size} limit={limit}")]
    TooLarge {
        /// Its length with these bytes.
        size: u64,
        /// [`Limits::blob_bytes`](crate::Limits::blob_bytes).
        limit: u64,
    },
    /// See [`Failure`]. After a failed sync ([`StorageError::is_failed_sync`](crate::StorageError::is_failed_sync)) the session
    /// is over: nothing is known of its file any more.
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why an upload did not become a blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompleteError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The session does not exist.
    #[error(transparent)]
    UploadNotFound(#[from] UploadNotFound),
    /// The session's stored bytes are damaged.
    #[error(transparent)]
    Damaged(#[from] UploadDamaged),
    /// The bytes were to be stored in one step, and the registry has too many sessions open.
    #[error(transparent)]
    TooMany(#[from] TooManyUploads),
    /// The session holds no bytes, and the caller refuses such a blob. The session stays.
    #[error("upload holds no bytes upload={upload}")]
    Empty {
        /// The session.
        upload: UploadId,
    },
    /// A part other than the last is too small. The session stays.
    #[error("part too small part={part} size={size} limit={limit}")]
    PartTooSmall {
        /// Its number, from 1.
        part: u32,
        /// Its length in bytes.
        size: u64,
        /// What the caller asks of every part but the last.
        limit: u64,
    },
    /// The bytes have another digest than the one given. The session is over.
    #[error("upload has another digest computed={computed}")]
    DigestMismatch {
        /// The digest of the bytes.
        computed: Digest,
    },
    /// The last bytes could not be appended.
    #[error(transparent)]
    Append(AppendError),
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(BeginError, StatusError, AppendError, CompleteError);

impl From<StatusError> for AppendError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::RepositoryNotFound(error) => error.into(),
            StatusError::UploadNotFound(error) => error.into(),
            StatusError::Storage(error) => error.into(),
        }
    }
}

impl From<StatusError> for CompleteError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::RepositoryNotFound(error) => error.into(),
            StatusError::UploadNotFound(error) => error.into(),
            StatusError::Storage(error) => error.into(),
        }
    }
}

impl From<AppendError> for CompleteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::RepositoryNotFound(error) => error.into(),
            AppendError::UploadNotFound(error) => error.into(),
            AppendError::Damaged(error) => error.into(),
            AppendError::Storage(error) => error.into(),
            error => Self::Append(error),
        }
    }
}

impl From<BeginError> for CompleteError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::RepositoryNotFound(error) => error.into(),
            BeginError::TooMany(error) => error.into(),
            BeginError::Storage(error) => error.into(),
        }
    }
}

impl BeginError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) => ErrorKind::NotFound,
            Self::TooMany(_) => ErrorKind::LimitExceeded,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl StatusError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::UploadNotFound(_) => ErrorKind::NotFound,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl AppendError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::UploadNotFound(_) => ErrorKind::NotFound,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::OutOfOrder { .. } | Self::Replayed { .. } => ErrorKind::Conflict,
            Self::LengthMismatch { .. } | Self::Empty => ErrorKind::Invalid,
            Self::TooManyParts { .. } | Self::PartTooLarge { .. } | Self::TooLarge { .. } => ErrorKind::LimitExceeded,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl CompleteError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::UploadNotFound(_) => ErrorKind::NotFound,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Empty { .. } | Self::PartTooSmall { .. } | Self::DigestMismatch { .. } => ErrorKind::Invalid,
            Self::TooMany(_) => ErrorKind::LimitExceeded,
            Self::Append(error) => error.kind(),
            Self::Storage(failure) => failure.kind(),
        }
    }
}
