//! Holds both metadata stores to the contract, and checks that the check itself counts and notices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test panics where something is wrong"
)]

use std::sync::Arc;

use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::mem::MemTable;
use layerhold::store::{Batch, Direction, Durability, KeyRange, LockMode, Member, MetadataStore};
use layerhold_testkit::contract::counting::CountingMetadataStore;
use layerhold_testkit::contract::metadata::{LOCK_WAIT_MS, Subject, check};
use layerhold_testkit::fs::{CrashPolicy, SimFileSystem};

const STORE_ID: [u8; 16] = *b"a store for test";

fn options(segment_bytes: u64) -> JournaledOptions {
    JournaledOptions::default()
        .with_lock_wait_ms(LOCK_WAIT_MS)
        .with_segment_bytes(segment_bytes)
        .with_full_segments_max(2)
        .with_guard_checks(true)
}

/// Over memory. Reopening is a power cut that keeps nothing unsynced.
struct InMemory {
    segment_bytes: u64,
    fs: SimFileSystem,
    table: MemTable,
}

impl Subject for InMemory {
    fn create(&mut self) -> Arc<dyn MetadataStore> {
        self.fs = SimFileSystem::new(1);
        self.table = MemTable::new();
        let fs: Arc<dyn FileSystem> = Arc::new(self.fs.clone());
        Arc::new(Journaled::create(fs, self.table.clone(), STORE_ID, options(self.segment_bytes)).unwrap())
    }

    fn reopen(&mut self) -> Arc<dyn MetadataStore> {
        self.fs = self.fs.crash(CrashPolicy::DropUnsynced);
        self.table = self.table.crashed();
        let fs: Arc<dyn FileSystem> = Arc::new(self.fs.clone());
        Arc::new(Journaled::open(fs, self.table.clone(), STORE_ID, options(self.segment_bytes)).unwrap())
    }
}

#[test]
fn a_journaled_table_in_memory_keeps_the_contract() {
    for segment_bytes in [8 << 10, 64 << 10, 1 << 20] {
        check(&mut InMemory { segment_bytes, fs: SimFileSystem::new(1), table: MemTable::new() });
    }
}

#[cfg(feature = "rocksdb")]
mod on_rocksdb {
    use layerhold::store::real::RealFileSystem;
    use layerhold::store::rocks::{RocksOptions, RocksTable};
    use tempfile::TempDir;

    use super::*;

    /// Over a real directory. Reopening is a clean close without a flush.
    struct OnDisk {
        directory: TempDir,
    }

    impl OnDisk {
        fn fs(&self) -> Arc<dyn FileSystem> {
            Arc::new(RealFileSystem::new(self.directory.path().to_owned()).unwrap())
        }

        fn rocks(&self) -> std::path::PathBuf {
            self.directory.path().join("table")
        }
    }

    fn small() -> RocksOptions {
        RocksOptions::default().with_memory_bytes(8 << 20)
    }

    impl Subject for OnDisk {
        fn create(&mut self) -> Arc<dyn MetadataStore> {
            self.directory = tempfile::tempdir().unwrap();
            let table = RocksTable::create(&self.rocks(), small()).unwrap();
            Arc::new(Journaled::create(self.fs(), table, STORE_ID, options(64 << 10)).unwrap())
        }

        fn reopen(&mut self) -> Arc<dyn MetadataStore> {
            let table = RocksTable::open(&self.rocks(), small()).unwrap();
            Arc::new(Journaled::open(self.fs(), table, STORE_ID, options(64 << 10)).unwrap())
        }
    }

    #[test]
    fn a_journaled_table_on_rocksdb_keeps_the_contract() {
        check(&mut OnDisk { directory: tempfile::tempdir().unwrap() });
    }
}

#[test]
fn trips_are_counted() {
    let mut subject = InMemory { segment_bytes: 1 << 20, fs: SimFileSystem::new(1), table: MemTable::new() };
    let store = CountingMetadataStore::new(subject.create());
    let locks = store.lock_and_get(&[(b"a", LockMode::Exclusive)]).unwrap();
    drop(store.lock_and_get(&[]).unwrap());
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    store.commit(&[Member::new(locks, batch)], 1, Durability::Synced, &mut |_| ()).unwrap();
    let view = store.view().unwrap();
    view.get(b"a").unwrap();
    view.get_many(&[b"a", b"b"]).unwrap();
    let all = KeyRange { start: b"a".to_vec(), end: b"z".to_vec() };
    view.scan(&all, Direction::Forward, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
    let trips = store.take();
    assert_eq!((trips.locks, trips.reads, trips.scans, trips.commits, trips.total()), (1, 2, 1, 1, 5));
    assert_eq!(store.take().total(), 0);
}

#[test]
#[should_panic(expected = "a row is written that is not held exclusive key=b")]
fn a_write_without_its_lock_is_noticed() {
    let mut subject = InMemory { segment_bytes: 1 << 20, fs: SimFileSystem::new(1), table: MemTable::new() };
    let store = subject.create();
    let locks = store.lock_and_get(&[(b"a", LockMode::Exclusive), (b"b", LockMode::Shared)]).unwrap();
    let mut batch = Batch::new();
    batch.put(b"a", b"1");
    batch.put(b"b", b"1");
    let _ = store.commit(&[Member::new(locks, batch)], 1, Durability::Synced, &mut |_| ());
}
