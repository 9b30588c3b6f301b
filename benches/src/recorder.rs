//! A metadata store that remembers what was committed to it, so that a yardstick can write the very same rows.

use std::path::Path;
use std::sync::Arc;

use layerhold::format::keys;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::real::RealFileSystem;
use layerhold::store::rocks::{RocksOptions, RocksTable};
use layerhold::store::table::Table;
use layerhold::store::{
    Batch, CommitError, Durability, LockMode, LockSet, Member, MetadataStore, Milestone, StorageError, Values, View,
};
use layerhold::{Components, Engine, Options, Repository};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::store::{directory, repository};

/// Passes everything on and keeps a copy of each batch.
pub struct Recorder {
    store: Journaled<RocksTable>,
    batches: Mutex<Vec<Batch>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// An engine over a recorder, set as the engine sets its own stores.
#[derive(Debug)]
pub struct Recorded {
    /// The repository that the bench works in.
    pub repository: Repository,
    /// The engine.
    pub engine: Engine,
    /// What is recorded.
    pub recorder: Arc<Recorder>,
    dir: TempDir,
}

impl Recorded {
    /// Makes a store below `place`.
    #[must_use]
    pub fn create(place: &str, options: Options, components: Components) -> Self {
        let dir = directory(place);
        let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem::new(dir.path().to_owned()).unwrap());
        let rocks = RocksOptions::default().with_memory_bytes(options.memory_bytes);
        let table = RocksTable::create(&dir.path().join("table"), rocks).unwrap();
        let journal = JournaledOptions::default()
            .with_segment_bytes(options.journal_segment_bytes)
            .with_unguarded(|key| !keys::is_guard(key));
        let store = Journaled::create(Arc::clone(&fs), table, *b"a store to bench", journal).unwrap();
        let recorder = Arc::new(Recorder { store, batches: Mutex::default() });
        let blobs = Arc::new(LocalBlobStore::create(fs).unwrap());
        let metadata: Arc<dyn MetadataStore> = recorder.clone();
        let stores = layerhold::Stores { metadata, blobs };
        let engine = Engine::create_with(stores, options, components).unwrap();
        Self { repository: repository(&engine), engine, recorder, dir }
    }

    /// The directory of RocksDB, as the engine set it up.
    #[must_use]
    pub fn table_path(&self) -> std::path::PathBuf {
        self.dir.path().join("table")
    }

    /// The directory that holds the store.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Recorder {
    /// Everything committed since the last call, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.batches.lock())
    }

    /// Moves all rows from memory to files.
    pub fn flush(&self) {
        self.store.table().flush().unwrap();
    }
}

impl MetadataStore for Recorder {
    fn lock_and_get(&self, rows: &[(&[u8], LockMode)]) -> Result<LockSet, StorageError> {
        self.store.lock_and_get(rows)
    }

    fn peek(&self, keys: &[&[u8]]) -> Result<Values, StorageError> {
        self.store.peek(keys)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        self.store.view()
    }

    fn commit(
        &self,
        group: &[Member],
        last_sequence: u64,
        durability: Durability,
        reached: &mut dyn FnMut(Milestone),
    ) -> Result<(), CommitError> {
        self.batches.lock().extend(group.iter().map(|member| Batch::clone(&member.batch)));
        self.store.commit(group, last_sequence, durability, reached)
    }

    fn recovered_sequence(&self) -> u64 {
        self.store.recovered_sequence()
    }

    fn maintain(&self) -> Result<(), StorageError> {
        self.store.maintain()
    }
}
