//! A second copy of the durable sequence, in a file of its own (docs/format-journal.md, "Journal mark").
//!
//! The journal's records say what was durable before them, but damage that destroys the end of a segment destroys what
//! the records there said as well. The mark lies elsewhere. It is written after each sync, without one of its own, so
//! it costs a copy into memory; the system writes it out within its usual time, `maintain` and a clean close at once.
//! It is always true and may be old. A close and an opening say in it that nothing lies behind it; that is taken back,
//! durably, before the next group.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{u32_at, u64_at};
use super::{DIRECTORY, StoreId, is_absent};
use crate::store::StorageError;
use crate::store::fs::{File, FileSystem, OpenMode};

const MAGIC: [u8; 8] = *b"LHjmark\x01";
const SLOT_LEN: usize = 40;
/// Where the checksum of the statement is, and behind it that of the claim to be the last one.
const CHECKED_LEN: usize = 32;
const END_AT: usize = 36;
/// Apart by more than any sector or page: one torn or bad write never takes both.
const SLOTS: [u64; 2] = [0, 4096];
const FILE_LEN: u64 = 8192;

/// The open mark of a store.
#[derive(Debug)]
pub(super) struct Mark {
    file: Box<dyn File>,
    store_id: StoreId,
    // The slot that is written next; the other one holds the newest statement.
    next: bool,
    // Both slots say that nothing was acknowledged after what they state.
    is_end: bool,
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement {
    /// What is durable.
    pub(super) sequence: u64,
    /// Nothing was acknowledged after it.
    pub(super) is_end: bool,
}

impl Mark {
    /// Makes the file, both slots saying 0, synced. Its name is not.
    pub(super) fn create(fs: &dyn FileSystem, store_id: &StoreId) -> Result<Self, StorageError> {
        let mut mark = Self::make(fs, &path(), store_id)?;
        mark.write(0)?;
        mark.write(0)?;
        mark.sync()?;
        Ok(mark)
    }

    /// The same under another name, with another sequence, which is the end of the journal.
    pub(super) fn create_at(
        fs: &dyn FileSystem,
        path: &Path,
        store_id: &StoreId,
        sequence: u64,
    ) -> Result<(), StorageError> {
        let mut mark = Self::make(fs, path, store_id)?;
        mark.write_end(sequence)?;
        mark.sync()
    }

    fn make(fs: &dyn FileSystem, path: &Path, store_id: &StoreId) -> Result<Self, StorageError> {
        let file = fs.create_new(path).map_err(|e| StorageError::io("create", path, e))?;
        let filled = usize::try_from(FILE_LEN).unwrap_or(usize::MAX);
        file.write_all_at(&vec![0; filled], 0).map_err(|e| StorageError::io("write", path, e))?;
        Ok(Self { file, store_id: *store_id, next: false, is_end: false })
    }

    /// The store and the sequence that each whole slot names, whatever else is wrong with the file.
    pub(super) fn statements(fs: &dyn FileSystem) -> Result<Vec<(StoreId, u64)>, StorageError> {
        let file = match fs.open(&path(), OpenMode::Read) {
            Ok(file) => file,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(StorageError::io("open", path(), e)),
        };
        let mut found = Vec::new();
        for at in SLOTS {
            let mut bytes = [0; SLOT_LEN];
            match file.read_exact_at(&mut bytes, at) {
                Ok(()) if is_whole(&bytes) => {
                    let id = bytes.get(8..24).and_then(|id| id.try_into().ok());
                    found.extend(id.zip(u64_at(&bytes, 24)));
                }
                Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(StorageError::io("read", path(), e)),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Opens the file and answers the highest sequence number that either slot says is durable, and whether both say that it
    /// is the end.
    pub(super) fn open(
        fs: &dyn FileSystem,
        store_id: &StoreId,
        mode: OpenMode,
    ) -> Result<(Self, Statement), StorageError> {
        let file = fs.open(&path(), mode).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::corrupt("journal/mark is missing"),
            io::ErrorKind::IsADirectory => StorageError::corrupt("journal/mark is a directory"),
            _ => StorageError::io("open", path(), e),
        })?;
        let mut newest: Option<(u64, usize)> = None;
        let mut ends = 0;
        for (index, &at) in SLOTS.iter().enumerate() {
            let mut bytes = [0; SLOT_LEN];
            match file.read_exact_at(&mut bytes, at) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(StorageError::corrupt("journal/mark is cut short"));
                }
                Err(e) => return Err(StorageError::io("read", path(), e)),
            }
            let Some(Statement { sequence, is_end }) = decode(&bytes, store_id)? else { continue };
            let before = newest.map(|(sequence, _)| sequence);
            ends += usize::from(is_end && before.is_none_or(|before| before == sequence));
            if before.is_none_or(|before| sequence >= before) {
                newest = Some((sequence, index));
            }
        }
        let (sequence, slot) = newest.ok_or_else(|| StorageError::corrupt("both slots of journal/mark"))?;
        let is_end = ends == SLOTS.len();
        Ok((Self { file, store_id: *store_id, next: slot == 0, is_end }, Statement { sequence, is_end }))
    }

