//! Hashing beside the write: digest and fingerprint of an upload, on another thread once there is enough to hash.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::blob::fingerprint::{FingerprintHasher, GroupLen};
use crate::clock::Spawner;
use crate::digest::{Algorithm, DigestHasher};

/// Bytes that are written and hashed at the same time, so that nobody has to copy them.
pub(crate) type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// How many bytes may be waiting or hashed before the writer waits, too. One buffer may wait behind the one that is hashed
/// whatever their length, so that the thread need not wait for the writer; with buffers of at most 256 KiB an open upload
/// stays below one MiB whatever the body's length.
const QUEUED_BYTES_MAX: usize = 512 << 10;

/// Below this much, a thread costs more than it gives.
const BESIDE_BYTES_MIN: u64 = 256 << 10;

/// The two running hashes of an upload.
#[derive(Clone, Debug)]
pub(crate) struct Hashes {
    pub(crate) digest: DigestHasher,
    pub(crate) fingerprint: FingerprintHasher,
}

impl Hashes {
    pub(crate) fn new(algorithm: Algorithm, group_len: GroupLen) -> Self {
        Self { digest: DigestHasher::new(algorithm), fingerprint: FingerprintHasher::new(group_len) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.fingerprint.update(bytes);
    }
}

/// Hashes bytes in the order in which they are pushed.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    pushed: u64,
    beside: bool,
}

struct Shared {
    hashes: Mutex<Hashes>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<SharedBytes>,
    /// Bytes in `chunks`, and in the chunk that is being hashed.
    bytes: usize,
    closed: bool,
}

impl Lane {
    pub(crate) fn new(hashes: Hashes) -> Self {
        let shared = Shared { hashes: Mutex::new(hashes), queue: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), pushed: 0, beside: false }
    }

    /// Takes the next bytes. Returns at once while a thread hashes and its queue has room.
    pub(crate) fn push(&mut self, bytes: &SharedBytes, spawner: Option<&dyn Spawner>) {
        let len = bytes.as_ref().as_ref().len();
        self.pushed += len as u64;
        if !self.beside && self.pushed >= BESIDE_BYTES_MIN {
            self.beside = self.start(spawner);
        }
        if !self.beside {
            self.shared.hashes.lock().update(bytes.as_ref().as_ref());
            return;
        }
        let mut queue = self.shared.queue.lock();
        while !queue.chunks.is_empty() && queue.bytes + len > QUEUED_BYTES_MAX {
            self.shared.changed.wait(&mut queue);
        }
        queue.bytes += len;
        queue.chunks.push_back(Arc::clone(bytes));
        self.shared.changed.notify_all();
    }

    /// The hashes over everything that was pushed; waits for the thread.
    pub(crate) fn hashes(&mut self) -> MutexGuard<'_, Hashes> {
        let mut queue = self.shared.queue.lock();
        while queue.bytes > 0 {
            self.shared.changed.wait(&mut queue);
        }
        drop(queue);
        self.shared.hashes.lock()
    }

    /// Lets the thread go; more bytes start another one.
    pub(crate) fn rest(&mut self) {
        if self.beside {
            self.shared.queue.lock().closed = true;
            self.shared.changed.notify_all();
            // What is queued is still hashed; a later thread has a queue of its own.
            let hashes = self.hashes().clone();
            *self = Self::new(hashes);
        }
    }

    fn start(&self, spawner: Option<&dyn Spawner>) -> bool {
        let shared = Arc::clone(&self.shared);
        spawner.is_some_and(|spawner| spawner.spawn("layerhold-hash", Box::new(move || shared.run())).is_ok())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(chunk) = queue.chunks.pop_front() {
                // The next buffer may wait in its place.
                self.changed.notify_all();
                drop(queue);
                self.hashes.lock().update(chunk.as_ref().as_ref());
                queue = self.queue.lock();
                queue.bytes -= chunk.as_ref().as_ref().len();
                self.changed.notify_all();
            } else if queue.closed {
                return;
            } else {
                self.changed.wait(&mut queue);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ThreadSpawner;
    use crate::digest::Digest;

    #[test]
    fn hashing_beside_gives_what_hashing_in_line_gives() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
        let expected = (Digest::sha256(&bytes), *blake3::hash(&bytes).as_bytes());
        for spawner in [None, Some(&ThreadSpawner as &dyn Spawner)] {
            let mut lane = Lane::new(Hashes::new(Algorithm::Sha256, GroupLen::default()));
            for (number, chunk) in bytes.chunks(70_001).enumerate() {
                lane.push(&(Arc::new(chunk.to_vec()) as SharedBytes), spawner);
                if number % 13 == 0 {
                    lane.rest();
                }
            }
            let hashes = lane.hashes().clone();
            assert_eq!((hashes.digest.finalize(), hashes.fingerprint.finish().root), expected);
        }
    }
}
