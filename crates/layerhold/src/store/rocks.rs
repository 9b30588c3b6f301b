//! The metadata table on RocksDB. The only file that names RocksDB's types.
//!
//! RocksDB keeps no log of its own here: the journal above is the commit point and replays what the memtables lose in
//! a crash. One column family holds everything, so one flush is one atomic step and what a crash leaves is a prefix of
//! what was applied. The options are one table in docs/format-journal.md, "Metadata table".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions, LogLevel, Options, ReadOptions, Snapshot,
    WriteBatch, WriteBufferManager, WriteOptions, properties,
};

use super::batch::Write;
use super::fs::{self, EntryKind, FileSystem, OpenMode};
use super::home::{DIRECTORY, TableHome};
use super::table::Table;
use super::{Batch, Direction, KeyRange, StorageError, View, Visit};

/// Where the last applied sequence number is kept. Family 0 is the table's own: no row of the engine begins with it.
const APPLIED_KEY: &[u8] = b"\0applied";

/// Below this many keys a lookup each is faster than RocksDB's batched one, which sorts and groups first.
const BATCHED_KEYS_MIN: usize = 4;

/// Tells RocksDB's cache to fit its own table to the entries that come, whose lengths vary.
const ENTRY_CHARGE_UNKNOWN: usize = 0;

/// Settings of a [`RocksTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct RocksOptions {
    memory_bytes: u64,
    open_files_max: u32,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, open_files_max: 1024 }
    }
}

impl RocksOptions {
    /// Memory for cached blocks, filters and unflushed rows together; 128 MiB by default, at least 8 MiB. More makes
    /// cold reads rarer and compactions fewer.
    pub fn with_memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How many files the table keeps open; 1,024 by default.
    pub fn with_open_files_max(mut self, files: u32) -> Self {
        self.open_files_max = files;
        self
    }

    fn to_rocksdb(self) -> Options {
        let memory = usize::try_from(self.memory_bytes.max(8 << 20)).unwrap_or(usize::MAX);
        // RocksDB's LRU cache would cut itself into shards of 2 MiB. Filters and indexes are blocks of up to half a MiB
        // each, and wherever a few of them met in one shard every read loaded one of them anew.
        let cache = Cache::new_hyper_clock_cache(memory, ENTRY_CHARGE_UNKNOWN);
        // The memtables are charged to the cache, so that both together stay within the budget. Three eighths for
        // them, in three parts: one filling, one being flushed, one to spare.
        let memtables = memory / 8 * 3;

        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_whole_key_filtering(true);
        // Filters and indexes count against the budget, too; those of new files are asked for most.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);

        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
            memtables,
            false,
            cache.clone(),
        ));
        options.set_write_buffer_size(memtables / 3);
        options.set_max_write_buffer_number(6);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.05);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_level_compaction_dynamic_level_bytes(true);
        // A group that waits here is durable already: let compaction catch up rather than hold commits back.
        options.set_level_zero_slowdown_writes_trigger(40);
        options.set_level_zero_stop_writes_trigger(64);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);

        // Manifests and small layers would be copied by every compaction of the rows around them.
        options.set_enable_blob_files(true);
        options.set_min_blob_size(4096);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_enable_blob_gc(true);
        options.set_blob_cache(&cache);

        options.set_paranoid_checks(true);
        // Nothing is ever written to RocksDB's log. Should one turn up, it is not to be trusted silently.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_open_files(i32::try_from(self.open_files_max).unwrap_or(i32::MAX));
        options.set_max_manifest_file_size(16 << 20);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options
    }
}

/// Opens the one column family by its name: RocksDB gives out no handle for what was not named.
fn open(options: &Options, path: &Path) -> Result<DB, rocksdb::Error> {
    let rows = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
    DB::open_cf_descriptors(options, path, [rows])
}

/// A [`Table`] in a RocksDB database. Its directory is its own; nothing else may live there.
pub struct RocksTable {
    db: DB,
    path: PathBuf,
    read: ReadOptions,
    write: WriteOptions,
}

