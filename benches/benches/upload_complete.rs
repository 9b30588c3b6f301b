//! Completing an upload of 5 GiB beside completing one of 5 MiB: nothing of what was uploaded is looked at again.
//!
//! The large one came in 512 parts of 10 MiB, each durable, as the ECR operations send them. Only the completion is
//! timed. Each round has a new store, on the disk of cargo's target directory.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use layerhold::digest::Algorithm;
use layerhold::{Call, CompleteUpload, Expected, Options, PartRange, Repository, UploadId};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::Pool;
use layerhold_benches::took::Took;
use layerhold_benches::{quick, store};

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

fn upload(repository: &Repository, pool: &Pool, bytes: u64) -> UploadId {
    let call = Call::anonymous();
    let id = repository.begin_upload(Algorithm::Sha256, &call).unwrap();
    pool.layer(bytes).pieces().fold(0, |first_byte, piece| {
        let range = PartRange { first_byte, len: piece.len() as u64 };
        repository.append_part(&id, range, Arc::clone(piece), &call).unwrap().durable_offset
    });
    id
}

fn complete(iterations: u64, pool: &Pool, bytes: u64) -> Took {
    (0..iterations).fold(Took::default(), |sum, _| {
        let store = store::Store::create(PLACE, Options::default());
        let id = upload(&store.repository, pool, bytes);
        sum.and(Took::by(|| {
            let complete = CompleteUpload::expecting(Expected::Computed);
            store.repository.complete_upload(&id, &complete, &Call::anonymous()).unwrap();
        }))
    })
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let (large, small) = (Pool::new(8, 10 << 20), Pool::new(1, 5 << 20));
    let large_bytes = if quick() { 100 << 20 } else { 5 << 30 };
    let mut group = criterion.benchmark_group("upload_complete");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(1));
    let row = Row {
        name: format!("complete {} MiB, beside 5 MiB", large_bytes >> 20),
        work: Throughput::Elements(1),
        target: Target::TimeAtMost(1.5),
    };
    table.compare(
        &mut group,
        row,
        |iterations| complete(iterations, &large, large_bytes),
        |iterations| complete(iterations, &small, 5 << 20),
    );
    group.finish();
    criterion.final_summary();
    table.print();
}
