//! The row of the scrub: how far it came, and when it was where.

use crate::store::{Location, StorageError};

use super::codec::{Decoder, Encoder};
use super::values::Row;

/// The most marks that are kept of one pass.
pub const MARKS_MAX: usize = 32;

/// A moment of a pass: nothing behind `position` had been looked at yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// The last key that was done; empty at the beginning.
    pub position: Vec<u8>,
    /// Engine time, in milliseconds.
    pub at_ms: u64,
}

/// A large blob that a scrub is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMark {
    /// The key of its row.
    pub key: Vec<u8>,
    /// The location that is read.
    pub location: Location,
    /// Every byte before this one is right.
    pub offset: u64,
    /// Engine time at which its first byte was read.
    pub since_ms: u64,
    /// Whether it is looked at out of turn, because a read of it failed.
    pub suspect: bool,
}

/// How far the scrub came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubRow {
    /// The number of the pass, from 1; 0 before the first.
    pub pass: u64,
    /// Whether the pass goes on.
    pub running: bool,
    /// Engine time at which it began, in milliseconds.
    pub started_ms: u64,
    /// The last key that was done in it.
    pub position: Vec<u8>,
    /// The blob that it is in the middle of.
    pub blob: Option<BlobMark>,
    /// When it was where, in order.
    pub marks: Vec<Mark>,
    /// The same of the last pass that was completed.
    pub previous: Vec<Mark>,
    /// Bytes, rows, blobs and manifests looked at in the pass, and what was found wrong.
    pub counts: [u64; 5],
}

impl ScrubRow {
    /// Notes where the pass stands: nothing behind its position was looked at yet. Marks are about as far from one another
    /// as a sixteenth of the pass is long so far; of too many every second one goes.
    pub fn mark(&mut self, at_ms: u64) {
        if let (Some(first), Some(last)) = (self.marks.first(), self.marks.last()) {
            let apart_ms = at_ms.saturating_sub(first.at_ms) / (MARKS_MAX as u64 / 2);
            if at_ms.saturating_sub(last.at_ms) < apart_ms.max(1) {
                return;
            }
        }
        self.marks.push(Mark { position: self.position.clone(), at_ms });
        if self.marks.len() > MARKS_MAX {
            let mut number = 0;
            self.marks.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
    }

    /// Engine time since which every byte is known to be right, as far as passes tell: what lies behind the position was
    /// looked at since this pass began, what lies ahead since the last one was here. Bytes that came later were verified
    /// when they came. 0 where there was no pass.
    #[must_use]
    pub fn verified_since_ms(&self) -> u64 {
        let passed = self.previous.iter().take_while(|mark| mark.position <= self.position).last();
        let ahead = passed.map_or(0, |mark| mark.at_ms);
        if self.position.is_empty() { ahead } else { ahead.min(self.started_ms) }
    }
}

impl Row for ScrubRow {
    const NAME: &'static str = "scrub row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u64(self.pass).bool(self.running).u64(self.started_ms).bytes(&self.position);
        encoder.option(self.blob.as_ref(), |e, blob| {
            e.bytes(&blob.key).raw(&blob.location.0).u64(blob.offset).u64(blob.since_ms).bool(blob.suspect);
        });
        for marks in [&self.marks, &self.previous] {
            encoder.list(marks.iter(), |e, mark| {
                e.bytes(&mark.position).u64(mark.at_ms);
            });
        }
        self.counts.iter().for_each(|count| {
            encoder.u64(*count);
        });
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let marks = |d: &mut Decoder<'_>| d.list(|d| Ok(Mark { position: d.bytes()?.to_vec(), at_ms: d.u64()? }));
        Ok(Self {
            pass: decoder.u64()?,
            running: decoder.bool()?,
            started_ms: decoder.u64()?,
            position: decoder.bytes()?.to_vec(),
            blob: decoder.option(|d| {
                Ok(BlobMark {
                    key: d.bytes()?.to_vec(),
                    location: Location(d.array()?),
                    offset: d.u64()?,
                    since_ms: d.u64()?,
                    suspect: d.bool()?,
                })
            })?,
            marks: marks(decoder)?,
            previous: marks(decoder)?,
            counts: [decoder.u64()?, decoder.u64()?, decoder.u64()?, decoder.u64()?, decoder.u64()?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_comes_back() {
        let mark = |position: &[u8], at_ms| Mark { position: position.to_vec(), at_ms };
        let row = ScrubRow {
            pass: 3,
            running: true,
            started_ms: 50,
            position: vec![0x10, 4],
            blob: Some(BlobMark {
                key: vec![0x10, 5],
                location: Location([8; 16]),
                offset: 65_536,
                since_ms: 60,
                suspect: false,
            }),
            marks: vec![mark(b"", 50), mark(b"\x10", 55)],
            previous: vec![mark(b"", 10)],
            counts: [1, 2, 3, 4, 5],
        };
        assert_eq!(ScrubRow::decode(&row.encode()).unwrap(), row);
    }

    #[test]
    fn the_oldest_byte_lies_ahead_where_the_last_pass_was_longest_ago() {
        let mut row = ScrubRow::default();
        assert_eq!(row.verified_since_ms(), 0, "nothing was ever looked at");
        row.running = true;
        row.started_ms = 100;
        row.mark(100);
        for (key, at_ms) in [(1, 110), (2, 120), (3, 130)] {
            row.position = vec![key];
            row.mark(at_ms);
            assert_eq!(row.verified_since_ms(), 0, "what lies ahead was never looked at");
        }
        let again = ScrubRow { previous: std::mem::take(&mut row.marks), started_ms: 200, ..ScrubRow::default() };
        let at = |position: &[u8]| ScrubRow { position: position.to_vec(), ..again.clone() }.verified_since_ms();
        assert_eq!(at(b""), 100);
        assert_eq!(at(&[0, 9]), 100);
        assert_eq!(at(&[2]), 120);
        assert_eq!(at(&[2, 5]), 120);
        assert_eq!(at(&[9]), 130);
    }

    #[test]
    fn marks_stay_few_and_in_order() {
        let mut row = ScrubRow::default();
        for n in 0..1_000_u32 {
            row.position = n.to_be_bytes().to_vec();
            row.mark(u64::from(n));
        }
        assert!(row.marks.len() <= MARKS_MAX && row.marks.is_sorted_by_key(|mark| mark.at_ms));
        assert_eq!(row.marks[0].at_ms, 0);
        let gaps: Vec<_> = row.marks.windows(2).map(|marks| marks[1].at_ms - marks[0].at_ms).collect();
        assert!(gaps.iter().all(|gap| *gap < 1_000 / 6), "{gaps:?}");
    }
}
