//! Rows that say nothing of their own.

use crate::format::parsed::Key;

/// Whether other rows or files say all that a row of the key's family says.
pub(super) fn is_derived(key: &Key) -> bool {
    matches!(
        key,
        Key::RepositoryName(..)
            | Key::DeadRepository(_)
            | Key::Groups(..)
            | Key::Removal(_)
            | Key::Suspect(..)
            | Key::LinkBack(..)
            | Key::UploadExpiry(..)
            | Key::UploadSweep(_)
            | Key::ManifestReferences(..)
            | Key::PullTime(..)
            | Key::BackReference { .. }
            | Key::Referrer { .. }
            | Key::TagByDigest(..)
            | Key::Usage(_)
            | Key::RegistryUsage(_)
    )
}
