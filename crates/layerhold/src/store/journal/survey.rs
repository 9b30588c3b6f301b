//! What a damaged journal still says. Reads everything, refuses nothing, changes nothing.
//!
//! Opening judges and stops at the first thing that is wrong; an operator who has to choose wants to know all of it, and
//! how far the groups lead in spite of it. A segment whose header is gone still has its records, which are bound to its
//! number and their places; one that bears another one's name says in its header which it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mark::{self, Mark};
use super::record::{ALIGNMENT, Binding, Kind};
use super::recovery::{Chain, Found, Scanned, follow, replay_chain, scan};
use super::segment::{self, RECORDS_START, SEGMENT_HEADER_LEN, Segment, SegmentHeader};
use super::{StoreId, is_absent};
use crate::store::fs::{FileSystem, OpenMode};
use crate::store::{Batch, StorageError};

/// No segment is longer: a group is bounded, and a file that was made to grow is not worth its length in memory.
const SURVEYED_BYTES_MAX: u64 = 1 << 30;

/// See the module.
pub(crate) struct Survey {
    scanned: Vec<Scanned>,
    chain: Chain,
    /// The highest sequence that anything in the journal, or the table, says was durable.
    pub(crate) proven: u64,
    /// How far the groups lead from what the table holds.
    pub(crate) recovered: u64,
    /// Whether anything but the table says how far the store was.
    pub(crate) has_statement: bool,
    /// Whether the end of the journal is known: from a mark that says to be it, or because its last segment is there and whole.
    pub(crate) end_is_known: bool,
    /// What is wrong with segments, in words.
    pub(crate) damages: Vec<String>,
    /// What is wrong with the mark.
    pub(crate) mark_damage: Option<String>,
    /// A number that no segment has or had, as far as can be seen, and above all that have one.
    pub(crate) next_number: u64,
}

impl Survey {
    /// Whether any file of the journal is damaged, apart from what is lost.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.damages.is_empty() || self.mark_damage.is_some()
    }

    /// Hands every group above what the table holds, as far as they lead, to `replay`.
    pub(crate) fn replay(
        &self,
        replay: &mut dyn FnMut(Batch, u64) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        replay_chain(&self.scanned, &self.chain, replay)
    }
}

/// Reads what there is of the journal of the store `store_id`, whose table holds everything up to `applied`.
///
/// # Errors
/// Those of the file system, that is of the medium; damage is no error here.
pub(crate) fn survey(fs: &Arc<dyn FileSystem>, store_id: &StoreId, applied: u64) -> Result<Survey, StorageError> {
    let fs = &**fs;
    let mut damages = Vec::new();
    let (numbers, _) = match segment::list(fs) {
        Ok(found) => found,
        Err(StorageError::Corrupt { what }) => {
            damages.push(what);
            (Vec::new(), Vec::new())
        }
        Err(error) => return Err(error),
    };
    let (marked, mark_damage) = match Mark::open(fs, store_id, OpenMode::Read) {
        Ok((_, statement)) => (Some(statement), None),
        Err(StorageError::Corrupt { what }) => (None, Some(what)),
        Err(error) => return Err(error),
    };
    let mut next_number = numbers.last().map_or(1, |last| last.saturating_add(1));
    let mut scanned = Vec::with_capacity(numbers.len());
    for number in numbers {
        if let Err(error) = Segment::open(fs, store_id, number, OpenMode::Read) {
            match error {
                StorageError::Corrupt { what } => damages.push(what),
                StorageError::UnknownFormat { .. } => damages.push(error.to_string()),
                error => return Err(error),
            }
        }
        match what_is_left(fs, store_id, number) {
            Ok(left) => scanned.extend(left),
            Err(StorageError::Corrupt { what }) => damages.push(what),
            Err(error) => return Err(error),
        }
    }
    scanned.sort_by_key(|left| left.segment.header.number);
    next_number = scanned.iter().map(|left| left.segment.header.number.saturating_add(1)).fold(next_number, u64::max);
    let has_statement = marked.is_some() || !scanned.is_empty();
    let last_is_there = scanned.last().is_some_and(|last| !last.has_end());
    let marked_as_end = marked.is_some_and(|marked| marked.is_end);
    let end_is_known = marked_as_end || (damages.is_empty() && last_is_there);
    let mut chain = follow(&scanned, applied, marked.map_or(0, |marked| marked.sequence));
    if chain.split {
        damages.push(format!("table between groups applied_sequence={applied}"));
        chain.replay.clear();
    }
    Ok(Survey {
        proven: chain.proven,
        recovered: if chain.split { applied } else { chain.recovered.max(applied) },
        scanned,
        chain,
        has_statement,
        end_is_known,
        damages,
        mark_damage,
        next_number,
    })
}

/// A number above that of every file that bears the name of a segment, whosever they are.
///
/// # Errors
/// Those of the file system.
pub(crate) fn next_number(fs: &dyn FileSystem) -> Result<u64, StorageError> {
    Ok(numbers(fs)?.last().map_or(1, |last| last.saturating_add(1)))
}

fn numbers(fs: &dyn FileSystem) -> Result<Vec<u64>, StorageError> {
    match segment::list(fs) {
        Ok((numbers, _)) => Ok(numbers),
        Err(StorageError::Corrupt { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The records of one file, under the number that it is known by.
fn what_is_left(fs: &dyn FileSystem, store_id: &StoreId, named: u64) -> Result<Option<Scanned>, StorageError> {
    let name = segment::segment_path(named);
    let file = fs.open(&name, OpenMode::Read).map_err(|e| StorageError::io("open", &name, e))?;
    let file_len = file.len().map_err(|e| StorageError::io("measure", &name, e))?;
    let len = file_len.min(SURVEYED_BYTES_MAX) / ALIGNMENT * ALIGNMENT;
    if len <= RECORDS_START {
        return Ok(None);
    }
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    file.read_exact_at(&mut bytes, 0).map_err(|e| StorageError::io("read", &name, e))?;
    let header = SegmentHeader::decode(&bytes, store_id, &name).ok();
    let number = header.map_or(named, |header| header.number);
    let known = SegmentHeader { number, first_sequence: u64::MAX, len };
    let mut segment = Segment { header: known, file, binding: Binding::new(store_id, number) };
    let records = scan(&segment)?;
    let first = header.map(|header| header.first_sequence).or_else(|| records.first().map(begins_with));
    let Some(first) = first else { return Ok(None) };
    segment.header.first_sequence = first;
    Ok(Some(Scanned { segment, records }))
}

/// The sequence that a segment begins with whose first record this is.
fn begins_with(found: &Found) -> u64 {
    match found.header.kind {
        Kind::Group => found.header.first_sequence,
        Kind::Seal | Kind::End => found.header.durable_sequence.saturating_add(1),
    }
}

/// The ids of the stores that whole headers of segments and slots of the mark name, each file's once or twice.
///
/// # Errors
/// Those of the file system.
pub(crate) fn store_ids(fs: &dyn FileSystem) -> Result<Vec<StoreId>, StorageError> {
    let mut ids: Vec<StoreId> = mark::Mark::statements(fs)?.into_iter().map(|(id, _)| id).collect();
    for number in numbers(fs)? {
        let name: PathBuf = segment::segment_path(number);
        ids.extend(header_id(fs, &name)?);
    }
    Ok(ids)
}

fn header_id(fs: &dyn FileSystem, name: &Path) -> Result<Option<StoreId>, StorageError> {
    let file = match fs.open(name, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(StorageError::io("open", name, e)),
    };
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(SegmentHeader::store_id(&bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(StorageError::io("read", name, e)),
    }
}
