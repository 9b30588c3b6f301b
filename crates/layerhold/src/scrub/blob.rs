//! The scrub of a blob: its chaining values against the root, then its bytes against the values, piece by piece.

use crate::blob::Damage;
use crate::blob::quarantine::{Changed, Unjudged, Verdict};
use crate::blob::source::{FileSource, Unfit};
use crate::digest::Digest;
use crate::engine::{collect_some, value};
use crate::error::Failure;
use crate::format::footer::Footer;
use crate::format::keys::{self, RegistryId};
use crate::format::scrub::BlobMark;
use crate::format::values::{BlobRow, BlobState, Placement, Row, SuspectRow};
use crate::name::RegistryName;
use crate::registry::registry_name;
use crate::store::{Batch, Direction, Location, LockMode, StorageError, View};

use super::ScrubFinding;
use super::pass::Step;

/// How much of a blob is read at a time.
const PIECE: u64 = 1 << 20;

/// How long a blob that could not be read is left alone before the next look, and after how many looks in vain it is
/// believed that its bytes are lost.
const PAUSE_MS: u64 = 60_000;
const LOOKS_IN_VAIN: u32 = 3;

/// Whether it is time to look at a suspect again.
fn is_due(suspect: &SuspectRow, now_ms: u64) -> bool {
    suspect.looked_ms == 0 || now_ms.saturating_sub(suspect.looked_ms) >= PAUSE_MS
}

/// The key of the first blob of which a read failed and whose time has come.
pub(super) fn due_suspect(view: &dyn View, now_ms: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let due = collect_some(view, &keys::suspects(), Direction::Forward, 1, |key, value| {
        let due = SuspectRow::decode(value).is_ok_and(|row| is_due(&row, now_ms));
        Ok(keys::blob_of(key).filter(|_| due).map(|(registry, digest)| keys::blob(registry, &digest)))
    })?;
    Ok(due.into_iter().next().map(Into::into))
}

/// The blob that a step is about.
struct Subject {
    registry: RegistryId,
    digest: Digest,
    row: BlobRow,
}

