//! Walks over the store's queues: rows that stand for work, and are gone once it is done.
//!
//! A walk goes on where the step before it ended. Rows that are gone are stepped over by the table until it is compacted, so
//! beginning at the front every time would cost as much as was ever done; and rows whose work fails, or has to wait, would
//! keep everything behind them waiting.

use crate::engine::collect_some;
use crate::format::keys;
use crate::store::{Direction, KeyRange, StorageError, View};

/// How far the walk over one queue came.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The least time from one beginning at the front to the next, in milliseconds of engine time.
    rest_ms: u64,
    began_ms: u64,
    /// The last row that was looked at; before the first one, nothing.
    behind: Vec<u8>,
    /// Nothing was left behind it.
    ended: bool,
}

impl Walk {
    /// A walk over a queue whose new rows may be anywhere: it begins again as soon as it has come to the end.
    pub(crate) fn over_any() -> Self {
        Self::over_ordered(0)
    }

    /// A walk over a queue whose new rows come behind all rows that are due: after the end it waits there for them. Every
    /// `rest_ms` it begins again for what was passed by.
    pub(crate) fn over_ordered(rest_ms: u64) -> Self {
        Self { rest_ms, began_ms: 0, behind: Vec::new(), ended: true }
    }

    /// What `read` makes of the next rows of `queue`, at most `limit`; those of which it makes nothing are passed by.
    pub(crate) fn next<T>(
        &mut self,
        view: &dyn View,
        queue: KeyRange,
        limit: usize,
        now_ms: u64,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, StorageError> {
        if self.ended && now_ms.saturating_sub(self.began_ms) >= self.rest_ms {
            self.behind.clear();
            self.began_ms = now_ms;
        }
        let rest = if self.behind.is_empty() { queue } else { keys::after(queue, &self.behind) };
        let behind = &mut self.behind;
        let items = collect_some(view, &rest, Direction::Forward, limit, |key, _| {
            behind.clear();
            behind.extend_from_slice(key);
            Ok(read(key))
        })?;
        self.ended = items.len() < limit;
        Ok(items)
    }
}
