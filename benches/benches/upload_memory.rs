//! Heap that an open upload costs, whatever its layer's length: at most 1 MiB, buffers that wait to be hashed included.
//!
//! Many uploads are open and in the middle of their layer at once. Each buffer is given to the engine, so it counts as
//! the engine's until it is let go. The limit holds for what the server and the copying `write` hand in, buffers of at most
//! 256 KiB. Larger ones are the host's choice: one is written while one is hashed and one waits between them, so their row
//! is only reported. RocksDB's own memory is a budget (`Options::memory_bytes`) and does not depend on
//! uploads; thread stacks are not on the heap.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::sync::Barrier;
use std::thread;

use layerhold::digest::Algorithm;
use layerhold::{Call, Options, UploadWriter};
use layerhold_benches::{quick, store};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const PLACE: &str = env!("CARGO_TARGET_TMPDIR");
const LIMIT_BYTES: usize = 1 << 20;

/// The longest buffer for which the limit holds.
const BUFFER_BYTES: usize = 256 << 10;

/// Heap above what was in use before, in bytes for each upload.
struct Heap {
    /// While all of them are being written to, at most.
    peak: usize,
    /// When all of them wait for more.
    waiting: usize,
}

fn open(store: &store::Store) -> UploadWriter {
    let call = Call::anonymous();
    let id = store.repository.begin_upload(Algorithm::Sha256, &call).unwrap();
    store.repository.upload_writer(&id, Some(0), &call).unwrap()
}

fn measure(uploads: usize, layer_bytes: usize, buffer_bytes: usize) -> Heap {
    let store = store::Store::create(PLACE, Options::default());
    // What the first upload of a process needs once is not the price of an upload.
    let mut warm = open(&store);
    warm.write_owned(vec![0; buffer_bytes]).unwrap();
    drop(warm);
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let (begin, end) = (Barrier::new(uploads + 1), Barrier::new(uploads + 1));
    let waiting = thread::scope(|scope| {
        for _ in 0..uploads {
            scope.spawn(|| {
                let mut writer = open(&store);
                begin.wait();
                for number in 0..layer_bytes / buffer_bytes {
                    writer.write_owned(vec![number as u8; buffer_bytes]).unwrap();
                }
                writer.commit().unwrap();
                end.wait();
                end.wait();
                drop(writer);
            });
        }
        begin.wait();
        end.wait();
        let waiting = HEAP.current_usage();
        end.wait();
        waiting
    });
    Heap { peak: HEAP.peak_usage().saturating_sub(before) / uploads, waiting: waiting.saturating_sub(before) / uploads }
}

fn main() {
    let layers: &[usize] = if quick() { &[2 << 20, 8 << 20] } else { &[16 << 20, 256 << 20] };
    let uploads = if quick() { 4 } else { 16 };
    println!();
    for layer_bytes in layers {
        for buffer_bytes in [64 << 10, 256 << 10, 1 << 20] {
            let heap = measure(uploads, *layer_bytes, buffer_bytes);
            let verdict = match heap.peak <= LIMIT_BYTES {
                _ if buffer_bytes > BUFFER_BYTES => "reported",
                true => "reached",
                false => "MISSED",
            };
            println!(
                "{uploads} uploads of {} MiB by buffers of {} KiB: {} KiB each at the peak, {} KiB waiting \
                 | at most {} KiB: {verdict}",
                layer_bytes >> 20,
                buffer_bytes >> 10,
                heap.peak >> 10,
                heap.waiting >> 10,
                LIMIT_BYTES >> 10,
            );
        }
    }
}
