//! The end of a session: its bytes become a blob that the repository may read.

use crate::blob::fingerprint::Fingerprint;
use crate::call::Call;
use crate::change::RepositoryEvent;
use crate::digest::{Algorithm, Digest};
use crate::engine::{collect, value};
use crate::format::codec::{Decoder, Encoder};
use crate::format::footer::Footer;
use crate::format::keys;
use crate::format::values::{BlobRow, BlobState, GroupsRow, LinkRow, Placement, Row, UploadRow};
use crate::options::ReadBack;
use crate::repository::{Repository, live_row};
use crate::store::{Direction, LockMode, StorageError};
use crate::txn::{Commit, Decision, Outcome, Stop, no_limit};

use super::UploadId;
use super::errors::{AppendError, CompleteError, UploadDamaged, UploadNotFound};
use super::session::{End, Live, drop_session};
use super::staging::{Staged, is_damage, reread};

/// What the caller knows of the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the computed digest, of the session's algorithm, is the blob's.
    Computed,
    /// It must be this one. With another algorithm than the session's the staged bytes are read once more.
    Digest(Digest),
    /// Nothing, but the SHA-256 digest is the blob's. In a session of another algorithm the staged bytes are read once more.
    Sha256,
    /// The same, and it must be one of these; those of other algorithms count for nothing.
    AnyOf(Vec<Digest>),
}

/// What becomes of a session without bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyUpload {
    /// A blob of no bytes.
    Accept,
    /// It is refused ([`CompleteError::Empty`]).
    Refuse,
}

/// How a session is to be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteUpload {
    /// What the caller knows of the digest.
    pub expected: Expected,
    /// What every part but the last must have, in bytes.
    pub part_bytes_min: Option<u64>,
    /// What becomes of a session without bytes.
    pub empty: EmptyUpload,
}

impl CompleteUpload {
    /// Completes whatever bytes there are, if the caller's expectation holds.
    #[must_use]
    pub fn expecting(expected: Expected) -> Self {
        Self { expected, part_bytes_min: None, empty: EmptyUpload::Accept }
    }
}

/// A session that became a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Whether the repository could read the blob before. Its bytes are the ones just sent all the same.
    pub already_linked: bool,
    /// Whether the bytes that were stored before were known to be damaged: then they counted as absent for a push.
    pub healed: bool,
}

impl Outcome for Completed {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.digest(&self.digest).u64(self.size).bool(self.already_linked).bool(self.healed);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            digest: decoder.digest()?,
            size: decoder.u64()?,
            already_linked: decoder.bool()?,
            healed: decoder.bool()?,
        })
    }
}

impl Repository {
    /// Makes a session's bytes a blob. Durable when it returns; the bytes are not read again.
    ///
    /// Where the digest is live already, the bytes just sent take the place of the old ones: so pushing again heals
    /// damage, even damage that nobody noticed.
    pub fn complete_upload(
        &self,
        id: &UploadId,
        complete: &CompleteUpload,
        call: &Call,
    ) -> Result<Completed, CompleteError> {
        match self.upload_writer(id, None, call) {
            Ok(writer) => writer.complete(complete),
            // The session may be gone because this very call was carried out before.
            Err(error) => {
                let before = self.inner().txn.replayed(call, &mut self.completion_arguments(id, complete))?;
                before.ok_or_else(|| error.into())
            }
        }
    }

    /// Stores `bytes` as a blob in one step. Durable when it returns; nothing is left behind where it fails.
    pub fn put_blob(&self, bytes: &[u8], expected: &Expected, call: &Call) -> Result<Completed, CompleteError> {
        let arguments = || {
            let mut arguments = self.arguments("put blob");
            // Asked for only where an id may be used twice: it costs a pass over the bytes.
            let bytes = call.operation_id.map_or([0; 32], |_| *blake3::hash(bytes).as_bytes());
            encode_expected(arguments.raw(&bytes), expected);
            arguments
        };
        if let Some(completed) = self.inner().txn.replayed(call, &mut arguments())? {
            return Ok(completed);
        }
        let algorithm = match expected {
            Expected::Digest(digest) => digest.algorithm(),
            Expected::Computed | Expected::Sha256 | Expected::AnyOf(_) => Algorithm::Sha256,
        };
        // A writer would find out piece by piece, when a session is already there.
        let (size, limit) = (bytes.len() as u64, self.registry.limits.blob_bytes);
        if size > limit {
            let view = self.inner().txn.store.view()?;
            self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
            return Err(AppendError::TooLarge { size, limit }.into());
        }
        let id = self.begin_upload(algorithm, call)?;
        let put = self.upload_writer(&id, Some(0), call).map_err(CompleteError::from).and_then(|mut writer| {
            writer.write(bytes)?;
            writer.complete_as(&CompleteUpload::expecting(expected.clone()), arguments())
        });
        // Under an id, another call of the same may have been faster, and then this session is still there.
        if put.is_err() || call.operation_id.is_some() {
            drop(self.cancel_upload(&id, &Call::by(call.principal.clone())));
        }
        put
    }

