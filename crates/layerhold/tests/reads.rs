//! Reading blobs at any place and from several threads: what comes is what was pushed, or nothing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::Path;

use layerhold::blob::ReadFault;
use layerhold::{Algorithm, BlobReader, Call, CompleteUpload, Expected, RepositoryName, RepositorySettings};
use layerhold_testkit::engine::{self, TestEngine};
use layerhold_testkit::fs::damage;

/// More commits of the session than an open blob remembers the chaining values of.
const COMMITS: usize = 40;
const COMMIT_BYTES: usize = 300_001;
const LEN: usize = COMMITS * COMMIT_BYTES;

fn content() -> Vec<u8> {
    (0..LEN as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A blob whose chaining values came in many rows.
fn pushed(test: &TestEngine, content: &[u8]) -> BlobReader {
    let (name, call) = (RepositoryName::parse("app").unwrap(), Call::anonymous());
    test.registry().create_repository(&name, &RepositorySettings::default(), &call).unwrap();
    let repository = test.registry().repository(&name);
    let id = repository.begin_upload(Algorithm::Sha256, &call).unwrap();
    let mut writer = repository.upload_writer(&id, None, &call).unwrap();
    for bytes in content.chunks(COMMIT_BYTES) {
        writer.write(bytes).unwrap();
        writer.commit().unwrap();
    }
    let digest = writer.complete(&CompleteUpload::expecting(Expected::Computed)).unwrap().digest;
    repository.blob(&digest).unwrap()
}

/// Offsets and lengths without an order, the same for the same seed.
fn ranges(seed: u64) -> impl Iterator<Item = (usize, usize)> {
    let mut state = seed;
    std::iter::from_fn(move || {
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        Some((below(LEN), 1 + below(400_000)))
    })
}

fn check(blob: &BlobReader, content: &[u8], (offset, len): (usize, usize)) {
    let mut buf = vec![0; len];
    let read = blob.read_at(offset as u64, &mut buf).unwrap();
    assert_eq!(read, len.min(LEN - offset), "offset={offset} len={len}");
    assert!(buf[..read] == content[offset..offset + read], "offset={offset} len={len}");
}

#[test]
fn any_range_comes_back_from_any_number_of_readers() {
    let (test, content) = (engine::memory(), content());
    let blob = pushed(&test, &content);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (blob, content) = (blob.clone(), &content);
            scope.spawn(move || ranges(seed).take(200).for_each(|range| check(&blob, content, range)));
        }
    });
    check(&blob, &content, (0, LEN));
    assert_eq!(blob.read_at(LEN as u64, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_damaged_byte_stops_the_ranges_that_need_its_group_and_no_others() {
    let (test, content) = (engine::memory(), content());
    let blob = pushed(&test, &content);
    let fs = test.fs().unwrap();
    let files = damage::files(fs).unwrap();
    let file = files.iter().find(|path| path.starts_with(Path::new("blobs"))).unwrap();
    let damaged = 7_000_000;
    damage::flip_bit(fs, file, damaged * 8 + 3).unwrap();
    // The largest group that there may be bounds how far the damage reaches.
    let near = |offset: usize, len: usize| {
        offset < damaged as usize + (1 << 20) && offset + len + (1 << 20) > damaged as usize
    };
    let far = ranges(9).filter(|(offset, len)| !near(*offset, *len));
    far.take(100).for_each(|range| check(&blob, &content, range));
    for (offset, len) in
        [(damaged as usize, 1), (damaged as usize - 5, 10), (0, LEN), (damaged as usize - 200_000, 400_000)]
    {
        let fault = blob.read_at(offset as u64, &mut vec![0; len]).unwrap_err();
        assert!(matches!(fault, ReadFault::Corrupt { digest, .. } if digest == blob.digest()), "{fault}");
    }
}
