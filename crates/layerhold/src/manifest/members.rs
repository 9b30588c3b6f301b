//! Reading the members of a document's objects, with an error that names the path.

use std::collections::BTreeMap;
use std::fmt;

use super::error::ManifestError;
use super::json::{Json, Object};
use crate::descriptor::{Descriptor, MediaType};
use crate::digest::Digest;

/// Members that mean something to this registry or to the readers it serves.
const ROOT_MEMBERS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
    "history",
    "signatures",
];

/// The same for a descriptor, and for an entry of `fsLayers`.
const DESCRIPTOR_MEMBERS: &[&str] =
    &["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform", "blobSum"];

/// Largest content that a descriptor may declare: sizes are signed 64-bit integers in OCI (descriptor.md, `size`).
const SIZE_BYTES_MAX: u64 = i64::MAX as u64;

/// Where an object stands in the document. Only an error spells it out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path {
    /// The document's outermost object.
    Root,
    /// A member of it.
    Member(&'static str),
    /// An element of one of its arrays.
    Element(&'static str, usize),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(key) => f.write_str(key),
            Self::Element(key, at) => write!(f, "{key}[{at}]"),
        }
    }
}

/// An object of the document and the path that leads to it.
pub(super) struct Members<'a> {
    path: Path,
    members: &'a Object<'a>,
}

impl<'a> Members<'a> {
    /// The document's outermost object.
    pub(super) fn root(document: &'a Json<'a>) -> Result<Self, ManifestError> {
        let members = document.as_object().ok_or(ManifestError::NotAnObject { found: document.kind() })?;
        Self { path: Path::Root, members }.without_case_variants(ROOT_MEMBERS)
    }

    /// A descriptor, or something like one, that stands at `path`.
    fn descriptor_at(path: Path, value: &'a Json<'a>) -> Result<Self, ManifestError> {
        match value.as_object() {
            Some(members) => Self { path, members }.without_case_variants(DESCRIPTOR_MEMBERS),
            None => Err(wrong_kind(path.to_string(), "an object", value)),
        }
    }

    /// Refuses keys that equal one of `known` in all but case: widely used readers match keys without regard to case,
    /// Unicode's variants of `s` and `k` included, and would see members here that we do not.
    fn without_case_variants(self, known: &[&'static str]) -> Result<Self, ManifestError> {
        let fold = |c: char| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        };
        for (key, _) in self.members.iter().filter(|(key, _)| !known.contains(key)) {
            let resembled = known.iter().find(|member| key.chars().map(fold).eq(member.chars().map(fold)));
            if let Some(member) = resembled {
                return Err(ManifestError::CaseVariant { member: self.path_of(member), key: key.to_owned() });
            }
        }
        Ok(self)
    }

