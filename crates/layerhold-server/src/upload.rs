//! A streamed body on its way into the engine.
//!
//! The bytes go from the socket's buffers to the engine as they are; nothing here copies them. The engine's calls block,
//! so they run on blocking threads, a batch at a time: while one batch is written and hashed, the next is received, and
//! when both are full the socket is left alone, which holds the client back. A thread is held only while there is
//! something to write, so that a thousand slow uploads need no thousand threads.
//!
//! A client that goes away drops the request's future at any point. What had arrived by then is kept: the feeder's `Drop`
//! sees to it, or, while a batch is being written, the thread that writes it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;
use parking_lot::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::arrival::{Arrival, Arrived, Stop};

/// A batch is written when it holds this much. The hop to a thread costs some microseconds, writing this much some
/// hundred.
const BATCH_BYTES: usize = 256 << 10;

/// Where a body goes. Every call blocks.
pub trait Sink: Send + 'static {
    /// What the client is told in the end.
    type Answer: Send + 'static;

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The answer that ends the request; the sink is then dropped.
    fn write(&mut self, bytes: Bytes) -> Result<(), Self::Answer>;

    /// The whole body arrived.
    fn finish(self) -> Self::Answer;

    /// The client went away.
    fn disconnected(self);
}

/// How a body ended.
#[derive(Debug)]
pub enum Outcome<A> {
    /// It was taken whole.
    Complete(A),
    /// The sink refused some of it, and the rest was not read.
    Refused(A),
    /// It did not arrive whole; what did is kept.
    Cut(Stop),
    /// The writing thread is gone.
    Lost,
}

/// Moves `arrival` into `sink`.
pub async fn feed<B, S>(arrival: &mut Arrival<B>, sink: S) -> Outcome<S::Answer>
where
    B: Body<Data = Bytes> + Unpin,
    S: Sink,
{
    let mut feeder = Feeder { slot: Arc::new(Mutex::new(Slot::Idle(sink))), batch: Batch::default(), writing: None };
    loop {
        match feeder.next(arrival).await {
            Event::Written(Ok(())) => {
                if feeder.batch.bytes >= BATCH_BYTES {
                    feeder.write();
                }
            }
            Event::Written(Err(Written::Refused(answer))) => return Outcome::Refused(answer),
            Event::Written(Err(Written::Lost)) => return Outcome::Lost,
            Event::Arrived(Ok(Arrived::Bytes(bytes))) => {
                feeder.batch.push(bytes);
                if feeder.writing.is_none() && feeder.batch.bytes >= BATCH_BYTES {
                    feeder.write();
                }
            }
            Event::Arrived(Ok(Arrived::Tick)) => {
                if feeder.writing.is_none() && feeder.batch.bytes > 0 {
                    feeder.write();
                }
            }
            Event::Arrived(Ok(Arrived::End)) => break,
            Event::Arrived(Err(stop)) => return Outcome::Cut(stop),
        }
    }
    feeder.finish().await
}

#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    fn into_sink<S: Sink>(self, sink: &mut S) -> Result<(), S::Answer> {
        self.pieces.into_iter().try_for_each(|piece| sink.write(piece))
    }
}

/// Where the sink is.
enum Slot<S> {
    Idle(S),
    /// A thread writes to it.
    Busy,
    /// A thread writes to it and shall end it with these last bytes.
    Abandoned(Batch),
    Gone,
}

enum Written<A> {
    Refused(A),
    Lost,
}

enum Event<A> {
    Written(Result<(), Written<A>>),
    Arrived(Result<Arrived, Stop>),
}

struct Feeder<S: Sink> {
    slot: Arc<Mutex<Slot<S>>>,
    batch: Batch,
    writing: Option<JoinHandle<Result<(), S::Answer>>>,
}

impl<S: Sink> Feeder<S> {
    /// The end of a write, or, if there is room, the next piece of the body.
    async fn next<B: Body<Data = Bytes> + Unpin>(&mut self, arrival: &mut Arrival<B>) -> Event<S::Answer> {
        poll_fn(|cx| {
            if let Some(writing) = &mut self.writing {
                if let Poll::Ready(done) = Pin::new(writing).poll(cx) {
                    self.writing = None;
                    return Poll::Ready(Event::Written(settled(done)));
                }
                if self.batch.bytes >= BATCH_BYTES {
                    return Poll::Pending;
                }
            }
            arrival.poll_next(cx).map(Event::Arrived)
        })
        .await
    }

    /// Sends the batch to a blocking thread.
    fn write(&mut self) {
        let Slot::Idle(mut sink) = std::mem::replace(&mut *self.slot.lock(), Slot::Busy) else { return };
        let batch = std::mem::take(&mut self.batch);
        let slot = Arc::clone(&self.slot);
        self.writing = Some(spawn_blocking(move || {
            let written = batch.into_sink(&mut sink);
            let mut slot = slot.lock();
            if written.is_err() {
                *slot = Slot::Gone;
                return written;
            }
            match std::mem::replace(&mut *slot, Slot::Gone) {
                Slot::Abandoned(rest) => {
                    drop(slot);
                    abandon(sink, rest);
                }
                _ => *slot = Slot::Idle(sink),
            }
            Ok(())
        }));
    }

