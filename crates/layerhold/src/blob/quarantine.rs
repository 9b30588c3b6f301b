//! What becomes of a blob whose stored bytes do not prove right.
//!
//! A blob is quarantined by its row alone: state and generation change in one synced commit with the event that says what
//! was found and where. The bytes stay where they are, under their name, until an upload of the digest has put others in
//! their place; then they go as any replaced location does. So nothing is lost that an operator may want to look at, and a
//! crash at any moment leaves either the row that served them or the row that does not.
//!
//! A location is drawn once and never used again, so the decision compares it with the one that was read: where an upload
//! was faster, the new bytes are not touched by what was found wrong with the old ones.

use crate::call::Call;
use crate::change::Event;
use crate::digest::{Digest, DigestHasher};
use crate::engine::{Inner, collect, value};
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::footer::FOOTER_LEN;
use crate::format::keys::{self, RegistryId};
use crate::format::values::{BlobRow, BlobState, GroupsRow, Placement, Row, SuspectRow};
use crate::registry::registry_name;
use crate::store::{Batch, Direction, Location, LockMode, StorageError, StoredBlob, View};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::damage::Damage;
use super::fingerprint::{ChainingValue, FingerprintHasher, GroupLen, Root, root_from_groups};
use super::source::Unfit;

/// Blobs that are remembered as suspect, so that a failing disk does not cost a commit for every read.
const SUSPECTS_REMEMBERED: usize = 1_000;

/// How much is read at a time when a whole blob is looked at.
const STEP: u64 = 1 << 20;

/// Chaining values of a rebuilt row, and of one commit of them.
const ROW_VALUES: usize = 2_048;
const COMMIT_VALUES: usize = 256 << 10;

/// The most groups of a blob whose chaining values are rebuilt: they are held in memory until the whole blob has proved
/// right, 64 MiB of them. With groups of the default length that is a blob of 128 GiB. A larger one is quarantined.
pub(crate) const GROUPS_REBUILT_MAX: u64 = 2 << 20;

/// What became of a location that was under suspicion.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Its bytes are damaged, and the row says so, or there is no row any more; with what was found, if this call wrote it
    /// down.
    Damaged(Option<Damage>),
    /// The row now leads to bytes that may be right: others, or the same with new chaining values.
    LookAgain(Changed),
    /// Its bytes have the digest, and what they are compared with is this, which could not be written down.
    Unwritten(Proved, Failure),
}

/// What the bytes of a location are compared with, computed from bytes that have the digest.
#[derive(Debug)]
pub(crate) struct Proved {
    pub(crate) location: Location,
    pub(crate) root: Root,
    /// The values of all groups; that of an only one is the root.
    pub(crate) values: Vec<ChainingValue>,
}

/// Why it is worth looking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Other bytes are there, or what was wrong is so no more.
    Elsewhere,
    /// What the bytes are compared with was computed again by this call.
    Rebuilt,
}

/// Why nobody can say what is wrong.
#[derive(Debug)]
pub(crate) enum Unjudged {
    /// The blob's file could not be looked at, which says nothing of its bytes.
    File(StorageError),
    /// Rows could not be read or written.
    Failed(Failure),
}

impl From<Failure> for Unjudged {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StorageError> for Unjudged {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

/// What the whole of a blob's bytes turned out to be.
enum Whole {
    Damaged(Damage),
    Right { root: Root, values: Vec<ChainingValue> },
}

impl Inner {
    /// Finds out what is wrong where reading found something wrong, and acts on it. `row` is the row that led there;
    /// `bytes_read` is raised by what was read of the whole blob for it.
    pub(crate) fn judge(
        &self,
        registry: RegistryId,
        digest: &Digest,
        row: &BlobRow,
        unfit: &Unfit,
        bytes_read: &mut u64,
    ) -> Result<Verdict, Unjudged> {
        if let (Unfit::Bytes { offset }, Placement::File(location)) = (unfit, row.placement)
            && self.reads_right(&keys::blob(registry, digest), row, location, *offset)?
        {
            return Ok(Verdict::LookAgain(Changed::Elsewhere));
        }
        match (unfit, row.placement) {
            (Unfit::Size, Placement::File(location)) => self.judge_size(registry, digest, row, location),
            (Unfit::Bytes { offset }, Placement::File(location)) if self.outboard_is_right(row, location)? => {
                Ok(self.quarantine(registry, digest, row.placement, Damage::Bytes { offset: *offset })?)
            }
            _ => self.judge_whole(registry, digest, row, bytes_read),
        }
    }

