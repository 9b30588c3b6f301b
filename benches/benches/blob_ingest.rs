//! Taking in a large layer through the engine, durably, beside the reference pipeline; alone and four at once.
//!
//! A layer comes as shared buffers whose bytes do not compress, of 1 MiB or, as from the server's sockets, of 256 KiB.
//! Each round has a new store and a new file, both on the disk of cargo's target directory; making and removing them is
//! not timed.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::path::Path;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use layerhold::Options;
use layerhold::store::real::RealFileSystem;
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::{Layer, Pool};
use layerhold_benches::took::{Stopwatch, Took};
use layerhold_benches::{pipeline, quick, store};

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

fn engine(layers: &[Layer]) -> Took {
    let store = store::Store::create(PLACE, Options::default());
    Took::together(layers.len(), |number| {
        let stopwatch = Stopwatch::start();
        store::push(&store.repository, &layers[number]);
        stopwatch.stop().busiest
    })
}

fn reference(layers: &[Layer]) -> Took {
    let directory = store::directory(PLACE);
    let fs = RealFileSystem::new(directory.path().to_owned()).unwrap();
    Took::together(layers.len(), |number| pipeline::ingest(&fs, Path::new(&format!("layer-{number}")), &layers[number]))
}

fn compare(table: &mut Table, group: &mut BenchmarkGroup<'_, WallTime>, piece_bytes: usize, streams: u64, bytes: u64) {
    let pool = Pool::new((64 << 20) / piece_bytes, piece_bytes);
    let rounds = |one: fn(&[Layer]) -> Took| {
        let pool = &pool;
        move |iterations| {
            (0..iterations).fold(Took::default(), |sum, _| {
                let layers: Vec<_> = (0..streams).map(|_| pool.layer(bytes)).collect();
                sum.and(one(&layers))
            })
        }
    };
    let row = Row {
        name: format!("{streams} at once, {} MiB each by {} KiB", bytes >> 20, piece_bytes >> 10),
        work: Throughput::Bytes(streams * bytes),
        target: Target::SpeedAtLeast(0.90),
    };
    table.compare(group, row, rounds(engine), rounds(reference));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let (one, four) = if quick() { (16 << 20, 8 << 20) } else { (512 << 20, 256 << 20) };
    let mut group = criterion.benchmark_group("blob_ingest");
    group.sampling_mode(SamplingMode::Flat).sample_size(12).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(10));
    compare(&mut table, &mut group, 1 << 20, 1, one);
    compare(&mut table, &mut group, 256 << 10, 1, one);
    compare(&mut table, &mut group, 256 << 10, 4, four);
    group.finish();
    criterion.final_summary();
    table.print();
}
