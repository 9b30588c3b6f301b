//! The writes of one transaction, already in the bytes that the journal keeps.

/// Puts and deletes in order, encoded as they are journaled (docs/format-journal.md, "Batch").
///
/// Later writes of a key win. Each entry is `kind u8` (1 put, 2 delete), `key length u32`, key and, for a put,
/// `value length u32`, value; integers are big-endian.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    len: usize,
}

/// One write of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write<'a> {
    /// The row now has this value.
    Put {
        /// The row's key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// The row is gone.
    Delete {
        /// The row's key.
        key: &'a [u8],
    },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

impl Batch {
    /// A batch without writes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for writes of so many bytes, keys and values together, so that they are not moved while they grow.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.push(PUT);
        self.push_bytes(key);
        self.push_bytes(value);
        self.len += 1;
    }

    /// Removes `key`; nothing happens where it is absent.
    pub fn delete(&mut self, key: &[u8]) {
        self.bytes.push(DELETE);
        self.push_bytes(key);
        self.len += 1;
    }

    /// Appends all writes of `other`.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.len += other.len;
    }

    /// How many writes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The encoded writes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes encoded writes back; `None` unless every byte of `bytes` belongs to a whole entry.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let mut writes = Writes { rest: &bytes };
        let mut len = 0;
        while writes.next().is_some() {
            len += 1;
        }
        writes.rest.is_empty().then_some(Self { bytes, len })
    }

    /// The writes in order.
    #[must_use]
    pub fn iter(&self) -> Writes<'_> {
        Writes { rest: &self.bytes }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        // A row is bounded far below 4 GiB by the limits on manifests and inline blobs.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        debug_assert_eq!(len as usize, bytes.len(), "a row longer than 4 GiB");
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Write<'a>;
    type IntoIter = Writes<'a>;

    fn into_iter(self) -> Writes<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("writes", &self.len).field("bytes", &self.bytes.len()).finish()
    }
}

/// Iterator over the writes of a [`Batch`]; ends early at a malformed entry.
#[derive(Debug, Clone)]
pub struct Writes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Writes<'a> {
    type Item = Write<'a>;

    fn next(&mut self) -> Option<Write<'a>> {
        let (&kind, rest) = self.rest.split_first()?;
        let (key, rest) = split_bytes(rest)?;
        let write = match kind {
            PUT => {
                let (value, rest) = split_bytes(rest)?;
                self.rest = rest;
                Write::Put { key, value }
            }
            DELETE => {
                self.rest = rest;
                Write::Delete { key }
            }
            _ => return None,
        };
        Some(write)
    }
}

fn split_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_back_in_order_and_a_cut_batch_is_refused() {
        let mut batch = Batch::new();
        batch.put(b"a", b"1");
        batch.delete(b"b");
        batch.put(b"", b"");
        let expected =
            [Write::Put { key: b"a", value: b"1" }, Write::Delete { key: b"b" }, Write::Put { key: b"", value: b"" }];
        assert_eq!(batch.iter().collect::<Vec<_>>(), expected);
        let bytes = batch.as_bytes().to_vec();
        assert_eq!(Batch::from_bytes(bytes.clone()), Some(batch));
        for cut in 1..bytes.len() {
            if let Some(shorter) = Batch::from_bytes(bytes[..cut].to_vec()) {
                assert!(shorter.len() < 3, "a batch cut at byte {cut} came back whole");
            }
        }
        assert_eq!(Batch::from_bytes(vec![9, 0, 0, 0, 0]), None);
    }
}
