//! What storage can answer instead of doing its work.

use std::io;
use std::path::PathBuf;

/// A failure below the rules of the registry: the medium, its contents, or the store's own state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused a call. The operation had no effect beyond what its own documentation says.
    #[error("file system call failed operation={operation} path={}", path.display())]
    Io {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file or directory, relative to the store.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room on the medium, or a quota of the operating system is used up. Make room, then try again.
    #[error("no space left operation={operation} path={}", path.display())]
    NoSpace {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file or directory, relative to the store.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process, or the machine, has as many files open as it may. Close some, or raise the limit, and try again.
    #[error("no descriptors left operation={operation} path={}", path.display())]
    NoDescriptors {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file or directory, relative to the store.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The engine cannot keep its promises on this medium. Put the store elsewhere, or allow it in the options.
    #[error("unsuitable medium path={} reason={reason}", path.display())]
    Unsuitable {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Stored bytes are not what was written. Nothing that depends on them is answered.
    #[error("stored data is damaged what={what}")]
    Corrupt {
        /// Which file or row, and what about it is wrong.
        what: String,
    },
    /// Commits that were acknowledged cannot be brought back. Nothing is changed until an operator decides.
    #[error("acknowledged data is lost expected_sequence={expected} recovered_sequence={recovered}")]
    AcknowledgedDataLoss {
        /// The sequence number that the store had acknowledged.
        expected: u64,
        /// The highest sequence number that can be brought back.
        recovered: u64,
    },
    /// A sync failed earlier, so nothing more can be promised. Reopen the store.
    #[error("the store refuses writes until it is reopened cause={cause}")]
    Poisoned {
        /// What failed first.
        cause: String,
    },
    /// The store accepts reads alone.
    #[error("the store is read-only reason={reason}")]
    ReadOnly {
        /// Why.
        reason: String,
    },
    /// Another process, or another handle of this one, has the store open.
    #[error("the store is already open holder={holder}")]
    Locked {
        /// What the lock file says of who holds it.
        holder: String,
    },
    /// There is no store here. Create one, or name the right directory.
    #[error("not a layerhold store path={} reason={reason}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is missing or foreign.
        reason: String,
    },
    /// Creating a store where something is already.
    #[error("the directory is not empty path={}", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The store was written by a version that this one does not understand. Open it with that version.
    #[error("unknown format version found={found} supported={supported}")]
    UnknownFormat {
        /// The version in the store.
        found: u32,
        /// The version of this program.
        supported: u32,
    },
    /// A bounded wait ended: a lock, a write stall, a budget. Try again.
    #[error("timed out waiting for {what} waited_ms={waited_ms}")]
    Unavailable {
        /// What was waited for.
        what: &'static str,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
    /// The metadata table answered an error that has no better name here.
    #[error("metadata table failed operation={operation} message={message}")]
    Table {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// What the table said.
        message: String,
    },
    /// The handle was closed.
    #[error("the store is closed")]
    Closed,
}

/// What was attempted where a sync that failed earlier had been asked to cover something of another caller's as well.
pub(crate) const SHARED_SYNC: &str = "sync shared with an earlier caller";

impl StorageError {
    /// Names an operating-system error by what was attempted; `NoSpace`, `NoDescriptors` or `ReadOnly` where that is what
    /// it says.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { operation, path, source }
            }
            // A failed sync stays one, whatever the reason.
            io::ErrorKind::ReadOnlyFilesystem if !operation.starts_with("sync") => {
                let reason = format!("the medium is read-only operation={operation} path={}", path.display());
                Self::ReadOnly { reason }
            }
            _ if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                Self::NoDescriptors { operation, path, source }
            }
            _ => Self::Io { operation, path, source },
        }
    }

    /// Whether a sync failed: what it was to cover may be lost, and no later sync could tell. Stores report one under an
    /// operation that begins with `sync`.
    pub fn is_failed_sync(&self) -> bool {
        match self {
            Self::Io { operation, .. } | Self::NoSpace { operation, .. } => operation.starts_with("sync"),
            _ => false,
        }
    }

    /// Whether this is the report of one sync that failed, and not of one that was reported to somebody else already.
    pub(crate) fn is_first_report_of_failed_sync(&self) -> bool {
        let shared =
            matches!(self, Self::Io { operation, .. } | Self::NoSpace { operation, .. } if *operation == SHARED_SYNC);
        self.is_failed_sync() && !shared
    }

    /// Whether the medium could not give what is on it. It may be able to the next time, so this says nothing of the bytes.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Io { source, .. } if super::sys::medium_failed(source))
    }

    /// Damage, in words.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

/// How a commit ended when it did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Certainly absent, now and after reopening.
    #[error("commit failed")]
    Failed(#[source] StorageError),
    /// Certainly absent; a concurrent transaction won. Worth running again.
    #[error("commit conflicts with another")]
    Conflict,
    /// May be present after reopening: ask with the operation id.
    #[error("commit outcome unknown")]
    Unknown(#[source] StorageError),
}
