//! A check of a store beside the reading that it cannot do without: all rows once for the metadata, every byte with its two
//! hashes for the bytes.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::io::Read;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use layerhold::check::{CheckOptions, Finding, Level, Outcome};
use layerhold::{Call, Engine, Options};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::Pool;
use layerhold_benches::image::{base, image};
use layerhold_benches::took::Took;
use layerhold_benches::{quick, raw, store};
use sha2::{Digest, Sha256};

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

fn check(engine: &Engine, level: Level) -> u64 {
    let mut findings: Vec<(Finding, Outcome)> = Vec::new();
    let report = engine.check(&CheckOptions::default().with_level(level), &mut findings).unwrap();
    assert!(report.is_sound(), "{findings:?}");
    report.rows
}

/// One thread reads, one runs SHA-256, the first BLAKE3 as well: what no check of the bytes can be without.
fn hash(path: &std::path::Path) {
    let mut file = std::fs::File::open(path).unwrap();
    let (send, receive) = std::sync::mpsc::sync_channel::<std::sync::Arc<Vec<u8>>>(3);
    let digest = std::thread::spawn(move || {
        let mut digest = Sha256::new();
        while let Ok(bytes) = receive.recv() {
            digest.update(bytes.as_slice());
        }
        digest.finalize()
    });
    let mut fingerprint = blake3::Hasher::new();
    loop {
        let mut bytes = vec![0; 256 << 10];
        let read = file.read(&mut bytes).unwrap();
        if read == 0 {
            break;
        }
        bytes.truncate(read);
        let bytes = std::sync::Arc::new(bytes);
        send.send(std::sync::Arc::clone(&bytes)).unwrap();
        fingerprint.update(&bytes);
    }
    drop(send);
    std::hint::black_box((digest.join().unwrap(), fingerprint.finalize()));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let mut group = criterion.benchmark_group("check");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(2));

    let images = if quick() { 20 } else { 5_000 };
    let rows = store::Store::create(PLACE, Options::default());
    let base = base(&rows.repository);
    for number in 0..images {
        let image = image(&rows.repository, &base, number);
        rows.repository.put_manifest(&image.put, &Call::anonymous()).unwrap();
    }
    let count = check(&rows.engine, Level::Metadata);
    let path = rows.path();
    let all = raw::Raw::like(&path.join("table"), PLACE, Options::default().memory_bytes);
    let mut batch = layerhold::store::Batch::new();
    for number in 0..count {
        // Rows of about the same length, all read in order.
        batch.put(&[&number.to_be_bytes()[..], &[7; 60]].concat(), &[number.to_be_bytes()[7]; 160]);
    }
    all.replay(&[batch]);
    let row =
        Row { name: format!("metadata, {count} rows"), work: Throughput::Elements(count), target: Target::Reported };
    table.compare(
        &mut group,
        row,
        |iterations| Took::by(|| (0..iterations).for_each(|_| assert!(check(&rows.engine, Level::Metadata) > 0))),
        |iterations| Took::by(|| (0..iterations).for_each(|_| assert_eq!(all.scan(), count))),
    );

    let len = if quick() { 8 << 20 } else { 512 << 20 };
    let bytes = store::Store::create(PLACE, Options::default());
    let layer = Pool::new(16, 1 << 20).layer(len);
    store::push(&bytes.repository, &layer);
    let file = bytes.blob_file();
    let row = Row {
        name: format!("bytes, {} MiB", layer.len >> 20),
        work: Throughput::Bytes(layer.len),
        target: Target::Reported,
    };
    table.compare(
        &mut group,
        row,
        |iterations| Took::by(|| (0..iterations).for_each(|_| assert!(check(&bytes.engine, Level::Bytes) > 0))),
        |iterations| Took::by(|| (0..iterations).for_each(|_| hash(&file))),
    );
    group.finish();
    criterion.final_summary();
    table.print();
}
