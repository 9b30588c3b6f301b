//! Whom a finding concerns: repositories, manifests and tags that lead to what is wrong.

use crate::digest::Digest;
use crate::format::keys::{self, RegistryId, Scope};
use crate::format::parsed::Key;
use crate::format::values::{RepositoryRow, Row, UploadRow};
use crate::name::Tag;
use crate::registry::registry_name;
use crate::store::{Direction, KeyRange, StorageError, View};

use super::finding::{Fault, TOUCHED_MAX, Touched, TouchedRepository};

/// What a fault is about, as far as that leads to repositories.
enum About<'a> {
    Blob(RegistryId, &'a Digest),
    Manifest(Scope, &'a Digest),
    Tag(Scope, &'a Tag),
    Repository(Scope),
    Upload(&'a [u8; 16]),
    Other,
}

fn about(fault: &Fault) -> About<'_> {
    use Fault as F;
    match fault {
        F::BlobRowDamaged { registry, digest, .. }
        | F::BlobQuarantined { registry, digest }
        | F::InlineBytesMissing { registry, digest, .. }
        | F::InlineBytesDamaged { registry, digest, .. }
        | F::GroupsWrong { registry, digest, .. }
        | F::FileMissing { registry, digest, .. }
        | F::FileSize { registry, digest, .. }
        | F::FooterDiffers { registry, digest, .. }
        | F::FileUnreadable { registry, digest, .. }
        | F::FileDamaged { registry, digest, .. }
        | F::LostBlob { registry, digest, .. } => About::Blob(RegistryId(*registry), digest),
        F::ManifestBytesMissing { scope, digest }
        | F::ManifestBytesDamaged { scope, digest }
        | F::ManifestNotOne { scope, digest, .. }
        | F::ManifestRowMissing { scope, digest }
        | F::ManifestRowsLeftOver { scope, digest, .. }
        | F::ManifestRowDiffers { scope, digest, .. }
        | F::ManifestReferences { scope, digest }
        | F::TagCount { scope, digest, .. }
        | F::BackReferenceMissing { scope, manifest: digest, .. }
        | F::BackReferenceExcess { scope, manifest: digest, .. }
        | F::ReferrerMissing { scope, referrer: digest, .. }
        | F::ReferrerExcess { scope, referrer: digest, .. }
        | F::ReferenceUnmet { scope, manifest: digest, .. }
        | F::ReferenceOpen { scope, manifest: digest, .. } => About::Manifest(*scope, digest),
        F::DanglingTag { scope, tag, .. }
        | F::TagByDigestMissing { scope, tag, .. }
        | F::TagByDigestExcess { scope, tag, .. }
        | F::TagMissing { scope, tag, .. }
        | F::TagHistory { scope, tag } => About::Tag(*scope, tag),
        F::DanglingLink { scope, digest }
        | F::LinkSize { scope, digest, .. }
        | F::LinkBackMissing { scope, digest }
        | F::LinkBackExcess { scope, digest }
        | F::LinkMissing { scope, digest } => About::Blob(scope.registry, digest),
        F::RepositoryWithoutName { scope, .. }
        | F::DeadRepositoryUnlisted { scope }
        | F::DeadRepositoryExcess { scope }
        | F::DeadRepository { scope }
        | F::RowsWithoutRepository { scope, .. }
        | F::Usage { scope, .. } => About::Repository(*scope),
        F::UploadWithoutExpiry { upload, .. }
        | F::UploadBytes { upload, .. }
        | F::UploadParts { upload, .. }
        | F::UploadState { upload, .. }
        | F::UploadGroups { upload, .. }
        | F::UploadFile { upload, .. } => About::Upload(&upload.0),
        _ => About::Other,
    }
}

/// What `fault` concerns, by the rows of one view.
pub(super) fn touched(view: &dyn View, fault: &Fault) -> Result<Touched, StorageError> {
    let mut touched = Touched::default();
    match about(fault) {
        About::Other => {}
        About::Repository(scope) => touched.repositories.push(repository(view, scope)?),
        About::Manifest(scope, digest) => {
            let mut repository = repository(view, scope)?;
            add_manifest(view, &mut repository, digest)?;
            touched.repositories.push(repository);
        }
        About::Tag(scope, tag) => {
            let mut repository = repository(view, scope)?;
            repository.tags.push(tag.clone());
            touched.repositories.push(repository);
        }
        About::Upload(id) => {
            let row = view.get(&keys::upload(id))?.and_then(|bytes| UploadRow::decode(&bytes).ok());
            if let Some(row) = row {
                touched.repositories.push(repository(view, row.scope)?);
            }
        }
        About::Blob(registry, digest) => {
            let scopes = some(view, &keys::link_backs(registry, digest), TOUCHED_MAX + 1, |key| match key {
                Key::LinkBack(scope, _) => Some(scope),
                _ => None,
            })?;
            touched.more = scopes.len() > TOUCHED_MAX;
            for scope in scopes.into_iter().take(TOUCHED_MAX) {
                let mut repository = repository(view, scope)?;
                let manifests = some(view, &keys::back_references(scope, digest), TOUCHED_MAX, |key| match key {
                    Key::BackReference { manifest, .. } => Some(manifest),
                    _ => None,
                })?;
                for manifest in manifests {
                    add_manifest(view, &mut repository, &manifest)?;
                }
                touched.repositories.push(repository);
            }
        }
    }
    Ok(touched)
}

fn repository(view: &dyn View, scope: Scope) -> Result<TouchedRepository, StorageError> {
    let row = view.get(&keys::repository(scope))?.and_then(|bytes| RepositoryRow::decode(&bytes).ok());
    let registry = registry_name(view, scope.registry)?;
    Ok(TouchedRepository { registry, name: row.map(|row| row.name), scope, manifests: Vec::new(), tags: Vec::new() })
}

fn add_manifest(view: &dyn View, repository: &mut TouchedRepository, digest: &Digest) -> Result<(), StorageError> {
    if repository.manifests.len() >= TOUCHED_MAX || repository.manifests.contains(digest) {
        return Ok(());
    }
    repository.manifests.push(*digest);
    let room = TOUCHED_MAX.saturating_sub(repository.tags.len());
    let tags = some(view, &keys::tags_by_digest(repository.scope, digest), room, |key| match key {
        Key::TagByDigest(_, _, tag) => Some(tag),
        _ => None,
    })?;
    repository.tags.extend(tags);
    Ok(())
}

/// What the first keys of a range say, without those that are none of ours.
fn some<T>(
    view: &dyn View,
    range: &KeyRange,
    limit: usize,
    read: impl Fn(Key) -> Option<T>,
) -> Result<Vec<T>, StorageError> {
    let limit = limit.max(1);
    crate::engine::collect_some(view, range, Direction::Forward, limit, |key, _| Ok(Key::parse(key).and_then(&read)))
}
