//! Reading a blob: every byte is checked against what was pushed before anybody sees it.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::digest::Digest;
use crate::engine::{Engine, Inner, value};
use crate::error::Failure;
use crate::format::keys::{self, RegistryId};
use crate::format::values::{BlobRow, BlobState, Placement, Row};
use crate::store::{Batch, Location, LockMode, StorageError};

use super::errors::ReadFault;
use super::fingerprint::GroupLen;
use super::quarantine::{Proved, Unjudged, Verdict};
use super::source::{FileSource, Map, Unfit};

/// How often a reader whose location was given up meanwhile looks for the new one.
const LOOKS_MAX: u32 = 8;

/// Ranges ahead of the first gap that an open blob remembers; a download has two at most.
const VERIFIED_AHEAD_MAX: usize = 8;

/// The most that one call of [`BlobReader::map_at`] maps, in bytes: what cannot be mapped is held in memory instead.
pub const MAP_BYTES_MAX: usize = 64 << 20;

/// An open blob. Cheap to clone; reads are positioned, so any number of threads may share one.
///
/// It keeps reading the bytes it was opened on, even when the blob is replaced or deleted meanwhile. Where those turn out
/// damaged and others have taken their place, it goes on with the others; where not, the blob is quarantined: from then on
/// it is absent to a push, corrupt to a pull, and the next upload of its digest heals it.
#[derive(Debug, Clone)]
pub struct BlobReader {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    registry: RegistryId,
    digest: Digest,
    size: u64,
    place: RwLock<Arc<Place>>,
}

/// Where a blob's bytes were found.
#[derive(Debug)]
struct Place {
    row: BlobRow,
    /// Engine time until which bytes are given out unchecked; 0 for never.
    unchecked_until_ms: AtomicU64,
    /// What was verified since it was opened at this engine time.
    verified: Mutex<Verified>,
    opened_ms: u64,
    bytes: Bytes,
}

/// How much is verified from a blob's beginning on.
#[derive(Debug, Default, Clone)]
struct Verified {
    /// Every byte before this one.
    to: u64,
    /// What lies behind it, in any order: of several readers one may be ahead.
    ahead: Vec<Range<u64>>,
}

impl Verified {
    /// Adds a range; whether that made the first `size` bytes complete.
    fn completes(&mut self, range: Range<u64>, size: u64) -> bool {
        let before = self.to;
        if self.ahead.len() < VERIFIED_AHEAD_MAX || range.start <= self.to {
            self.ahead.push(range);
        }
        while let Some(next) = self.ahead.iter().position(|range| range.start <= self.to) {
            self.to = self.to.max(self.ahead.swap_remove(next).end);
        }
        before < size && self.to >= size
    }
}

#[derive(Debug)]
enum Bytes {
    /// Read and verified as a whole when the blob was opened.
    Inline(Vec<u8>),
    File(FileSource),
}

/// Bytes of a blob where the system's cache holds them: a range that was verified when it was mapped.
///
/// The pages are not checked again. Should the system take one back and read it anew from a medium that has failed since,
/// the bytes differ or, where the sector cannot be read at all, the process is sent a signal. Who cannot accept that reads
/// with [`BlobReader::read_at`].
pub struct MappedBytes {
    bytes: Mapped,
    start: usize,
    len: usize,
}

enum Mapped {
    Copied(Vec<u8>),
    Groups(Map),
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = match &self.bytes {
            Mapped::Copied(bytes) => bytes.as_slice(),
            Mapped::Groups(map) => map,
        };
        bytes.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for MappedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedBytes").field("len", &self.len).finish_non_exhaustive()
    }
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

/// What one look at a blob found.
enum Looked {
    At(Arc<Place>),
    Absent,
    Corrupt,
    /// The location was given up between the look at the row and the pin.
    Moved,
    /// The bytes are right, and this is what to compare them with.
    Proved(Proved),
}

impl Engine {
    /// Opens a blob of a registry, whoever asks.
    pub(crate) fn open_blob(&self, registry: RegistryId, digest: &Digest) -> Result<Opened, Failure> {
        Ok(match self.inner.find_place(registry, digest)? {
            Looked::At(place) => {
                let shared = Shared {
                    engine: self.clone(),
                    registry,
                    digest: *digest,
                    size: place.row.size,
                    place: RwLock::new(place),
                };
                Opened::Reader(BlobReader { shared: Arc::new(shared) })
            }
            Looked::Absent => Opened::Absent,
            Looked::Corrupt | Looked::Moved | Looked::Proved(_) => Opened::Corrupt,
        })
    }
}