impl RocksTable {
    /// Makes a new table in `path`, a directory on this machine that is made if it is absent.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] when there is a table already.
    pub fn create(path: &Path, options: RocksOptions) -> Result<Self, StorageError> {
        let mut rocksdb = options.to_rocksdb();
        rocksdb.create_if_missing(true);
        rocksdb.set_error_if_exists(true);
        match open(&rocksdb, path) {
            Ok(db) => Ok(Self::new(db, path)),
            Err(e) if e.kind() == ErrorKind::InvalidArgument && e.as_ref().contains("exists") => {
                Err(StorageError::NotEmpty { path: path.to_owned() })
            }
            Err(e) => Err(storage_error("create the table", path, &e)),
        }
    }

    /// Opens the table in `path`, and never makes one.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when it is damaged or not there, [`StorageError::Locked`] when it is open elsewhere.
    pub fn open(path: &Path, options: RocksOptions) -> Result<Self, StorageError> {
        let mut rocksdb = options.to_rocksdb();
        rocksdb.create_if_missing(false);
        match open(&rocksdb, path) {
            Ok(db) => Ok(Self::new(db, path)),
            Err(e) => Err(open_error(path, &e)),
        }
    }

    /// Opens the table in `path` for reads alone. No file in `path` is made, changed or removed, whatever state they are
    /// in, and no lock is taken.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when it is damaged or not there.
    pub fn open_read_only(path: &Path, options: RocksOptions) -> Result<Self, StorageError> {
        let mut rocksdb = options.to_rocksdb();
        rocksdb.create_if_missing(false);
        let rows = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, rocksdb.clone());
        match DB::open_cf_descriptors_read_only(&rocksdb, path, [rows], false) {
            Ok(db) => Ok(Self::new(db, path)),
            Err(e) => Err(open_error(path, &e)),
        }
    }

    fn new(db: DB, path: &Path) -> Self {
        let mut write = WriteOptions::new();
        write.disable_wal(true);
        Self { db, path: path.to_owned(), read: read_options(), write }
    }

    fn rows(&self) -> Result<&ColumnFamily, StorageError> {
        self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).ok_or_else(|| StorageError::corrupt("the table has no rows"))
    }

    fn get_many_with(&self, keys: &[&[u8]], read: &ReadOptions) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let value = |found: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>| match found {
            Ok(found) => Ok(found.map(|value| value.to_vec())),
            Err(e) => Err(self.error("read a row", &e)),
        };
        if keys.len() < BATCHED_KEYS_MIN {
            return keys.iter().map(|key| value(self.db.get_pinned_opt(key, read))).collect();
        }
        let found = self.db.batched_multi_get_cf_opt(self.rows()?, keys.iter().copied(), keys.is_sorted(), read);
        found.into_iter().map(value).collect()
    }

    fn error(&self, operation: &'static str, error: &rocksdb::Error) -> StorageError {
        storage_error(operation, &self.path, error)
    }
}

impl Table for RocksTable {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        let snapshot = self.db.snapshot();
        let mut read = read_options();
        read.set_snapshot(&snapshot);
        Ok(Box::new(RocksView { table: self, read, snapshot }))
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.get_many_with(keys, &self.read)
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        let bytes = batches.iter().map(|batch| batch.as_bytes().len()).sum();
        let mut writes = WriteBatch::with_capacity_bytes(bytes);
        for write in batches.iter().flat_map(|batch| batch.iter()) {
            match write {
                Write::Put { key, value } => writes.put(key, value),
                Write::Delete { key } => writes.delete(key),
            }
        }
        if let Some(sequence) = sequence {
            writes.put(APPLIED_KEY, sequence.to_be_bytes());
        }
        self.db.write_opt(writes, &self.write).map_err(|e| self.error("apply a group", &e))
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        match self.db.get_pinned_opt(APPLIED_KEY, &self.read).map_err(|e| self.error("read a row", &e))? {
            None => Ok(0),
            Some(value) => match value.first_chunk() {
                Some(sequence) if value.len() == 8 => Ok(u64::from_be_bytes(*sequence)),
                _ => Err(StorageError::corrupt("the row of the applied sequence")),
            },
        }
    }

    fn is_stalled(&self) -> bool {
        // A property that cannot be read says nothing, and the write itself will tell.
        self.db.property_int_value(properties::IS_WRITE_STOPPED).is_ok_and(|stopped| stopped == Some(1))
    }

    fn flush(&self) -> Result<(), StorageError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cf_opt(self.rows()?, &options).map_err(|e| self.error("flush the table", &e))
    }
}

