//! The files of the journal: names, headers, and how a new one comes to be (docs/format-journal.md, "Journal segment").
//!
//! A segment is written full of zeros and synced before it is used, so that a commit changes neither its length nor
//! its allocation and one `fdatasync` is one write. It is made under a spare name and gets its own name once its
//! header is durable: a name of a segment always stands for a whole one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{ALIGNMENT, Binding, HEADER_LEN, u32_at, u64_at};
use super::{DIRECTORY, StoreId};
use crate::store::StorageError;
use crate::store::fs::{EntryKind, File, FileSystem, OpenMode};

/// Where the first record begins. The header has this block for itself, so no commit ever writes to it again.
pub(super) const RECORDS_START: u64 = 4096;

/// Room that is always left for the record that ends a segment.
pub(super) const END_RESERVE: u64 = HEADER_LEN as u64;

/// The version of the journal's format.
pub(super) const FORMAT: u32 = 1;

/// The smallest segment: its header and room for a few records.
pub(super) const SEGMENT_BYTES_MIN: u64 = 2 * RECORDS_START;

const MAGIC: [u8; 8] = *b"LHjournl";
pub(super) const SEGMENT_HEADER_LEN: usize = 60;
const CHECKED_LEN: usize = SEGMENT_HEADER_LEN - 4;
const ZEROS_LEN: usize = 256 * 1024;

/// The first bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    /// The sequence number that its first group begins with: everything below was durable when the segment was made.
    pub(super) first_sequence: u64,
    /// The file's length.
    pub(super) len: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self, store_id: &StoreId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(store_id);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.len.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// The store that a whole header names, without judging whether it is ours.
    pub(super) fn store_id(bytes: &[u8]) -> Option<StoreId> {
        Self::is_whole(bytes).then(|| bytes.get(16..32)?.try_into().ok())?
    }

    fn is_whole(bytes: &[u8]) -> bool {
        let checked = bytes.get(..CHECKED_LEN);
        let crc = checked.map(crc32fast::hash);
        bytes.starts_with(&MAGIC) && crc.is_some() && u32_at(bytes, CHECKED_LEN) == crc
    }

    pub(super) fn decode(bytes: &[u8], store_id: &StoreId, name: &Path) -> Result<Self, StorageError> {
        let damaged = || StorageError::corrupt(format!("header of {}", name.display()));
        if !Self::is_whole(bytes) {
            return Err(damaged());
        }
        let found = u32_at(bytes, 8).ok_or_else(damaged)?;
        if found != FORMAT {
            return Err(StorageError::UnknownFormat { found, supported: FORMAT });
        }
        if bytes.get(16..32) != Some(store_id.as_slice()) {
            return Err(StorageError::corrupt(format!("{} belongs to another store", name.display())));
        }
        let field = |at| u64_at(bytes, at).ok_or_else(damaged);
        Ok(Self { number: field(32)?, first_sequence: field(40)?, len: field(48)? })
    }
}

/// An open segment, with its place in the order.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Box<dyn File>,
    pub(super) binding: Binding,
}

impl Segment {
    /// Opens the segment that its name says is number `number`, and proves that it is.
    pub(super) fn open(
        fs: &dyn FileSystem,
        store_id: &StoreId,
        number: u64,
        mode: OpenMode,
    ) -> Result<Self, StorageError> {
        let name = segment_path(number);
        let file = fs.open(&name, mode).map_err(|e| StorageError::io("open", &name, e))?;
        let len = file.len().map_err(|e| StorageError::io("measure", &name, e))?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        if len < SEGMENT_BYTES_MIN {
            return Err(StorageError::corrupt(format!("{} is cut to {len} bytes", name.display())));
        }
        file.read_exact_at(&mut bytes, 0).map_err(|e| StorageError::io("read", &name, e))?;
        let header = SegmentHeader::decode(&bytes, store_id, &name)?;
        if header.number != number {
            return Err(StorageError::corrupt(format!("{} is segment {:016x}", name.display(), header.number)));
        }
        if len < header.len || header.len < SEGMENT_BYTES_MIN || !header.len.is_multiple_of(ALIGNMENT) {
            return Err(StorageError::corrupt(format!("{} is cut to {len} of {} bytes", name.display(), header.len)));
        }
        Ok(Self { header, file, binding: Binding::new(store_id, number) })
    }

    pub(super) fn path(&self) -> PathBuf {
        segment_path(self.header.number)
    }
}

/// A file full of zeros, or of a retired segment's records, that waits to become a segment.
#[derive(Debug)]
pub(in crate::store) struct Spare {
    path: PathBuf,
    file: Box<dyn File>,
    pub(super) len: u64,
}

impl Spare {
    /// Makes one of `len` bytes, written and synced. What is left of one that failed is removed.
    pub(super) fn create(fs: &Arc<dyn FileSystem>, path: PathBuf, len: u64) -> Result<Self, StorageError> {
        let file = fs.create_new(&path).map_err(|e| StorageError::io("create", &path, e))?;
        let filled = fill(&*file, len).map_err(|e| StorageError::io("preallocate", &path, e));
        if let Err(error) = filled {
            // The file is of no use: after a failed sync nothing in it may be trusted. Should removing it fail as
            // well, the next open does it.
            let _ = fs.remove_file(&path);
            return Err(error);
        }
        Ok(Self { path, file, len })
    }

