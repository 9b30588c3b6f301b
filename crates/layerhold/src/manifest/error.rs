//! Why a document is not a manifest that this registry takes.

use super::json::JsonError;
use crate::descriptor::MediaType;

/// Bytes that are not a manifest, or not one within the limits. Nothing was stored; the client must send other bytes.
///
/// Members are named as paths from the document's root, such as `layers[3].digest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The document has too many bytes.
    #[error("manifest is too large size={size} limit={limit}")]
    TooLarge {
        /// Bytes given.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The bytes are not a JSON document in plain UTF-8.
    #[error("manifest is not JSON")]
    NotJson {
        /// What is wrong, and where.
        source: JsonError,
    },
    /// An object has one key twice, so that two readers could believe two things.
    #[error("manifest has a key twice key={key:?}")]
    DuplicateKey {
        /// The first 80 characters of the key.
        key: String,
    },
    /// Objects and arrays are nested too deeply.
    #[error("manifest is nested too deeply limit={limit}")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// The document holds too many values.
    #[error("manifest has too many values limit={limit}")]
    TooManyValues {
        /// Values allowed.
        limit: usize,
    },
    /// The document is JSON, but not an object.
    #[error("manifest is not an object found={found:?}")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// Neither the document nor the client says what the document is.
    #[error("manifest has no media type")]
    MediaTypeMissing,
    /// The media type is not one of a manifest, or not one that is taken here.
    #[error("media type is not a manifest's media_type={media_type}")]
    MediaTypeUnknown {
        /// The type in the document, else the client's.
        media_type: MediaType,
    },
    /// The client and the document name different types.
    #[error("media types differ declared={declared} document={document}")]
    MediaTypeMismatch {
        /// The type that came beside the document.
        declared: MediaType,
        /// The type in the document.
        document: MediaType,
    },
    /// The document could be read as two kinds of manifest.
    #[error("manifest could be two kinds first={first} second={second}")]
    Ambiguous {
        /// A member of one kind.
        first: &'static str,
        /// A member of another.
        second: &'static str,
    },
    /// A key differs from a known member in case alone. Readers that ignore case would take it for that member.
    #[error("manifest has a key that differs from a member in case alone member={member} key={key:?}")]
    CaseVariant {
        /// The path of the member that it resembles.
        member: String,
        /// The key as given.
        key: String,
    },
    /// A member that this kind of manifest must have is absent.
    #[error("manifest lacks a member member={member}")]
    MissingMember {
        /// Path of the member.
        member: String,
    },
    /// A member is of the wrong type or breaks the rules of its content.
    #[error("manifest has an invalid member member={member} reason={reason:?}")]
    InvalidMember {
        /// Path of the member.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The manifest has too many layers or names too many manifests.
    #[error("manifest has too many references member={member} count={count} limit={limit}")]
    TooManyReferences {
        /// Which list is too long.
        member: &'static str,
        /// Entries given.
        count: usize,
        /// Entries allowed.
        limit: usize,
    },
}

impl From<JsonError> for ManifestError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::DuplicateKey { key } => Self::DuplicateKey { key },
            JsonError::TooDeep { limit } => Self::TooDeep { limit },
            JsonError::TooManyValues { limit } => Self::TooManyValues { limit },
            source => Self::NotJson { source },
        }
    }
}
