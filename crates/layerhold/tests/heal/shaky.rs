//! A metadata store whose scans can be made to fail in their middle.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};

use layerhold::StorageError;
use layerhold::store::journaled::Journaled;
use layerhold::store::mem::MemTable;
use layerhold::store::{
    CommitError, Direction, Durability, KeyRange, LockMode, LockSet, Member, MetadataStore, Milestone, View, Visit,
};

pub(crate) struct Shaky {
    inner: Journaled<MemTable>,
    /// Rows that scans still give before they fail; negative for never.
    rows_left: AtomicI64,
    /// Commits that are still refused.
    refused: AtomicI64,
}

struct ShakyView<'a> {
    inner: Box<dyn View + 'a>,
    rows_left: &'a AtomicI64,
}

impl Shaky {
    pub(crate) fn new(inner: Journaled<MemTable>) -> Self {
        Self { inner, rows_left: AtomicI64::new(-1), refused: AtomicI64::new(0) }
    }

    /// Lets scans fail once they have given so many rows.
    pub(crate) fn fail_after(&self, rows: i64) {
        self.rows_left.store(rows, Ordering::SeqCst);
    }

    /// Lets the next commits fail, with nothing of them written.
    pub(crate) fn refuse(&self, commits: i64) {
        self.refused.store(commits, Ordering::SeqCst);
    }

    pub(crate) fn recover(&self) {
        self.rows_left.store(-1, Ordering::SeqCst);
    }
}

impl View for ShakyView<'_> {
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.inner.get_many(keys)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        let mut failed = false;
        self.inner.scan(range, direction, &mut |key, value| {
            match self.rows_left.load(Ordering::SeqCst) {
                0 => {
                    failed = true;
                    return ControlFlow::Break(());
                }
                1.. => _ = self.rows_left.fetch_sub(1, Ordering::SeqCst),
                _ => {}
            }
            visit(key, value)
        })?;
        // As an iterator that stops has to be asked whether it came to the end.
        if failed {
            return Err(StorageError::Table { operation: "scan", message: "told to".to_owned() });
        }
        Ok(())
    }
}

impl MetadataStore for Shaky {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        self.inner.lock_and_get(rows)
    }

    fn try_lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<Option<LockSet>, StorageError> {
        self.inner.try_lock_and_get(rows)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        Ok(Box::new(ShakyView { inner: self.inner.view()?, rows_left: &self.rows_left }))
    }

    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        if self.refused.fetch_sub(1, Ordering::SeqCst) > 0 {
            let error = StorageError::Unavailable { what: "nothing", waited_ms: 0 };
            return Err(CommitError::Failed(error));
        }
        self.inner.commit(group, last_sequence, durability, reached)
    }

    fn recovered_sequence(&self) -> u64 {
        self.inner.recovered_sequence()
    }

    fn maintain(&self) -> Result<(), StorageError> {
        self.inner.maintain()
    }
}
