//! A blob: its row, its bytes or its file, its chaining values.

use crate::blob::Damage;
use crate::blob::fingerprint::GroupLen;
use crate::blob::outboard::fold_stored;
use crate::digest::Digest;
use crate::format::footer::Footer;
use crate::format::keys::{self, RegistryId};
use crate::format::parsed::Key;
use crate::format::rows::well_formed;
use crate::format::values::{BlobRow, BlobState, Placement, Row};
use crate::store::local::FOOTER_LEN;
use crate::store::{BlobStore, Location, StorageError, View};

use super::super::case::{Rebuild, Verdict};
use super::super::finding::Fault;
use super::super::medium::of_one_file;
use super::super::report::Level;
use super::super::walk::{Slot, look};
use super::{Judge, unreadable, unreadable_row};

const PUSH_AGAIN: &str = "pushing the blob again heals it";
const ANOTHER_FINGERPRINT: &str = "another fingerprint";
pub(in super::super) const FROM_BYTES: &str = "written anew from the bytes, which give the digest";

impl Judge<'_> {
    pub(super) fn blob(
        &self,
        view: &dyn View,
        registry: RegistryId,
        digest: &Digest,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Blob(registry, *digest);
        let row = match look::<BlobRow>(view, &key.encode())? {
            Slot::There(row) => row,
            Slot::Absent => return Ok(Vec::new()),
            Slot::Unreadable(what) => return Ok(vec![unreadable_row(&key, &what)]),
        };
        let (id, digest) = (registry.0, *digest);
        if row.state == BlobState::Quarantined || contradiction(&row).is_some() {
            self.missed.borrow_mut().add(row.stored_size);
        }
        if row.state == BlobState::Quarantined {
            return Ok(vec![self.quarantined(view, registry, digest, row)?]);
        }
        if let Some(what) = contradiction(&row) {
            return Ok(vec![Verdict::leave(Fault::BlobRowDamaged { registry: id, digest, what }, PUSH_AGAIN)]);
        }
        let mut verdicts = Vec::new();
        match row.placement {
            Placement::Inline(location) => verdicts.extend(self.inline(view, registry, digest, &row, location)?),
            Placement::File(location) => {
                if let Some(what) = wrong_groups(view, &row, location)? {
                    let fault = Fault::GroupsWrong { registry: id, digest, location, what };
                    let how = "computed anew from the file, which gives the digest";
                    verdicts.push(Verdict::rebuild(fault, how, Rebuild::of(registry, digest, &row, location)));
                }
                verdicts.extend(kept_removal(view, location)?);
                if self.level >= Level::Files {
                    verdicts.extend(self.file(registry, &digest, &row, location)?);
                }
            }
        }
        Ok(verdicts)
    }

    /// What is wrong with a blob in a row. Its digest decides, as when it is read: a length and a root that the bytes do not
    /// have are the row's fault where the bytes give the digest.
    fn inline(
        &self,
        view: &dyn View,
        registry: RegistryId,
        digest: Digest,
        row: &BlobRow,
        location: Location,
    ) -> Result<Option<Verdict>, StorageError> {
        let id = registry.0;
        let Some(bytes) = view.get(&keys::inline_bytes(location))? else {
            let fault = Fault::InlineBytesMissing { registry: id, digest, location };
            return Ok(Some(Verdict::quarantine(fault, registry, digest, row.placement, Damage::Missing)));
        };
        let (size, root) = (bytes.len() as u64, *blake3::hash(&bytes).as_bytes());
        let fits = size == row.stored_size && root == row.root;
        if fits && self.level < Level::Bytes {
            return Ok(None);
        }
        Ok(if Digest::of(digest.algorithm(), &bytes) != digest {
            let fault = Fault::InlineBytesDamaged { registry: id, digest, location };
            Some(Verdict::quarantine(fault, registry, digest, row.placement, Damage::Digest))
        } else if fits {
            None
        } else {
            let what = "length or root is not that of the bytes, which have the digest".to_owned();
            let fault = Fault::BlobRowDamaged { registry: id, digest, what };
            let right = BlobRow { size, stored_size: size, root, ..*row };
            Some(Verdict::put(fault, FROM_BYTES, &keys::blob(registry, &digest), &right.encode()))
        })
    }

    /// A blob whose bytes were found damaged. Should they be right after all, as when an operator has brought its file back,
    /// the whole of them proves it.
    fn quarantined(
        &self,
        view: &dyn View,
        registry: RegistryId,
        digest: Digest,
        row: BlobRow,
    ) -> Result<Verdict, StorageError> {
        const RIGHT_AGAIN: &str = "served again: its bytes give the digest";
        let fault = Fault::BlobQuarantined { registry: registry.0, digest };
        if self.level < Level::Bytes {
            return Ok(Verdict::leave(fault, PUSH_AGAIN));
        }
        Ok(match row.placement {
            Placement::File(location)
                if of_one_file(self.inner.blobs.len(location))?
                    == Ok(Some(row.stored_size.saturating_add(FOOTER_LEN))) =>
            {
                Verdict::rebuild(fault, RIGHT_AGAIN, Rebuild::of(registry, digest, &row, location))
            }
            Placement::File(_) => Verdict::leave(fault, PUSH_AGAIN),
            Placement::Inline(location) => match view.get(&keys::inline_bytes(location))? {
                Some(bytes) if Digest::of(digest.algorithm(), &bytes) == digest && bytes.len() as u64 == row.size => {
                    let generation = row.generation.wrapping_add(1);
                    let root = *blake3::hash(&bytes).as_bytes();
                    let right = BlobRow { state: BlobState::Live, generation, root, ..row };
                    Verdict::put(fault, RIGHT_AGAIN, &keys::blob(registry, &digest), &right.encode())
                }
                _ => Verdict::leave(fault, PUSH_AGAIN),
            },
        })
    }

    /// What is wrong with a blob's file, without reading its bytes.
    fn file(
        &self,
        registry: RegistryId,
        digest: &Digest,
        row: &BlobRow,
        location: Location,
    ) -> Result<Option<Verdict>, StorageError> {
        let (whose, registry, digest) = (registry, registry.0, *digest);
        let expected = row.stored_size.saturating_add(FOOTER_LEN);
        let mut fingerprint = false;
        let unreadable = |what| Some(Fault::FileUnreadable { registry, digest, location, what });
        let blobs = self.inner.blobs.as_ref();
        let fault = match of_one_file(blobs.len(location))? {
            Err(what) => unreadable(what),
            Ok(None) => Some(Fault::FileMissing { registry, digest, location }),
            Ok(Some(found)) if found != expected => {
                Some(Fault::FileSize { registry, digest, location, expected, found })
            }
            Ok(Some(_)) => match of_one_file(footer(blobs, location, row.stored_size))? {
                Err(what) => unreadable(what),
                Ok(bytes) => footer_fault(&bytes, &digest, row).map(|what| {
                    fingerprint = what == ANOTHER_FINGERPRINT;
                    Fault::FooterDiffers { registry, digest, location, what: what.to_owned() }
                }),
            },
        };
        let damage = match &fault {
            Some(Fault::FileMissing { .. }) => Some(Damage::Missing),
            Some(Fault::FileSize { expected, found, .. }) => {
                Some(Damage::Length { expected: *expected, found: *found })
            }
            _ => None,
        };
        if damage.is_some() {
            self.missed.borrow_mut().add(row.stored_size);
        }
        Ok(fault.map(|fault| match damage {
            Some(damage) => Verdict::quarantine(fault, whose, digest, row.placement, damage),
            // The footer speaks for itself, so it may be the row that is wrong.
            None if fingerprint => Verdict::rebuild(fault, FROM_BYTES, Rebuild::of(whose, digest, row, location)),
            None => Verdict::leave(fault, PUSH_AGAIN),
        }))
    }

    /// The note that a blob could not be read.
    pub(super) fn suspect(
        &self,
        view: &dyn View,
        registry: RegistryId,
        digest: &Digest,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Suspect(registry, *digest);
        let Some(value) = view.get(&key.encode())? else { return Ok(Vec::new()) };
        if view.get(&keys::blob(registry, digest))?.is_none() {
            let fault = Fault::SuspectLeftOver { registry: registry.0, digest: *digest };
            return Ok(vec![Verdict::delete(fault, "removed: there is no such blob", &key.encode())]);
        }
        let unreadable = well_formed(&key.encode(), &value).err();
        Ok(unreadable.map(|error| unreadable_row(&key, &error.to_string())).into_iter().collect())
    }

    /// A removal row, a row of chaining values or inline bytes, by themselves.
    pub(super) fn removal(&self, view: &dyn View, key: &Key, location: Location) -> Result<Vec<Verdict>, StorageError> {
        let mut verdicts = unreadable(view, key)?;
        if matches!(key, Key::Removal(_)) && view.get(&key.encode())?.is_some() {
            verdicts.push(Verdict::leave(Fault::RemovalPending { location }, "it goes by itself"));
        }
        Ok(verdicts)
    }
}

