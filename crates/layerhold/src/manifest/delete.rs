//! Deleting images: a tag, and with the last tag the manifest; or a manifest with all of its tags.

use crate::call::Call;
use crate::change::RepositoryEvent;
use crate::digest::Digest;
use crate::engine::{Needs, collect, collect_some, value};
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys::{self, Scope};
use crate::format::parsed::Key;
use crate::format::values::{ManifestRow, ReferencesRow, Row, TagHistoryRow, TagRow, decode_tag};
use crate::name::{Reference, Tag};
use crate::repository::{Repository, live_row};
use crate::store::{Direction, LockMode, StorageError, View};
use crate::txn::{Attempt, Commit, Decision, Outcome, Stop, no_limit};

use super::document::Role;
use super::errors::{DeleteError, ReadError};
use super::read::{ImageId, resolve};

/// Manifests that a refused deletion names.
const REFERENCES_NAMED_MAX: usize = 10;

/// What a deletion took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedImage {
    /// The manifest that was meant.
    pub digest: Digest,
    /// The tags that are gone, in byte order.
    pub tags: Vec<Tag>,
    /// Whether the manifest is gone with them.
    pub manifest_deleted: bool,
}

impl Outcome for DeletedImage {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.digest(&self.digest).bool(self.manifest_deleted).list(self.tags.iter(), |e, tag| {
            e.str(tag.as_str());
        });
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { digest: decoder.digest()?, manifest_deleted: decoder.bool()?, tags: decoder.list(decode_tag)? })
    }
}

/// What a deletion is about to take away.
struct Doomed {
    digest: Digest,
    tags: Vec<Tag>,
    manifest: bool,
    /// What the manifest names, where it goes. It follows from the digest, so it holds whenever the manifest is there.
    references: Vec<(Digest, Role)>,
}

impl Repository {
    /// Deletes an image. By tag: the tag goes, and with its last tag the manifest. By digest: the manifest goes with all
    /// of its tags. Durable when it returns.
    ///
    /// A manifest that an image index of the repository references is not deleted, and then no tag is either. Tag
    /// immutability does not stand in the way: it is about moving.
    pub fn delete_image(&self, image: &ImageId, call: &Call) -> Result<DeletedImage, DeleteError> {
        let inner = self.inner();
        let mut arguments = self.arguments("delete image");
        match image {
            ImageId::Tag(tag) => arguments.u8(0).str(tag.as_str()),
            ImageId::Digest(digest) => arguments.u8(1).digest(digest),
            ImageId::Both(tag, digest) => arguments.u8(2).str(tag.as_str()).digest(digest),
        };
        inner.run(Needs::Writing, call, &mut arguments, no_limit, |attempt| {
            let scope = self.find_or_refuse(attempt)?;
            match self.doomed(attempt, scope, image)? {
                Ok(doomed) => self.delete_doomed(attempt, scope, doomed),
                Err(refused) => {
                    // The operation may have been done already under this id.
                    attempt.lock::<DeleteError>(&[])?;
                    Err(Stop::Refused(refused))
                }
            }
        })
    }

    /// Deletes a manifest with all of its tags. Durable when it returns.
    pub fn delete_manifest(&self, digest: &Digest, call: &Call) -> Result<DeletedImage, DeleteError> {
        self.delete_image(&ImageId::Digest(*digest), call)
    }

    /// Reads without locks what the deletion is about.
    fn doomed(
        &self,
        attempt: &Attempt<'_>,
        scope: Scope,
        image: &ImageId,
    ) -> Result<Result<Doomed, DeleteError>, StorageError> {
        let view = attempt.view()?;
        let digest = match resolve(view.as_ref(), scope, image) {
            Ok(digest) => digest,
            Err(ReadError::Storage(crate::error::Failure::Storage(error))) => return Err(error),
            Err(ReadError::TagMismatch { tag, current }) => return Ok(Err(DeleteError::TagMismatch { tag, current })),
            Err(_) => return Ok(Err(DeleteError::NotFound { reference: reference_of(image) })),
        };
        if view.get(&keys::manifest(scope, &digest))?.is_none() {
            return Ok(Err(DeleteError::NotFound { reference: reference_of(image) }));
        }
        let all = tags_of(view.as_ref(), scope, &digest)?;
        let (tags, manifest) = match image {
            ImageId::Tag(tag) | ImageId::Both(tag, _) if all.len() > 1 => (vec![tag.clone()], false),
            _ => (all, true),
        };
        let references = if manifest { references(view.as_ref(), scope, &digest)? } else { Vec::new() };
        Ok(Ok(Doomed { digest, tags, manifest, references }))
    }

