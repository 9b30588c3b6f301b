//! How long the blobs are that a walk missed so far: a file of such a length may be one of them, whatever lies behind its
//! bytes.

use std::collections::HashSet;

/// With more lengths than this any may be one.
const LENGTHS_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Missed {
    lengths: HashSet<u64>,
    unknown: bool,
}

impl Missed {
    pub(super) fn add(&mut self, length: u64) {
        self.unknown |= self.lengths.len() >= LENGTHS_MAX;
        if !self.unknown {
            self.lengths.insert(length);
        }
    }

    pub(super) fn may_be(&self, length: u64) -> bool {
        self.unknown || self.lengths.contains(&length)
    }
}
