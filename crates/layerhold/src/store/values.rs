//! The values of rows that were asked for together.

use std::ops::Range;

/// One value for each key, in the order asked for; nothing for an absent row. All are in one piece of memory: a put of an
/// image reads some fifty small rows.
#[derive(Debug, Clone, Default)]
pub struct Values {
    bytes: Vec<u8>,
    rows: Vec<Option<Range<usize>>>,
}

/// What is made room for in advance for each row.
const ROW_BYTES: usize = 64;

impl Values {
    /// No values, with room for those of `rows` ordinary rows.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        Self { bytes: Vec::with_capacity(rows * ROW_BYTES), rows: Vec::with_capacity(rows) }
    }

    /// Adds what there is of the next row.
    pub fn push(&mut self, value: Option<&[u8]>) {
        let place = value.map(|value| self.append(value));
        self.rows.push(place);
    }

    /// Says what there is of a row that was pushed as absent; nothing happens where there is no such row.
    pub fn set(&mut self, index: usize, value: Option<&[u8]>) {
        let place = value.map(|value| self.append(value));
        if let Some(row) = self.rows.get_mut(index) {
            *row = place;
        }
    }

    fn append(&mut self, value: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        start..self.bytes.len()
    }

    /// The value of the row that was asked for as number `index`; `None` where it is absent or was not asked for.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(index)?.clone()?)
    }

    /// Each value in turn.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Option<&[u8]>> {
        self.rows.iter().map(|row| self.bytes.get(row.clone()?))
    }

    /// How many rows were asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A copy of each value.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Option<Vec<u8>>> {
        self.iter().map(|value| value.map(<[u8]>::to_vec)).collect()
    }
}

impl From<Vec<Option<Vec<u8>>>> for Values {
    fn from(values: Vec<Option<Vec<u8>>>) -> Self {
        let mut all = Self::with_capacity(values.len());
        values.iter().for_each(|value| all.push(value.as_deref()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_from_an_empty_and_an_absent_one() {
        let mut values = Values::with_capacity(3);
        assert!(values.is_empty());
        [Some(b"one".as_slice()), Some(b""), None].into_iter().for_each(|value| values.push(value));
        assert_eq!(values.iter().collect::<Vec<_>>(), [Some(b"one".as_slice()), Some(b""), None]);
        values.set(2, Some(b"three"));
        values.set(3, Some(b"nobody asked for it"));
        assert_eq!((values.get(0), values.get(1)), (Some(b"one".as_slice()), Some(b"".as_slice())));
        assert_eq!((values.get(2), values.get(3)), (Some(b"three".as_slice()), None));
        values.set(0, None);
        let copies = values.to_vec();
        assert_eq!(copies, [None, Some(Vec::new()), Some(b"three".to_vec())]);
        assert_eq!(Values::from(copies).to_vec(), values.to_vec());
    }
}