    /// Whether the group at `offset` is right when it is read once more, from the medium: memory errs, too, and whatever lies
    /// between. Also where the row leads elsewhere by now.
    fn reads_right(&self, key: &[u8], row: &BlobRow, location: Location, offset: u64) -> Result<bool, Unjudged> {
        let Some(opened) = self.open_file(key, row, location) else { return Ok(true) };
        match opened.and_then(|source| source.verify_anew(self.txn.store.as_ref(), offset)) {
            Ok(()) => Ok(true),
            Err(Unfit::Bytes { .. } | Unfit::Outboard | Unfit::Size) => Ok(false),
            Err(Unfit::File(error)) => Err(Unjudged::File(error)),
            Err(Unfit::Storage(error)) => Err(error.into()),
        }
    }

    fn judge_size(
        &self,
        registry: RegistryId,
        digest: &Digest,
        row: &BlobRow,
        location: Location,
    ) -> Result<Verdict, Unjudged> {
        match self.wrong_length(row, location)? {
            None => Ok(Verdict::LookAgain(Changed::Elsewhere)),
            Some(damage) => Ok(self.quarantine(registry, digest, row.placement, damage)?),
        }
    }

    /// What the length of a blob's file says against it.
    fn wrong_length(&self, row: &BlobRow, location: Location) -> Result<Option<Damage>, Unjudged> {
        let expected = row.stored_size.saturating_add(FOOTER_LEN as u64);
        Ok(match self.blobs.len(location).map_err(Unjudged::File)? {
            None => Some(Damage::Missing),
            Some(found) if found != expected => Some(Damage::Length { expected, found }),
            Some(_) => None,
        })
    }

    /// Whether the chaining values of a location lead to the root in the row. If they do, they are what was stored, and a
    /// group that differs from its value is damaged.
    pub(crate) fn outboard_is_right(&self, row: &BlobRow, location: Location) -> Result<bool, StorageError> {
        let Ok(group_len) = GroupLen::new(row.group_len) else { return Ok(false) };
        let count = group_len.group_count(row.size);
        // The value of an only group is the root itself, which proves nothing about the row.
        if !(2..=GROUPS_REBUILT_MAX).contains(&count) {
            return Ok(false);
        }
        let view = self.txn.store.view()?;
        let Some(values) = stored_values(view.as_ref(), location, count)? else { return Ok(false) };
        Ok(root_from_groups(group_len, &values, row.size) == Some(row.root))
    }

