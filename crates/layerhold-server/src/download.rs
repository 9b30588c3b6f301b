//! Sending a blob while it is read: every byte verified before it is handed over.
//!
//! Where many downloads are under way, a chunk is read where it is sent, on the thread that serves the connection, as long as
//! reading goes at the speed of memory. The way to another thread and back costs more than it brings: measured on two virtual
//! cores it took a third of a large pull's processor time, and the bytes left the core whose cache they were hashed in. Once a
//! read turns out slow, because a disk is behind it, blocking threads read for a while, one chunk ahead of the socket, so that
//! other connections of this thread do not wait for the disk. A chunk that does not prove right at once is read by a blocking
//! thread in any case: finding out what is wrong may take as long as reading the whole blob.
//!
//! Where few are under way, a blocking thread reads one chunk ahead in any case. The socket's thread does not wait for it
//! but reads the chunk behind that one meanwhile, so that neither is woken as long as both have something to do; and where the
//! other thread has not begun, because all of them are busy, it reads that chunk itself. Chunks are large then, which makes
//! the rest of the waking rare.
//!
//! A slow peer holds no thread either way, because the next read starts only when the last chunk was taken. In memory are
//! at most a chunk that is read, one that waits, and what the HTTP library holds of earlier ones, whatever the blob's size; all
//! large chunks of a server are bounded together.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use layerhold::BlobReader;
use layerhold::blob::ReadFault;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::body::Payload;
use crate::buffers::{BUFFER_BYTES, Buffers, Filled, LARGE_BUFFER_BYTES};

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

/// [`BUFFER_BYTES`] that take longer than this to read came from a disk: from memory they take a twentieth of a millisecond, and
/// a thread that has to wait for its turn on a busy machine should not count.
const SLOW_READ: Duration = Duration::from_millis(2);

/// How many chunks after a slow one are read on other threads without another try.
const WARY_CHUNKS: u32 = 64;

/// Buffers that wait for the next download when none runs.
const IDLE_BUFFERS_MAX: usize = 64;

/// Large buffers for each download that is helped: one that is sent, two that wait or are read.
const LARGE_BUFFERS: usize = 3;

/// Chunks that are read elsewhere after one that did not prove right here: as many as the large one that was tried has.
const DOUBTFUL_CHUNKS: u32 = (LARGE_BUFFER_BYTES / BUFFER_BYTES) as u32;

/// What the downloads of a server share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Downloads {
    buffers: Buffers,
    large: Buffers,
    under_way: Arc<AtomicUsize>,
    helped_max: usize,
    slow_read: Duration,
}

impl Downloads {
    /// For a server with so many threads for sockets, each of which can have a core.
    ///
    /// Half as many downloads at once are helped by another thread. Their buffers have 3 MiB each and are kept.
    #[must_use]
    pub fn new(socket_threads: usize) -> Downloads {
        let helped_max = socket_threads / 2;
        Downloads {
            buffers: Buffers::new(BUFFER_BYTES, IDLE_BUFFERS_MAX),
            large: Buffers::new(LARGE_BUFFER_BYTES, LARGE_BUFFERS * helped_max),
            under_way: Arc::default(),
            helped_max,
            slow_read: SLOW_READ,
        }
    }

    /// Whether there are at most half as many as threads that could serve them, so that each may have another one.
    fn are_few(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) <= self.helped_max
    }

    /// Where a chunk goes.
    fn filling(&self, large: bool) -> Filled {
        let large = large.then(|| self.large.take_below(LARGE_BUFFERS * self.helped_max)).flatten();
        large.unwrap_or_else(|| self.buffers.take())
    }
}

