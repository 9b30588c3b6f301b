//! One run of a check or a repair: what it stands on, what it found so far, and what becomes of a suspicion.
//!
//! Walks over rows only suspect. A suspicion is judged under the rows that guard the case, in a view that is taken once
//! they are held: on a store that is in use, what changed since the walk saw it is no finding.

use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;

use crate::blob::fingerprint::GroupLen;
use crate::call::Call;
use crate::change::Event;
use crate::engine::Inner;
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::keys;
use crate::format::parsed::Key;
use crate::store::{LockMode, StorageError};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::case::{Case, Copy, Remedy, Verdict};
use super::finding::{Fault, Finding};
use super::judge::{Judge, Missed, Settings};
use super::rebuild;
use super::relation::Relation;
use super::report::{Level, Observer, Outcome, Progress, Report, Stage};
use super::touched::touched;
use super::walk::Halt;

/// The observer is asked after so many rows, or so many bytes, whether to go on.
const ROWS_BETWEEN: u64 = 4_096;
const BYTES_BETWEEN: u64 = 1 << 20;

/// So many findings are remembered, so that one that is met on two ways is told once.
const TOLD_MAX: usize = 1 << 16;

/// The longest description in a change-log entry.
const ABOUT_BYTES_MAX: usize = 1024;

/// What becomes of bytes that are damaged.
const QUARANTINED: &str = "quarantined: absent to a push and corrupt to a pull, until it is pushed again";

/// What is done about findings.
#[derive(Debug, Clone)]
pub(super) enum Mode {
    /// Nothing.
    Check,
    /// It is said what could be done.
    Plan,
    /// It is done, in the name of the caller.
    Repair(Call),
}

pub(super) struct Examination<'a> {
    pub(super) inner: &'a Inner,
    pub(super) level: Level,
    mode: Mode,
    observer: &'a mut dyn Observer,
    pub(super) report: Report,
    stage: Stage,
    pub(super) rows_total: u64,
    pub(super) bytes_total: u64,
    told: HashSet<u64>,
    /// What earlier rounds left and told of, too.
    left: HashSet<u64>,
    asked_at: (u64, u64),
    settings: RefCell<Settings>,
    missed: RefCell<Missed>,
}

impl<'a> Examination<'a> {
    pub(super) fn new(inner: &'a Inner, level: Level, mode: Mode, observer: &'a mut dyn Observer) -> Self {
        Self {
            inner,
            level,
            mode,
            observer,
            report: Report::default(),
            stage: Stage::Names,
            rows_total: 0,
            bytes_total: 0,
            told: HashSet::new(),
            left: HashSet::new(),
            asked_at: (0, 0),
            settings: RefCell::default(),
            missed: RefCell::default(),
        }
    }

    pub(super) fn relation(&self) -> Relation {
        Relation::new(self.inner.txn.entropy.as_ref())
    }

    /// Begins a stage.
    pub(super) fn enter(&mut self, stage: Stage) -> Result<(), Halt> {
        self.stage = stage;
        self.ask()
    }

    /// Counts rows that were read.
    pub(super) fn read_rows(&mut self, rows: u64) -> Result<(), Halt> {
        self.report.rows += rows;
        if self.report.rows - self.asked_at.0 >= ROWS_BETWEEN { self.ask() } else { Ok(()) }
    }

    /// Counts bytes that were read and hashed.
    pub(super) fn read_bytes(&mut self, bytes: u64) -> Result<(), Halt> {
        self.report.bytes += bytes;
        if self.report.bytes - self.asked_at.1 >= BYTES_BETWEEN { self.ask() } else { Ok(()) }
    }

    fn ask(&mut self) -> Result<(), Halt> {
        self.asked_at = (self.report.rows, self.report.bytes);
        let progress = Progress {
            stage: self.stage,
            rows: self.report.rows,
            rows_total: self.rows_total.max(self.report.rows),
            bytes: self.report.bytes,
            bytes_total: self.bytes_total.max(self.report.bytes),
            findings: self.report.findings.values().sum(),
        };
        match self.observer.progress(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Halt::Stopped),
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge { inner: self.inner, level: self.level, settings: &self.settings, missed: &self.missed }
    }

    /// Judges a case, and tells and mends what there is.
    pub(super) fn suspect(&mut self, case: &Case) -> Result<(), Halt> {
        for verdict in self.judged(case)? {
            self.pronounce(case, verdict)?;
        }
        Ok(())
    }

