//! The bytes of every blob, against digest, fingerprint root and chaining values.

use std::sync::Arc;

use crate::blob::Damage;
use crate::blob::fingerprint::{ChainingValue, GroupLen};
use crate::digest::Digest;
use crate::format::keys::{self, RegistryId};
use crate::format::parsed::Key;
use crate::format::values::{BlobRow, BlobState, GroupsRow, Placement, Row};
use crate::store::local::FOOTER_LEN;
use crate::store::{Direction, KeyRange, Location, StorageError};
use crate::upload::lane::{Hashes, Lane, SharedBytes};

use super::super::case::{Case, Rebuild, Verdict};
use super::super::examination::Examination;
use super::super::finding::Fault;
use super::super::judge::FROM_BYTES;
use super::super::medium::of_one_file;
use super::super::report::Stage;
use super::super::walk::{Halt, last};

/// Bytes that are read at a time, and those after which finished chaining values are compared, so that no more than their
/// number is held in memory.
const READ_BYTES: u64 = 256 << 10;
const COMPARE_BYTES: u64 = 64 << 20;

const PUSH_AGAIN: &str = "pushing the blob again heals it";

/// Called with the first group of a run and the values of all of it.
pub(in super::super) type VisitGroups<'a> = &'a mut dyn FnMut(u64, &[ChainingValue]) -> Result<(), Halt>;

/// What the bytes of a file came to.
pub(in super::super) struct Hashed {
    pub(in super::super) digest: Digest,
    pub(in super::super) root: [u8; 32],
}

