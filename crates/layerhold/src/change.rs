//! The change log: one ordered entry for each committed mutation.

use crate::blob::Damage;
use crate::call::OperationId;
use crate::digest::Digest;
use crate::format::codec::{Decoder, Encoder};
use crate::format::values::{Row, decode_mutability, decode_tag, encode_mutability};
use crate::name::{Principal, RegistryName, RepositoryName, Tag};
use crate::recovery::Choice;
use crate::store::{Location, StorageError};
use crate::tag::rules::TagMutability;
use crate::upload::UploadId;

/// One committed mutation. Entries are in commit order, their sequences without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the order; 1 is the first of the store.
    pub sequence: u64,
    /// The id under which it ran.
    pub operation_id: OperationId,
    /// Engine time in milliseconds; never decreases.
    pub engine_ms: u64,
    /// Wall time in milliseconds since 1970, for display.
    pub wall_ms: u64,
    /// Who did it.
    pub principal: Principal,
    /// What happened.
    pub event: Event,
}

/// What a mutation did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A registry was made.
    RegistryCreated {
        /// Its name.
        registry: RegistryName,
    },
    /// Something happened in a repository.
    Repository {
        /// The registry that owns it.
        registry: RegistryName,
        /// Its name.
        repository: RepositoryName,
        /// What happened.
        event: RepositoryEvent,
    },
    /// The store was made; always the first change.
    StoreCreated,
    /// An upload session expired.
    UploadExpired {
        /// The repository that it belonged to.
        repository: RepositoryName,
        /// That repository's id, unique in the store: its name alone may be in several registries.
        repository_id: u64,
        /// The session.
        upload: UploadId,
    },
    /// The stored bytes of a blob were found damaged. It is absent to a push and corrupt to a pull until it is pushed again.
    BlobQuarantined {
        /// The registry that holds it; `None` where the row with its name was lost.
        registry: Option<RegistryName>,
        /// The blob.
        digest: Digest,
        /// Where its bytes are. They stay there until the blob is healed.
        location: Location,
        /// What is wrong with them.
        damage: Damage,
    },
    /// The chaining values of a blob were damaged or missing, its bytes proved right by their digest, and the values were
    /// computed again.
    BlobRebuilt {
        /// The registry that holds it; `None` where the row with its name was lost.
        registry: Option<RegistryName>,
        /// The blob.
        digest: Digest,
        /// Where its bytes are.
        location: Location,
    },
    /// A scrub found something damaged that no quarantine keeps from being served: a row, a footer, or what rows say of a
    /// manifest.
    DamageFound {
        /// What, in words.
        what: String,
    },
    /// The store did not open, and an operator chose how to go on. Before it the sequence may jump: that is the only
    /// place where it does.
    Recovered {
        /// What was chosen.
        choice: Choice,
        /// The highest sequence that anything proved, where anything did.
        expected: Option<u64>,
        /// The sequence up to which everything was brought back.
        recovered: u64,
    },
    /// A repair mended something that a check had found.
    Repaired {
        /// The name of the fault ([`Fault::name`](crate::check::Fault::name)).
        fault: String,
        /// What it was about, in words; at most 1 KiB.
        about: String,
    },
}

/// A setting of a repository with the value that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// Which tags may move.
    TagMutability(TagMutability),
    /// Whether manifests may reference what the repository does not hold.
    SparseImages(bool),
    /// The host's own data: the names alone, in byte order, because values may be large or secret.
    Attributes(Vec<String>),
}

/// What a mutation did in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepositoryEvent {
    /// It was made.
    Created,
    /// It was deleted with everything in it.
    Deleted,
    /// Its settings were changed, and an earlier version of this program did not write down which of them.
    SettingsChanged,
    /// One of its settings was changed.
    SettingChanged {
        /// The setting and its new value.
        setting: Setting,
    },
    /// Bytes of an upload became durable.
    UploadAdvanced {
        /// The session.
        upload: UploadId,
        /// Its durable length.
        offset: u64,
    },
    /// An upload became a blob.
    BlobUploaded {
        /// The blob.
        digest: Digest,
    },
    /// An upload was cancelled.
    UploadEnded {
        /// The session.
        upload: UploadId,
    },
    /// A blob of another repository was made readable here.
    BlobMounted {
        /// The blob.
        digest: Digest,
    },
    /// A blob is no longer readable here.
    BlobDeleted {
        /// The blob.
        digest: Digest,
    },
    /// A manifest was put, or tags were.
    ManifestPut {
        /// The manifest.
        digest: Digest,
        /// The tags that name it since.
        tags: Vec<Tag>,
    },
    /// A tag was dropped and its manifest kept.
    Untagged {
        /// The tag.
        tag: Tag,
        /// What it named.
        digest: Digest,
    },
    /// A manifest was deleted with its tags.
    ManifestDeleted {
        /// The manifest.
        digest: Digest,
        /// The tags that named it.
        tags: Vec<Tag>,
    },
    /// An upload took the place of a blob whose bytes had been found damaged.
    BlobHealed {
        /// The blob.
        digest: Digest,
    },
    /// The stored bytes of a manifest were found damaged.
    ManifestQuarantined {
        /// The manifest.
        digest: Digest,
    },
    /// A put took the place of the damaged bytes of a manifest.
    ManifestHealed {
        /// The manifest.
        digest: Digest,
        /// The tags that were put with it.
        tags: Vec<Tag>,
    },
    /// An upload ended because its staged bytes, or the state to go on from, were found damaged.
    UploadDamaged {
        /// The session.
        upload: UploadId,
    },
}

