//! Blobs as files of a [`FileSystem`].
//!
//! A blob is the file `blobs/<first two hex digits>/<all 32 hex digits>` of its location. It bears that name from its
//! first byte on, so that publishing renames nothing: it adds the footer and syncs once more. What makes a blob
//! durable, in this order:
//!
//! 1. its shard directory is made and `blobs` is synced, before any file is made in the shard;
//! 2. the first sync of the file is followed by a sync of the shard, which makes the file's name durable;
//! 3. from then on a sync of the file is enough.
//!
//! No sync is tried again. A failed one leaves the system free to forget what it covered, so the staged file that
//! asked for it is lost, and with a failed directory sync every file whose name was waiting in that directory.

use std::io;
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::hex;

use super::fs::{EntryKind, File, FileSystem, OpenMode};
use super::{BlobStore, Location, StagedBlob, StorageError, StoredBlob};

mod shard;

use shard::Shards;

/// Length in bytes of what [`StagedBlob::publish`] adds behind a blob (docs/format.md, "Blob files").
pub const FOOTER_LEN: u64 = crate::format::footer::FOOTER_LEN as u64;

/// After this many appended bytes the system is asked to start writing them out, so that the sync at the end finds
/// little left to do.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// The directory of all blobs, below the root.
pub(crate) const DIRECTORY: &str = "blobs";

/// The blob store in local files.
#[derive(Debug)]
pub struct LocalBlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fs: Arc<dyn FileSystem>,
    shards: Shards,
}

impl LocalBlobStore {
    /// Makes the directory that [`LocalBlobStore::open`] looks for, durably. No harm where it exists already.
    ///
    /// # Errors
    /// [`StorageError::Io`] or [`StorageError::NoSpace`].
    pub fn create(fs: Arc<dyn FileSystem>) -> Result<Self, StorageError> {
        match fs.create_dir(Path::new(DIRECTORY)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::io("create directory", DIRECTORY, e));
            }
            _ => {}
        }
        fs.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync directory", "", e))?;
        Self::open(fs)
    }

    /// Opens a blob store that was created earlier.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] where the directory of blobs is missing; [`StorageError::Io`].
    pub fn open(fs: Arc<dyn FileSystem>) -> Result<Self, StorageError> {
        let shards = Shards::open(fs.as_ref()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::corrupt("the directory blobs is missing"),
            _ => StorageError::io("open directory", DIRECTORY, e),
        })?;
        Ok(Self { inner: Arc::new(Inner { fs, shards }) })
    }

    /// A blob store for reads alone. Nothing is looked at or changed: what is missing is said of each blob.
    pub fn open_read_only(fs: Arc<dyn FileSystem>) -> Self {
        Self { inner: Arc::new(Inner { fs, shards: Shards::unknown() }) }
    }

    fn staged(&self, location: Location, path: PathBuf, file: Box<dyn File>, end: u64, name: Name) -> Box<Staged> {
        let store = Arc::clone(&self.inner);
        Box::new(Staged {
            store,
            location,
            path,
            file,
            end,
            written_out: end,
            synced: end,
            name,
            footer: None,
            lost: false,
        })
    }
}

/// The path of a blob's file. It comes from the location alone, so that nothing a client says can be part of it.
fn path_of(location: Location) -> PathBuf {
    let [first, ..] = location.0;
    format!("{DIRECTORY}/{first:02x}/{location}").into()
}

/// The location that a file name stands for; `None` for a foreign name.
fn location_of(name: &str) -> Option<Location> {
    hex::decode_array(name.as_bytes()).ok().map(Location)
}

impl BlobStore for LocalBlobStore {
    fn stage(&self, location: Location) -> Result<Box<dyn StagedBlob>, StorageError> {
        let [shard, ..] = location.0;
        let path = path_of(location);
        let name = Name::Waiting(self.inner.shards.enter(self.inner.fs.as_ref(), shard)?);
        let file = self.inner.fs.create_new(&path).map_err(|e| StorageError::io("create", &path, e))?;
        Ok(self.staged(location, path, file, 0, name))
    }

