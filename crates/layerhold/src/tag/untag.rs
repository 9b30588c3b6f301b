//! Dropping a tag and keeping its manifest.

use crate::call::Call;
use crate::change::RepositoryEvent;
use crate::digest::Digest;
use crate::engine::{Needs, value};
use crate::error::{ErrorKind, Failure, RepositoryNotFound, storage_into};
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys;
use crate::format::values::{ManifestRow, Row, TagRow};
use crate::manifest::dropped_tag;
use crate::name::Tag;
use crate::repository::{Repository, live_row};
use crate::store::{LockMode, StorageError};
use crate::txn::{Commit, Decision, Outcome, Stop, no_limit};

/// Why a tag was not dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UntagError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// No such tag.
    #[error("tag does not exist tag={tag}")]
    NotFound {
        /// The tag.
        tag: Tag,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(UntagError);

impl UntagError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl Outcome for Digest {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.digest(self);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        decoder.digest()
    }
}

impl Repository {
    /// Drops a tag; the manifest stays, with or without other tags. Gives what the tag named. Durable when it returns.
    ///
    /// Immutability does not stand in the way: it is about moving.
    pub fn untag(&self, tag: &Tag, call: &Call) -> Result<Digest, UntagError> {
        let inner = self.inner();
        let mut arguments = self.arguments("untag");
        arguments.str(tag.as_str());
        inner.run(Needs::Writing, call, &mut arguments, no_limit, |attempt| {
            let scope = self.find_or_refuse(attempt)?;
            let (repository_key, tag_key) = (keys::repository(scope), keys::tag(scope, tag));
            let before = TagRow::decode_optional(attempt.view()?.get(&tag_key)?.as_deref())?;
            let Some(TagRow { digest, .. }) = before else {
                attempt.lock::<UntagError>(&[])?;
                return Err(Stop::Refused(UntagError::NotFound { tag: tag.clone() }));
            };
            let manifest_key = keys::manifest(scope, &digest);
            let locks = attempt.lock(&[
                (&repository_key, attempt.repository_mode()),
                (&tag_key, LockMode::Exclusive),
                (&manifest_key, LockMode::Exclusive),
            ])?;
            live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
            let now = TagRow::decode_optional(value(&locks, 1))?;
            if now.is_none_or(|now| now.digest != digest) {
                return Err(Stop::Again);
            }
            let mut row = ManifestRow::decode_optional(value(&locks, 2))?
                .ok_or_else(|| StorageError::corrupt("a tag names a manifest without a row"))?;
            row.tags = row.tags.saturating_sub(1);
            let event = self.event(RepositoryEvent::Untagged { tag: tag.clone(), digest });
            let mut commit = Commit::new(locks, event, digest);
            commit.batch.delete(&tag_key);
            commit.batch.delete(&keys::tag_by_digest(scope, &digest, tag));
            commit.batch.put(&manifest_key, &row.encode());
            commit.sequenced.push((keys::tag_history_stem(scope, tag), dropped_tag(attempt, &digest)));
            commit.add(keys::repository_usage(scope), [0, -1, 0, 0]);
            Ok::<Decision<Digest>, Stop<UntagError>>(commit.decided())
        })
    }
}
