//! The commit journal: what is in it is committed (docs/format-journal.md).
//!
//! Groups of commits are appended to preallocated segments, each with one write and one sync; the table below learns
//! of a group only afterwards, and keeps no log of its own. At open, what the table lost is replayed.
//!
//! Invariants:
//! - One group is written at a time, and only after the one before it is on the medium. So every record but the last
//!   was durable, and each one says so of its predecessors.
//! - Sequence numbers follow one another without a gap, from record to record and from segment to segment.
//! - There is always at least one segment, and all segments but the last end in a record that says so (written before
//!   the first group of the next one): a segment that is gone is missed.
//! - A record is valid in one place only (see `record`). Nothing valid ever lies behind a record that was given up.
//! - After a write or a sync failed, nothing more is written: the owner poisons itself and is opened anew.

mod ahead;
mod mark;
mod record;
mod recovery;
mod renewal;
mod segment;
mod survey;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::mark::Mark;
use self::record::{HEADER_LEN, Header, Kind, record_span};
use self::segment::{END_RESERVE, RECORDS_START, SEGMENT_BYTES_MIN, Segment, Spare};
use super::fs::FileSystem;
use super::{CommitError, StorageError};

pub(super) use self::ahead::Ahead;
pub(in crate::store) use recovery::Decided;
pub(crate) use renewal::renew;
pub(crate) use survey::{Survey, next_number, store_ids, survey};

/// The random number that tells one store's files from another's. It is never told to clients.
pub type StoreId = [u8; 16];

/// Where the journal lives, below the store's root.
pub(crate) const DIRECTORY: &str = "journal";

/// How many files wait to become segments. One flush of the table takes several segments back, and each of them is one that
/// no commit has to make.
const SPARES_MAX: usize = 4;

/// A buffer that one large group made larger than this is given back after it.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// The open journal of a store. One owner, who takes turns among threads.
#[derive(Debug)]
pub(super) struct Journal {
    fs: Arc<dyn FileSystem>,
    store_id: StoreId,
    segment_bytes: u64,
    active: Segment,
    // Where the next record goes.
    position: u64,
    // Older segments, the oldest first.
    full: VecDeque<Full>,
    spares: Vec<Spare>,
    // Somebody makes another one.
    making_spare: bool,
    spares_named: u64,
    durable_sequence: u64,
    mark: Mark,
    // A seal says that `durable_sequence` is durable.
    sealed: bool,
    // A seal or the mark was written and not synced.
    unsynced: bool,
    buffer: Vec<u8>,
}

/// A segment that takes no more records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full {
    number: u64,
    last_sequence: u64,
    len: u64,
}

/// Why a group was not appended.
#[derive(Debug)]
pub(super) struct AppendFailure {
    pub(super) error: CommitError,
    /// Whether the journal must not be written to again.
    pub(super) poisons: bool,
}

