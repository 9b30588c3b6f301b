//! A session: its row, what is known of it beyond the row while it is written, and how it begins and ends.

use std::sync::Arc;

use crate::blob::fingerprint::{FingerprintHasher, Frontier, GroupLen, group_value};
use crate::call::Call;
use crate::change::RepositoryEvent;
use crate::digest::{Algorithm, DigestHasher};
use crate::engine::{Inner, Needs, collect, value};
use crate::format::codec::Encoder;
use crate::format::keys::{self, Scope};
use crate::format::values::{GroupsRow, Row, Staging, UploadPartRow, UploadRow};
use crate::name::Principal;
use crate::repository::{Repository, live_row};
use crate::store::{Batch, Direction, Location, LockMode, StorageError, View};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::UploadId;
use super::errors::{AppendError, BeginError, CancelError, StatusError, UploadNotFound};
use super::lane::{Hashes, Lane, SharedBytes};
use super::part::PartAccepted;
use super::staging::{Staged, reread};

/// Sessions of at most this many parts lose their part rows when they end; others later, in bounded steps.
pub(crate) const PARTS_AT_ONCE: usize = 8;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadStatus {
    /// The session.
    pub id: UploadId,
    /// Length of the durable bytes: where the next part must begin.
    pub offset: u64,
    /// Parts accepted so far; streamed bodies count for none.
    pub parts: u32,
    /// The algorithm that runs while bytes arrive.
    pub algorithm: Algorithm,
    /// Engine time in milliseconds after which the session is gone.
    pub expires_ms: u64,
}

/// A session as its writer holds it.
pub(crate) struct Live {
    /// The durable state.
    pub(crate) row: UploadRow,
    /// Length of the bytes taken so far, durable or not.
    pub(crate) offset: u64,
    pub(crate) staged: Staged,
    pub(crate) lane: Lane,
}

/// Why a session ends without a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody asked for it, or its bytes are of no use.
    Cancelled,
    /// What is stored of it is damaged.
    Damaged,
}

/// What a part adds to the session's row and beside it.
pub(crate) struct PartRecord {
    pub(crate) first_byte: u64,
    pub(crate) row: UploadPartRow,
}

impl Repository {
    /// Begins an upload session, of which a registry has at most [`open_uploads`](crate::Limits::open_uploads) open. The start
    /// alone is not synced: a session without a part may be gone after a crash.
    ///
    /// `algorithm` runs while bytes arrive; completing with a digest of another one reads the staged bytes once more.
    pub fn begin_upload(&self, algorithm: Algorithm, call: &Call) -> Result<UploadId, BeginError> {
        let inner = self.inner();
        inner.check_room()?;
        let scope = self.peek()?.ok_or_else(|| self.not_found())?;
        let beginning = inner.session_begins(scope.registry, self.registry.limits.open_uploads)??;
        let id = UploadId(inner.txn.random());
        let repository_key = keys::repository(scope);
        let upload_key = keys::upload(&id.0);
        let locks =
            inner.txn.store.lock_and_get(&[(&repository_key, LockMode::Shared), (&upload_key, LockMode::Exclusive)])?;
        if live_row(value(&locks, 0))?.is_none() {
            return Err(self.not_found().into());
        }
        let row = inner.new_session(scope, call.principal.clone(), algorithm)?;
        let mut batch = Batch::new();
        batch.put(&upload_key, &row.encode());
        batch.put(&keys::upload_expiry(row.expires_ms, &id.0), &[]);
        inner.txn.committer.submit_relaxed(locks, batch)?;
        beginning.begun();
        Ok(id)
    }

    /// Where a session stands. A session of another principal does not exist.
    pub fn upload_status(&self, id: &UploadId, call: &Call) -> Result<UploadStatus, StatusError> {
        let view = self.inner().txn.store.view()?;
        let (_, row) = self.session(view.as_ref(), id, &call.principal)?;
        Ok(UploadStatus {
            id: *id,
            offset: row.offset,
            parts: row.parts,
            algorithm: row.algorithm,
            expires_ms: row.expires_ms,
        })
    }

