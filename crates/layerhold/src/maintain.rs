//! Background work in bounded steps: expiries, removals, and the trimming of logs.

use std::ops::ControlFlow;

use parking_lot::Mutex;

use crate::blob::open::Retired;
use crate::call::Call;
use crate::change::{ChangeRow, Event};
use crate::engine::{Engine, Inner, collect, value};
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::keys;
use crate::format::values::{LowWaterRow, RepositoryRow, Row, UploadRow};
use crate::queue::Walk;
use crate::scrub::Scrubbed;
use crate::store::{Batch, Direction, LockMode, StorageError, View};
use crate::txn::{Commit, Decision, Stop, no_limit};
use crate::upload::{UploadId, drop_session};

/// How much of each kind one step does.
const STEP: usize = 100;
const TRIM_STEP: usize = 10_000;

/// How often the expiries that could not be carried out are tried again.
const EXPIRIES_AGAIN_MS: u64 = 60_000;

/// How far maintenance came in each queue.
#[derive(Debug)]
pub(crate) struct Queues {
    expiries: Mutex<Walk>,
    removals: Mutex<Walk>,
    sweeps: Mutex<Walk>,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            expiries: Mutex::new(Walk::over_ordered(EXPIRIES_AGAIN_MS)),
            removals: Mutex::new(Walk::over_any()),
            sweeps: Mutex::new(Walk::over_any()),
        }
    }
}

/// What a step of [`Engine::maintain`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Upload sessions that had expired and are gone.
    pub uploads_expired: usize,
    /// Files of replaced blobs and ended sessions that are gone.
    pub files_removed: usize,
    /// Part rows of ended sessions that are gone.
    pub part_rows_removed: usize,
    /// Changes that were older than they are kept, and are gone.
    pub changes_trimmed: usize,
    /// Operation ids that were older than they are kept, and are gone.
    pub operations_trimmed: usize,
    /// What was looked at to find damage, within [`scrub_bytes_per_s`](crate::Options::scrub_bytes_per_s).
    pub scrubbed: Scrubbed,
    /// Whether another step would find more to do. The scrub does not count: it goes at its pace.
    pub more: bool,
}

impl Engine {
    /// Does a bounded step of background work and says what it did. Call it now and then, from one thread: every second
    /// is plenty. It never scans the store: it walks queues and remembers how far it came. The scrub, where it is asked for, reads
    /// as many bytes as the time since the last call allows.
    pub fn maintain(&self) -> Result<Maintained, Failure> {
        let inner = &self.inner;
        inner.check_writable()?;
        inner.access.room.keep_ballast();
        let mut done = Maintained::default();
        // One kind of work that fails must not keep the others from being done. What makes room comes first: the store's own
        // files may need some, and on a full medium this is where it comes from.
        let steps = [
            inner.expire_uploads(&mut done),
            inner.remove_files(&mut done),
            inner.sweep_parts(&mut done),
            inner.trim_logs(&mut done).map_err(Failure::from),
            inner.txn.store.maintain().map_err(Failure::from),
            inner.scrub_at_pace().map(|scrubbed| done.scrubbed = scrubbed),
        ];
        steps.into_iter().collect::<Result<(), Failure>>()?;
        Ok(done)
    }
}

impl Inner {
    fn expire_uploads(&self, done: &mut Maintained) -> Result<(), Failure> {
        let now_ms = self.txn.committer.now_ms();
        let due = {
            let view = self.txn.store.view()?;
            self.queues.expiries.lock().next(view.as_ref(), keys::upload_expiries(now_ms), STEP, now_ms, |key| {
                Some(keys::upload_expiry_of(key).ok_or_else(|| malformed("upload expiry row")))
            })?
        };
        done.more |= due.len() == STEP;
        each(due, |(expires_ms, id)| {
            done.uploads_expired += usize::from(self.expire_upload(UploadId(id), expires_ms)?);
            Ok(())
        })
    }