impl std::fmt::Debug for RocksTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksTable").field("path", &self.path).finish_non_exhaustive()
    }
}

struct RocksView<'a> {
    table: &'a RocksTable,
    // Names the snapshot, which therefore lives as long.
    read: ReadOptions,
    snapshot: Snapshot<'a>,
}

impl View for RocksView<'_> {
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.table.get_many_with(keys, &self.read)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut read = read_options();
        read.set_iterate_lower_bound(range.start.as_slice());
        read.set_iterate_upper_bound(range.end.as_slice());
        let mut rows = self.snapshot.raw_iterator_opt(read);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Backward => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            // An applied sequence inside the range is the table's own affair.
            if key != APPLIED_KEY && visit(key, value).is_break() {
                return Ok(());
            }
            match direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.prev(),
            }
        }
        // An iterator that met an error looks like one at its end.
        rows.status().map_err(|e| self.table.error("scan rows", &e))
    }
}

fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}

/// The table of a store on this machine, in the directory `table` below its root.
#[derive(Debug)]
pub struct RocksHome {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    options: RocksOptions,
}

impl RocksHome {
    /// The table below the root of `fs`; `None` where that is no directory of this machine.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>, options: RocksOptions) -> Option<Self> {
        let path = fs.native_root()?.join(DIRECTORY);
        Some(Self { fs, path, options })
    }

    /// The names of the table's files.
    fn files(&self) -> Result<Vec<String>, StorageError> {
        let entries = match self.fs.list(Path::new(DIRECTORY)) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
            Err(e) => return Err(StorageError::io("list", DIRECTORY, e)),
        };
        Ok(entries.into_iter().filter(|entry| entry.kind == EntryKind::File).map(|entry| entry.name).collect())
    }

    /// The MANIFEST that CURRENT names, if it is among `files`.
    fn named_manifest(&self, files: &[String]) -> Option<String> {
        let mut bytes = [0; 64];
        let current = self.fs.open(Path::new(CURRENT), OpenMode::Read);
        let read = current.and_then(|file| file.read_at(&mut bytes, 0)).unwrap_or(0);
        let named = bytes.get(..read).and_then(|name| name.strip_suffix(b"\n"));
        files.iter().find(|file| is_manifest(file) && Some(file.as_bytes()) == named).cloned()
    }

    /// The one MANIFEST there is, where CURRENT names none.
    fn unnamed_manifest(&self) -> Result<Option<String>, StorageError> {
        let files = self.files()?;
        if self.named_manifest(&files).is_some() {
            return Ok(None);
        }
        let mut manifests = files.into_iter().filter(|file| is_manifest(file));
        Ok(manifests.next().filter(|_| manifests.next().is_none()))
    }

    /// Refuses a MANIFEST over which RocksDB would never come to an end: behind a record of a kind that only a log has which
    /// is used again, its reader stays where it is. Nothing else about the file is judged here.
    fn check_manifest(&self) -> Result<(), StorageError> {
        let Some(manifest) = self.named_manifest(&self.files()?) else { return Ok(()) };
        let path = Path::new(DIRECTORY).join(&manifest);
        let io = |e| StorageError::io("read", &path, e);
        let file = self.fs.open(&path, OpenMode::Read).map_err(io)?;
        let len = file.len().map_err(io)?;
        let mut block = Vec::new();
        for at in (0..len).step_by(LOG_BLOCK_LEN) {
            block.resize(usize::try_from(len - at).map_or(LOG_BLOCK_LEN, |left| left.min(LOG_BLOCK_LEN)), 0);
            file.read_exact_at(&mut block, at).map_err(io)?;
            if let Some(kind) = kinds_of_records(&block).find(|kind| is_of_a_used_log(*kind)) {
                return Err(StorageError::corrupt(format!("{manifest} has a record of kind {kind}")));
            }
        }
        Ok(())
    }
}

