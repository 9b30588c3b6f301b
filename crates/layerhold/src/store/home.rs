//! Where a store's table lives while nobody has it open.

use std::path::Path;

use super::StorageError;
use super::table::Table;

/// The directory of a table below the root of its store.
pub const DIRECTORY: &str = "table";

/// Makes, opens and moves the table of one store.
///
/// The table's files are its own: nobody above knows their names. They all lie in [`DIRECTORY`].
pub trait TableHome: Send + Sync + std::fmt::Debug {
    /// Makes a new, empty table.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] where there is a table already.
    fn create(&self) -> Result<Box<dyn Table>, StorageError>;

    /// Opens the table for reading and writing; never makes one. Its files may change from here on.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where it is damaged or missing, [`StorageError::Locked`] where it is open elsewhere.
    fn open(&self) -> Result<Box<dyn Table>, StorageError>;

    /// Opens the table for reads alone and changes nothing at all, whatever state its files are in. What was not flushed
    /// is not in it.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where it is damaged or missing.
    fn open_read_only(&self) -> Result<Box<dyn Table>, StorageError>;

    /// Puts a copy of the table's files into the directory `aside` (relative to the store's root), durably and sharing
    /// the bytes of files that never change. A copy that is there already is completed.
    ///
    /// # Errors
    /// Those of the file system.
    fn copy_aside(&self, aside: &Path) -> Result<(), StorageError>;

    /// Moves the table's files into the directory `aside`, durably; success where there are none. What an earlier call
    /// moved there stays; files that came since then are removed.
    ///
    /// # Errors
    /// Those of the file system.
    fn set_aside(&self, aside: &Path) -> Result<(), StorageError>;

    /// Whether [`TableHome::mend`] could make sense of the table: a file that only points to others is damaged, and there
    /// is one way alone to make it anew.
    ///
    /// # Errors
    /// Those of the file system.
    fn mendable(&self) -> Result<bool, StorageError> {
        Ok(false)
    }

    /// Makes such a file anew, durably, and keeps the old one in the directory `aside`.
    ///
    /// # Errors
    /// Those of the file system.
    fn mend(&self, aside: &Path) -> Result<(), StorageError> {
        let _ = aside;
        Ok(())
    }
}
