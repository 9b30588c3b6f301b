//! Buffers that downloads are read into, used again and again.
//!
//! A verified read needs a place for its bytes, and that place goes to the socket as it is: [`Filled::into_bytes`] hands
//! the buffer to the HTTP library, and when the last byte is sent it comes back here. So a download neither copies nor
//! allocates for each chunk, and the kernel is not asked to zero fresh pages.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Size of each buffer: two groups of a blob's fingerprint, large enough that the cost of a call is lost in that of the
/// bytes, small enough that what was just hashed is still in the core's cache when it is sent.
pub const BUFFER_BYTES: usize = 128 << 10;

/// Size of each buffer of a download that has a thread of its own to read ahead: waking the other thread, and the client,
/// costs as much as hashing some 100 KiB.
pub const LARGE_BUFFER_BYTES: usize = 1 << 20;

/// A pool of equal buffers.
#[derive(Clone, Debug)]
pub struct Buffers {
    held: Arc<Mutex<Held>>,
    idle_max: usize,
    buffer_bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    idle: Vec<Box<[u8]>>,
    /// Buffers that were taken and did not come back yet.
    lent: usize,
}

/// A buffer while it is filled.
#[derive(Debug)]
pub struct Filled {
    bytes: Option<Box<[u8]>>,
    len: usize,
    home: Buffers,
}

impl Buffers {
    /// A pool of buffers of that size, which keeps at most `idle_max` of them for later.
    #[must_use]
    pub fn new(buffer_bytes: usize, idle_max: usize) -> Buffers {
        Buffers { held: Arc::default(), idle_max, buffer_bytes }
    }

    /// A buffer, its content unspecified.
    #[must_use]
    pub fn take(&self) -> Filled {
        self.lend(&mut self.held.lock())
    }

    /// The same while fewer than `lent_max` are lent, those among them whose bytes are on their way to a socket.
    #[must_use]
    pub fn take_below(&self, lent_max: usize) -> Option<Filled> {
        let mut held = self.held.lock();
        (held.lent < lent_max).then(|| self.lend(&mut held))
    }

    fn lend(&self, held: &mut Held) -> Filled {
        held.lent += 1;
        let idle = held.idle.pop();
        let bytes = idle.unwrap_or_else(|| vec![0; self.buffer_bytes].into_boxed_slice());
        Filled { bytes: Some(bytes), len: 0, home: self.clone() }
    }
}

impl Filled {
    /// The whole buffer, to be written to.
    pub fn space(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }

    /// How much it takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.as_deref().unwrap_or_default().len()
    }

    /// The first `len` bytes, without a copy; the buffer returns to its pool when the last clone is dropped.
    #[must_use]
    pub fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_deref().and_then(|bytes| bytes.get(..self.len)).unwrap_or_default()
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            let mut held = self.home.held.lock();
            held.lent -= 1;
            if held.idle.len() < self.home.idle_max {
                held.idle.push(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_after_its_last_byte_was_sent() {
        let buffers = Buffers::new(BUFFER_BYTES, 1);
        let mut first = buffers.take();
        first.space()[..3].copy_from_slice(b"abc");
        let place = first.space().as_ptr();
        let bytes = first.into_bytes(3);
        let clone = bytes.slice(1..);
        assert_eq!(&bytes[..], b"abc");
        drop(bytes);
        assert_eq!(&clone[..], b"bc");
        assert!(buffers.held.lock().idle.is_empty());
        drop(clone);
        let mut again = buffers.take();
        assert_eq!(again.space().as_ptr(), place);
        let spare = buffers.take();
        drop(again);
        drop(spare);
        assert_eq!(buffers.held.lock().idle.len(), 1);
    }

    #[test]
    fn what_is_on_its_way_counts_as_lent() {
        let buffers = Buffers::new(BUFFER_BYTES, 4);
        let first = buffers.take_below(2).unwrap().into_bytes(3);
        let second = buffers.take_below(2).unwrap();
        assert!(buffers.take_below(2).is_none());
        let part = first.slice(..1);
        drop(first);
        assert!(buffers.take_below(2).is_none());
        drop(part);
        assert!(buffers.take_below(2).is_some());
        drop(second);
        assert!(buffers.take_below(1).is_some());
    }
}
