use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that travel as standard base64 with padding.
///
/// A request's blob is decoded inside the request's own buffer, which then becomes the blob: the bytes are never copied
/// to a second buffer. The capacity may therefore exceed the length by about a third.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(Vec<u8>);

impl Blob {
    /// The bytes, in the buffer they were decoded in.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log line must not hold megabytes of somebody's layer.
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// A moment, in milliseconds since 1970-01-01 UTC. On the wire it is a number of seconds with up to three decimals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `ms` milliseconds after 1970-01-01 UTC.
    pub fn from_ms(ms: u64) -> Self {
        Self(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// Milliseconds since 1970-01-01 UTC, negative before it.
    pub const fn ms(self) -> i64 {
        self.0
    }
}

impl Serialize for Timestamp {
    #[expect(clippy::cast_precision_loss, reason = "exact for every moment before the year 287396")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            // The shortest decimal that reads back as this double has at most three decimals: doubles near today's
            // time in seconds are 2^-22 apart.
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = f64::deserialize(deserializer)? * 1000.0;
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        if (-9e15..=9e15).contains(&ms) {
            Ok(Self(ms.round() as i64))
        } else {
            Err(D::Error::custom("a timestamp is out of range"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_seconds_with_milliseconds() {
        let text = |ms| serde_json::to_string(&Timestamp::from_ms(ms)).unwrap();
        assert_eq!(text(1_448_875_853_241), "1448875853.241");
        assert_eq!(text(1_448_875_853_001), "1448875853.001");
        assert_eq!(text(1_448_875_853_990), "1448875853.99");
        assert_eq!(text(1_448_875_853_000), "1448875853");
        assert_eq!(text(0), "0");
    }

    #[test]
    fn timestamps_are_read_with_exponents() {
        let read = |text| serde_json::from_str::<Timestamp>(text).unwrap().ms();
        assert_eq!(read("1.705072146E9"), 1_705_072_146_000);
        assert_eq!(read("1448875853.241"), 1_448_875_853_241);
        assert_eq!(read("7"), 7_000);
        assert!(serde_json::from_str::<Timestamp>("1e300").is_err());
    }

    #[test]
    fn blobs_are_base64_and_are_not_printed() {
        let blob = Blob::from(vec![0xfb, 0xff]);
        assert_eq!(serde_json::to_string(&blob).unwrap(), r#""+/8=""#);
        assert_eq!(format!("{blob:?}"), "Blob(2 bytes)");
    }
}
