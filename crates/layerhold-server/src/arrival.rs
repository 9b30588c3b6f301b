//! A request's body as it arrives, with limits on standstill and slowness.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::Interval;

/// How often a body that lets us wait is looked at.
const TICK: Duration = Duration::from_secs(1);

/// What a body may take in time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest standstill.
    pub idle: Duration,
    /// Fewest bytes a second over each `idle`; 0 asks nothing.
    pub rate_min: u64,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Some bytes, as the HTTP library's buffer holds them.
    Bytes(Bytes),
    /// The body is complete.
    End,
    /// A second went by; a chance to write out what is there.
    Tick,
}

/// Why a body ended without being complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// No byte came for too long.
    #[error("the request body stood still for too long")]
    Idle,
    /// Bytes came, but fewer than the least rate.
    #[error("the request body arrives too slowly")]
    TooSlow,
    /// The connection broke, or the body is not framed as it says.
    #[error("the request body ended before it was complete")]
    Broken,
}

/// A body being received.
#[derive(Debug)]
pub struct Arrival<B> {
    body: B,
    pace: Pace,
    /// Made when the body first lets us wait: most bodies never do.
    ticks: Option<Interval>,
    idle_ticks: u64,
    window_ticks: u64,
    window_bytes: u64,
    ended: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Arrival<B> {
    /// Receives `body`.
    pub fn new(body: B, pace: Pace) -> Arrival<B> {
        Arrival { body, pace, ticks: None, idle_ticks: 0, window_ticks: 0, window_bytes: 0, ended: false }
    }

    /// The body itself, for tests to look at.
    #[cfg(test)]
    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    /// Whether nothing more will come.
    pub fn is_complete(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    /// The next event. Giving up on the future loses nothing.
    ///
    /// # Errors
    /// [`Stop`]; nothing comes after it.
    pub async fn next(&mut self) -> Result<Arrived, Stop> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Arrival::next`], for use inside another future.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived, Stop>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(Ok(Arrived::End));
                }
                Poll::Ready(Some(Err(_))) => {
                    self.ended = true;
                    return Poll::Ready(Err(Stop::Broken));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => {
                        self.idle_ticks = 0;
                        self.window_bytes += bytes.len() as u64;
                        return Poll::Ready(Ok(Arrived::Bytes(bytes)));
                    }
                    // Trailers mean nothing in either protocol.
                    Err(_) => continue,
                },
                Poll::Pending => break,
            }
        }
        let ticks = self.ticks.get_or_insert_with(|| {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        if ticks.poll_tick(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.judge())
    }

    /// Judges the body's pace once a second.
    fn judge(&mut self) -> Result<Arrived, Stop> {
        self.idle_ticks += 1;
        self.window_ticks += 1;
        let window = self.pace.idle.as_secs().max(1);
        if self.idle_ticks > window {
            return Err(Stop::Idle);
        }
        if self.window_ticks >= window {
            if self.window_bytes < self.pace.rate_min.saturating_mul(window) {
                return Err(Stop::TooSlow);
            }
            self.window_ticks = 0;
            self.window_bytes = 0;
        }
        Ok(Arrived::Tick)
    }

    /// Reads and drops the rest, up to `bytes_max` and for at most ten seconds.
    ///
    /// A client that is still sending when it gets its answer and finds the connection reset may never see the answer.
    pub async fn discard(mut self, bytes_max: u64) {
        let drain = async {
            let mut dropped = 0;
            while let Ok(Arrived::Bytes(_) | Arrived::Tick) = self.next().await.inspect(|arrived| {
                if let Arrived::Bytes(bytes) = arrived {
                    dropped += bytes.len() as u64;
                }
            }) {
                if dropped > bytes_max {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), drain).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of one piece every so often, then silence.
    struct Trickle {
        pieces: u32,
        every: Interval,
    }

    impl Trickle {
        fn new(pieces: u32, every: Duration) -> Trickle {
            Trickle { pieces, every: tokio::time::interval(every) }
        }
    }

    impl Body for Trickle {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            if self.pieces == 0 || self.every.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            self.pieces -= 1;
            Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"0123456789")))))
        }
    }

    async fn outcome(body: Trickle, pace: Pace) -> (u64, Stop) {
        let mut arrival = Arrival::new(body, pace);
        let mut bytes = 0;
        loop {
            match arrival.next().await {
                Ok(Arrived::Bytes(some)) => bytes += some.len() as u64,
                Ok(_) => {}
                Err(stop) => return (bytes, stop),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_lives_as_long_as_it_moves() {
        let pace = Pace { idle: Duration::from_secs(30), rate_min: 0 };
        assert_eq!(outcome(Trickle::new(50, Duration::from_secs(29)), pace).await, (500, Stop::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_rate_is_judged_over_each_window() {
        let pace = Pace { idle: Duration::from_secs(30), rate_min: 5 };
        let (bytes, stop) = outcome(Trickle::new(1000, Duration::from_secs(10)), pace).await;
        assert_eq!(stop, Stop::TooSlow);
        assert!(bytes < 100, "{bytes}");
        let brisk = outcome(Trickle::new(100, Duration::from_secs(1)), pace).await;
        assert_eq!(brisk.0, 1000);
    }
}
