//! Manifests as documents: what kind they are, and what they point at.
//!
//! A [`ManifestDocument`] is what the engine believes of a manifest's bytes. The bytes themselves are stored and served as
//! they came; nothing here writes JSON. The type is decided once and pinned to the digest, and a document that could be
//! read as two kinds is refused whatever anyone calls it (CVE-2021-41190).

use std::collections::BTreeMap;

pub use super::error::ManifestError;
use super::json::{DEPTH_MAX, Json, JsonLimits, VALUES_MAX};
use super::members::{Members, Path, descriptor, schema1_layer};
use crate::descriptor::{Descriptor, MediaType};

/// Longest manifest in bytes (Amazon ECR API, `ImageManifest`: 1 to 4,194,304 characters).
pub const MANIFEST_BYTES_MAX: u64 = 4_194_304;

/// Most layers of one image, and most manifests that one index names. Ours: ECR has a number of layers that it does not
/// publish (once 127); real images stay below 150, real indexes below 50.
pub const REFERENCES_MAX: usize = 1_000;

/// Bounds on a manifest, and which kinds are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentLimits {
    /// Bytes of the document.
    pub size_bytes_max: u64,
    /// Layers of an image, or manifests of an index.
    pub references_max: usize,
    /// Objects and arrays inside each other.
    pub depth_max: usize,
    /// JSON values in the document.
    pub values_max: usize,
    /// Whether Docker schema 1 is taken. Off unless asked for: it declares no sizes and its signature is not checked.
    pub schema1: bool,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self {
            size_bytes_max: MANIFEST_BYTES_MAX,
            references_max: REFERENCES_MAX,
            depth_max: DEPTH_MAX,
            values_max: VALUES_MAX,
            schema1: false,
        }
    }
}

/// What shape a manifest has; follows from its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// A config and layers: Docker schema 2 or OCI, artifacts included.
    ImageManifest,
    /// A list of manifests: Docker manifest list or OCI image index.
    ImageIndex,
    /// Layers without a config: Docker schema 1, signed or not.
    Schema1,
}

impl ManifestKind {
    /// The kind that a media type stands for, if it is one of a manifest.
    pub fn of(media_type: &MediaType) -> Option<Self> {
        [
            (MediaType::DOCKER_MANIFEST, Self::ImageManifest),
            (MediaType::OCI_MANIFEST, Self::ImageManifest),
            (MediaType::DOCKER_MANIFEST_LIST, Self::ImageIndex),
            (MediaType::OCI_INDEX, Self::ImageIndex),
            (MediaType::DOCKER_MANIFEST_V1, Self::Schema1),
            (MediaType::DOCKER_MANIFEST_V1_SIGNED, Self::Schema1),
        ]
        .into_iter()
        .find_map(|(known, kind)| (known == *media_type).then_some(kind))
    }
}

/// What a manifest uses a piece of content for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The config blob of an image.
    Config,
    /// A layer blob of an image.
    Layer,
    /// A manifest that an index names.
    Manifest,
}

impl Role {
    /// The byte that stands for the role on disk: 1 to 3, never reused.
    pub const fn code(self) -> u8 {
        match self {
            Self::Config => 1,
            Self::Layer => 2,
            Self::Manifest => 3,
        }
    }

    /// Whether the content is a blob, not a manifest.
    pub(crate) const fn is_blob(self) -> bool {
        matches!(self, Self::Config | Self::Layer)
    }

    /// The role that `code` stands for, if any.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Config),
            2 => Some(Self::Layer),
            3 => Some(Self::Manifest),
            _ => None,
        }
    }
}

/// One thing that a manifest points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestReference {
    /// Where it points.
    pub descriptor: Descriptor,
    /// What for.
    pub role: Role,
    /// Whether the content must be in the repository; false for foreign layers alone ([`Descriptor::is_foreign`]).
    pub required: bool,
}