    /// Reads all bytes of a blob. If they have the digest, what was wrong is beside them and is computed again; if not,
    /// the blob is quarantined.
    fn judge_whole(
        &self,
        registry: RegistryId,
        digest: &Digest,
        row: &BlobRow,
        bytes_read: &mut u64,
    ) -> Result<Verdict, Unjudged> {
        let _turn = self.judging.take_turn(row.placement.location());
        let key = keys::blob(registry, digest);
        let stored = self.txn.store.view()?.get(&key)?;
        let Some(now) = BlobRow::decode_optional(stored.as_deref())? else {
            return Ok(Verdict::Damaged(None));
        };
        if now.placement != row.placement {
            return Ok(Verdict::LookAgain(Changed::Elsewhere));
        }
        if now.state == BlobState::Quarantined {
            return Ok(Verdict::Damaged(None));
        }
        if let Placement::File(location) = now.placement
            && self.outboard_is_right(&now, location)?
        {
            // Somebody else has just computed the chaining values again.
            return Ok(Verdict::LookAgain(Changed::Elsewhere));
        }
        let whole = match row.placement {
            Placement::Inline(location) => {
                inline_whole(digest, row, self.txn.store.view()?.get(&keys::inline_bytes(location))?)
            }
            Placement::File(location) => match self.file_whole(digest, row, location, bytes_read)? {
                // Wrong bytes count only where the medium gives them twice.
                Whole::Damaged(Damage::Digest) => self.file_whole(digest, row, location, bytes_read)?,
                whole => whole,
            },
        };
        Ok(match whole {
            Whole::Damaged(damage) => self.quarantine(registry, digest, row.placement, damage)?,
            Whole::Right { root, values } => match self.rebuild(registry, digest, row.placement, root, &values) {
                Ok(verdict) => verdict,
                Err(failure) => {
                    let values = if values.is_empty() { vec![root] } else { values };
                    Verdict::Unwritten(Proved { location: row.placement.location(), root, values }, failure)
                }
            },
        })
    }

    fn file_whole(
        &self,
        digest: &Digest,
        row: &BlobRow,
        location: Location,
        bytes_read: &mut u64,
    ) -> Result<Whole, Unjudged> {
        let _pin = self.open_blobs.pin(location);
        let Ok(group_len) = GroupLen::new(row.group_len) else { return Ok(Whole::Damaged(Damage::Digest)) };
        if group_len.group_count(row.size) > GROUPS_REBUILT_MAX {
            return Ok(Whole::Damaged(Damage::Digest));
        }
        let file = match self.blobs.open(location, row.stored_size) {
            Err(StorageError::Corrupt { .. }) => {
                // Whatever its length is by now, it could not be opened.
                return Ok(Whole::Damaged(self.wrong_length(row, location)?.unwrap_or(Damage::Digest)));
            }
            opened => opened.map_err(Unjudged::File)?,
        };
        // What the cache holds says nothing of the medium.
        file.forget(0, row.size);
        let mut fingerprint = FingerprintHasher::new(group_len);
        let mut hasher = DigestHasher::new(digest.algorithm());
        let mut values = Vec::new();
        let read = read_whole(file.as_ref(), row.size, |bytes| {
            *bytes_read += bytes.len() as u64;
            hasher.update(bytes);
            fingerprint.update(bytes);
            values.append(&mut fingerprint.take_groups().values);
        });
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(Whole::Damaged(self.wrong_length(row, location)?.unwrap_or(Damage::Digest)));
            }
            Err(error) => return Err(Unjudged::File(StorageError::io("read blob", location.to_string(), error))),
            Ok(()) => {}
        }
        if hasher.finalize() != *digest {
            return Ok(Whole::Damaged(Damage::Digest));
        }
        let mut fingerprint = fingerprint.finish();
        values.append(&mut fingerprint.remaining.values);
        // The value of an only group is the root, and has no row.
        if fingerprint.group_count < 2 {
            values.clear();
        }
        Ok(Whole::Right { root: fingerprint.root, values })
    }

