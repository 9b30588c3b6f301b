//! Bytes that do not compress, made once and shared by everybody who pushes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buffers that layers are cut from: more than any cache holds, where a bench makes enough of them.
#[derive(Debug, Clone)]
pub struct Pool {
    pieces: Vec<Arc<[u8]>>,
}

/// A layer as it arrives: shared buffers, the first of them like no other layer's.
#[derive(Debug, Clone)]
pub struct Layer {
    first: Arc<[u8]>,
    pool: Pool,
    /// Its length in bytes: a whole number of pieces.
    pub len: u64,
}

impl Pool {
    /// `count` different buffers of `piece_bytes` each.
    #[must_use]
    pub fn new(count: usize, piece_bytes: usize) -> Self {
        Self { pieces: (0..count as u64).map(|seed| bytes(seed, piece_bytes).into()).collect() }
    }

    /// A layer of `len` bytes, or the next whole number of pieces.
    #[must_use]
    pub fn layer(&self, len: u64) -> Layer {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut first = self.pieces[0].to_vec();
        first[..8].copy_from_slice(&NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let piece_bytes = first.len() as u64;
        Layer { first: first.into(), pool: self.clone(), len: len.next_multiple_of(piece_bytes) }
    }
}

impl Layer {
    /// The buffers in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        let count = usize::try_from(self.len).unwrap() / self.first.len();
        std::iter::once(&self.first).chain(self.pool.pieces.iter().cycle()).take(count)
    }
}

/// `len` bytes that follow from `seed`.
#[must_use]
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// Numbers without a pattern that matters here; the same for the same seed.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    /// The next number.
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
