//! The scrub: everything that is stored is read now and then, so that damage is found while it can still be healed.
//!
//! A **pass** goes over all rows in the order of their keys: every row is decoded, every blob read and checked against its
//! fingerprint, every manifest against its digest and the rows beside it. It goes in steps, each of a number of bytes that
//! the caller chooses; a row says how far it came, also inside a large blob, so that a restart goes on there. Blobs of which
//! a read failed are looked at before all others.
//!
//! What holds:
//! - No lock is held while bytes are read, so pushes and pulls never wait for a scrub. What a scrub writes is decided under
//!   the lock of the row that it concerns, against the location that it read.
//! - Rows that cannot be read end the step, and the next one begins at the same place: an iterator that fails is never
//!   taken for the end of the rows. Rows that are none, and files that cannot be read, are found and passed by: no damage
//!   keeps the pass from what lies behind it.
//! - The position moves only behind what was looked at, and its row is written after it, so a crash makes it older at the
//!   worst, and with it the clock that says how old the oldest verification is.

use std::fmt;

use parking_lot::{Mutex, MutexGuard};

use crate::blob::Damage;
use crate::digest::Digest;
use crate::engine::{Engine, Inner, collect};
use crate::error::Failure;
use crate::format::keys::{self, KeyBytes};
use crate::format::scrub::{BlobMark, ScrubRow};
use crate::format::values::{BlobRow, Row};
use crate::name::{RegistryName, RepositoryName};
use crate::store::{Batch, Direction, Location, LockMode, StorageError, View};

mod blob;
mod manifest;
mod pass;

use pass::Step;

/// Suspects whose rows are read at a time.
const SUSPECTS_AT_ONCE: usize = 1_000;

/// How much one step of a scrub may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubBudget {
    /// Bytes of blobs, manifests and rows. A step ends behind the piece that used them up, and a piece is at most a
    /// mebibyte, apart from damaged chaining values, for which a whole blob is read.
    pub bytes: u64,
}

impl ScrubBudget {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self { bytes }
    }
}

/// What a step of a scrub did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Bytes that were read.
    pub bytes: u64,
    /// Rows that were decoded.
    pub rows: u64,
    /// Blobs that were read to their end.
    pub blobs: u64,
    /// Manifests that were checked.
    pub manifests: u64,
    /// What was found wrong, in the order in which it was found.
    pub findings: Vec<ScrubFinding>,
    /// The pass that it belongs to, from 1, or the last one where only unread blobs were looked at between passes; 0 where
    /// nothing was done.
    pub pass: u64,
    /// Whether the pass ended with it. The next step begins another one.
    pub pass_completed: bool,
    /// Whether nothing was done because another step runs.
    pub busy: bool,
}

/// Something that a scrub found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScrubFinding {
    /// The bytes of a blob are damaged, and it is quarantined now. Pushing it again heals it.
    BlobQuarantined {
        /// The registry that holds it; `None` where the row with its name is lost.
        registry: Option<RegistryName>,
        /// The blob.
        digest: Digest,
        /// What is wrong with its bytes.
        damage: Damage,
    },
    /// The chaining values or the root of a blob were damaged; its bytes are right, and they were computed again.
    BlobRebuilt {
        /// The registry that holds it; `None` where the row with its name is lost.
        registry: Option<RegistryName>,
        /// The blob.
        digest: Digest,
    },
    /// The bytes of a blob are right and the footer behind them is not. It is served all the same; only rebuilding metadata
    /// from files would miss it. Pushing it again heals it.
    Footer {
        /// The registry that holds it; `None` where the row with its name is lost.
        registry: Option<RegistryName>,
        /// The blob.
        digest: Digest,
    },
    /// The bytes of a blob could not be had. It is looked at again before that is believed; where the medium is not what
    /// keeps them, it never is.
    Unreadable {
        /// The registry that holds it; `None` where the row with its name is lost.
        registry: Option<RegistryName>,
        /// The blob.
        digest: Digest,
    },
    /// The bytes of a manifest are damaged, and it is quarantined now. Putting it again heals it.
    ManifestQuarantined {
        /// The registry of its repository; `None` where the row with its name is lost.
        registry: Option<RegistryName>,
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// The bytes of a manifest are right and the rows beside them do not say what they say.
    ManifestRows {
        /// The registry of its repository; `None` where the row with its name is lost.
        registry: Option<RegistryName>,
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// Which row, in words.
        what: &'static str,
    },
    /// A row is none.
    Row {
        /// Its key.
        key: Vec<u8>,
        /// What is wrong with it, in words.
        what: String,
    },
}

/// The name of a registry in words; no registry can have the one for a lost name.
fn named(registry: &Option<RegistryName>) -> &str {
    registry.as_ref().map_or("(lost)", RegistryName::as_str)
}

