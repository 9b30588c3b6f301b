//! Who is finding out what is wrong with a location.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

use crate::store::Location;

/// Locations that somebody of this process judges, each by one caller at a time: readers that meet the same damage wait for
/// one of them instead of all reading the blob, and nobody waits for the judgement of another blob.
#[derive(Default)]
pub(crate) struct Judging {
    locations: Mutex<HashSet<Location>>,
    ended: Condvar,
}

/// The turn of one caller; it ends with the value.
pub(crate) struct Turn<'a> {
    judging: &'a Judging,
    location: Location,
}

impl Judging {
    /// Waits until nobody else judges the location.
    pub(crate) fn take_turn(&self, location: Location) -> Turn<'_> {
        let mut locations = self.locations.lock();
        while !locations.insert(location) {
            self.ended.wait(&mut locations);
        }
        Turn { judging: self, location }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.judging.locations.lock().remove(&self.location);
        self.judging.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_location_is_judged_by_one_at_a_time_and_others_beside_it() {
        let judging = Judging::default();
        let held = judging.take_turn(Location([1; 16]));
        drop(judging.take_turn(Location([2; 16])));
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _turn = judging.take_turn(Location([1; 16]));
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            drop(held);
        });
        assert!(judging.locations.lock().is_empty());
    }
}
