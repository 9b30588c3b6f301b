//! What a repository may do with blobs: ask for them, open, mount and delete them.

use crate::call::Call;
use crate::change::RepositoryEvent;
use crate::descriptor::MediaType;
use crate::digest::Digest;
use crate::engine::{Needs, value};
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys::{self, KeyBytes, Scope};
use crate::format::values::{BlobRow, BlobState, LinkRow, Row};
use crate::manifest::{Role, referencing};
use crate::name::RepositoryName;
use crate::repository::{Repository, live_row};
use crate::store::{Batch, LockMode, StorageError};
use crate::txn::{Commit, Decision, Outcome, Stop, no_limit};

use super::errors::{DeleteError, MountError, OpenError, ReadError};
use super::reader::{BlobReader, Opened};

/// Whether a repository may read a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobStatus {
    /// It may not: there is no such blob, only others may read it, or its bytes are damaged and should be sent again.
    Absent,
    /// It may, and for a while the blob will not go away even if nothing references it.
    Present {
        /// Its length in bytes.
        size: u64,
        /// What the first manifest that named it calls it.
        media_type: Option<MediaType>,
    },
}

/// What a check found, before any lease is extended.
struct Checked {
    scope: Scope,
    statuses: Vec<BlobStatus>,
    /// The blobs whose lease has less than half its term left.
    to_lease: Vec<Digest>,
}

/// A blob that became readable in another repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountedBlob {
    /// Its length in bytes.
    pub size: u64,
    /// Whether it was readable there before.
    pub already_linked: bool,
}

impl Outcome for MountedBlob {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.size).bool(self.already_linked);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { size: decoder.u64()?, already_linked: decoder.bool()? })
    }
}

impl Repository {
    /// For each digest, in order, whether the repository may read the blob.
    ///
    /// The answer "present" lets a client skip an upload, so it comes with a lease: the blob stays for at least half of
    /// [`lease_ms`](crate::Options::lease_ms) even if nothing references it. Leases are not synced.
    pub fn check_blobs(&self, digests: &[Digest]) -> Result<Vec<BlobStatus>, ReadError> {
        let Checked { scope, mut statuses, to_lease } = self.find_blobs(digests)?;
        if !to_lease.is_empty() {
            let kept = self.lease(scope, &to_lease)?;
            for (digest, status) in digests.iter().zip(&mut statuses) {
                if to_lease.contains(digest) && !kept.contains(digest) {
                    *status = BlobStatus::Absent;
                }
            }
        }
        Ok(statuses)
    }

    /// The same where reading is all that it takes. `None` where a lease is to be extended, which waits for whoever holds
    /// the blob's row and for others' syncs: a caller may have threads of its own for that.
    pub fn check_blobs_at_once(&self, digests: &[Digest]) -> Result<Option<Vec<BlobStatus>>, ReadError> {
        let Checked { statuses, to_lease, .. } = self.find_blobs(digests)?;
        Ok(to_lease.is_empty().then_some(statuses))
    }

    fn find_blobs(&self, digests: &[Digest]) -> Result<Checked, ReadError> {
        let inner = self.inner();
        let view = inner.txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let rows: Vec<_> =
            digests.iter().flat_map(|digest| [keys::blob(scope.registry, digest), keys::link(scope, digest)]).collect();
        let rows: Vec<_> = rows.iter().map(KeyBytes::as_slice).collect();
        let values = view.get_many(&rows)?;
        drop(view);
        let now_ms = inner.txn.committer.now_ms();
        let half_term_ms = now_ms.saturating_add(inner.options.lease_ms / 2);
        let mut statuses = Vec::with_capacity(digests.len());
        let mut to_lease = Vec::new();
        let (pairs, _) = values.as_chunks::<2>();
        for (digest, [blob, link]) in digests.iter().zip(pairs) {
            let blob = BlobRow::decode_optional(blob.as_deref())?.filter(|blob| blob.state == BlobState::Live);
            let link = LinkRow::decode_optional(link.as_deref())?;
            statuses.push(match (blob, link) {
                (Some(blob), Some(link)) => {
                    if blob.lease_until_ms < half_term_ms {
                        to_lease.push(*digest);
                    }
                    BlobStatus::Present { size: blob.size, media_type: link.media_type }
                }
                _ => BlobStatus::Absent,
            });
        }
        Ok(Checked { scope, statuses, to_lease })
    }

    /// Extends the leases of blobs to the full term; gives those that are still there.
    fn lease(&self, scope: Scope, digests: &[Digest]) -> Result<Vec<Digest>, StorageError> {
        let inner = self.inner();
        let until_ms = inner.txn.committer.now_ms().saturating_add(inner.options.lease_ms);
        self.lease_until(scope, digests, until_ms)
    }

    /// Extends leases to an engine time; gives the blobs that are still there.
    pub(crate) fn lease_until(
        &self,
        scope: Scope,
        digests: &[Digest],
        until_ms: u64,
    ) -> Result<Vec<Digest>, StorageError> {
        let inner = self.inner();
        if inner.check_writable().is_err() {
            // A store that takes no writes removes nothing either.
            return Ok(digests.to_vec());
        }
        let rows: Vec<_> = digests.iter().map(|digest| keys::blob(scope.registry, digest)).collect();
        let wanted: Vec<_> = rows.iter().map(|key| (key.as_slice(), LockMode::Exclusive)).collect();
        let locks = inner.txn.store.lock_and_get(&wanted)?;
        let mut batch = Batch::new();
        let mut kept = Vec::with_capacity(digests.len());
        for ((digest, key), stored) in digests.iter().zip(&rows).zip(locks.values().iter()) {
            let Some(mut row) = BlobRow::decode_optional(stored)? else { continue };
            if row.state != BlobState::Live {
                continue;
            }
            kept.push(*digest);
            if row.lease_until_ms < until_ms {
                row.lease_until_ms = until_ms;
                batch.put(key, &row.encode());
            }
        }
        match inner.txn.committer.submit_relaxed(locks, batch) {
            // As above: reads go on, and nothing is removed.
            Ok(()) | Err(StorageError::Poisoned { .. }) => Ok(kept),
            Err(error) => Err(error),
        }
    }

