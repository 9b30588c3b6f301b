//! Bodies that have to be whole before anything can be done with them, within the memory budget.

use bytes::Bytes;
use http_body::Body;

use crate::arrival::{Arrival, Arrived, Stop};
use crate::budget::{Budget, Exhausted, Share};

/// First share of a body that does not tell its length.
const UNTOLD_BYTES: u64 = 64 << 10;

/// Why a body was not collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has, or announces, more bytes than its kind may have.
    TooLarge,
    /// The server holds too many bodies already.
    Busy,
    /// It did not arrive whole.
    Cut(Stop),
}

impl From<Exhausted> for Refusal {
    fn from(_: Exhausted) -> Refusal {
        Refusal::Busy
    }
}

/// A whole body; its share of the budget returns when the value is dropped.
#[derive(Debug)]
pub struct Collected {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What has to be held as long as they are.
    pub share: Share,
}

/// Collects a body of at most `bytes_max`.
///
/// # Errors
/// [`Refusal`]; a body that announces too much, or finds no room, is refused before its first byte is read.
pub async fn collect<B: Body<Data = Bytes> + Unpin>(
    arrival: &mut Arrival<B>,
    announced: Option<u64>,
    bytes_max: u64,
    budget: &Budget,
) -> Result<Collected, Refusal> {
    if announced.is_some_and(|len| len > bytes_max) {
        return Err(Refusal::TooLarge);
    }
    let first = announced.unwrap_or(UNTOLD_BYTES.min(bytes_max));
    let mut share = budget.lend(first).await?;
    let mut bytes = Vec::with_capacity(usize::try_from(first).map_err(|_| Refusal::TooLarge)?);
    loop {
        match arrival.next().await.map_err(Refusal::Cut)? {
            Arrived::Tick => {}
            Arrived::End => return Ok(Collected { bytes, share }),
            Arrived::Bytes(piece) => {
                let size = (bytes.len() + piece.len()) as u64;
                if size > bytes_max {
                    return Err(Refusal::TooLarge);
                }
                if size > bytes.capacity() as u64 {
                    let capacity = size.max(2 * bytes.capacity() as u64).min(bytes_max);
                    budget.grow(&mut share, capacity)?;
                    bytes.reserve_exact(usize::try_from(capacity).map_err(|_| Refusal::TooLarge)? - bytes.len());
                }
                bytes.extend_from_slice(&piece);
            }
        }
    }
}

/// As [`collect`], for a body that need not be one piece of memory of its own: one that arrived in one piece is passed on
/// as it is.
///
/// # Errors
/// As [`collect`].
pub async fn collect_shared<B: Body<Data = Bytes> + Unpin>(
    arrival: &mut Arrival<B>,
    announced: Option<u64>,
    bytes_max: u64,
    budget: &Budget,
) -> Result<(Bytes, Option<Share>), Refusal> {
    let Some(announced) = announced.filter(|&len| len <= IN_ONE_PIECE_BYTES_MAX && len <= bytes_max) else {
        let whole = collect(arrival, announced, bytes_max, budget).await?;
        return Ok((Bytes::from(whole.bytes), Some(whole.share)));
    };
    let mut pieces = Vec::new();
    let mut size = 0;
    loop {
        match arrival.next().await.map_err(Refusal::Cut)? {
            Arrived::Tick => {}
            Arrived::Bytes(piece) => {
                size += piece.len() as u64;
                pieces.push(piece);
            }
            // The HTTP library holds a body to the length that it announced.
            Arrived::End => break,
        }
        if size >= announced {
            break;
        }
    }
    Ok(match pieces.len() {
        1 => (pieces.swap_remove(0), None),
        _ => (Bytes::from(pieces.concat()), None),
    })
}

/// Bodies up to this size are not charged: each connection's own buffers are larger.
pub const IN_ONE_PIECE_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use http_body::Frame;

    use super::*;
    use crate::arrival::Pace;

    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn arriving(sizes: &[usize]) -> Arrival<Pieces> {
        let pieces = sizes.iter().enumerate().map(|(n, &size)| Bytes::from(vec![n as u8; size])).collect();
        Arrival::new(Pieces(pieces), Pace { idle: Duration::from_secs(1), rate_min: 0 })
    }

    #[tokio::test]
    async fn bodies_are_whole_whether_or_not_they_tell_their_length() {
        let budget = Budget::new(1 << 20);
        for sizes in [&[][..], &[1], &[10, 20], &[70_000, 70_000, 5], &[300_000, 1]] {
            let total = sizes.iter().sum::<usize>();
            for announced in [None, Some(total as u64)] {
                let whole = collect(&mut arriving(sizes), announced, 500_000, &budget).await.unwrap();
                assert_eq!(whole.bytes.len(), total);
                let (shared, _) = collect_shared(&mut arriving(sizes), announced, 500_000, &budget).await.unwrap();
                assert_eq!(shared, whole.bytes);
            }
        }
    }

    #[tokio::test]
    async fn limits_and_budget_are_told_apart() {
        let budget = Budget::new(256 << 10);
        let refusal = |announced, sizes: &'static [usize], max| {
            let budget = budget.clone();
            async move { collect(&mut arriving(sizes), announced, max, &budget).await.unwrap_err() }
        };
        assert_eq!(refusal(Some(101), &[101], 100).await, Refusal::TooLarge);
        assert_eq!(refusal(None, &[60, 41], 100).await, Refusal::TooLarge);
        assert_eq!(refusal(Some(1 << 20), &[1 << 20], 2 << 20).await, Refusal::Busy);
        assert_eq!(refusal(None, &[200_000, 200_000], 2 << 20).await, Refusal::Busy);
        let _held = budget.lend(256 << 10).await.unwrap();
        assert_eq!(refusal(None, &[1], 100).await, Refusal::Busy);
        // A small body is taken even then.
        assert!(collect_shared(&mut arriving(&[5]), Some(5), 100, &budget).await.is_ok());
    }
}
