//! Sending a blob while it is read: every byte verified before it is handed over, one chunk ahead of the socket.
//!
//! Where many are under way, a chunk is read where it is sent, on the thread that serves the connection, as long as reading
//! goes at the speed of memory. The way to another thread and back costs more than it brings: measured on two virtual
//! cores it took a third of a large pull's processor time, and the bytes left the core whose cache they were hashed in. Once a
//! read turns out slow, because a disk is behind it, blocking threads read for a while, one chunk ahead of the socket, so that
//! other connections of this thread do not wait for the disk. A chunk that does not prove right at once is read by a blocking
//! thread in any case: finding out what is wrong may take as long as reading the whole blob.
//!
//! Where few are under way, cores are idle, and a blocking thread reads one chunk ahead in any case. The socket's thread does
//! not wait for it but reads the chunk behind that one meanwhile, so that neither is woken as long as both have something to
//! do; chunks are large then, which makes the rest of the waking rare.
//!
//! A slow peer holds no thread either way, because the next read starts only when the last chunk was taken. In memory are
//! at most a chunk that is read, two that wait, and what the HTTP library holds of earlier ones, whatever the blob's size.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use layerhold::BlobReader;
use layerhold::blob::ReadFault;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::body::Payload;
use crate::buffers::{BUFFER_BYTES, Buffers, LARGE_BUFFER_BYTES};

/// Bytes that can be read at any place, verified.
pub trait Source: Send + Sync + 'static {
    /// Fills the front of `space` with bytes from `offset` on and says how many; 0 only at the end.
    ///
    /// # Errors
    /// Where the bytes cannot be read, or are not what was stored; then nothing in `space` may be used.
    fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed>;

    /// The same without waiting for more than the bytes themselves; `None` where that is not enough to give them.
    fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize>;
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

    fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
        BlobReader::try_read_at(self, offset, space)
    }
}

/// A chunk that takes longer than this to read came from a disk: from memory it takes a twentieth of a millisecond, and a
/// thread that has to wait for its turn on a busy machine should not count.
const SLOW_READ: Duration = Duration::from_millis(2);

/// How many chunks after a slow one are read on other threads without another try.
const WARY_CHUNKS: u32 = 64;

/// Buffers that wait for the next download when none runs.
const IDLE_BUFFERS_MAX: usize = 64;

/// Large buffers that a download has at most: one that is sent, two that wait, one that is read.
const LARGE_BUFFERS_MAX: usize = 4;

/// What the downloads of a server share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Downloads {
    buffers: Buffers,
    large: Buffers,
    under_way: Arc<AtomicUsize>,
    helped_max: usize,
}

impl Downloads {
    /// For a server whose sockets are served by so many threads.
    #[must_use]
    pub fn new(socket_threads: usize) -> Downloads {
        let helped_max = socket_threads / 2;
        Downloads {
            buffers: Buffers::new(BUFFER_BYTES, IDLE_BUFFERS_MAX),
            large: Buffers::new(LARGE_BUFFER_BYTES, LARGE_BUFFERS_MAX * helped_max),
            under_way: Arc::default(),
            helped_max,
        }
    }

    /// Whether half the threads have nothing to send: then each download has one more to read ahead.
    fn are_few(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) <= self.helped_max
    }
}

