//! The reference pipeline: the unavoidable work of taking a layer in, and nothing else.
//!
//! One thread takes the bytes from memory and writes them to a file, with early write-back every 8 MiB and one
//! `fdatasync` at the end; a second one runs SHA-256 and the fingerprint's BLAKE3 beside it. Nothing couples the two but
//! the end, so the slower of them is the machine's own limit, disk included. The file's name is not made durable.

use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::Duration;

use layerhold::store::fs::FileSystem;
use sha2::{Digest, Sha256};

use crate::content::Layer;
use crate::took::thread_time;

const WRITEBACK_BYTES: u64 = 8 << 20;

/// Takes one layer in, as the file `path` of `fs`; gives the processor time of the busier of the two threads.
pub fn ingest(fs: &dyn FileSystem, path: &Path, layer: &Layer) -> Duration {
    thread::scope(|scope| {
        let hashing = scope.spawn(|| {
            let (mut digest, mut fingerprint) = (Sha256::new(), blake3::Hasher::new());
            for piece in layer.pieces() {
                digest.update(piece);
                fingerprint.update(piece);
            }
            black_box((digest.finalize(), fingerprint.finalize()));
            thread_time()
        });
        let before = thread_time();
        write(fs, path, layer);
        let writing = thread_time() - before;
        hashing.join().unwrap().max(writing)
    })
}

fn write(fs: &dyn FileSystem, path: &Path, layer: &Layer) {
    let file = fs.create_new(path).unwrap();
    let (mut end, mut written_out) = (0, 0);
    for piece in layer.pieces() {
        file.write_all_at(piece, end).unwrap();
        end += piece.len() as u64;
        if end - written_out >= WRITEBACK_BYTES {
            file.start_writeback(written_out, end - written_out).unwrap();
            written_out = end;
        }
    }
    file.sync_data().unwrap();
}
