//! Locations that no blob, no session and no removal has: what is left there, and whether it may be the only copy of
//! something.
//!
//! Whoever asks has proved that nothing has the location. Locations are drawn once and written in a row before anything
//! else exists under them, so a location without an owner never gets one.

use crate::digest::{Algorithm, Digest};
use crate::engine::{Inner, collect_some};
use crate::format::footer::Footer;
use crate::format::keys::{self, RegistryId};
use crate::format::values::{BlobRow, BlobState, Placement};
use crate::store::local::FOOTER_LEN;
use crate::store::{Direction, Location, StorageError, View};

use super::super::case::{Copy, Leads, Rebuild, Remedy, Verdict};
use super::super::finding::Fault;
use super::super::medium::of_one_file;
use super::super::report::Level;
use super::super::walk::{Slot, first, look};
use super::Judge;

/// Where bytes with a digest are missed, or stored already.
enum Wanted {
    /// Links lead to a blob that is not there.
    By(RegistryId),
    /// The blob's row leads elsewhere, and what is there is gone or damaged.
    Instead(RegistryId, Placement),
    /// The blob is stored in every registry that links it, and in one at least: in a row whose bytes give the digest, or in
    /// this file.
    Nowhere(Option<Copy>),
    /// No registry knows it.
    Unknown,
}

impl Judge<'_> {
    pub(super) fn stray(&self, view: &dyn View, location: Location) -> Result<Vec<Verdict>, StorageError> {
        let mut verdicts = Vec::new();
        let mut size = None;
        if view.get(&keys::removal(location))?.is_none() {
            match of_one_file(self.inner.blobs.len(location))? {
                Ok(len) => size = len,
                // Nothing of what lies there is judged then: a file may need it.
                Err(what) => return Ok(vec![other_unreadable(location, what)]),
            }
        }
        if let Some(bytes) = view.get(&keys::inline_bytes(location))? {
            let fault = Fault::InlineBytesLeftOver { location };
            let mut only_copy = false;
            for algorithm in Algorithm::ALL {
                only_copy |= matches!(self.wanted(view, &Digest::of(algorithm, &bytes))?, Wanted::By(_));
            }
            verdicts.push(if only_copy {
                Verdict::leave(fault, "they are the bytes of a blob whose row is gone; push that again")
            } else {
                Verdict::delete(fault, "removed: no blob has them", &keys::inline_bytes(location))
            });
        }
        let groups = first(view, &keys::all_groups(location))?.is_some();
        if groups && (size.is_none() || self.level < Level::Files) {
            let fault = Fault::GroupsLeftOver { location };
            verdicts.push(if size.is_none() {
                let how = "removed: nothing has the location";
                Verdict { fault, remedy: Remedy::Retire { how, location, proof: None } }
            } else {
                Verdict::leave(fault, "their file is there: a repair that looks at files judges both")
            });
        }
        if let Some(size) = size.filter(|_| self.level >= Level::Files) {
            verdicts.push(self.stray_file(view, location, size)?);
        }
        Ok(verdicts)
    }

    fn stray_file(&self, view: &dyn View, location: Location, size: u64) -> Result<Verdict, StorageError> {
        let footer = match self.footer(location, size)? {
            Ok(footer) => footer,
            Err(what) => return Ok(other_unreadable(location, what)),
        };
        let Some(footer) = footer else {
            let fault = Fault::OrphanFile { location, size };
            // A footer that is damaged, or was cut off, says nothing of the bytes before it.
            let missed = self.missed.borrow();
            return Ok(if missed.may_be(size) || size.checked_sub(FOOTER_LEN).is_some_and(|len| missed.may_be(len)) {
                Verdict::leave(fault, "it is as long as a blob that is missed; push that, or remove the file")
            } else {
                let how = "removed: no row has it, and it is no blob's file";
                Verdict { fault, remedy: Remedy::Retire { how, location, proof: None } }
            });
        };
        let Footer { digest, group_len, .. } = footer;
        let unclaimed = Fault::UnclaimedFile { location, digest, size: footer.size };
        Ok(match self.wanted(view, &digest)? {
            Wanted::By(registry) => {
                let fault = Fault::LostBlob { registry: registry.0, digest, location, size: footer.size };
                let rebuild = Rebuild { registry, digest, location, size: footer.size, group_len, row: Leads::Nowhere };
                Verdict::rebuild(fault, "the blob's row is made anew from its file, which gives the digest", rebuild)
            }
            Wanted::Instead(registry, placement) => {
                let how =
                    "the blob's row leads to it from now on: its own bytes are gone or damaged, these give the digest";
                let row = Leads::Elsewhere(placement);
                let rebuild = Rebuild { registry, digest, location, size: footer.size, group_len, row };
                Verdict::rebuild(unclaimed, how, rebuild)
            }
            Wanted::Nowhere(proof) if proof.is_none() || self.level >= Level::Bytes => {
                let how = "removed: the blob is stored elsewhere, and those bytes give the digest";
                Verdict { fault: unclaimed, remedy: Remedy::Retire { how, location, proof } }
            }
            Wanted::Nowhere(_) => {
                Verdict::leave(unclaimed, "the blob is stored elsewhere: a repair that reads all bytes judges both")
            }
            Wanted::Unknown => {
                Verdict::leave(unclaimed, "it may be the only copy of the blob; push that, or remove it")
            }
        })
    }

    /// The footer of a file, if it is the file of a blob.
    fn footer(&self, location: Location, size: u64) -> Result<Result<Option<Footer>, String>, StorageError> {
        let Some(len) = size.checked_sub(FOOTER_LEN) else { return Ok(Ok(None)) };
        let read = of_one_file(super::blobs::footer(self.inner.blobs.as_ref(), location, len))?;
        Ok(read.map(|bytes| Footer::decode(&bytes).ok().filter(|footer| footer.size == len)))
    }

    fn wanted(&self, view: &dyn View, digest: &Digest) -> Result<Wanted, StorageError> {
        let registries = collect_some(view, &keys::registry_names(), Direction::Forward, usize::MAX, |_, value| {
            Ok(value.try_into().ok().map(u32::from_be_bytes))
        })?;
        let mut wanted = Wanted::Unknown;
        for registry in registries.into_iter().map(RegistryId) {
            let blob = match look::<BlobRow>(view, &keys::blob(registry, digest))? {
                Slot::There(blob) => blob,
                Slot::Absent | Slot::Unreadable(_) => {
                    if first(view, &keys::link_backs(registry, digest))?.is_some() {
                        return Ok(Wanted::By(registry));
                    }
                    continue;
                }
            };
            match self.inner.stored(view, digest, &blob)? {
                Stored::Gone => return Ok(Wanted::Instead(registry, blob.placement)),
                Stored::Unknown => {}
                Stored::Proved => wanted = Wanted::Nowhere(None),
                Stored::File(_) if matches!(wanted, Wanted::Nowhere(_)) => {}
                Stored::File(copy) => wanted = Wanted::Nowhere(Some(copy)),
            }
        }
        Ok(wanted)
    }
}

