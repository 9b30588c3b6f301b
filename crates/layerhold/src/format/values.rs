//! Row values: a layout version, then fields (docs/format.md gives each row as a table).

use std::collections::BTreeMap;

use crate::descriptor::MediaType;
use crate::digest::{Algorithm, Digest};
use crate::manifest::document::Role;
use crate::name::{Principal, RepositoryName, Tag};
use crate::store::{Location, StorageError};
use crate::tag::rules::{ExclusionFilter, Mutability, TagMutability};

use super::codec::{Decoder, Encoder};
use super::keys::{RegistryId, RepositoryId, Scope};

const V1: u8 = 1;

/// A row value that knows its own bytes.
pub trait Row: Sized {
    /// What the row is called in errors.
    const NAME: &'static str;

    /// Appends the fields behind the layout version.
    fn encode_fields(&self, encoder: &mut Encoder);

    /// Reads the fields behind the layout version.
    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError>;

    /// The row's bytes.
    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::versioned(V1);
        self.encode_fields(&mut encoder);
        encoder.finish()
    }

    /// Reads a row; anything but exactly one whole row is [`StorageError::Corrupt`].
    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let mut decoder = Decoder::versioned(bytes, V1, Self::NAME)?;
        let row = Self::decode_fields(&mut decoder)?;
        decoder.end()?;
        Ok(row)
    }

    /// Reads a row that may be absent.
    fn decode_optional(bytes: Option<&[u8]>) -> Result<Option<Self>, StorageError> {
        bytes.map(Self::decode).transpose()
    }
}

/// Who the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRow {
    /// 128 random bits, drawn when the store was made.
    pub store_id: [u8; 16],
    /// The format version of the store.
    pub format_version: u32,
    /// Wall time of creation, in milliseconds.
    pub created_wall_ms: u64,
}

impl Row for IdentityRow {
    const NAME: &'static str = "identity row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.raw(&self.store_id).u32(self.format_version).u64(self.created_wall_ms);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { store_id: decoder.array()?, format_version: decoder.u32()?, created_wall_ms: decoder.u64()? })
    }
}

/// The time of the last synced group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockRow {
    /// Engine time in milliseconds.
    pub engine_ms: u64,
    /// Wall time in milliseconds since 1970.
    pub wall_ms: u64,
}

impl Row for ClockRow {
    const NAME: &'static str = "clock row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u64(self.engine_ms).u64(self.wall_ms);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { engine_ms: decoder.u64()?, wall_ms: decoder.u64()? })
    }
}

/// The ids that are given next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIdsRow {
    /// The next registry.
    pub registry: RegistryId,
    /// The next repository.
    pub repository: RepositoryId,
}

impl Default for NextIdsRow {
    fn default() -> Self {
        Self { registry: RegistryId(1), repository: RepositoryId(1) }
    }
}

impl Row for NextIdsRow {
    const NAME: &'static str = "next-ids row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u32(self.registry.0).u64(self.repository.0);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { registry: RegistryId(decoder.u32()?), repository: RepositoryId(decoder.u64()?) })
    }
}

/// How far the change log and the operation ids have been trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LowWaterRow {
    /// Every change up to this sequence is gone.
    pub changes: u64,
    /// The operation ids of every change up to this sequence are gone.
    pub operations: u64,
}

impl Row for LowWaterRow {
    const NAME: &'static str = "low-water row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u64(self.changes).u64(self.operations);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { changes: decoder.u64()?, operations: decoder.u64()? })
    }
}

/// What an operator sets on a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositorySettings {
    /// Which tags may move.
    pub tag_mutability: TagMutability,
    /// Whether a manifest may reference blobs and manifests that the repository does not hold.
    pub sparse_images: bool,
    /// Data of the host, kept and given back unread; at most 64 KiB in all.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

impl RepositorySettings {
    /// As they stand in a repository's row; also what tells one use of an operation id from another.
    pub(crate) fn encode(&self, encoder: &mut Encoder) {
        encode_mutability(encoder, &self.tag_mutability);
        encoder.bool(self.sparse_images);
        encoder.list(self.attributes.iter(), |e, (name, value)| {
            e.str(name).bytes(value);
        });
    }
}

