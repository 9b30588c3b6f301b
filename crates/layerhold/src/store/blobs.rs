//! The blob store trait: files of bytes, written once, addressed by a location that says nothing of their content.

use std::io;
use std::ops::{ControlFlow, Deref};

use super::StorageError;
use crate::format::footer::FOOTER_LEN;

/// Where a blob's bytes are: 128 random bits, drawn by the engine and written in a row before the backend's resource
/// exists, so that no crash can leave a resource that nobody knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(pub [u8; 16]);

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A place for blob bytes.
///
/// The engine stages bytes, syncs them part by part, publishes once, and from then on only reads and at last deletes.
/// A published blob never changes and is never shortened.
pub trait BlobStore: Send + Sync {
    /// Appends must come in multiples of this many bytes, the last one apart. 1 for files.
    fn append_granularity(&self) -> u64 {
        1
    }

    /// Whether staged bytes can be read before they are published.
    fn staged_is_readable(&self) -> bool {
        true
    }

    /// Begins a new resource. `AlreadyExists` (as [`StorageError::Io`]) if the location is taken.
    fn stage(&self, location: Location) -> Result<Box<dyn StagedBlob>, StorageError>;

    /// Takes a staged resource up again, cut to `len` bytes, which were synced earlier. A resource that is absent or
    /// shorter is [`StorageError::Corrupt`].
    fn resume(&self, location: Location, len: u64) -> Result<Box<dyn StagedBlob>, StorageError>;

    /// Opens a published blob. A missing file, or one whose length is not `len` plus the footer, is
    /// [`StorageError::Corrupt`].
    fn open(&self, location: Location, len: u64) -> Result<Box<dyn StoredBlob>, StorageError>;

    /// The length of a staged or published resource with whatever is in it, footer included; `None` where there is none.
    fn len(&self, location: Location) -> Result<Option<u64>, StorageError>;

    /// Removes a staged or published resource; success where it is absent already. Readers that have it open go on. After
    /// a crash it may be back, unless [`BlobStore::sync_deleted`] spoke of it.
    fn delete(&self, location: Location) -> Result<(), StorageError>;

    /// Makes durable that resources are gone which [`BlobStore::delete`] removed, in this process or an earlier one; keeps in
    /// `locations` those of which that is certain.
    ///
    /// # Errors
    /// That of the first sync that failed. None is tried again: what it was to cover is never certain in this process.
    fn sync_deleted(&self, locations: &mut Vec<Location>) -> Result<(), StorageError>;

    /// Calls `visit` with every location that has a resource, staged or published, in no order.
    fn list(&self, visit: &mut dyn FnMut(Location) -> ControlFlow<()>) -> Result<(), StorageError>;
}

/// A resource that is being written. Dropping it leaves what was synced.
pub trait StagedBlob: Send + Sync {
    /// Writes `bytes` at `offset`, which is the end of what was written so far.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes all appended bytes, and with the first call the resource's name, durable. Never tried again after a
    /// failure: the caller drops the resource.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Reads staged bytes back.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), StorageError>;

    /// Asks that the next read of what was synced come from the medium and not from a cache. A hint.
    fn forget(&self) {}

    /// Adds `footer` behind the `len` staged bytes and syncs. From then on [`BlobStore::open`] finds the blob; doing
    /// it twice with the same footer does no harm.
    fn publish(&mut self, len: u64, footer: &[u8]) -> Result<(), StorageError>;
}

/// A published blob, open for reading.
pub trait StoredBlob: Send + Sync + std::fmt::Debug {
    /// Reads exactly `buf.len()` bytes at `offset` of the blob's own bytes (the footer lies behind them).
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// What lies behind the blob's bytes.
    fn read_footer(&self) -> io::Result<[u8; FOOTER_LEN]>;

    /// Asks that the next read of a range come from the medium and not from a cache. A hint.
    fn forget(&self, _offset: u64, _len: u64) {}

    /// `len` bytes at `offset`, mapped where the backend can.
    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>>;
}
