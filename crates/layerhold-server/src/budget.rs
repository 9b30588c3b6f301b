//! The memory that request bodies may take while they are held whole.
//!
//! An ECR part arrives as JSON with base64 inside, so it has to be complete before it can be decoded: up to 28 MiB each,
//! times as many clients as care to come. Every such body is charged here before its first byte is read. A body that
//! does not fit waits a moment with nothing of it in memory, because its sender is held back by TCP; then the client is
//! told to slow down, in its protocol's words.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for this many bytes; the semaphore counts in `u32`.
const UNIT_BYTES: u64 = 4096;

/// How long a body may wait for its share. Shorter than any client's patience, longer than a part takes on loopback.
const PATIENCE: Duration = Duration::from_millis(1_500);

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
#[error("too many request bodies are in memory at once bytes={bytes}")]
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
}
