//! The bytes of one location, read and checked group by group.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::format::keys;
use crate::format::values::GroupsRow;
use crate::store::{Direction, KeyRange, Location, MetadataStore, StorageError, StoredBlob};

use super::fingerprint::{ChainingValue, GroupLen, verify_group};
use super::open::Pinned;
use super::quarantine::Proved;

/// Runs of chaining values that an open blob keeps, so that readers of several places need not fetch theirs again and
/// again. One of the default lengths is 32 KiB and covers 64 MiB.
const RUNS_KEPT: usize = 8;

/// What is read before it is hashed: little enough that the core's cache still holds it then.
const STEP_BYTES: u64 = 128 << 10;

/// A file of bytes that is open, and what they are checked against.
#[derive(Debug)]
pub(crate) struct FileSource {
    pub(crate) file: Box<dyn StoredBlob>,
    pub(crate) location: Location,
    pub(crate) size: u64,
    pub(crate) group_len: GroupLen,
    pub(crate) root: [u8; 32],
    /// The runs of chaining values that were used last, the last one first.
    runs: Mutex<VecDeque<Arc<Run>>>,
    /// What all groups are compared with instead, where no row says it and none could be written.
    proved: OnceLock<Vec<ChainingValue>>,
    _pin: Pinned,
}

/// Why bytes of a location are not given out.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// A group is not what its chaining value speaks of.
    Bytes {
        /// Where it begins.
        offset: u64,
    },
    /// A chaining value is missing or damaged.
    Outboard,
    /// The file is not as long as it should be, or not there.
    Size,
    /// The file could not be read or looked at.
    File(StorageError),
    /// Rows could not be read.
    Storage(StorageError),
}

impl From<StorageError> for Unfit {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Chaining values of groups that follow one another, as one row holds them.
#[derive(Debug, Default)]
struct Run {
    first: u64,
    values: Vec<ChainingValue>,
}

/// Whole groups of a file, mapped.
pub(crate) type Map = Box<dyn Deref<Target = [u8]> + Send + Sync>;

impl FileSource {
    pub(crate) fn new(
        file: Box<dyn StoredBlob>,
        location: Location,
        size: u64,
        group_len: GroupLen,
        root: [u8; 32],
        pin: Pinned,
    ) -> Self {
        Self { file, location, size, group_len, root, runs: Mutex::default(), proved: OnceLock::new(), _pin: pin }
    }

    /// From now on compares with the values that all of the bytes were proved to have, and with no row.
    pub(crate) fn compare_with(&self, proved: Proved) {
        if proved.location == self.location {
            // Whoever was first proved the same.
            drop(self.proved.set(proved.values));
        }
    }

    /// Fills `buf`, which lies inside the blob, with bytes that were checked. The groups that it touches are read whole;
    /// whole groups are read where they are wanted.
    pub(crate) fn read(&self, store: &dyn MetadataStore, mut offset: u64, mut buf: &mut [u8]) -> Result<(), Unfit> {
        let group_bytes = self.group_len.as_u64();
        while !buf.is_empty() {
            let group = self.group_len.group_of(offset);
            let group_start = group * group_bytes;
            if offset == group_start
                && let Some(whole) = self.whole_groups(offset, buf.len())
            {
                let (head, rest) = std::mem::take(&mut buf).split_at_mut(whole);
                self.read_unchecked(offset, head)?;
                self.verify(store, group, head)?;
                offset += whole as u64;
                buf = rest;
            } else {
                let group_end = (group_start + group_bytes).min(self.size);
                let mut scratch = vec![0; usize::try_from(group_end - group_start).unwrap_or_default()];
                self.read_unchecked(group_start, &mut scratch)?;
                self.verify(store, group, &scratch)?;
                let skip = usize::try_from(offset - group_start).unwrap_or_default();
                let wanted = scratch.get(skip..).unwrap_or_default();
                let take = wanted.len().min(buf.len());
                let (head, rest) = std::mem::take(&mut buf).split_at_mut(take);
                head.copy_from_slice(wanted.get(..take).unwrap_or_default());
                offset += take as u64;
                buf = rest;
            }
        }
        Ok(())
    }

    /// Fills `buf` with what the file holds.
    pub(crate) fn read_unchecked(&self, offset: u64, buf: &mut [u8]) -> Result<(), Unfit> {
        self.file.read_exact_at(buf, offset).map_err(|error| self.unfit("read blob", error))
    }

