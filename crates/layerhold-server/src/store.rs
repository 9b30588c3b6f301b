//! The store under a server: opened where there is one, made where there is nothing, refused with words otherwise.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use layerhold::store::StorageError;
use layerhold::{Engine, Options};

/// Why a directory gives no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory cannot be looked at.
    #[error("cannot look at the data directory path={}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is something, and it is not a directory.
    #[error("the data directory is a file path={}", path.display())]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// There is a directory that the engine does not open.
    #[error("{} path={}", hint(source), path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What the engine said.
        #[source]
        source: StorageError,
    },
}

/// What an operator can do about a store that does not open.
fn hint(error: &StorageError) -> &'static str {
    match error {
        StorageError::Locked { .. } => {
            "the store is in use: another layerhold has it open; stop that one, or give this one another directory"
        }
        StorageError::NotAStore { .. } | StorageError::NotEmpty { .. } => {
            "the data directory is neither a store nor empty, and nothing in it was touched; name the directory of a \
             store, or one that is empty or absent to make a new store there"
        }
        StorageError::UnknownFormat { .. } => {
            "the store was written by another version of layerhold; use that version, nothing was touched"
        }
        StorageError::AcknowledgedDataLoss { .. } => {
            "the store has lost changes that it had acknowledged, so it does not open; nothing was touched, and \
             `layerhold check` says what can be done"
        }
        StorageError::Corrupt { .. } => {
            "the store is damaged, so it does not open; nothing was touched, and `layerhold check` says what can be done"
        }
        StorageError::Unsuitable { .. } => {
            "the data directory is on a medium that cannot keep what it is given; name a directory on another one, or give \
             --any-medium to keep the store there all the same"
        }
        StorageError::NoDescriptors { .. } => "too many files are open; raise the limit of the process (ulimit -n)",
        StorageError::NoSpace { .. } => "there is no room left on the medium of the data directory",
        _ => "cannot open the store",
    }
}

/// How a store came to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there.
    Existing,
    /// It was made now.
    Created,
}

/// Opens the store in `dir`, or makes one where `dir` is absent or empty.
///
/// # Errors
/// [`StoreError`]; nothing was changed then, but for a directory that may have been made.
pub fn open_or_create(dir: &Path, options: Options) -> Result<(Engine, Found), StoreError> {
    let refused = |source| StoreError::Refused { path: dir.to_owned(), source };
    if is_vacant(dir)? {
        return Ok((Engine::create(dir, options).map_err(refused)?, Found::Created));
    }
    open(dir, options).map(|engine| (engine, Found::Existing))
}

/// Opens the store in `dir`.
///
/// # Errors
/// [`StoreError`].
pub fn open(dir: &Path, options: Options) -> Result<Engine, StoreError> {
    Engine::open(dir, options).map_err(|source| StoreError::Refused { path: dir.to_owned(), source })
}

/// Opens the store in `dir` for reads alone, damaged or not, and changes nothing there.
///
/// # Errors
/// [`StoreError`].
pub fn open_read_only(dir: &Path, options: Options) -> Result<Engine, StoreError> {
    Engine::open_read_only(dir, options).map_err(|source| StoreError::Refused { path: dir.to_owned(), source })
}

/// Settings for the commands, which take a store where it is: whoever made it there has decided that.
#[must_use]
pub fn anywhere() -> Options {
    Options::default().with_any_medium(true)
}

/// Whether there is nothing at `dir`, or a directory with nothing in it.
fn is_vacant(dir: &Path) -> Result<bool, StoreError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(Ok(_)) => Ok(false),
            Some(Err(source)) => Err(StoreError::Unreadable { path: dir.to_owned(), source }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(StoreError::NotADirectory { path: dir.to_owned() })
        }
        Err(source) => Err(StoreError::Unreadable { path: dir.to_owned(), source }),
    }
}