    fn delete_doomed(
        &self,
        attempt: &Attempt<'_>,
        scope: Scope,
        doomed: Doomed,
    ) -> Result<Decision<DeletedImage>, Stop<DeleteError>> {
        let Doomed { digest, tags, manifest, references } = doomed;
        let mut wanted = vec![
            (keys::repository(scope), attempt.repository_mode()),
            (keys::manifest(scope, &digest), LockMode::Exclusive),
        ];
        wanted.extend(tags.iter().map(|tag| (keys::tag(scope, tag), LockMode::Exclusive)));
        // Whoever adds a back-reference holds the row of what is referenced shared; so does whoever takes one away.
        wanted.extend(references.iter().map(|(digest, role)| {
            let key = match role {
                Role::Manifest => keys::manifest(scope, digest),
                Role::Config | Role::Layer => keys::blob(scope.registry, digest),
            };
            (key, LockMode::Shared)
        }));
        let rows: Vec<_> = wanted.iter().map(|(key, mode)| (key.as_slice(), *mode)).collect();
        let locks = attempt.lock(&rows)?;
        live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
        let mut row = ManifestRow::decode_optional(value(&locks, 1))?.ok_or(Stop::Again)?;
        for index in 0..tags.len() {
            let tag = TagRow::decode_optional(value(&locks, 2 + index))?;
            if tag.is_none_or(|tag| tag.digest != digest) {
                return Err(Stop::Again);
            }
        }
        // The manifest's row is held, so its set of tags stands still now; it may have changed before.
        let all_tags = tags.len() == row.tags as usize;
        if manifest != all_tags {
            return Err(Stop::Again);
        }
        let view = attempt.view()?;
        if manifest {
            let manifests = referencing(view.as_ref(), scope, &digest, |role| role == Role::Manifest)?;
            if !manifests.is_empty() {
                return Err(Stop::Refused(DeleteError::ReferencedBy { digest, manifests }));
            }
        }
        drop(view);
        let event = if manifest {
            RepositoryEvent::ManifestDeleted { digest, tags: tags.clone() }
        } else {
            let tag = tags.first().cloned().ok_or(Stop::Again)?;
            RepositoryEvent::Untagged { tag, digest }
        };
        let result = DeletedImage { digest, tags, manifest_deleted: manifest };
        let mut commit = Commit::new(locks, self.event(event), result);
        for tag in &commit.result.tags {
            commit.batch.delete(&keys::tag(scope, tag));
            commit.batch.delete(&keys::tag_by_digest(scope, &digest, tag));
            commit.sequenced.push((keys::tag_history_stem(scope, tag), dropped(attempt, &digest)));
        }
        let gone = commit.result.tags.len();
        if manifest {
            delete_document(&mut commit, scope, &digest, &row, &references);
        } else {
            row.tags = row.tags.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
            commit.batch.put(&keys::manifest(scope, &digest), &row.encode());
        }
        let tags_gone = i64::try_from(gone).unwrap_or(i64::MAX);
        commit.add(keys::repository_usage(scope), [-i64::from(manifest), -tags_gone, 0, 0]);
        Ok(commit.decided())
    }
}

/// What a stored manifest names.
fn references(view: &dyn View, scope: Scope, digest: &Digest) -> Result<Vec<(Digest, Role)>, StorageError> {
    let row = view.get(&keys::manifest_references(scope, digest))?;
    let ReferencesRow(entries) = ReferencesRow::decode_optional(row.as_deref())?.unwrap_or_default();
    Ok(entries.into_iter().map(|entry| (entry.digest, entry.role)).collect())
}

/// Some of the repository's manifests that name a digest in a role that counts, each once. A digest may be a blob to one
/// manifest and a manifest to another, and what guards a reference depends on the role.
pub(crate) fn referencing(
    view: &dyn View,
    scope: Scope,
    digest: &Digest,
    counts: impl Fn(Role) -> bool,
) -> Result<Vec<Digest>, StorageError> {
    let range = keys::back_references(scope, digest);
    let mut manifests =
        collect_some(view, &range, Direction::Forward, REFERENCES_NAMED_MAX, |key, _| match Key::parse(key) {
            Some(Key::BackReference { manifest, role, .. }) => {
                Ok(Role::from_code(role).filter(|role| counts(*role)).map(|_| manifest))
            }
            _ => Err(StorageError::corrupt("back-reference row: malformed key")),
        })?;
    manifests.dedup();
    Ok(manifests)
}

/// A history row for a tag that names nothing any more. The committer knows who and when.
pub(crate) fn dropped(attempt: &Attempt<'_>, from: &Digest) -> Vec<u8> {
    let principal = attempt.principal().clone();
    TagHistoryRow { principal, wall_ms: attempt.wall_ms(), from: Some(*from), to: None }.encode()
}

fn delete_document(
    commit: &mut Commit<DeletedImage>,
    scope: Scope,
    digest: &Digest,
    row: &ManifestRow,
    references: &[(Digest, Role)],
) {
    let batch = &mut commit.batch;
    batch.delete(&keys::manifest(scope, digest));
    batch.delete(&keys::manifest_bytes(scope, digest));
    batch.delete(&keys::manifest_references(scope, digest));
    batch.delete(&keys::pull_time(scope, digest));
    for (referenced, role) in references {
        batch.delete(&keys::back_reference(scope, referenced, digest, role.code()));
    }
    if let Some(subject) = &row.subject {
        batch.delete(&keys::referrer(scope, subject, digest));
    }
}

/// All tags of a manifest.
pub(crate) fn tags_of(view: &dyn View, scope: Scope, digest: &Digest) -> Result<Vec<Tag>, StorageError> {
    let range = keys::tags_by_digest(scope, digest);
    collect(view, &range, Direction::Forward, usize::MAX, |key, _| match Key::parse(key) {
        Some(Key::TagByDigest(_, _, tag)) => Ok(tag),
        _ => Err(StorageError::corrupt("tag-by-digest row: malformed key")),
    })
}

fn reference_of(image: &ImageId) -> Reference {
    match image {
        ImageId::Tag(tag) | ImageId::Both(tag, _) => Reference::Tag(tag.clone()),
        ImageId::Digest(digest) => Reference::Digest(*digest),
    }
}
