//! Descriptors: how one document points at content, by media type, digest and size.
//!
//! A [`MediaType`] is parsed once and compared exactly, case included: the bytes of a manifest name it, and two clients
//! must not see two types for one document.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::digest::{Digest, excerpt};

/// Longest media type in bytes: two names of 127 and the slash between them (RFC 6838, section 4.2).
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// Longest name on either side of the slash, in bytes (RFC 6838, section 4.2).
const RESTRICTED_NAME_BYTES_MAX: usize = 127;

/// What kind of content something is: `type/subtype` in the restricted names of RFC 6838, without parameters.
///
/// Comparison is exact. The well-known types are constants; a clone never copies the text.
#[derive(Clone)]
pub struct MediaType(Text);

#[derive(Clone)]
enum Text {
    Known(&'static str),
    Other(Arc<str>),
}

/// Declares the well-known types once: as constants, and as the table that parsing looks them up in.
macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: Self = Self(Text::Known($text));)*
        }

        const KNOWN: &[&str] = &[$($text),*];
    };
}

known! {
    /// Docker image manifest, schema 1, unsigned.
    DOCKER_MANIFEST_V1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker image manifest, schema 1, signed.
    DOCKER_MANIFEST_V1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// Docker image manifest, schema 2.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json";
    /// Docker layer.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer that is fetched from elsewhere.
    DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// OCI image manifest; also of every artifact that is pushed as one.
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    OCI_INDEX = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, not compressed.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, Zstandard.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// OCI layer that must not be redistributed, not compressed.
    OCI_NONDISTRIBUTABLE_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// OCI layer that must not be redistributed, gzip.
    OCI_NONDISTRIBUTABLE_LAYER_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// OCI layer that must not be redistributed, Zstandard.
    OCI_NONDISTRIBUTABLE_LAYER_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
    /// The two bytes `{}` that stand for "nothing to say" (OCI image specification, Guidance for an Empty Descriptor).
    OCI_EMPTY = "application/vnd.oci.empty.v1+json";
    /// Bytes of no stated kind (RFC 2046).
    OCTET_STREAM = "application/octet-stream";
}

impl MediaType {
    /// Reads `type/subtype`: each a letter or digit and then letters, digits or `! # $ & - ^ _ . +`, at most 127
    /// bytes.
    ///
    /// # Errors
    /// [`InvalidMediaType`], which tells parameters (`;charset=utf-8`) from other faults.
    pub fn parse(value: &str) -> Result<Self, InvalidMediaType> {
        if let Some(known) = KNOWN.iter().find(|known| **known == value) {
            return Ok(Self(Text::Known(known)));
        }
        match check(value) {
            Ok(()) => Ok(Self(Text::Other(value.into()))),
            Err(fault) => Err(InvalidMediaType { fault, value: excerpt(value) }),
        }
    }

    /// The text, as it was given.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Known(text) => text,
            Text::Other(text) => text,
        }
    }

    /// Whether layers of this type are fetched from elsewhere, so that a registry need not hold them: Docker's foreign
    /// layers and OCI's nondistributable ones, whatever their compression.
    pub fn is_foreign_layer(&self) -> bool {
        ["application/vnd.docker.image.rootfs.foreign.diff.tar", Self::OCI_NONDISTRIBUTABLE_LAYER.as_str()]
            .into_iter()
            .filter_map(|plain| self.as_str().strip_prefix(plain))
            .any(|compression| compression.is_empty() || compression.starts_with(['.', '+']))
    }
}

fn check(value: &str) -> Result<(), MediaTypeFault> {
    if value.is_empty() {
        return Err(MediaTypeFault::Empty);
    }
    if value.len() > MEDIA_TYPE_BYTES_MAX {
        return Err(MediaTypeFault::TooLong { length: value.len(), limit: MEDIA_TYPE_BYTES_MAX });
    }
    let (first, second) = value.split_once('/').ok_or(MediaTypeFault::NoSubtype)?;
    check_restricted_name(first, 0)?;
    check_restricted_name(second, first.len() + 1)
}