pub(crate) fn encode_mutability(encoder: &mut Encoder, mutability: &TagMutability) {
    encoder.u8(mutability.mode().code()).list(mutability.filters().iter(), |e, filter| {
        e.str(filter.as_str());
    });
}

pub(crate) fn decode_mutability(decoder: &mut Decoder<'_>) -> Result<TagMutability, StorageError> {
    let mode = Mutability::from_code(decoder.u8()?).ok_or_else(|| decoder.malformed())?;
    let filters = decoder.list(|d| d.parsed(|text| ExclusionFilter::parse(text).ok()))?;
    TagMutability::new(mode, filters).map_err(|_| decoder.malformed())
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRow {
    /// Its name while it lived.
    pub name: RepositoryName,
    /// Wall time of creation, in milliseconds.
    pub created_wall_ms: u64,
    /// What an operator set.
    pub settings: RepositorySettings,
    /// Engine time of its deletion, in milliseconds; its rows count for nothing from then on.
    pub dead_since_ms: Option<u64>,
}

impl Row for RepositoryRow {
    const NAME: &'static str = "repository row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.str(self.name.as_str()).u64(self.created_wall_ms);
        encoder.option(self.dead_since_ms, |e, at| {
            e.u64(at);
        });
        self.settings.encode(encoder);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let name = decoder.parsed(|text| RepositoryName::parse(text).ok())?;
        let created_wall_ms = decoder.u64()?;
        let dead_since_ms = decoder.option(Decoder::u64)?;
        let tag_mutability = decode_mutability(decoder)?;
        let sparse_images = decoder.bool()?;
        let attributes = decoder.list(|d| Ok((d.str()?.to_owned(), d.bytes()?.to_vec())))?.into_iter().collect();
        let settings = RepositorySettings { tag_mutability, sparse_images, attributes };
        Ok(Self { name, created_wall_ms, settings, dead_since_ms })
    }
}

/// Where a blob's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// In the metadata store, in a row of their own.
    Inline(Location),
    /// In a file.
    File(Location),
}

impl Placement {
    fn encode(self, encoder: &mut Encoder) {
        let (code, location) = match self {
            Self::Inline(location) => (0, location),
            Self::File(location) => (1, location),
        };
        encoder.u8(code).raw(&location.0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let code = decoder.u8()?;
        let location = Location(decoder.array()?);
        match code {
            0 => Ok(Self::Inline(location)),
            1 => Ok(Self::File(location)),
            _ => Err(decoder.malformed()),
        }
    }
}

/// Whether a blob may be served, and whether a reclaimer has its eye on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// Served.
    Live,
    /// Unreferenced and about to go; a push brings it back.
    Condemned,
    /// Its bytes were found damaged: absent to a push, corrupt to a pull.
    Quarantined,
}

/// A blob of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRow {
    /// Whether it is served.
    pub state: BlobState,
    /// Grows with each change of state or place.
    pub generation: u32,
    /// Length of the bytes that the digest speaks of.
    pub size: u64,
    /// Length of the bytes that are stored.
    pub stored_size: u64,
    /// How stored bytes become the blob's; 0 is plain.
    pub codec: u8,
    /// The key that sealed them; 0 is none.
    pub key_id: u64,
    /// The version of that key.
    pub key_version: u32,
    /// Length of a fingerprint group in bytes.
    pub group_len: u32,
    /// BLAKE3 of the stored bytes.
    pub root: [u8; 32],
    /// Where they are.
    pub placement: Placement,
    /// Engine time until which an answer promised the blob to somebody.
    pub lease_until_ms: u64,
    /// Engine time at which all bytes were last known to be right.
    pub verified_ms: u64,
}