impl Inner {
    /// Looks until it finds bytes that may be right, or finds that there are none.
    fn find_place(&self, registry: RegistryId, digest: &Digest) -> Result<Looked, Failure> {
        let mut proved = None;
        for _ in 0..LOOKS_MAX {
            match self.look(registry, digest, proved.as_ref())? {
                Looked::Moved => {}
                Looked::Proved(now) => proved = Some(now),
                looked => return Ok(looked),
            }
        }
        Err(StorageError::Unavailable { what: "a blob that is replaced again and again", waited_ms: 0 }.into())
    }

    fn look(&self, registry: RegistryId, digest: &Digest, proved: Option<&Proved>) -> Result<Looked, Failure> {
        let opened_ms = self.txn.committer.now_ms();
        let view = self.txn.store.view()?;
        let key = keys::blob(registry, digest);
        let Some(row) = BlobRow::decode_optional(view.get(&key)?.as_deref())? else { return Ok(Looked::Absent) };
        if row.state == BlobState::Quarantined {
            return Ok(Looked::Corrupt);
        }
        let found = match row.placement {
            Placement::Inline(location) => {
                // Row and bytes come from one view, so the bytes are there unless they are lost.
                let bytes = view.get(&keys::inline_bytes(location))?.unwrap_or_default();
                let root = proved.filter(|proved| proved.location == location).map_or(row.root, |proved| proved.root);
                let intact = bytes.len() as u64 == row.size && *blake3::hash(&bytes).as_bytes() == root;
                if intact { Ok(Bytes::Inline(bytes)) } else { Err(Unfit::Bytes { offset: 0 }) }
            }
            Placement::File(location) => match self.open_file(&key, &row, location) {
                Some(found) => found.map(Bytes::File),
                None => return Ok(Looked::Moved),
            },
        };
        drop(view);
        match found {
            Ok(bytes) => {
                let unchecked_until_ms = AtomicU64::new(self.unchecked_until_ms(row.verified_ms));
                let verified = Mutex::default();
                Ok(Looked::At(Arc::new(Place { row, unchecked_until_ms, verified, opened_ms, bytes })))
            }
            Err(unfit) => Ok(match self.handle(registry, digest, &row, unfit)? {
                Verdict::Damaged(_) => Looked::Corrupt,
                Verdict::LookAgain(_) => Looked::Moved,
                Verdict::Unwritten(proved, _) => Looked::Proved(proved),
            }),
        }
    }

    pub(crate) fn open_file(&self, key: &[u8], row: &BlobRow, location: Location) -> Option<Result<FileSource, Unfit>> {
        let pin = self.open_blobs.pin(location);
        let opened = self.blobs.open(location, row.stored_size);
        let again = self.txn.store.view().and_then(|view| view.get(key));
        let now = match again.and_then(|bytes| BlobRow::decode_optional(bytes.as_deref())) {
            Ok(now) => now,
            Err(error) => return Some(Err(error.into())),
        };
        if now.is_none_or(|now| now.placement != row.placement) {
            return None;
        }
        Some(match (opened, GroupLen::new(row.group_len)) {
            (Ok(file), Ok(group_len)) => Ok(FileSource::new(file, location, row.size, group_len, row.root, pin)),
            (Err(StorageError::Corrupt { .. }), _) => Err(Unfit::Size),
            (Err(error), _) => Err(Unfit::File(error)),
            (_, Err(error)) => Err(StorageError::corrupt(error.to_string()).into()),
        })
    }

    /// What follows from bytes that are not given out. Where the medium only failed to give them, that is remembered and
    /// the error stands; damage is damage even where the row cannot be told.
    fn handle(
        &self,
        registry: RegistryId,
        digest: &Digest,
        row: &BlobRow,
        unfit: Unfit,
    ) -> Result<Verdict, StorageError> {
        let failed = match unfit {
            Unfit::File(error) => error,
            Unfit::Storage(error) => return Err(error),
            unfit => match (self.judge(registry, digest, row, &unfit, &mut 0), unfit) {
                (Ok(verdict), _) => return Ok(verdict),
                (Err(Unjudged::File(error)), _) if error.is_unreadable() => error,
                // The bytes are not what was stored, whatever keeps the row from saying so.
                (Err(_), Unfit::Bytes { .. } | Unfit::Size) => return Ok(Verdict::Damaged(None)),
                (Err(Unjudged::File(error) | Unjudged::Failed(Failure::Storage(error))), _) => return Err(error),
                (Err(Unjudged::Failed(error)), _) => return Err(StorageError::Poisoned { cause: error.to_string() }),
            },
        };
        self.mark_suspect(registry, digest, row.placement.location(), &failed);
        Err(failed)
    }