    /// Says of a location that its bytes are damaged, unless the row has left it meanwhile. Durable when it returns.
    pub(crate) fn quarantine(
        &self,
        registry: RegistryId,
        digest: &Digest,
        placement: Placement,
        damage: Damage,
    ) -> Result<Verdict, Failure> {
        self.check_writable().map_err(Failure::Storage)?;
        let key = keys::blob(registry, digest);
        let mut verdict = Verdict::Damaged(None);
        self.txn.run(&Call::anonymous(), &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            let name = registry_name(attempt.view()?.as_ref(), registry)?;
            let locks = attempt.lock::<Failure>(&[(&key, LockMode::Exclusive)])?;
            verdict = Verdict::Damaged(None);
            let Some(mut row) = BlobRow::decode_optional(value(&locks, 0))? else {
                return Ok(Decision::Unchanged(()));
            };
            if row.placement != placement {
                verdict = Verdict::LookAgain(Changed::Elsewhere);
                return Ok(Decision::Unchanged(()));
            }
            if row.state == BlobState::Quarantined {
                return Ok(Decision::Unchanged(()));
            }
            row.state = BlobState::Quarantined;
            row.generation = row.generation.wrapping_add(1);
            let location = placement.location();
            let event = Event::BlobQuarantined { registry: name, digest: *digest, location, damage };
            let mut commit = Commit::new(locks, event, ());
            commit.batch.put(&key, &row.encode());
            commit.batch.delete(&keys::suspect(registry, digest));
            verdict = Verdict::Damaged(Some(damage));
            Ok::<Decision<()>, Stop<Failure>>(commit.decided())
        })?;
        Ok(verdict)
    }

    /// Writes chaining values and root of a blob whose bytes have its digest, unless the row has left the location.
    fn rebuild(
        &self,
        registry: RegistryId,
        digest: &Digest,
        placement: Placement,
        root: Root,
        values: &[ChainingValue],
    ) -> Result<Verdict, Failure> {
        self.check_writable().map_err(Failure::Storage)?;
        let location = placement.location();
        let key = keys::blob(registry, digest);
        let mut chunks: Vec<_> = values.chunks(COMMIT_VALUES).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        // Each commit by itself leaves values that are right, and a row that was not reached yet is found missing again.
        let last = chunks.len() - 1;
        for (number, chunk) in chunks.into_iter().enumerate() {
            let first = number * COMMIT_VALUES;
            // The last commit takes away whatever lies behind, too.
            let end = (number < last).then_some(first + COMMIT_VALUES);
            self.txn.run(&Call::anonymous(), &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
                let name = registry_name(attempt.view()?.as_ref(), registry)?;
                let locks = attempt.lock::<Failure>(&[(&key, LockMode::Exclusive)])?;
                let Some(mut row) =
                    BlobRow::decode_optional(value(&locks, 0))?.filter(|row| row.placement == placement)
                else {
                    return Ok(Decision::Unchanged(()));
                };
                let old = old_rows(attempt.view()?.as_ref(), location, first, end)?;
                let event = Event::BlobRebuilt { registry: name, digest: *digest, location };
                let mut commit = Commit::new(locks, event, ());
                old.iter().for_each(|key| commit.batch.delete(key));
                put_values(&mut commit.batch, location, first, chunk);
                row.root = root;
                commit.batch.put(&key, &row.encode());
                Ok::<Decision<()>, Stop<Failure>>(commit.decided())
            })?;
        }
        Ok(Verdict::LookAgain(Changed::Rebuilt))
    }

    /// Remembers that a blob could not be read, so that the next scrub looks at it first. One failed read says nothing of
    /// the bytes; the blob goes on being served. Not synced, and no harm where it fails.
    pub(crate) fn mark_suspect(&self, registry: RegistryId, digest: &Digest, location: Location, error: &StorageError) {
        if !error.is_unreadable() || self.check_writable().is_err() {
            return;
        }
        {
            let mut suspects = self.suspects.lock();
            if suspects.len() >= SUSPECTS_REMEMBERED {
                suspects.clear();
            }
            if !suspects.insert(location) {
                return;
            }
        }
        drop(self.try_mark_suspect(registry, digest));
    }

    fn try_mark_suspect(&self, registry: RegistryId, digest: &Digest) -> Result<(), StorageError> {
        let (key, suspect_key) = (keys::blob(registry, digest), keys::suspect(registry, digest));
        let locks = self.txn.store.lock_and_get(&[(&key, LockMode::Exclusive)])?;
        let Some(row) = BlobRow::decode_optional(value(&locks, 0))? else { return Ok(()) };
        let known = self.txn.store.view()?.get(&suspect_key)?;
        // What is none says nothing, and is written anew.
        let known = known.and_then(|known| SuspectRow::decode(&known).ok());
        if row.state != BlobState::Live || known.is_some_and(|known| known.generation == row.generation) {
            return Ok(());
        }
        let since_ms = self.txn.committer.now_ms();
        let suspect = SuspectRow { generation: row.generation, since_ms, looked_ms: 0, failures: 0 };
        let mut batch = Batch::new();
        batch.put(&suspect_key, &suspect.encode());
        self.txn.committer.submit_relaxed(locks, batch)
    }
}