impl Row for BlobRow {
    const NAME: &'static str = "blob row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        let state = match self.state {
            BlobState::Live => 0,
            BlobState::Condemned => 1,
            BlobState::Quarantined => 2,
        };
        encoder.u8(state).u32(self.generation).u64(self.size).u64(self.stored_size).u8(self.codec).u64(self.key_id);
        encoder.u32(self.key_version).u32(self.group_len).raw(&self.root);
        self.placement.encode(encoder);
        encoder.u64(self.lease_until_ms).u64(self.verified_ms);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let state = match decoder.u8()? {
            0 => BlobState::Live,
            1 => BlobState::Condemned,
            2 => BlobState::Quarantined,
            _ => return Err(decoder.malformed()),
        };
        Ok(Self {
            state,
            generation: decoder.u32()?,
            size: decoder.u64()?,
            stored_size: decoder.u64()?,
            codec: decoder.u8()?,
            key_id: decoder.u64()?,
            key_version: decoder.u32()?,
            group_len: decoder.u32()?,
            root: decoder.array()?,
            placement: Placement::decode(decoder)?,
            lease_until_ms: decoder.u64()?,
            verified_ms: decoder.u64()?,
        })
    }
}

/// A blob of which a read failed, though nothing says yet that its bytes are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuspectRow {
    /// The generation that could not be read.
    pub generation: u32,
    /// Engine time of the first failure, in milliseconds.
    pub since_ms: u64,
    /// Engine time of the last time that a scrub looked, in milliseconds; 0 where none did.
    pub looked_ms: u64,
    /// How often a scrub could not read it either.
    pub failures: u32,
}

impl Row for SuspectRow {
    const NAME: &'static str = "suspect row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u32(self.generation).u64(self.since_ms).u64(self.looked_ms).u32(self.failures);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            generation: decoder.u32()?,
            since_ms: decoder.u64()?,
            looked_ms: decoder.u64()?,
            failures: decoder.u32()?,
        })
    }
}

/// The right of a repository to a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRow {
    /// Length of the blob, so that usage can be told from links alone.
    pub size: u64,
    /// What the first manifest that names the blob calls it.
    pub media_type: Option<MediaType>,
    /// Wall time at which the link was made, in milliseconds.
    pub linked_wall_ms: u64,
}

impl Row for LinkRow {
    const NAME: &'static str = "link row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u64(self.size).u64(self.linked_wall_ms);
        encode_media_type(encoder, self.media_type.as_ref());
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { size: decoder.u64()?, linked_wall_ms: decoder.u64()?, media_type: decode_media_type(decoder)? })
    }
}

fn encode_media_type(encoder: &mut Encoder, media_type: Option<&MediaType>) {
    encoder.option(media_type, |e, media_type| {
        e.str(media_type.as_str());
    });
}

fn decode_media_type(decoder: &mut Decoder<'_>) -> Result<Option<MediaType>, StorageError> {
    decoder.option(|d| d.parsed(|text| MediaType::parse(text).ok()))
}

/// Where a session's bytes are until it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staging {
    /// In a row: the session is still small.
    Row,
    /// In a file.
    File,
}

/// An upload session, as of its last durable byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// The repository that it belongs to.
    pub scope: Scope,
    /// Who began it.
    pub principal: Principal,
    /// The algorithm that runs while bytes arrive.
    pub algorithm: Algorithm,
    /// The name of its file, drawn before the file exists.
    pub location: Location,
    /// Where the bytes are.
    pub staging: Staging,
    /// Length of the durable bytes.
    pub offset: u64,
    /// Parts accepted so far; streamed bodies count for none.
    pub parts: u32,
    /// Length of the last part.
    pub last_part_len: u64,
    /// The number and length of the shortest part that is not the last.
    pub shortest_part: Option<(u32, u64)>,
    /// The running digest over the durable bytes.
    pub hash_state: Vec<u8>,
    /// The fingerprint over the completed groups of the durable bytes.
    pub frontier: Vec<u8>,
    /// The fingerprint's value of the durable bytes behind the last completed group, if there are any.
    pub tail: Option<[u8; 32]>,
    /// Engine time after which the session is gone.
    pub expires_ms: u64,
}

