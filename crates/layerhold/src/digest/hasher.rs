//! Hashing bytes as they come, with a state that can be put aside between two parts of an upload.

use std::fmt;

use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Sha256, Sha512};

use super::{Algorithm, Digest, Hash};

/// The version of [`DigestHasher::save`]: sha2 0.11's own form, which that crate keeps stable within 0.11.
const STATE_VERSION: u8 = 1;

/// Most bytes that a restored state may claim to have taken in: far past any blob, and far from where sha2's own count of
/// bits overflows.
const STATE_LEN_MAX: u64 = 1 << 56;

/// Computes a digest from bytes as they come, in memory that does not grow.
#[derive(Clone)]
pub struct DigestHasher {
    state: State,
    len: u64,
}

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl DigestHasher {
    /// A hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        };
        Self { state, len: 0 }
    }

    /// Which hash it computes.
    pub const fn algorithm(&self) -> Algorithm {
        match self.state {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Bytes taken in so far, those before a [`DigestHasher::restore`] included.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was taken in.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes in the next bytes; how they are cut into calls makes no difference.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
        self.len += bytes.len() as u64;
    }

    /// The digest of everything taken in.
    pub fn finalize(self) -> Digest {
        Digest(match self.state {
            State::Sha256(state) => Hash::Sha256(state.finalize().into()),
            State::Sha512(state) => Hash::Sha512(state.finalize().into()),
        })
    }

    /// The state as bytes that [`DigestHasher::restore`] takes up again, at any offset.
    ///
    /// Shape: one byte state version (1), one byte [`Algorithm::code`], then the state as sha2 0.11 serialises it. The
    /// bytes hold up to a block of the content and carry no checksum: whoever stores them guards them.
    pub fn save(&self) -> Vec<u8> {
        let mut saved = vec![STATE_VERSION, self.algorithm().code()];
        match &self.state {
            State::Sha256(state) => saved.extend_from_slice(&state.serialize()),
            State::Sha512(state) => saved.extend_from_slice(&state.serialize()),
        }
        saved
    }

    /// The hasher that [`DigestHasher::save`] described.
    ///
    /// # Errors
    /// [`UnknownHashState`] if the bytes were written by another version or are damaged. The digest can then still be
    /// had by hashing the content from its beginning.
    pub fn restore(saved: &[u8]) -> Result<Self, UnknownHashState> {
        let damaged = UnknownHashState::Damaged { len: saved.len() };
        let [version, code, state @ ..] = saved else { return Err(damaged) };
        if *version != STATE_VERSION {
            return Err(UnknownHashState::Version { found: *version, supported: STATE_VERSION });
        }
        let algorithm = Algorithm::from_code(*code).ok_or(UnknownHashState::Algorithm { code: *code })?;
        let len = state_len(algorithm, state).filter(|len| *len <= STATE_LEN_MAX).ok_or(damaged)?;
        let state = match algorithm {
            Algorithm::Sha256 => deserialize::<Sha256>(state).map(State::Sha256),
            Algorithm::Sha512 => deserialize::<Sha512>(state).map(State::Sha512),
        };
        Ok(Self { state: state.ok_or(damaged)?, len })
    }
}

/// How many bytes a serialised state has taken in. sha2 does not ask, and a damaged count overflows in it later on.
///
/// Version 1 is the eight words of the hash, the number of full blocks in 8 (SHA-256) or 16 bytes (SHA-512), one byte with
/// the length of the block that is not full, and that block; all little-endian.
fn state_len(algorithm: Algorithm, state: &[u8]) -> Option<u64> {
    let (blocks, block_len, rest) = match algorithm {
        Algorithm::Sha256 => {
            let (blocks, rest) = state.get(32..)?.split_first_chunk()?;
            (u64::from_le_bytes(*blocks), 64, rest)
        }
        Algorithm::Sha512 => {
            let (blocks, rest) = state.get(64..)?.split_first_chunk()?;
            (u64::try_from(u128::from_le_bytes(*blocks)).ok()?, 128, rest)
        }
    };
    blocks.checked_mul(block_len)?.checked_add(u64::from(*rest.first()?))
}

