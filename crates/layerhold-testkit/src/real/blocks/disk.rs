//! A disk in memory that remembers what was written to it, and in which order, between which flushes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::mix;

/// Length of a block of the map; writes are cut to fit.
pub(super) const BLOCK: usize = 4_096;

type Block = Arc<[u8; BLOCK]>;

/// What a disk holds: blocks by number, those that are not there being zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    blocks: HashMap<u64, Block>,
    /// A hash of all of it that follows every change.
    hash: u64,
}

impl Contents {
    /// The blocks of `bytes` that are not zeros.
    pub(super) fn of(mut bytes: impl std::io::Read) -> std::io::Result<Self> {
        let mut contents = Self::default();
        let mut block = [0; BLOCK];
        let mut number = 0;
        loop {
            match bytes.read_exact(&mut block) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(contents),
                Err(e) => return Err(e),
            }
            if block.iter().any(|byte| *byte != 0) {
                contents.put(number, Arc::new(block));
            }
            number += 1;
        }
    }

    fn put(&mut self, number: u64, block: Block) {
        let hash = |block: &Block| {
            let words = block.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
            if block.iter().all(|byte| *byte == 0) {
                return 0;
            }
            mix(words.fold(mix(number), |hash, word| mix(hash ^ word).wrapping_add(number)))
        };
        self.hash = self.hash.wrapping_add(hash(&block));
        if let Some(before) = self.blocks.insert(number, block) {
            self.hash = self.hash.wrapping_sub(hash(&before));
        }
    }

    fn read(&self, mut offset: u64, mut buf: &mut [u8]) {
        while !buf.is_empty() {
            let (number, at) = (offset / BLOCK as u64, usize::try_from(offset % BLOCK as u64).unwrap_or(0));
            let (now, rest) = buf.split_at_mut((BLOCK - at).min(buf.len()));
            match self.blocks.get(&number) {
                Some(block) => now.copy_from_slice(&block[at..at + now.len()]),
                None => now.fill(0),
            }
            offset += now.len() as u64;
            buf = rest;
        }
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, at) = (offset / BLOCK as u64, usize::try_from(offset % BLOCK as u64).unwrap_or(0));
            let (now, rest) = bytes.split_at((BLOCK - at).min(bytes.len()));
            let mut block = self.blocks.get(&number).map_or([0; BLOCK], |block| **block);
            block[at..at + now.len()].copy_from_slice(now);
            self.put(number, Arc::new(block));
            offset += now.len() as u64;
            bytes = rest;
        }
    }

    /// The same for equal contents, and for others hardly ever.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

/// Something that happened to a disk.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Write { offset: u64, bytes: Vec<u8> },
    Flush,
}

/// A disk of a length, which several threads may use.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) len: u64,
    state: Mutex<(Contents, Vec<Event>)>,
    remembers: bool,
}

impl Disk {
    /// A disk that holds `contents`; it remembers events if it is to.
    pub(super) fn new(len: u64, contents: Contents, remembers: bool) -> Self {
        Self { len, state: Mutex::new((contents, Vec::new())), remembers }
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) {
        self.state().0.read(offset, buf);
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        state.0.write(offset, bytes);
        if self.remembers {
            state.1.push(Event::Write { offset, bytes: bytes.to_vec() });
        }
    }

    pub(super) fn flush(&self) {
        if self.remembers {
            self.state().1.push(Event::Flush);
        }
    }

    /// How many events there were.
    pub(super) fn events(&self) -> usize {
        self.state().1.len()
    }

    /// All events so far, which are forgotten here.
    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().1)
    }

    fn state(&self) -> MutexGuard<'_, (Contents, Vec<Event>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_the_contents_and_not_on_the_way_there() {
        let mut one = Contents::default();
        one.write(10, &[1; 5_000]);
        one.write(4_000, &[2; 200]);
        let mut other = Contents::default();
        other.write(4_100, &[2; 100]);
        other.write(10, &[1; 3_990]);
        other.write(4_000, &[2; 100]);
        assert_ne!(one.hash(), other.hash());
        other.write(4_200, &[1; 810]);
        let mut bytes = [vec![0; 5_100], vec![0; 5_100]];
        one.read(0, &mut bytes[0]);
        other.read(0, &mut bytes[1]);
        assert_eq!(bytes[0], bytes[1]);
        assert_eq!(one.hash(), other.hash());
        one.write(0, &[0; 6_000]);
        assert_eq!(one.hash(), Contents::default().hash());
    }
}
