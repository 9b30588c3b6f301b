//! One connection's clock: what it waits for, since when, and when that is too long.
//!
//! A registry's peers are slow for good reasons (a laptop on a train pushes a layer for an hour) and for bad ones (a
//! client that sends one header byte a minute, to hold the socket). What tells them apart is standstill: each wait has a
//! limit of its own, and a wait ends with each byte that moves.
//!
//! Timers cost more than the requests that they would guard: a manifest HEAD takes some microseconds. So a connection
//! only notes the tick at which its present wait began, two relaxed atomic stores, and one task looks at all connections
//! four times a second and ends those that stood still too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// How often connections are looked at. Limits are kept to within one of these.
const TICK: Duration = Duration::from_millis(250);

/// Longest waits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first byte of a request to the end of its headers.
    pub header: Duration,
    /// Between two requests, and for a peer that takes no byte of a response.
    pub idle: Duration,
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Wait {
    /// The next request's first byte.
    Request = 0,
    /// The end of a request's headers.
    Headers = 1,
    /// The server itself, or a body, whose reader has a limit of its own.
    Answer = 2,
}

/// The state that the connection writes and the watcher reads.
#[derive(Debug)]
pub struct Pulse {
    wait: AtomicU8,
    since: AtomicU32,
    /// The tick at which the socket refused to take more, plus one; 0 while it takes what it gets.
    stalled: AtomicU32,
    clock: Arc<AtomicU32>,
}

impl Pulse {
    fn begin(&self, wait: Wait) {
        self.since.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        self.wait.store(wait as u8, Ordering::Relaxed);
    }

    fn waits_for(&self, wait: Wait) -> bool {
        self.wait.load(Ordering::Relaxed) == wait as u8
    }

    /// The request's headers are complete: the next step is ours.
    pub fn request_arrived(&self) {
        self.begin(Wait::Answer);
    }

    /// The response's last byte is in the library's hands.
    pub fn response_done(&self) {
        self.begin(Wait::Request);
    }

    fn overdue(&self, patience: Patience) -> bool {
        let now = self.clock.load(Ordering::Relaxed);
        let longer = |since: u32, limit: Duration| TICK * now.wrapping_sub(since) > limit;
        let stalled = self.stalled.load(Ordering::Relaxed);
        if stalled != 0 && longer(stalled.wrapping_sub(1), patience.idle) {
            return true;
        }
        let limit = match self.wait.load(Ordering::Relaxed) {
            wait if wait == Wait::Request as u8 => patience.idle,
            wait if wait == Wait::Headers as u8 => patience.header,
            _ => return false,
        };
        longer(self.since.load(Ordering::Relaxed), limit)
    }
}

/// The socket, noting when bytes move.
#[derive(Debug)]
pub struct Watched {
    socket: TokioIo<TcpStream>,
    pulse: Arc<Pulse>,
}

impl Watched {
    /// Watches `socket` through `pulse`.
    pub fn new(socket: TcpStream, pulse: Arc<Pulse>) -> Watched {
        Watched { socket: TokioIo::new(socket), pulse }
    }

    fn wrote(&self, outcome: &Poll<io::Result<usize>>) {
        let stalled = self.pulse.stalled.load(Ordering::Relaxed) != 0;
        match outcome {
            Poll::Pending if !stalled => {
                let now = self.pulse.clock.load(Ordering::Relaxed);
                self.pulse.stalled.store(now.wrapping_add(1).max(1), Ordering::Relaxed);
            }
            Poll::Ready(_) if stalled => self.pulse.stalled.store(0, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_read(cx, buf);
        if outcome.is_ready() && self.pulse.waits_for(Wait::Request) {
            self.pulse.begin(Wait::Headers);
        }
        outcome
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(&outcome);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(&outcome);
        outcome
    }
}

/// Looks at every connection of the server.
#[derive(Clone, Debug)]
pub struct Watcher {
    patience: Patience,
    clock: Arc<AtomicU32>,
    watched: Arc<Mutex<Vec<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    pulse: Arc<Pulse>,
    task: AbortHandle,
}

impl Watcher {
    /// A watcher with these limits; [`Watcher::run`] has to be driven.
    #[must_use]
    pub fn new(patience: Patience) -> Watcher {
        Watcher { patience, clock: Arc::new(AtomicU32::new(0)), watched: Arc::new(Mutex::new(Vec::new())) }
    }

    /// A pulse for a new connection, which waits for its first request.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::new(Pulse {
            wait: AtomicU8::new(Wait::Request as u8),
            since: AtomicU32::new(self.clock.load(Ordering::Relaxed)),
            stalled: AtomicU32::new(0),
            clock: Arc::clone(&self.clock),
        })
    }

    /// Takes a running connection under watch.
    pub fn watch(&self, pulse: Arc<Pulse>, task: AbortHandle) {
        self.watched.lock().push(Connection { pulse, task });
    }

    /// Ends every connection that is still there.
    pub fn end_all(&self) {
        for connection in self.watched.lock().drain(..) {
            connection.task.abort();
        }
    }

    /// Counts time and ends what stands still, for ever.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.clock.fetch_add(1, Ordering::Relaxed);
            self.watched.lock().retain(|Connection { pulse, task }| {
                if task.is_finished() {
                    return false;
                }
                let overdue = pulse.overdue(self.patience);
                if overdue {
                    tracing::debug!(wait = pulse.wait.load(Ordering::Relaxed), "ended a connection that stood still");
                    task.abort();
                }
                !overdue
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_has_its_own_limit() {
        let patience = Patience { header: Duration::from_secs(10), idle: Duration::from_secs(60) };
        let watcher = Watcher::new(patience);
        let pulse = watcher.pulse();
        let pass = |s: u32| watcher.clock.fetch_add(s * 4, Ordering::Relaxed);

        pass(60);
        assert!(!pulse.overdue(patience));
        pass(1);
        assert!(pulse.overdue(patience));

        pulse.begin(Wait::Headers);
        pass(10);
        assert!(!pulse.overdue(patience));
        pass(1);
        assert!(pulse.overdue(patience));

        pulse.request_arrived();
        pass(100_000);
        assert!(!pulse.overdue(patience));

        pulse.response_done();
        assert!(!pulse.overdue(patience));
        pulse.request_arrived();
        pulse.stalled.store(watcher.clock.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        pass(60);
        assert!(!pulse.overdue(patience));
        pass(1);
        assert!(pulse.overdue(patience));
    }
}
