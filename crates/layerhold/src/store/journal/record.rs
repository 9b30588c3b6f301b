//! How a record of the journal is framed (docs/format-journal.md, "Journal record").
//!
//! Every checksum starts from the store's id, the segment's number and the record's position. Bytes that were copied,
//! moved, or left behind by an earlier life of a recycled segment therefore never pass for a record, whatever they
//! hold. The header has a checksum of its own: a record whose payload is torn still says what was durable before it.

use crc32fast::Hasher;

use super::StoreId;

/// Records begin at multiples of this many bytes.
pub(super) const ALIGNMENT: u64 = 8;

/// Bytes before a record's payload.
pub(super) const HEADER_LEN: usize = 48;

const MAGIC: [u8; 4] = *b"LHjr";
const CHECKED_LEN: usize = HEADER_LEN - 4;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A group of commits; the payload is its batches, one behind the other.
    Group,
    /// Nothing but the statement that `durable_sequence` is durable.
    Seal,
    /// The last record of its segment: the segment with the next number exists.
    End,
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) payload_len: u64,
    /// First sequence number of the group; of a seal or an end, its `durable_sequence`.
    pub(super) first_sequence: u64,
    /// Last sequence number of the group, at least `first_sequence`; of a seal or an end, its `durable_sequence`.
    pub(super) last_sequence: u64,
    /// What was on the medium for certain when the record was written.
    pub(super) durable_sequence: u64,
    pub(super) payload_crc: u32,
}

/// What ties a record to its place: store and segment, already in the checksum.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    seed: Hasher,
}

impl Binding {
    pub(super) fn new(store_id: &StoreId, segment: u64) -> Self {
        let mut seed = Hasher::new();
        seed.update(store_id);
        seed.update(&segment.to_be_bytes());
        Self { seed }
    }

    /// The checksum of `bytes` in the record at `position`.
    pub(super) fn checksum(&self, position: u64, bytes: &[u8]) -> u32 {
        let mut hasher = self.seed.clone();
        hasher.update(&position.to_be_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

impl Header {
    /// A record without payload that says that `durable_sequence` is durable.
    pub(super) fn statement(kind: Kind, durable_sequence: u64, binding: &Binding, position: u64) -> Self {
        Self {
            kind,
            payload_len: 0,
            first_sequence: durable_sequence,
            last_sequence: durable_sequence,
            durable_sequence,
            payload_crc: binding.checksum(position, &[]),
        }
    }

    pub(super) fn encode(&self, binding: &Binding, position: u64) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[self.kind as u8 + 1, 0, 0, 0]);
        bytes.extend_from_slice(&self.payload_len.to_be_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.last_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.durable_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.payload_crc.to_be_bytes());
        bytes.extend_from_slice(&binding.checksum(position, &bytes).to_be_bytes());
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&bytes);
        header
    }

    /// The header at the front of `bytes`, unless it was not written at this very place.
    pub(super) fn decode(bytes: &[u8], binding: &Binding, position: u64) -> Option<Self> {
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let checked = bytes.get(..CHECKED_LEN)?;
        if u32_at(bytes, CHECKED_LEN)? != binding.checksum(position, checked) {
            return None;
        }
        let kind = match bytes.get(4..8)? {
            [1, 0, 0, 0] => Kind::Group,
            [2, 0, 0, 0] => Kind::Seal,
            [3, 0, 0, 0] => Kind::End,
            _ => return None,
        };
        let header = Self {
            kind,
            payload_len: u64_at(bytes, 8)?,
            first_sequence: u64_at(bytes, 16)?,
            last_sequence: u64_at(bytes, 24)?,
            durable_sequence: u64_at(bytes, 32)?,
            payload_crc: u32_at(bytes, 40)?,
        };
        (header.first_sequence <= header.last_sequence).then_some(header)
    }

    /// Bytes from the start of this record to the start of the next; `None` for a length that no file has.
    pub(super) fn span(&self) -> Option<u64> {
        record_span(self.payload_len)
    }
}

/// Bytes that a record with a payload of `payload_len` bytes takes up, padding included.
pub(super) fn record_span(payload_len: u64) -> Option<u64> {
    payload_len.checked_add(HEADER_LEN as u64)?.checked_next_multiple_of(ALIGNMENT)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        kind: Kind::Group,
        payload_len: 0x1234,
        first_sequence: 7,
        last_sequence: 9,
        durable_sequence: 6,
        payload_crc: 0xdead_beef,
    };

    #[test]
    fn a_header_is_valid_only_where_it_was_written() {
        let here = Binding::new(&[1; 16], 5);
        let bytes = HEADER.encode(&here, 4096);
        assert_eq!(Header::decode(&bytes, &here, 4096), Some(HEADER));
        assert_eq!(Header::decode(&bytes, &here, 4104), None);
        assert_eq!(Header::decode(&bytes, &Binding::new(&[1; 16], 6), 4096), None);
        assert_eq!(Header::decode(&bytes, &Binding::new(&[2; 16], 5), 4096), None);
        for kind in [Kind::Seal, Kind::End] {
            let header = Header::statement(kind, 9, &here, 8);
            assert_eq!(Header::decode(&header.encode(&here, 8), &here, 8), Some(header));
        }
    }

    #[test]
    fn a_seal_is_spelled_as_in_the_format_document() {
        let binding = Binding::new(&[0; 16], 1);
        let bytes = Header::statement(Kind::Seal, 7, &binding, 4096).encode(&binding, 4096);
        let expected = [
            0x4c48_6a72_0200_0000_0000_0000_0000_0000_u128,
            0x0000_0000_0000_0007_0000_0000_0000_0007,
            0x0000_0000_0000_0007_44b3_53bf_a3c9_6109,
        ];
        assert_eq!(bytes.as_slice(), expected.map(u128::to_be_bytes).concat());
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_never_a_header() {
        let here = Binding::new(&[1; 16], 5);
        let bytes = HEADER.encode(&here, 4096);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, &here, 4096), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Header::decode(&bytes[..cut], &here, 4096), None, "cut {cut}");
        }
    }

    #[test]
    fn spans_are_aligned_and_never_wrap() {
        assert_eq!(record_span(0), Some(48));
        assert_eq!(record_span(1), Some(56));
        assert_eq!(record_span(u64::MAX - 40), None);
    }
}
