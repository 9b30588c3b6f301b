//! What an operation answers, as plain values that two sides can be compared by.
//!
//! Neither the model nor the engine gives these to anybody else: the runner translates the engine's answers into them,
//! so that the engine's own types may grow without the model noticing.

use std::collections::BTreeMap;

use layerhold::descriptor::MediaType;
use layerhold::digest::{Algorithm, Digest};
use layerhold::name::{RepositoryName, Tag};

/// Everything that a request can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done, and there is nothing to say.
    Done,
    /// The operation's own refusal.
    Refused(Refusal),
    /// One repository.
    Repository(RepositoryFacts),
    /// Repositories in name order.
    Repositories(Vec<RepositoryFacts>),
    /// An open upload session.
    Session {
        /// Bytes that are durable.
        offset: u64,
        /// Parts that were accepted.
        parts: u64,
        /// The algorithm fixed at begin.
        algorithm: Algorithm,
    },
    /// A part, or a streamed body, that is durable.
    Accepted {
        /// Bytes that are durable now.
        durable_offset: u64,
    },
    /// A blob that was completed.
    Completed {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Whether the repository had it before.
        already_linked: bool,
    },
    /// What is known of each digest asked for, in that order.
    Blobs(Vec<Option<BlobFacts>>),
    /// Bytes of a blob.
    Bytes(Vec<u8>),
    /// A blob that was mounted.
    Mounted {
        /// Its length in bytes.
        size: u64,
        /// Whether the repository had it before.
        already_linked: bool,
    },
    /// A download token.
    Granted {
        /// Engine time at which it ends.
        expires_ms: u64,
        /// Whether a manifest of the repository references the blob.
        referenced: bool,
    },
    /// A manifest that was put.
    ManifestPut {
        /// Its digest.
        digest: Digest,
        /// The media type that is pinned to the digest.
        media_type: MediaType,
        /// Whether it was not stored before.
        created: bool,
        /// What became of each tag, in the order of the request.
        tags: Vec<(Tag, TagMove)>,
        /// What its subject member names.
        subject: Option<Digest>,
    },
    /// A manifest's bytes.
    Manifest {
        /// Its digest.
        digest: Digest,
        /// The media type that is pinned to the digest.
        media_type: MediaType,
        /// The bytes as they were put.
        bytes: Vec<u8>,
    },
    /// A manifest without its bytes.
    Descriptor {
        /// Its digest.
        digest: Digest,
        /// The media type that is pinned to the digest.
        media_type: MediaType,
        /// Its length in bytes.
        size: u64,
    },
    /// What deleting an image took away.
    DeletedImage {
        /// The image.
        digest: Digest,
        /// The tags that are gone.
        tags: Vec<Tag>,
        /// Whether the manifest is gone too.
        manifest_deleted: bool,
    },
    /// A digest that a name stood for.
    Digest(Digest),
    /// Tags in lexical order.
    Tags(Vec<TagFacts>),
    /// Images: one entry for each tag, one for each image without tags.
    Images(Vec<(Digest, Option<Tag>)>),
    /// Images in full, one for each digest.
    ImageDetails(Vec<ImageFacts>),
    /// Manifests whose subject was asked for.
    Referrers(Vec<ReferrerFacts>),
    /// Moves of one tag: when, from where, to where.
    History(Vec<super::HistoryEntry>),
}

/// Why a request was refused, with the facts that the refusal states.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names the variant of an engine error that it stands for")]
pub enum Refusal {
    RegistryNotFound,
    RepositoryNotFound,
    RepositoryAlreadyExists,
    RepositoryNotEmpty {
        images: u64,
    },
    RepositoryLimit {
        limit: u64,
    },
    UploadNotFound,
    OutOfOrder {
        first_byte: u64,
        durable_offset: u64,
    },
    Replayed {
        durable_offset: u64,
    },
    LengthMismatch {
        declared: u64,
        received: u64,
    },
    EmptyPart,
    TooManyParts {
        limit: u64,
    },
    BlobTooLarge {
        size: u64,
        limit: u64,
    },
    PartTooLarge {
        size: u64,
        limit: u64,
    },
    EmptyUpload,
    PartTooSmall {
        part: u64,
        size: u64,
        limit: u64,
    },
    UploadDigestMismatch {
        computed: Digest,
    },
    BlobNotFound,
    MountSourceNotFound,
    BlobReferenced {
        manifests: Vec<Digest>,
    },
    Malformed(String),
    ManifestDigestMismatch {
        expected: Digest,
        computed: Digest,
    },
    TagImmutable {
        tag: Tag,
        current: Digest,
    },
    ImageLimit {
        limit: u64,
    },
    TagLimit {
        tag: Tag,
        limit: u64,
    },
    TooManyTags {
        count: u64,
        limit: u64,
    },
    BlobsMissing {
        digests: Vec<Digest>,
    },
    ManifestsMissing {
        digests: Vec<Digest>,
    },
    ManifestNotFound,
    TagNotFound,
    TagMismatch {
        tag: Tag,
        current: Digest,
    },
    ReferencedBy {
        manifests: Vec<Digest>,
    },
    GrantExpired,
    /// A refusal that the model never gives; the text is the engine's.
    Unexpected(String),
}

/// A repository as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// Its name.
    pub name: RepositoryName,
    /// When it was made, on the wall clock.
    pub created_ms: u64,
    /// The tag mode, as debug text of the engine's value.
    pub tag_mutability: String,
    /// Whether manifests may reference what is absent.
    pub sparse_images: bool,
    /// The adapter's own data.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// How many manifests it holds.
    pub images: u64,
    /// How many tags it holds.
    pub tags: u64,
    /// How many blobs are linked.
    pub blobs: u64,
    /// The sum of the linked blobs' sizes.
    pub logical_bytes: u64,
}

/// What a check says of a blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFacts {
    /// Its length in bytes.
    pub size: u64,
    /// What the first manifest that named it calls it.
    pub media_type: Option<MediaType>,
}

/// What became of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagMove {
    /// It is new.
    Created,
    /// It named this manifest already.
    AlreadyThere,
    /// It named another manifest.
    Moved {
        /// That manifest.
        from: Digest,
    },
}

/// A tag as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFacts {
    /// The tag.
    pub tag: Tag,
    /// The manifest it names.
    pub digest: Digest,
    /// When it was put there, on the wall clock.
    pub tagged_ms: u64,
}

/// An image as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its digest.
    pub digest: Digest,
    /// The media type that is pinned to the digest.
    pub media_type: MediaType,
    /// Its tags in lexical order.
    pub tags: Vec<Tag>,
    /// The size that clients are told (spec 3.11).
    pub image_bytes: u64,
    /// The length of the manifest.
    pub manifest_bytes: u64,
    /// When this digest was first pushed, on the wall clock.
    pub pushed_ms: u64,
    /// When it was last pulled, on the wall clock.
    pub last_pull_ms: Option<u64>,
    /// The document's `artifactType`.
    pub artifact_type: Option<String>,
    /// The media type of its config.
    pub config_media_type: Option<String>,
    /// What its subject member names.
    pub subject: Option<Digest>,
}

/// A referrer as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerFacts {
    /// Its digest.
    pub digest: Digest,
    /// The media type that is pinned to the digest.
    pub media_type: MediaType,
    /// The length of the manifest.
    pub size: u64,
    /// Its artifact type, or else the media type of its config.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}
