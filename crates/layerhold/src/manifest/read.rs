//! Reading a manifest by tag or digest.

use crate::descriptor::MediaType;
use crate::digest::Digest;
use crate::engine::value;
use crate::format::keys::{self, Scope};
use crate::format::values::{ManifestRow, ManifestState, Row, TagRow};
use crate::name::{Reference, Tag};
use crate::repository::Repository;
use crate::store::{Batch, LockMode, StorageError, View};

use super::errors::ReadError;

/// Names an image by tag, by digest, or by both, which must then agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageId {
    /// Whatever the tag names.
    Tag(Tag),
    /// This manifest.
    Digest(Digest),
    /// This manifest, if the tag names it.
    Both(Tag, Digest),
}

impl From<Reference> for ImageId {
    fn from(reference: Reference) -> Self {
        match reference {
            Reference::Tag(tag) => Self::Tag(tag),
            Reference::Digest(digest) => Self::Digest(digest),
        }
    }
}

/// Whether a read is a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestRead {
    /// It counts as one: the manifest's pull time moves, at most once in
    /// [`pull_time_ms`](crate::Options::pull_time_ms) and without a sync.
    Pull,
    /// It does not.
    Peek,
}

/// A manifest with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The type that is pinned to the digest.
    pub media_type: MediaType,
    /// The document as it was pushed.
    pub bytes: Vec<u8>,
}

/// A manifest without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The type that is pinned to the digest.
    pub media_type: MediaType,
    /// Their length.
    pub size: u64,
}

impl Repository {
    /// A manifest, its bytes checked against its digest. One whose bytes are damaged is quarantined: it counts as absent
    /// for a push until it is put again.
    pub fn manifest(&self, reference: &Reference, read: ManifestRead) -> Result<Manifest, ReadError> {
        let Found { scope, manifest, pull_due } = self.find_manifest(reference)?;
        let digest = manifest.digest;
        if !is_intact(&manifest) {
            // They are damaged, whether the row can be made to say so or not.
            drop(self.inner().quarantine_manifest(scope, &digest));
            return Err(ReadError::Corrupt { digest });
        }
        if read == ManifestRead::Pull && pull_due {
            // The bytes are there: that their time is not noted is no reason to keep them back.
            drop(self.note_pull(scope, &digest));
        }
        Ok(manifest)
    }

    /// What a [`ManifestRead::Pull`] gives where reading is all that it takes. `None` where its time is to be noted, or
    /// damage: writing waits for others' syncs, which a caller may have threads of its own for.
    pub fn manifest_at_once(&self, reference: &Reference) -> Result<Option<Manifest>, ReadError> {
        let Found { manifest, pull_due, .. } = self.find_manifest(reference)?;
        Ok(Some(manifest).filter(|manifest| !pull_due && is_intact(manifest)))
    }