/// Length of the blocks of RocksDB's logs, of which a MANIFEST is one, and of the header of a record: a checksum of 4 bytes, a
/// length of 2 and a kind.
const LOG_BLOCK_LEN: usize = 32 << 10;
const LOG_HEADER_LEN: usize = 7;

/// The kinds of the records in a block, up to where a reader passes over the rest of it.
fn kinds_of_records(block: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = block;
    std::iter::from_fn(move || {
        let [_, _, _, _, low, high, kind] = *rest.first_chunk::<LOG_HEADER_LEN>()?;
        let len = usize::from(u16::from_le_bytes([low, high]));
        rest = if (kind, len) == (0, 0) { &[] } else { rest.get(LOG_HEADER_LEN + len..).unwrap_or_default() };
        Some(kind)
    })
}

/// Records of logs whose files are used again (RocksDB's `kRecyclable...`), as no log here is.
fn is_of_a_used_log(kind: u8) -> bool {
    matches!(kind, 5..=8 | 11 | 131)
}

/// The file that names the table's MANIFEST, below the root of the store.
const CURRENT: &str = "table/CURRENT";

fn is_manifest(name: &str) -> bool {
    name.strip_prefix("MANIFEST-")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl TableHome for RocksHome {
    fn create(&self) -> Result<Box<dyn Table>, StorageError> {
        Ok(Box::new(RocksTable::create(&self.path, self.options)?))
    }

    fn open(&self) -> Result<Box<dyn Table>, StorageError> {
        self.check_manifest()?;
        Ok(Box::new(RocksTable::open(&self.path, self.options)?))
    }

    fn open_read_only(&self) -> Result<Box<dyn Table>, StorageError> {
        self.check_manifest()?;
        Ok(Box::new(RocksTable::open_read_only(&self.path, self.options)?))
    }

    fn copy_aside(&self, aside: &Path) -> Result<(), StorageError> {
        let kept = aside.join(DIRECTORY);
        fs::make_dir(&*self.fs, &kept).map_err(|e| StorageError::io("create directory", &kept, e))?;
        for name in self.files()? {
            let (from, to) = (Path::new(DIRECTORY).join(&name), kept.join(&name));
            // RocksDB writes these once and never again, so that one file may have both names.
            let linked = if name.ends_with(".sst") || name.ends_with(".blob") {
                self.fs.hard_link(&from, &to).map_or_else(|e| e.kind() == io::ErrorKind::AlreadyExists, |()| true)
            } else {
                name == "LOCK" || name.starts_with("LOG")
            };
            if !linked {
                fs::copy_file(&*self.fs, &from, &to).map_err(|e| StorageError::io("copy", from, e))?;
            }
        }
        self.fs.sync_dir(&kept).map_err(|e| StorageError::io("sync", kept, e))
    }

    fn set_aside(&self, aside: &Path) -> Result<(), StorageError> {
        let (from, to) = (Path::new(DIRECTORY), aside.join(DIRECTORY));
        match self.fs.rename_noreplace(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                for name in self.files()? {
                    let path = from.join(name);
                    self.fs.remove_file(&path).map_err(|e| StorageError::io("remove", path, e))?;
                }
                return self.fs.sync_dir(from).map_err(|e| StorageError::io("sync", from, e));
            }
            Err(e) => return Err(StorageError::io("set aside", from, e)),
            Ok(()) => {}
        }
        self.fs.sync_dir(aside).map_err(|e| StorageError::io("sync", aside, e))?;
        self.fs.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync", "", e))
    }

    fn mendable(&self) -> Result<bool, StorageError> {
        Ok(self.unnamed_manifest()?.is_some())
    }

    fn mend(&self, aside: &Path) -> Result<(), StorageError> {
        let Some(manifest) = self.unnamed_manifest()? else { return Ok(()) };
        let current = Path::new(CURRENT);
        let made = Path::new(DIRECTORY).join("000000.dbtmp");
        let mend = || {
            if fs::exists(&*self.fs, current)? {
                fs::copy_file(&*self.fs, current, &aside.join("CURRENT"))?;
            }
            fs::remove_if_there(&*self.fs, &made)?;
            let file = self.fs.create_new(&made)?;
            file.write_all_at(format!("{manifest}\n").as_bytes(), 0)?;
            file.sync_data()?;
            self.fs.rename_replace(&made, current)?;
            self.fs.sync_dir(Path::new(DIRECTORY))?;
            self.fs.sync_dir(aside)
        };
        mend().map_err(|e| StorageError::io("mend", current, e))
    }
}

