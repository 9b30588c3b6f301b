//! What a walk suspects: a row, or a file, to be judged under the rows that guard it.

use crate::blob::Damage;
use crate::digest::Digest;
use crate::format::keys::{self, KeyBytes, Scope};
use crate::format::parsed::Key;
use crate::format::values::{BlobRow, Placement, RepositoryRow, Row, UploadRow};
use crate::store::{Batch, Location, StorageError, View};
use crate::txn::committer::Delta;

use super::finding::Fault;

/// Something that may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Case {
    /// The row of this key, with whatever follows from it.
    Row(Key),
    /// A row whose key is none of ours.
    Raw(Vec<u8>),
    /// A location that nothing seems to have: its file, its chaining values or its inline bytes.
    Stray(Location),
}

/// What a judge found in a case.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) fault: Fault,
    pub(super) remedy: Remedy,
}

/// What can be done about a fault.
#[derive(Debug)]
pub(super) enum Remedy {
    /// Nothing that could be proved right.
    Leave(&'static str),
    /// These writes.
    Rows { how: &'static str, batch: Batch, deltas: Vec<Delta> },
    /// The location is given up, as a commit gives up a replaced blob's: a row first, then file and chaining values. Where
    /// a file goes because its blob has another one, that one's bytes must give the digest first.
    Retire { how: &'static str, location: Location, proof: Option<Copy> },
    /// The row says from then on that the bytes are damaged, so that a push brings others.
    QuarantineBlob { registry: keys::RegistryId, digest: Digest, placement: Placement, damage: Damage },
    /// The same for a manifest.
    QuarantineManifest { scope: Scope, digest: Digest },
    /// The file is read and hashed, and where that gives the digest, its rows are written anew.
    Rebuild { how: &'static str, rebuild: Rebuild },
}

/// The file of a blob, by the blob's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) digest: Digest,
    pub(super) location: Location,
    pub(super) size: u64,
    pub(super) group_len: u32,
}

/// Rows of a blob that follow from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rebuild {
    pub(super) registry: keys::RegistryId,
    pub(super) digest: Digest,
    pub(super) location: Location,
    pub(super) size: u64,
    pub(super) group_len: u32,
    pub(super) row: Leads,
}

/// Where the row of a blob leads before it is made to lead to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// To the file already.
    There,
    /// Nowhere: there is no row, or none that decodes.
    Nowhere,
    /// To bytes that are gone or damaged.
    Elsewhere(Placement),
}

impl Rebuild {
    /// For a blob whose row leads to the file.
    pub(super) fn of(registry: keys::RegistryId, digest: Digest, row: &BlobRow, location: Location) -> Self {
        Self { registry, digest, location, size: row.stored_size, group_len: row.group_len, row: Leads::There }
    }
}

impl Verdict {
    pub(super) fn leave(fault: Fault, why: &'static str) -> Self {
        Self { fault, remedy: Remedy::Leave(why) }
    }

    pub(super) fn put(fault: Fault, how: &'static str, key: &[u8], value: &[u8]) -> Self {
        let mut batch = Batch::new();
        batch.put(key, value);
        Self { fault, remedy: Remedy::Rows { how, batch, deltas: Vec::new() } }
    }

    pub(super) fn delete(fault: Fault, how: &'static str, key: &[u8]) -> Self {
        let mut batch = Batch::new();
        batch.delete(key);
        Self { fault, remedy: Remedy::Rows { how, batch, deltas: Vec::new() } }
    }

    pub(super) fn quarantine(
        fault: Fault,
        registry: keys::RegistryId,
        digest: Digest,
        placement: Placement,
        damage: Damage,
    ) -> Self {
        Self { fault, remedy: Remedy::QuarantineBlob { registry, digest, placement, damage } }
    }

    pub(super) fn rebuild(fault: Fault, how: &'static str, rebuild: Rebuild) -> Self {
        Self { fault, remedy: Remedy::Rebuild { how, rebuild } }
    }
}

impl Case {
    /// The rows under which the case is judged and mended. Everything in a repository is judged under the repository's own
    /// row, which every writer in it holds.
    pub(super) fn guards(&self, view: &dyn View) -> Result<Vec<KeyBytes>, StorageError> {
        let within = |scope: Scope, row: KeyBytes| vec![keys::repository(scope), row];
        Ok(match self {
            Self::Raw(_) => Vec::new(),
            Self::Stray(location) => vec![keys::removal(*location)],
            Self::Row(key) => match key {
                Key::Meta(id) => vec![keys::meta::single(*id)],
                Key::RegistryName(name) => vec![keys::registry_name(name)],
                Key::RepositoryName(registry, name) => vec![keys::repository_name(*registry, name)],
                Key::Repository(scope) | Key::DeadRepository(scope) => {
                    let key = keys::repository(*scope);
                    let row = view.get(&key)?.and_then(|bytes| RepositoryRow::decode(&bytes).ok());
                    let name = row.map(|row| keys::repository_name(scope.registry, &row.name));
                    [key].into_iter().chain(name).collect()
                }
                Key::Blob(registry, digest) | Key::Suspect(registry, digest) => {
                    let key = keys::blob(*registry, digest);
                    let row = view.get(&key)?.and_then(|bytes| BlobRow::decode(&bytes).ok());
                    let removal = row.map(|row| {
                        let (Placement::Inline(location) | Placement::File(location)) = row.placement;
                        keys::removal(location)
                    });
                    [key].into_iter().chain(removal).collect()
                }
                Key::InlineBytes(location) | Key::Groups(location, _) | Key::Removal(location) => {
                    vec![keys::removal(*location)]
                }
                Key::Link(scope, digest) | Key::LinkBack(scope, digest) => {
                    vec![keys::repository(*scope), keys::link(*scope, digest), keys::blob(scope.registry, digest)]
                }
                Key::Upload(id)
                | Key::UploadPart(id, _)
                | Key::UploadBytes(id)
                | Key::UploadExpiry(_, id)
                | Key::UploadSweep(id) => {
                    let key = keys::upload(id);
                    let row = view.get(&key)?.and_then(|bytes| UploadRow::decode(&bytes).ok());
                    [key].into_iter().chain(row.map(|row| keys::removal(row.location))).collect()
                }
                Key::Manifest(scope, digest)
                | Key::ManifestBytes(scope, digest)
                | Key::ManifestReferences(scope, digest)
                | Key::PullTime(scope, digest)
                | Key::BackReference { scope, manifest: digest, .. }
                | Key::Referrer { scope, referrer: digest, .. } => within(*scope, keys::manifest(*scope, digest)),
                Key::Tag(scope, tag) | Key::TagByDigest(scope, _, tag) | Key::TagHistory(scope, tag, _) => {
                    within(*scope, keys::tag(*scope, tag))
                }
                Key::Change(_) => vec![keys::meta::low_water()],
                Key::Operation(id) => vec![keys::operation(id), keys::meta::low_water()],
                Key::Usage(scope) => vec![keys::repository(*scope)],
                // Whoever counts here holds no one row, see `usage`; this one keeps repairs from each other.
                Key::RegistryUsage(registry) => vec![keys::registry_usage(*registry)],
            },
        })
    }
}