impl Step<'_> {
    /// Turns to a blob of which a read failed, if there is one whose time has come, and says whether there was.
    pub(super) fn take_suspect(&mut self) -> Result<bool, Failure> {
        let now_ms = self.inner.txn.committer.now_ms();
        let Some(key) = due_suspect(self.inner.txn.store.view()?.as_ref(), now_ms)? else { return Ok(false) };
        *self.aside = self.row.blob.take();
        self.begin_blob(key, true)?;
        Ok(true)
    }

    /// Begins with the blob of a row. Small ones are done at once.
    pub(super) fn begin_blob(&mut self, key: Vec<u8>, suspect: bool) -> Result<(), Failure> {
        let since_ms = self.inner.txn.committer.now_ms();
        if !suspect {
            self.row.mark(since_ms);
        }
        let Some(subject) = self.subject(&key)? else { return self.leave_blob(key, suspect) };
        match subject.row.placement {
            Placement::File(location) => {
                self.row.blob = Some(BlobMark { key, location, offset: 0, since_ms, suspect });
            }
            Placement::Inline(location) => {
                self.look_at_inline(&subject, location, since_ms)?;
                self.leave_blob(key, suspect)?;
            }
        }
        Ok(())
    }

    /// The blob of a row, unless it is gone or known to be damaged, or the row is none.
    fn subject(&mut self, key: &[u8]) -> Result<Option<Subject>, Failure> {
        let Some((registry, digest)) = keys::blob_of(key) else { return Ok(None) };
        let stored = self.inner.txn.store.view()?.get(key)?;
        match BlobRow::decode_optional(stored.as_deref()) {
            Ok(row) => {
                let row = row.filter(|row| row.state != BlobState::Quarantined);
                Ok(row.map(|row| Subject { registry, digest, row }))
            }
            Err(error) => {
                self.found(ScrubFinding::Row { key: key.to_vec(), what: error.to_string() })?;
                Ok(None)
            }
        }
    }

    /// Goes on behind a blob. A suspect was looked at out of turn, and the pass has still to come by.
    fn leave_blob(&mut self, key: Vec<u8>, suspect: bool) -> Result<(), Failure> {
        if suspect {
            self.let_rest(&key)?;
            self.row.blob = self.aside.take();
        } else {
            self.row.blob = None;
            self.row.position = key;
        }
        Ok(())
    }

    /// Sees to it that a suspect that is still one, whatever the look came to, does not keep others from being looked at.
    fn let_rest(&self, key: &[u8]) -> Result<(), Failure> {
        let inner = self.inner;
        let Some((registry, digest)) = keys::blob_of(key) else { return Ok(()) };
        let suspect_key = keys::suspect(registry, &digest);
        let now_ms = inner.txn.committer.now_ms();
        let locks = inner.txn.store.lock_and_get(&[(key, LockMode::Exclusive)])?;
        let known = inner.txn.store.view()?.get(&suspect_key)?.and_then(|known| SuspectRow::decode(&known).ok());
        let Some(mut known) = known.filter(|known| is_due(known, now_ms)) else { return Ok(()) };
        let mut batch = Batch::new();
        if value(&locks, 0).is_none() {
            batch.delete(&suspect_key);
        } else {
            known.looked_ms = now_ms.max(1);
            batch.put(&suspect_key, &known.encode());
        }
        Ok(inner.txn.committer.submit_relaxed(locks, batch)?)
    }

    fn look_at_inline(&mut self, subject: &Subject, location: Location, since_ms: u64) -> Result<(), Failure> {
        let bytes = self.inner.txn.store.view()?.get(&keys::inline_bytes(location))?.unwrap_or_default();
        self.spend(bytes.len() as u64);
        let row = &subject.row;
        if bytes.len() as u64 == row.size && *blake3::hash(&bytes).as_bytes() == row.root {
            self.verified(subject, since_ms)?;
        } else {
            match self.judge(subject, &Unfit::Bytes { offset: 0 }) {
                // Where other bytes took their place meanwhile, those were verified when they came.
                Ok(_) => {}
                Err(Unjudged::Failed(failure)) => return Err(failure),
                Err(Unjudged::File(error)) => return Err(error.into()),
            }
        }
        self.count_blob();
        Ok(())
    }

    /// Reads the next piece of the blob that the pass is in the middle of.
    pub(super) fn go_on_with_blob(&mut self) -> Result<(), Failure> {
        let Some(mark) = self.row.blob.clone() else { return Ok(()) };
        let subject =
            self.subject(&mark.key)?.filter(|subject| subject.row.placement == Placement::File(mark.location));
        let Some(subject) = subject else {
            // Removed, quarantined, or replaced by bytes that were verified when they came.
            return self.leave_blob(mark.key, mark.suspect);
        };
        match self.read_pieces(&subject, &mark) {
            Ok(true) => {
                self.verified(&subject, mark.since_ms)?;
                self.count_blob();
                self.leave_blob(mark.key, mark.suspect)
            }
            Ok(false) => Ok(()),
            // What the process lacks is lacking for every other blob, too.
            Err(Unfit::Storage(error) | Unfit::File(error @ StorageError::NoDescriptors { .. })) => Err(error.into()),
            Err(Unfit::File(error)) => {
                self.unreadable(&subject, &error)?;
                self.leave_blob(mark.key, mark.suspect)
            }
            Err(unfit) => {
                match self.judge(&subject, &unfit) {
                    Ok(true) => {}
                    Ok(false) if mark.suspect => {}
                    Ok(false) => {
                        // What is there now was not looked at: the pass comes upon the row once more.
                        self.row.blob = None;
                        return Ok(());
                    }
                    Err(Unjudged::File(error @ StorageError::NoDescriptors { .. })) => return Err(error.into()),
                    Err(Unjudged::File(error)) => self.unreadable(&subject, &error)?,
                    Err(Unjudged::Failed(error)) => return Err(error),
                }
                // Computed again, the values agree with all of the bytes; otherwise nothing is left to look at.
                self.count_blob();
                self.leave_blob(mark.key, mark.suspect)
            }
        }
    }

    /// Reads until the budget or the blob is at its end; whether it was the blob.
    fn read_pieces(&mut self, subject: &Subject, mark: &BlobMark) -> Result<bool, Unfit> {
        let inner = self.inner;
        let row = &subject.row;
        let Some(opened) = inner.open_file(&mark.key, row, mark.location) else {
            // Replaced just now: the next look finds it so.
            return Ok(false);
        };
        let source = opened?;
        if mark.offset == 0 || *self.proved != Some(mark.location) {
            self.prove(subject, &source)?;
        }
        let group_bytes = source.group_len.as_u64();
        let mut buf = Vec::new();
        let mut offset = mark.offset;
        while offset < row.size {
            let piece = self.piece(PIECE).next_multiple_of(group_bytes).min(row.size - offset);
            buf.resize(usize::try_from(piece).unwrap_or_default(), 0);
            // What the cache holds says nothing of the medium.
            source.file.forget(offset, piece);
            source.read_unchecked(offset, &mut buf)?;
            source.verify(inner.txn.store.as_ref(), offset / group_bytes, &buf)?;
            offset += piece;
            self.spend(piece);
            if let Some(blob) = &mut self.row.blob {
                blob.offset = offset;
            }
            if self.is_spent() && offset < row.size {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compares what lies around the bytes with the row: the chaining values with the root, and the footer.
    fn prove(&mut self, subject: &Subject, source: &FileSource) -> Result<(), Unfit> {
        let row = &subject.row;
        let groups = source.group_len.group_count(row.size);
        if groups > 1 && !self.inner.outboard_is_right(row, source.location)? {
            return Err(Unfit::Outboard);
        }
        *self.proved = Some(source.location);
        self.spend(groups.saturating_mul(32));
        let footer = source
            .file
            .read_footer()
            .map_err(|error| Unfit::File(StorageError::io("read footer", source.location.to_string(), error)))?;
        let expected = Footer { digest: subject.digest, size: row.size, group_len: row.group_len, root: row.root };
        if Footer::decode(&footer).ok() != Some(expected) {
            let registry = self.registry(subject.registry)?;
            match self.found(ScrubFinding::Footer { registry, digest: subject.digest }) {
                Err(Failure::Storage(error)) => return Err(error.into()),
                Err(error) => return Err(StorageError::Poisoned { cause: error.to_string() }.into()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn registry(&self, id: RegistryId) -> Result<Option<RegistryName>, StorageError> {
        registry_name(self.inner.txn.store.view()?.as_ref(), id)
    }

    /// Lets the damage be judged as a reader would, and says what came of it; gives whether the bytes were judged, or
    /// others were there meanwhile.
    fn judge(&mut self, subject: &Subject, unfit: &Unfit) -> Result<bool, Unjudged> {
        let Subject { registry, digest, row } = subject;
        let mut bytes_read = 0;
        let verdict = self.inner.judge(*registry, digest, row, unfit, &mut bytes_read);
        self.spend(bytes_read);
        let verdict = verdict?;
        let (name, digest) = (self.registry(*registry)?, *digest);
        match verdict {
            Verdict::Damaged(Some(damage)) => {
                self.found(ScrubFinding::BlobQuarantined { registry: name, digest, damage })?;
            }
            Verdict::LookAgain(Changed::Rebuilt) => {
                self.found(ScrubFinding::BlobRebuilt { registry: name, digest })?;
            }
            Verdict::Damaged(None) => {}
            Verdict::LookAgain(Changed::Elsewhere) => return Ok(false),
            Verdict::Unwritten(_, failure) => return Err(failure.into()),
        }
        Ok(true)
    }

    /// Writes down that all bytes were right, and that the blob is no suspect any more. Not synced.
    fn verified(&mut self, subject: &Subject, since_ms: u64) -> Result<(), Failure> {
        let inner = self.inner;
        let Subject { registry, digest, row } = subject;
        let (key, suspect_key) = (keys::blob(*registry, digest), keys::suspect(*registry, digest));
        let locks = inner.txn.store.lock_and_get(&[(&key, LockMode::Exclusive)])?;
        let now = BlobRow::decode_optional(value(&locks, 0))?;
        let Some(mut now) = now.filter(|now| now.placement == row.placement && now.state != BlobState::Quarantined)
        else {
            return Ok(());
        };
        let mut batch = Batch::new();
        if inner.txn.store.view()?.get(&suspect_key)?.is_some() {
            batch.delete(&suspect_key);
            inner.suspects.lock().remove(&row.placement.location());
        }
        if now.verified_ms < since_ms {
            now.verified_ms = since_ms;
            batch.put(&key, &now.encode());
        }
        Ok(inner.txn.committer.submit_relaxed(locks, batch)?)
    }

    /// Notes a look in vain. After some of them that the medium is to blame for the bytes count as lost, so that pushing them
    /// again heals the blob.
    fn unreadable(&mut self, subject: &Subject, error: &StorageError) -> Result<(), Failure> {
        let inner = self.inner;
        let Subject { registry, digest, row } = subject;
        let (key, suspect_key) = (keys::blob(*registry, digest), keys::suspect(*registry, digest));
        let now_ms = inner.txn.committer.now_ms();
        let name = self.registry(*registry)?;
        let failures = {
            let locks = inner.txn.store.lock_and_get(&[(&key, LockMode::Exclusive)])?;
            let now = BlobRow::decode_optional(value(&locks, 0))?;
            if now.is_none_or(|now| now.placement != row.placement || now.state == BlobState::Quarantined) {
                return Ok(());
            }
            let known = inner.txn.store.view()?.get(&suspect_key)?;
            let known = known.and_then(|known| SuspectRow::decode(&known).ok());
            let known = known.filter(|known| known.generation == row.generation);
            let mut suspect =
                known.unwrap_or(SuspectRow { generation: row.generation, since_ms: now_ms, looked_ms: 0, failures: 0 });
            // The pass may come by a suspect that was looked at a moment ago; that is no look of its own.
            if !is_due(&suspect, now_ms) {
                return Ok(());
            }
            suspect.failures = suspect.failures.saturating_add(u32::from(error.is_unreadable()));
            suspect.looked_ms = now_ms.max(1);
            let mut batch = Batch::new();
            batch.put(&suspect_key, &suspect.encode());
            inner.txn.committer.submit_relaxed(locks, batch)?;
            suspect.failures
        };
        if failures < LOOKS_IN_VAIN {
            return self.found(ScrubFinding::Unreadable { registry: name, digest: *digest });
        }
        match inner.quarantine(*registry, digest, row.placement, Damage::Unreadable)? {
            Verdict::Damaged(Some(damage)) => {
                self.found(ScrubFinding::BlobQuarantined { registry: name, digest: *digest, damage })
            }
            _ => Ok(()),
        }
    }
}
