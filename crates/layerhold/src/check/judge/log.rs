//! The change log and the operation ids that go with it.

use crate::call::OperationId;
use crate::change::ChangeRow;
use crate::format::keys;
use crate::format::parsed::Key;
use crate::format::values::{LowWaterRow, OperationRow};
use crate::store::{StorageError, View};

use super::super::case::Verdict;
use super::super::finding::Fault;
use super::super::walk::{Slot, look};
use super::{Judge, unreadable_row};

impl Judge<'_> {
    pub(super) fn change(&self, view: &dyn View, sequence: u64) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Change(sequence);
        let row = match look::<ChangeRow>(view, &key.encode())? {
            Slot::There(row) => row,
            Slot::Absent => return Ok(Vec::new()),
            Slot::Unreadable(what) => return Ok(vec![unreadable_row(&key, &what)]),
        };
        let low = low_water(view)?;
        let operation = view.get(&keys::operation(&row.operation_id.0))?;
        Ok(if sequence > low.operations && operation.is_none() {
            let why = "its answer is gone: a retry of that call would act once more";
            vec![Verdict::leave(Fault::OperationMissing { sequence }, why)]
        } else {
            Vec::new()
        })
    }

    pub(super) fn operation(&self, view: &dyn View, id: &[u8; 16]) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Operation(*id);
        let row = match look::<OperationRow>(view, &key.encode())? {
            Slot::There(row) => row,
            Slot::Absent => return Ok(Vec::new()),
            Slot::Unreadable(what) => return Ok(vec![unreadable_row(&key, &what)]),
        };
        let operation = OperationId(*id);
        let fault = Fault::OperationExcess { operation, sequence: row.sequence };
        if row.sequence <= low_water(view)?.operations {
            return Ok(vec![Verdict::delete(fault, "removed: it is older than ids are kept", &key.encode())]);
        }
        let change = look::<ChangeRow>(view, &keys::change(row.sequence))?;
        Ok(match change {
            Slot::There(change) if change.operation_id == operation => Vec::new(),
            _ => vec![Verdict::leave(fault, "its change is gone; it goes when it is old enough to be forgotten")],
        })
    }
}

/// How far the log was trimmed; not at all where that cannot be read.
pub(in super::super) fn low_water(view: &dyn View) -> Result<LowWaterRow, StorageError> {
    Ok(look::<LowWaterRow>(view, &keys::meta::low_water())?.there().unwrap_or_default())
}