/// What a manifest's bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDocument {
    /// The type that is pinned to the digest.
    pub media_type: MediaType,
    /// The shape that goes with it.
    pub kind: ManifestKind,
    /// Everything the manifest points at except its subject: the config, then the layers in the document's order, or the
    /// manifests of an index in theirs. The same digest may come more than once.
    pub references: Vec<ManifestReference>,
    /// The manifest that this one is about; OCI types only. It need not exist.
    pub subject: Option<Descriptor>,
    /// What the manifest is for, by OCI's rule for referrers: `artifactType`, else the config's media type of an image.
    /// `None` for an index without `artifactType` and for schema 1.
    pub artifact_type: Option<String>,
    /// The config's media type of an image, whatever `artifactType` says.
    pub config_media_type: Option<MediaType>,
    /// Annotations of the manifest itself, not of its descriptors; OCI types only.
    pub annotations: BTreeMap<String, String>,
}

impl ManifestDocument {
    /// Reads a manifest. `declared` is the type that came beside the bytes, if one came.
    ///
    /// The type is `mediaType` in the document, else `declared`; both must agree. Members that the type does not define are
    /// ignored, an optional member that is `null` counts as absent, and `data` inside descriptors is not looked at.
    ///
    /// # Errors
    /// [`ManifestError`]. The size is judged first, then the form, then the type, then the members in the document's usual
    /// order.
    pub fn parse(bytes: &[u8], declared: Option<&MediaType>, limits: &DocumentLimits) -> Result<Self, ManifestError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > limits.size_bytes_max {
            return Err(ManifestError::TooLarge { size, limit: limits.size_bytes_max });
        }
        let json_limits = JsonLimits { depth_max: limits.depth_max, values_max: limits.values_max };
        let json = Json::parse(bytes, &json_limits)?;
        let root = Members::root(&json)?;
        refuse_two_kinds(&root)?;
        let media_type = decide_media_type(&root, declared)?;
        let kind = match ManifestKind::of(&media_type) {
            Some(ManifestKind::Schema1) if !limits.schema1 => None,
            kind => kind,
        };
        match kind {
            None => Err(ManifestError::MediaTypeUnknown { media_type }),
            Some(ManifestKind::ImageManifest) => Self::image(&root, media_type, limits),
            Some(ManifestKind::ImageIndex) => Self::index(&root, media_type, limits),
            Some(ManifestKind::Schema1) => Self::schema1(&root, media_type, limits),
        }
    }

    /// The size of the image as its manifest declares it: config and layers, a layer counted each time it appears, foreign
    /// layers and the manifest's own bytes left out. `None` for an index, whose size follows from its manifests, and for
    /// schema 1, which declares no sizes. (Amazon ECR API, `ImageDetail.imageSizeInBytes`, with the published samples.)
    pub fn declared_size(&self) -> Option<u64> {
        match self.kind {
            // A sum past 64 bits cannot be stored anyway, so it need not be exact.
            ManifestKind::ImageManifest => Some(
                self.references
                    .iter()
                    .filter(|reference| reference.required)
                    .fold(0, |sum: u64, reference| sum.saturating_add(reference.descriptor.size)),
            ),
            ManifestKind::ImageIndex | ManifestKind::Schema1 => None,
        }
    }

    fn image(root: &Members<'_>, media_type: MediaType, limits: &DocumentLimits) -> Result<Self, ManifestError> {
        require_schema_version(root, 2)?;
        let oci = media_type == MediaType::OCI_MANIFEST;
        let config = root.required_descriptor("config", oci)?;
        let config_media_type = config.media_type.clone();
        let layers = root.bounded_array("layers", limits.references_max)?;
        let mut references = Vec::with_capacity(layers.len() + 1);
        references.push(ManifestReference { descriptor: config, role: Role::Config, required: true });
        for (at, layer) in layers.iter().enumerate() {
            let descriptor = descriptor(Path::Element("layers", at), layer, oci)?;
            let required = !descriptor.is_foreign();
            references.push(ManifestReference { descriptor, role: Role::Layer, required });
        }
        let mut document = Self {
            media_type,
            kind: ManifestKind::ImageManifest,
            references,
            subject: None,
            artifact_type: None,
            config_media_type: None,
            annotations: BTreeMap::new(),
        };
        if oci {
            document.read_oci_members(root)?;
        }
        document.artifact_type.get_or_insert_with(|| config_media_type.as_str().to_owned());
        document.config_media_type = Some(config_media_type);
        Ok(document)
    }

    fn index(root: &Members<'_>, media_type: MediaType, limits: &DocumentLimits) -> Result<Self, ManifestError> {
        require_schema_version(root, 2)?;
        let oci = media_type == MediaType::OCI_INDEX;
        let references = root
            .bounded_array("manifests", limits.references_max)?
            .iter()
            .enumerate()
            .map(|(at, manifest)| {
                let descriptor = descriptor(Path::Element("manifests", at), manifest, oci)?;
                Ok(ManifestReference { descriptor, role: Role::Manifest, required: true })
            })
            .collect::<Result<_, ManifestError>>()?;
        let mut document = Self {
            media_type,
            kind: ManifestKind::ImageIndex,
            references,
            subject: None,
            artifact_type: None,
            config_media_type: None,
            annotations: BTreeMap::new(),
        };
        if oci {
            document.read_oci_members(root)?;
        }
        Ok(document)
    }

    fn schema1(root: &Members<'_>, media_type: MediaType, limits: &DocumentLimits) -> Result<Self, ManifestError> {
        require_schema_version(root, 1)?;
        let references = root
            .bounded_array("fsLayers", limits.references_max)?
            .iter()
            .enumerate()
            .map(|(at, layer)| {
                let digest = schema1_layer(Path::Element("fsLayers", at), layer)?;
                let descriptor = Descriptor::new(MediaType::DOCKER_LAYER, digest, 0);
                Ok(ManifestReference { descriptor, role: Role::Layer, required: true })
            })
            .collect::<Result<_, ManifestError>>()?;
        if media_type == MediaType::DOCKER_MANIFEST_V1_SIGNED && root.required_array("signatures")?.is_empty() {
            return Err(root.invalid("signatures", "is empty"));
        }
        Ok(Self {
            media_type,
            kind: ManifestKind::Schema1,
            references,
            subject: None,
            artifact_type: None,
            config_media_type: None,
            annotations: BTreeMap::new(),
        })
    }

    /// Members that OCI defines and Docker does not.
    fn read_oci_members(&mut self, root: &Members<'_>) -> Result<(), ManifestError> {
        self.artifact_type = root.optional_media_type("artifactType")?.map(|value| value.as_str().to_owned());
        self.subject = root.optional_descriptor("subject", true)?;
        self.annotations = root.annotations()?;
        Ok(())
    }
}