/// A change without the sequence that its key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeRow {
    pub(crate) operation_id: OperationId,
    pub(crate) engine_ms: u64,
    pub(crate) wall_ms: u64,
    pub(crate) principal: Principal,
    pub(crate) event: Event,
}

impl ChangeRow {
    pub(crate) fn at(self, sequence: u64) -> Change {
        let Self { operation_id, engine_ms, wall_ms, principal, event } = self;
        Change { sequence, operation_id, engine_ms, wall_ms, principal, event }
    }
}

impl Row for ChangeRow {
    const NAME: &'static str = "change row";

    fn encode_fields(&self, encoder: &mut Encoder) {
        encoder.raw(&self.operation_id.0).u64(self.engine_ms).u64(self.wall_ms).str(self.principal.as_str());
        match &self.event {
            Event::RegistryCreated { registry } => {
                encoder.u8(1).str(registry.as_str());
            }
            Event::Repository { registry, repository, event } => {
                encoder.u8(2).str(registry.as_str()).str(repository.as_str());
                event.encode(encoder);
            }
            Event::StoreCreated => {
                encoder.u8(3);
            }
            Event::UploadExpired { repository, repository_id, upload } => {
                encoder.u8(4).str(repository.as_str()).u64(*repository_id).raw(&upload.0);
            }
            Event::BlobQuarantined { registry, digest, location, damage } => {
                encoder.u8(5).str(text_of(registry)).digest(digest).raw(&location.0);
                damage.encode(encoder);
            }
            Event::BlobRebuilt { registry, digest, location } => {
                encoder.u8(6).str(text_of(registry)).digest(digest).raw(&location.0);
            }
            Event::DamageFound { what } => {
                encoder.u8(19).str(what);
            }
            Event::Recovered { choice, expected, recovered } => {
                encoder.u8(7).u8(choice.code()).option(*expected, |encoder, expected| {
                    encoder.u64(expected);
                });
                encoder.u64(*recovered);
            }
            Event::Repaired { fault, about } => {
                encoder.u8(20).str(fault).str(about);
            }
        }
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let operation_id = OperationId(decoder.array()?);
        let engine_ms = decoder.u64()?;
        let wall_ms = decoder.u64()?;
        let principal = decoder.parsed(|text| Principal::parse(text).ok())?;
        let event = match decoder.u8()? {
            1 => Event::RegistryCreated { registry: decoder.parsed(|text| RegistryName::parse(text).ok())? },
            2 => Event::Repository {
                registry: decoder.parsed(|text| RegistryName::parse(text).ok())?,
                repository: decoder.parsed(|text| RepositoryName::parse(text).ok())?,
                event: RepositoryEvent::decode(decoder)?,
            },
            3 => Event::StoreCreated,
            4 => Event::UploadExpired {
                repository: decoder.parsed(|text| RepositoryName::parse(text).ok())?,
                repository_id: decoder.u64()?,
                upload: UploadId(decoder.array()?),
            },
            5 => Event::BlobQuarantined {
                registry: decoder.parsed(known_registry)?,
                digest: decoder.digest()?,
                location: Location(decoder.array()?),
                damage: Damage::decode(decoder)?,
            },
            6 => Event::BlobRebuilt {
                registry: decoder.parsed(known_registry)?,
                digest: decoder.digest()?,
                location: Location(decoder.array()?),
            },
            7 => Event::Recovered {
                choice: Choice::of_code(decoder.u8()?).ok_or_else(|| decoder.malformed())?,
                expected: decoder.option(|decoder| decoder.u64())?,
                recovered: decoder.u64()?,
            },
            19 => Event::DamageFound { what: decoder.str()?.to_owned() },
            20 => Event::Repaired { fault: decoder.str()?.to_owned(), about: decoder.str()?.to_owned() },
            _ => return Err(decoder.malformed()),
        };
        Ok(Self { operation_id, engine_ms, wall_ms, principal, event })
    }
}