    fn unchecked_until_ms(&self, verified_ms: u64) -> u64 {
        match self.options.verified_window_ms {
            0 => 0,
            window_ms => verified_ms.saturating_add(window_ms),
        }
    }

    /// Writes down that all bytes of a location were right at some time. Not synced: a verification that is forgotten is
    /// done again.
    pub(crate) fn note_verified(
        &self,
        registry: RegistryId,
        digest: &Digest,
        placement: Placement,
        verified_ms: u64,
    ) -> Result<(), StorageError> {
        self.check_writable()?;
        let key = keys::blob(registry, digest);
        let locks = self.txn.store.lock_and_get(&[(&key, LockMode::Exclusive)])?;
        let row = BlobRow::decode_optional(value(&locks, 0))?;
        let Some(mut row) = row.filter(|row| row.state != BlobState::Quarantined && row.placement == placement) else {
            return Ok(());
        };
        let mut batch = Batch::new();
        if row.verified_ms < verified_ms {
            row.verified_ms = verified_ms;
            batch.put(&key, &row.encode());
        }
        self.txn.committer.submit_relaxed(locks, batch)
    }
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
    /// copy. Within [`verified_window_ms`](crate::Options::verified_window_ms) it is one plain read.
    ///
    /// # Errors
    /// [`ReadFault::Corrupt`]: the blob was quarantined, by this call or before.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadFault> {
        let len = self.len_at(offset, buf.len());
        let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        self.attempt(offset, |inner, place| {
            if Self::read_from(inner, place, offset, buf)? {
                self.note_progress(inner, place, offset, len as u64);
            }
            Ok(())
        })?;
        Ok(len)
    }

    /// Reads as [`BlobReader::read_at`] does, where the bytes come and prove right at once; `None` where they do not, or where
    /// something would have to be written down. `read_at` then finds out what is wrong, for which it may read the whole blob,
    /// wait for a lock and commit: this reads the range and does none of that.
    #[must_use]
    pub fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Option<usize> {
        let len = self.len_at(offset, buf.len());
        let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) else { return Some(0) };
        let inner = &self.shared.engine.inner;
        let place = Arc::clone(&self.shared.place.read());
        let range = offset..offset + len as u64;
        // Where a window is asked for, that all of a blob was verified is noted in its row.
        if inner.options.verified_window_ms != 0
            && !place.is_unchecked(inner)
            && place.verified.lock().clone().completes(range.clone(), self.shared.size)
        {
            return None;
        }
        if Self::read_from(inner, &place, offset, buf).ok()? {
            // Should another reader have made this the last one meanwhile, the row is not told: that is done again.
            let _ = self.begins_window(inner, &place, range);
        }
        Some(len)
    }

    /// Fills `buf` with the bytes at `offset`; whether a file's were compared with their chaining values.
    fn read_from(inner: &Inner, place: &Place, offset: u64, buf: &mut [u8]) -> Result<bool, Unfit> {
        match &place.bytes {
            Bytes::Inline(bytes) => {
                buf.copy_from_slice(part(bytes, offset, buf.len())?);
                Ok(false)
            }
            Bytes::File(file) if place.is_unchecked(inner) => file.read_unchecked(offset, buf).map(|()| false),
            Bytes::File(file) => file.read(inner.txn.store.as_ref(), offset, buf).map(|()| true),
        }
    }

    /// Gives up to `len` bytes at `offset` without copying them, verified as [`BlobReader::read_at`] does; fewer at the end
    /// of the blob and beyond [`MAP_BYTES_MAX`], none past it.
    pub fn map_at(&self, offset: u64, len: usize) -> Result<MappedBytes, ReadFault> {
        let len = self.len_at(offset, len.min(MAP_BYTES_MAX));
        if len == 0 {
            return Ok(MappedBytes { bytes: Mapped::Copied(Vec::new()), start: 0, len });
        }
        self.attempt(offset, |inner, place| match &place.bytes {
            Bytes::Inline(bytes) => {
                let bytes = Mapped::Copied(part(bytes, offset, len)?.to_vec());
                Ok(MappedBytes { bytes, start: 0, len })
            }
            Bytes::File(file) => {
                let group_bytes = file.group_len.as_u64();
                let first = offset / group_bytes;
                let from = first * group_bytes;
                let to = (offset + len as u64).next_multiple_of(group_bytes).min(self.shared.size);
                let map = file.map(from, to)?;
                if !place.is_unchecked(inner) {
                    file.verify(inner.txn.store.as_ref(), first, &map)?;
                    self.note_progress(inner, place, from, to - from);
                }
                let start = usize::try_from(offset - from).unwrap_or(usize::MAX);
                Ok(MappedBytes { bytes: Mapped::Groups(map), start, len })
            }
        })
    }

    fn len_at(&self, offset: u64, len: usize) -> usize {
        let left = self.shared.size.saturating_sub(offset);
        usize::try_from(left).unwrap_or(usize::MAX).min(len)
    }

    /// Does `work` at the place where the bytes are, and again at another one if there is one.
    fn attempt<T>(
        &self,
        offset: u64,
        mut work: impl FnMut(&Inner, &Place) -> Result<T, Unfit>,
    ) -> Result<T, ReadFault> {
        let shared = &self.shared;
        let inner = &shared.engine.inner;
        for _ in 0..LOOKS_MAX {
            let place = Arc::clone(&shared.place.read());
            let unfit = match work(inner, &place) {
                Ok(done) => return Ok(done),
                Err(unfit) => unfit,
            };
            let offset = if let Unfit::Bytes { offset } = &unfit { *offset } else { offset };
            match inner.handle(shared.registry, &shared.digest, &place.row, unfit)? {
                Verdict::Damaged(_) => return Err(self.damaged(offset)),
                Verdict::LookAgain(_) => self.look_again(offset)?,
                Verdict::Unwritten(proved, _) => match &place.bytes {
                    Bytes::File(file) => file.compare_with(proved),
                    Bytes::Inline(_) => self.look_again(offset)?,
                },
            }
        }
        Err(self.damaged(offset))
    }

    /// Goes on where the row leads now.
    fn look_again(&self, offset: u64) -> Result<(), ReadFault> {
        let shared = &self.shared;
        match shared.engine.inner.find_place(shared.registry, &shared.digest) {
            Ok(Looked::At(place)) if place.row.size == shared.size => {
                *shared.place.write() = place;
                Ok(())
            }
            Ok(_) => Err(self.damaged(offset)),
            Err(Failure::Storage(error)) => Err(error.into()),
            Err(error) => Err(StorageError::Poisoned { cause: error.to_string() }.into()),
        }
    }

    /// Keeps count of what this reader has verified. Once that is everything, it is worth knowing for those who read within
    /// a window.
    fn note_progress(&self, inner: &Inner, place: &Place, offset: u64, len: u64) {
        if self.begins_window(inner, place, offset..offset + len) {
            let Shared { registry, digest, .. } = &*self.shared;
            // That it is not noted is no reason to keep the bytes back.
            drop(inner.note_verified(*registry, digest, place.row.placement, place.opened_ms));
        }
    }

    /// Counts a range that was verified; whether all of the blob is now, which begins a window for this reader.
    fn begins_window(&self, inner: &Inner, place: &Place, range: Range<u64>) -> bool {
        let begins = inner.options.verified_window_ms != 0 && place.verified.lock().completes(range, self.shared.size);
        if begins {
            place.unchecked_until_ms.fetch_max(inner.unchecked_until_ms(place.opened_ms), Ordering::Relaxed);
        }
        begins
    }

    fn damaged(&self, offset: u64) -> ReadFault {
        ReadFault::Corrupt { digest: self.shared.digest, offset }
    }
}

impl Place {
    fn is_unchecked(&self, inner: &Inner) -> bool {
        match self.unchecked_until_ms.load(Ordering::Relaxed) {
            0 => false,
            until_ms => inner.txn.committer.now_ms() < until_ms,
        }
    }
}

fn part(bytes: &[u8], offset: u64, len: usize) -> Result<&[u8], Unfit> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    bytes.get(start..).and_then(|bytes| bytes.get(..len)).ok_or(Unfit::Size)
}
