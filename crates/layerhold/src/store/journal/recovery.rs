//! Opening a journal: what is there, what must be there, and the end made ready for the next group.
//!
//! Three numbers decide. *Applied* is what the table holds by itself. *Recovered* is how far the records lead without
//! a gap. *Proven* is the highest sequence number that anything says was durable: a later record or seal, the head of
//! a later segment, the mark, the table. Recovered below proven is loss, and nothing is changed. Recovered above
//! proven can only be the last group, which was never acknowledged or is; it is kept.
//!
//! Nothing here changes the files before the decision. What is written after it may be cut off by a crash at any
//! point: the next open finds the same records, proven at least as far, and comes to the same decision.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mark::{Mark, Statement};
use super::record::{ALIGNMENT, HEADER_LEN, Header, Kind};
use super::segment::{self, END_RESERVE, RECORDS_START, Segment};
use super::{DIRECTORY, Full, Journal, StoreId, usable_segment_bytes};
use crate::store::fs::{FileSystem, OpenMode};
use crate::store::{Batch, StorageError};

/// A header that is valid where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) position: u64,
    pub(super) header: Header,
    /// Whether the payload is what was written.
    whole: bool,
}

impl Found {
    fn end(&self) -> u64 {
        self.header.span().and_then(|span| self.position.checked_add(span)).unwrap_or(u64::MAX)
    }
}

/// A segment with what its records say.
pub(super) struct Scanned {
    pub(super) segment: Segment,
    pub(super) records: Vec<Found>,
}

impl Scanned {
    /// Where the next record goes: behind everything that is whole.
    fn tail(&self) -> u64 {
        self.records.iter().filter(|found| found.whole).map(Found::end).max().unwrap_or(RECORDS_START)
    }

    pub(super) fn has_end(&self) -> bool {
        self.records.iter().any(|found| found.header.kind == Kind::End)
    }
}

/// How far the records lead, and what must be replayed.
pub(super) struct Chain {
    pub(super) recovered: u64,
    pub(super) proven: u64,
    // Index of the segment in the scanned ones, and the record.
    pub(super) replay: Vec<(usize, Found)>,
    missing_segment: Option<u64>,
    /// The table ends in the middle of a group: it is not a state that there ever was.
    pub(super) split: bool,
}

/// A journal that was read and judged sound, before anything is changed.
pub(in crate::store) struct Decided {
    fs: Arc<dyn FileSystem>,
    store_id: StoreId,
    applied: u64,
    scanned: Vec<Scanned>,
    chain: Chain,
    mark: Mark,
    full: VecDeque<Full>,
    spares: Vec<PathBuf>,
}

impl Journal {
    /// Reads the journal of a store whose table holds everything up to `applied_sequence`, and judges it. Nothing is
    /// changed; with [`OpenMode::Read`] nothing can be.
    ///
    /// # Errors
    /// [`StorageError::AcknowledgedDataLoss`] or [`StorageError::Corrupt`] when something that was durable is not
    /// there.
    pub(in crate::store) fn decide(
        fs: Arc<dyn FileSystem>,
        store_id: StoreId,
        applied_sequence: u64,
        mode: OpenMode,
    ) -> Result<Decided, StorageError> {
        let (numbers, spares) = segment::list(&*fs)?;
        let (mark, Statement { sequence: marked, .. }) = Mark::open(&*fs, &store_id, mode)?;
        let mut segments = Vec::with_capacity(numbers.len());
        for number in numbers {
            segments.push(Segment::open(&*fs, &store_id, number, mode)?);
        }
        let full = full_segments(&segments);
        let scanned = scan_needed(segments, applied_sequence)?;
        let chain = follow(&scanned, applied_sequence, marked);
        if chain.split {
            let what = format!("table between groups applied_sequence={applied_sequence}");
            return Err(StorageError::corrupt(what));
        }
        let recovered = chain.recovered.max(applied_sequence);
        if chain.proven > recovered {
            return Err(StorageError::AcknowledgedDataLoss { expected: chain.proven, recovered });
        }
        if chain.recovered < recovered {
            let what = format!("the journal ends at {} before the table at {recovered}", chain.recovered);
            return Err(StorageError::corrupt(what));
        }
        if let Some(number) = chain.missing_segment {
            return Err(StorageError::corrupt(format!("{} is missing", segment::segment_path(number).display())));
        }
        Ok(Decided { fs, store_id, applied: applied_sequence, scanned, chain, mark, full, spares })
    }
}

