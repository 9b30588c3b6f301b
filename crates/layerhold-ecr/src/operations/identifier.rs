//! How requests name images and layers.

use layerhold::digest::{Algorithm, Digest};
use layerhold::manifest::ImageId;
use layerhold::name::Tag;

use crate::generated::types::ImageIdentifier;
use crate::messages;
use crate::shape::Pattern;

static DIGEST: Pattern = Pattern::new(messages::DIGEST_PATTERN);

/// A digest as a request spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenDigest {
    /// It breaks the grammar.
    Malformed,
    /// It is well formed and can name nothing that is stored: another algorithm, another length, capitals.
    Nowhere,
    /// It may name something.
    Digest(Digest),
}

impl GivenDigest {
    pub(super) fn read(text: &str) -> Self {
        if !DIGEST.matches(text) {
            return Self::Malformed;
        }
        Digest::parse(text).map_or(Self::Nowhere, Self::Digest)
    }

    /// The digest, if it is one that may name something.
    pub(super) fn digest(self) -> Option<Digest> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::Malformed | Self::Nowhere => None,
        }
    }
}

/// Whether a digest claims to be of the algorithm that this service computes.
pub(super) fn is_sha256(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, _)| algorithm == Algorithm::Sha256.name())
}

/// An image as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GivenImage {
    /// Neither tag nor digest.
    Empty,
    /// The digest breaks its grammar.
    MalformedDigest,
    /// The tag breaks its grammar.
    MalformedTag,
    /// It is well formed and can name nothing that is stored.
    Nowhere,
    /// It may name something.
    Image(ImageId),
}

impl GivenImage {
    /// Reads an id; of several faults the first in the service's order counts.
    pub(super) fn read(id: &ImageIdentifier) -> Self {
        let digest = match id.image_digest.as_deref().map(GivenDigest::read) {
            Some(GivenDigest::Malformed) => return Self::MalformedDigest,
            other => other,
        };
        let tag = match id.image_tag.as_deref().map(Tag::parse).transpose() {
            Ok(tag) => tag,
            Err(_) => return Self::MalformedTag,
        };
        match (digest, tag) {
            (None, None) => Self::Empty,
            (None, Some(tag)) => Self::Image(ImageId::Tag(tag)),
            (Some(GivenDigest::Digest(digest)), None) => Self::Image(ImageId::Digest(digest)),
            (Some(GivenDigest::Digest(digest)), Some(tag)) => Self::Image(ImageId::Both(tag, digest)),
            (Some(_), _) => Self::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_judged_in_the_order_of_the_service() {
        let sha = format!("sha256:{}", "a".repeat(64));
        let read = |digest: Option<&str>, tag: Option<&str>| {
            GivenImage::read(&ImageIdentifier {
                image_digest: digest.map(ToOwned::to_owned),
                image_tag: tag.map(ToOwned::to_owned),
            })
        };
        let tag = Tag::parse("v1").unwrap();
        let digest = Digest::parse(&sha).unwrap();
        assert_eq!(read(None, None), GivenImage::Empty);
        assert_eq!(read(None, Some("v1")), GivenImage::Image(ImageId::Tag(tag.clone())));
        assert_eq!(read(Some(&sha), None), GivenImage::Image(ImageId::Digest(digest)));
        assert_eq!(read(Some(&sha), Some("v1")), GivenImage::Image(ImageId::Both(tag, digest)));
        for malformed in ["", "sha256", "sha256:", ":ab", "sha256:xyz", "sha256:ab\n", "sha 256:ab"] {
            assert_eq!(read(Some(malformed), Some("a+b")), GivenImage::MalformedDigest, "{malformed:?}");
        }
        assert_eq!(read(Some(&sha), Some("a+b")), GivenImage::MalformedTag);
        assert_eq!(read(Some("sha256:ab"), Some("a b")), GivenImage::MalformedTag);
        for nowhere in ["sha256:ab", "md5:abcd", &sha.to_uppercase(), &format!("sha256:{}", "A".repeat(64))] {
            assert_eq!(read(Some(nowhere), None), GivenImage::Nowhere, "{nowhere}");
        }
    }
}