    /// Gives a retired segment a spare name, durably. Its records stay; they are bound to its old number.
    pub(super) fn recycle(fs: &Arc<dyn FileSystem>, number: u64, path: PathBuf) -> Result<Self, StorageError> {
        let old = segment_path(number);
        fs.rename_noreplace(&old, &path).map_err(|e| StorageError::io("rename", &old, e))?;
        // Were the new header written before this is durable, a crash could leave it under the old name.
        fs.sync_dir(Path::new(DIRECTORY)).map_err(|e| StorageError::io("sync", DIRECTORY, e))?;
        let file = fs.open(&path, OpenMode::ReadWrite).map_err(|e| StorageError::io("open", &path, e))?;
        let len = file.len().map_err(|e| StorageError::io("measure", &path, e))?;
        Ok(Self { path, file, len })
    }

    /// Removes the file.
    pub(in crate::store) fn remove(self, fs: &dyn FileSystem) -> Result<(), StorageError> {
        fs.remove_file(&self.path).map_err(|e| StorageError::io("remove", &self.path, e))
    }

    /// Makes it a segment: header, sync, name, sync of the name. It is durable when this returns.
    pub(super) fn activate(
        self,
        fs: &dyn FileSystem,
        store_id: &StoreId,
        number: u64,
        first_sequence: u64,
    ) -> Result<Segment, StorageError> {
        let header = SegmentHeader { number, first_sequence, len: self.len };
        let name = segment_path(number);
        self.file.write_all_at(&header.encode(store_id), 0).map_err(|e| StorageError::io("write", &self.path, e))?;
        self.file.sync_data().map_err(|e| StorageError::io("sync", &self.path, e))?;
        fs.rename_noreplace(&self.path, &name).map_err(|e| StorageError::io("rename", &name, e))?;
        fs.sync_dir(Path::new(DIRECTORY)).map_err(|e| StorageError::io("sync", DIRECTORY, e))?;
        Ok(Segment { header, file: self.file, binding: Binding::new(store_id, number) })
    }
}

fn fill(file: &dyn File, len: u64) -> std::io::Result<()> {
    let zeros = vec![0; ZEROS_LEN.min(usize::try_from(len).unwrap_or(ZEROS_LEN))];
    let mut at = 0;
    while at < len {
        let run = usize::try_from(len - at).unwrap_or(ZEROS_LEN).min(zeros.len());
        file.write_all_at(zeros.get(..run).unwrap_or_default(), at)?;
        at += run as u64;
    }
    file.sync_data()
}

pub(super) fn segment_path(number: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{number:016x}"))
}

pub(super) fn spare_path(number: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("spare-{number:x}"))
}

/// The segments' numbers in ascending order, and the names of spares. Other names are nobody's business here.
pub(super) fn list(fs: &dyn FileSystem) -> Result<(Vec<u64>, Vec<PathBuf>), StorageError> {
    let entries = fs.list(Path::new(DIRECTORY)).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => StorageError::corrupt("the directory journal is missing"),
        _ => StorageError::io("list", DIRECTORY, e),
    })?;
    let mut numbers = Vec::new();
    let mut spares = Vec::new();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
        if let Some(number) = parse_name(&entry.name) {
            numbers.push(number);
        } else if entry.name.starts_with("spare-") {
            spares.push(Path::new(DIRECTORY).join(&entry.name));
        }
    }
    numbers.sort_unstable();
    Ok((numbers, spares))
}

fn parse_name(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 16).ok()?;
    // Upper case, signs and other lengths are not our spelling.
    (format!("{number:016x}") == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_says_what_is_wrong_with_it() {
        let header = SegmentHeader { number: 7, first_sequence: 100, len: 1 << 20 };
        let bytes = header.encode(&[3; 16]);
        assert_eq!(bytes.len(), SEGMENT_HEADER_LEN);
        let name = segment_path(7);
        assert_eq!(SegmentHeader::decode(&bytes, &[3; 16], &name).unwrap(), header);
        let foreign = SegmentHeader::decode(&bytes, &[4; 16], &name).unwrap_err();
        assert_eq!(
            foreign.to_string(),
            "stored data is damaged what=journal/0000000000000007 belongs to another store"
        );
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped, &[3; 16], &name).is_err(), "bit {bit}");
        }
        let mut newer = bytes.clone();
        newer[11] = 9;
        let crc = crc32fast::hash(&newer[..CHECKED_LEN]).to_be_bytes();
        newer[CHECKED_LEN..].copy_from_slice(&crc);
        let refused = SegmentHeader::decode(&newer, &[3; 16], &name).unwrap_err();
        assert!(matches!(refused, StorageError::UnknownFormat { found: 9, supported: FORMAT }));
    }

    #[test]
    fn names_are_sixteen_lower_case_digits() {
        assert_eq!(parse_name("00000000000000ff"), Some(255));
        for name in ["ff", "00000000000000FF", "+0000000000000ff", "00000000000000fg", "spare-1", ""] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