impl Decided {
    /// The sequence that the store will have.
    pub(in crate::store) fn recovered(&self) -> u64 {
        self.chain.recovered
    }

    /// What the table held when this was decided.
    pub(in crate::store) fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether a group was begun and is given up, because it was never acknowledged.
    pub(in crate::store) fn tail_dropped(&self) -> bool {
        self.scanned.last().is_some_and(|last| {
            let given_up = |found: &Found| found.header.kind == Kind::Group && !found.whole;
            last.records.iter().any(|found| given_up(found) && found.header.last_sequence > self.chain.recovered)
        })
    }

    /// Hands every group above what the table holds to `replay`, in order, with its last sequence number.
    pub(in crate::store) fn replay(
        &self,
        replay: &mut dyn FnMut(Batch, u64) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        replay_chain(&self.scanned, &self.chain, replay)
    }

    /// Makes the end of the journal ready for the next group, then replays.
    pub(in crate::store) fn finish(
        mut self,
        segment_bytes: u64,
        replay: &mut dyn FnMut(Batch, u64) -> Result<(), StorageError>,
    ) -> Result<Journal, StorageError> {
        let position = make_tail_durable(&*self.fs, &self.store_id, &self.scanned, &self.chain, &mut self.mark)?;
        self.replay(replay)?;
        for spare in &self.spares {
            self.fs.remove_file(spare).map_err(|e| StorageError::io("remove", spare, e))?;
        }
        let last = self.scanned.into_iter().next_back().ok_or_else(no_segments)?;
        Ok(Journal {
            fs: self.fs,
            store_id: self.store_id,
            segment_bytes: usable_segment_bytes(segment_bytes),
            active: last.segment,
            position,
            full: self.full,
            spares: Vec::new(),
            making_spare: false,
            spares_named: 0,
            durable_sequence: self.chain.recovered,
            mark: self.mark,
            sealed: true,
            unsynced: false,
            buffer: Vec::new(),
        })
    }
}

/// Hands every group of the chain to `replay`.
pub(super) fn replay_chain(
    scanned: &[Scanned],
    chain: &Chain,
    replay: &mut dyn FnMut(Batch, u64) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    for (index, found) in &chain.replay {
        let Some(Scanned { segment, .. }) = scanned.get(*index) else { continue };
        let batch = Batch::from_bytes(read_payload(segment, found)?)
            .ok_or_else(|| StorageError::corrupt(format!("batches in {}", segment.path().display())))?;
        replay(batch, found.header.last_sequence)?;
    }
    Ok(())
}

/// Every segment but the last, with the last sequence number in it.
fn full_segments(segments: &[Segment]) -> VecDeque<Full> {
    segments
        .iter()
        .zip(segments.iter().skip(1))
        .map(|(segment, next)| Full {
            number: segment.header.number,
            last_sequence: next.header.first_sequence.saturating_sub(1),
            len: segment.header.len,
        })
        .collect()
}