    fn judged(&self, case: &Case) -> Result<Vec<Verdict>, StorageError> {
        let store = self.inner.txn.store.as_ref();
        let guards = case.guards(store.view()?.as_ref())?;
        let rows: Vec<_> = guards.iter().map(|key| (key.as_slice(), LockMode::Shared)).collect();
        let _locks = store.lock_and_get(&rows)?;
        let view = store.view()?;
        self.judge().judge(case, view.as_ref())
    }

    /// Tells a finding that was made under the guards of its case, or that no guard could change.
    pub(super) fn pronounce(&mut self, case: &Case, verdict: Verdict) -> Result<(), Halt> {
        let mut hasher = DefaultHasher::new();
        verdict.fault.hash(&mut hasher);
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if !self.told.insert(hasher.finish()) {
            return Ok(());
        }
        let finding = {
            let view = self.inner.txn.store.view()?;
            let touched = touched(view.as_ref(), &verdict.fault)?;
            Finding { fault: verdict.fault, touched }
        };
        let outcome = match (&self.mode, &verdict.remedy) {
            (Mode::Check, _) => Outcome::Found,
            (_, Remedy::Leave(why)) => Outcome::Left { why },
            (Mode::Plan, Remedy::Rows { how, .. } | Remedy::Retire { how, .. } | Remedy::Rebuild { how, .. }) => {
                Outcome::Mendable { how }
            }
            (Mode::Plan, Remedy::QuarantineBlob { .. } | Remedy::QuarantineManifest { .. }) => {
                Outcome::Mendable { how: QUARANTINED }
            }
            (Mode::Repair(call), remedy) => {
                let call = call.clone();
                match self.mend(case, &finding.fault, remedy, &call) {
                    Ok(Some(outcome)) => outcome,
                    Ok(None) if same(self.judged(case)?, &finding.fault).is_some() => {
                        Outcome::Left { why: "nothing is done about it in this state" }
                    }
                    // Somebody else changed it since.
                    Ok(None) => return Ok(()),
                    // A row that the mend needs is damaged itself, and told by itself.
                    Err(Halt::Failed(Failure::Storage(StorageError::Corrupt { .. }))) => {
                        Outcome::Left { why: "another damaged row stands in the way; see what is said of that" }
                    }
                    Err(halt) => return Err(halt),
                }
            }
        };
        let hash = hasher.finish();
        let again = match &outcome {
            Outcome::Left { .. } if self.left.len() < TOLD_MAX => !self.left.insert(hash),
            Outcome::Left { .. } => self.left.contains(&hash),
            _ => false,
        };
        if matches!(outcome, Outcome::Mended { .. }) {
            // It may be broken again by then, and found by a later round.
            self.told.remove(&hash);
        }
        if !again {
            *self.report.findings.entry(finding.fault.name()).or_default() += 1;
            self.observer.finding(&finding, &outcome);
        }
        self.report.note(finding.fault.severity(), &outcome);
        Ok(())
    }

    /// Forgets what was told, so that a later round begins afresh, and how much is left. What was left stays told: of each
    /// fault that no round mends it is said once, in the round that met it first.
    pub(super) fn begin_round(&mut self) {
        self.told.clear();
        *self.missed.get_mut() = Missed::default();
        self.report.left = 0;
        self.report.worst = None;
    }

