//! RocksDB alone, with its own log, opened with the options of the engine's table.

use std::path::Path;

use layerhold::Digest;
use layerhold::store::Batch;
use layerhold::store::batch::Write;
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, Env, FlushOptions, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use tempfile::TempDir;

use crate::store::directory;
use crate::took::Took;

/// The key of the row of a family that ends in a digest, out of what was written.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn key_of(batches: &[Batch], family: u8, digest: &Digest) -> Vec<u8> {
    let keys = batches.iter().flat_map(Batch::iter).filter_map(|write| match write {
        Write::Put { key, .. } => Some(key),
        Write::Delete { .. } => None,
    });
    keys.into_iter().find(|key| key[0] == family && key.ends_with(digest.as_bytes())).unwrap().to_vec()
}

/// Opens the database in `path` with the options that it was made with; gives what the opening took.
#[must_use]
pub fn open(path: &Path, memory_bytes: u64) -> Took {
    let (options, families) = options(path, memory_bytes);
    let mut db = None;
    let took = Took::by(|| db = Some(DB::open_cf_descriptors(&options, path, families).unwrap()));
    drop(db);
    took
}

/// The options that RocksDB wrote down for a table, with a block cache of the same size and kind.
fn options(table: &Path, memory_bytes: u64) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let cache = Cache::new_hyper_clock_cache(usize::try_from(memory_bytes).unwrap(), 0);
    let (mut options, families) = Options::load_latest(table, Env::new().unwrap(), false, cache).unwrap();
    options.set_error_if_exists(false);
    (options, families)
}

/// Where the engine's table keeps the last sequence; it is written with every batch.
const APPLIED_KEY: &[u8] = b"\0applied";

/// A database that goes when the value does.
pub struct Raw {
    db: DB,
    synced: WriteOptions,
    read: ReadOptions,
    _dir: TempDir,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("db", &self.db).finish_non_exhaustive()
    }
}

impl Raw {
    /// Makes a database below `place` with the options that RocksDB wrote down for the engine's `table`, and with a
    /// block cache of the same size and kind.
    #[must_use]
    pub fn like(table: &Path, place: &str, memory_bytes: u64) -> Self {
        let dir = directory(place);
        let (mut options, families) = options(table, memory_bytes);
        options.create_if_missing(true);
        let db = DB::open_cf_descriptors(&options, dir.path(), families).unwrap();
        let mut synced = WriteOptions::new();
        synced.set_sync(true);
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        Self { db, synced, read, _dir: dir }
    }

    /// Writes one batch and syncs the log.
    pub fn write<'a>(&self, rows: impl Iterator<Item = (&'a [u8], &'a [u8])>, sequence: u64) {
        let mut batch = WriteBatch::with_capacity_bytes(16 << 10);
        rows.for_each(|(key, value)| batch.put(key, value));
        batch.put(APPLIED_KEY, sequence.to_be_bytes());
        self.db.write_opt(batch, &self.synced).unwrap();
    }

    /// Writes what was recorded elsewhere, without a sync, and moves all rows from memory to files.
    pub fn replay(&self, batches: &[Batch]) {
        for write in batches.iter().flat_map(Batch::iter) {
            match write {
                Write::Put { key, value } => self.db.put(key, value).unwrap(),
                Write::Delete { key } => self.db.delete(key).unwrap(),
            }
        }
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).unwrap();
    }

    /// Reads rows in one batched call; gives how many were found.
    #[must_use]
    pub fn read(&self, keys: &[Vec<u8>]) -> usize {
        let found = self.db.batched_multi_get_cf_opt(self.rows(), keys, false, &self.read);
        found.into_iter().filter(|row| row.as_ref().unwrap().is_some()).count()
    }

    /// Reads all rows in order; gives how many there are.
    #[must_use]
    pub fn scan(&self) -> u64 {
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        let mut rows = self.db.raw_iterator_opt(read);
        rows.seek_to_first();
        let mut count = 0;
        while let Some((key, value)) = rows.item() {
            std::hint::black_box((key, value));
            count += 1;
            rows.next();
        }
        rows.status().unwrap();
        count
    }

    fn rows(&self) -> &ColumnFamily {
        self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).unwrap()
    }
}