/// Reads the segments that may hold something above `applied`. Older ones may have holes among them: they were
/// retired, and a crash may have kept any of the removals from the medium.
fn scan_needed(mut segments: Vec<Segment>, applied: u64) -> Result<Vec<Scanned>, StorageError> {
    if segments.is_empty() {
        return Err(no_segments());
    }
    let before = |segment: &Segment| segment.header.first_sequence.saturating_sub(1);
    // Where none is early enough there is a gap, and all of them say how much is missing.
    let start = segments.iter().rposition(|segment| before(segment) <= applied).unwrap_or(0);
    let scanned = |segment: Segment| Ok(Scanned { records: scan(&segment)?, segment });
    let mut needed = segments.drain(start..).map(scanned).collect::<Result<VecDeque<_>, StorageError>>()?;
    // A crash may have come between the making of the newest segment and the end of the one before.
    if let Some(previous) = segments.pop()
        && let [newest] = needed.make_contiguous()
        && newest.records.is_empty()
        && newest.segment.header.number == previous.header.number + 1
    {
        needed.push_front(scanned(previous)?);
    }
    Ok(needed.into())
}

/// Finds every header that is valid where it stands. Behind damage the search goes on at each place where a record
/// could begin, because what is found there proves that the damaged part was durable.
pub(super) fn scan(segment: &Segment) -> Result<Vec<Found>, StorageError> {
    let too_long = || StorageError::corrupt(format!("{} is longer than memory", segment.path().display()));
    let len = usize::try_from(segment.header.len).map_err(|_| too_long())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| too_long())?;
    bytes.resize(len, 0);
    segment.file.read_exact_at(&mut bytes, 0).map_err(|e| StorageError::io("read", segment.path(), e))?;
    let mut records = Vec::new();
    let mut position = RECORDS_START;
    while let Some(rest) = usize::try_from(position).ok().and_then(|at| bytes.get(at..)).filter(|rest| !rest.is_empty())
    {
        let Some(header) = Header::decode(rest, &segment.binding, position) else {
            position += ALIGNMENT;
            continue;
        };
        let payload = usize::try_from(header.payload_len).ok().and_then(|len| rest.get(HEADER_LEN..)?.get(..len));
        let whole = payload.is_some_and(|payload| segment.binding.checksum(position, payload) == header.payload_crc);
        let found = Found { position, header, whole };
        position = if whole { found.end() } else { position + ALIGNMENT };
        records.push(found);
    }
    Ok(records)
}

/// Walks the records in order and gathers what they prove.
pub(super) fn follow(scanned: &[Scanned], applied: u64, marked: u64) -> Chain {
    let mut proven = applied.max(marked);
    let mut recovered = 0;
    let mut whole_so_far = true;
    let mut replay = Vec::new();
    let mut split = false;
    let mut missing_segment = None;
    let mut expected_number = None;
    for (index, Scanned { segment, records }) in scanned.iter().enumerate() {
        let number = segment.header.number;
        if let Some(expected) = expected_number
            && expected != number
        {
            missing_segment.get_or_insert(expected);
        }
        expected_number = Some(number + 1);
        let before = segment.header.first_sequence.saturating_sub(1);
        proven = proven.max(before);
        // What the table holds by itself is not missed in the journal.
        whole_so_far &= before <= recovered.max(applied);
        if whole_so_far {
            recovered = recovered.max(before);
        }
        for found in records {
            let header = &found.header;
            proven = proven.max(header.durable_sequence);
            if header.kind != Kind::Group || header.last_sequence <= recovered {
                continue;
            }
            whole_so_far &=
                header.first_sequence <= recovered.max(applied) + 1 && (found.whole || header.last_sequence <= applied);
            if !whole_so_far {
                continue;
            }
            recovered = header.last_sequence;
            if header.last_sequence > applied {
                // The table holds whole groups alone: nothing here fits behind what it has.
                if header.first_sequence <= applied {
                    split = true;
                    recovered = applied;
                    whole_so_far = false;
                    continue;
                }
                replay.push((index, *found));
            }
        }
    }
    if scanned.last().is_some_and(Scanned::has_end) {
        missing_segment = missing_segment.or(expected_number);
    }
    Chain { recovered, proven, replay, missing_segment, split }
}