/// Refuses a document with the lists of two kinds. Presence counts, not content: readers differ in what they take for
/// an empty member.
fn refuse_two_kinds(root: &Members<'_>) -> Result<(), ManifestError> {
    const EXCLUSIVE: [(&str, &str); 5] = [
        ("manifests", "layers"),
        ("manifests", "config"),
        ("manifests", "fsLayers"),
        ("fsLayers", "layers"),
        ("fsLayers", "config"),
    ];
    match EXCLUSIVE.into_iter().find(|(first, second)| root.has(first) && root.has(second)) {
        Some((first, second)) => Err(ManifestError::Ambiguous { first, second }),
        None => Ok(()),
    }
}

fn decide_media_type(root: &Members<'_>, declared: Option<&MediaType>) -> Result<MediaType, ManifestError> {
    match (root.optional_media_type("mediaType")?, declared) {
        (None, None) => Err(ManifestError::MediaTypeMissing),
        (None, Some(declared)) => Ok(declared.clone()),
        (Some(document), Some(declared)) if document != *declared => {
            Err(ManifestError::MediaTypeMismatch { declared: declared.clone(), document })
        }
        (Some(document), _) => Ok(document),
    }
}

fn require_schema_version(root: &Members<'_>, expected: u64) -> Result<(), ManifestError> {
    const KEY: &str = "schemaVersion";
    match root.required_u64(KEY)? {
        found if found == expected => Ok(()),
        found => Err(root.invalid(KEY, format_args!("is another version expected={expected} found={found}"))),
    }
}

#[cfg(test)]
mod tests;
