//! Pages of listings.

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
    /// The same page with each item turned into another.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}