/// Makes what was recovered durable for certain and puts a seal behind it. Answers where the next record goes.
///
/// The bytes of a group that nothing proves durable may be in memory alone: the process was killed before its sync, or
/// the sync failed and the system forgot that the pages are not written. So they are written again. The seal takes
/// the place of what was given up: its header is gone before anything can be written behind it.
fn make_tail_durable(
    fs: &dyn FileSystem,
    store_id: &StoreId,
    scanned: &[Scanned],
    chain: &Chain,
    mark: &mut Mark,
) -> Result<u64, StorageError> {
    let (last, older) = scanned.split_last().ok_or_else(no_segments)?;
    let segment = &last.segment;
    let tail = last.tail();
    let newest = last.records.last();
    let is_sealed = |found: &Found| {
        found.header.kind == Kind::Seal && found.header.durable_sequence == chain.recovered && found.end() == tail
    };
    let sealed = newest.is_some_and(is_sealed);
    if sealed && mark.is_end() {
        return Ok(tail);
    }

    let io = |operation, segment: &Segment| {
        let path = segment.path();
        move |e| StorageError::io(operation, path, e)
    };
    if last.records.is_empty() {
        // The crash may have come while this segment was made: its header, its name, the end of the one before.
        let header = segment.header.encode(store_id);
        segment.file.write_all_at(&header, 0).map_err(io("write", segment))?;
        segment.file.sync_data().map_err(io("sync", segment))?;
        fs.sync_dir(Path::new(DIRECTORY)).map_err(|e| StorageError::io("sync", DIRECTORY, e))?;
        if let Some(previous) = older.last().filter(|previous| !previous.has_end()) {
            let at = previous.tail();
            let end = Header::statement(Kind::End, chain.recovered, &previous.segment.binding, at);
            let bytes = end.encode(&previous.segment.binding, at);
            previous.segment.file.write_all_at(&bytes, at).map_err(io("write", &previous.segment))?;
            previous.segment.file.sync_data().map_err(io("sync", &previous.segment))?;
        }
    }
    if let Some((_, found)) = chain.replay.last()
        && chain.recovered > chain.proven
    {
        let payload = read_payload(segment, found)?;
        let mut bytes = found.header.encode(&segment.binding, found.position).to_vec();
        bytes.extend_from_slice(&payload);
        segment.file.write_all_at(&bytes, found.position).map_err(io("write", segment))?;
        segment.file.sync_data().map_err(io("sync", segment))?;
    }
    // A seal that is there already may never have been synced, or its sync may have failed.
    let at = if sealed { tail - HEADER_LEN as u64 } else { tail };
    let mut position = tail;
    if at + HEADER_LEN as u64 + END_RESERVE <= segment.header.len {
        let seal = Header::statement(Kind::Seal, chain.recovered, &segment.binding, at);
        segment.file.write_all_at(&seal.encode(&segment.binding, at), at).map_err(io("write", segment))?;
        segment.file.sync_data().map_err(io("sync", segment))?;
        position = at + HEADER_LEN as u64;
    }
    mark.write_end(chain.recovered)?;
    mark.sync()?;
    Ok(position)
}

fn read_payload(segment: &Segment, found: &Found) -> Result<Vec<u8>, StorageError> {
    let len = usize::try_from(found.header.payload_len).map_err(|_| StorageError::corrupt("record length"))?;
    let mut payload = vec![0; len];
    let at = found.position + HEADER_LEN as u64;
    segment.file.read_exact_at(&mut payload, at).map_err(|e| StorageError::io("read", segment.path(), e))?;
    if segment.binding.checksum(found.position, &payload) != found.header.payload_crc {
        // It was right a moment ago.
        return Err(StorageError::corrupt(format!("{} changes while it is read", segment.path().display())));
    }
    Ok(payload)
}

fn no_segments() -> StorageError {
    StorageError::corrupt("the journal has no segments")
}
