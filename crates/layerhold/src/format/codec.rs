//! Primitive encodings of rows: big-endian integers, length-prefixed bytes, options.

use crate::digest::{Algorithm, Digest};
use crate::store::StorageError;

/// Room that an encoder begins with, in bytes: most rows fit, so that they are not moved while they grow.
const ROW_BYTES: usize = 192;

/// Appends encoded fields.
#[derive(Debug)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// An encoder whose first byte is the version of the row's layout.
    #[must_use]
    pub fn versioned(version: u8) -> Self {
        let mut encoder = Self::bare();
        encoder.u8(version);
        encoder
    }

    /// An encoder without a leading byte.
    #[must_use]
    pub fn bare() -> Self {
        Self(Vec::with_capacity(ROW_BYTES))
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// A flag as one byte, 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes whose length the reader knows.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A length of four bytes, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // Every value that reaches a row was bounded far below 4 GiB where it came in.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.raw(bytes)
    }

    /// A text, as its UTF-8 bytes.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// 0 for none; 1 and the value otherwise.
    pub fn option<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                encode(self, value);
                self
            }
        }
    }

    /// A count of four bytes, then each item.
    pub fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut encode: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        items.for_each(|item| encode(self, item));
        self
    }

    /// The algorithm's code, then the digest's bytes.
    pub fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.u8(digest.algorithm().code());
        self.raw(digest.as_bytes())
    }

    /// The encoded bytes.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Reads encoded fields back; every length is checked before anything is taken.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// A decoder over a row whose first byte is the version of its layout. `what` names the row in errors.
    pub fn versioned(bytes: &'a [u8], version: u8, what: &'static str) -> Result<Self, StorageError> {
        let mut decoder = Self::bare(bytes, what);
        let found = decoder.u8()?;
        if found == version {
            Ok(decoder)
        } else {
            Err(StorageError::corrupt(format!("{what}: layout version {found}, expected {version}")))
        }
    }

    /// A decoder over bytes without a leading version.
    #[must_use]
    pub fn bare(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The error for a row that does not decode.
    #[must_use]
    pub fn malformed(&self) -> StorageError {
        StorageError::corrupt(format!("{}: malformed row", self.what))
    }

    /// Bytes of a known length.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], StorageError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(head)
    }

    /// Bytes of a length known when compiling.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        self.raw(N)?.try_into().map_err(|_| self.malformed())
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, StorageError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A flag.
    pub fn bool(&mut self) -> Result<bool, StorageError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed()),
        }
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, StorageError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, StorageError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], StorageError> {
        let len = self.u32()? as usize;
        self.raw(len)
    }

    /// A text.
    pub fn str(&mut self) -> Result<&'a str, StorageError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed())
    }

    /// A text, turned into a type that checks it again.
    pub fn parsed<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StorageError> {
        let text = self.str()?;
        parse(text).ok_or_else(|| self.malformed())
    }

    /// See [`Encoder::option`].
    pub fn option<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        if self.bool()? { decode(self).map(Some) } else { Ok(None) }
    }

    /// See [`Encoder::list`]. Nothing is allocated for a count that the rest of the row cannot hold.
    pub fn list<T>(
        &mut self,
        mut decode: impl FnMut(&mut Self) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() {
            return Err(self.malformed());
        }
        (0..count).map(|_| decode(self)).collect()
    }

    /// See [`Encoder::digest`].
    pub fn digest(&mut self) -> Result<Digest, StorageError> {
        let algorithm = Algorithm::from_code(self.u8()?).ok_or_else(|| self.malformed())?;
        let bytes = self.raw(algorithm.digest_len())?;
        Digest::from_bytes(algorithm, bytes).ok_or_else(|| self.malformed())
    }

    /// Whatever was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends reading; bytes left over are damage.
    pub fn end(self) -> Result<(), StorageError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_a_cut_row_is_damage() {
        let digest = Digest::sha256(b"x");
        let mut encoder = Encoder::versioned(3);
        encoder.u8(7).bool(true).u32(9).u64(1 << 40).str("name").digest(&digest);
        encoder.option(Some(5u64), |e, v| {
            e.u64(v);
        });
        encoder.list([1u32, 2].into_iter(), |e, v| {
            e.u32(v);
        });
        let bytes = encoder.finish();
        let read = |bytes: &[u8]| -> Result<_, StorageError> {
            let mut d = Decoder::versioned(bytes, 3, "test")?;
            let out = (
                d.u8()?,
                d.bool()?,
                d.u32()?,
                d.u64()?,
                d.str()?.to_owned(),
                d.digest()?,
                d.option(Decoder::u64)?,
                d.list(Decoder::u32)?,
            );
            d.end()?;
            Ok(out)
        };
        assert_eq!(read(&bytes).unwrap(), (7, true, 9, 1 << 40, "name".into(), digest, Some(5), vec![1, 2]));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "a row cut at byte {cut} was read");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read(&longer).is_err());
        assert!(Decoder::versioned(&bytes, 4, "test").is_err());
    }

    #[test]
    fn a_count_beyond_the_row_allocates_nothing() {
        let mut encoder = Encoder::bare();
        encoder.u32(u32::MAX);
        assert!(Decoder::bare(&encoder.finish(), "test").list(Decoder::u8).is_err());
    }
}