    async fn finish(&mut self) -> Outcome<S::Answer> {
        if let Some(writing) = &mut self.writing {
            let done = settled(writing.await);
            self.writing = None;
            match done {
                Ok(()) => {}
                Err(Written::Refused(answer)) => return Outcome::Refused(answer),
                Err(Written::Lost) => return Outcome::Lost,
            }
        }
        let Slot::Idle(mut sink) = std::mem::replace(&mut *self.slot.lock(), Slot::Gone) else {
            return Outcome::Lost;
        };
        let batch = std::mem::take(&mut self.batch);
        // Once handed over it runs to its end, whether or not anybody still waits for the answer.
        let last = spawn_blocking(move || match batch.into_sink(&mut sink) {
            Ok(()) => Outcome::Complete(sink.finish()),
            Err(answer) => Outcome::Refused(answer),
        });
        last.await.unwrap_or(Outcome::Lost)
    }
}

fn settled<A>(done: Result<Result<(), A>, tokio::task::JoinError>) -> Result<(), Written<A>> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(answer)) => Err(Written::Refused(answer)),
        Err(_) => Err(Written::Lost),
    }
}

fn abandon<S: Sink>(mut sink: S, rest: Batch) {
    if rest.into_sink(&mut sink).is_ok() {
        sink.disconnected();
    }
}

impl<S: Sink> Drop for Feeder<S> {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.batch);
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Gone) {
            Slot::Idle(sink) => {
                spawn_blocking(move || abandon(sink, rest));
            }
            Slot::Busy => *slot = Slot::Abandoned(rest),
            Slot::Abandoned(_) | Slot::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Context;
    use std::time::Duration;

    use super::*;
    use crate::arrival::Pace;

    #[derive(Default)]
    struct Seen {
        bytes: u64,
        finished: bool,
        disconnected: bool,
        in_memory_max: u64,
    }

    struct Recorder {
        seen: Arc<Mutex<Seen>>,
        limit: u64,
        delay: Duration,
    }

    impl Sink for Recorder {
        type Answer = &'static str;

        fn write(&mut self, bytes: Bytes) -> Result<(), &'static str> {
            std::thread::sleep(self.delay);
            let mut seen = self.seen.lock();
            seen.bytes += bytes.len() as u64;
            if seen.bytes > self.limit { Err("too large") } else { Ok(()) }
        }

        fn finish(self) -> &'static str {
            self.seen.lock().finished = true;
            "done"
        }

        fn disconnected(self) {
            self.seen.lock().disconnected = true;
        }
    }

    /// Pieces, then the end, or silence.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        hangs: bool,
        handed: u64,
        seen: Arc<Mutex<Seen>>,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            match self.pieces.pop_front() {
                Some(piece) => {
                    self.handed += piece.len() as u64;
                    let mut seen = self.seen.lock();
                    seen.in_memory_max = seen.in_memory_max.max(self.handed - seen.bytes);
                    drop(seen);
                    Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
                }
                None if self.hangs => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    const PIECE: usize = 64 << 10;

    fn set_up(count: usize, hangs: bool, limit: u64) -> (Arrival<Pieces>, Recorder, Arc<Mutex<Seen>>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let pieces = std::iter::repeat_n(Bytes::from(vec![7; PIECE]), count).collect();
        let body = Pieces { pieces, hangs, handed: 0, seen: Arc::clone(&seen) };
        let pace = Pace { idle: Duration::from_secs(600), rate_min: 0 };
        let recorder = Recorder { seen: Arc::clone(&seen), limit, delay: Duration::from_micros(200) };
        (Arrival::new(body, pace), recorder, seen)
    }

    #[tokio::test]
    async fn a_whole_body_arrives_in_bounded_memory() {
        let (mut arrival, recorder, seen) = set_up(200, false, u64::MAX);
        assert!(matches!(feed(&mut arrival, recorder).await, Outcome::Complete("done")));
        let seen = seen.lock();
        assert_eq!(seen.bytes, 200 * PIECE as u64);
        assert!(seen.finished && !seen.disconnected);
        assert!(seen.in_memory_max <= 2 * (BATCH_BYTES + PIECE) as u64, "{}", seen.in_memory_max);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_body() {
        let (mut arrival, recorder, seen) = set_up(200, false, 10 * PIECE as u64);
        assert!(matches!(feed(&mut arrival, recorder).await, Outcome::Refused("too large")));
        let seen = seen.lock();
        assert!(!seen.finished && !seen.disconnected);
        assert_eq!(seen.bytes, 11 * PIECE as u64);
    }

    #[tokio::test]
    async fn what_arrived_before_a_client_went_away_is_kept() {
        for count in [1, 3, 4, 9, 50] {
            let (mut arrival, recorder, seen) = set_up(count, true, u64::MAX);
            let patience = Duration::from_millis(3 * count as u64 % 17);
            assert!(tokio::time::timeout(patience, feed(&mut arrival, recorder)).await.is_err());
            for _ in 0..500 {
                if seen.lock().disconnected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let seen = seen.lock();
            assert!(seen.disconnected && !seen.finished);
            let handed = count - arrival_left(&arrival);
            assert_eq!(seen.bytes, (handed * PIECE) as u64, "count={count}");
        }
    }

    fn arrival_left(arrival: &Arrival<Pieces>) -> usize {
        arrival.body().pieces.len()
    }
}