/// What there is of a blob where its row leads.
pub(in super::super) enum Stored {
    /// All of it, in a row whose bytes give the digest.
    Proved,
    /// A file of the right length.
    File(Copy),
    /// Nothing, or what is known to be damaged.
    Gone,
    /// The medium does not say, or nobody needs the blob any more.
    Unknown,
}

impl Inner {
    pub(in super::super) fn stored(
        &self,
        view: &dyn View,
        digest: &Digest,
        row: &BlobRow,
    ) -> Result<Stored, StorageError> {
        Ok(match (row.state, row.placement) {
            (BlobState::Condemned, _) => Stored::Unknown,
            (BlobState::Quarantined, _) => Stored::Gone,
            (BlobState::Live, Placement::Inline(location)) => {
                let bytes = view.get(&keys::inline_bytes(location))?;
                let right = bytes.is_some_and(|bytes| Digest::of(digest.algorithm(), &bytes) == *digest);
                if right { Stored::Proved } else { Stored::Gone }
            }
            (BlobState::Live, Placement::File(location)) => match of_one_file(self.blobs.len(location))? {
                Ok(Some(found)) if found == row.stored_size.saturating_add(FOOTER_LEN) => {
                    let (size, group_len) = (row.stored_size, row.group_len);
                    Stored::File(Copy { digest: *digest, location, size, group_len })
                }
                Ok(_) => Stored::Gone,
                Err(_) => Stored::Unknown,
            },
        })
    }
}

/// A file that the medium does not give and that is no blob's, as far as is known.
pub(super) fn other_unreadable(location: Location, what: String) -> Verdict {
    Verdict::leave(Fault::OtherFileUnreadable { location, what }, "the medium does not give it; look at that")
}
