//! Counters, counted again.
//!
//! A repository's counters are mended under its own row, held exclusive: nobody else counts then, so the row is set to what
//! was counted. A registry's counters are added to by everybody who completes an upload, and no one row keeps them all out.
//! But each of them changes counter and counted alike, so the difference between both, seen in one view, stays the same
//! whatever happens meanwhile: adding it once is right at any later time. Two repairs would add it twice, so the one holds
//! the counter's own row, exclusive, and the other counts after it.

use crate::format::keys::{self, Family, RegistryId, Scope};
use crate::format::parsed::{Key, family, in_scope};
use crate::format::values::{BlobRow, LinkRow, Row, UsageRow};
use crate::store::{Batch, Direction, StorageError, View};
use crate::txn::committer::Delta;

use super::super::case::{Remedy, Verdict};
use super::super::finding::{Counters, Fault, RowKey};
use super::super::walk::{Slot, look};
use super::Judge;

const COUNTED: &str = "counted anew";

impl Judge<'_> {
    pub(super) fn usage(&self, view: &dyn View, scope: Scope) -> Result<Vec<Verdict>, StorageError> {
        let counted = count(view, scope)?;
        let key = Key::Usage(scope);
        let Some(fault) = difference(view, &key, counted, |stored| Fault::Usage { scope, stored, counted })? else {
            return Ok(Vec::new());
        };
        Ok(vec![adding(fault, &key, counted.0.map(signed), true)])
    }

    pub(super) fn registry_usage(&self, view: &dyn View, registry: RegistryId) -> Result<Vec<Verdict>, StorageError> {
        let counted = count_registry(view, registry)?;
        let key = Key::RegistryUsage(registry);
        let id = registry.0;
        let fault = difference(view, &key, counted, |stored| Fault::RegistryUsage { registry: id, stored, counted })?;
        let Some(fault) = fault else { return Ok(Vec::new()) };
        let (add, anew) = match &fault {
            Fault::RegistryUsage { stored: Counters(stored), .. } => {
                let mut add = [0; 4];
                for ((add, counted), stored) in add.iter_mut().zip(counted.0).zip(stored) {
                    *add = signed(counted).wrapping_sub(signed(*stored));
                }
                (add, false)
            }
            // Nobody could count while the row was not to be read, so what is counted now is right.
            _ => (counted.0.map(signed), true),
        };
        Ok(vec![adding(fault, &key, add, anew)])
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn adding(fault: Fault, key: &Key, add: [i64; 4], anew: bool) -> Verdict {
    let deltas = vec![Delta { key: key.encode(), add, cap: None, anew }];
    Verdict { fault, remedy: Remedy::Rows { how: COUNTED, batch: Batch::new(), deltas } }
}

fn difference(
    view: &dyn View,
    key: &Key,
    counted: Counters,
    differs: impl Fn(Counters) -> Fault,
) -> Result<Option<Fault>, StorageError> {
    Ok(match look::<UsageRow>(view, &key.encode())? {
        Slot::There(UsageRow(stored)) => (stored != counted.0).then(|| differs(Counters(stored))),
        Slot::Absent => (counted.0 != [0; 4]).then(|| differs(Counters([0; 4]))),
        Slot::Unreadable(what) => Some(Fault::UnreadableDerivedRow { key: RowKey(key.encode().into()), what }),
    })
}

/// Images, tags, blobs and bytes of a repository.
pub(super) fn count(view: &dyn View, scope: Scope) -> Result<Counters, StorageError> {
    let mut counters = [0u64; 4];
    let [images, tags, blobs, bytes] = &mut counters;
    for (rows, counter) in [(Family::Manifest, images), (Family::Tag, tags)] {
        view.scan(&in_scope(rows, scope), Direction::Forward, &mut |_, _| {
            *counter += 1;
            std::ops::ControlFlow::Continue(())
        })?;
    }
    view.scan(&in_scope(Family::Link, scope), Direction::Forward, &mut |_, value| {
        *blobs += 1;
        *bytes = bytes.saturating_add(LinkRow::decode(value).map_or(0, |link| link.size));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(Counters(counters))
}

/// Repositories, nothing, blobs and bytes of a registry.
fn count_registry(view: &dyn View, registry: RegistryId) -> Result<Counters, StorageError> {
    let (mut repositories, mut blobs, mut bytes) = (0u64, 0u64, 0u64);
    view.scan(&keys::repository_names(registry), Direction::Forward, &mut |_, _| {
        repositories += 1;
        std::ops::ControlFlow::Continue(())
    })?;
    let mut prefix = family(Family::Blob).start;
    prefix.extend_from_slice(&registry.0.to_be_bytes());
    view.scan(&keys::prefix(prefix), Direction::Forward, &mut |_, value| {
        blobs += 1;
        bytes = bytes.saturating_add(BlobRow::decode(value).map_or(0, |blob| blob.stored_size));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(Counters([repositories, 0, blobs, bytes]))
}
