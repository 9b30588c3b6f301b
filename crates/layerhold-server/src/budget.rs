//! The memory that bodies may take while they are held whole.
//!
//! An ECR part arrives as JSON with base64 inside, so it has to be complete before it can be decoded: up to 28 MiB each,
//! times as many clients as care to come. Every such body is charged here before its first byte is read. A body that
//! does not fit waits a moment with nothing of it in memory, because its sender is held back by TCP; then the client is
//! told to slow down, in its protocol's words.
//!
//! So is an answer that is held whole, from when it is made until its last byte is sent: eight manifests of 4 MiB are a
//! small request, and a client may take its time reading them. An answer never waits, since all of it is in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::buffers::BUFFER_BYTES;

/// One permit stands for this many bytes; the semaphore counts in `u32`.
const UNIT_BYTES: u64 = 4096;

/// How long a body may wait for its share. Shorter than any client's patience, longer than a part takes on loopback.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Answers up to this length are not charged: a connection holds as much of any download.
pub const ANSWER_UNCHARGED_BYTES_MAX: usize = BUFFER_BYTES;

/// A bounded number of bytes to lend.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: u64,
}

/// Bytes lent; they return when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Share {
    permit: OwnedSemaphorePermit,
    bytes: u64,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many bodies are in memory at once bytes={bytes}")]
pub struct Exhausted {
    /// What was asked for.
    pub bytes: u64,
}

impl Budget {
    /// A budget of `total` bytes.
    #[must_use]
    pub fn new(total: u64) -> Budget {
        let units = usize::try_from(total / UNIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Budget { free: Arc::new(Semaphore::new(units)), total }
    }

    /// Lends `bytes`, waiting a moment where others hold them.
    ///
    /// # Errors
    /// [`Exhausted`] after the wait, and at once for more than the whole budget.
    pub async fn lend(&self, bytes: u64) -> Result<Share, Exhausted> {
        if bytes > self.total {
            return Err(Exhausted { bytes });
        }
        let units = units(bytes).ok_or(Exhausted { bytes })?;
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(units) {
            return Ok(Share { permit, bytes });
        }
        let waiting = Arc::clone(&self.free).acquire_many_owned(units);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(permit)) => Ok(Share { permit, bytes }),
            _ => Err(Exhausted { bytes }),
        }
    }

    /// Charges an answer without waiting, beginning with what its request holds of the budget: `bytes` as they were, with
    /// their share given back when the last of them is dropped. One that is longer than the whole budget takes all of it, so
    /// that it can be had at all.
    ///
    /// # Errors
    /// [`Exhausted`]; the answer is dropped, and what its request held is free.
    pub fn charge(&self, bytes: Bytes, share: Option<Share>) -> Result<Bytes, Exhausted> {
        if bytes.len() <= ANSWER_UNCHARGED_BYTES_MAX {
            return Ok(bytes);
        }
        let len = (bytes.len() as u64).min(self.total);
        let mut share = match share {
            Some(share) => share,
            None => Share { permit: self.none()?, bytes: 0 },
        };
        self.grow(&mut share, len)?;
        Ok(Bytes::from_owner(Charged { bytes, _share: share }))
    }

    fn none(&self) -> Result<OwnedSemaphorePermit, Exhausted> {
        Arc::clone(&self.free).try_acquire_many_owned(0).map_err(|_| Exhausted { bytes: 0 })
    }

    /// Enlarges `share` to `bytes` without waiting: its holder already holds memory, and two that wait for one another
    /// would both time out.
    ///
    /// # Errors
    /// [`Exhausted`]; the share stays as it was.
    pub fn grow(&self, share: &mut Share, bytes: u64) -> Result<(), Exhausted> {
        let have = units(share.bytes).ok_or(Exhausted { bytes })?;
        let want = units(bytes).ok_or(Exhausted { bytes })?;
        if want > have {
            let more = Arc::clone(&self.free).try_acquire_many_owned(want - have).map_err(|_| Exhausted { bytes })?;
            share.permit.merge(more);
        }
        share.bytes = share.bytes.max(bytes);
        Ok(())
    }
}

/// An answer's bytes and their share.
struct Charged {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn units(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_return_when_dropped_and_never_exceed_the_budget() {
        let budget = Budget::new(64 << 10);
        let first = budget.lend(40 << 10).await.unwrap();
        assert_eq!(budget.lend(40 << 10).await.unwrap_err(), Exhausted { bytes: 40 << 10 });
        assert!(budget.lend(65 << 10).await.is_err());
        drop(first);
        let mut second = budget.lend(40 << 10).await.unwrap();
        budget.grow(&mut second, 64 << 10).unwrap();
        assert!(budget.grow(&mut second, 68 << 10).is_err());
        drop(second);
        assert!(budget.lend(64 << 10).await.is_ok());
    }

    #[tokio::test]
    async fn a_waiting_body_goes_on_when_another_ends() {
        let budget = Budget::new(64 << 10);
        let held = budget.lend(64 << 10).await.unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.lend(32 << 10).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_is_charged_until_its_last_byte_is_dropped() {
        let budget = Budget::new(1 << 20);
        let answer = |len: usize| Bytes::from(vec![0; len]);
        let small: Vec<_> =
            (0..100).map(|_| budget.charge(answer(ANSWER_UNCHARGED_BYTES_MAX), None).unwrap()).collect();
        let first = budget.charge(answer(600 << 10), None).unwrap();
        assert!(budget.charge(answer(600 << 10), None).is_err());
        let part = first.slice(5..6);
        drop(first);
        assert!(budget.charge(answer(600 << 10), None).is_err());
        drop((part, small));
        // What the request holds counts, and comes back where it is not enough.
        let share = budget.lend(512 << 10).await.unwrap();
        let first = budget.charge(answer(600 << 10), Some(share)).unwrap();
        let share = budget.lend(300 << 10).await.unwrap();
        assert!(budget.charge(answer(600 << 10), Some(share)).is_err());
        drop(first);
        // One that is larger than everything has everything.
        let huge = budget.charge(answer(2 << 20), None).unwrap();
        assert_eq!(huge.len(), 2 << 20);
        assert!(budget.charge(answer(200 << 10), None).is_err());
        drop(huge);
        assert!(budget.lend(1 << 20).await.is_ok());
    }
}