impl Row for UploadRow {
    const NAME: &'static str = "upload row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u32(self.scope.registry.0).u64(self.scope.repository.0).str(self.principal.as_str());
        encoder.u8(self.algorithm.code()).raw(&self.location.0).bool(self.staging == Staging::File);
        encoder.u64(self.offset).u32(self.parts).u64(self.last_part_len);
        encoder.option(self.shortest_part, |e, (part, len)| {
            e.u32(part).u64(len);
        });
        encoder.bytes(&self.hash_state).bytes(&self.frontier);
        encoder.option(self.tail.as_ref(), |e, value| {
            e.raw(value);
        });
        encoder.u64(self.expires_ms).u32(self.state_checksum());
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let scope = Scope { registry: RegistryId(decoder.u32()?), repository: RepositoryId(decoder.u64()?) };
        let mut row = Self {
            scope,
            principal: decoder.parsed(|text| Principal::parse(text).ok())?,
            algorithm: Algorithm::from_code(decoder.u8()?).ok_or_else(|| decoder.malformed())?,
            location: Location(decoder.array()?),
            staging: if decoder.bool()? { Staging::File } else { Staging::Row },
            offset: decoder.u64()?,
            parts: decoder.u32()?,
            last_part_len: decoder.u64()?,
            shortest_part: decoder.option(|d| Ok((d.u32()?, d.u64()?)))?,
            hash_state: decoder.bytes()?.to_vec(),
            frontier: decoder.bytes()?.to_vec(),
            tail: decoder.option(Decoder::array)?,
            expires_ms: decoder.u64()?,
        };
        if decoder.u32()? != row.state_checksum() {
            // The session must still be found, so that it can be ended; but there is nothing to go on from.
            row.hash_state.clear();
            row.frontier.clear();
        }
        Ok(row)
    }
}

impl UploadRow {
    /// CRC32 over what a session goes on from. It covers the location, which no two sessions share: states that got into
    /// another session's row are refused there.
    fn state_checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.location.0);
        hasher.update(&self.offset.to_be_bytes());
        for state in [&self.hash_state, &self.frontier] {
            hasher.update(&(state.len() as u64).to_be_bytes());
            hasher.update(state);
        }
        hasher.update(self.tail.as_ref().map_or(&[], |tail| tail.as_slice()));
        hasher.finalize()
    }
}

/// A part that was accepted, so that the same bytes sent again can be told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadPartRow {
    /// Its length in bytes.
    pub len: u64,
    /// CRC32 of its bytes.
    pub checksum: u32,
}

impl Row for UploadPartRow {
    const NAME: &'static str = "upload part row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u64(self.len).u32(self.checksum);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { len: decoder.u64()?, checksum: decoder.u32()? })
    }
}

/// Whether a manifest's bytes are believed to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManifestState {
    /// Nothing is known against them.
    #[default]
    Live,
    /// They were found damaged: absent to a push, corrupt to a pull.
    Quarantined,
}

/// A manifest without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRow {
    /// Pinned to the digest.
    pub media_type: MediaType,
    /// Length of the document in bytes.
    pub size: u64,
    /// What the image weighs by its own account: config and layers, or the largest child of an image index.
    pub image_bytes: u64,
    /// The type of the thing, where the document says one.
    pub artifact_type: Option<String>,
    /// The config's media type, for image manifests.
    pub config_media_type: Option<MediaType>,
    /// The manifest that this one refers to.
    pub subject: Option<Digest>,
    /// Wall time of the first push, in milliseconds.
    pub pushed_wall_ms: u64,
    /// How many tags name it.
    pub tags: u32,
    /// Whether its bytes are served.
    pub state: ManifestState,
}

impl Row for ManifestRow {
    const NAME: &'static str = "manifest row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.str(self.media_type.as_str()).u64(self.size).u64(self.image_bytes);
        encoder.option(self.artifact_type.as_deref(), |e, text| {
            e.str(text);
        });
        encode_media_type(encoder, self.config_media_type.as_ref());
        encoder.option(self.subject.as_ref(), |e, digest| {
            e.digest(digest);
        });
        let state = match self.state {
            ManifestState::Live => 0,
            ManifestState::Quarantined => 2,
        };
        encoder.u64(self.pushed_wall_ms).u32(self.tags).u8(state);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            media_type: decoder.parsed(|text| MediaType::parse(text).ok())?,
            size: decoder.u64()?,
            image_bytes: decoder.u64()?,
            artifact_type: decoder.option(|d| d.str().map(str::to_owned))?,
            config_media_type: decode_media_type(decoder)?,
            subject: decoder.option(Decoder::digest)?,
            pushed_wall_ms: decoder.u64()?,
            tags: decoder.u32()?,
            state: match decoder.u8()? {
                0 => ManifestState::Live,
                2 => ManifestState::Quarantined,
                _ => return Err(decoder.malformed()),
            },
        })
    }
}

