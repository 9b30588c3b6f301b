//! The scrub of a manifest: its bytes against its digest, and the rows beside it against its bytes.

use crate::check::differing_row;
use crate::digest::Digest;
use crate::error::Failure;
use crate::format::keys;
use crate::format::values::{ManifestRow, ManifestState, RepositoryRow, Row};
use crate::registry::registry_name;

use super::ScrubFinding;
use super::pass::Step;

impl Step<'_> {
    /// Checks the manifest of a row, unless it is gone, known to be damaged, or its repository was deleted.
    pub(super) fn look_at_manifest(&mut self, key: &[u8]) -> Result<(), Failure> {
        let inner = self.inner;
        let Some((scope, digest)) = keys::scope_of(key).zip(keys::scoped_digest_of(key)) else { return Ok(()) };
        let view = inner.txn.store.view()?;
        let rows = view.get_many(&[key, &keys::manifest_bytes(scope, &digest), &keys::repository(scope)])?;
        let [row, bytes, repository] = <[_; 3]>::try_from(rows).unwrap_or_default();
        // Rows that are none are findings of their own; nobody is served by way of them.
        let decoded = (row.map(|row| ManifestRow::decode(&row)), repository.map(|row| RepositoryRow::decode(&row)));
        let (Some(Ok(row)), Some(Ok(repository))) = decoded else { return Ok(()) };
        if row.state == ManifestState::Quarantined || repository.dead_since_ms.is_some() {
            return Ok(());
        }
        let bytes = bytes.unwrap_or_default();
        self.spend(bytes.len() as u64);
        self.count_manifest();
        let registry = registry_name(view.as_ref(), scope.registry)?;
        if Digest::of(digest.algorithm(), &bytes) != digest {
            drop(view);
            if inner.quarantine_manifest(scope, &digest)? {
                self.found(ScrubFinding::ManifestQuarantined { registry, repository: repository.name, digest })?;
            }
            return Ok(());
        }
        // All in one view, so that no put or deletion comes between the rows.
        let differing = differing_row(view.as_ref(), scope, &digest)?;
        drop(view);
        match differing {
            Some(what) => {
                self.found(ScrubFinding::ManifestRows { registry, repository: repository.name, digest, what })
            }
            None => Ok(()),
        }
    }
}