    /// Ends a session and gives its bytes up. Durable when it returns.
    pub fn cancel_upload(&self, id: &UploadId, call: &Call) -> Result<(), CancelError> {
        let inner = self.inner();
        let held = inner.writers.acquire(*id, inner.options.lock_wait_ms, inner.components.clock.as_ref())?;
        drop(held);
        let ended = self.end_session(id, End::Cancelled, call);
        inner.writers.release(*id, None);
        ended
    }

    /// Ends a session whose writer the caller is.
    pub(crate) fn end_session(&self, id: &UploadId, end: End, call: &Call) -> Result<(), CancelError> {
        let inner = self.inner();
        let mut arguments = self.arguments("cancel upload");
        arguments.raw(&id.0);
        inner.session_ends()?;
        let mut ended = None;
        inner.run(Needs::Writing, call, &mut arguments, no_limit, |attempt| {
            ended = None;
            let scope = self.find_or_refuse(attempt)?;
            let repository_key = keys::repository(scope);
            let upload_key = keys::upload(&id.0);
            let locks =
                attempt.lock(&[(&repository_key, attempt.repository_mode()), (&upload_key, LockMode::Exclusive)])?;
            live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
            let row = UploadRow::decode_optional(value(&locks, 1))?
                .filter(|row| row.belongs_to(scope, &call.principal) && row.expires_ms > attempt.now_ms())
                .ok_or(Stop::Refused(UploadNotFound { upload: *id }.into()))?;
            let event = self.event(match end {
                End::Cancelled => RepositoryEvent::UploadEnded { upload: *id },
                End::Damaged => RepositoryEvent::UploadDamaged { upload: *id },
            });
            let mut commit = Commit::new(locks, event, ());
            drop_session(attempt.view()?.as_ref(), &mut commit.batch, id, &row)?;
            // Also where the row knows of no file: bytes that no commit spoke of may be in one.
            commit.batch.put(&keys::removal(row.location), &[]);
            ended = Some((scope.registry, row.location));
            Ok::<Decision<()>, Stop<CancelError>>(commit.decided())
        })?;
        if let Some((registry, location)) = ended {
            inner.session_ended(registry);
            inner.retire(location);
        }
        Ok(())
    }

    /// Ends a session whose file failed in a sync: nothing is known of the file any more, and no sync is tried twice.
    pub(crate) fn give_up_file(&self, id: &UploadId, error: &StorageError, call: &Call) {
        if error.is_failed_sync() {
            drop(self.end_session(id, End::Cancelled, &Call::by(call.principal.clone())));
            // After its session: this one may be the last that the store takes.
            self.inner().note_failed_sync(error);
        }
    }

    /// The session's row, if the session is this repository's and this principal's.
    pub(crate) fn session(
        &self,
        view: &dyn View,
        id: &UploadId,
        principal: &Principal,
    ) -> Result<(Scope, UploadRow), StatusError> {
        let scope = self.find(view)?.ok_or_else(|| self.not_found())?;
        let row = view.get(&keys::upload(&id.0))?;
        let row = UploadRow::decode_optional(row.as_deref())?
            .filter(|row| row.belongs_to(scope, principal) && row.expires_ms > self.inner().txn.committer.now_ms())
            .ok_or(UploadNotFound { upload: *id })?;
        Ok((scope, row))
    }

