//! Names: of registries, repositories and tags, and of whoever acts on them.
//!
//! Each is parsed once into a type that cannot be wrong, and from then on carried by value: a name is a shared string, so
//! that a clone costs one count. What a name says never becomes part of a path. All of them sort and compare by their
//! bytes, upper case before lower case.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::digest::{Digest, InvalidDigest, excerpt};

/// Longest registry name in bytes. Ours: the name is opaque to the engine, and 255 fits any host or account form.
pub const REGISTRY_NAME_BYTES_MAX: usize = 255;

/// Longest repository name in bytes, all components together (Amazon ECR API, `RepositoryName`: 2 to 256).
pub const REPOSITORY_NAME_BYTES_MAX: usize = 256;

/// Longest tag in bytes (Amazon ECR API, `ImageTag`: 1 to 300; OCI distribution stops at 128).
pub const TAG_BYTES_MAX: usize = 300;

/// Longest principal in bytes. Ours: the longest IAM ARN is below 2,048 characters.
pub const PRINCIPAL_BYTES_MAX: usize = 2_048;

/// Which kind of name was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameKind {
    /// [`RegistryName`].
    Registry,
    /// [`RepositoryName`].
    Repository,
    /// [`Tag`].
    Tag,
    /// [`Principal`].
    Principal,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "registry name",
            Self::Repository => "repository name",
            Self::Tag => "tag",
            Self::Principal => "principal",
        })
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// It has no bytes.
    #[error("is empty")]
    Empty,
    /// It has more bytes than the kind allows.
    #[error("is too long length={length} limit={limit}")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// It breaks its grammar; everything before `position` could still have become a name.
    #[error("breaks its grammar position={position}")]
    Grammar {
        /// Byte position, from 0; the length of the text if it ends too early.
        position: usize,
    },
}

/// Text that is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {fault} value={value:?}")]
pub struct InvalidName {
    /// Which kind of name was meant.
    pub kind: NameKind,
    /// What is wrong.
    pub fault: NameFault,
    /// The first 80 characters of what was given.
    pub value: String,
}

impl InvalidName {
    fn new(kind: NameKind, fault: NameFault, value: &str) -> Self {
        Self { kind, fault, value: excerpt(value) }
    }
}

/// Gives a name type its constructor and the conversions that all names share.
macro_rules! name {
    ($name:ident, $kind:expr, $check:path) => {
        impl $name {
            /// Checks `value` and keeps a copy of it.
            ///
            /// # Errors
            /// [`InvalidName`], with the limit or the position that it breaks.
            pub fn parse(value: &str) -> Result<Self, InvalidName> {
                match $check(value) {
                    Ok(()) => Ok(Self(value.into())),
                    Err(fault) => Err(InvalidName::new($kind, fault, value)),
                }
            }

            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, Self::Err> {
                Self::parse(value)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = String::deserialize(deserializer)?;
                Self::parse(&value).map_err(de::Error::custom)
            }
        }
    };
}

/// The name of a registry: opaque to the engine, 1 to [`REGISTRY_NAME_BYTES_MAX`] bytes of UTF-8.
///
/// What it means is its adapter's affair; the ECR adapter builds it from private or public, account and Region.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName(Arc<str>);

name!(RegistryName, NameKind::Registry, check_registry);

/// The name of a repository: components of lower-case letters and digits, joined by `/`.
///
/// Inside a component `.`, `_`, `__` or a run of `-` may stand between two letters or digits, so there is no empty
/// component, no `..`, and nothing that begins or ends with a mark. At most [`REPOSITORY_NAME_BYTES_MAX`] bytes. This is
/// the grammar of OCI distribution 1.1 (spec.md, Pulling manifests) and of the private Amazon ECR API. ECR also refuses a
/// single character, which is for its adapter to say; public ECR is narrower still.
///
/// ```
/// use layerhold::name::RepositoryName;
///
/// assert!(RepositoryName::parse("team-a/web__frontend").is_ok());
/// assert!(RepositoryName::parse("team-a/../web").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

name!(RepositoryName, NameKind::Repository, check_repository);

/// A name for a manifest in its repository: 1 to [`TAG_BYTES_MAX`] characters of `a-z A-Z 0-9 - _ .`.
///
/// This is what Amazon ECR takes. OCI distribution asks for more, at most 128 characters that begin with a letter, digit or
/// `_`, and [`Tag::is_oci`] tells whether a tag is so. Tags sort by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

name!(Tag, NameKind::Tag, check_tag);

impl Tag {
    /// Longest tag in bytes that OCI distribution allows (spec.md, Pulling manifests).
    pub const OCI_BYTES_MAX: usize = 128;

    /// Whether OCI distribution allows the tag too: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    pub fn is_oci(&self) -> bool {
        self.0.len() <= Self::OCI_BYTES_MAX && !self.0.starts_with(['.', '-'])
    }
}

