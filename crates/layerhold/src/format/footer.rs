//! The end of a blob file: what the file is, for rebuilding metadata from files alone.

use crate::digest::Digest;
use crate::store::StorageError;

use super::codec::{Decoder, Encoder};

/// Length of a footer in bytes.
pub const FOOTER_LEN: usize = 128;

const MAGIC: &[u8; 8] = b"LHBLOB\r\n";
const VERSION: u32 = 1;

/// What a footer says. It is written once, behind the blob's bytes, when the upload completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The digest that the client gave and that was computed from the bytes.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Length of a fingerprint group in bytes.
    pub group_len: u32,
    /// The BLAKE3 hash of the bytes.
    pub root: [u8; 32],
}

impl Footer {
    /// The bytes of the footer.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut encoder = Encoder::bare();
        encoder.raw(MAGIC).u32(VERSION).u64(self.size).u32(self.group_len).raw(&self.root).digest(&self.digest);
        let mut bytes = encoder.finish();
        bytes.resize(FOOTER_LEN - 4, 0);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        let mut footer = [0; FOOTER_LEN];
        footer.copy_from_slice(&bytes);
        footer
    }

    /// Reads a footer back; anything but an intact one is [`StorageError::Corrupt`].
    pub fn decode(bytes: &[u8; FOOTER_LEN]) -> Result<Self, StorageError> {
        let mut decoder = Decoder::bare(bytes, "blob footer");
        let (body, _) = bytes.split_at(FOOTER_LEN - 4);
        let magic: [u8; 8] = decoder.array()?;
        let version = decoder.u32()?;
        let footer =
            Self { size: decoder.u64()?, group_len: decoder.u32()?, root: decoder.array()?, digest: decoder.digest()? };
        let stored = bytes.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        if magic != *MAGIC || version != VERSION || stored != Some(crc32fast::hash(body)) {
            return Err(decoder.malformed());
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_comes_back_and_no_single_bit_may_flip() {
        let footer = Footer { digest: Digest::sha256(b"x"), size: 1, group_len: 65_536, root: [9; 32] };
        let bytes = footer.encode();
        assert_eq!(Footer::decode(&bytes).unwrap(), footer);
        for bit in 0..FOOTER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