/// A hash state from exactly its serialised bytes.
fn deserialize<H: SerializableState>(state: &[u8]) -> Option<H> {
    let state: &SerializedState<H> = state.try_into().ok()?;
    H::deserialize(state).ok()
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state may hold bytes of the content, which do not belong in a log.
        f.debug_struct("DigestHasher")
            .field("algorithm", &self.algorithm())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A saved hash state that this program cannot take up. Hash the content again from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownHashState {
    /// Written in another form.
    #[error("unknown hash state version found={found} supported={supported}")]
    Version {
        /// The version in the bytes.
        found: u8,
        /// The version of this program.
        supported: u8,
    },
    /// Names an algorithm that does not exist here.
    #[error("unknown algorithm in hash state code={code}")]
    Algorithm {
        /// The code in the bytes.
        code: u8,
    },
    /// Has a length or contents that no state has.
    #[error("hash state is damaged len={len}")]
    Damaged {
        /// Length of the bytes, the version and algorithm included.
        len: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ at every position a hash could confuse.
    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn a_saved_state_goes_on_at_every_offset_of_a_block() {
        for algorithm in Algorithm::ALL {
            let bytes = content(600);
            let whole = Digest::of(algorithm, &bytes);
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                let mut first = DigestHasher::new(algorithm);
                first.update(head);
                let saved = first.save();
                let mut second = DigestHasher::restore(&saved).unwrap();
                assert_eq!((second.algorithm(), second.len()), (algorithm, cut as u64));
                assert_eq!(second.save(), saved);
                second.update(tail);
                assert_eq!(second.finalize(), whole, "{algorithm} cut={cut}");
                first.update(tail);
                assert_eq!(first.finalize(), whole, "saving must not disturb the hasher");
            }
        }
    }

    #[test]
    fn a_saved_state_has_a_fixed_form() {
        // sha256: version, code, 8 words, block count, then a 64-byte buffer of position and bytes.
        let saved = DigestHasher::new(Algorithm::Sha256).save();
        assert_eq!(saved.len(), 2 + 32 + 8 + 64);
        assert_eq!(saved[..6], [1, 1, 0x67, 0xe6, 0x09, 0x6a]);
        let saved = DigestHasher::new(Algorithm::Sha512).save();
        assert_eq!(saved.len(), 2 + 64 + 16 + 128);
        assert_eq!(saved[..2], [1, 2]);
    }

    #[test]
    fn a_foreign_state_is_refused() {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(b"some bytes");
        let saved = hasher.save();
        for len in 0..saved.len() {
            assert!(matches!(
                DigestHasher::restore(&saved[..len]),
                Err(UnknownHashState::Damaged { len: found }) if found == len
            ));
        }
        let mut long = saved.clone();
        long.push(0);
        assert!(matches!(DigestHasher::restore(&long), Err(UnknownHashState::Damaged { .. })));
        for version in [0, 2, 255] {
            let mut other = saved.clone();
            other[0] = version;
            assert_eq!(
                DigestHasher::restore(&other).unwrap_err(),
                UnknownHashState::Version { found: version, supported: 1 }
            );
        }
        let mut other = saved.clone();
        other[1] = 7;
        assert_eq!(DigestHasher::restore(&other).unwrap_err(), UnknownHashState::Algorithm { code: 7 });
        let mut other = saved.clone();
        other[1] = Algorithm::Sha512.code();
        assert!(matches!(DigestHasher::restore(&other), Err(UnknownHashState::Damaged { .. })));
        // A buffer position past the block cannot be.
        let mut other = saved;
        other[2 + 40] = 64;
        assert!(matches!(DigestHasher::restore(&other), Err(UnknownHashState::Damaged { .. })));
        // Nor can a count of blocks that no content has; sha2 would overflow at the end.
        for (algorithm, count) in [(Algorithm::Sha256, 2 + 32..2 + 40), (Algorithm::Sha512, 2 + 64..2 + 80)] {
            let mut other = DigestHasher::new(algorithm).save();
            other[count.end - 1] = 1;
            assert!(matches!(DigestHasher::restore(&other), Err(UnknownHashState::Damaged { .. })));
            other[count].fill(0xff);
            assert!(matches!(DigestHasher::restore(&other), Err(UnknownHashState::Damaged { .. })));
        }
    }
}