impl Examination<'_> {
    pub(super) fn contents(&mut self) -> Result<(), Halt> {
        self.enter(Stage::Bytes)?;
        self.each_blob(|exam, registry, digest, row| match row.placement {
            // The judge says whether its bytes are right after all.
            _ if row.state != BlobState::Live => exam.suspect(&Case::Row(Key::Blob(registry, digest))),
            Placement::Inline(_) => {
                exam.read_bytes(row.stored_size)?;
                // Small, and read with its row: the judge computes the digest, too.
                exam.suspect(&Case::Row(Key::Blob(registry, digest)))
            }
            Placement::File(location) => exam.content(registry, digest, row, location),
        })
    }

    fn content(&mut self, registry: RegistryId, digest: Digest, row: &BlobRow, location: Location) -> Result<(), Halt> {
        if self.content_fault(registry, digest, row, location, false)?.is_none() {
            return Ok(());
        }
        // Read once more: memory errs, too, and a finding of damage sends an operator off. Where the damage is, the second
        // reading says: most blobs never have one.
        let fault = match self.content_fault(registry, digest, row, location, true)? {
            Some(second) => second,
            None => {
                let what = "two reads differed".to_owned();
                Fault::FileUnreadable { registry: registry.0, digest, location, what }
            }
        };
        // A blob that was pushed again meanwhile has other bytes since.
        let view = self.inner.txn.store.view()?;
        let now = BlobRow::decode_optional(view.get(&keys::blob(registry, &digest))?.as_deref())?;
        drop(view);
        if now.is_none_or(|now| now.placement != row.placement || now.state != BlobState::Live) {
            return Ok(());
        }
        let verdict = match &fault {
            Fault::FileDamaged { offset, .. } => {
                let damage = Damage::Bytes { offset: *offset };
                Verdict::quarantine(fault, registry, digest, row.placement, damage)
            }
            Fault::BlobRowDamaged { .. } => {
                Verdict::rebuild(fault, FROM_BYTES, Rebuild::of(registry, digest, row, location))
            }
            _ => Verdict::leave(fault, PUSH_AGAIN),
        };
        self.pronounce(&Case::Row(Key::Blob(registry, digest)), verdict)
    }

    /// What is wrong with the bytes of a blob, and, if that is asked for, in which group they begin to be. A file that is
    /// missing, or has the wrong length, was found before.
    fn content_fault(
        &mut self,
        registry: RegistryId,
        digest: Digest,
        row: &BlobRow,
        location: Location,
        locate: bool,
    ) -> Result<Option<Fault>, Halt> {
        let inner = self.inner;
        let _pin = inner.open_blobs.pin(location);
        let still = {
            let view = inner.txn.store.view()?;
            BlobRow::decode_optional(view.get(&keys::blob(registry, &digest))?.as_deref())?
        };
        let (Ok(group_len), true) =
            (GroupLen::new(row.group_len), still.is_some_and(|still| still.placement == row.placement))
        else {
            return Ok(None);
        };
        let unreadable = |what| Some(Fault::FileUnreadable { registry: registry.0, digest, location, what });
        match of_one_file(inner.blobs.len(location))? {
            Ok(found) if found == Some(row.stored_size.saturating_add(FOOTER_LEN)) => {}
            Ok(_) => return Ok(None),
            Err(what) => return Ok(unreadable(what)),
        }
        let only = group_len.group_count(row.stored_size) <= 1;
        let mut differing = None;
        let hashed = self.hash_file(digest, location, row.stored_size, group_len, &mut |first, values| {
            if !locate || only || differing.is_some() {
                return Ok(());
            }
            differing = differing_group(inner, location, first, values)?;
            Ok(())
        })?;
        let hashed = match hashed {
            Ok(hashed) => hashed,
            Err(what) => return Ok(unreadable(what)),
        };
        let registry = registry.0;
        if hashed.digest != digest {
            let offset = differing.unwrap_or(0).saturating_mul(group_len.as_u64());
            return Ok(Some(Fault::FileDamaged { registry, digest, location, offset }));
        }
        if hashed.root != row.root {
            let what = "the root is not that of the bytes, which have the digest".to_owned();
            return Ok(Some(Fault::BlobRowDamaged { registry, digest, what }));
        }
        // Stored chaining values that do not lead to the root were found by the walk over rows.
        Ok(None)
    }

    /// Reads and hashes a file; `groups` gets its chaining values in order. The inner error is the medium's, in words.
    pub(in super::super) fn hash_file(
        &mut self,
        digest: Digest,
        location: Location,
        len: u64,
        group_len: GroupLen,
        groups: VisitGroups<'_>,
    ) -> Result<Result<Hashed, String>, Halt> {
        let file = match of_one_file(self.inner.blobs.open(location, len))? {
            Ok(file) => file,
            Err(what) => return Ok(Err(what)),
        };
        let spawner = self.inner.components.spawner.clone();
        let mut lane = Lane::new(Hashes::new(digest.algorithm(), group_len));
        let mut offset = 0;
        while offset < len {
            let step = (len - offset).min(READ_BYTES);
            let mut bytes = vec![0; usize::try_from(step).unwrap_or_default()];
            // What the cache holds says nothing of the medium.
            file.forget(offset, step);
            if let Err(error) = file.read_exact_at(&mut bytes, offset) {
                return Ok(Err(error.to_string()));
            }
            lane.push(&(Arc::new(bytes) as SharedBytes), spawner.as_deref(), &self.inner.upload_memory);
            offset += step;
            self.read_bytes(step)?;
            if offset.is_multiple_of(COMPARE_BYTES) {
                let run = lane.hashes().fingerprint.take_groups();
                groups(run.first, &run.values)?;
            }
        }
        let (digest, fingerprint) = {
            let hashes = lane.hashes();
            (hashes.digest.clone().finalize(), hashes.fingerprint.clone().finish())
        };
        groups(fingerprint.remaining.first, &fingerprint.remaining.values)?;
        Ok(Ok(Hashed { digest, root: fingerprint.root }))
    }
}

/// The first of some groups whose stored value is another.
fn differing_group(
    inner: &crate::engine::Inner,
    location: Location,
    first: u64,
    values: &[ChainingValue],
) -> Result<Option<u64>, StorageError> {
    let mut range = keys::all_groups(location);
    let at = |group: u64| u32::try_from(group).ok().map(|group| keys::groups(location, group));
    let view = inner.txn.store.view()?;
    // From the row that holds the first of them: the rows before are of groups that were compared already.
    if let Some(end) = at(first.saturating_add(1)) {
        let before = KeyRange { start: range.start.clone(), end: end.into() };
        range.start = last(view.as_ref(), &before)?.map_or(range.start, |(key, _)| key);
    }
    range.end = at(first.saturating_add(values.len() as u64)).map_or(range.end, Into::into);
    let mut differing = None;
    view.scan(&range, Direction::Forward, &mut |key, value| {
        let Some(at) = keys::first_group_of(key) else { return std::ops::ControlFlow::Continue(()) };
        let Ok(GroupsRow(stored)) = GroupsRow::decode(value, location, at) else {
            return std::ops::ControlFlow::Continue(());
        };
        for (group, stored) in (u64::from(at)..).zip(stored) {
            let computed = group.checked_sub(first).and_then(|at| values.get(usize::try_from(at).ok()?));
            if differing.is_none() && computed.is_some_and(|computed| *computed != stored) {
                differing = Some(group);
            }
        }
        if differing.is_some() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    Ok(differing)
}
