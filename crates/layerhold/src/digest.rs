//! Digests: the names that content gives itself.
//!
//! A [`Digest`] is what clients see, `sha256:<hex>`, and the only identity of a blob or manifest. It is parsed once, and
//! from then on it cannot be wrong: the algorithm is one of [`Algorithm`], the hash has that algorithm's length. The
//! BLAKE3 fingerprint that guards stored bytes is something else and lives in [`crate::blob::fingerprint`].
//!
//! A [`DigestHasher`] computes a digest from bytes as they come, and can be put aside between two parts of an upload.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Sha256, Sha512};

/// How many characters of a refused value an error repeats: enough to recognise it, too few to flood a log.
pub const EXCERPT_CHARS_MAX: usize = 80;

/// The beginning of `value`, for an error: at most [`EXCERPT_CHARS_MAX`] characters.
pub(crate) fn excerpt(value: &str) -> String {
    value.chars().take(EXCERPT_CHARS_MAX).collect()
}

/// The hash algorithms a digest may name.
///
/// The list is closed on purpose: these two are the registered ones of the OCI image specification (descriptor.md,
/// Registered Algorithms) that every client must or may use. Amazon ECR itself only computes sha256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, written `sha256`.
    Sha256,
    /// SHA-512, written `sha512`.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in the order of their codes.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The byte that stands for the algorithm on disk: 1 or 2, never reused.
    pub const fn code(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The algorithm that `code` stands for, if any.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The word before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm that `name` stands for, if any. Case counts.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Length of the hash in bytes; its hex form is twice as long.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of content: an algorithm and the hash it gives for the exact bytes.
///
/// Digests sort by algorithm code, then by hash, which is also the order of their text form.
///
/// ```
/// use layerhold::digest::Digest;
///
/// let digest = Digest::sha256(b"");
/// let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(digest.to_string(), text);
/// assert_eq!(Digest::parse(text), Ok(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Hash);

/// One variant for each algorithm, so that a hash of the wrong length cannot be written down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hash {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// Reads `algorithm:hex`: a known algorithm, exactly its length, lower-case hex, nothing around it.
    ///
    /// # Errors
    /// [`InvalidDigest`], which tells a form that is not a digest at all from an algorithm that is not supported, a
    /// wrong length and a wrong character, judged in this order.
    pub fn parse(value: &str) -> Result<Self, InvalidDigest> {
        let Some((name, hex)) = value.split_once(':') else {
            return Err(InvalidDigest::NoAlgorithm { value: excerpt(value) });
        };
        let Some(algorithm) = Algorithm::from_name(name) else {
            return Err(InvalidDigest::UnsupportedAlgorithm { value: excerpt(value) });
        };
        let expected = algorithm.digest_len() * 2;
        if hex.len() != expected {
            return Err(InvalidDigest::WrongLength { expected, found: hex.len(), value: excerpt(value) });
        }
        let hash = match algorithm {
            Algorithm::Sha256 => decode(hex.as_bytes()).map(Hash::Sha256),
            Algorithm::Sha512 => decode(hex.as_bytes()).map(Hash::Sha512),
        };
        match hash {
            Ok(hash) => Ok(Self(hash)),
            Err(at) => Err(InvalidDigest::BadCharacter { position: name.len() + 1 + at, value: excerpt(value) }),
        }
    }

    /// The digest with this hash, or `None` if `hash` does not have the algorithm's length.
    pub fn from_bytes(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Sha256 => hash.try_into().ok().map(|hash| Self(Hash::Sha256(hash))),
            Algorithm::Sha512 => hash.try_into().ok().map(|hash| Self(Hash::Sha512(hash))),
        }
    }

    /// The SHA-256 digest of `bytes`, which are all in memory.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(Hash::Sha256(Sha256::digest(bytes).into()))
    }

    /// The digest of `bytes`, which are all in memory.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::sha256(bytes),
            Algorithm::Sha512 => Self(Hash::Sha512(Sha512::digest(bytes).into())),
        }
    }

    /// Which hash it is.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Hash::Sha256(_) => Algorithm::Sha256,
            Hash::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw hash; [`Algorithm::digest_len`] bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Hash::Sha256(hash) => hash,
            Hash::Sha512(hash) => hash,
        }
    }

    /// The hash in lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(self.as_bytes().len() * 2);
        for byte in self.as_bytes() {
            text.push(nibble_to_hex(byte >> 4));
            text.push(nibble_to_hex(byte & 0x0f));
        }
        text
    }
}

/// The hex digit of `nibble`, which is below 16.
fn nibble_to_hex(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) })
}

