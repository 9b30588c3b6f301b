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
use sha2::{Sha256, Sha512};

use crate::hex;

pub use self::hasher::{DigestHasher, UnknownHashState};

mod hasher;

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
        let Some((name, digits)) = value.split_once(':') else {
            return Err(InvalidDigest::NoAlgorithm { value: excerpt(value) });
        };
        let Some(algorithm) = Algorithm::from_name(name) else {
            return Err(InvalidDigest::UnsupportedAlgorithm { value: excerpt(value) });
        };
        let expected = algorithm.digest_len() * 2;
        if digits.len() != expected {
            return Err(InvalidDigest::WrongLength { expected, found: digits.len(), value: excerpt(value) });
        }
        let hash = match algorithm {
            Algorithm::Sha256 => hex::decode_array(digits.as_bytes()).map(Hash::Sha256),
            Algorithm::Sha512 => hex::decode_array(digits.as_bytes()).map(Hash::Sha512),
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
        hex::encode(self.as_bytes())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

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
}
