//! Asking for 100 layers at once beside one batched raw read of the 200 rows that answer it.
//!
//! Both tables hold the same rows, moved from memory to files whose blocks are cached. In the second row every question
//! comes so late that all 100 leases are extended, which is a commit without a sync.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use layerhold::clock::{Clock, SystemClock};
use layerhold::{BlobStatus, Components, Options};
use layerhold_benches::compare::{Row, Table, Target};
use layerhold_benches::content::bytes;
use layerhold_benches::raw::{Raw, key_of};
use layerhold_benches::recorder::Recorded;
use layerhold_benches::store::put;
use layerhold_benches::took::Took;

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");
const LAYERS: u64 = 100;
/// Rows of other layers around them.
const OTHERS: u64 = 900;

/// First bytes of the keys of blob rows and link rows.
const FAMILIES: [u8; 2] = [0x10, 0x18];

/// The machine's clock, which can be told to hurry.
#[derive(Debug, Default)]
struct Hurried {
    clock: SystemClock,
    ahead_ms: AtomicU64,
}

impl Clock for Hurried {
    fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Table::default();
    let clock = Arc::new(Hurried::default());
    let components = Components { clock: clock.clone(), ..Components::default() };
    let options = Options::default();
    let (lease_ms, memory_bytes) = (options.lease_ms, options.memory_bytes);
    let store = Recorded::create(PLACE, options, components);
    let digests: Vec<_> = (0..LAYERS + OTHERS).map(|number| put(&store.repository, &bytes(number, 1024))).collect();
    let batches = store.recorder.take();
    store.recorder.flush();
    let raw = Raw::like(&store.table_path(), PLACE, memory_bytes);
    raw.replay(&batches);

    let digests = &digests[..LAYERS as usize];
    let keys: Vec<_> =
        digests.iter().flat_map(|digest| FAMILIES.map(|family| key_of(&batches, family, digest))).collect();

    let check = || {
        let statuses = store.repository.check_blobs(digests).unwrap();
        assert!(statuses.iter().all(|status| matches!(status, BlobStatus::Present { .. })));
    };
    let read =
        |iterations: u64| Took::by(|| (0..iterations).for_each(|_| assert_eq!(black_box(raw.read(&keys)), keys.len())));
    let mut group = criterion.benchmark_group("availability");
    group.sampling_mode(SamplingMode::Flat).sample_size(30).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(3));
    let row = |name: &str, target| Row { name: name.to_owned(), work: Throughput::Elements(1), target };
    table.compare(
        &mut group,
        row("check 100 layers, leases fresh", Target::SpeedAtLeast(0.70)),
        |iterations| Took::by(|| (0..iterations).for_each(|_| check())),
        read,
    );
    table.compare(
        &mut group,
        row("check 100 layers, all leases extended", Target::Reported),
        |iterations| {
            Took::by(|| {
                (0..iterations).for_each(|_| {
                    clock.ahead_ms.fetch_add(lease_ms, Ordering::Relaxed);
                    check();
                });
            })
        },
        read,
    );
    group.finish();
    criterion.final_summary();
    table.print();
}