/// One thing that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceEntry {
    /// What is named.
    pub digest: Digest,
    /// What for.
    pub role: Role,
    /// What the manifest calls it.
    pub media_type: MediaType,
}

/// Everything that a manifest names, once per (digest, role).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferencesRow(pub Vec<ReferenceEntry>);

impl Row for ReferencesRow {
    const NAME: &'static str = "references row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.list(self.0.iter(), |e, entry| {
            e.digest(&entry.digest).u8(entry.role.code()).str(entry.media_type.as_str());
        });
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        decoder
            .list(|d| {
                Ok(ReferenceEntry {
                    digest: d.digest()?,
                    role: Role::from_code(d.u8()?).ok_or_else(|| d.malformed())?,
                    media_type: d.parsed(|text| MediaType::parse(text).ok())?,
                })
            })
            .map(Self)
    }
}

/// What a list of referrers says of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerRow {
    /// The referrer's media type.
    pub media_type: MediaType,
    /// Its length in bytes.
    pub size: u64,
    /// Its `artifactType`, else its config's media type.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Row for ReferrerRow {
    const NAME: &'static str = "referrer row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.str(self.media_type.as_str()).u64(self.size);
        encoder.option(self.artifact_type.as_deref(), |e, text| {
            e.str(text);
        });
        encoder.list(self.annotations.iter(), |e, (key, value)| {
            e.str(key).str(value);
        });
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            media_type: decoder.parsed(|text| MediaType::parse(text).ok())?,
            size: decoder.u64()?,
            artifact_type: decoder.option(|d| d.str().map(str::to_owned))?,
            annotations: decoder.list(|d| Ok((d.str()?.to_owned(), d.str()?.to_owned())))?.into_iter().collect(),
        })
    }
}

/// A tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagRow {
    /// The manifest that it names.
    pub digest: Digest,
    /// Wall time at which it was put there, in milliseconds.
    pub tagged_wall_ms: u64,
}

impl Row for TagRow {
    const NAME: &'static str = "tag row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.digest(&self.digest).u64(self.tagged_wall_ms);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { digest: decoder.digest()?, tagged_wall_ms: decoder.u64()? })
    }
}

/// One move of a tag; its sequence is in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagHistoryRow {
    /// Who moved it.
    pub principal: Principal,
    /// Wall time, in milliseconds.
    pub wall_ms: u64,
    /// What it named before.
    pub from: Option<Digest>,
    /// What it names since.
    pub to: Option<Digest>,
}

impl Row for TagHistoryRow {
    const NAME: &'static str = "tag history row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.str(self.principal.as_str()).u64(self.wall_ms);
        for digest in [&self.from, &self.to] {
            encoder.option(digest.as_ref(), |e, digest| {
                e.digest(digest);
            });
        }
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            principal: decoder.parsed(|text| Principal::parse(text).ok())?,
            wall_ms: decoder.u64()?,
            from: decoder.option(Decoder::digest)?,
            to: decoder.option(Decoder::digest)?,
        })
    }
}

/// The outcome of an operation, so that a retry under the same id is told it instead of acting again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// The sequence of its commit.
    pub sequence: u64,
    /// BLAKE3 of the encoded arguments.
    pub arguments: [u8; 32],
    /// The encoded result.
    pub result: Vec<u8>,
}

impl Row for OperationRow {
    const NAME: &'static str = "operation row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.u64(self.sequence).raw(&self.arguments).bytes(&self.result);
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { sequence: decoder.u64()?, arguments: decoder.array()?, result: decoder.bytes()?.to_vec() })
    }
}

/// Four counters that commits add to. In a repository's row: images, tags, blobs, logical bytes. In a registry's row:
/// repositories, nothing, blobs, physical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageRow(pub [u64; 4]);