    /// Whether it says that nothing lies behind it.
    pub(super) fn is_end(&self) -> bool {
        self.is_end
    }

    /// States that `sequence` is durable; the statement itself is not, before [`Mark::sync`].
    pub(super) fn write(&mut self, sequence: u64) -> Result<(), StorageError> {
        self.is_end = false;
        self.write_slot(Statement { sequence, is_end: false })
    }

    /// States that `sequence` is durable and the last one, in both slots: a newer statement in one of them takes it back.
    pub(super) fn write_end(&mut self, sequence: u64) -> Result<(), StorageError> {
        for _ in SLOTS {
            self.write_slot(Statement { sequence, is_end: true })?;
        }
        self.is_end = true;
        Ok(())
    }

    fn write_slot(&mut self, statement: Statement) -> Result<(), StorageError> {
        let [first, second] = SLOTS;
        let at = if self.next { second } else { first };
        let slot = encode(statement, &self.store_id);
        // In one piece or not at all: slots are not synced one by one, so if each were written in pieces, a crash could
        // leave half of both.
        let written = loop {
            match self.file.write_at(&slot, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match written {
            Ok(whole) if whole == slot.len() => {}
            Ok(_) => return Err(StorageError::io("write", path(), io::ErrorKind::WriteZero.into())),
            Err(e) => return Err(StorageError::io("write", path(), e)),
        }
        self.next = !self.next;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(|e| StorageError::io("sync", path(), e))
    }
}

pub(super) fn path() -> PathBuf {
    Path::new(DIRECTORY).join("mark")
}

fn encode(statement: Statement, store_id: &StoreId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(store_id);
    bytes.extend_from_slice(&statement.sequence.to_be_bytes());
    let end = if statement.is_end { end_checksum(&bytes) } else { 0 };
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&end.to_be_bytes());
    bytes
}

/// What stands behind a statement that is the last one.
fn end_checksum(checked: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(checked);
    hasher.update(&[1]);
    hasher.finalize()
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
        && bytes.get(..CHECKED_LEN).is_some_and(|checked| u32_at(bytes, CHECKED_LEN) == Some(crc32fast::hash(checked)))
}

/// What a slot says; `None` for a damaged one.
fn decode(bytes: &[u8], store_id: &StoreId) -> Result<Option<Statement>, StorageError> {
    if !is_whole(bytes) {
        return Ok(None);
    }
    if bytes.get(8..24) != Some(store_id.as_slice()) {
        return Err(StorageError::corrupt("journal/mark belongs to another store"));
    }
    let is_end = bytes.get(..CHECKED_LEN).is_some_and(|checked| u32_at(bytes, END_AT) == Some(end_checksum(checked)));
    Ok(u64_at(bytes, 24).map(|sequence| Statement { sequence, is_end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_and_a_damaged_one_says_nothing_or_less() {
        for is_end in [false, true] {
            let statement = Statement { sequence: 77, is_end };
            let bytes = encode(statement, &[5; 16]);
            assert_eq!(bytes.len(), SLOT_LEN);
            assert_eq!(decode(&bytes, &[5; 16]).unwrap(), Some(statement));
            assert!(decode(&bytes, &[6; 16]).is_err());
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let less = Statement { sequence: 77, is_end: false };
                let expected = (bit >= END_AT * 8).then_some(less);
                assert_eq!(decode(&flipped, &[5; 16]).unwrap(), expected, "bit {bit}");
            }
        }
    }
}