impl fmt::Display for ScrubFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlobQuarantined { registry, digest, damage } => {
                let registry = named(registry);
                write!(f, "blob is damaged and quarantined registry={registry} digest={digest} damage={damage}")
            }
            Self::BlobRebuilt { registry, digest } => {
                write!(f, "chaining values were computed again registry={} digest={digest}", named(registry))
            }
            Self::Footer { registry, digest } => {
                write!(f, "footer is damaged registry={} digest={digest}", named(registry))
            }
            Self::Unreadable { registry, digest } => {
                write!(f, "blob cannot be read registry={} digest={digest}", named(registry))
            }
            Self::ManifestQuarantined { registry, repository, digest } => {
                let registry = named(registry);
                write!(
                    f,
                    "manifest is damaged and quarantined registry={registry} repository={repository} digest={digest}"
                )
            }
            Self::ManifestRows { registry, repository, digest, what } => {
                let registry = named(registry);
                write!(
                    f,
                    "rows differ from the manifest registry={registry} repository={repository} digest={digest} row={what}"
                )
            }
            Self::Row { key, what } => write!(f, "{what} key={}", crate::hex::encode(key)),
        }
    }
}

/// How far the scrub came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// The number of the last pass that began; 0 where none did.
    pub pass: u64,
    /// Whether it goes on.
    pub running: bool,
    /// Engine time in milliseconds at which it began.
    pub started_ms: u64,
    /// Bytes that were read in it.
    pub bytes: u64,
    /// Rows that were decoded in it.
    pub rows: u64,
    /// Blobs that were read in it.
    pub blobs: u64,
    /// Manifests that were checked in it.
    pub manifests: u64,
    /// What was found wrong in it.
    pub findings: u64,
    /// Blobs of which a read failed and that were not read since.
    pub suspects: u64,
    /// The coverage clock: every blob, manifest and row was verified at this engine time or later, in milliseconds. Bytes that
    /// were pushed since count as verified when they were pushed, and quarantined ones not at all; nor do the staged bytes of
    /// upload sessions, which the scrub does not look at.
    pub verified_since_ms: u64,
    /// How long ago that is: the age of the oldest verification.
    pub age_ms: u64,
}

/// What the engine keeps of its scrub between steps.
#[derive(Default)]
pub(crate) struct Scrub {
    /// Held by whoever does steps.
    state: Mutex<State>,
    /// Where [`Engine::maintain`] scrubs: since when, and bytes that it may still read or has read too many.
    pace: Mutex<Option<Pace>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Read from its row by the first step.
    row: Option<ScrubRow>,
    /// The location whose chaining values were proved by the root last.
    proved: Option<Location>,
    /// The blob that the pass is in the middle of, while a suspect is looked at. A restart begins with it anew.
    aside: Option<BlobMark>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Suspects, then the pass that runs or the next one.
    Pass,
    /// Suspects alone.
    Suspects,
}

struct Pace {
    since_ms: u64,
    left: i64,
}

impl Engine {
    /// Does one bounded step of the scrub, where the last one ended, also over restarts. Any thread may call it at any time;
    /// one step runs at a time.
    ///
    /// Durability: what is found is durable when it returns, except that a read failed. How far it came is not synced; after
    /// a crash a part of the pass is done again.
    ///
    /// # Errors
    /// Those of the rows' storage. The next step tries the same place again.
    pub fn scrub_step(&self, budget: ScrubBudget) -> Result<Scrubbed, Failure> {
        self.inner.try_scrub(Due::Pass, budget)
    }

    /// Waits for the step that runs, and keeps every other one from running for as long as the value lives, those of
    /// [`Engine::maintain`] included: they are told that the scrub is busy. So whatever is found meanwhile, one caller hears of.
    #[must_use]
    pub fn scrub_alone(&self) -> ScrubAlone<'_> {
        ScrubAlone { inner: &self.inner, state: self.inner.scrub.state.lock() }
    }

    /// How far the scrub came, and how old the oldest verification is. Reads a few rows, and two for each suspect.
    pub fn scrub_progress(&self) -> Result<ScrubProgress, Failure> {
        let inner = &self.inner;
        let row = inner.scrub_row()?;
        let view = inner.txn.store.view()?;
        // A pass may have gone by a suspect without being able to read it.
        let (suspects, oldest_ms) = suspects(view.as_ref())?;
        let verified_since_ms = oldest_ms.map_or(row.verified_since_ms(), |ms| ms.min(row.verified_since_ms()));
        let [bytes, rows, blobs, manifests, findings] = row.counts;
        Ok(ScrubProgress {
            pass: row.pass,
            running: row.running,
            started_ms: row.started_ms,
            bytes,
            rows,
            blobs,
            manifests,
            findings,
            suspects,
            verified_since_ms,
            age_ms: self.now_ms().saturating_sub(verified_since_ms),
        })
    }
}

/// The right to do the steps of the scrub, which one caller has at a time.
pub struct ScrubAlone<'a> {
    inner: &'a Inner,
    state: MutexGuard<'a, State>,
}

