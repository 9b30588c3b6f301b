//! Reading a blob: every byte is checked against what was pushed before anybody sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::digest::Digest;
use crate::engine::{Engine, Inner};
use crate::format::keys::{self, RegistryId};
use crate::format::values::{BlobRow, BlobState, GroupsRow, Placement, Row};
use crate::store::{Direction, KeyRange, Location, StorageError, StoredBlob, View};

use super::errors::ReadFault;
use super::fingerprint::{ChainingValue, GroupLen, verify_group};
use super::open::Pinned;

/// How often a reader whose location was given up meanwhile looks for the new one.
const LOOKS_MAX: u32 = 8;

/// Runs of chaining values that an open blob keeps, so that readers of several places need not fetch theirs again and
/// again. One of the default lengths is 32 KiB and covers 64 MiB.
const RUNS_KEPT: usize = 8;

/// An open blob. Cheap to clone; reads are positioned, so any number of threads may share one.
///
/// It keeps reading the bytes it was opened on, even when the blob is replaced or deleted meanwhile.
#[derive(Debug, Clone)]
pub struct BlobReader {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    digest: Digest,
    size: u64,
    source: Source,
}

enum Source {
    /// Read and verified as a whole when the blob was opened.
    Inline(Vec<u8>),
    File(FileSource),
}

struct FileSource {
    file: Box<dyn StoredBlob>,
    location: Location,
    group_len: GroupLen,
    root: [u8; 32],
    /// The runs of chaining values that were used last, the last one first.
    runs: Mutex<VecDeque<Arc<Run>>>,
    _pin: Pinned,
}

/// Chaining values of groups that follow one another, as one row holds them.
#[derive(Default)]
struct Run {
    first: u64,
    values: Vec<ChainingValue>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("digest", &self.digest).field("size", &self.size).finish_non_exhaustive()
    }
}

/// What opening a blob found.
pub(crate) enum Opened {
    Reader(BlobReader),
    Absent,
    Corrupt,
}

impl Engine {
    /// Opens a blob of a registry, whoever asks.
    pub(crate) fn open_blob(&self, registry: RegistryId, digest: &Digest) -> Result<Opened, StorageError> {
        let inner = &self.inner;
        let key = keys::blob(registry, digest);
        for _ in 0..LOOKS_MAX {
            let view = inner.txn.store.view()?;
            let Some(row) = BlobRow::decode_optional(view.get(&key)?.as_deref())? else { return Ok(Opened::Absent) };
            if row.state == BlobState::Quarantined {
                return Ok(Opened::Corrupt);
            }
            let opened = match row.placement {
                Placement::Inline(location) => open_inline(view.as_ref(), &row, location)?,
                Placement::File(location) => open_file(inner, &key, &row, location),
            };
            match opened {
                Some(Ok(source)) => {
                    let shared = Shared { engine: self.clone(), digest: *digest, size: row.size, source };
                    return Ok(Opened::Reader(BlobReader { shared: Arc::new(shared) }));
                }
                Some(Err(StorageError::Corrupt { .. })) => return Ok(Opened::Corrupt),
                Some(Err(error)) => return Err(error),
                // The location was given up between the look at the row and the pin.
                None => {}
            }
        }
        Err(StorageError::Unavailable { what: "a blob that is replaced again and again", waited_ms: 0 })
    }
}

fn open_inline(
    view: &dyn View,
    row: &BlobRow,
    location: Location,
) -> Result<Option<Result<Source, StorageError>>, StorageError> {
    // Row and bytes come from one view, so the bytes are there unless they are lost.
    let bytes = view.get(&keys::inline_bytes(location))?.unwrap_or_default();
    let intact = bytes.len() as u64 == row.size && *blake3::hash(&bytes).as_bytes() == row.root;
    Ok(Some(if intact {
        Ok(Source::Inline(bytes))
    } else {
        Err(StorageError::corrupt(format!("inline bytes of {location}")))
    }))
}

fn open_file(inner: &Inner, key: &[u8], row: &BlobRow, location: Location) -> Option<Result<Source, StorageError>> {
    let pin = inner.open_blobs.pin(location);
    let group_len = match GroupLen::new(row.group_len) {
        Ok(group_len) => group_len,
        Err(error) => return Some(Err(StorageError::corrupt(error.to_string()))),
    };
    let opened = inner.blobs.open(location, row.stored_size);
    let again = inner.txn.store.view().and_then(|view| view.get(key));
    let now = match again.and_then(|bytes| BlobRow::decode_optional(bytes.as_deref())) {
        Ok(now) => now,
        Err(error) => return Some(Err(error)),
    };
    if now.is_none_or(|now| now.placement != row.placement) {
        return None;
    }
    Some(opened.map(|file| {
        Source::File(FileSource { file, location, group_len, root: row.root, runs: Mutex::default(), _pin: pin })
    }))
}