    /// Maps the groups from one offset to another, both of which are the beginning of a group or the end of the blob.
    pub(crate) fn map(&self, start: u64, end: u64) -> Result<Map, Unfit> {
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let map = self.file.map(start, len).map_err(|error| self.unfit("map blob", error))?;
        if map.len() == len { Ok(map) } else { Err(Unfit::Size) }
    }

    fn unfit(&self, operation: &'static str, error: io::Error) -> Unfit {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unfit::Size,
            _ => Unfit::File(StorageError::io(operation, self.location.to_string(), error)),
        }
    }

    /// How much of `len` bytes at a group's beginning is whole groups that are read at once; the last group of the blob is
    /// whole when all of it is wanted.
    fn whole_groups(&self, offset: u64, len: usize) -> Option<usize> {
        let left = self.size - offset;
        let len = len as u64;
        let group_bytes = self.group_len.as_u64();
        let whole = if len >= left { left } else { len / group_bytes * group_bytes };
        let step = (STEP_BYTES / group_bytes).max(1) * group_bytes;
        usize::try_from(whole.min(step)).ok().filter(|whole| *whole > 0)
    }

    /// Whether `bytes`, whole groups from `first_group` on, are what was stored.
    pub(crate) fn verify(&self, store: &dyn MetadataStore, first_group: u64, bytes: &[u8]) -> Result<(), Unfit> {
        let only = self.group_len.group_count(self.size) == 1;
        let proved = self.proved.get();
        let mut run = Arc::<Run>::default();
        for (group, bytes) in (first_group..).zip(bytes.chunks(self.group_len.as_usize())) {
            let expected = if let Some(proved) = proved {
                proved.get(usize::try_from(group).unwrap_or(usize::MAX)).copied().ok_or(Unfit::Outboard)?
            } else if only {
                self.root
            } else {
                if run.value(group).is_none() {
                    run = self.run_of(store, group)?;
                }
                run.value(group).ok_or(Unfit::Outboard)?
            };
            if !verify_group(self.group_len, group, bytes, &expected, only) {
                return Err(Unfit::Bytes { offset: group * self.group_len.as_u64() });
            }
        }
        Ok(())
    }

    /// Reads the group at `offset` from the medium, whatever a cache holds, and checks it.
    pub(crate) fn verify_anew(&self, store: &dyn MetadataStore, offset: u64) -> Result<(), Unfit> {
        let group = self.group_len.group_of(offset);
        let start = group * self.group_len.as_u64();
        let len = self.group_len.as_u64().min(self.size.saturating_sub(start));
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        self.file.forget(start, len);
        self.read_unchecked(start, &mut bytes)?;
        self.verify(store, group, &bytes)
    }

    /// The run with a group's chaining value, fetched unless it was used lately.
    fn run_of(&self, store: &dyn MetadataStore, group: u64) -> Result<Arc<Run>, Unfit> {
        let recent = |runs: &mut VecDeque<Arc<Run>>| {
            let at = runs.iter().position(|run| run.value(group).is_some())?;
            let run = runs.remove(at)?;
            runs.push_front(Arc::clone(&run));
            Some(run)
        };
        if let Some(run) = recent(&mut self.runs.lock()) {
            return Ok(run);
        }
        let run = Arc::new(self.load_run(store, group)?);
        let mut runs = self.runs.lock();
        runs.push_front(Arc::clone(&run));
        runs.truncate(RUNS_KEPT);
        Ok(run)
    }

    /// The row that holds a group's chaining value: the last one that begins at the group or before.
    fn load_run(&self, store: &dyn MetadataStore, group: u64) -> Result<Run, Unfit> {
        let at = u32::try_from(group).map_err(|_| Unfit::Outboard)?;
        let mut range: KeyRange = keys::all_groups(self.location);
        range.end = keys::groups(self.location, at).into();
        range.end.push(0);
        let view = store.view()?;
        let mut found = None;
        view.scan(&range, Direction::Backward, &mut |key, value| {
            found = keys::first_group_of(key).map(|first| (first, value.to_vec()));
            std::ops::ControlFlow::Break(())
        })?;
        let (first, bytes) = found.ok_or(Unfit::Outboard)?;
        let GroupsRow(values) = GroupsRow::decode(&bytes, self.location, first).map_err(|_| Unfit::Outboard)?;
        Ok(Run { first: u64::from(first), values })
    }
}

impl Run {
    fn value(&self, group: u64) -> Option<ChainingValue> {
        self.values.get(usize::try_from(group.checked_sub(self.first)?).ok()?).copied()
    }
}