    /// Opens a blob for verified reads.
    pub fn blob(&self, digest: &Digest) -> Result<BlobReader, OpenError> {
        let scope = {
            let view = self.inner().txn.store.view()?;
            let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
            if view.get(&keys::link(scope, digest))?.is_none() {
                return Err(OpenError::NotFound { digest: *digest });
            }
            scope
        };
        match self.registry.engine.open_blob(scope.registry, digest)? {
            Opened::Reader(reader) => Ok(reader),
            Opened::Absent => Err(OpenError::NotFound { digest: *digest }),
            Opened::Corrupt => Err(OpenError::Corrupt { digest: *digest }),
        }
    }

    /// Makes a blob of another repository of the registry readable here. No bytes move. Durable when it returns. It lets
    /// a client skip an upload, so it comes with a lease as [`Repository::check_blobs`] gives it.
    pub fn mount_blob(&self, digest: &Digest, from: &RepositoryName, call: &Call) -> Result<MountedBlob, MountError> {
        let inner = self.inner();
        let source = self.registry.repository(from);
        let mut arguments = self.arguments("mount blob");
        arguments.digest(digest).str(from.as_str());
        let absent = || Stop::Refused(MountError::SourceNotFound { digest: *digest });
        let mounted = inner.run(Needs::Room, call, &mut arguments, no_limit, |attempt| {
            let target = self.find_or_refuse(attempt)?;
            let source = {
                let view = attempt.view()?;
                source.find(view.as_ref())?
            };
            let Some(source) = source else {
                attempt.lock::<MountError>(&[])?;
                return Err(absent());
            };
            let (target_key, source_key) = (keys::repository(target), keys::repository(source));
            let (target_link, source_link) = (keys::link(target, digest), keys::link(source, digest));
            let blob_key = keys::blob(target.registry, digest);
            let locks = attempt.lock(&[
                (&target_key, attempt.repository_mode()),
                (&source_key, LockMode::Shared),
                (&source_link, LockMode::Shared),
                (&target_link, LockMode::Exclusive),
                (&blob_key, LockMode::Shared),
            ])?;
            live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
            live_row(value(&locks, 1))?.ok_or(Stop::Again)?;
            let linked = LinkRow::decode_optional(value(&locks, 2))?.ok_or_else(absent)?;
            let blob = BlobRow::decode_optional(value(&locks, 4))?;
            if blob.is_none_or(|blob| blob.state != BlobState::Live) {
                return Err(absent());
            }
            let size = linked.size;
            if value(&locks, 3).is_some() {
                return Ok(Decision::Unchanged(MountedBlob { size, already_linked: true }));
            }
            let event = self.event(RepositoryEvent::BlobMounted { digest: *digest });
            let mut commit = Commit::new(locks, event, MountedBlob { size, already_linked: false });
            let link = LinkRow { linked_wall_ms: attempt.wall_ms(), ..linked };
            commit.batch.put(&target_link, &link.encode());
            commit.batch.put(&keys::link_back(target, digest), &[]);
            let bytes = i64::try_from(size).unwrap_or(i64::MAX);
            commit.add(keys::repository_usage(target), [0, 0, 1, bytes]);
            Ok::<Decision<_>, Stop<MountError>>(commit.decided())
        })?;
        // The mount is done whatever becomes of its lease; a call that only repeats its outcome may find nothing here.
        drop(self.check_blobs(&[*digest]));
        Ok(mounted)
    }

    /// Takes the repository's right to read a blob away. Refused while one of its manifests references the blob.
    /// Durable when it returns; the bytes stay as long as anybody else needs them.
    pub fn delete_blob(&self, digest: &Digest, call: &Call) -> Result<(), DeleteError> {
        let inner = self.inner();
        let mut arguments = self.arguments("delete blob");
        arguments.digest(digest);
        inner.run(Needs::Writing, call, &mut arguments, no_limit, |attempt| {
            let scope = self.find_or_refuse(attempt)?;
            let repository_key = keys::repository(scope);
            let (blob_key, link_key) = (keys::blob(scope.registry, digest), keys::link(scope, digest));
            let locks = attempt.lock(&[
                (&repository_key, attempt.repository_mode()),
                (&blob_key, LockMode::Exclusive),
                (&link_key, LockMode::Exclusive),
            ])?;
            live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
            let link = LinkRow::decode_optional(value(&locks, 2))?
                .ok_or(Stop::Refused(DeleteError::NotFound { digest: *digest }))?;
            // The digest's row is held, so nobody adds a reference meanwhile.
            let view = attempt.view()?;
            let manifests = referencing(view.as_ref(), scope, digest, Role::is_blob)?;
            drop(view);
            if !manifests.is_empty() {
                return Err(Stop::Refused(DeleteError::Referenced { digest: *digest, manifests }));
            }
            let event = self.event(RepositoryEvent::BlobDeleted { digest: *digest });
            let mut commit = Commit::new(locks, event, ());
            commit.batch.delete(&link_key);
            commit.batch.delete(&keys::link_back(scope, digest));
            let bytes = i64::try_from(link.size).unwrap_or(i64::MAX);
            commit.add(keys::repository_usage(scope), [0, 0, -1, -bytes]);
            Ok::<Decision<()>, Stop<DeleteError>>(commit.decided())
        })
    }
}