/// What lies behind the bytes of a file.
pub(super) fn footer(
    blobs: &dyn BlobStore,
    location: Location,
    len: u64,
) -> Result<[u8; FOOTER_LEN as usize], StorageError> {
    let read = blobs.open(location, len)?.read_footer();
    read.map_err(|error| StorageError::io("read footer", location.to_string(), error))
}

/// What in a blob's row cannot be.
pub(in super::super) fn contradiction(row: &BlobRow) -> Option<String> {
    if let Err(error) = GroupLen::new(row.group_len) {
        return Some(error.to_string());
    }
    if row.codec != 0 {
        return Some(format!("unknown codec codec={}", row.codec));
    }
    (row.size != row.stored_size)
        .then(|| format!("plain bytes of another length size={} stored_size={}", row.size, row.stored_size))
}

/// What a footer says that its blob's row does not.
pub(in super::super) fn footer_fault(
    bytes: &[u8; FOOTER_LEN as usize],
    digest: &Digest,
    row: &BlobRow,
) -> Option<&'static str> {
    let Ok(footer) = Footer::decode(bytes) else { return Some("no footer") };
    if footer.digest != *digest {
        return Some("another digest");
    }
    if footer.size != row.size {
        return Some("another size");
    }
    (footer.group_len != row.group_len || footer.root != row.root).then_some(ANOTHER_FINGERPRINT)
}

/// What is wrong with the chaining values of a blob in a file.
fn wrong_groups(view: &dyn View, row: &BlobRow, location: Location) -> Result<Option<String>, StorageError> {
    let Ok(group_len) = GroupLen::new(row.group_len) else { return Ok(None) };
    let expected = group_len.group_count(row.stored_size);
    if expected <= 1 {
        return Ok(None);
    }
    Ok(match fold_stored(view, location)? {
        Err(what) => Some(what),
        Ok(fold) if fold.count() != expected => {
            Some(format!("another number of groups expected={expected} found={}", fold.count()))
        }
        Ok(fold) => (fold.value() != Some(row.root)).then(|| "they do not lead to the root".to_owned()),
    })
}

/// A removal row for a location that is in use. The commit that gives a location up takes it from its owner, too, so the
/// owner is believed: bytes too many, never bytes missing.
pub(super) fn kept_removal(view: &dyn View, location: Location) -> Result<Option<Verdict>, StorageError> {
    let key = keys::removal(location);
    let there = view.get(&key)?.is_some();
    Ok(there.then(|| Verdict::delete(Fault::RemovalOfLive { location }, "the location is in use and stays", &key)))
}
