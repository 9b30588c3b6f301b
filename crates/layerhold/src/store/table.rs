//! The map below the journal: what is applied to it is readable at once and durable only after a flush.

use super::{Batch, StorageError, View};

/// An ordered map of rows that may lose what was not flushed, but never a part of one [`Table::apply`].
///
/// [`Journaled`](super::journaled::Journaled) turns a table into a durable [`MetadataStore`](super::MetadataStore) by
/// writing each group to the journal first and replaying what a crash took from the table.
pub trait Table: Send + Sync {
    /// A view of everything that was applied before the call. It does not wait for an [`Table::apply`] that is under way.
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError>;

    /// Reads without the cost of a view.
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError>;

    /// Writes all batches as one atomic step and, where given, records `sequence` as the last one applied.
    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError>;

    /// The sequence last recorded by [`Table::apply`]; 0 for a new table.
    fn applied_sequence(&self) -> Result<u64, StorageError>;

    /// Makes durable everything that was applied before the call.
    fn flush(&self) -> Result<(), StorageError>;

    /// Whether [`Table::apply`] would wait until the table has caught up with what was written before, however long that
    /// takes.
    fn is_stalled(&self) -> bool {
        false
    }

    /// Proves that the table can be read at all; used at open.
    fn verify(&self) -> Result<(), StorageError> {
        self.applied_sequence().map(|_| ())
    }
}

impl<T: Table + ?Sized> Table for Box<T> {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        (**self).view()
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        (**self).get_many(keys)
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        (**self).apply(batches, sequence)
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        (**self).applied_sequence()
    }

    fn flush(&self) -> Result<(), StorageError> {
        (**self).flush()
    }

    fn is_stalled(&self) -> bool {
        (**self).is_stalled()
    }

    fn verify(&self) -> Result<(), StorageError> {
        (**self).verify()
    }
}