    fn resume(&self, location: Location, len: u64) -> Result<Box<dyn StagedBlob>, StorageError> {
        let [shard, ..] = location.0;
        let path = path_of(location);
        let file = self.inner.fs.open(&path, OpenMode::ReadWrite).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::corrupt(format!("staged file is missing location={location}")),
            _ => StorageError::io("open", &path, e),
        })?;
        let found = file.len().map_err(|e| StorageError::io("read length", &path, e))?;
        if found < len {
            let what = format!("staged file is too short location={location} expected={len} found={found}");
            return Err(StorageError::corrupt(what));
        }
        if found > len {
            file.set_len(len).map_err(|e| StorageError::io("cut", &path, e))?;
        }
        // Bytes that were synced had their name synced with them. Without any, nothing says that the name was.
        let name = if len > 0 {
            Name::Durable
        } else {
            Name::Waiting(self.inner.shards.enter(self.inner.fs.as_ref(), shard)?)
        };
        Ok(self.staged(location, path, file, len, name))
    }

    fn open(&self, location: Location, len: u64) -> Result<Box<dyn StoredBlob>, StorageError> {
        let path = path_of(location);
        let file = self.inner.fs.open(&path, OpenMode::Read).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::corrupt(format!("blob file is missing location={location}")),
            _ => StorageError::io("open", &path, e),
        })?;
        let found = file.len().map_err(|e| StorageError::io("read length", &path, e))?;
        let expected = len.saturating_add(FOOTER_LEN);
        if found != expected {
            let what = format!("blob file has the wrong length location={location} expected={expected} found={found}");
            return Err(StorageError::corrupt(what));
        }
        Ok(Box::new(Stored { file, len }))
    }

    fn len(&self, location: Location) -> Result<Option<u64>, StorageError> {
        let path = path_of(location);
        match self.inner.fs.file_len(&path) {
            Ok(len) => Ok(Some(len)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StorageError::io("read length", path, e)),
        }
    }

    fn delete(&self, location: Location) -> Result<(), StorageError> {
        let path = path_of(location);
        match self.inner.fs.remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StorageError::io("remove", path, e)),
            _ => Ok(()),
        }
    }

    fn sync_deleted(&self, locations: &mut Vec<Location>) -> Result<(), StorageError> {
        locations.sort_unstable();
        let mut certain = Vec::with_capacity(locations.len());
        let mut outcome = Ok(());
        for shared in locations.chunk_by(|a, b| a.0.first() == b.0.first()) {
            let Some(Location([shard, ..])) = shared.first() else { continue };
            match self.inner.shards.sync_removed(self.inner.fs.as_ref(), *shard) {
                Ok(()) => certain.extend_from_slice(shared),
                Err(error) => {
                    let fails_now = error.is_first_report_of_failed_sync();
                    outcome = outcome.and(Err(error));
                    if fails_now {
                        // A medium that fails is not asked for more than it has to.
                        break;
                    }
                }
            }
        }
        *locations = certain;
        outcome
    }

    fn list(&self, visit: &mut dyn FnMut(Location) -> ControlFlow<()>) -> Result<(), StorageError> {
        let names = |path: &Path| self.inner.fs.list(path).map_err(|e| StorageError::io("list", path, e));
        for shard in names(Path::new(DIRECTORY))? {
            if shard.kind != EntryKind::Directory || shard::number_of(&shard.name).is_none() {
                continue;
            }
            for entry in names(&Path::new(DIRECTORY).join(&shard.name))? {
                let Some(location) = location_of(&entry.name) else { continue };
                // A file in a shard that is not its own is found by nobody, so it is foreign too.
                if entry.kind == EntryKind::File && entry.name.starts_with(&shard.name) && visit(location).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Whether a staged file's name would survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Durable,
    /// Not before the shard is synced; the entry tells whether such a sync failed since the file was made.
    Waiting(shard::Entry),
}

/// Invariants: `synced <= end`, `written_out <= end`, and the file has no byte at or behind `end` but the footer.
#[derive(Debug)]
struct Staged {
    store: Arc<Inner>,
    location: Location,
    path: PathBuf,
    file: Box<dyn File>,
    /// Where the next append goes.
    end: u64,
    /// Up to where the system was asked to write out.
    written_out: u64,
    /// Up to where bytes are durable.
    synced: u64,
    name: Name,
    /// Set once published.
    footer: Option<Vec<u8>>,
    /// A write or a sync failed: what the file holds behind `synced` is unknown, and so is what a sync would say.
    lost: bool,
}

impl Staged {
    fn usable(&self) -> Result<(), StorageError> {
        if self.lost { Err(self.misuse("use", "an earlier write or sync of this staged file failed")) } else { Ok(()) }
    }

    fn misuse(&self, operation: &'static str, message: &'static str) -> StorageError {
        StorageError::io(operation, &self.path, io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, offset).map_err(|e| {
            self.lost = true;
            StorageError::io("write", &self.path, e)
        })
    }

    fn sync_all(&mut self) -> Result<(), StorageError> {
        self.lost = true;
        self.file.sync_data().map_err(|e| StorageError::io("sync", &self.path, e))?;
        if let Name::Waiting(entry) = self.name {
            let [shard, ..] = self.location.0;
            self.store.shards.sync(self.store.fs.as_ref(), shard, entry)?;
            self.name = Name::Durable;
        }
        self.lost = false;
        self.synced = self.end;
        Ok(())
    }
}

impl StagedBlob for Staged {
    fn append(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), StorageError> {
        self.usable()?;
        if self.footer.is_some() {
            return Err(self.misuse("append", "the blob is published"));
        }
        if offset != self.end {
            return Err(self.misuse("append", "the offset is not the end of what was appended"));
        }
        while !bytes.is_empty() {
            // Cut at the next multiple, so that one huge append is written out while it goes on.
            let room = WRITEBACK_BYTES - self.end % WRITEBACK_BYTES;
            let (now, rest) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.write(self.end, now)?;
            self.end += now.len() as u64;
            bytes = rest;
            if self.end.is_multiple_of(WRITEBACK_BYTES) {
                let started = self.file.start_writeback(self.written_out, self.end - self.written_out);
                started.map_err(|e| {
                    self.lost = true;
                    StorageError::io("write out", &self.path, e)
                })?;
                self.written_out = self.end;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        if self.synced == self.end && self.name == Name::Durable {
            return Ok(());
        }
        self.sync_all()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), StorageError> {
        self.usable()?;
        inside(offset, buf.len(), self.end)
            .and_then(|()| self.file.read_exact_at(buf, offset))
            .map_err(|e| StorageError::io("read", &self.path, e))
    }

    fn forget(&self) {
        self.file.forget(0, self.synced);
    }

    fn publish(&mut self, len: u64, footer: &[u8]) -> Result<(), StorageError> {
        self.usable()?;
        if len != self.end {
            return Err(self.misuse("publish", "the length is not that of what was appended"));
        }
        if footer.len() as u64 != FOOTER_LEN {
            return Err(self.misuse("publish", "the footer has the wrong length"));
        }
        match &self.footer {
            Some(published) if published == footer => return Ok(()),
            Some(_) => return Err(self.misuse("publish", "the blob is published with another footer")),
            None => {}
        }
        self.write(len, footer)?;
        self.sync_all()?;
        self.footer = Some(footer.to_vec());
        Ok(())
    }
}

#[derive(Debug)]
struct Stored {
    file: Box<dyn File>,
    len: u64,
}

impl StoredBlob for Stored {
    fn read_footer(&self) -> io::Result<[u8; crate::format::footer::FOOTER_LEN]> {
        let mut footer = [0; crate::format::footer::FOOTER_LEN];
        self.file.read_exact_at(&mut footer, self.len)?;
        Ok(footer)
    }

    fn forget(&self, offset: u64, len: u64) {
        self.file.forget(offset, len);
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        inside(offset, buf.len(), self.len)?;
        self.file.read_exact_at(buf, offset)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        inside(offset, len, self.len)?;
        self.file.map(offset, len)
    }
}

/// Keeps a read off the footer, and off bytes that were never appended.
fn inside(offset: u64, len: usize, end: u64) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(read_end) if read_end <= end => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_from_its_location_and_leads_back_to_it() {
        let location = Location(*b"\x00\x01\x7f\x80\xff\xfe0123456789");
        let path = path_of(location);
        assert_eq!(path, Path::new("blobs/00/00017f80fffe30313233343536373839"));
        assert_eq!(location_of(path.file_name().unwrap().to_str().unwrap()), Some(location));
        for foreign in ["", "00", "00017F80fffe30313233343536373839", "+0017f80fffe30313233343536373839", "ü"] {
            assert_eq!(location_of(foreign), None, "{foreign}");
        }
    }
}