impl ScrubAlone<'_> {
    /// Does one step, as [`Engine::scrub_step`] does.
    ///
    /// # Errors
    /// As there.
    pub fn step(&mut self, budget: ScrubBudget) -> Result<Scrubbed, Failure> {
        self.step_of(Due::Pass, budget)
    }

    fn step_of(&mut self, due: Due, budget: ScrubBudget) -> Result<Scrubbed, Failure> {
        let inner = self.inner;
        inner.check_writable()?;
        if self.state.row.is_none() {
            self.state.row = Some(inner.scrub_row()?);
        }
        let State { row: Some(row), proved, aside } = &mut *self.state else { return Ok(Scrubbed::default()) };
        if row.blob.is_none() {
            // A step ended early between a suspect and what was put aside for it.
            row.blob = aside.take();
        }
        let mut step = Step::new(inner, row, proved, aside, budget);
        let ended = match due {
            Due::Pass => step.run(),
            Due::Suspects => step.look_at_suspects(),
        };
        let done = step.finish();
        inner.save_scrub(row)?;
        ended?;
        Ok(done)
    }
}

impl fmt::Debug for ScrubAlone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScrubAlone").finish_non_exhaustive()
    }
}

/// How many suspects there are, and when the first of their blobs was verified last.
fn suspects(view: &dyn View) -> Result<(u64, Option<u64>), StorageError> {
    let mut range = keys::suspects();
    let (mut count, mut oldest_ms) = (0, None);
    loop {
        let keys = collect(view, &range, Direction::Forward, SUSPECTS_AT_ONCE, |key, _| Ok(key.to_vec()))?;
        let Some(last) = keys.last() else { return Ok((count, oldest_ms)) };
        range = keys::after(range, last);
        count += keys.len() as u64;
        let blobs: Vec<_> = keys.iter().filter_map(|key| keys::blob_of(key)).collect();
        let blobs: Vec<_> = blobs.iter().map(|(registry, digest)| keys::blob(*registry, digest)).collect();
        let rows = view.get_many(&blobs.iter().map(KeyBytes::as_slice).collect::<Vec<_>>())?;
        // A row that is none leads to no bytes.
        let verified =
            rows.into_iter().flatten().filter_map(|row| BlobRow::decode(&row).ok()).map(|row| row.verified_ms);
        oldest_ms = oldest_ms.into_iter().chain(verified).min();
    }
}

impl Inner {
    fn scrub_row(&self) -> Result<ScrubRow, StorageError> {
        let stored = self.txn.store.view()?.get(&keys::meta::scrub())?;
        // Where the row is none, nothing is known of earlier passes. The next one finds it so.
        Ok(stored.and_then(|row| ScrubRow::decode(&row).ok()).unwrap_or_default())
    }

    fn save_scrub(&self, row: &ScrubRow) -> Result<(), StorageError> {
        let key = keys::meta::scrub();
        let locks = self.txn.store.lock_and_get(&[(&key, LockMode::Exclusive)])?;
        let mut batch = Batch::new();
        batch.put(&key, &row.encode());
        self.txn.committer.submit_relaxed(locks, batch)
    }

    /// The step that [`Engine::maintain`] owes since its last call, within the rate and the interval.
    pub(crate) fn scrub_at_pace(&self) -> Result<Scrubbed, Failure> {
        let rate = self.options.scrub_bytes_per_s;
        if rate == 0 {
            return Ok(Scrubbed::default());
        }
        let now_ms = self.components.clock.monotonic_ms();
        let left = {
            let mut pace = self.scrub.pace.lock();
            let pace = pace.get_or_insert(Pace { since_ms: now_ms, left: 0 });
            let passed_ms = now_ms.saturating_sub(pace.since_ms);
            let earned = i64::try_from(rate.saturating_mul(passed_ms) / 1_000).unwrap_or(i64::MAX);
            // What was not used in one second is not made up for in another: pulls want the disk then, too.
            let second = i64::try_from(rate).unwrap_or(i64::MAX);
            *pace = Pace { since_ms: now_ms, left: pace.left.saturating_add(earned).min(second) };
            pace.left
        };
        let Ok(bytes @ 1..) = u64::try_from(left) else { return Ok(Scrubbed::default()) };
        let Some(due) = self.scrub_due()? else { return Ok(Scrubbed::default()) };
        let done = self.try_scrub(due, ScrubBudget::bytes(bytes))?;
        if let Some(pace) = self.scrub.pace.lock().as_mut() {
            pace.left = pace.left.saturating_sub(i64::try_from(done.bytes).unwrap_or(i64::MAX));
        }
        Ok(done)
    }

    /// What a step would do: a pass is under way, or the next one should begin, or a blob could not be read.
    fn scrub_due(&self) -> Result<Option<Due>, StorageError> {
        let row = self.scrub_row()?;
        let now_ms = self.txn.committer.now_ms();
        if row.running || now_ms.saturating_sub(row.started_ms) >= self.options.scrub_interval_ms {
            return Ok(Some(Due::Pass));
        }
        let suspect = row.blob.is_some() || blob::due_suspect(self.txn.store.view()?.as_ref(), now_ms)?.is_some();
        Ok(suspect.then_some(Due::Suspects))
    }

    fn try_scrub(&self, due: Due, budget: ScrubBudget) -> Result<Scrubbed, Failure> {
        match self.scrub.state.try_lock() {
            Some(state) => ScrubAlone { inner: self, state }.step_of(due, budget),
            None => Ok(Scrubbed { busy: true, ..Scrubbed::default() }),
        }
    }
}