/// A chunk that another thread reads, or will.
struct Ahead {
    offset: u64,
    len: usize,
    /// Set by whoever reads it: the other thread, or this one in its place.
    claimed: Arc<AtomicBool>,
    job: JoinHandle<Result<Bytes, ReadFailed>>,
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
    reading: Option<Ahead>,
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
            let filling = downloads.filling(false);
            let (offset, len) = download.reserve(filling.capacity());
            download.ready = Some(read_chunk(&*download.source, filling, offset, len)?);
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
            Some(Err(_)) => (self.unread, self.ready) = (0, None),
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
        // Better than to wait for the other thread is to do its work, or what comes behind it.
        if self.stays_here()
            && self.after.is_none()
            && self.reading.as_ref().is_some_and(|ahead| !ahead.job.is_finished())
        {
            self.take_over();
            if self.reading.is_some() {
                self.after = self.read_here();
            }
        }
        if self.reading.is_none() {
            if self.unread == 0 {
                return Poll::Ready(None);
            }
            if let Some(chunk) = self.read_here() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            self.read_elsewhere();
        }
        let Some(ahead) = &mut self.reading else { return Poll::Ready(None) };
        let done = ready!(Pin::new(&mut ahead.job).poll(cx));
        let offset = ahead.offset;
        self.reading = None;
        self.ready = self.after.take();
        Poll::Ready(Some(done.unwrap_or(Err(ReadFailed::Cancelled { offset }))))
    }

    fn stays_here(&self) -> bool {
        self.wary == 0
    }

    fn reserve(&mut self, capacity: usize) -> (u64, usize) {
        let len = usize::try_from(self.unread).unwrap_or(capacity).min(capacity);
        let offset = self.next;
        self.next += len as u64;
        self.unread -= len as u64;
        (offset, len)
    }

    /// Takes back what was reserved last, from `offset` on.
    fn give_back(&mut self, offset: u64) {
        self.unread += self.next - offset;
        self.next = offset;
    }

    fn read_elsewhere(&mut self) {
        let filling = self.downloads.filling(self.stays_here() && self.downloads.are_few());
        self.wary = self.wary.saturating_sub(1);
        let (offset, len) = self.reserve(filling.capacity());
        let source = Arc::clone(&self.source);
        let claimed = Arc::new(AtomicBool::new(false));
        let mine = Arc::clone(&claimed);
        let job = tokio::task::spawn_blocking(move || {
            if mine.swap(true, Ordering::Relaxed) {
                return Err(ReadFailed::Cancelled { offset });
            }
            read_chunk(&*source, filling, offset, len)
        });
        self.reading = Some(Ahead { offset, len, claimed, job });
    }

    /// Takes the chunk back that another thread was to read, where nobody has begun and it was reserved last.
    fn take_over(&mut self) {
        let Some(ahead) = self.reading.take_if(|ahead| ahead.offset + ahead.len as u64 == self.next) else { return };
        if ahead.claimed.swap(true, Ordering::Relaxed) {
            self.reading = Some(ahead);
        } else {
            ahead.job.abort();
            self.give_back(ahead.offset);
        }
    }

    /// Reads the next chunk on this thread, if there is one and it comes at once; less of it once reading turns out slow.
    fn read_here(&mut self) -> Option<Bytes> {
        if self.unread == 0 || !self.stays_here() {
            return None;
        }
        let mut filling = self.downloads.filling(self.downloads.are_few());
        let (offset, len) = self.reserve(filling.capacity());
        let mut filled = 0;
        while filled < len && self.stays_here() {
            let begin = Instant::now();
            let end = len.min(filled + BUFFER_BYTES);
            let space = filling.space().get_mut(filled..end).unwrap_or_default();
            match self.source.try_read_at(offset + filled as u64, space).filter(|some| *some > 0) {
                Some(some) => filled += some,
                // Whoever is to find out what is wrong reads what comes next.
                None => self.wary = DOUBTFUL_CHUNKS,
            }
            self.note_slowness(begin);
        }
        self.give_back(offset + filled as u64);
        (filled > 0).then(|| filling.into_bytes(filled))
    }

    fn note_slowness(&mut self, begin: Instant) {
        if begin.elapsed() > self.downloads.slow_read {
            self.wary = WARY_CHUNKS;
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.downloads.under_way.fetch_sub(1, Ordering::Relaxed);
        if let Some(ahead) = &self.reading {
            ahead.job.abort();
        }
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("next", &self.next).field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

/// Exactly `len` bytes from `offset`.
fn read_chunk(source: &dyn Source, mut filling: Filled, offset: u64, len: usize) -> Result<Bytes, ReadFailed> {
    let mut filled = 0;
    while filled < len {
        let Some(space) = filling.space().get_mut(filled..len) else { break };
        let place = offset + filled as u64;
        match source.read_at(place, space)? {
            0 => return Err(ReadFailed::Short { offset: place }),
            some => filled += some,
        }
    }
    Ok(filling.into_bytes(len))
}

#[cfg(test)]
#[allow(clippy::await_holding_lock, reason = "the lock is a gate that stops other threads, not the one that awaits")]
mod tests {
    use std::future::poll_fn;
    use std::ops::Range;
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

    /// A machine that is busy with other things must not look like a slow disk.
    fn downloads(socket_threads: usize) -> Downloads {
        Downloads { slow_read: Duration::MAX, ..Downloads::new(socket_threads) }
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
                let downloads = downloads(threads);
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
        let mut download = Download::start(source.clone(), 0, size, &downloads(1)).unwrap();
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
        let downloads = downloads(2);
        let (mut first, source) = start(&downloads);
        poll_fn(|cx| first.poll_next(cx)).await.unwrap().unwrap();
        (&mut first.reading.as_mut().unwrap().job).await.unwrap().unwrap();
        assert_eq!(source.highest.load(Ordering::Relaxed), (BUFFER_BYTES + LARGE_BUFFER_BYTES) as u64);

        let (mut second, source) = start(&downloads);
        poll_fn(|cx| second.poll_next(cx)).await.unwrap().unwrap();
        assert!(second.reading.is_none());
        assert_eq!(source.highest.load(Ordering::Relaxed), BUFFER_BYTES as u64);

        drop(first);
        poll_fn(|cx| second.poll_next(cx)).await.unwrap().unwrap();
        assert!(second.reading.is_some());
    }

    /// Reads by `read_at` wait until they are let; those of one range fail, and those of another are not given at once.
    struct Gated {
        pattern: Pattern,
        gate: parking_lot::Mutex<()>,
        begun: AtomicU64,
        failing: Range<u64>,
        doubtful: Range<u64>,
    }

    impl Gated {
        fn new(size: u64) -> Gated {
            let pattern = Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) };
            Gated {
                pattern,
                gate: parking_lot::Mutex::default(),
                begun: AtomicU64::new(0),
                failing: 0..0,
                doubtful: 0..0,
            }
        }
    }

    impl Source for Gated {
        fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.lock());
            if self.failing.contains(&offset) {
                return Err(ReadFailed::Short { offset });
            }
            self.pattern.read_at(offset, space)
        }

        fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
            (!self.doubtful.contains(&offset)).then(|| self.pattern.read_at(offset, space).unwrap())
        }
    }

    const FIRST: u64 = BUFFER_BYTES as u64;
    const LARGE: u64 = LARGE_BUFFER_BYTES as u64;

    /// The first chunk was handed over, and another thread waits at the gate with the second one.
    async fn until_another_thread_has_begun(download: &mut Download, source: &Gated) {
        let begun = source.begun.load(Ordering::SeqCst);
        poll_fn(|cx| download.poll_next(cx)).await.unwrap().unwrap();
        while source.begun.load(Ordering::SeqCst) == begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn rest_of(mut download: Download, mut at: u64) -> u64 {
        while let Some(chunk) = poll_fn(|cx| download.poll_next(cx)).await {
            for &byte in &chunk.unwrap() {
                assert_eq!(byte, pattern(at), "at {at}");
                at += 1;
            }
        }
        at
    }

    #[tokio::test]
    async fn while_another_thread_reads_one_chunk_is_read_here_and_no_more() {
        let size = 10 * LARGE;
        let source = Arc::new(Gated::new(size));
        let mut download = Download::start(source.clone(), 0, size, &downloads(2)).unwrap();
        let gate = source.gate.lock();
        until_another_thread_has_begun(&mut download, &source).await;
        for _ in 0..3 {
            let polled = poll_fn(|cx| Poll::Ready(download.poll_next(cx))).await;
            assert!(polled.is_pending());
            assert_eq!(source.pattern.highest.load(Ordering::Relaxed), FIRST + 2 * LARGE);
        }
        drop(gate);
        assert_eq!(rest_of(download, FIRST).await, size);
    }

    #[tokio::test]
    async fn what_does_not_come_at_once_behind_the_other_thread_s_chunk_is_read_elsewhere_later() {
        let size = 10 * LARGE;
        let doubtful_from = FIRST + LARGE + 2 * FIRST;
        for doubtful in [doubtful_from..doubtful_from + FIRST, FIRST + LARGE..size] {
            let source = Arc::new(Gated { doubtful, ..Gated::new(size) });
            let mut download = Download::start(source.clone(), 0, size, &downloads(2)).unwrap();
            let gate = source.gate.lock();
            until_another_thread_has_begun(&mut download, &source).await;
            let polled = poll_fn(|cx| Poll::Ready(download.poll_next(cx))).await;
            assert!(polled.is_pending());
            assert_eq!(download.wary, DOUBTFUL_CHUNKS);
            assert_eq!(download.next, source.doubtful.start);
            drop(gate);
            assert_eq!(rest_of(download, FIRST).await, size);
        }
    }

    #[tokio::test]
    async fn behind_a_chunk_that_fails_nothing_follows() {
        let size = 10 * LARGE;
        let source = Arc::new(Gated { failing: FIRST..FIRST + LARGE, ..Gated::new(size) });
        let mut download = Download::start(source.clone(), 0, size, &downloads(2)).unwrap();
        let gate = source.gate.lock();
        until_another_thread_has_begun(&mut download, &source).await;
        assert!(poll_fn(|cx| Poll::Ready(download.poll_next(cx))).await.is_pending());
        assert!(download.after.is_some());
        drop(gate);
        assert!(poll_fn(|cx| download.poll_next(cx)).await.unwrap().is_err());
        assert!(poll_fn(|cx| download.poll_next(cx)).await.is_none());
    }

    #[test]
    fn a_chunk_that_no_thread_is_free_for_is_read_by_the_socket_s() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let size = 3 * LARGE;
            let source = Arc::new(Gated::new(size));
            let (let_go, held) = std::sync::mpsc::channel::<()>();
            let holder = tokio::task::spawn_blocking(move || held.recv());
            let download = Download::start(source.clone(), 0, size, &downloads(2)).unwrap();
            assert_eq!(rest_of(download, 0).await, size);
            assert_eq!(source.begun.load(Ordering::SeqCst), 1);
            drop(let_go);
            holder.await.unwrap().unwrap_err();
        });
    }

    #[tokio::test]
    async fn large_buffers_are_bounded_and_what_they_hold_counts_until_it_is_dropped() {
        let downloads = downloads(2);
        let held: Vec<_> = (0..LARGE_BUFFERS).map(|_| downloads.filling(true).into_bytes(1)).collect();
        assert_eq!(downloads.filling(true).capacity(), BUFFER_BYTES);
        drop(held);
        assert_eq!(downloads.filling(true).capacity(), LARGE_BUFFER_BYTES);
        assert_eq!(downloads.filling(false).capacity(), BUFFER_BYTES);
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
        let source = || Arc::new(Slow(Pattern { size, read_max: usize::MAX, highest: AtomicU64::new(0) }));
        let download = Download::start(source(), 0, size, &Downloads::new(1)).unwrap();
        assert_eq!(download.wary, WARY_CHUNKS);
        // Found out on the socket's thread it costs the rest of the chunk as well: that is given back.
        for (threads, chunk) in [(1, BUFFER_BYTES), (2, BUFFER_BYTES)] {
            let mut download = Download::start(source(), 0, size, &Downloads::new(threads)).unwrap();
            (download.wary, download.ready) = (0, None);
            assert_eq!(download.read_here().map(|chunk| chunk.len()), Some(chunk));
            assert_eq!((download.next, download.unread), (2 * chunk as u64, size - 2 * chunk as u64));
            assert_eq!(download.wary, WARY_CHUNKS);
            assert!(download.read_here().is_none());
        }
    }

    #[tokio::test]
    async fn a_chunk_that_has_to_be_judged_holds_no_socket_thread() {
        const JUDGING: Duration = Duration::from_millis(300);

        /// One range of it comes only after a while.
        struct Damaged(Pattern);
        impl Source for Damaged {
            fn read_at(&self, offset: u64, space: &mut [u8]) -> Result<usize, ReadFailed> {
                if offset < 2 * LARGE && offset + space.len() as u64 > 2 * LARGE - FIRST {
                    std::thread::sleep(JUDGING);
                }
                self.0.read_at(offset, space)
            }

            fn try_read_at(&self, offset: u64, space: &mut [u8]) -> Option<usize> {
                let is_near = offset < 2 * LARGE && offset + space.len() as u64 > 2 * LARGE - FIRST;
                (!is_near).then(|| self.0.read_at(offset, space).unwrap())
            }
        }
        for threads in [1, 2] {
            let size = 6 * LARGE;
            let source = Damaged(Pattern { size, read_max: 100_000, highest: AtomicU64::new(0) });
            let download = Download::start(Arc::new(source), 0, size, &downloads(threads)).unwrap();
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
        let download = Download::start(source, 0, 2 * BUFFER_BYTES as u64, &downloads(1)).unwrap();
        assert!(matches!(drain(download).await, Err(ReadFailed::Short { .. })));
    }

    #[tokio::test]
    async fn what_fits_one_chunk_needs_no_stream() {
        let source = Arc::new(Pattern { size: 10, read_max: 3, highest: AtomicU64::new(0) });
        let mut small = Download::start(source.clone(), 2, 8, &downloads(1)).unwrap();
        assert_eq!(small.whole().unwrap(), (2..10).map(pattern).collect::<Vec<u8>>());
        let source = Arc::new(Pattern { size: 1 << 20, read_max: usize::MAX, highest: AtomicU64::new(0) });
        assert_eq!(Download::start(source, 0, 1 << 20, &downloads(1)).unwrap().whole(), None);
    }
}
