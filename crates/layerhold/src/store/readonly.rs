//! A store that is only shown: a table that is not written, and over it the groups that its journal still holds.

use super::journal::StoreId;
use super::overlay::{Overlay, over};
use super::table::Table;
use super::{Batch, CommitError, Durability, LockMode, LockSet, Member, MetadataStore, Milestone, StorageError, View};

/// See the module. Its groups are held in memory, as much as the journal holds of them.
pub(crate) struct ReadOnly {
    table: Box<dyn Table>,
    overlay: Overlay,
    sequence: u64,
    store_id: Option<StoreId>,
}

impl ReadOnly {
    /// What `table` holds, which is everything up to `applied`.
    pub(crate) fn new(table: Box<dyn Table>, applied: u64, store_id: Option<StoreId>) -> Self {
        Self { table, overlay: Overlay::default(), sequence: applied, store_id }
    }

    /// Shows a group on top of what is there.
    pub(crate) fn add(&mut self, batch: &Batch, sequence: u64) {
        self.overlay.apply(batch);
        self.sequence = sequence;
    }
}

fn refused() -> StorageError {
    StorageError::ReadOnly { reason: "it was opened for reading alone".to_owned() }
}

impl MetadataStore for ReadOnly {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        // Nobody writes, so there is nothing to keep out.
        let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| *key).collect();
        Ok(LockSet::new(self.view()?.get_many(&keys)?.into(), Box::new(())))
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        Ok(over(&self.overlay, self.table.view()?))
    }

    fn commit(&self, _: &[Member], _: u64, _: Durability, _: &mut dyn FnMut(Milestone)) -> Result<(), CommitError> {
        Err(CommitError::Failed(refused()))
    }

    fn recovered_sequence(&self) -> u64 {
        self.sequence
    }

    fn store_id(&self) -> Option<StoreId> {
        self.store_id
    }

    fn maintain(&self) -> Result<(), StorageError> {
        Err(refused())
    }
}