    /// Makes the bytes of `live` durable under its session: bytes first, then the row that speaks of them.
    pub(crate) fn commit_session(
        &self,
        id: &UploadId,
        live: &mut Live,
        part: Option<&PartRecord>,
        call: &Call,
    ) -> Result<PartAccepted, AppendError> {
        let inner = self.inner();
        let mut row = live.row.clone();
        let groups = live.advance(&mut row);
        row.expires_ms = inner.txn.committer.now_ms().saturating_add(inner.options.upload_idle_ms);
        let bytes = match &mut live.staged {
            Staged::Small(bytes) => Some(bytes.clone()),
            Staged::File(file) => {
                if let Err(error) = file.sync() {
                    self.give_up_file(id, &error, call);
                    return Err(error.into());
                }
                row.staging = Staging::File;
                None
            }
        };
        if let Some(part) = part {
            row.count_part(part.row.len);
        }
        // A caller's operation id stands for one part alone; other commits of a session have none of their own.
        let mut arguments = part.map_or_else(Encoder::bare, |part| self.part_arguments(id, part));
        let before = live.row.clone();
        let accepted = inner.txn.run(call, &mut arguments, no_limit, |attempt| {
            let repository_key = keys::repository(row.scope);
            let upload_key = keys::upload(&id.0);
            let locks =
                attempt.lock(&[(&repository_key, attempt.repository_mode()), (&upload_key, LockMode::Exclusive)])?;
            if live_row(value(&locks, 0))?.is_none() {
                return Err(Stop::Refused(self.not_found().into()));
            }
            match UploadRow::decode_optional(value(&locks, 1))? {
                Some(stored) if stored.offset == before.offset && stored.location == before.location => {}
                _ => return Err(Stop::Refused(UploadNotFound { upload: *id }.into())),
            }
            let event = RepositoryEvent::UploadAdvanced { upload: *id, offset: row.offset };
            let accepted = PartAccepted { durable_offset: row.offset, part: row.parts };
            let mut commit = Commit::new(locks, self.event(event), accepted);
            commit.batch.put(&upload_key, &row.encode());
            commit.batch.delete(&keys::upload_expiry(before.expires_ms, &id.0));
            commit.batch.put(&keys::upload_expiry(row.expires_ms, &id.0), &[]);
            if let Some(bytes) = &bytes {
                commit.batch.put(&keys::upload_bytes(&id.0), bytes);
            } else if before.staging == Staging::Row && before.offset > 0 {
                commit.batch.delete(&keys::upload_bytes(&id.0));
            }
            if let Some((first, values)) = &groups {
                commit.batch.put(&keys::groups(row.location, *first), &values.encode(row.location, *first));
            }
            if let Some(part) = part {
                commit.batch.put(&keys::upload_part(&id.0, part.first_byte), &part.row.encode());
            }
            Ok::<Decision<PartAccepted>, Stop<AppendError>>(commit.decided())
        })?;
        live.row = row;
        Ok(accepted)
    }
}

impl UploadRow {
    /// Whether the session may be used through a repository by a principal.
    pub(crate) fn belongs_to(&self, scope: Scope, principal: &Principal) -> bool {
        self.scope == scope && self.principal == *principal
    }

    fn count_part(&mut self, len: u64) {
        if self.parts > 0 && self.shortest_part.is_none_or(|(_, shortest)| self.last_part_len < shortest) {
            self.shortest_part = Some((self.parts, self.last_part_len));
        }
        self.parts += 1;
        self.last_part_len = len;
    }
}

impl Live {
    /// A session that holds nothing yet.
    pub(crate) fn fresh(row: UploadRow, group_len: GroupLen) -> Self {
        let lane = Lane::new(Hashes::new(row.algorithm, group_len));
        Self { offset: 0, staged: Staged::Small(Vec::new()), lane, row }
    }

    /// Takes a session up again at its last durable byte. What is stored of it is checked as far as it is read;
    /// [`is_damage`] tells damage from a failure that may pass.
    pub(crate) fn resume(inner: &Inner, id: &UploadId, row: UploadRow) -> Result<Self, StorageError> {
        if row.offset == 0 {
            return Ok(Self::fresh(row, inner.options.group_len));
        }
        let staged = match row.staging {
            Staging::Row => {
                let bytes = inner.txn.store.view()?.get(&keys::upload_bytes(&id.0))?.unwrap_or_default();
                if bytes.len() as u64 != row.offset {
                    return Err(StorageError::corrupt(format!("bytes of upload {id}: length {}", bytes.len())));
                }
                Staged::Small(bytes)
            }
            Staging::File => Staged::File(inner.blobs.resume(row.location, row.offset)?),
        };
        let damaged = |error: &dyn std::fmt::Display| StorageError::corrupt(format!("state of upload {id}: {error}"));
        let frontier = Frontier::parse(&row.frontier).map_err(|error| damaged(&error))?;
        if frontier.offset() != row.offset {
            return Err(damaged(&"it is of another offset"));
        }
        let mut tail = vec![0; frontier.tail_len()];
        staged.read_exact_at(&mut tail, frontier.tail_start())?;
        let group = frontier.group_len().group_of(frontier.tail_start());
        if row.tail != (!tail.is_empty()).then(|| group_value(frontier.group_len(), group, &tail, false)).flatten() {
            return Err(StorageError::corrupt(format!("staged bytes of upload {id} from {}", frontier.tail_start())));
        }
        let fingerprint = FingerprintHasher::restore(&row.frontier, &tail).map_err(|error| damaged(&error))?;
        let digest = match DigestHasher::restore(&row.hash_state) {
            Ok(digest) => digest,
            Err(_) => {
                // A state of another version of the hash library: the bytes themselves are still there. They are read
                // back, so they are checked against the fingerprint of what came.
                let (digest, mut found) = reread(&staged, row.offset, row.algorithm, frontier.group_len())?;
                drop(found.take_groups());
                if found.save_frontier() != row.frontier || found.tail_value() != row.tail {
                    return Err(StorageError::corrupt(format!("staged bytes of upload {id}")));
                }
                digest
            }
        };
        let lane = Lane::new(Hashes { digest, fingerprint });
        Ok(Self { offset: row.offset, staged, lane, row })
    }

