//! Opening a store beside opening its RocksDB alone: after it was closed, and after its process was killed.
//!
//! What a kill leaves is the journal since the last flush of the table: at most a few segments, whatever the store's
//! size. Here it is all images that were put.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use layerhold::{Call, Engine, Options};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::image::{base, image};
use layerhold_benches::took::Took;
use layerhold_benches::{quick, raw, store};

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// A copy of a store's files as they are at this moment, which is what a kill of its process would leave. It is on the
/// disk, so that no sync while the store is opened has to write it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
            std::fs::File::open(&to).unwrap().sync_all().unwrap();
        }
    }
}

/// Without a ballast: the copies have none, and the first opening would make it.
fn options() -> Options {
    Options::default().with_ballast_bytes(0)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let mut group = criterion.benchmark_group("reopen");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(2));
    let images = if quick() { 20 } else { 5_000 };
    let store = store::Store::create(PLACE, options());
    let base = base(&store.repository);
    for number in 0..images {
        let image = image(&store.repository, &base, number);
        store.repository.put_manifest(&image.put, &Call::anonymous()).unwrap();
    }
    let killed = store::directory(PLACE);
    copy(&store.path(), &killed.path().join("store"));
    store.engine.close().unwrap();
    let closed = store::directory(PLACE);
    copy(&store.path(), &closed.path().join("store"));
    for (name, files) in [("closed", closed.path()), ("killed", killed.path())] {
        let rounds = |open: fn(&Path) -> Took| {
            move |iterations| {
                (0..iterations).fold(Took::default(), |sum, _| {
                    let directory = store::directory(PLACE);
                    let path = directory.path().join("store");
                    copy(&files.join("store"), &path);
                    sum.and(open(&path))
                })
            }
        };
        let row = Row {
            name: format!("open after {images} images, {name}"),
            work: Throughput::Elements(1),
            target: Target::Reported,
        };
        table.compare(
            &mut group,
            row,
            rounds(|path| {
                let mut engine = None;
                let took = Took::by(|| engine = Some(Engine::open(path, options()).unwrap()));
                drop(engine);
                took
            }),
            rounds(|path| raw::open(&path.join("table"), Options::default().memory_bytes)),
        );
    }
    group.finish();
    criterion.final_summary();
    table.print();
}