impl Placement {
    /// Where the bytes are, in whichever way.
    pub(crate) fn location(self) -> Location {
        match self {
            Self::Inline(location) | Self::File(location) => location,
        }
    }
}

fn inline_whole(digest: &Digest, row: &BlobRow, bytes: Option<Vec<u8>>) -> Whole {
    let Some(bytes) = bytes else { return Whole::Damaged(Damage::Missing) };
    let found = bytes.len() as u64;
    if found != row.size {
        return Whole::Damaged(Damage::Length { expected: row.size, found });
    }
    if Digest::of(digest.algorithm(), &bytes) != *digest {
        return Whole::Damaged(Damage::Bytes { offset: 0 });
    }
    Whole::Right { root: *blake3::hash(&bytes).as_bytes(), values: Vec::new() }
}

/// Hands all bytes of a blob to `take`, piece by piece.
fn read_whole(file: &dyn StoredBlob, size: u64, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut buf = vec![0; usize::try_from(size.min(STEP)).unwrap_or_default()];
    let mut offset = 0;
    while offset < size {
        let step = usize::try_from((size - offset).min(STEP)).unwrap_or_default();
        let piece = buf.get_mut(..step).unwrap_or_default();
        file.read_exact_at(piece, offset)?;
        take(piece);
        offset += step as u64;
    }
    Ok(())
}

/// The `count` chaining values of a location in their order; `None` where one is missing or a row is damaged.
pub(crate) fn stored_values(
    view: &dyn View,
    location: Location,
    count: u64,
) -> Result<Option<Vec<ChainingValue>>, StorageError> {
    let mut values: Vec<ChainingValue> = Vec::new();
    let mut whole = true;
    view.scan(&keys::all_groups(location), Direction::Forward, &mut |key, bytes| {
        let row =
            keys::first_group_of(key).and_then(|first| GroupsRow::decode(bytes, location, first).ok().zip(Some(first)));
        match row {
            Some((GroupsRow(mut run), first)) if u64::from(first) == values.len() as u64 => {
                values.append(&mut run);
                whole = values.len() as u64 <= count;
            }
            _ => whole = false,
        }
        if whole { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    })?;
    Ok((whole && values.len() as u64 == count).then_some(values))
}

/// Keys of the rows that begin at a group from `first` to `end`, or wherever behind it.
fn old_rows(
    view: &dyn View,
    location: Location,
    first: usize,
    end: Option<usize>,
) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut range = keys::all_groups(location);
    let bound = |group: usize| u32::try_from(group).ok().map(|group| keys::groups(location, group));
    range.start = bound(first).unwrap_or(range.start);
    range.end = end.and_then(bound).unwrap_or(range.end);
    collect(view, &range, Direction::Forward, usize::MAX, |key, _| Ok(key.to_vec()))
}

fn put_values(batch: &mut Batch, location: Location, first: usize, values: &[ChainingValue]) {
    for (number, run) in values.chunks(ROW_VALUES).enumerate() {
        let first = u32::try_from(first + number * ROW_VALUES).unwrap_or(u32::MAX);
        batch.put(&keys::groups(location, first), &GroupsRow(run.to_vec()).encode(location, first));
    }
}
