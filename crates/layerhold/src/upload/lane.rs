//! Hashing beside the write: digest and fingerprint of an upload, on another thread once there is enough to hash.
//!
//! The thread runs the digest, which costs several times the fingerprint. The fingerprint is run by whoever has nothing
//! better to do: the thread when it has caught up, the writer when it would have to wait. Both hashes take the buffers in
//! the order in which they were pushed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::blob::fingerprint::{FingerprintHasher, GroupLen};
use crate::clock::Spawner;
use crate::digest::{Algorithm, DigestHasher};

use super::open::UploadMemory;

/// Bytes that are written and hashed at the same time, so that nobody has to copy them.
pub(crate) type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// How many bytes may be in the queue before the writer waits. One buffer may wait behind the one that is hashed whatever
/// their length, so that the thread need not wait for the writer; with buffers of at most 256 KiB an open upload stays
/// below one MiB whatever the body's length.
const QUEUED_BYTES_MAX: usize = 768 << 10;

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
}

/// The same, held for as long as the value lives.
pub(crate) struct HeldHashes<'a> {
    pub(crate) digest: MutexGuard<'a, DigestHasher>,
    pub(crate) fingerprint: MutexGuard<'a, FingerprintHasher>,
}

/// Hashes bytes in the order in which they are pushed.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    pushed: u64,
    beside: bool,
}

struct Shared {
    digest: Mutex<DigestHasher>,
    fingerprint: Mutex<FingerprintHasher>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Buffers that one of the hashes has not taken in yet. Both go through them from the front, each at its own pace.
#[derive(Default)]
struct Queue {
    chunks: VecDeque<SharedBytes>,
    /// Bytes in `chunks`.
    bytes: usize,
    /// How many of them the digest has taken in, and the fingerprint.
    digested: usize,
    fingerprinted: usize,
    /// Somebody runs the fingerprint over the next one.
    fingerprinting: bool,
    closed: bool,
}

impl Lane {
    pub(crate) fn new(hashes: Hashes) -> Self {
        let shared = Shared {
            digest: Mutex::new(hashes.digest),
            fingerprint: Mutex::new(hashes.fingerprint),
            queue: Mutex::default(),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), pushed: 0, beside: false }
    }

    /// Takes the next bytes. Returns at once while a thread hashes and its queue has room.
    pub(crate) fn push(&mut self, bytes: &SharedBytes, spawner: Option<&dyn Spawner>, memory: &UploadMemory) {
        let len = bytes.as_ref().as_ref().len();
        self.pushed += len as u64;
        if !self.beside && self.pushed >= BESIDE_BYTES_MIN {
            self.beside = self.start(spawner, memory);
        }
        if !self.beside {
            self.shared.digest.lock().update(bytes.as_ref().as_ref());
            self.shared.fingerprint.lock().update(bytes.as_ref().as_ref());
            return;
        }
        let mut queue = self.shared.queue.lock();
        while queue.chunks.len() > 1 && queue.bytes + len > QUEUED_BYTES_MAX {
            self.shared.help_or_wait(&mut queue);
        }
        queue.bytes += len;
        queue.chunks.push_back(Arc::clone(bytes));
        self.shared.changed.notify_all();
    }

    /// The hashes over everything that was pushed; waits for the thread.
    pub(crate) fn hashes(&mut self) -> HeldHashes<'_> {
        let mut queue = self.shared.queue.lock();
        while !queue.chunks.is_empty() {
            self.shared.help_or_wait(&mut queue);
        }
        drop(queue);
        HeldHashes { digest: self.shared.digest.lock(), fingerprint: self.shared.fingerprint.lock() }
    }

    /// Lets the thread go; more bytes start another one.
    pub(crate) fn rest(&mut self) {
        if self.beside {
            self.shared.queue.lock().closed = true;
            self.shared.changed.notify_all();
            // What is queued is still hashed; a later thread has a queue of its own.
            let held = self.hashes();
            let hashes = Hashes { digest: held.digest.clone(), fingerprint: held.fingerprint.clone() };
            drop(held);
            *self = Self::new(hashes);
        }
    }

    fn start(&self, spawner: Option<&dyn Spawner>, memory: &UploadMemory) -> bool {
        let Some((spawner, place)) = spawner.and_then(|spawner| Some((spawner, memory.lane()?))) else { return false };
        let shared = Arc::clone(&self.shared);
        let job = move || {
            shared.run();
            drop(place);
        };
        spawner.spawn("layerhold-hash", Box::new(job)).is_ok()
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
            if let Some(chunk) = queue.chunks.get(queue.digested).cloned() {
                MutexGuard::unlocked(&mut queue, || self.digest.lock().update(chunk.as_ref().as_ref()));
                queue.digested += 1;
                queue.let_go();
                self.changed.notify_all();
            } else if !self.fingerprint_next(&mut queue) {
                if queue.closed && queue.chunks.is_empty() {
                    return;
                }
                self.changed.wait(&mut queue);
            }
        }
    }

    /// What the writer does while it cannot go on.
    fn help_or_wait(&self, queue: &mut MutexGuard<'_, Queue>) {
        if !self.fingerprint_next(queue) {
            self.changed.wait(queue);
        }
    }

    /// Runs the fingerprint over the next buffer, unless there is none or somebody does so already.
    fn fingerprint_next(&self, queue: &mut MutexGuard<'_, Queue>) -> bool {
        let next = queue.chunks.get(queue.fingerprinted).filter(|_| !queue.fingerprinting);
        let Some(chunk) = next.cloned() else { return false };
        queue.fingerprinting = true;
        MutexGuard::unlocked(queue, || self.fingerprint.lock().update(chunk.as_ref().as_ref()));
        queue.fingerprinting = false;
        queue.fingerprinted += 1;
        queue.let_go();
        self.changed.notify_all();
        true
    }
}

impl Queue {
    /// Drops the buffers at the front that both hashes have taken in.
    fn let_go(&mut self) {
        while self.digested > 0
            && self.fingerprinted > 0
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.bytes -= chunk.as_ref().as_ref().len();
            self.digested -= 1;
            self.fingerprinted -= 1;
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
        let memory = UploadMemory::new(&crate::options::Options::default());
        for spawner in [None, Some(&ThreadSpawner as &dyn Spawner)] {
            for (chunk_bytes, rest_after) in [(70_001, 13), (4_096, 100), (256 << 10, usize::MAX), (1_100_000, 2)] {
                let mut lane = Lane::new(Hashes::new(Algorithm::Sha256, GroupLen::default()));
                for (number, chunk) in bytes.chunks(chunk_bytes).enumerate() {
                    lane.push(&(Arc::new(chunk.to_vec()) as SharedBytes), spawner, &memory);
                    if number % rest_after == rest_after - 1 {
                        lane.rest();
                    }
                }
                let hashes = lane.hashes();
                let (digest, fingerprint) = (hashes.digest.clone(), hashes.fingerprint.clone());
                assert_eq!((digest.finalize(), fingerprint.finish().root), expected, "chunks of {chunk_bytes} bytes");
            }
        }
    }
}