    /// Gives up what was taken since the last commit. A file that no commit spoke of is nobody's and goes at once; where
    /// one may have spoken of it (its outcome is not known), this must not be called.
    pub(crate) fn discard(self, inner: &Inner) {
        let Self { row, staged, .. } = self;
        if row.staging == Staging::Row && matches!(staged, Staged::File(_)) {
            drop(staged);
            // Should it stay, it goes with the session.
            drop(inner.blobs.delete(row.location));
        }
    }

    /// Takes bytes at the end.
    pub(crate) fn append(&mut self, inner: &Inner, bytes: &SharedBytes) -> Result<(), StorageError> {
        self.lane.push(bytes, inner.components.spawner.as_deref(), &inner.upload_memory);
        let slice = bytes.as_ref().as_ref();
        self.staged.append(inner, self.row.location, self.offset, slice)?;
        self.offset += slice.len() as u64;
        Ok(())
    }

    /// Brings a copy of the row up to the bytes taken so far; gives the chaining values that became final.
    pub(crate) fn advance(&mut self, row: &mut UploadRow) -> Option<(u32, GroupsRow)> {
        let offset = self.offset;
        let mut hashes = self.lane.hashes();
        let run = hashes.fingerprint.take_groups();
        row.offset = offset;
        row.hash_state = hashes.digest.save();
        row.frontier = hashes.fingerprint.save_frontier();
        row.tail = hashes.fingerprint.tail_value();
        let first = u32::try_from(run.first).unwrap_or(u32::MAX);
        (!run.values.is_empty()).then_some((first, GroupsRow(run.values)))
    }
}

/// Writes that end a session: its row, its place among expiries, its bytes and its parts.
pub(crate) fn drop_session(
    view: &dyn View,
    batch: &mut Batch,
    id: &UploadId,
    row: &UploadRow,
) -> Result<(), StorageError> {
    batch.delete(&keys::upload(&id.0));
    batch.delete(&keys::upload_expiry(row.expires_ms, &id.0));
    if row.staging == Staging::Row && row.offset > 0 {
        batch.delete(&keys::upload_bytes(&id.0));
    }
    if row.parts > 0 {
        let range = keys::upload_parts(&id.0);
        let parts = collect(view, &range, Direction::Forward, PARTS_AT_ONCE + 1, |key, _| Ok(key.to_vec()))?;
        if parts.len() > PARTS_AT_ONCE {
            batch.put(&keys::upload_sweep(&id.0), &[]);
        } else {
            parts.iter().for_each(|key| batch.delete(key));
        }
    }
    Ok(())
}

impl Inner {
    fn new_session(&self, scope: Scope, principal: Principal, algorithm: Algorithm) -> Result<UploadRow, StorageError> {
        let hashes = Hashes::new(algorithm, self.options.group_len);
        Ok(UploadRow {
            scope,
            principal,
            algorithm,
            location: Location(self.txn.random()),
            staging: Staging::Row,
            offset: 0,
            parts: 0,
            last_part_len: 0,
            shortest_part: None,
            hash_state: hashes.digest.save(),
            frontier: hashes.fingerprint.save_frontier(),
            tail: None,
            expires_ms: self.txn.committer.now_ms().saturating_add(self.options.upload_idle_ms),
        })
    }
}

/// Bytes of the caller, shared with the thread that hashes them.
pub(crate) fn share(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> SharedBytes {
    Arc::new(bytes)
}