impl Row for UsageRow {
    const NAME: &'static str = "usage row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        self.0.iter().for_each(|value| {
            encoder.u64(*value);
        });
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self([decoder.u64()?, decoder.u64()?, decoder.u64()?, decoder.u64()?]))
    }
}

/// A run of chaining values. Its checksum covers the location and the first group, so that a row found in the wrong
/// place is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsRow(pub Vec<[u8; 32]>);

impl GroupsRow {
    /// The row's bytes: CRC32, then the chaining values.
    #[must_use]
    pub fn encode(&self, location: Location, first_group: u32) -> Vec<u8> {
        let mut encoder = Encoder::bare();
        encoder.u32(Self::checksum(&self.0, location, first_group));
        encoder.raw(self.0.as_flattened());
        encoder.finish()
    }

    /// Reads a row that was found under `location` and `first_group`.
    pub fn decode(bytes: &[u8], location: Location, first_group: u32) -> Result<Self, StorageError> {
        let damaged = || StorageError::corrupt(format!("chaining values of {location} from group {first_group}"));
        let (checksum, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (values, remainder) = rest.as_chunks::<32>();
        if !remainder.is_empty() || Self::checksum(values, location, first_group) != u32::from_be_bytes(*checksum) {
            return Err(damaged());
        }
        Ok(Self(values.to_vec()))
    }

    fn checksum(values: &[[u8; 32]], location: Location, first_group: u32) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&location.0);
        hasher.update(&first_group.to_be_bytes());
        hasher.update(values.as_flattened());
        hasher.finalize()
    }
}

/// The tag in a row of text; used where a result carries tags.
pub(crate) fn decode_tag(decoder: &mut Decoder<'_>) -> Result<Tag, StorageError> {
    decoder.parsed(|text| Tag::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chaining_values_are_bound_to_their_place() {
        let row = GroupsRow(vec![[1; 32], [2; 32]]);
        let (here, there) = (Location([1; 16]), Location([2; 16]));
        let bytes = row.encode(here, 4);
        assert_eq!(GroupsRow::decode(&bytes, here, 4).unwrap(), row);
        assert!(GroupsRow::decode(&bytes, there, 4).is_err());
        assert!(GroupsRow::decode(&bytes, here, 5).is_err());
        assert!(GroupsRow::decode(&bytes[..bytes.len() - 1], here, 4).is_err());
    }

    #[test]
    fn an_upload_row_comes_back() {
        let row = UploadRow {
            scope: Scope { registry: RegistryId(1), repository: RepositoryId(2) },
            principal: Principal::anonymous(),
            algorithm: Algorithm::Sha512,
            location: Location([7; 16]),
            staging: Staging::File,
            offset: 10,
            parts: 2,
            last_part_len: 4,
            shortest_part: Some((1, 6)),
            hash_state: vec![1, 2],
            frontier: vec![3],
            tail: Some([9; 32]),
            expires_ms: 11,
        };
        assert_eq!(UploadRow::decode(&row.encode()).unwrap(), row);
    }

    #[test]
    fn an_upload_row_with_a_damaged_state_gives_none_to_go_on_from() {
        let row = UploadRow {
            scope: Scope { registry: RegistryId(1), repository: RepositoryId(2) },
            principal: Principal::anonymous(),
            algorithm: Algorithm::Sha256,
            location: Location([7; 16]),
            staging: Staging::Row,
            offset: 10,
            parts: 0,
            last_part_len: 0,
            shortest_part: None,
            hash_state: vec![0xaa; 40],
            frontier: vec![0xbb; 13],
            tail: Some([0xcc; 32]),
            expires_ms: 11,
        };
        let bytes = row.encode();
        let states = bytes.iter().enumerate().filter(|(_, byte)| [0xaa, 0xbb, 0xcc].contains(*byte));
        for (at, _) in states {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            let found = UploadRow::decode(&damaged).unwrap();
            assert!(found.hash_state.is_empty() && found.frontier.is_empty(), "byte {at}");
            assert_eq!((found.location, found.expires_ms), (row.location, row.expires_ms));
        }
    }
}
