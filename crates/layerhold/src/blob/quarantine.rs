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
use crate::engine::{Inner, value};
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::footer::FOOTER_LEN;
use crate::format::keys::{self, RegistryId};
use crate::format::values::{BlobRow, BlobState, Placement, Row, SuspectRow};
use crate::registry::registry_name;
use crate::store::{Batch, Location, LockMode, StorageError, StoredBlob};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::damage::Damage;
use super::fingerprint::{ChainingValue, FingerprintHasher, GroupLen, Root};
use super::outboard::{Computed, Right, TakeValues, Written, fold_stored};
use super::source::Unfit;

/// Blobs that are remembered as suspect, so that a failing disk does not cost a commit for every read.
const SUSPECTS_REMEMBERED: usize = 1_000;

/// How much is read at a time when a whole blob is looked at.
const STEP: u64 = 1 << 20;

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
    Right { root: Root, values: Computed },
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
        if count < 2 {
            return Ok(false);
        }
        let folded = fold_stored(self.txn.store.view()?.as_ref(), location)?;
        Ok(folded.is_ok_and(|fold| fold.count() == count && fold.value() == Some(row.root)))
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
            Whole::Right { root, values } => {
                match (self.rebuild(registry, digest, row, root, &values, bytes_read), values.whole()) {
                    (Ok(verdict), _) => verdict,
                    (Err(Unjudged::Failed(failure)), Some(mut values)) => {
                        if values.is_empty() {
                            values.push(root);
                        }
                        Verdict::Unwritten(Proved { location: row.placement.location(), root, values }, failure)
                    }
                    (Err(unjudged), _) => return Err(unjudged),
                }
            }
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
        let file = match self.blobs.open(location, row.stored_size) {
            Err(StorageError::Corrupt { .. }) => {
                // Whatever its length is by now, it could not be opened.
                return Ok(Whole::Damaged(self.wrong_length(row, location)?.unwrap_or(Damage::Digest)));
            }
            opened => opened.map_err(Unjudged::File)?,
        };
        let mut hasher = DigestHasher::new(digest.algorithm());
        let mut values = Computed::default();
        let read = read_whole(file.as_ref(), row.size, group_len, bytes_read, &mut |bytes, found| {
            hasher.update(bytes);
            values.extend(found);
            Ok(())
        });
        let root = match read {
            Err(Unread::Short) => {
                return Ok(Whole::Damaged(self.wrong_length(row, location)?.unwrap_or(Damage::Digest)));
            }
            Err(Unread::Failed(error)) => {
                return Err(Unjudged::File(StorageError::io("read blob", location.to_string(), error)));
            }
            Err(Unread::Stopped(unjudged)) => return Err(unjudged),
            Ok(root) => root,
        };
        if hasher.finalize() != *digest {
            return Ok(Whole::Damaged(Damage::Digest));
        }
        Ok(Whole::Right { root, values })
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
        row: &BlobRow,
        root: Root,
        values: &Computed,
        bytes_read: &mut u64,
    ) -> Result<Verdict, Unjudged> {
        self.check_writable()?;
        let location = row.placement.location();
        let name = registry_name(self.txn.store.view()?.as_ref(), registry)?;
        let event = Event::BlobRebuilt { registry: name, digest: *digest, location };
        let proved = Right { registry, digest: *digest, location, values };
        let next_row = |now: Option<&[u8]>, _: Option<&[u8]>, _| {
            let now = BlobRow::decode_optional(now)?.filter(|now| now.placement == row.placement);
            Ok(now.map(|now| BlobRow { root, ..now }))
        };
        let compute = |take: TakeValues<'_, Unjudged>| {
            let group_len = GroupLen::new(row.group_len).map_err(|error| StorageError::corrupt(error.to_string()))?;
            let file = self.blobs.open(location, row.stored_size).map_err(Unjudged::File)?;
            match read_whole(file.as_ref(), row.size, group_len, bytes_read, &mut |_, values| take(values)) {
                // Whatever is there now, it is not what was proved: the end is missing from the values.
                Ok(_) | Err(Unread::Short) => Ok(()),
                Err(Unread::Failed(error)) => {
                    Err(Unjudged::File(StorageError::io("read blob", location.to_string(), error)))
                }
                Err(Unread::Stopped(unjudged)) => Err(unjudged),
            }
        };
        let written = self.write_outboard(&proved, &next_row, &Call::anonymous(), &event, compute)?;
        Ok(Verdict::LookAgain(match written {
            Written::Done => Changed::Rebuilt,
            Written::Changed | Written::Differed => Changed::Elsewhere,
        }))
    }

    /// Remembers that a blob could not be read, so that the next scrub looks at it first. One failed read says nothing of
    /// the bytes; the blob goes on being served. Not synced, and no harm where it fails: the next read that fails tries again.
    pub(crate) fn mark_suspect(&self, registry: RegistryId, digest: &Digest, location: Location, error: &StorageError) {
        if !error.is_unreadable() || self.check_writable().is_err() {
            return;
        }
        if self.suspects.lock().contains(&location) || self.try_mark_suspect(registry, digest).is_err() {
            return;
        }
        let mut suspects = self.suspects.lock();
        if suspects.len() >= SUSPECTS_REMEMBERED {
            suspects.clear();
        }
        suspects.insert(location);
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
    Whole::Right { root: *blake3::hash(&bytes).as_bytes(), values: Computed::default() }
}

/// Why a blob was not read to its end.
enum Unread {
    /// It is shorter than it should be.
    Short,
    Failed(std::io::Error),
    Stopped(Unjudged),
}

/// Takes a piece of a blob, and the chaining values that became final with it.
type TakePiece<'a> = &'a mut dyn FnMut(&[u8], &[ChainingValue]) -> Result<(), Unjudged>;

/// Reads all bytes of a blob from the medium, whatever a cache holds, and gives their root. There are no chaining values where
/// there is an only group: its value is the root.
fn read_whole(
    file: &dyn StoredBlob,
    size: u64,
    group_len: GroupLen,
    bytes_read: &mut u64,
    take: TakePiece<'_>,
) -> Result<Root, Unread> {
    file.forget(0, size);
    let mut fingerprint = FingerprintHasher::new(group_len);
    let mut buf = vec![0; usize::try_from(size.min(STEP)).unwrap_or_default()];
    let mut offset = 0;
    while offset < size {
        let step = usize::try_from((size - offset).min(STEP)).unwrap_or_default();
        let piece = buf.get_mut(..step).unwrap_or_default();
        file.read_exact_at(piece, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Unread::Short,
            _ => Unread::Failed(error),
        })?;
        offset += step as u64;
        *bytes_read += step as u64;
        fingerprint.update(piece);
        take(piece, &fingerprint.take_groups().values).map_err(Unread::Stopped)?;
    }
    let fingerprint = fingerprint.finish();
    if fingerprint.group_count > 1 {
        take(&[], &fingerprint.remaining.values).map_err(Unread::Stopped)?;
    }
    Ok(fingerprint.root)
}
