//! Sending a blob while it is read: every byte verified before it is handed over, one chunk ahead of the socket.
//!
//! Reading and hashing a chunk happens on a blocking thread while the chunk before it goes out, so that a large pull uses
//! two cores; a slow peer holds no thread, because the next read starts only when the last chunk was taken. In memory
//! are then at most the chunk that is read, the chunk that waits, and what the HTTP library holds of earlier ones: three
//! buffers of [`BUFFER_BYTES`], whatever the blob's size.
//!
//! Where as many downloads run as there are cores, a second core for one of them is a core taken from another, and the
//! way to a thread and back is all loss: it costs a fifth of the processor time. Then a chunk is read where it is sent,
//! unless reading turns out slow, as from a disk, which is what threads are for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use layerhold::BlobReader;
use layerhold::blob::ReadFault;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::body::Payload;
use crate::buffers::{BUFFER_BYTES, Buffers};

/// Bytes that can be read at any place, verified.
pub trait Source: Send + Sync + 'static {
    /// Fills the front of `space` with bytes from `offset` on and says how many; 0 only at the end.
    ///
    /// # Errors
    /// Where the bytes cannot be read, or are not what was stored; then nothing in `space` may be used.
    fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed>;
}

/// Bytes that should be there could not be given.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailed {
    /// The engine said so; the stored bytes are damaged or unreadable.
    #[error("the blob cannot be read offset={offset}")]
    Fault {
        /// Where reading began.
        offset: u64,
        /// What the engine said.
        #[source]
        source: ReadFault,
    },
    /// The blob ended before its size.
    #[error("the blob ends early offset={offset}")]
    Short {
        /// Where no byte came.
        offset: u64,
    },
    /// The reading thread is gone, because the server stops.
    #[error("reading was cut off offset={offset}")]
    Cancelled {
        /// Where reading began.
        offset: u64,
    },
}

impl Source for BlobReader {
    fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
        BlobReader::read_at(self, offset, space).map_err(|source| ReadFailed::Fault { offset, source })
    }
}

/// What all downloads of a server share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Downloads {
    buffers: Buffers,
    running: Arc<AtomicUsize>,
    crowd: usize,
}

impl Downloads {
    /// Downloads into `buffers`; from `crowd` of them on, each stays on one thread.
    #[must_use]
    pub fn new(buffers: Buffers, crowd: usize) -> Downloads {
        Downloads { buffers, running: Arc::new(AtomicUsize::new(0)), crowd }
    }

    fn are_crowded(&self) -> bool {
        self.running.load(Ordering::Relaxed) >= self.crowd
    }
}

/// A chunk that takes longer than this to read came from a disk: from memory it takes a tenth of a millisecond.
const SLOW_READ: Duration = Duration::from_millis(1);

/// How many chunks after a slow one are read on other threads without another try.
const WARY_CHUNKS: u32 = 32;

/// A range of a blob on its way to a client.
pub struct Download {
    source: Arc<dyn Source>,
    shared: Downloads,
    /// Chunks to be read on other threads in any case.
    wary: u32,
    /// Where the next read begins.
    next: u64,
    /// Bytes not yet read, nor asked to be.
    unread: u64,
    /// Bytes not yet handed over.
    remaining: u64,
    ready: Option<Bytes>,
    reading: Option<JoinHandle<Result<Bytes, ReadFailed>>>,
}

impl Download {
    /// Starts sending `len` bytes from `first_byte`, with the first chunk read.
    ///
    /// Blocks while it reads. A blob that is damaged at its very start is so found before any header is sent.
    ///
    /// # Errors
    /// What the first read says.
    pub fn start(
        source: Arc<dyn Source>,
        first_byte: u64,
        len: u64,
        shared: &Downloads,
    ) -> Result<Download, ReadFailed> {
        shared.running.fetch_add(1, Ordering::Relaxed);
        let mut download = Download {
            source,
            shared: shared.clone(),
            wary: 0,
            next: first_byte,
            unread: len,
            remaining: len,
            ready: None,
            reading: None,
        };
        if len > 0 {
            download.ready = Some(download.read_here()?);
        }
        Ok(download)
    }

