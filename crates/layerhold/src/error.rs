//! Error kinds that every operation's error answers, and the failures that any operation can meet.

use crate::call::OperationId;
use crate::store::StorageError;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing does not exist here, or the caller may not know that it does. Name another.
    NotFound,
    /// The thing exists already. Use it, or name another.
    AlreadyExists,
    /// A rule forbids it. Ask whoever set the rule.
    Denied,
    /// The request can never succeed as it is. Correct it.
    Invalid,
    /// The state does not allow it now. Look again, then decide.
    Conflict,
    /// Stored bytes are damaged. Push them again.
    Corrupt,
    /// The engine or its medium is busy. Try again later.
    Unavailable,
    /// It may have happened. Ask with the operation id, or reopen and look.
    Indeterminate,
    /// The medium is full. Make room, then try again.
    NoSpace,
    /// The store accepts reads alone. See why, then reopen it.
    ReadOnly,
    /// Another handle has the store open.
    Locked,
    /// A quota would be passed. Delete something, or raise it.
    LimitExceeded,
    /// The handle was closed. Open the store again.
    Closed,
    /// A defect of this program or its platform. Report it.
    Internal,
}

impl StorageError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::Corrupt { .. } | Self::AcknowledgedDataLoss { .. } => ErrorKind::Corrupt,
            Self::Poisoned { .. } | Self::ReadOnly { .. } => ErrorKind::ReadOnly,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::NotAStore { .. } => ErrorKind::NotFound,
            Self::NotEmpty { .. } => ErrorKind::AlreadyExists,
            Self::UnknownFormat { .. } => ErrorKind::Invalid,
            Self::Unavailable { .. } | Self::NoDescriptors { .. } => ErrorKind::Unavailable,
            Self::Unsuitable { .. } => ErrorKind::Invalid,
            Self::Closed => ErrorKind::Closed,
            Self::Io { .. } | Self::Table { .. } => ErrorKind::Internal,
        }
    }
}

/// What any operation can meet besides its own refusals.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The storage failed; the operation certainly had no effect.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The commit may be present after reopening. The same call with the same operation id then tells.
    #[error("commit outcome unknown operation_id={operation_id}")]
    OutcomeUnknown {
        /// The id under which the operation ran.
        operation_id: OperationId,
        /// What failed.
        source: StorageError,
    },
    /// The operation id was used for another operation, or for other arguments. Draw a new one.
    #[error("operation id was used with other arguments operation_id={operation_id}")]
    OperationIdReused {
        /// The id.
        operation_id: OperationId,
    },
    /// Other transactions changed the same rows again and again. Try again.
    #[error("gave up after conflicts attempts={attempts}")]
    Contended {
        /// How often the operation was tried.
        attempts: u32,
    },
}

impl Failure {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            Self::OutcomeUnknown { .. } => ErrorKind::Indeterminate,
            Self::OperationIdReused { .. } => ErrorKind::Invalid,
            Self::Contended { .. } => ErrorKind::Unavailable,
        }
    }
}

/// The repository that was named does not exist in the registry, or the registry does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("repository does not exist registry={registry} repository={repository}")]
pub struct RepositoryNotFound {
    /// The registry that was asked.
    pub registry: crate::name::RegistryName,
    /// The name that was asked for.
    pub repository: crate::name::RepositoryName,
}

/// Lets `?` carry storage errors into an operation's own error.
macro_rules! storage_into {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$crate::store::StorageError> for $error {
            fn from(error: $crate::store::StorageError) -> Self {
                Self::Storage($crate::error::Failure::Storage(error))
            }
        }
    )+};
}
pub(crate) use storage_into;