    fn path_of(&self, key: &str) -> String {
        match self.path {
            Path::Root => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Whether the member is written down, be it as `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.members.get(key).is_some()
    }

    /// The member unless it is absent or `null`, which many writers use for "none".
    fn optional(&self, key: &str) -> Option<&'a Json<'a>> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &str) -> Result<&'a Json<'a>, ManifestError> {
        self.members.get(key).ok_or_else(|| ManifestError::MissingMember { member: self.path_of(key) })
    }

    /// The error that says what is wrong with a member.
    pub(super) fn invalid(&self, key: &str, reason: impl ToString) -> ManifestError {
        ManifestError::InvalidMember { member: self.path_of(key), reason: reason.to_string() }
    }

    fn string(&self, key: &str, value: &'a Json<'a>) -> Result<&'a str, ManifestError> {
        value.as_str().ok_or_else(|| wrong_kind(self.path_of(key), "a string", value))
    }

    pub(super) fn required_u64(&self, key: &str) -> Result<u64, ManifestError> {
        let value = self.required(key)?;
        value.as_u64().ok_or_else(|| match value {
            Json::Negative(_) => self.invalid(key, "is negative"),
            Json::Inexact(_) => self.invalid(key, "is not an integer of 64 bits"),
            _ => wrong_kind(self.path_of(key), "an integer", value),
        })
    }

    pub(super) fn required_array(&self, key: &str) -> Result<&'a [Json<'a>], ManifestError> {
        let value = self.required(key)?;
        value.as_array().ok_or_else(|| wrong_kind(self.path_of(key), "an array", value))
    }

    /// The entries of a list, refused by their number before any of them is looked at.
    pub(super) fn bounded_array(&self, key: &'static str, limit: usize) -> Result<&'a [Json<'a>], ManifestError> {
        let values = self.required_array(key)?;
        let count = values.len();
        if count > limit {
            return Err(ManifestError::TooManyReferences { member: key, count, limit });
        }
        Ok(values)
    }

    pub(super) fn optional_media_type(&self, key: &str) -> Result<Option<MediaType>, ManifestError> {
        let Some(value) = self.optional(key) else { return Ok(None) };
        let text = self.string(key, value)?;
        MediaType::parse(text).map(Some).map_err(|error| self.invalid(key, error))
    }

    fn required_media_type(&self, key: &str) -> Result<MediaType, ManifestError> {
        let text = self.string(key, self.required(key)?)?;
        MediaType::parse(text).map_err(|error| self.invalid(key, error))
    }

    fn required_digest(&self, key: &str) -> Result<Digest, ManifestError> {
        let text = self.string(key, self.required(key)?)?;
        Digest::parse(text).map_err(|error| self.invalid(key, error))
    }

    pub(super) fn annotations(&self) -> Result<BTreeMap<String, String>, ManifestError> {
        const KEY: &str = "annotations";
        let Some(value) = self.optional(KEY) else { return Ok(BTreeMap::new()) };
        let entries = value.as_object().ok_or_else(|| wrong_kind(self.path_of(KEY), "an object", value))?;
        entries
            .iter()
            .map(|(key, value)| match value.as_str() {
                Some(text) => Ok((key.to_owned(), text.to_owned())),
                None => Err(self.invalid(KEY, format_args!("{} is not a string key={key:?}", value.kind()))),
            })
            .collect()
    }

    /// A member of the outermost object that is a descriptor.
    pub(super) fn required_descriptor(&self, key: &'static str, oci: bool) -> Result<Descriptor, ManifestError> {
        descriptor(Path::Member(key), self.required(key)?, oci)
    }

    /// The same where it may be absent.
    pub(super) fn optional_descriptor(
        &self,
        key: &'static str,
        oci: bool,
    ) -> Result<Option<Descriptor>, ManifestError> {
        self.optional(key).map(|value| descriptor(Path::Member(key), value, oci)).transpose()
    }
}

fn wrong_kind(member: String, expected: &str, found: &Json<'_>) -> ManifestError {
    ManifestError::InvalidMember { member, reason: format!("is {} instead of {expected}", found.kind()) }
}

/// Reads the descriptor at `path`. `oci` says whether the members that OCI added to Docker's have their meaning.
pub(super) fn descriptor<'a>(path: Path, value: &'a Json<'a>, oci: bool) -> Result<Descriptor, ManifestError> {
    let members = Members::descriptor_at(path, value)?;
    let mut descriptor = Descriptor::new(
        members.required_media_type("mediaType")?,
        members.required_digest("digest")?,
        members.required_u64("size")?,
    );
    if descriptor.size > SIZE_BYTES_MAX {
        return Err(
            members.invalid("size", format_args!("is too large size={} limit={SIZE_BYTES_MAX}", descriptor.size))
        );
    }
    if members.optional("urls").is_some() {
        let urls = members.required_array("urls")?;
        if let Some(other) = urls.iter().find(|url| url.as_str().is_none()) {
            return Err(members.invalid("urls", format_args!("holds {} instead of a string", other.kind())));
        }
        descriptor.urls_present = !urls.is_empty();
    }
    if oci {
        descriptor.artifact_type = members.optional_media_type("artifactType")?;
        descriptor.annotations = members.annotations()?;
    }
    Ok(descriptor)
}

/// Reads an entry of schema 1's `fsLayers`, which is a digest and nothing else.
pub(super) fn schema1_layer<'a>(path: Path, value: &'a Json<'a>) -> Result<Digest, ManifestError> {
    Members::descriptor_at(path, value)?.required_digest("blobSum")
}