    pub(crate) fn completion_arguments(&self, id: &UploadId, complete: &CompleteUpload) -> Encoder {
        let mut arguments = self.arguments("complete upload");
        encode_expected(arguments.raw(&id.0), &complete.expected);
        arguments
    }

    /// Completes a session whose writer the caller is, as one commit under `arguments`.
    pub(crate) fn complete_session(
        &self,
        id: &UploadId,
        live: &mut Live,
        complete: &CompleteUpload,
        arguments: Encoder,
        call: &Call,
    ) -> Result<Completed, CompleteError> {
        self.inner().check_room()?;
        check_shape(id, live, complete)?;
        let digest = self.judge_digest(id, live, &complete.expected).inspect_err(|error| match error {
            // A session with the wrong bytes can never complete; its end is not this call's news.
            CompleteError::DigestMismatch { .. } => {
                drop(self.end_session(id, End::Cancelled, &Call::by(call.principal.clone())));
            }
            CompleteError::Damaged(_) => {
                drop(self.end_session(id, End::Damaged, &Call::by(call.principal.clone())));
            }
            _ => {}
        })?;
        self.publish(id, live, digest, arguments, call)
    }

    /// The digest of the staged bytes by another algorithm. They are read back, so they are checked against what came.
    fn reread_digest(&self, id: &UploadId, live: &mut Live, algorithm: Algorithm) -> Result<Digest, CompleteError> {
        let fingerprint = live.lane.hashes().fingerprint.clone();
        let (digest, found) = match reread(&live.staged, live.offset, algorithm, fingerprint.group_len()) {
            Ok(hashers) => hashers,
            Err(error) if is_damage(&error) => return Err(UploadDamaged { upload: *id }.into()),
            Err(error) => return Err(error.into()),
        };
        if found.finish().root != fingerprint.finish().root {
            return Err(UploadDamaged { upload: *id }.into());
        }
        Ok(digest.finalize())
    }

    fn judge_digest(&self, id: &UploadId, live: &mut Live, expected: &Expected) -> Result<Digest, CompleteError> {
        let mut computed = live.lane.hashes().digest.clone().finalize();
        let algorithm = match expected {
            Expected::Computed => computed.algorithm(),
            Expected::Digest(digest) => digest.algorithm(),
            Expected::Sha256 | Expected::AnyOf(_) => Algorithm::Sha256,
        };
        if algorithm != computed.algorithm() {
            computed = self.reread_digest(id, live, algorithm)?;
        }
        let right = match expected {
            Expected::Computed | Expected::Sha256 => true,
            Expected::Digest(digest) => *digest == computed,
            Expected::AnyOf(digests) => digests.contains(&computed),
        };
        if right { Ok(computed) } else { Err(CompleteError::DigestMismatch { computed }) }
    }

    /// Whether the bytes that are to become a blob are still those that came.
    fn read_back(
        &self,
        id: &UploadId,
        live: &Live,
        digest: &Digest,
        fingerprint: &Fingerprint,
    ) -> Result<(), CompleteError> {
        if let Staged::File(file) = &live.staged {
            file.forget();
        }
        let damaged = || CompleteError::from(UploadDamaged { upload: *id });
        let read = reread(&live.staged, live.offset, digest.algorithm(), fingerprint.group_len);
        let (found, tree) = read.map_err(|error| if is_damage(&error) { damaged() } else { error.into() })?;
        if found.finalize() == *digest && tree.finish().root == fingerprint.root { Ok(()) } else { Err(damaged()) }
    }

