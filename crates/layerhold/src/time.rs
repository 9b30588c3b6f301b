//! Engine time: the time that expiries are counted in.

use crate::clock::Clock;
use crate::format::values::ClockRow;

/// A persisted, never decreasing count of milliseconds.
///
/// It follows the monotonic clock while the store is open. Across a reopening it advances by the difference of wall
/// time, but by no more than a stated maximum, so that one jump of a wall clock cannot expire everything at once.
#[derive(Debug)]
pub(crate) struct EngineTime {
    start_ms: u64,
    start_monotonic_ms: u64,
}

impl EngineTime {
    /// Goes on from what the last synced group recorded.
    pub(crate) fn resume(last: ClockRow, clock: &dyn Clock, closed_ms_max: u64) -> Self {
        let closed_ms = clock.wall_ms().saturating_sub(last.wall_ms).min(closed_ms_max);
        Self { start_ms: last.engine_ms.saturating_add(closed_ms), start_monotonic_ms: clock.monotonic_ms() }
    }

    /// The present, in milliseconds.
    pub(crate) fn now_ms(&self, clock: &dyn Clock) -> u64 {
        self.start_ms.saturating_add(clock.monotonic_ms().saturating_sub(self.start_monotonic_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    struct Hands(AtomicU64, AtomicU64);

    impl Clock for Hands {
        fn monotonic_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn wall_ms(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_moves_engine_time_by_its_bound_at_most() {
        let clock = Hands::default();
        clock.1.store(10_000_000_000, Ordering::Relaxed);
        let last = ClockRow { engine_ms: 500, wall_ms: 1_000 };
        let time = EngineTime::resume(last, &clock, 3_600_000);
        assert_eq!(time.now_ms(&clock), 3_600_500);
        clock.0.store(7, Ordering::Relaxed);
        assert_eq!(time.now_ms(&clock), 3_600_507);
    }

    #[test]
    fn a_wall_clock_set_back_does_not_turn_engine_time_back() {
        let clock = Hands::default();
        let time = EngineTime::resume(ClockRow { engine_ms: 500, wall_ms: 9_000 }, &clock, 3_600_000);
        assert_eq!(time.now_ms(&clock), 500);
    }
}