/// Who acts: opaque to the engine, at most [`PRINCIPAL_BYTES_MAX`] bytes of UTF-8; empty for nobody in particular.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

name!(Principal, NameKind::Principal, check_principal);

impl Principal {
    /// Nobody in particular: the empty principal.
    pub fn anonymous() -> Self {
        Self(Arc::from(""))
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Principal {
    fn default() -> Self {
        Self::anonymous()
    }
}

fn check_length(value: &str, limit: usize) -> Result<(), NameFault> {
    let length = value.len();
    if length > limit { Err(NameFault::TooLong { length, limit }) } else { Ok(()) }
}

fn check_registry(value: &str) -> Result<(), NameFault> {
    if value.is_empty() {
        return Err(NameFault::Empty);
    }
    check_length(value, REGISTRY_NAME_BYTES_MAX)
}

fn check_principal(value: &str) -> Result<(), NameFault> {
    check_length(value, PRINCIPAL_BYTES_MAX)
}

fn check_tag(value: &str) -> Result<(), NameFault> {
    if value.is_empty() {
        return Err(NameFault::Empty);
    }
    check_length(value, TAG_BYTES_MAX)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match value.bytes().position(|byte| !legal(byte)) {
        None => Ok(()),
        Some(position) => Err(NameFault::Grammar { position }),
    }
}

/// Where the matcher stands in a repository name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the beginning of a component: a letter or digit must come.
    Component,
    /// Behind a letter or digit: anything may come, and the name may end.
    Alphanumeric,
    /// Behind one `_`: one more may come.
    Underscore,
    /// Behind a `-`: more may come.
    Dashes,
    /// Behind a mark that is complete: a letter or digit must come.
    Mark,
}

/// One pass over the bytes, written out by hand so that no input is slow.
fn check_repository(value: &str) -> Result<(), NameFault> {
    if value.is_empty() {
        return Err(NameFault::Empty);
    }
    check_length(value, REPOSITORY_NAME_BYTES_MAX)?;
    let mut at = At::Component;
    for (position, byte) in value.bytes().enumerate() {
        at = match (at, byte) {
            (_, b'a'..=b'z' | b'0'..=b'9') => At::Alphanumeric,
            (At::Alphanumeric, b'/') => At::Component,
            (At::Alphanumeric, b'.') | (At::Underscore, b'_') => At::Mark,
            (At::Alphanumeric, b'_') => At::Underscore,
            (At::Alphanumeric | At::Dashes, b'-') => At::Dashes,
            _ => return Err(NameFault::Grammar { position }),
        };
    }
    match at {
        At::Alphanumeric => Ok(()),
        _ => Err(NameFault::Grammar { position: value.len() }),
    }
}

/// What a client names a manifest by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// By a name that may move.
    Tag(Tag),
    /// By its content.
    Digest(Digest),
}