    /// The payload for a range of a blob: its bytes where they fit one buffer, else a download of it. Blocks.
    ///
    /// # Errors
    /// As [`Download::start`].
    pub fn of_blob(reader: BlobReader, first_byte: u64, len: u64, shared: &Downloads) -> Result<Payload, ReadFailed> {
        let mut download = Download::start(Arc::new(reader), first_byte, len, shared)?;
        Ok(match download.whole() {
            Some(bytes) => Payload::Bytes(bytes),
            None => Payload::Blob(Box::new(download)),
        })
    }

    /// Bytes not yet handed over.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The whole content, where the first chunk is all there is.
    #[must_use]
    pub fn whole(&mut self) -> Option<Bytes> {
        if self.unread > 0 {
            return None;
        }
        self.remaining = 0;
        Some(self.ready.take().unwrap_or_default())
    }

    /// The next chunk, `None` after the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadFailed>>> {
        let chunk = match self.ready.take() {
            Some(chunk) => Ok(chunk),
            None if self.reading.is_none() && self.unread == 0 => return Poll::Ready(None),
            None if self.reading.is_none() && self.stays_here() => self.read_here(),
            None => {
                if self.reading.is_none() {
                    self.read_ahead();
                }
                let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
                let Poll::Ready(done) = Pin::new(reading).poll(cx) else { return Poll::Pending };
                self.reading = None;
                done.unwrap_or(Err(ReadFailed::Cancelled { offset: self.next }))
            }
        };
        match &chunk {
            Err(_) => self.unread = 0,
            Ok(chunk) => {
                self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
                if self.unread > 0 && !self.stays_here() {
                    self.read_ahead();
                }
            }
        }
        Poll::Ready(Some(chunk))
    }

    fn stays_here(&self) -> bool {
        self.wary == 0 && self.shared.are_crowded()
    }

    fn reserve(&mut self) -> (u64, usize) {
        let size = usize::try_from(self.unread).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let offset = self.next;
        self.next += size as u64;
        self.unread -= size as u64;
        (offset, size)
    }

    fn read_ahead(&mut self) {
        self.wary = self.wary.saturating_sub(1);
        let (offset, size) = self.reserve();
        let source = Arc::clone(&self.source);
        let buffers = self.shared.buffers.clone();
        self.reading = Some(tokio::task::spawn_blocking(move || read_chunk(&*source, &buffers, offset, size)));
    }

    fn read_here(&mut self) -> Result<Bytes, ReadFailed> {
        let begin = Instant::now();
        let (offset, size) = self.reserve();
        let chunk = read_chunk(&*self.source, &self.shared.buffers, offset, size);
        if begin.elapsed() > SLOW_READ {
            self.wary = WARY_CHUNKS;
        }
        chunk
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("next", &self.next).field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

/// Exactly `size` bytes from `offset`.
fn read_chunk(source: &dyn Source, buffers: &Buffers, offset: u64, size: usize) -> Result<Bytes, ReadFailed> {
    let mut filling = buffers.take();
    let mut filled = 0;
    while filled < size {
        let Some(space) = filling.space().get_mut(filled..size) else { break };
        let place = offset + filled as u64;
        match source.read_at(place, space)? {
            0 => return Err(ReadFailed::Short { offset: place }),
            some => filled += some,
        }
    }
    Ok(filling.into_bytes(size))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A blob of a counted pattern that gives short reads and may end too soon.
    struct Pattern {
        size: u64,
        read_max: usize,
        highest: AtomicU64,
    }

    impl Source for Pattern {
        fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
            let len = space.len().min(self.read_max).min((self.size - offset) as usize);
            for (place, byte) in space[..len].iter_mut().enumerate() {
                *byte = pattern(offset + place as u64);
            }
            self.highest.fetch_max(offset + len as u64, Ordering::Relaxed);
            Ok(len)
        }
    }

    fn shared(crowd: usize) -> Downloads {
        Downloads::new(Buffers::new(4), crowd)
    }

    fn pattern(place: u64) -> u8 {
        (place % 251) as u8
    }

    async fn drain(mut download: Download) -> Result<Vec<u8>, ReadFailed> {
        let mut bytes = Vec::new();
        while let Some(chunk) = poll_fn(|cx| download.poll_next(cx)).await {
            bytes.extend_from_slice(&chunk?);
        }
        assert_eq!(download.remaining(), 0);
        Ok(bytes)
    }

    #[tokio::test]
    async fn every_range_arrives_whole() {
        let size = 3 * BUFFER_BYTES as u64 + 17;
        let source = Arc::new(Pattern { size, read_max: 100_000, highest: AtomicU64::new(0) });
        for (first, len) in [(0, size), (0, 0), (1, 1), (size - 1, 1), (5, BUFFER_BYTES as u64), (7, size - 7)] {
            for crowd in [0, usize::MAX] {
                let download = Download::start(source.clone(), first, len, &shared(crowd)).unwrap();
                let bytes = drain(download).await.unwrap();
                assert_eq!(bytes.len() as u64, len);
                assert!(bytes.iter().enumerate().all(|(place, &byte)| byte == pattern(first + place as u64)));
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_read_further_ahead_than_one_chunk() {
        let size = 100 * BUFFER_BYTES as u64;
        let source = Arc::new(Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) });
        let mut download = Download::start(source.clone(), 0, size, &shared(usize::MAX)).unwrap();
        for taken in 1..5 {
            poll_fn(|cx| download.poll_next(cx)).await.unwrap().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            assert_eq!(source.highest.load(Ordering::Relaxed), (taken + 1) * BUFFER_BYTES as u64);
        }
    }

    #[tokio::test]
    async fn in_a_crowd_nothing_is_read_before_it_is_wanted_unless_reading_is_slow() {
        let size = 100 * BUFFER_BYTES as u64;
        let source = Arc::new(Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) });
        let mut download = Download::start(source.clone(), 0, size, &shared(1)).unwrap();
        for (wary, ahead) in [(0, 0), (2, 1), (1, 1), (0, 0)] {
            download.wary = wary;
            poll_fn(|cx| download.poll_next(cx)).await.unwrap().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let sent = size - download.remaining();
            assert_eq!(source.highest.load(Ordering::Relaxed), sent + ahead * BUFFER_BYTES as u64, "wary={wary}");
        }
    }

    #[tokio::test]
    async fn a_blob_that_ends_early_is_an_error_and_not_an_end() {
        let source = Arc::new(Pattern { size: BUFFER_BYTES as u64, read_max: usize::MAX, highest: AtomicU64::new(0) });
        let download = Download::start(source, 0, 2 * BUFFER_BYTES as u64, &shared(usize::MAX)).unwrap();
        assert!(matches!(drain(download).await, Err(ReadFailed::Short { .. })));
    }

    #[tokio::test]
    async fn what_fits_one_chunk_needs_no_stream() {
        let source = Arc::new(Pattern { size: 10, read_max: 3, highest: AtomicU64::new(0) });
        let mut small = Download::start(source.clone(), 2, 8, &shared(usize::MAX)).unwrap();
        assert_eq!(small.whole().unwrap(), (2..10).map(pattern).collect::<Vec<u8>>());
        let source = Arc::new(Pattern { size: 1 << 20, read_max: usize::MAX, highest: AtomicU64::new(0) });
        assert_eq!(Download::start(source, 0, 1 << 20, &shared(usize::MAX)).unwrap().whole(), None);
    }
}