/// Checks one side of the slash, which begins `offset` bytes into the text.
fn check_restricted_name(name: &str, offset: usize) -> Result<(), MediaTypeFault> {
    for (at, byte) in name.bytes().enumerate() {
        let legal = byte.is_ascii_alphanumeric() || (at > 0 && b"!#$&-^_.+".contains(&byte));
        if !legal {
            let position = offset + at;
            // A space often stands before the semicolon; both mean that parameters follow.
            return Err(if name.get(at..).is_some_and(|rest| rest.trim_start().starts_with(';')) {
                MediaTypeFault::Parameters { position }
            } else {
                MediaTypeFault::Grammar { position }
            });
        }
    }
    match name.len() {
        0 => Err(MediaTypeFault::Grammar { position: offset }),
        1..=RESTRICTED_NAME_BYTES_MAX => Ok(()),
        length => Err(MediaTypeFault::TooLong { length, limit: RESTRICTED_NAME_BYTES_MAX }),
    }
}

impl PartialEq for MediaType {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MediaType {}

impl PartialOrd for MediaType {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MediaType {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for MediaType {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for MediaType {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for MediaType {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaType({:?})", self.as_str())
    }
}

impl FromStr for MediaType {
    type Err = InvalidMediaType;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = String::deserialize(deserializer)?;
        Self::parse(&value).map_err(de::Error::custom)
    }
}

/// Text that is not a media type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("media type {fault} value={value:?}")]
pub struct InvalidMediaType {
    /// What is wrong.
    pub fault: MediaTypeFault,
    /// The first 80 characters of what was given.
    pub value: String,
}

/// What is wrong with a media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaTypeFault {
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// The whole, or the name on one side of the slash, has too many bytes.
    #[error("is too long length={length} limit={limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// There is no slash.
    #[error("has no subtype")]
    NoSubtype,
    /// Parameters follow. They are no part of the type of content that is named by its digest.
    #[error("has parameters position={position}")]
    Parameters {
        /// Byte position of their beginning, from 0.
        position: usize,
    },
    /// A character that no media type has, or an empty name.
    #[error("breaks its grammar position={position}")]
    Grammar {
        /// Byte position, from 0.
        position: usize,
    },
}

/// A pointer from a document to content (OCI image specification, descriptor.md), as far as a registry needs it.
///
/// `data`, `platform` and members that nobody defined are not kept; the document's own bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What the content is said to be.
    pub media_type: MediaType,
    /// What the content must hash to.
    pub digest: Digest,
    /// Length of the content in bytes, as the document declares it. Docker schema 1 declares none: then 0.
    pub size: u64,
    /// Whether the document names at least one other place to fetch the content from (`urls`).
    pub urls_present: bool,
    /// `artifactType`: what a manifest pointed at is for.
    pub artifact_type: Option<MediaType>,
    /// Free text by key, never interpreted.
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor with the three required members alone.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, urls_present: false, artifact_type: None, annotations: BTreeMap::new() }
    }

    /// Whether a registry may lack the content if this describes a layer.
    ///
    /// The media type alone decides. `urls` beside an ordinary type are a hint where the content may be had too: clients
    /// push such layers, and a manifest with one that is absent could not be pulled by those that ignore `urls`.
    pub fn is_foreign(&self) -> bool {
        self.media_type.is_foreign_layer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(value: &str) -> MediaTypeFault {
        MediaType::parse(value).unwrap_err().fault
    }

    #[test]
    fn media_types_that_are_legal() {
        let longest = format!("{}/{}", "a".repeat(127), "b".repeat(127));
        for value in ["a/b", "application/json", "image/svg+xml", "x/a!#$&-^_.+", "9/9", "Text/HTML", longest.as_str()]
        {
            let parsed = MediaType::parse(value).unwrap();
            assert_eq!(parsed.as_str(), value);
            assert_eq!(value.parse(), Ok(parsed));
        }
        for known in KNOWN {
            let parsed = MediaType::parse(known).unwrap();
            assert!(matches!(parsed.0, Text::Known(_)), "{known} must not be copied");
        }
        assert_eq!(MediaType::parse(MediaType::OCI_INDEX.as_str()), Ok(MediaType::OCI_INDEX));
    }

    #[test]
    fn media_types_that_are_not() {
        assert_eq!(fault(""), MediaTypeFault::Empty);
        assert_eq!(fault("json"), MediaTypeFault::NoSubtype);
        assert_eq!(fault(&"a".repeat(256)), MediaTypeFault::TooLong { length: 256, limit: 255 });
        assert_eq!(fault(&format!("{}/b", "a".repeat(128))), MediaTypeFault::TooLong { length: 128, limit: 127 });
        assert_eq!(fault(&format!("a/{}", "b".repeat(128))), MediaTypeFault::TooLong { length: 128, limit: 127 });
        for (value, position) in [
            ("/b", 0),
            ("a/", 2),
            ("/", 0),
            ("a/b/c", 3),
            (" a/b", 0),
            ("a/b ", 3),
            ("a/b\n", 3),
            ("a/+b", 2),
            ("a/.b", 2),
            ("a/b*", 3),
            ("*/*", 0),
            ("a/é", 2),
            ("a/b\0", 3),
            ("a/b,c/d", 3),
        ] {
            assert_eq!(fault(value), MediaTypeFault::Grammar { position }, "{value:?}");
        }
        for value in ["a/b;", "a/b; charset=utf-8", "a/b ;q=1", "a/b;\u{e9}"] {
            assert_eq!(fault(value), MediaTypeFault::Parameters { position: 3 }, "{value:?}");
        }
    }

    #[test]
    fn comparison_is_exact_and_by_text() {
        let shared = MediaType(Text::Other(MediaType::OCI_LAYER.as_str().into()));
        assert_eq!(shared, MediaType::OCI_LAYER);
        assert_ne!(MediaType::parse("A/b"), MediaType::parse("a/b"));
        let set = std::collections::HashSet::from([shared]);
        assert!(set.contains(MediaType::OCI_LAYER.as_str()));
        assert!(MediaType::DOCKER_LAYER < MediaType::OCI_LAYER);
        assert_eq!(
            serde_json::to_string(&MediaType::OCI_EMPTY).unwrap(),
            format!("{:?}", MediaType::OCI_EMPTY.as_str())
        );
        assert!(serde_json::from_str::<MediaType>("\"a/b;c=d\"").is_err());
    }

    #[test]
    fn foreign_layers_are_known_by_their_type() {
        for foreign in [
            MediaType::DOCKER_FOREIGN_LAYER,
            MediaType::OCI_NONDISTRIBUTABLE_LAYER,
            MediaType::OCI_NONDISTRIBUTABLE_LAYER_GZIP,
            MediaType::OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
            MediaType::parse("application/vnd.docker.image.rootfs.foreign.diff.tar").unwrap(),
        ] {
            assert!(foreign.is_foreign_layer(), "{foreign}");
        }
        for own in [
            MediaType::DOCKER_LAYER,
            MediaType::OCI_LAYER,
            MediaType::OCI_LAYER_ZSTD,
            MediaType::DOCKER_CONFIG,
            MediaType::parse("application/vnd.docker.image.rootfs.foreign.diff.tarball").unwrap(),
        ] {
            assert!(!own.is_foreign_layer(), "{own}");
        }
        let mut descriptor = Descriptor::new(MediaType::OCI_LAYER, Digest::sha256(b""), 0);
        descriptor.urls_present = true;
        assert!(!descriptor.is_foreign());
        descriptor.media_type = MediaType::OCI_NONDISTRIBUTABLE_LAYER;
        assert!(descriptor.is_foreign());
    }
}
