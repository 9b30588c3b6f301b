//! Resolving a tag to its manifest's digest, type and size beside one batched raw read of the rows that answer it, in a
//! repository with few images and in one with many.
//!
//! Rows were moved from memory to files whose blocks are cached.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use layerhold::{Call, Components, Digest, Options, Reference, Tag};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::Numbers;
use layerhold_benches::image::{base, image};
use layerhold_benches::quick;
use layerhold_benches::raw::{Raw, key_of};
use layerhold_benches::recorder::Recorded;
use layerhold_benches::took::Took;

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");

/// First bytes of the keys of tag rows and manifest rows.
const TAG: u8 = 0x40;
const MANIFEST: u8 = 0x30;

/// Images whose tags are asked for, among all of them.
const ASKED: usize = 500;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let mut group = criterion.benchmark_group("tag_resolve");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for images in if quick() { [10, 100] } else { [1_000, 20_000] } {
        let options = Options::default();
        let memory_bytes = options.memory_bytes;
        let store = Recorded::create(PLACE, options, Components::default());
        let base = base(&store.repository);
        let put: Vec<(Tag, Digest)> = (0..images)
            .map(|number| {
                let image = image(&store.repository, &base, number);
                let digest = store.repository.put_manifest(&image.put, &Call::anonymous()).unwrap().digest;
                (image.tag, digest)
            })
            .collect();
        store.recorder.flush();
        let batches = store.recorder.take();
        let raw = Raw::like(&store.table_path(), PLACE, memory_bytes);
        raw.replay(&batches);
        let step = put.len().div_ceil(ASKED);
        let asked: Vec<_> = put.iter().step_by(step).collect();
        let references: Vec<_> = asked.iter().map(|(tag, _)| Reference::Tag(tag.clone())).collect();
        let manifest = key_of(&batches, MANIFEST, &put[0].1);
        let scope = &manifest[1..manifest.len() - put[0].1.as_bytes().len() - 1];
        let keys: Vec<_> = asked
            .iter()
            .map(|(tag, digest)| {
                let tag = [&[TAG], scope, tag.as_str().as_bytes(), &[0]].concat();
                let manifest = [&[MANIFEST], scope, &[digest.algorithm().code()], digest.as_bytes()].concat();
                [tag, manifest]
            })
            .collect();
        let row = Row {
            name: format!("resolve a tag, {images} images"),
            work: Throughput::Elements(1),
            target: Target::Reported,
        };
        table.compare(
            &mut group,
            row,
            |iterations| {
                let mut numbers = Numbers::new(7);
                Took::by(|| {
                    (0..iterations).for_each(|_| {
                        let reference = &references[numbers.below(references.len() as u64) as usize];
                        black_box(store.repository.manifest_head(reference).unwrap());
                    });
                })
            },
            |iterations| {
                let mut numbers = Numbers::new(7);
                Took::by(|| {
                    (0..iterations).for_each(|_| {
                        assert_eq!(raw.read(&keys[numbers.below(keys.len() as u64) as usize]), 2);
                    });
                })
            },
        );
    }
    group.finish();
    criterion.final_summary();
    table.print();
}
