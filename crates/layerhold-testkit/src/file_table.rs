//! A metadata table that is one file of a file system, for tests that cut or damage whole stores.
//!
//! What was flushed is the file `table/rows`; the rest is in memory and goes with the handle, as RocksDB's memtables do.
//! A flush writes the file anew beside the old one and takes its place in one step.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layerhold::store::fs::{FileSystem, OpenMode};
use layerhold::store::home::TableHome;
use layerhold::store::mem::MemTable;
use layerhold::store::table::Table;
use layerhold::store::{Batch, Direction, KeyRange, StorageError, View};

const DIRECTORY: &str = "table";
const ROWS: &str = "table/rows";
const ROWS_NEW: &str = "table/rows.new";
const MAGIC: &[u8; 8] = b"LHTROWS\n";

/// Where the table of one store is.
#[derive(Debug, Clone)]
pub struct FileTableHome {
    fs: Arc<dyn FileSystem>,
    flush_every: u64,
}

impl FileTableHome {
    /// The directory `table` of `fs`. Nothing is flushed unless it is asked for.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>) -> Self {
        Self { fs, flush_every: 0 }
    }

    /// The same, flushed by itself after every so many groups, as an LSM tree does now and then.
    #[must_use]
    pub fn flushing_every(mut self, groups: u64) -> Self {
        self.flush_every = groups;
        self
    }

    fn read(&self) -> Result<FileTable, StorageError> {
        let damaged = |what: &str| StorageError::corrupt(format!("{ROWS} {what}"));
        let file = self.fs.open(Path::new(ROWS), OpenMode::Read).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => damaged("is missing"),
            _ => StorageError::io("open", ROWS, e),
        })?;
        let mut bytes = vec![0; usize::try_from(file.len().map_err(read_error)?).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(read_error)?;
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Err(damaged("is cut")) };
        if !body.starts_with(MAGIC) || *crc != crc32(body).to_be_bytes() {
            return Err(damaged("is damaged"));
        }
        let (sequence, rows) = body[MAGIC.len()..].split_at(8);
        let batch = Batch::from_bytes(rows.to_vec()).ok_or_else(|| damaged("is damaged"))?;
        let rows = MemTable::new();
        let sequence = u64::from_be_bytes(sequence.try_into().map_err(|_| damaged("is cut"))?);
        rows.apply(&[&batch], Some(sequence))?;
        Ok(FileTable { home: self.clone(), rows, groups: AtomicU64::new(0) })
    }
}

fn read_error(error: io::Error) -> StorageError {
    StorageError::io("read", ROWS, error)
}

/// The checksum of IEEE 802.3, bit by bit: files here are small, and this crate shares nothing with the engine's.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

impl TableHome for FileTableHome {
    fn create(&self) -> Result<Box<dyn Table>, StorageError> {
        match self.fs.create_dir(Path::new(DIRECTORY)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::io("create directory", DIRECTORY, e));
            }
            _ => {}
        }
        self.fs.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync", "", e))?;
        if self.fs.file_len(Path::new(ROWS)).is_ok() {
            return Err(StorageError::NotEmpty { path: DIRECTORY.into() });
        }
        let table = FileTable { home: self.clone(), rows: MemTable::new(), groups: AtomicU64::new(0) };
        table.flush()?;
        Ok(Box::new(table))
    }

    fn open(&self) -> Result<Box<dyn Table>, StorageError> {
        Ok(Box::new(self.read()?))
    }

    fn open_read_only(&self) -> Result<Box<dyn Table>, StorageError> {
        Ok(Box::new(self.read()?))
    }

    fn copy_aside(&self, _aside: &Path) -> Result<(), StorageError> {
        // Opening changes nothing here, and a flush keeps every row.
        Ok(())
    }

    fn set_aside(&self, aside: &Path) -> Result<(), StorageError> {
        match self.fs.rename_noreplace(Path::new(ROWS), &aside.join("rows")) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.fs.remove_file(Path::new(ROWS)).map_err(|e| StorageError::io("remove", ROWS, e))?;
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StorageError::io("set aside", ROWS, e)),
            Ok(()) => {}
            Err(_) => return Ok(()),
        }
        self.fs.sync_dir(aside).map_err(|e| StorageError::io("sync", aside, e))?;
        self.fs.sync_dir(Path::new(DIRECTORY)).map_err(|e| StorageError::io("sync", DIRECTORY, e))
    }
}

/// See the module.
#[derive(Debug)]
struct FileTable {
    home: FileTableHome,
    rows: MemTable,
    groups: AtomicU64,
}

impl Table for FileTable {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.rows.view()
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.rows.get_many(keys)
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        self.rows.apply(batches, sequence)?;
        let groups = self.groups.fetch_add(1, Ordering::Relaxed) + 1;
        if self.home.flush_every > 0 && groups.is_multiple_of(self.home.flush_every) { self.flush() } else { Ok(()) }
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        self.rows.applied_sequence()
    }

    fn flush(&self) -> Result<(), StorageError> {
        let mut rows = Batch::new();
        // No change comes between: the sequence is that of a group, and groups are applied by one thread at a time.
        let sequence = self.rows.applied_sequence()?;
        let all = KeyRange { start: Vec::new(), end: vec![0xff; 2] };
        self.rows.view()?.scan(&all, Direction::Forward, &mut |key, value| {
            rows.put(key, value);
            ControlFlow::Continue(())
        })?;
        let mut bytes = [MAGIC.as_slice(), &sequence.to_be_bytes(), rows.as_bytes()].concat();
        let crc = crc32(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        let fs = &self.home.fs;
        let write = || {
            match fs.remove_file(Path::new(ROWS_NEW)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = fs.create_new(Path::new(ROWS_NEW))?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            fs.rename_replace(Path::new(ROWS_NEW), Path::new(ROWS))?;
            fs.sync_dir(Path::new(DIRECTORY))
        };
        write().map_err(|e| StorageError::io("flush", ROWS, e))
    }
}