    fn mend(&mut self, case: &Case, fault: &Fault, remedy: &Remedy, call: &Call) -> Result<Option<Outcome>, Halt> {
        if let Remedy::Rebuild { how, rebuild } = remedy {
            return match rebuild::rebuild(self, rebuild, fault, call)? {
                rebuild::Rebuilt::Done => Ok(Some(Outcome::Mended { how })),
                rebuild::Rebuilt::NotProved => {
                    Ok(Some(Outcome::Left { why: "the file's bytes do not give the digest; push the blob again" }))
                }
                rebuild::Rebuilt::RowsRight if same(self.judged(case)?, fault).is_some() => Ok(Some(Outcome::Left {
                    why: "the file's bytes agree with the rows, so it is the footer; pushing the blob again heals it",
                })),
                rebuild::Rebuilt::Unreadable => Ok(Some(Outcome::Left {
                    why: "the medium does not give the file; look at that, or push the blob again",
                })),
                rebuild::Rebuilt::RowsRight | rebuild::Rebuilt::Changed => Ok(None),
            };
        }
        if let Remedy::Retire { proof: Some(other), .. } = remedy
            && !self.is_proved(other)?
        {
            return Ok(Some(Outcome::Left {
                why: "the bytes of the other copy do not give the digest; push the blob",
            }));
        }
        let inner = self.inner;
        // These look again under their own locks.
        let quarantined = match remedy {
            Remedy::QuarantineBlob { registry, digest, placement, damage } => {
                let verdict = inner.quarantine(*registry, digest, *placement, *damage)?;
                Some(matches!(verdict, crate::blob::quarantine::Verdict::Damaged(Some(_))))
            }
            Remedy::QuarantineManifest { scope, digest } => Some(inner.quarantine_manifest(*scope, digest)?),
            _ => None,
        };
        if let Some(quarantined) = quarantined {
            return Ok(quarantined.then_some(Outcome::Mended { how: QUARANTINED }));
        }
        let judge = Judge { inner, level: self.level, settings: &self.settings, missed: &self.missed };
        let mut outcome = None;
        let mut given_up = None;
        let call = Call::by(call.principal.clone());
        inner.txn.run(&call, &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            (outcome, given_up) = (None, None);
            let guards = case.guards(attempt.view()?.as_ref())?;
            let mut rows: Vec<_> = guards.iter().map(|key| (key.as_slice(), LockMode::Exclusive)).collect();
            let retired = match remedy {
                Remedy::Retire { location, .. } => Some(keys::removal(*location)),
                _ => None,
            };
            rows.extend(retired.iter().map(|key| (key.as_slice(), LockMode::Exclusive)));
            let locks = attempt.lock::<Failure>(&rows)?;
            // Under the lock: what another repair has just written must not be remembered from before.
            if let Case::Row(key @ Key::RegistryUsage(_)) = case
                && !inner.txn.committer.forget_counter(&key.encode())
            {
                return Err(Stop::Again);
            }
            let verdicts = {
                let view = attempt.view()?;
                judge.judge(case, view.as_ref())?
            };
            let Some(verdict) = same(verdicts, fault) else {
                return Ok(Decision::Unchanged(()));
            };
            let mut commit = Commit::new(locks, event(fault), ());
            match verdict.remedy {
                Remedy::Rows { how, batch, deltas } => {
                    outcome = Some(Outcome::Mended { how });
                    commit.batch = batch;
                    commit.deltas = deltas;
                }
                Remedy::Retire { how, location, .. } => {
                    outcome = Some(Outcome::Mended { how });
                    given_up = Some(location);
                    commit.batch.put(&keys::removal(location), &[]);
                }
                Remedy::Leave(why) => {
                    outcome = Some(Outcome::Left { why });
                    return Ok(Decision::Unchanged(()));
                }
                Remedy::Rebuild { .. } | Remedy::QuarantineBlob { .. } | Remedy::QuarantineManifest { .. } => {
                    return Ok(Decision::Unchanged(()));
                }
            }
            Ok::<Decision<()>, Stop<Failure>>(commit.decided())
        })?;
        if let Some(location) = given_up {
            inner.retire(location);
        }
        Ok(outcome)
    }
}

impl Examination<'_> {
    /// Whether the bytes of a blob give its digest. They are read outside of every lock.
    fn is_proved(&mut self, copy: &Copy) -> Result<bool, Halt> {
        let Copy { digest, location, size, group_len } = *copy;
        let Ok(group_len) = GroupLen::new(group_len) else { return Ok(false) };
        let _pin = self.inner.open_blobs.pin(location);
        let hashed = self.hash_file(digest, location, size, group_len, &mut |_, _| Ok(()))?;
        Ok(hashed.is_ok_and(|hashed| hashed.digest == digest))
    }
}

/// The verdict that speaks of the same fault. What was counted may have changed since and still be wrong.
fn same(verdicts: Vec<Verdict>, fault: &Fault) -> Option<Verdict> {
    let counts = matches!(fault, Fault::Usage { .. } | Fault::RegistryUsage { .. } | Fault::TagCount { .. });
    verdicts.into_iter().find(|verdict| verdict.fault == *fault || (counts && verdict.fault.name() == fault.name()))
}

/// The change-log entry of a repair.
pub(super) fn event(fault: &Fault) -> Event {
    let mut about = fault.to_string();
    let mut end = about.len().min(ABOUT_BYTES_MAX);
    while !about.is_char_boundary(end) {
        end -= 1;
    }
    about.truncate(end);
    Event::Repaired { fault: fault.name().to_owned(), about }
}