/// The value of a lower-case hex digit. Upper case is refused, or one content would have two names.
fn hex_to_nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Decodes hex of exactly `2 * N` bytes, or tells the position of the first byte that is no digit.
fn decode<const N: usize>(hex: &[u8]) -> Result<[u8; N], usize> {
    let mut hash = [0; N];
    let (pairs, _) = hex.as_chunks::<2>();
    for (at, (byte, [high, low])) in hash.iter_mut().zip(pairs).enumerate() {
        let high = hex_to_nibble(*high).ok_or(at * 2)?;
        let low = hex_to_nibble(*low).ok_or(at * 2 + 1)?;
        *byte = high << 4 | low;
    }
    Ok(hash)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest as algorithm:hex")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Digest, E> {
                Digest::parse(value).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Text that is not a digest. `value` holds its first [`EXCERPT_CHARS_MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDigest {
    /// There is no colon, so nothing names an algorithm.
    #[error("digest names no algorithm value={value:?}")]
    NoAlgorithm {
        /// What was given.
        value: String,
    },
    /// The word before the colon is none of [`Algorithm`]. It may be well formed all the same.
    #[error("digest algorithm is not supported value={value:?}")]
    UnsupportedAlgorithm {
        /// What was given.
        value: String,
    },
    /// The part after the colon is too short or too long for the algorithm.
    #[error("digest has the wrong length expected={expected} found={found} value={value:?}")]
    WrongLength {
        /// Hex digits the algorithm asks for.
        expected: usize,
        /// Bytes found after the colon.
        found: usize,
        /// What was given.
        value: String,
    },
    /// Something other than `0-9a-f` after the colon.
    #[error("digest has a character that is not lower-case hex position={position} value={value:?}")]
    BadCharacter {
        /// Byte position in the whole text, from 0.
        position: usize,
        /// What was given.
        value: String,
    },
}

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

    const EMPTY_256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    /// Bytes that differ at every position a hash could confuse.
    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn published_digests_of_no_bytes() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY_256);
        assert_eq!(Digest::of(Algorithm::Sha512, b"").to_string(), EMPTY_512);
        assert_eq!(DigestHasher::new(Algorithm::Sha256).finalize().to_string(), EMPTY_256);
        assert_eq!(DigestHasher::new(Algorithm::Sha512).finalize().to_string(), EMPTY_512);
    }

    #[test]
    fn text_and_bytes_round_trip() {
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, b"layer");
            assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
            assert_eq!(Digest::from_bytes(algorithm, digest.as_bytes()), Some(digest));
            assert_eq!(digest.algorithm(), algorithm);
            assert_eq!(digest.as_bytes().len(), algorithm.digest_len());
            assert_eq!(digest.hex().len(), algorithm.digest_len() * 2);
            assert_eq!(format!("{digest:?}"), format!("Digest({digest})"));
            let json = serde_json::to_string(&digest).unwrap();
            assert_eq!(json, format!("\"{digest}\""));
            assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:ab\"").is_err());
        assert!(serde_json::from_str::<Digest>("5").is_err());
        assert_eq!(Digest::from_bytes(Algorithm::Sha256, &[0; 64]), None);
        assert_eq!(Digest::from_bytes(Algorithm::Sha512, &[0; 32]), None);
        assert_eq!(Digest::from_bytes(Algorithm::Sha256, &[]), None);
    }

    #[test]
    fn algorithm_codes_are_fixed() {
        assert_eq!(Algorithm::Sha256.code(), 1);
        assert_eq!(Algorithm::Sha512.code(), 2);
        for code in 0..=u8::MAX {
            assert_eq!(Algorithm::from_code(code).map(Algorithm::code), (1..=2).contains(&code).then_some(code));
        }
        assert_eq!(Algorithm::from_name("SHA256"), None);
    }

    #[test]
    fn refusals_name_their_reason() {
        let fault = |value: &str| Digest::parse(value).unwrap_err();
        for value in ["", "sha256", "../../etc/passwd", "e3b0c44298fc1c149afbf4c8996fb924"] {
            assert!(matches!(fault(value), InvalidDigest::NoAlgorithm { .. }), "{value}");
        }
        for value in [":", ":ab", "md5:d41d8cd98f00b204e9800998ecf8427e", "SHA256:ab", " sha256:ab", "sha256+b64:ab"] {
            assert!(matches!(fault(value), InvalidDigest::UnsupportedAlgorithm { .. }), "{value}");
        }
        let long = format!("{EMPTY_256}0");
        let swapped = EMPTY_256.replace("sha256", "sha512");
        for value in ["sha256:", "sha256:ab", long.as_str(), swapped.as_str()] {
            assert!(matches!(fault(value), InvalidDigest::WrongLength { .. }), "{value}");
        }
        let upper = EMPTY_256.replace('e', "E");
        assert!(matches!(fault(&upper), InvalidDigest::BadCharacter { position: 7, .. }));
        let odd = EMPTY_256.replace("855", "85g");
        assert!(matches!(fault(&odd), InvalidDigest::BadCharacter { position: 70, .. }));
        let slash = format!("sha256:../../{}", "a".repeat(58));
        assert!(matches!(fault(&slash), InvalidDigest::BadCharacter { position: 7, .. }));
        // Sixty-four bytes, but not sixty-four characters: nothing is cut inside a character.
        let unicode = format!("sha256:{}", "é".repeat(32));
        assert!(matches!(fault(&unicode), InvalidDigest::BadCharacter { .. }));
    }

    #[test]
    fn errors_repeat_a_bounded_excerpt() {
        let InvalidDigest::NoAlgorithm { value } = Digest::parse(&"é".repeat(10_000)).unwrap_err() else { panic!() };
        assert_eq!(value.chars().count(), EXCERPT_CHARS_MAX);
        let text = Digest::parse("a\nb").unwrap_err().to_string();
        assert!(!text.contains('\n'), "control characters must not reach a log line: {text}");
    }

    #[test]
    fn order_is_the_order_of_the_text() {
        let mut digests: Vec<Digest> =
            (0..64u8).flat_map(|i| Algorithm::ALL.map(|algorithm| Digest::of(algorithm, &[i]))).collect();
        digests.sort();
        let texts: Vec<String> = digests.iter().map(Digest::to_string).collect();
        assert!(texts.is_sorted());
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