impl Reference {
    /// Reads a digest where there is a colon, which no tag has, and a tag elsewhere.
    ///
    /// # Errors
    /// [`InvalidReference`], with the reason of the form that was meant.
    pub fn parse(value: &str) -> Result<Self, InvalidReference> {
        if value.contains(':') { Ok(Self::Digest(Digest::parse(value)?)) } else { Ok(Self::Tag(Tag::parse(value)?)) }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// Text that is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// There is no colon, and it is not a tag.
    #[error(transparent)]
    Tag(#[from] InvalidName),
    /// There is a colon, and it is not a digest.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault<T: fmt::Debug>(parsed: Result<T, InvalidName>) -> NameFault {
        parsed.unwrap_err().fault
    }

    #[test]
    fn repository_names_that_are_legal() {
        let longest = "a".repeat(REPOSITORY_NAME_BYTES_MAX);
        let deep = vec!["a"; 128].join("/");
        for name in [
            "a",
            "0",
            "library/ubuntu",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "a/b/c/d",
            "0-0/1__1/2.2",
            "a1.b2_c3__d4----e5",
            longest.as_str(),
            deep.as_str(),
        ] {
            let parsed = RepositoryName::parse(name).unwrap();
            assert_eq!(parsed.as_str(), name);
            assert_eq!(parsed.to_string(), name);
            assert_eq!(name.parse(), Ok(parsed));
        }
    }

    #[test]
    fn repository_names_that_are_not() {
        for (name, position) in [
            ("/", 0),
            ("/a", 0),
            ("a/", 2),
            ("a//b", 2),
            (".", 0),
            ("..", 0),
            ("a/../b", 2),
            ("a/./b", 2),
            ("a..b", 2),
            ("a.", 2),
            ("a_", 2),
            ("a__", 3),
            ("a___b", 3),
            ("a-", 2),
            ("a--", 3),
            ("-a", 0),
            ("_a", 0),
            (".a", 0),
            ("a._b", 2),
            ("a_.b", 2),
            ("a-_b", 2),
            ("a_-b", 2),
            ("a__-b", 3),
            ("a.-b", 2),
            ("a-/b", 2),
            ("a/-b", 2),
            ("A", 0),
            ("ROOT", 0),
            ("a b", 1),
            ("a\0b", 1),
            ("a%2fb", 1),
            ("a\\b", 1),
            ("a:b", 1),
            ("ä", 0),
            ("a\n", 1),
        ] {
            let error = RepositoryName::parse(name).unwrap_err();
            assert_eq!(error.kind, NameKind::Repository);
            assert_eq!(error.fault, NameFault::Grammar { position }, "{name:?}");
        }
        assert_eq!(fault(RepositoryName::parse("")), NameFault::Empty);
        assert_eq!(
            fault(RepositoryName::parse(&"a".repeat(257))),
            NameFault::TooLong { length: 257, limit: REPOSITORY_NAME_BYTES_MAX }
        );
    }

    #[test]
    fn tags() {
        for tag in ["a", ".", "..", "-x", "_", "v1.2.3-rc.1_x", "LATEST", &"t".repeat(TAG_BYTES_MAX)] {
            assert_eq!(Tag::parse(tag).unwrap().as_str(), tag);
        }
        assert_eq!(fault(Tag::parse("")), NameFault::Empty);
        assert_eq!(fault(Tag::parse(&"t".repeat(301))), NameFault::TooLong { length: 301, limit: TAG_BYTES_MAX });
        for (tag, position) in [("v1+2", 2), ("a/b", 1), ("a:b", 1), ("é", 0), ("a b", 1), ("a\0", 1), ("*", 0)] {
            assert_eq!(fault(Tag::parse(tag)), NameFault::Grammar { position });
        }
        for (tag, oci) in [("a", true), ("_a", true), (".a", false), ("-a", false), ("9", true)] {
            assert_eq!(Tag::parse(tag).unwrap().is_oci(), oci, "{tag}");
        }
        assert!(Tag::parse(&"t".repeat(128)).unwrap().is_oci());
        assert!(!Tag::parse(&"t".repeat(129)).unwrap().is_oci());
    }

    #[test]
    fn tags_sort_by_bytes() {
        let mut tags: Vec<Tag> = ["b", "a", "B", "_", "10", "9", "-", "."].map(|t| Tag::parse(t).unwrap()).into();
        tags.sort();
        let sorted: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        assert_eq!(sorted, ["-", ".", "10", "9", "B", "_", "a", "b"]);
    }

    #[test]
    fn registries_and_principals_are_opaque() {
        for name in ["private/123456789012/eu-central-1", "ä", "\u{1f40b}", &"r".repeat(255)] {
            assert_eq!(RegistryName::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(fault(RegistryName::parse("")), NameFault::Empty);
        assert_eq!(fault(RegistryName::parse(&"r".repeat(256))), NameFault::TooLong { length: 256, limit: 255 });
        // The limit counts bytes: 128 two-byte characters are one byte too many.
        assert_eq!(fault(RegistryName::parse(&"ä".repeat(128))), NameFault::TooLong { length: 256, limit: 255 });

        assert!(Principal::parse("").unwrap().is_anonymous());
        assert_eq!(Principal::default(), Principal::anonymous());
        assert!(!Principal::parse("arn:aws:iam::1:user/a").unwrap().is_anonymous());
        assert!(Principal::parse(&"p".repeat(2_048)).is_ok());
        assert_eq!(fault(Principal::parse(&"p".repeat(2_049))), NameFault::TooLong { length: 2_049, limit: 2_048 });
    }

    #[test]
    fn references() {
        let digest = Digest::sha256(b"x");
        assert_eq!(Reference::parse("latest").unwrap(), Tag::parse("latest").unwrap().into());
        assert_eq!(Reference::parse(&digest.to_string()).unwrap(), digest.into());
        assert_eq!(Reference::parse("latest").unwrap().to_string(), "latest");
        assert_eq!(Reference::from(digest).to_string(), digest.to_string());
        assert!(matches!(Reference::parse("sha256:ab"), Err(InvalidReference::Digest(_))));
        assert!(matches!(Reference::parse("a b"), Err(InvalidReference::Tag(_))));
        assert!(matches!(Reference::parse(""), Err(InvalidReference::Tag(_))));
    }

    #[test]
    fn an_error_repeats_a_bounded_excerpt_and_no_control_character() {
        let error = RepositoryName::parse(&format!("a\n{}", "b".repeat(200))).unwrap_err();
        assert_eq!(error.value.chars().count(), 80);
        assert!(!error.to_string().contains('\n'), "{error}");
        assert!(error.to_string().starts_with("repository name breaks its grammar position=1 value="), "{error}");
    }

    #[test]
    fn names_travel_as_json_strings() {
        let name = RepositoryName::parse("a/b").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
        assert_eq!(serde_json::from_str::<RepositoryName>("\"a/b\"").unwrap(), name);
        assert!(serde_json::from_str::<RepositoryName>("\"a//b\"").is_err());
    }
}
