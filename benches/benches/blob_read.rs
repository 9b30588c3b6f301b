//! Reading blobs, verified: a large layer from beginning to end beside a plain read with BLAKE3 over the buffer, the same
//! inside a verified window beside a plain read, ranges of several lengths by group length, and small blobs as rows beside
//! small blobs as files.
//!
//! Files are in the page cache, rows in memory: what is measured is the engine, not the disk.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::cell::RefCell;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use layerhold::blob::fingerprint::GroupLen;
use layerhold::{BlobReader, Options};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::{Numbers, Pool, bytes};
use layerhold_benches::took::Took;
use layerhold_benches::{quick, store};

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// A store with one large layer, and both ways to its bytes.
struct Read {
    reader: BlobReader,
    file: File,
    len: u64,
    /// Goes last.
    _store: store::Store,
}

impl Read {
    fn new(pool: &Pool, len: u64, options: Options) -> Self {
        let store = store::Store::create(PLACE, options);
        let digest = store::push(&store.repository, &pool.layer(len)).digest;
        let reader = store.repository.blob(&digest).unwrap();
        let file = File::open(store.blob_file()).unwrap();
        Self { reader, file, len, _store: store }
    }

    fn offsets(&self, step: usize) -> impl Iterator<Item = u64> {
        (0..self.len).step_by(step)
    }

    /// `count` ranges of `len` bytes anywhere.
    fn ranges(&self, count: u64, len: usize) -> impl Iterator<Item = u64> {
        let mut numbers = Numbers::new(1);
        let bound = self.len - len as u64;
        (0..count).map(move |_| numbers.below(bound))
    }

    fn engine(&self, offsets: impl Iterator<Item = u64>, buf: &mut [u8]) {
        offsets.for_each(|offset| assert_eq!(self.reader.read_at(offset, buf).unwrap(), buf.len()));
        black_box(buf);
    }

    /// The same reads, each hashed by itself or all as one.
    fn plain(&self, offsets: impl Iterator<Item = u64>, buf: &mut [u8], whole: bool) {
        let mut hasher = blake3::Hasher::new();
        for offset in offsets {
            self.file.read_exact_at(buf, offset).unwrap();
            hasher.update(buf);
            if !whole {
                black_box(hasher.finalize());
                hasher.reset();
            }
        }
        black_box(hasher.finalize());
    }
}

/// Where both sides read to: of two buffers one may lie better in memory than the other, for a tenth of the time.
fn buffer(len: usize) -> RefCell<Vec<u8>> {
    RefCell::new(vec![0; len])
}

fn whole(table: &mut Table, group: &mut BenchmarkGroup<'_, WallTime>, read: &Read, row: Row) {
    let buf = buffer(1 << 20);
    table.compare(
        group,
        row,
        |iterations| {
            let mut buf = buf.borrow_mut();
            Took::by(|| (0..iterations).for_each(|_| read.engine(read.offsets(buf.len()), &mut buf)))
        },
        |iterations| {
            let mut buf = buf.borrow_mut();
            Took::by(|| (0..iterations).for_each(|_| read.plain(read.offsets(buf.len()), &mut buf, true)))
        },
    );
}

fn ranges(table: &mut Table, group: &mut BenchmarkGroup<'_, WallTime>, pool: &Pool, len: u64) {
    for group_kib in [16, 32, 64, 128, 256] {
        let options = Options::default().with_group_len(GroupLen::new(group_kib << 10).unwrap());
        let read = Read::new(pool, len, options);
        let row = Row {
            name: format!("all of {} MiB, groups of {group_kib} KiB", len >> 20),
            work: Throughput::Bytes(len),
            target: Target::Reported,
        };
        whole(table, group, &read, row);
        for range_bytes in [4 << 10, 64 << 10, 1 << 20] {
            let buf = buffer(range_bytes);
            let row = Row {
                name: format!("ranges of {} KiB, groups of {group_kib} KiB", range_bytes >> 10),
                work: Throughput::Bytes(range_bytes as u64),
                target: Target::Reported,
            };
            table.compare(
                group,
                row,
                |iterations| Took::by(|| read.engine(read.ranges(iterations, range_bytes), &mut buf.borrow_mut())),
                |iterations| {
                    Took::by(|| read.plain(read.ranges(iterations, range_bytes), &mut buf.borrow_mut(), false))
                },
            );
        }
    }
}