/// A range of a blob on its way to a client.
///
/// Its chunks are handed over in this order: `ready`, `reading`, `after`, and what is unread.
pub struct Download {
    source: Arc<dyn Source>,
    downloads: Downloads,
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
    after: Option<Bytes>,
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
        downloads: &Downloads,
    ) -> Result<Download, ReadFailed> {
        downloads.under_way.fetch_add(1, Ordering::Relaxed);
        let mut download = Download {
            source,
            downloads: downloads.clone(),
            wary: 0,
            next: first_byte,
            unread: len,
            remaining: len,
            ready: None,
            reading: None,
            after: None,
        };
        if len > 0 {
            let begin = Instant::now();
            let (offset, size) = download.reserve(BUFFER_BYTES);
            download.ready = Some(read_chunk(&*download.source, &downloads.buffers, offset, size)?);
            download.note_slowness(begin);
        }
        Ok(download)
    }

    /// The payload for a range of a blob: its bytes where they fit one buffer, else a download of it. Blocks.
    ///
    /// # Errors
    /// As [`Download::start`].
    pub fn of_blob(
        reader: BlobReader,
        first_byte: u64,
        len: u64,
        downloads: &Downloads,
    ) -> Result<Payload, ReadFailed> {
        let mut download = Download::start(Arc::new(reader), first_byte, len, downloads)?;
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
        let chunk = ready!(self.poll_chunk(cx));
        match &chunk {
            None => {}
            Some(Err(_)) => (self.unread, self.after) = (0, None),
            Some(Ok(chunk)) => {
                self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
                if self.unread > 0 && self.reading.is_none() && (!self.stays_here() || self.downloads.are_few()) {
                    self.read_elsewhere();
                }
            }
        }
        Poll::Ready(chunk)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadFailed>>> {
        if let Some(chunk) = self.ready.take() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &self.reading {
            None if self.unread == 0 => return Poll::Ready(None),
            None => {
                if let Some(chunk) = self.read_here() {
                    return Poll::Ready(Some(Ok(chunk)));
                }
                self.read_elsewhere();
            }
            // Better than to wait for the other thread is to read what comes behind its chunk.
            Some(reading) if self.after.is_none() && !reading.is_finished() => self.after = self.read_here(),
            Some(_) => {}
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let done = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        self.ready = self.after.take();
        Poll::Ready(Some(done.unwrap_or(Err(ReadFailed::Cancelled { offset: self.next }))))
    }

    fn stays_here(&self) -> bool {
        self.wary == 0
    }

    fn reserve(&mut self, chunk_bytes: usize) -> (u64, usize) {
        let size = usize::try_from(self.unread).unwrap_or(chunk_bytes).min(chunk_bytes);
        let offset = self.next;
        self.next += size as u64;
        self.unread -= size as u64;
        (offset, size)
    }

    /// Where the next chunk goes.
    fn buffers(&self) -> Buffers {
        let Downloads { buffers, large, .. } = &self.downloads;
        if self.stays_here() && self.downloads.are_few() { large.clone() } else { buffers.clone() }
    }

    fn read_elsewhere(&mut self) {
        let buffers = self.buffers();
        self.wary = self.wary.saturating_sub(1);
        let (offset, size) = self.reserve(buffers.buffer_bytes());
        let source = Arc::clone(&self.source);
        self.reading = Some(tokio::task::spawn_blocking(move || read_chunk(&*source, &buffers, offset, size)));
    }

    /// Reads the next chunk on this thread, if there is one and it comes at once.
    fn read_here(&mut self) -> Option<Bytes> {
        if self.unread == 0 || !self.stays_here() {
            return None;
        }
        let begin = Instant::now();
        let buffers = self.buffers();
        let (offset, size) = self.reserve(buffers.buffer_bytes());
        let chunk = try_read_chunk(&*self.source, &buffers, offset, size);
        self.note_slowness(begin);
        if chunk.is_none() {
            self.next = offset;
            self.unread += size as u64;
            // Whoever is to find out what is wrong reads the next one.
            self.wary = self.wary.max(1);
        }
        chunk
    }

    fn note_slowness(&mut self, begin: Instant) {
        if begin.elapsed() > SLOW_READ {
            self.wary = WARY_CHUNKS;
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.downloads.under_way.fetch_sub(1, Ordering::Relaxed);
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

/// The same, where all of it comes at once.
fn try_read_chunk(source: &dyn Source, buffers: &Buffers, offset: u64, size: usize) -> Option<Bytes> {
    let mut filling = buffers.take();
    let mut filled = 0;
    while filled < size {
        let space = filling.space().get_mut(filled..size)?;
        filled += source.try_read_at(offset + filled as u64, space).filter(|some| *some > 0)?;
    }
    Some(filling.into_bytes(size))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU64, Ordering};

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

        fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
            self.read_at(offset, space).ok()
        }
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
        let size = 5 * LARGE_BUFFER_BYTES as u64 + 17;
        let source = Arc::new(Pattern { size, read_max: 100_000, highest: AtomicU64::new(0) });
        for (first, len) in [(0, size), (0, 0), (1, 1), (size - 1, 1), (5, BUFFER_BYTES as u64), (7, size - 7)] {
            for (wary, threads) in [(0, 1), (2, 1), (u32::MAX, 1), (0, 2), (2, 2), (u32::MAX, 2)] {
                let downloads = Downloads::new(threads);
                let mut download = Download::start(source.clone(), first, len, &downloads).unwrap();
                download.wary = wary;
                let bytes = drain(download).await.unwrap();
                assert_eq!(bytes.len() as u64, len);
                assert!(bytes.iter().enumerate().all(|(place, &byte)| byte == pattern(first + place as u64)));
                assert_eq!(downloads.under_way.load(Ordering::Relaxed), 0);
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_read_before_it_is_wanted_unless_reading_is_slow() {
        let size = 100 * BUFFER_BYTES as u64;
        let source = Arc::new(Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) });
        let mut download = Download::start(source.clone(), 0, size, &Downloads::new(1)).unwrap();
        for (wary, ahead) in [(0, 0), (2, 1), (1, 1), (0, 0)] {
            download.wary = wary;
            poll_fn(|cx| download.poll_next(cx)).await.unwrap().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let sent = size - download.remaining();
            assert_eq!(source.highest.load(Ordering::Relaxed), sent + ahead * BUFFER_BYTES as u64, "wary={wary}");
        }
    }

    #[tokio::test]
    async fn a_download_among_few_is_read_ahead_and_one_among_many_is_not() {
        let size = 100 * LARGE_BUFFER_BYTES as u64;
        let start = |downloads: &Downloads| {
            let source = Arc::new(Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) });
            (Download::start(source.clone(), 0, size, downloads).unwrap(), source)
        };
        let downloads = Downloads::new(2);
        let (mut first, source) = start(&downloads);
        poll_fn(|cx| first.poll_next(cx)).await.unwrap().unwrap();
        first.reading.as_mut().unwrap().await.unwrap().unwrap();
        assert_eq!(source.highest.load(Ordering::Relaxed), (BUFFER_BYTES + LARGE_BUFFER_BYTES) as u64);

        let (mut second, source) = start(&downloads);
        poll_fn(|cx| second.poll_next(cx)).await.unwrap().unwrap();
        assert!(second.reading.is_none());
        assert_eq!(source.highest.load(Ordering::Relaxed), BUFFER_BYTES as u64);

        drop(first);
        poll_fn(|cx| second.poll_next(cx)).await.unwrap().unwrap();
        assert!(second.reading.is_some());
    }

    #[tokio::test]
    async fn while_another_thread_reads_one_chunk_is_read_here_and_no_more() {
        /// Reads of other threads wait until they are let.
        struct Gated(Pattern, parking_lot::Mutex<()>);
        impl Source for Gated {
            fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
                drop(self.1.lock());
                self.0.read_at(offset, space)
            }

            fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
                self.0.read_at(offset, space).ok()
            }
        }
        let size = 10 * LARGE_BUFFER_BYTES as u64;
        let pattern_source = Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) };
        let source = Arc::new(Gated(pattern_source, parking_lot::Mutex::default()));
        let mut download = Download::start(source.clone(), 0, size, &Downloads::new(2)).unwrap();
        let gate = source.1.lock();
        poll_fn(|cx| download.poll_next(cx)).await.unwrap().unwrap();
        for _ in 0..3 {
            let polled = poll_fn(|cx| Poll::Ready(download.poll_next(cx))).await;
            assert!(polled.is_pending());
            let read = (BUFFER_BYTES + 2 * LARGE_BUFFER_BYTES) as u64;
            assert_eq!(source.0.highest.load(Ordering::Relaxed), read);
        }
        drop(gate);
        let mut at = BUFFER_BYTES;
        while let Some(chunk) = poll_fn(|cx| download.poll_next(cx)).await {
            for &byte in &chunk.unwrap() {
                assert_eq!(byte, pattern(at as u64));
                at += 1;
            }
        }
        assert_eq!(at as u64, size);
    }

    #[tokio::test]
    async fn a_slow_read_moves_the_next_ones_to_other_threads() {
        struct Slow(Pattern);
        impl Source for Slow {
            fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
                std::thread::sleep(2 * SLOW_READ);
                self.0.read_at(offset, space)
            }

            fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
                self.read_at(offset, space).ok()
            }
        }
        let size = 100 * BUFFER_BYTES as u64;
        let source = Slow(Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) });
        let download = Download::start(Arc::new(source), 0, size, &Downloads::new(1)).unwrap();
        assert_eq!(download.wary, WARY_CHUNKS);
    }

    #[tokio::test]
    async fn a_chunk_that_has_to_be_judged_holds_no_socket_thread() {
        const JUDGING: Duration = Duration::from_millis(300);

        /// Its second chunk comes only after a while.
        struct Damaged(Pattern);
        impl Source for Damaged {
            fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
                if (BUFFER_BYTES as u64..2 * BUFFER_BYTES as u64).contains(&offset) {
                    std::thread::sleep(JUDGING);
                }
                self.0.read_at(offset, space)
            }

            fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
                let prefix = usize::try_from((BUFFER_BYTES as u64).saturating_sub(offset)).unwrap();
                let past = offset >= 2 * BUFFER_BYTES as u64;
                let space = if past { space } else { &mut space[..prefix.min(BUFFER_BYTES)] };
                (!space.is_empty()).then(|| self.0.read_at(offset, space).unwrap())
            }
        }
        for threads in [1, 2] {
            let size = 4 * BUFFER_BYTES as u64;
            let source = Damaged(Pattern { size, read_max: 100_000, highest: AtomicU64::new(0) });
            let download = Download::start(Arc::new(source), 0, size, &Downloads::new(threads)).unwrap();
            let ticks = Arc::new(AtomicU64::new(0));
            let ticking = Arc::clone(&ticks);
            let other = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    ticking.fetch_add(1, Ordering::Relaxed);
                }
            });
            let bytes = drain(download).await.unwrap();
            other.abort();
            assert!(
                bytes.len() as u64 == size && bytes.iter().enumerate().all(|(at, &byte)| byte == pattern(at as u64))
            );
            assert!(ticks.load(Ordering::Relaxed) > 5, "{ticks:?}");
        }
    }

    #[tokio::test]
    async fn a_blob_that_ends_early_is_an_error_and_not_an_end() {
        let source = Arc::new(Pattern { size: BUFFER_BYTES as u64, read_max: usize::MAX, highest: AtomicU64::new(0) });
        let download = Download::start(source, 0, 2 * BUFFER_BYTES as u64, &Downloads::new(1)).unwrap();
        assert!(matches!(drain(download).await, Err(ReadFailed::Short { .. })));
    }

    #[tokio::test]
    async fn what_fits_one_chunk_needs_no_stream() {
        let source = Arc::new(Pattern { size: 10, read_max: 3, highest: AtomicU64::new(0) });
        let mut small = Download::start(source.clone(), 2, 8, &Downloads::new(1)).unwrap();
        assert_eq!(small.whole().unwrap(), (2..10).map(pattern).collect::<Vec<u8>>());
        let source = Arc::new(Pattern { size: 1 << 20, read_max: usize::MAX, highest: AtomicU64::new(0) });
        assert_eq!(Download::start(source, 0, 1 << 20, &Downloads::new(1)).unwrap().whole(), None);
    }
}
