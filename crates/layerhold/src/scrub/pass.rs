//! One step of a pass: rows in the order of their keys, and what hangs on them.

use std::ops::ControlFlow;

use crate::call::Call;
use crate::change::Event;
use crate::engine::Inner;
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::keys::{self, Family};
use crate::format::rows::well_formed;
use crate::format::scrub::{BlobMark, ScrubRow};
use crate::store::{Direction, KeyRange, Location, LockMode};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::{ScrubBudget, ScrubFinding, Scrubbed};

/// The most that one look at the rows takes in.
const SCAN_BYTES: u64 = 1 << 20;
const SCAN_ROWS: u64 = 4_096;

/// Findings of one pass that get an entry each in the change log, apart from quarantines and what was rebuilt.
const FINDINGS_LOGGED_MAX: u64 = 100;

/// A step that runs.
pub(super) struct Step<'a> {
    pub(super) inner: &'a Inner,
    pub(super) row: &'a mut ScrubRow,
    pub(super) proved: &'a mut Option<Location>,
    /// The blob that the pass is in the middle of, while a suspect is looked at.
    pub(super) aside: &'a mut Option<BlobMark>,
    pub(super) done: Scrubbed,
    /// Bytes that may still be read.
    left: u64,
}

/// What one look at the rows came upon.
#[derive(Default)]
struct Seen {
    /// The last row that needs nothing more.
    last: Option<Vec<u8>>,
    /// A row of a blob or a manifest, behind it.
    work: Option<Vec<u8>>,
    rows: u64,
    bytes: u64,
    findings: Vec<ScrubFinding>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        row: &'a mut ScrubRow,
        proved: &'a mut Option<Location>,
        aside: &'a mut Option<BlobMark>,
        budget: ScrubBudget,
    ) -> Self {
        Self { inner, row, proved, aside, done: Scrubbed::default(), left: budget.bytes }
    }

    pub(super) fn finish(self) -> Scrubbed {
        self.done
    }

    /// Looks at suspects, then goes on with the pass, or begins one.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        let now_ms = self.inner.txn.committer.now_ms();
        if !self.row.running {
            let ScrubRow { pass, previous, blob, .. } = std::mem::take(self.row);
            *self.row =
                ScrubRow { pass: pass + 1, running: true, started_ms: now_ms, previous, blob, ..ScrubRow::default() };
        }
        // The first bytes of a blob in the middle were read before now, and it lies behind the position.
        if self.aside.is_none() && self.row.blob.as_ref().is_none_or(|blob| blob.suspect) {
            self.row.mark(now_ms);
        }
        self.look_at_suspects()?;
        while self.left > 0 && !self.done.pass_completed {
            if self.row.blob.is_some() {
                self.go_on_with_blob()?;
            } else {
                self.look_at_rows()?;
            }
        }
        Ok(())
    }

    /// Looks at the blobs of which a read failed and whose time has come.
    pub(super) fn look_at_suspects(&mut self) -> Result<(), Failure> {
        self.done.pass = self.row.pass;
        while self.left > 0 {
            if self.row.blob.as_ref().is_some_and(|blob| blob.suspect) {
                self.go_on_with_blob()?;
            } else if !self.take_suspect()? {
                break;
            }
        }
        Ok(())
    }

    /// How much of a piece of work the budget still has room for.
    pub(super) fn piece(&self, most: u64) -> u64 {
        self.left.clamp(1, most)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        self.done.bytes += bytes;
        self.row.counts[0] += bytes;
    }

    pub(super) fn count_blob(&mut self) {
        self.done.blobs += 1;
        self.row.counts[2] += 1;
    }

    pub(super) fn count_manifest(&mut self) {
        self.done.manifests += 1;
        self.row.counts[3] += 1;
    }

    /// Writes down what was found, unless the commit that acted upon it has done so already.
    pub(super) fn found(&mut self, finding: ScrubFinding) -> Result<(), Failure> {
        self.row.counts[4] += 1;
        let logged = match &finding {
            ScrubFinding::Footer { .. } | ScrubFinding::ManifestRows { .. } | ScrubFinding::Row { .. } => true,
            ScrubFinding::BlobQuarantined { .. }
            | ScrubFinding::BlobRebuilt { .. }
            | ScrubFinding::Unreadable { .. }
            | ScrubFinding::ManifestQuarantined { .. } => false,
        };
        let what = finding.to_string();
        self.done.findings.push(finding);
        if !logged || self.row.counts[4] > FINDINGS_LOGGED_MAX {
            return Ok(());
        }
        let key = keys::meta::scrub();
        self.inner.txn.run(&Call::anonymous(), &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            let locks = attempt.lock::<Failure>(&[(&key, LockMode::Exclusive)])?;
            let commit = Commit::new(locks, Event::DamageFound { what: what.clone() }, ());
            Ok::<Decision<()>, Stop<Failure>>(commit.decided())
        })
    }

    fn look_at_rows(&mut self) -> Result<(), Failure> {
        let seen = self.scan()?;
        self.done.rows += seen.rows;
        self.row.counts[1] += seen.rows;
        self.spend(seen.bytes);
        let ended = seen.last.is_none() && seen.work.is_none();
        if let Some(last) = seen.last {
            self.row.position = last;
        }
        for finding in seen.findings {
            self.found(finding)?;
        }
        match seen.work {
            Some(key) if key.first() == Some(&(Family::Blob as u8)) => self.begin_blob(key, false)?,
            Some(key) => {
                self.look_at_manifest(&key)?;
                self.row.position = key;
            }
            None if ended => self.end_pass(),
            None => {}
        }
        Ok(())
    }

    /// Decodes rows from the position on, up to the next one of a blob or a manifest.
    fn scan(&self) -> Result<Seen, Failure> {
        let all = KeyRange { start: vec![Family::Meta as u8], end: vec![u8::MAX] };
        let range = keys::after(all, &self.row.position);
        let bytes_max = self.piece(SCAN_BYTES);
        let mut seen = Seen::default();
        let view = self.inner.txn.store.view()?;
        view.scan(&range, Direction::Forward, &mut |key, value| {
            seen.rows += 1;
            seen.bytes += (key.len() + value.len()) as u64;
            let wrong = well_formed(key, value).err();
            let is_work = [Family::Blob as u8, Family::Manifest as u8].map(Some).contains(&key.first().copied());
            match wrong {
                None if is_work => {
                    seen.work = Some(key.to_vec());
                    return ControlFlow::Break(());
                }
                None => {}
                Some(error) => seen.findings.push(ScrubFinding::Row { key: key.to_vec(), what: error.to_string() }),
            }
            let enough = seen.bytes >= bytes_max || seen.rows >= SCAN_ROWS;
            match &mut seen.last {
                Some(last) => {
                    last.clear();
                    last.extend_from_slice(key);
                }
                last => *last = Some(key.to_vec()),
            }
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(seen)
    }

    fn end_pass(&mut self) {
        self.row.running = false;
        self.row.position.clear();
        self.row.previous = std::mem::take(&mut self.row.marks);
        self.done.pass_completed = true;
    }
}