    fn publish(
        &self,
        id: &UploadId,
        live: &mut Live,
        digest: Digest,
        mut arguments: Encoder,
        call: &Call,
    ) -> Result<Completed, CompleteError> {
        let inner = self.inner();
        let size = live.offset;
        let fingerprint = live.lane.hashes().fingerprint.clone().finish();
        let group_len = fingerprint.group_len.get();
        let location = live.row.location;
        let placement = match &mut live.staged {
            Staged::Small(_) => Placement::Inline(location),
            Staged::File(file) => {
                let footer = Footer { digest, size, group_len, root: fingerprint.root };
                if let Err(error) = file.publish(size, &footer.encode()) {
                    self.give_up_file(id, &error, call);
                    return Err(error.into());
                }
                Placement::File(location)
            }
        };
        if inner.options.read_back == ReadBack::BeforeCommit {
            self.read_back(id, live, &digest, &fingerprint).inspect_err(|error| {
                if matches!(error, CompleteError::Damaged(_)) {
                    drop(self.end_session(id, End::Damaged, &Call::by(call.principal.clone())));
                }
            })?;
        }
        let before = live.row.clone();
        inner.session_ends()?;
        let (mut replaced, mut ended) = (None, false);
        let scope = before.scope;
        let completed = inner.txn.run(call, &mut arguments, no_limit, |attempt| {
            (replaced, ended) = (None, false);
            let repository_key = keys::repository(scope);
            let upload_key = keys::upload(&id.0);
            let blob_key = keys::blob(scope.registry, &digest);
            let link_key = keys::link(scope, &digest);
            let locks = attempt.lock(&[
                (&repository_key, attempt.repository_mode()),
                (&upload_key, LockMode::Exclusive),
                (&blob_key, LockMode::Exclusive),
                (&link_key, LockMode::Exclusive),
            ])?;
            if live_row(value(&locks, 0))?.is_none() {
                return Err(Stop::Refused(self.not_found().into()));
            }
            match UploadRow::decode_optional(value(&locks, 1))? {
                Some(stored) if stored.offset == before.offset && stored.location == before.location => {}
                _ => return Err(Stop::Refused(UploadNotFound { upload: *id }.into())),
            }
            let old = BlobRow::decode_optional(value(&locks, 2))?;
            let link = LinkRow::decode_optional(value(&locks, 3))?;
            let healed = old.is_some_and(|old| old.state == BlobState::Quarantined);
            let event = self.event(if healed {
                RepositoryEvent::BlobHealed { digest }
            } else {
                RepositoryEvent::BlobUploaded { digest }
            });
            let result = Completed { digest, size, already_linked: link.is_some(), healed };
            let mut commit = Commit::new(locks, event, result);
            let batch = &mut commit.batch;
            let view = attempt.view()?;
            drop_session(view.as_ref(), batch, id, &before)?;
            let values_of_parts = if matches!(live.staged, Staged::Small(_)) && before.offset >= u64::from(group_len) {
                let range = keys::all_groups(location);
                collect(view.as_ref(), &range, Direction::Forward, usize::MAX, |key, _| Ok(key.to_vec()))?
            } else {
                Vec::new()
            };
            drop(view);
            match &live.staged {
                Staged::Small(bytes) => {
                    batch.put(&keys::inline_bytes(location), bytes);
                    // Parts wrote values for a file that never came to be; a small blob is verified by its root alone.
                    for key in &values_of_parts {
                        batch.delete(key);
                    }
                }
                Staged::File(_) if fingerprint.group_count > 1 && !fingerprint.remaining.values.is_empty() => {
                    let first = u32::try_from(fingerprint.remaining.first).unwrap_or(u32::MAX);
                    let values = GroupsRow(fingerprint.remaining.values.clone());
                    batch.put(&keys::groups(location, first), &values.encode(location, first));
                }
                Staged::File(_) => {}
            }
            replaced = old.map(|old| old.placement);
            match replaced {
                Some(Placement::Inline(old)) => batch.delete(&keys::inline_bytes(old)),
                Some(Placement::File(old)) => batch.put(&keys::removal(old), &[]),
                None => {}
            }
            if old.is_some() {
                // What could not be read is not what is stored any more.
                batch.delete(&keys::suspect(scope.registry, &digest));
            }
            let now_ms = attempt.now_ms();
            let lease_until_ms =
                now_ms.saturating_add(inner.options.lease_ms).max(old.map_or(0, |old| old.lease_until_ms));
            let row = BlobRow {
                state: BlobState::Live,
                generation: old.map_or(1, |old| old.generation.wrapping_add(1)),
                size,
                stored_size: size,
                codec: 0,
                key_id: 0,
                key_version: 0,
                group_len,
                root: fingerprint.root,
                placement,
                lease_until_ms,
                verified_ms: now_ms,
            };
            batch.put(&blob_key, &row.encode());
            if link.is_none() {
                let link = LinkRow { size, media_type: None, linked_wall_ms: attempt.wall_ms() };
                batch.put(&link_key, &link.encode());
                batch.put(&keys::link_back(scope, &digest), &[]);
                let bytes = i64::try_from(size).unwrap_or(i64::MAX);
                commit.add(keys::repository_usage(scope), [0, 0, 1, bytes]);
            }
            let stored = i64::try_from(size).unwrap_or(i64::MAX);
            let before_bytes = old.map_or(0, |old| i64::try_from(old.stored_size).unwrap_or(i64::MAX));
            commit.add(keys::registry_usage(scope.registry), [0, 0, i64::from(old.is_none()), stored - before_bytes]);
            ended = true;
            Ok::<Decision<Completed>, Stop<CompleteError>>(commit.decided())
        })?;
        if ended {
            inner.session_ended(scope.registry);
        }
        if let Some(Placement::File(old)) = replaced {
            inner.retire(old);
        }
        Ok(completed)
    }
}

fn check_shape(id: &UploadId, live: &Live, complete: &CompleteUpload) -> Result<(), CompleteError> {
    if live.offset == 0 && complete.empty == EmptyUpload::Refuse {
        return Err(CompleteError::Empty { upload: *id });
    }
    match (complete.part_bytes_min, live.row.shortest_part) {
        (Some(limit), Some((part, size))) if size < limit => Err(CompleteError::PartTooSmall { part, size, limit }),
        _ => Ok(()),
    }
}

fn encode_expected(encoder: &mut Encoder, expected: &Expected) {
    match expected {
        Expected::Computed => encoder.u8(0),
        Expected::Digest(digest) => encoder.u8(1).digest(digest),
        Expected::AnyOf(digests) => encoder.u8(2).list(digests.iter(), |e, digest| {
            e.digest(digest);
        }),
        Expected::Sha256 => encoder.u8(3),
    };
}
