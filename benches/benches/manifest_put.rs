//! Putting images, each durable when it is acknowledged, beside one raw synced RocksDB batch for each.
//!
//! All images go to one repository. They share 12 base layers, which therefore are the rows that everybody locks; each
//! has a config, a layer and a tag of its own, whose blobs are pushed before the time runs. The yardstick writes the
//! rows that one such put was seen to write, with keys of their own for each batch, from the same number of threads,
//! into a RocksDB with the options of the engine's table and its own log synced for each batch. It reads nothing and
//! notices no loss of acknowledged batches.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use layerhold::store::batch::Write;
use layerhold::{Call, Components, Digest, Options};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::bytes;
use layerhold_benches::image::{Image, base, image};
use layerhold_benches::raw::Raw;
use layerhold_benches::recorder::Recorded;
use layerhold_benches::took::{Took, settle, thread_time};
use layerhold_benches::{quick, store};

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// How many images one iteration puts: enough that 32 threads have something to do, and that a change of the segment or a
/// flush falls into every round of both.
const PUTS: u64 = 512;

/// First bytes of the keys whose end is the commit's sequence, and of those that hold an operation id.
const SEQUENCED: [u8; 2] = [0x42, 0x50];
const OPERATION: u8 = 0x51;

/// The rows of one put, with the places that differ from put to put.
#[derive(Clone)]
struct Template {
    rows: Vec<[Vec<u8>; 2]>,
    holes: Vec<Hole>,
}

#[derive(Clone)]
struct Hole {
    row: usize,
    /// 0 in the key, 1 in the value.
    side: usize,
    at: usize,
    len: usize,
    /// Holes of one kind hold the same bytes.
    kind: u64,
}

const SEQUENCE: u64 = u64::MAX;

impl Template {
    /// Records what one put writes.
    fn record() -> (Self, Raw) {
        let options = Options::default();
        let memory_bytes = options.memory_bytes;
        let store = Recorded::create(PLACE, options, Components::default());
        let base = base(&store.repository);
        // The second image finds the base layers as every later one does.
        put(&store.repository, &image(&store.repository, &base, 0));
        let image = image(&store.repository, &base, 1);
        drop(store.recorder.take());
        put(&store.repository, &image);
        let batches = store.recorder.take();
        let [batch] = batches.as_slice() else { panic!("a put is one commit") };
        let rows = batch.iter().map(|write| match write {
            Write::Put { key, value } => [key.to_vec(), value.to_vec()],
            Write::Delete { .. } => panic!("a put of a new image deletes nothing"),
        });
        let raw = Raw::like(&store.table_path(), PLACE, memory_bytes);
        (Self::new(rows.collect(), &image), raw)
    }

    fn new(rows: Vec<[Vec<u8>; 2]>, image: &Image) -> Self {
        let operation = rows.iter().find(|[key, _]| key[0] == OPERATION).map(|[key, _]| key[1..].to_vec());
        let manifest = Digest::sha256(&image.put.bytes);
        let own = [manifest, image.own[0], image.own[1]];
        let mut texts: Vec<_> = own.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        texts.push(image.tag.as_str().as_bytes().to_vec());
        texts.push(operation.unwrap());
        let mut holes = Vec::new();
        for (row, sides) in rows.iter().enumerate() {
            for (side, bytes) in sides.iter().enumerate() {
                for (kind, text) in (0..).zip(&texts) {
                    let found = bytes.windows(text.len()).enumerate().filter(|(_, window)| window == text);
                    holes.extend(found.map(|(at, _)| Hole { row, side, at, len: text.len(), kind }));
                }
            }
            if SEQUENCED.contains(&sides[0][0]) {
                holes.push(Hole { row, side: 0, at: sides[0].len() - 8, len: 8, kind: SEQUENCE });
            }
        }
        Self { rows, holes }
    }

    /// Gives all holes the bytes of put `number`.
    fn fill(&mut self, number: u64) {
        for hole in &self.holes {
            let place = &mut self.rows[hole.row][hole.side][hole.at..hole.at + hole.len];
            if hole.kind == SEQUENCE {
                place.copy_from_slice(&number.to_be_bytes());
            } else {
                place.copy_from_slice(&bytes(number * 16 + hole.kind, hole.len));
            }
        }
    }

    fn describe(&self) -> String {
        let sum = |side: usize| self.rows.iter().map(|row| row[side].len()).sum::<usize>();
        format!("one put: {} rows, {} bytes of keys, {} bytes of values", self.rows.len(), sum(0), sum(1))
    }
}

fn put(repository: &layerhold::Repository, image: &Image) {
    assert!(repository.put_manifest(&image.put, &Call::anonymous()).unwrap().created);
}

/// Runs `work`, once the machine is idle, for each number below `count` on `threads` threads.
fn spread(threads: usize, count: u64, work: impl Fn(&mut dyn Iterator<Item = u64>) + Sync) -> Took {
    settle();
    let next = AtomicU64::new(0);
    Took::together(threads, |_| {
        let before = thread_time();
        let mut numbers =
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count));
        work(&mut numbers);
        thread_time() - before
    })
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let mut group = criterion.benchmark_group("manifest_put");
    group.sampling_mode(SamplingMode::Flat).sample_size(40).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(if quick() { 1 } else { 10 }));
    for threads in [1, 32] {
        let (template, raw) = Template::record();
        let store = store::Store::create(PLACE, Options::default());
        let _maintenance = store.maintain();
        let base = base(&store.repository);
        let (images, batches) = (AtomicU64::new(0), AtomicU64::new(0));
        let engine = |iterations: u64| {
            let count = iterations * PUTS;
            let first = images.fetch_add(count, Ordering::Relaxed);
            let mut ready: Vec<_> = (0..count).map(|_| parking_lot::Mutex::new(None)).collect();
            spread(32, count, |numbers| {
                numbers.for_each(|number| {
                    *ready[number as usize].lock() = Some(image(&store.repository, &base, first + number));
                });
            });
            let ready: Vec<_> = ready.iter_mut().map(|image| image.get_mut().take().unwrap()).collect();
            spread(threads, count, |numbers| {
                numbers.for_each(|number| put(&store.repository, &ready[number as usize]));
            })
        };
        let yardstick = |iterations: u64| {
            let count = iterations * PUTS;
            let first = 1_000_000 + batches.fetch_add(count, Ordering::Relaxed);
            spread(threads, count, |numbers| {
                let mut template = template.clone();
                numbers.for_each(|number| {
                    template.fill(first + number);
                    let rows = template.rows.iter().map(|[key, value]| (key.as_slice(), value.as_slice()));
                    raw.write(rows, first + number);
                });
            })
        };
        let row = Row {
            name: format!("put image, {threads} threads"),
            work: Throughput::Elements(PUTS),
            target: Target::SpeedAtLeast(0.80),
        };
        if threads == 1 {
            table.note(template.describe());
        }
        table.compare(&mut group, row, engine, yardstick);
    }
    group.finish();
    criterion.final_summary();
    table.print();
}
