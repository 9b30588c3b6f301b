//! Hashes of distinct states, 8 bytes each: in memory a sorted run and what came since, on disk one behind the other.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::Path;

/// Hashes that wait to be merged into the sorted run.
const RECENT_MAX: usize = 1 << 16;

/// More distinct states than this are no longer told apart: 2 GiB of hashes.
const STATES_MAX: usize = 1 << 28;

#[derive(Debug, Default)]
pub(super) struct States {
    sorted: Vec<u64>,
    recent: HashSet<u64>,
    /// Found since the last [`States::save`].
    unsaved: Vec<u8>,
}

impl States {
    pub(super) fn len(&self) -> u64 {
        (self.sorted.len() + self.recent.len()) as u64
    }

    /// Notes a state; whether it is new.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        if self.sorted.len() >= STATES_MAX || self.sorted.binary_search(&hash).is_ok() || !self.recent.insert(hash) {
            return false;
        }
        self.unsaved.extend_from_slice(&hash.to_le_bytes());
        if self.recent.len() >= RECENT_MAX {
            self.merge();
        }
        true
    }

    fn merge(&mut self) {
        self.sorted.extend(self.recent.drain());
        // Two sorted runs at the most: the standard sort merges those in one pass.
        self.sorted.sort();
    }

    /// The first `count` hashes of a file; what lies behind them was written by a process that did not live to say so.
    pub(super) fn load(path: &Path, count: u64) -> io::Result<Self> {
        if count == 0 && !path.exists() {
            return Ok(Self::default());
        }
        let mut sorted = Vec::new();
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        let len = count.checked_mul(8).ok_or_else(|| io::Error::other("more states than a file can hold"))?;
        Read::take(file, len).read_to_end(&mut bytes)?;
        for hash in bytes.chunks_exact(8) {
            sorted.extend(hash.try_into().map(u64::from_le_bytes));
        }
        if sorted.len() as u64 != count {
            let found = sorted.len();
            return Err(io::Error::other(format!(
                "a state file is shorter than it was expected={count} found={found}"
            )));
        }
        sorted.sort_unstable();
        Ok(Self { sorted, ..Self::default() })
    }

    /// Adds what is new behind the first `saved` hashes of a file.
    pub(super) fn save(&mut self, path: &Path, saved: u64) -> io::Result<()> {
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        file.set_len(saved * 8)?;
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(&self.unsaved)?;
        self.unsaved.clear();
        Ok(())
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.sorted.iter().chain(&self.recent).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_without_what_was_written_after_the_last_word() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.states");
        let mut states = States::default();
        for n in 0..200_000_u64 {
            assert!(states.insert(crate::fs::mix(n)));
            assert!(!states.insert(crate::fs::mix(n / 2)));
        }
        states.save(&path, 0).unwrap();
        let saved = states.len();
        assert_eq!(saved, 200_000);
        assert!(states.insert(7));
        states.save(&path, saved).unwrap();
        let mut found = States::load(&path, saved).unwrap();
        assert_eq!(found.len(), saved);
        assert!(!found.insert(crate::fs::mix(199_999)) && found.insert(7));
        assert!(States::load(&path, saved + 2).is_err());
    }
}