    fn expire_upload(&self, id: UploadId, expires_ms: u64) -> Result<bool, Failure> {
        let upload_key = keys::upload(&id.0);
        let expiry_key = keys::upload_expiry(expires_ms, &id.0);
        self.session_ends()?;
        let mut ended = None;
        let expired = self.txn.run(&Call::anonymous(), &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            ended = None;
            let stored = attempt.view()?.get(&upload_key)?;
            let Some(row) = UploadRow::decode_optional(stored.as_deref())?.filter(|row| row.expires_ms == expires_ms)
            else {
                // The session went on or ended; only this entry was left behind.
                let locks = attempt.lock::<Failure>(&[(&upload_key, LockMode::Exclusive)])?;
                let mut batch = Batch::new();
                batch.delete(&expiry_key);
                self.txn.committer.submit_relaxed(locks, batch)?;
                return Ok(Decision::Unchanged(false));
            };
            let repository_key = keys::repository(row.scope);
            let locks =
                attempt.lock::<Failure>(&[(&upload_key, LockMode::Exclusive), (&repository_key, LockMode::Shared)])?;
            if value(&locks, 0) != stored.as_deref() {
                return Err(Stop::Again);
            }
            let repository = RepositoryRow::decode(value(&locks, 1).unwrap_or_default())?.name;
            let repository_id = row.scope.repository.0;
            let event = Event::UploadExpired { repository, repository_id, upload: id };
            let mut commit = Commit::new(locks, event, true);
            drop_session(attempt.view()?.as_ref(), &mut commit.batch, &id, &row)?;
            // Also where the row knows of no file: bytes that no commit spoke of may be in one.
            commit.batch.put(&keys::removal(row.location), &[]);
            ended = Some((row.scope.registry, row.location));
            Ok::<Decision<bool>, Stop<Failure>>(commit.decided())
        })?;
        self.writers.forget(id);
        if let Some((registry, location)) = ended {
            self.session_ended(registry);
            self.retire(location);
        }
        Ok(expired)
    }

    /// Removes files first, then makes sure that they do not come back, and only then drops the rows that speak of them: one
    /// that came back without its row would be found by nobody.
    fn remove_files(&self, done: &mut Maintained) -> Result<(), Failure> {
        let locations = {
            let now_ms = self.txn.committer.now_ms();
            let view = self.txn.store.view()?;
            // Those that are read now are passed over, so that they keep nobody behind them waiting.
            self.queues.removals.lock().next(view.as_ref(), keys::removals(), STEP, now_ms, |key| {
                match keys::location_of(key) {
                    Some(location) if self.open_blobs.is_read(location) => None,
                    Some(location) => Some(Ok(location)),
                    None => Some(Err(malformed("removal row"))),
                }
            })?
        };
        done.more |= locations.len() == STEP;
        let mut gone = Vec::with_capacity(locations.len());
        let removed = each(locations, |location| {
            gone.extend(self.remove_file(location)?.then_some(location));
            Ok(())
        });
        let synced = self.blobs.sync_deleted(&mut gone).inspect_err(|error| self.note_failed_sync(error));
        let dropped = each(gone.into_iter().map(Ok).collect(), |location| {
            match self.drop_removal(location)? {
                Retired::Gone => done.files_removed += 1,
                Retired::Partly => done.more = true,
            }
            Ok(())
        });
        removed.and(synced.map_err(Failure::from)).and(dropped)
    }

    fn sweep_parts(&self, done: &mut Maintained) -> Result<(), Failure> {
        let ids = {
            let now_ms = self.txn.committer.now_ms();
            let view = self.txn.store.view()?;
            self.queues.sweeps.lock().next(view.as_ref(), keys::upload_sweeps(), STEP, now_ms, |key| {
                Some(keys::upload_id_of(key).ok_or_else(|| malformed("upload sweep row")))
            })?
        };
        done.more |= ids.len() == STEP;
        each(ids, |id| {
            let upload_key = keys::upload(&id);
            let locks = self.txn.store.lock_and_get(&[(&upload_key, LockMode::Exclusive)])?;
            let parts = {
                let view = self.txn.store.view()?;
                let range = keys::upload_parts(&id);
                collect(view.as_ref(), &range, Direction::Forward, TRIM_STEP, |key, _| Ok(key.to_vec()))?
            };
            let mut batch = Batch::new();
            parts.iter().for_each(|key| batch.delete(key));
            if parts.len() < TRIM_STEP {
                batch.delete(&keys::upload_sweep(&id));
            } else {
                done.more = true;
            }
            done.part_rows_removed += parts.len();
            Ok(self.txn.committer.submit_relaxed(locks, batch)?)
        })
    }

    /// Drops changes and operation ids that are older than they are kept, from the oldest on.
    fn trim_logs(&self, done: &mut Maintained) -> Result<(), StorageError> {
        let low_water_key = keys::meta::low_water();
        let locks = self.txn.store.lock_and_get(&[(&low_water_key, LockMode::Exclusive)])?;
        let mut low = LowWaterRow::decode_optional(value(&locks, 0))?.unwrap_or_default();
        let now_ms = self.txn.committer.now_ms();
        let mut batch = Batch::new();
        let view = self.txn.store.view()?;
        let operations_until = now_ms.saturating_sub(self.options.operation_keep_ms);
        done.operations_trimmed = walk_changes(view.as_ref(), low.operations, operations_until, |sequence, row| {
            batch.delete(&keys::operation(&row.operation_id.0));
            low.operations = sequence;
        })?;
        let changes_until = now_ms.saturating_sub(self.options.change_keep_ms).min(operations_until);
        let operations = low.operations;
        done.changes_trimmed = walk_changes(view.as_ref(), low.changes, changes_until, |sequence, _| {
            // A change goes after its operation id, which is found through it.
            if sequence <= operations {
                batch.delete(&keys::change(sequence));
                low.changes = sequence;
            }
        })?;
        drop(view);
        if !batch.is_empty() {
            batch.put(&low_water_key, &low.encode());
            done.more |= done.operations_trimmed.max(done.changes_trimmed) == TRIM_STEP;
        }
        self.txn.committer.submit_relaxed(locks, batch)
    }
}

/// Does `work` for every item, whatever becomes of one of them; the first failure is told.
fn each<T>(items: Vec<Result<T, StorageError>>, mut work: impl FnMut(T) -> Result<(), Failure>) -> Result<(), Failure> {
    let outcomes: Vec<_> = items.into_iter().map(|item| item.map_err(Failure::from).and_then(&mut work)).collect();
    outcomes.into_iter().collect()
}

fn malformed(row: &str) -> StorageError {
    StorageError::corrupt(format!("{row}: malformed key"))
}

/// Calls `visit` with the changes after `low` that are older than `until_ms`, a bounded number of them.
fn walk_changes(
    view: &dyn View,
    low: u64,
    until_ms: u64,
    mut visit: impl FnMut(u64, ChangeRow),
) -> Result<usize, StorageError> {
    let mut count = 0;
    let mut failed = None;
    view.scan(&keys::changes(low.saturating_add(1)), Direction::Forward, &mut |key, value| match (
        keys::sequence_of(key),
        ChangeRow::decode(value),
    ) {
        (Some(sequence), Ok(row)) if row.engine_ms < until_ms && count < TRIM_STEP => {
            visit(sequence, row);
            count += 1;
            ControlFlow::Continue(())
        }
        (Some(_), Ok(_)) => ControlFlow::Break(()),
        (_, row) => {
            failed = row.err().or_else(|| Some(StorageError::corrupt("change row: malformed key")));
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(count), Err)
}