impl BlobReader {
    /// The blob's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.shared.digest
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.size
    }

    /// Reads up to `buf.len()` bytes at `offset`: fewer only at the end of the blob, none past it. Nothing of `buf` is
    /// to be looked at after an error.
    ///
    /// Cost: the groups that the range touches are read and hashed whole; a `buf` of whole groups is filled without a
    /// copy.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadFault> {
        let left = self.shared.size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        match &self.shared.source {
            Source::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let wanted = bytes.get(start..).and_then(|bytes| bytes.get(..len));
                buf.copy_from_slice(wanted.ok_or_else(|| self.damaged(offset))?);
            }
            Source::File(file) => self.read_file(file, offset, buf)?,
        }
        Ok(len)
    }

    fn read_file(&self, file: &FileSource, mut offset: u64, mut buf: &mut [u8]) -> Result<(), ReadFault> {
        let group_bytes = file.group_len.as_u64();
        while !buf.is_empty() {
            let group = file.group_len.group_of(offset);
            let group_start = group * group_bytes;
            if offset == group_start
                && let Some(whole) = self.whole_groups(offset, buf.len(), group_bytes)
            {
                let (head, rest) = std::mem::take(&mut buf).split_at_mut(whole);
                self.fill(file, head, offset)?;
                self.verify(file, group, head)?;
                offset += whole as u64;
                buf = rest;
            } else {
                let group_end = (group_start + group_bytes).min(self.shared.size);
                let mut scratch = vec![0; usize::try_from(group_end - group_start).unwrap_or_default()];
                self.fill(file, &mut scratch, group_start)?;
                self.verify(file, group, &scratch)?;
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

    /// How much of `len` bytes at a group's beginning is whole groups; the last group of the blob is whole when all of
    /// it is wanted.
    fn whole_groups(&self, offset: u64, len: usize, group_bytes: u64) -> Option<usize> {
        let left = self.shared.size - offset;
        let len = len as u64;
        let whole = if len >= left { left } else { len / group_bytes * group_bytes };
        usize::try_from(whole).ok().filter(|whole| *whole > 0)
    }

    fn fill(&self, file: &FileSource, buf: &mut [u8], offset: u64) -> Result<(), ReadFault> {
        file.file.read_exact_at(buf, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.damaged(offset),
            _ => StorageError::io("read blob", file.location.to_string(), error).into(),
        })
    }

    fn verify(&self, file: &FileSource, first_group: u64, bytes: &[u8]) -> Result<(), ReadFault> {
        let only = file.group_len.group_count(self.shared.size) == 1;
        let mut run = Arc::<Run>::default();
        for (group, bytes) in (first_group..).zip(bytes.chunks(file.group_len.as_usize())) {
            let expected = if only {
                file.root
            } else {
                if run.value(group).is_none() {
                    run = self.run_of(file, group)?;
                }
                run.value(group).ok_or_else(|| self.damaged(group * file.group_len.as_u64()))?
            };
            if !verify_group(file.group_len, group, bytes, &expected, only) {
                return Err(self.damaged(group * file.group_len.as_u64()));
            }
        }
        Ok(())
    }

    /// The run with a group's chaining value, fetched unless it was used lately.
    fn run_of(&self, file: &FileSource, group: u64) -> Result<Arc<Run>, ReadFault> {
        let recent = |runs: &mut VecDeque<Arc<Run>>| {
            let at = runs.iter().position(|run| run.value(group).is_some())?;
            let run = runs.remove(at)?;
            runs.push_front(Arc::clone(&run));
            Some(run)
        };
        if let Some(run) = recent(&mut file.runs.lock()) {
            return Ok(run);
        }
        let run = Arc::new(self.load_run(file, group)?);
        let mut runs = file.runs.lock();
        runs.push_front(Arc::clone(&run));
        runs.truncate(RUNS_KEPT);
        Ok(run)
    }

    /// The row that holds a group's chaining value: the last one that begins at the group or before.
    fn load_run(&self, file: &FileSource, group: u64) -> Result<Run, ReadFault> {
        let damaged = || self.damaged(group * file.group_len.as_u64());
        let at = u32::try_from(group).map_err(|_| damaged())?;
        let mut range: KeyRange = keys::all_groups(file.location);
        range.end = keys::groups(file.location, at);
        range.end.push(0);
        let view = self.shared.engine.inner.txn.store.view()?;
        let mut found = None;
        view.scan(&range, Direction::Backward, &mut |key, value| {
            found = keys::first_group_of(key).map(|first| (first, value.to_vec()));
            std::ops::ControlFlow::Break(())
        })?;
        let (first, bytes) = found.ok_or_else(damaged)?;
        let GroupsRow(values) = GroupsRow::decode(&bytes, file.location, first).map_err(|_| damaged())?;
        Ok(Run { first: u64::from(first), values })
    }

    fn damaged(&self, offset: u64) -> ReadFault {
        ReadFault::Corrupt { digest: self.shared.digest, offset }
    }
}

impl Run {
    fn value(&self, group: u64) -> Option<ChainingValue> {
        self.values.get(usize::try_from(group.checked_sub(self.first)?).ok()?).copied()
    }
}
