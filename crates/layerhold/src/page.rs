//! Pages of listings.

use crate::engine::collect;
use crate::store::{Direction, KeyRange, StorageError, View};

/// One page. A page may hold fewer items than asked for and still have a next one: a listing looks at a bounded number
/// of rows and then stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order of the listing.
    pub items: Vec<T>,
    /// Where the next page begins: give it back as it is. `None` on the last page. It holds no secret and no
    /// signature; an adapter that hands it to strangers signs it.
    pub next: Option<Vec<u8>>,
}

impl<T> Page<T> {
    /// A page of the rows of `range`, at most `limit`, each as `read` makes it; `token` says what to go on behind after an
    /// item.
    pub(crate) fn of_rows(
        view: &dyn View,
        range: &KeyRange,
        limit: usize,
        token: impl FnOnce(&T) -> Vec<u8>,
        read: impl FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
    ) -> Result<Self, StorageError> {
        // One more than the page holds tells whether there is a next page.
        let mut items = collect(view, range, Direction::Forward, limit.saturating_add(1), read)?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(token);
        Ok(Self { items, next })
    }

    /// The same page with each item turned into another.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}