/// How a change row spells a registry whose name may be lost: no name is empty.
fn text_of(registry: &Option<RegistryName>) -> &str {
    registry.as_ref().map_or("", RegistryName::as_str)
}

fn known_registry(text: &str) -> Option<Option<RegistryName>> {
    if text.is_empty() { Some(None) } else { RegistryName::parse(text).ok().map(Some) }
}

impl RepositoryEvent {
    fn encode(&self, encoder: &mut Encoder) {
        let tags = |encoder: &mut Encoder, tags: &[Tag]| {
            encoder.list(tags.iter(), |e, tag| {
                e.str(tag.as_str());
            });
        };
        match self {
            Self::Created => {
                encoder.u8(1);
            }
            Self::Deleted => {
                encoder.u8(2);
            }
            Self::SettingsChanged => {
                encoder.u8(3);
            }
            Self::UploadAdvanced { upload, offset } => {
                encoder.u8(4).raw(&upload.0).u64(*offset);
            }
            Self::BlobUploaded { digest } => {
                encoder.u8(5).digest(digest);
            }
            Self::UploadEnded { upload } => {
                encoder.u8(6).raw(&upload.0);
            }
            Self::BlobMounted { digest } => {
                encoder.u8(7).digest(digest);
            }
            Self::BlobDeleted { digest } => {
                encoder.u8(8).digest(digest);
            }
            Self::ManifestPut { digest, tags: named } => {
                encoder.u8(9).digest(digest);
                tags(encoder, named);
            }
            Self::Untagged { tag, digest } => {
                encoder.u8(10).str(tag.as_str()).digest(digest);
            }
            Self::ManifestDeleted { digest, tags: named } => {
                encoder.u8(11).digest(digest);
                tags(encoder, named);
            }
            Self::BlobHealed { digest } => {
                encoder.u8(12).digest(digest);
            }
            Self::ManifestQuarantined { digest } => {
                encoder.u8(13).digest(digest);
            }
            Self::ManifestHealed { digest, tags: named } => {
                encoder.u8(14).digest(digest);
                tags(encoder, named);
            }
            Self::UploadDamaged { upload } => {
                encoder.u8(15).raw(&upload.0);
            }
            Self::SettingChanged { setting } => {
                encoder.u8(16);
                setting.encode(encoder);
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(match decoder.u8()? {
            1 => Self::Created,
            2 => Self::Deleted,
            3 => Self::SettingsChanged,
            4 => Self::UploadAdvanced { upload: UploadId(decoder.array()?), offset: decoder.u64()? },
            5 => Self::BlobUploaded { digest: decoder.digest()? },
            6 => Self::UploadEnded { upload: UploadId(decoder.array()?) },
            7 => Self::BlobMounted { digest: decoder.digest()? },
            8 => Self::BlobDeleted { digest: decoder.digest()? },
            9 => Self::ManifestPut { digest: decoder.digest()?, tags: decoder.list(decode_tag)? },
            10 => Self::Untagged { tag: decode_tag(decoder)?, digest: decoder.digest()? },
            11 => Self::ManifestDeleted { digest: decoder.digest()?, tags: decoder.list(decode_tag)? },
            12 => Self::BlobHealed { digest: decoder.digest()? },
            13 => Self::ManifestQuarantined { digest: decoder.digest()? },
            14 => Self::ManifestHealed { digest: decoder.digest()?, tags: decoder.list(decode_tag)? },
            15 => Self::UploadDamaged { upload: UploadId(decoder.array()?) },
            16 => Self::SettingChanged { setting: Setting::decode(decoder)? },
            _ => return Err(decoder.malformed()),
        })
    }
}

impl Setting {
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Self::TagMutability(mutability) => encode_mutability(encoder.u8(1), mutability),
            Self::SparseImages(sparse) => {
                encoder.u8(2).bool(*sparse);
            }
            Self::Attributes(names) => {
                encoder.u8(3).list(names.iter(), |e, name| {
                    e.str(name);
                });
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(match decoder.u8()? {
            1 => Self::TagMutability(decode_mutability(decoder)?),
            2 => Self::SparseImages(decoder.bool()?),
            3 => Self::Attributes(decoder.list(|d| Ok(d.str()?.to_owned()))?),
            _ => return Err(decoder.malformed()),
        })
    }
}