/// What keeps a table from being opened. Whatever is not the medium's refusal is damage: nothing but this program made
/// these files.
fn open_error(path: &Path, error: &rocksdb::Error) -> StorageError {
    match storage_error("open the table", path, error) {
        // Without its file CURRENT RocksDB takes a database for none.
        StorageError::Table { .. } if error.as_ref().contains("does not exist") => {
            StorageError::corrupt(format!("the metadata table has no file {}", path.join("CURRENT").display()))
        }
        StorageError::Table { message, .. } => StorageError::corrupt(message),
        error => error,
    }
}

/// Whether RocksDB's own lock file is another's. That it could not be opened says nothing of who holds it.
fn is_held(message: &str) -> bool {
    ["lock hold by current process", "While lock file"].iter().any(|words| message.contains(words))
}

fn is_no_space(message: &str) -> bool {
    ["No space left", "Disk quota exceeded", "File too large"].iter().any(|words| message.contains(words))
}

/// What the system said where the binding itself met it: it makes the directory, whether there is one or not.
fn system_error(message: &str) -> Option<io::Error> {
    let (_, rest) = message.strip_prefix("Failed to create RocksDB directory")?.split_once("code: ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(io::Error::from_raw_os_error)
}

fn storage_error(operation: &'static str, path: &Path, error: &rocksdb::Error) -> StorageError {
    let message = error.as_ref();
    if let Some(source) = system_error(message) {
        return StorageError::io(operation, path, source);
    }
    let kind = match error.kind() {
        // While it opens RocksDB gives what the system said of a file under another name.
        ErrorKind::InvalidArgument if message.contains("IO error: ") => ErrorKind::IOError,
        // So it explains a file that did not open and did the next moment.
        ErrorKind::InvalidArgument if message.contains("Direct I/O is not supported") => ErrorKind::TryAgain,
        kind => kind,
    };
    match kind {
        ErrorKind::Corruption => StorageError::corrupt(message),
        ErrorKind::IOError if is_held(message) => StorageError::Locked { holder: message.to_owned() },
        ErrorKind::IOError if is_no_space(message) => {
            let source = io::Error::new(io::ErrorKind::StorageFull, message);
            StorageError::NoSpace { operation, path: path.to_owned(), source }
        }
        ErrorKind::IOError if message.contains("Too many open files") => {
            let source = io::Error::other(message.to_owned());
            StorageError::NoDescriptors { operation, path: path.to_owned(), source }
        }
        ErrorKind::IOError if message.contains("Read-only file system") => {
            StorageError::ReadOnly { reason: format!("the medium is read-only operation={operation}") }
        }
        // A file that RocksDB's own lists name and that is gone.
        ErrorKind::IOError if message.contains("No such file or directory") => StorageError::corrupt(message),
        ErrorKind::IOError => {
            StorageError::Io { operation, path: path.to_owned(), source: io::Error::other(message.to_owned()) }
        }
        ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::TryAgain | ErrorKind::Incomplete => {
            StorageError::Unavailable { what: "the metadata table", waited_ms: 0 }
        }
        _ => StorageError::Table { operation, message: message.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_binding_met_is_an_error_of_the_system() {
        let message =
            "Failed to create RocksDB directory: `Os { code: 28, kind: StorageFull, message: \"No space\" }`.";
        assert_eq!(system_error(message).map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
        for other in ["Corruption: code: 28", "Failed to create RocksDB directory: `Custom`.", ""] {
            assert!(system_error(other).is_none(), "{other}");
        }
    }
}