/// The whole layer within a verified window, beside a plain read of its file.
fn window(table: &mut Table, group: &mut BenchmarkGroup<'_, WallTime>, pool: &Pool, len: u64) {
    let read = Read::new(pool, len, Options::default().with_verified_window_ms(u64::MAX));
    let buf = buffer(1 << 20);
    let row = Row {
        name: format!("read {} MiB inside a verified window, by 1 MiB", len >> 20),
        work: Throughput::Bytes(len),
        target: Target::SpeedAtLeast(0.95),
    };
    table.compare(
        group,
        row,
        |iterations| {
            let mut buf = buf.borrow_mut();
            Took::by(|| (0..iterations).for_each(|_| read.engine(read.offsets(buf.len()), &mut buf)))
        },
        |iterations| {
            let mut buf = buf.borrow_mut();
            Took::by(|| {
                for _ in 0..iterations {
                    read.offsets(buf.len()).for_each(|offset| read.file.read_exact_at(&mut buf, offset).unwrap());
                    black_box(&mut *buf);
                }
            })
        },
    );
}

/// Small blobs, put durably and read, as rows beside files.
fn inline(table: &mut Table, group: &mut BenchmarkGroup<'_, WallTime>) {
    for kib in [4, 16, 64, 256] {
        let rows = store::Store::create(PLACE, Options::default().with_inline_blob_bytes_max(1 << 20));
        let files = store::Store::create(PLACE, Options::default().with_inline_blob_bytes_max(0));
        let mut content = bytes(kib, usize::try_from(kib << 10).unwrap());
        let mut number = 0u64;
        let mut put = |iterations, store: &store::Store| {
            (0..iterations).fold(Took::default(), |sum, _| {
                number += 1;
                content[..8].copy_from_slice(&number.to_be_bytes());
                sum.and(Took::by(|| _ = black_box(store::put(&store.repository, &content))))
            })
        };
        let put = RefCell::new(&mut put);
        let row = |name: String, work| Row { name, work, target: Target::Reported };
        table.compare(
            group,
            row(format!("put {kib} KiB, as a row beside a file"), Throughput::Elements(1)),
            |iterations| put.borrow_mut()(iterations, &rows),
            |iterations| put.borrow_mut()(iterations, &files),
        );
        let content = bytes(kib + 1, usize::try_from(kib << 10).unwrap());
        let digest = store::put(&rows.repository, &content);
        assert_eq!(digest, store::put(&files.repository, &content));
        // Large rows of a table at rest are in files of RocksDB's own; those of a young one are in memory.
        rows.engine.maintain().unwrap();
        let get = |iterations, store: &store::Store| {
            let mut buf = vec![0; content.len()];
            Took::by(|| {
                (0..iterations).for_each(|_| {
                    let reader = store.repository.blob(&digest).unwrap();
                    assert_eq!(reader.read_at(0, &mut buf).unwrap(), content.len());
                });
            })
        };
        table.compare(
            group,
            row(format!("open and read {kib} KiB, as a row beside a file"), Throughput::Elements(1)),
            |iterations| get(iterations, &rows),
            |iterations| get(iterations, &files),
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let pool = Pool::new(64, 1 << 20);
    let len = if quick() { 8 << 20 } else { 512 << 20 };
    let mut group = criterion.benchmark_group("blob_read");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(5));
    let row = Row {
        name: format!("read {} MiB, verified, by 1 MiB", len >> 20),
        work: Throughput::Bytes(len),
        target: Target::SpeedAtLeast(0.90),
    };
    whole(&mut table, &mut group, &Read::new(&pool, len, Options::default()), row);
    window(&mut table, &mut group, &pool, len);
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    ranges(&mut table, &mut group, &pool, len / 4);
    inline(&mut table, &mut group);
    group.finish();
    criterion.final_summary();
    table.print();
}