impl Journal {
    /// Makes the journal of a new store, durably.
    pub(super) fn create(fs: Arc<dyn FileSystem>, store_id: StoreId, segment_bytes: u64) -> Result<Self, StorageError> {
        let directory = Path::new(DIRECTORY);
        fs.create_dir(directory).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => StorageError::NotEmpty { path: directory.to_owned() },
            _ => StorageError::io("create", directory, e),
        })?;
        fs.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync", "", e))?;
        let mark = Mark::create(&*fs, &store_id)?;
        let segment_bytes = usable_segment_bytes(segment_bytes);
        let spare = Spare::create(&fs, segment::spare_path(0), segment_bytes)?;
        // Its directory sync makes the mark's name durable as well.
        let active = spare.activate(&*fs, &store_id, 1, 1)?;
        Ok(Self {
            fs,
            store_id,
            segment_bytes,
            active,
            position: RECORDS_START,
            full: VecDeque::new(),
            spares: Vec::new(),
            making_spare: false,
            spares_named: 1,
            durable_sequence: 0,
            mark,
            sealed: false,
            unsynced: false,
            buffer: Vec::new(),
        })
    }

    /// The last sequence number of the last group.
    pub(super) fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    /// Appends one group and makes it durable. `last_sequence` is above that of the group before.
    pub(super) fn append<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a [u8]>,
        last_sequence: u64,
    ) -> Result<(), AppendFailure> {
        if last_sequence <= self.durable_sequence {
            let what = format!("group up to sequence {last_sequence} after {}", self.durable_sequence);
            return Err(AppendFailure::refused(StorageError::corrupt(what)));
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_LEN, 0);
        batches.for_each(|batch| self.buffer.extend_from_slice(batch));
        let payload_len = (self.buffer.len() - HEADER_LEN) as u64;
        let Some(span) = record_span(payload_len) else {
            return Err(AppendFailure::refused(StorageError::corrupt("group longer than any file")));
        };
        self.buffer.resize(usize::try_from(span).unwrap_or(self.buffer.len()), 0);
        if self.mark.is_end() {
            // Durable before anything lies behind it.
            let taken_back = self.mark.write(self.durable_sequence).and_then(|()| self.mark.sync());
            taken_back.map_err(|error| AppendFailure { error: CommitError::Failed(error), poisons: true })?;
        }
        if self.room() < span {
            self.rotate(span)?;
        }

        let binding = &self.active.binding;
        let payload_end = HEADER_LEN + usize::try_from(payload_len).unwrap_or(usize::MAX - HEADER_LEN);
        let payload = self.buffer.get(HEADER_LEN..payload_end).unwrap_or_default();
        let header = Header {
            kind: Kind::Group,
            payload_len,
            first_sequence: self.durable_sequence + 1,
            last_sequence,
            durable_sequence: self.durable_sequence,
            payload_crc: binding.checksum(self.position, payload),
        };
        let header = header.encode(binding, self.position);
        if let Some(front) = self.buffer.get_mut(..HEADER_LEN) {
            front.copy_from_slice(&header);
        }
        self.write_record()?;
        self.active.file.sync_data().map_err(|e| AppendFailure {
            error: CommitError::Unknown(StorageError::io("sync", self.active.path(), e)),
            poisons: true,
        })?;

        self.position += span;
        self.durable_sequence = last_sequence;
        self.sealed = false;
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Writes the second copy of the durable sequence, without a sync.
    pub(super) fn write_mark(&mut self) -> Result<(), StorageError> {
        self.unsynced = true;
        self.mark.write(self.durable_sequence)
    }

    /// Writes a seal behind the last group unless there is one, without a sync. A full segment goes without: the end
    /// record says the same.
    pub(super) fn seal(&mut self) -> Result<(), StorageError> {
        if self.sealed || self.room() < HEADER_LEN as u64 {
            return Ok(());
        }
        self.write_statement(Kind::Seal)?;
        self.position += HEADER_LEN as u64;
        self.sealed = true;
        self.unsynced = true;
        Ok(())
    }

    /// Syncs what [`Journal::seal`] and [`Journal::write_mark`] left unsynced.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        if self.unsynced {
            self.active.file.sync_data().map_err(|e| StorageError::io("sync", self.active.path(), e))?;
            self.mark.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Says that nothing lies behind the last group, without a sync. The next group takes it back.
    pub(super) fn mark_end(&mut self) -> Result<(), StorageError> {
        if self.mark.is_end() {
            return Ok(());
        }
        self.unsynced = true;
        self.mark.write_end(self.durable_sequence)
    }

    /// How many segments take no more records.
    pub(super) fn full_segments(&self) -> usize {
        self.full.len()
    }

    /// Takes the segments whose every group a flush up to `flushed_sequence` covers out of the journal.
    pub(super) fn retire(&mut self, flushed_sequence: u64) -> Vec<Full> {
        let covered = self.full.iter().take_while(|full| full.last_sequence <= flushed_sequence).count();
        self.full.drain(..covered).collect()
    }

    /// A name for the next segment's file, if it is time to make it: half of this one is used, no spare is there, and
    /// nobody makes one. Whoever is given the name ends with [`Journal::spare_made`].
    pub(super) fn spare_due(&mut self) -> Option<PathBuf> {
        let due = !self.making_spare && self.spares.is_empty() && self.position > self.active.header.len / 2;
        self.making_spare |= due;
        due.then(|| self.spare_name())
    }

    /// Keeps the file that was due, if it could be made; answers it back if there are enough already.
    pub(super) fn spare_made(&mut self, made: Option<Spare>) -> Option<Spare> {
        self.making_spare = false;
        self.offer_spare(made?)
    }

    /// A name for a spare file that nobody else was given.
    pub(super) fn spare_name(&mut self) -> PathBuf {
        self.spares_named += 1;
        segment::spare_path(self.spares_named)
    }

    /// Whether a retired segment would serve as the next one.
    pub(super) fn can_recycle(&self, full: &Full) -> bool {
        self.spares.len() < SPARES_MAX && full.len == self.segment_bytes
    }

    /// Keeps a file for a later segment; answers it back if there are enough already.
    pub(super) fn offer_spare(&mut self, spare: Spare) -> Option<Spare> {
        if self.spares.len() >= SPARES_MAX {
            return Some(spare);
        }
        self.spares.push(spare);
        None
    }

    /// The length of an ordinary segment.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    fn room(&self) -> u64 {
        (self.active.header.len - END_RESERVE).saturating_sub(self.position)
    }

    /// Writes what is in the buffer at the current position.
    fn write_record(&mut self) -> Result<(), AppendFailure> {
        let path = || self.active.path();
        let unknown =
            |e| AppendFailure { error: CommitError::Unknown(StorageError::io("write", path(), e)), poisons: true };
        let written = match self.active.file.write_at(&self.buffer, self.position) {
            Ok(0) => return Err(unknown(io::ErrorKind::WriteZero.into())),
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
            // These are said before a byte is taken, so no part of the record exists.
            Err(e) if is_refusal(&e) => {
                let error = CommitError::Failed(StorageError::io("write", path(), e));
                return Err(AppendFailure { error, poisons: true });
            }
            Err(e) => return Err(unknown(e)),
        };
        let rest = self.buffer.get(written..).unwrap_or_default();
        self.active.file.write_all_at(rest, self.position + written as u64).map_err(unknown)
    }

    fn write_statement(&self, kind: Kind) -> Result<(), StorageError> {
        let header = Header::statement(kind, self.durable_sequence, &self.active.binding, self.position);
        let bytes = header.encode(&self.active.binding, self.position);
        let written = self.active.file.write_all_at(&bytes, self.position);
        written.map_err(|e| StorageError::io("write", self.active.path(), e))
    }

    /// Goes on in a new segment with room for a record of `span` bytes.
    fn rotate(&mut self, span: u64) -> Result<(), AppendFailure> {
        // Room for the seal as well.
        let least = span
            .checked_add(RECORDS_START + HEADER_LEN as u64 + END_RESERVE)
            .and_then(|least| least.checked_next_multiple_of(RECORDS_START))
            .ok_or_else(|| AppendFailure::refused(StorageError::corrupt("group longer than any file")))?;
        let spare = match self.spares.pop_if(|spare| spare.len >= least) {
            Some(spare) => spare,
            None => {
                let name = self.spare_name();
                let len = least.max(self.segment_bytes);
                // Nothing of the journal has changed yet: the next group may find room again.
                Spare::create(&self.fs, name, len).map_err(AppendFailure::refused)?
            }
        };
        let number = self.active.header.number + 1;
        let poisons = |error| AppendFailure { error: CommitError::Failed(error), poisons: true };
        let next = spare.activate(&*self.fs, &self.store_id, number, self.durable_sequence + 1).map_err(poisons)?;
        // From here on the next segment is missed if it goes. Its first group must not exist before that.
        self.write_statement(Kind::End).map_err(poisons)?;
        self.active.file.sync_data().map_err(|e| poisons(StorageError::io("sync", self.active.path(), e)))?;
        self.full.push_back(Full {
            number: self.active.header.number,
            last_sequence: self.durable_sequence,
            len: self.active.header.len,
        });
        self.active = next;
        self.position = RECORDS_START;
        Ok(())
    }
}

impl AppendFailure {
    fn refused(error: StorageError) -> Self {
        Self { error: CommitError::Failed(error), poisons: false }
    }
}

impl Full {
    /// Turns the retired segment's file into a spare one.
    pub(super) fn recycle(&self, fs: &Arc<dyn FileSystem>, path: PathBuf) -> Result<Spare, StorageError> {
        Spare::recycle(fs, self.number, path)
    }

    /// Removes the retired segment's file. Should a crash bring it back, the next open retires it again.
    pub(super) fn remove(&self, fs: &dyn FileSystem) -> Result<(), StorageError> {
        let path = segment::segment_path(self.number);
        fs.remove_file(&path).map_err(|e| StorageError::io("remove", path, e))
    }
}

/// Makes the file of the next segment ahead of its use, without the journal's lock.
pub(super) fn make_spare(fs: &Arc<dyn FileSystem>, path: PathBuf, len: u64) -> Result<Spare, StorageError> {
    Spare::create(fs, path, len)
}

fn usable_segment_bytes(asked: u64) -> u64 {
    asked.clamp(SEGMENT_BYTES_MIN, 1 << 40).next_multiple_of(RECORDS_START)
}

/// Whether an error says that there is no such file, or something else in its place.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied
    )
}
