//! The change log: no gap, and each operation id with its change.

use crate::change::{ChangeRow, Event};
use crate::format::keys::{self, Family};
use crate::format::parsed::{self, Key};
use crate::format::values::{OperationRow, Row};
use crate::recovery::Choice;
use crate::store::View;

use super::super::case::{Case, Verdict};
use super::super::examination::Examination;
use super::super::finding::Fault;
use super::super::judge::low_water;
use super::super::report::Stage;
use super::super::walk::{Halt, each};

impl Examination<'_> {
    /// `applied` was acknowledged before the view was taken, `given` after.
    pub(super) fn log(&mut self, view: &dyn View, applied: u64, given: u64) -> Result<(), Halt> {
        const GONE: &str = "what happened then is not known any more; a backup may say";
        self.enter(Stage::Changes)?;
        let low = low_water(view)?;
        let mut operations = self.relation();
        let mut next = low.changes.saturating_add(1);
        each(view, &parsed::family(Family::Change), &mut |key, value| {
            self.read_rows(1)?;
            // A gap is one also where its end does not decode.
            if let Some(Key::Change(sequence)) = Key::parse(key) {
                // An accepted loss leaves one, right before the change that speaks of it: above what it brought back.
                let accepted = ChangeRow::decode(value).is_ok_and(|row| match row.event {
                    Event::Recovered { choice: Choice::AcceptLoss, recovered, .. } => next > recovered,
                    _ => false,
                });
                if sequence > next && !accepted {
                    let fault = Fault::ChangeGap { first: next, last: sequence - 1 };
                    self.pronounce(&Case::Row(Key::Change(sequence)), Verdict::leave(fault, GONE))?;
                }
                next = next.max(sequence.saturating_add(1));
            }
            let Some(Key::Change(sequence)) = self.parsed(key, value)? else { return Ok(()) };
            if sequence > low.operations
                && let Ok(row) = ChangeRow::decode(value)
            {
                operations.left(&fact(&row.operation_id.0, sequence));
            }
            Ok(())
        })?;
        let last = next.saturating_sub(1);
        if last < applied {
            let fault = Fault::ChangesBehind { last, applied };
            self.pronounce(&Case::Row(Key::Change(applied)), Verdict::leave(fault, GONE))?;
        }
        if last > given {
            let fault = Fault::ChangesBehind { last, applied: given };
            let why = "changes are there that were never given a place; a backup may say more";
            self.pronounce(&Case::Row(Key::Change(last)), Verdict::leave(fault, why))?;
        }
        each(view, &parsed::family(Family::Operation), &mut |key, value| {
            self.read_rows(1)?;
            if let (Some(Key::Operation(id)), Ok(row)) = (self.parsed(key, value)?, OperationRow::decode(value)) {
                operations.right(&fact(&id, row.sequence));
            }
            Ok(())
        })?;
        if operations.is_even() {
            return Ok(());
        }
        each(view, &keys::changes(low.operations.saturating_add(1)), &mut |key, value| {
            let (Some(Key::Change(sequence)), Ok(row)) = (Key::parse(key), ChangeRow::decode(value)) else {
                return Ok(());
            };
            let doubted = operations.doubts(&fact(&row.operation_id.0, sequence));
            if doubted { self.suspect(&Case::Row(Key::Change(sequence))) } else { Ok(()) }
        })?;
        each(view, &parsed::family(Family::Operation), &mut |key, value| {
            let (Some(Key::Operation(id)), Ok(row)) = (Key::parse(key), OperationRow::decode(value)) else {
                return Ok(());
            };
            let doubted = operations.doubts(&fact(&id, row.sequence));
            if doubted { self.suspect(&Case::Row(Key::Operation(id))) } else { Ok(()) }
        })
    }
}

fn fact(id: &[u8; 16], sequence: u64) -> Vec<u8> {
    [&id[..], &sequence.to_be_bytes()].concat()
}
