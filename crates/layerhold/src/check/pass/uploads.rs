//! Upload sessions with everything that hangs on them. There are few, so each is judged by itself.

use crate::blob::fingerprint::Frontier;
use crate::format::keys::Family;
use crate::format::parsed::{self, Key};
use crate::format::values::{Row, UploadRow};
use crate::store::View;

use super::super::case::Case;
use super::super::examination::Examination;
use super::super::report::Stage;
use super::super::walk::{Halt, each};
use super::Facts;
use super::strays::groups_fact;

impl Examination<'_> {
    pub(super) fn uploads(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        self.enter(Stage::Uploads)?;
        let mut last: Option<[u8; 16]> = None;
        for family in [Family::Upload, Family::UploadPart, Family::UploadBytes, Family::UploadSweep] {
            each(view, &parsed::family(family), &mut |key, value| {
                self.read_rows(1)?;
                let Some(parsed) = self.parsed(key, value)? else { return Ok(()) };
                if let (Key::Upload(_), Ok(row)) = (&parsed, UploadRow::decode(value))
                    && let Ok(taken) = Frontier::parse(&row.frontier).map(|frontier| frontier.taken())
                    && let Some(folded) = taken.value()
                {
                    facts.groups.left(&groups_fact(row.location, taken.count(), &folded));
                }
                match parsed {
                    Key::Upload(id) | Key::UploadPart(id, _) | Key::UploadBytes(id) if last != Some(id) => {
                        last = Some(id);
                        self.suspect(&Case::Row(Key::Upload(id)))
                    }
                    _ => Ok(()),
                }
            })?;
        }
        each(view, &parsed::family(Family::UploadExpiry), &mut |key, value| {
            self.read_rows(1)?;
            match self.parsed(key, value)? {
                Some(key) => self.suspect(&Case::Row(key)),
                None => Ok(()),
            }
        })
    }
}
