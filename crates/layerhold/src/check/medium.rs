//! What the medium answers about one file: where it does not give that one, the others are looked at nevertheless.

use std::error::Error;

use crate::store::StorageError;

/// What a call about one file gave; in words, why the medium does not give that file.
///
/// # Errors
/// Whatever says nothing of this one file, as when the process has no descriptors left.
pub(super) fn of_one_file<T>(answer: Result<T, StorageError>) -> Result<Result<T, String>, StorageError> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(error @ (StorageError::Io { .. } | StorageError::ReadOnly { .. } | StorageError::Corrupt { .. })) => {
            Ok(Err(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }))
        }
        Err(error) => Err(error),
    }
}