    fn find_manifest(&self, reference: &Reference) -> Result<Found, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let digest = resolve(view.as_ref(), scope, &reference.clone().into())?;
        let rows = view.get_many(&[
            &keys::manifest(scope, &digest),
            &keys::manifest_bytes(scope, &digest),
            &keys::pull_time(scope, &digest),
        ])?;
        drop(view);
        let [row, bytes, pulled] = <[_; 3]>::try_from(rows).unwrap_or_default();
        let Some(row) = ManifestRow::decode_optional(row.as_deref())? else {
            return Err(ReadError::NotFound { reference: reference.clone() });
        };
        if row.state == ManifestState::Quarantined {
            return Err(ReadError::Corrupt { digest });
        }
        let manifest = Manifest { digest, media_type: row.media_type, bytes: bytes.unwrap_or_default() };
        Ok(Found { scope, manifest, pull_due: self.is_pull_due(pulled.as_deref()) })
    }

    /// Digest, type and length of a manifest; the bytes are not looked at, but damage that was noticed is told.
    pub fn manifest_head(&self, reference: &Reference) -> Result<ManifestHead, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let digest = resolve(view.as_ref(), scope, &reference.clone().into())?;
        let row = view.get(&keys::manifest(scope, &digest))?;
        let row = ManifestRow::decode_optional(row.as_deref())?
            .ok_or_else(|| ReadError::NotFound { reference: reference.clone() })?;
        if row.state == ManifestState::Quarantined {
            return Err(ReadError::Corrupt { digest });
        }
        Ok(ManifestHead { digest, media_type: row.media_type, size: row.size })
    }

    /// The manifest that an image id stands for; it exists.
    pub fn resolve_image(&self, image: &ImageId) -> Result<Digest, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let digest = resolve(view.as_ref(), scope, image)?;
        if view.get(&keys::manifest(scope, &digest))?.is_none() {
            return Err(ReadError::NotFound { reference: Reference::Digest(digest) });
        }
        Ok(digest)
    }

    /// Whether the pull time moved so long ago that it is to move again, and can.
    fn is_pull_due(&self, pulled: Option<&[u8]>) -> bool {
        let inner = self.inner();
        // A time that cannot be read is left for a check to find.
        let Ok(last_ms) = pull_time(pulled) else { return false };
        let passed_ms = last_ms.map(|last_ms| inner.txn.committer.wall_ms().saturating_sub(last_ms));
        passed_ms.is_none_or(|passed_ms| passed_ms >= inner.options.pull_time_ms) && inner.check_writable().is_ok()
    }

    /// Moves the pull time, unless somebody is changing the manifest or a change of it is still being applied: the next pull
    /// moves it then.
    fn note_pull(&self, scope: Scope, digest: &Digest) -> Result<(), StorageError> {
        let inner = self.inner();
        let manifest_key = keys::manifest(scope, digest);
        // Shared, so that the manifest cannot go while its pull time is written and leave it behind.
        let Some(locks) = inner.txn.store.try_lock_and_get(&[(&manifest_key, LockMode::Shared)])? else {
            return Ok(());
        };
        if value(&locks, 0).is_none() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(&keys::pull_time(scope, digest), &inner.txn.committer.wall_ms().to_be_bytes());
        inner.txn.committer.submit_relaxed(locks, batch)
    }
}

/// A manifest as its rows say it is.
struct Found {
    scope: Scope,
    manifest: Manifest,
    /// Whether a pull of it is to be noted.
    pull_due: bool,
}

fn is_intact(manifest: &Manifest) -> bool {
    Digest::of(manifest.digest.algorithm(), &manifest.bytes) == manifest.digest
}

/// The time in a pull-time row.
pub(crate) fn pull_time(row: Option<&[u8]>) -> Result<Option<u64>, StorageError> {
    row.map(|bytes| {
        bytes.try_into().map(u64::from_be_bytes).map_err(|_| StorageError::corrupt("pull time row: malformed"))
    })
    .transpose()
}

/// What an image id names. A digest is taken as it is: whether it exists is the caller's question.
pub(crate) fn resolve(view: &dyn View, scope: Scope, image: &ImageId) -> Result<Digest, ReadError> {
    let named = |tag: &Tag| -> Result<Option<Digest>, StorageError> {
        let row = view.get(&keys::tag(scope, tag))?;
        Ok(TagRow::decode_optional(row.as_deref())?.map(|row| row.digest))
    };
    match image {
        ImageId::Digest(digest) => Ok(*digest),
        ImageId::Tag(tag) => named(tag)?.ok_or_else(|| ReadError::NotFound { reference: Reference::Tag(tag.clone()) }),
        ImageId::Both(tag, digest) => match named(tag)? {
            Some(current) if current == *digest => Ok(current),
            // A digest that is unknown is not found, whatever the tag names: both protocols report that first.
            Some(_) if view.get(&keys::manifest(scope, digest))?.is_none() => {
                Err(ReadError::NotFound { reference: Reference::Digest(*digest) })
            }
            Some(current) => Err(ReadError::TagMismatch { tag: tag.clone(), current }),
            None => Err(ReadError::NotFound { reference: Reference::Tag(tag.clone()) }),
        },
    }
}
