//! The scrub of a manifest: its bytes against its digest, and the rows beside it against its bytes.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::error::Failure;
use crate::format::keys::{self, Scope};
use crate::format::values::{ManifestRow, ManifestState, ReferencesRow, RepositoryRow, Row};
use crate::manifest::document::{DocumentLimits, ManifestDocument};
use crate::registry::registry_name;
use crate::store::View;

use super::ScrubFinding;
use super::pass::Step;

impl Step<'_> {
    /// Checks the manifest of a row, unless it is gone, known to be damaged, or its repository was deleted.
    pub(super) fn look_at_manifest(&mut self, key: &[u8]) -> Result<(), Failure> {
        let inner = self.inner;
        let Some((scope, digest)) = keys::scope_of(key).zip(keys::scoped_digest_of(key)) else { return Ok(()) };
        let view = inner.txn.store.view()?;
        let rows = view.get_many(&[
            key,
            &keys::manifest_bytes(scope, &digest),
            &keys::manifest_references(scope, &digest),
            &keys::repository(scope),
        ])?;
        let [row, bytes, references, repository] = <[_; 4]>::try_from(rows).unwrap_or_default();
        // Rows that are none are findings of their own; nobody is served by way of them.
        let decoded = (row.map(|row| ManifestRow::decode(&row)), repository.map(|row| RepositoryRow::decode(&row)));
        let (Some(Ok(row)), Some(Ok(repository))) = decoded else { return Ok(()) };
        if row.state == ManifestState::Quarantined || repository.dead_since_ms.is_some() {
            return Ok(());
        }
        let bytes = bytes.unwrap_or_default();
        self.spend((bytes.len() + references.as_ref().map_or(0, Vec::len)) as u64);
        self.count_manifest();
        let registry = registry_name(view.as_ref(), scope.registry)?;
        if Digest::of(digest.algorithm(), &bytes) != digest {
            drop(view);
            if inner.quarantine_manifest(scope, &digest)? {
                self.found(ScrubFinding::ManifestQuarantined { registry, repository: repository.name, digest })?;
            }
            return Ok(());
        }
        let references = ReferencesRow::decode_optional(references.as_deref()).ok().flatten();
        let different = different(view.as_ref(), scope, &digest, &row, &bytes, references)?;
        drop(view);
        match different {
            Some(what) => {
                self.found(ScrubFinding::ManifestRows { registry, repository: repository.name, digest, what })
            }
            None => Ok(()),
        }
    }
}

/// The first row beside a manifest that does not say what its bytes say. All were read in one view, so that no put or
/// deletion comes between them.
fn different(
    view: &dyn View,
    scope: Scope,
    digest: &Digest,
    row: &ManifestRow,
    bytes: &[u8],
    references: Option<ReferencesRow>,
) -> Result<Option<&'static str>, Failure> {
    // The limits of today are no measure for what was taken under others.
    let limits = DocumentLimits {
        size_bytes_max: u64::MAX,
        references_max: usize::MAX,
        schema1: true,
        ..DocumentLimits::default()
    };
    if row.size != bytes.len() as u64 {
        return Ok(Some("manifest"));
    }
    let Ok(document) = ManifestDocument::parse(bytes, Some(&row.media_type), &limits) else {
        return Ok(Some("manifest"));
    };
    if document.subject.as_ref().map(|subject| subject.digest) != row.subject {
        return Ok(Some("manifest"));
    }
    let Some(ReferencesRow(entries)) = references else { return Ok(Some("references")) };
    let named: BTreeSet<_> =
        document.references.iter().map(|reference| (reference.descriptor.digest, reference.role)).collect();
    let listed: BTreeSet<_> = entries.iter().map(|entry| (entry.digest, entry.role)).collect();
    if named != listed || entries.len() != listed.len() {
        return Ok(Some("references"));
    }
    let backwards: Vec<_> =
        entries.iter().map(|entry| keys::back_reference(scope, &entry.digest, digest, entry.role.code())).collect();
    let backwards: Vec<_> = backwards.iter().map(Vec::as_slice).collect();
    if view.get_many(&backwards)?.iter().any(Option::is_none) {
        return Ok(Some("back-reference"));
    }
    if let Some(subject) = row.subject
        && view.get(&keys::referrer(scope, &subject, digest))?.is_none()
    {
        return Ok(Some("referrer"));
    }
    Ok(None)
}
