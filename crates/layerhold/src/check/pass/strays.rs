//! What is stored under locations: small blobs, chaining values, removals. Nothing there that nobody has.

use std::collections::{HashMap, HashSet};

use crate::blob::fingerprint::{ChainingValue, GroupFold};
use crate::format::keys::Family;
use crate::format::parsed::{self, Key};
use crate::format::values::{BlobRow, GroupsRow, Placement, Row, UploadRow};
use crate::store::{Direction, Location, StorageError, View};

use super::super::case::{Case, Verdict};
use super::super::examination::Examination;
use super::super::finding::Fault;
use super::super::walk::{Halt, Rows, each};
use super::Facts;

/// So many locations are looked for together; each takes some 48 bytes meanwhile.
pub(super) const LOCATIONS_AT_ONCE: usize = 1 << 18;

impl Examination<'_> {
    pub(super) fn strays(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        each(view, &parsed::family(Family::InlineBytes), &mut |key, value| {
            self.read_rows(1)?;
            if let Some(Key::InlineBytes(location)) = self.parsed(key, value)? {
                facts.inline.right(&inline_of(location, value));
            }
            Ok(())
        })?;
        let mut broken = HashSet::new();
        self.folded_groups(view, |exam, location, folded| match folded {
            Some(folded) => {
                facts.groups.right(&groups_of(location, &folded));
                Ok(())
            }
            None => exam.doubt(view, location, &mut broken),
        })?;
        self.doubted_blobs(view, facts)?;
        self.judge_strays(view, broken)?;
        if !facts.inline.is_even() {
            let mut doubted = HashSet::new();
            each(view, &parsed::family(Family::InlineBytes), &mut |key, value| {
                if let Some(Key::InlineBytes(location)) = Key::parse(key)
                    && facts.inline.doubts(&inline_of(location, value))
                {
                    self.doubt(view, location, &mut doubted)?;
                }
                Ok(())
            })?;
            self.judge_strays(view, doubted)?;
        }
        if !facts.groups.is_even() {
            let mut doubted = HashSet::new();
            self.folded_groups(view, |exam, location, folded| match folded {
                Some(folded) if facts.groups.doubts(&groups_of(location, &folded)) => {
                    exam.doubt(view, location, &mut doubted)
                }
                _ => Ok(()),
            })?;
            self.judge_strays(view, doubted)?;
        }
        self.removals(view)
    }

    pub(super) fn doubt(
        &mut self,
        view: &dyn View,
        location: Location,
        doubted: &mut HashSet<Location>,
    ) -> Result<(), Halt> {
        doubted.insert(location);
        if doubted.len() >= LOCATIONS_AT_ONCE { self.judge_strays(view, std::mem::take(doubted)) } else { Ok(()) }
    }

    /// Judges those locations that nobody has, in one walk over all who may.
    pub(super) fn judge_strays(&mut self, view: &dyn View, doubted: HashSet<Location>) -> Result<(), Halt> {
        if doubted.is_empty() {
            return Ok(());
        }
        let mut owners: HashMap<Location, u32> = doubted.into_iter().map(|location| (location, 0)).collect();
        each_owner(view, &mut |location, owner| {
            if let Some(count) = owners.get_mut(&location) {
                // A removal beside an owner is another fault, and the owner's.
                *count = if matches!(owner, Key::Removal(_)) { (*count).max(1) } else { *count + 1 };
            }
        })?;
        for (location, count) in owners {
            match count {
                0 => self.suspect(&Case::Stray(location))?,
                1 => {}
                _ => {
                    let why = "nothing says whose it is; pushing the blobs again gives each its own";
                    let verdict = Verdict::leave(Fault::LocationShared { location }, why);
                    self.pronounce(&Case::Stray(location), verdict)?;
                }
            }
        }
        Ok(())
    }

    /// Chaining values of each location that is not about to go, folded; `None` where they do not follow one another.
    fn folded_groups(
        &mut self,
        view: &dyn View,
        mut visit: impl FnMut(&mut Self, Location, Option<GroupFold>) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut removals = Rows::new(view, parsed::family(Family::Removal));
        let mut current: Option<(Location, Option<GroupFold>)> = None;
        each(view, &parsed::family(Family::Groups), &mut |key, value| {
            self.read_rows(1)?;
            let Some(Key::Groups(location, first)) = Key::parse(key) else {
                return self.suspect(&Case::Raw(key.to_vec()));
            };
            if current.as_ref().is_none_or(|(folding, _)| *folding != location) {
                if let Some((location, folded)) = current.take() {
                    visit(self, location, folded)?;
                }
                // Removals are in the same order.
                while removals.peek()?.is_some_and(|(key, _)| key.get(1..) < Some(&location.0[..])) {
                    removals.next()?;
                }
                if removals.peek()?.is_some_and(|(key, _)| key.get(1..) == Some(&location.0[..])) {
                    return Ok(());
                }
                current = Some((location, Some(GroupFold::default())));
            }
            if let Some((_, folded)) = &mut current {
                let values = GroupsRow::decode(value, location, first);
                *folded = match (folded.take(), values) {
                    (Some(mut fold), Ok(GroupsRow(values))) if u64::from(first) == fold.count() => {
                        values.into_iter().for_each(|value| fold.push(value));
                        Some(fold)
                    }
                    _ => None,
                };
            }
            Ok(())
        })?;
        match current {
            Some((location, folded)) => visit(self, location, folded),
            None => Ok(()),
        }
    }

    /// Removals, which go by themselves, and none of which may be of a location in use.
    fn removals(&mut self, view: &dyn View) -> Result<(), Halt> {
        each(view, &parsed::family(Family::Removal), &mut |key, value| {
            self.read_rows(1)?;
            match self.parsed(key, value)? {
                Some(key) => self.suspect(&Case::Row(key)),
                None => Ok(()),
            }
        })?;
        // The walk over blobs looked for the first of them.
        let mut after = Some(Vec::new());
        let mut first = true;
        while let Some(from) = after {
            let mut some = HashSet::new();
            after = locations_after(view, Family::Removal, Some(&from), LOCATIONS_AT_ONCE, &mut some)?;
            if !std::mem::take(&mut first) && !some.is_empty() {
                let mut used = Vec::new();
                each_owner(view, &mut |location, owner| {
                    if some.contains(&location) && !matches!(owner, Key::Removal(_)) {
                        used.push(owner.clone());
                    }
                })?;
                for owner in used {
                    self.suspect(&Case::Row(owner))?;
                }
            }
        }
        Ok(())
    }
}

/// Calls `visit` with every location that something has, and what has it.
pub(super) fn each_owner(view: &dyn View, visit: &mut dyn FnMut(Location, &Key)) -> Result<(), StorageError> {
    for family in [Family::Blob, Family::Upload, Family::Removal] {
        view.scan(&parsed::family(family), Direction::Forward, &mut |key, value| {
            let owner = Key::parse(key);
            let location = match &owner {
                Some(Key::Blob(..)) => BlobRow::decode(value).ok().map(|row| match row.placement {
                    Placement::Inline(location) | Placement::File(location) => location,
                }),
                Some(Key::Upload(_)) => UploadRow::decode(value).ok().map(|row| row.location),
                Some(Key::Removal(location)) => Some(*location),
                _ => None,
            };
            if let (Some(owner), Some(location)) = (owner, location) {
                visit(location, &owner);
            }
            std::ops::ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

/// Collects the locations of sessions, at most [`LOCATIONS_AT_ONCE`], from behind the key `after`, and those that two of them
/// have; where to go on, if there are more.
pub(super) fn session_locations(
    view: &dyn View,
    after: Option<&[u8]>,
    into: &mut HashSet<Location>,
    twice: &mut HashSet<Location>,
) -> Result<Option<Vec<u8>>, StorageError> {
    let mut range = parsed::family(Family::Upload);
    if let Some(after) = after {
        range = crate::format::keys::after(range, after);
    }
    let mut next = None;
    view.scan(&range, Direction::Forward, &mut |key, value| {
        if let Ok(row) = UploadRow::decode(value)
            && !into.insert(row.location)
        {
            twice.insert(row.location);
        }
        if into.len() < LOCATIONS_AT_ONCE {
            return std::ops::ControlFlow::Continue(());
        }
        next = Some(key.to_vec());
        std::ops::ControlFlow::Break(())
    })?;
    Ok(next)
}

/// Collects locations out of keys that end in one, at most `limit`, from behind the key `after`; where to go on, if there
/// are more.
pub(super) fn locations_after(
    view: &dyn View,
    family: Family,
    after: Option<&[u8]>,
    limit: usize,
    into: &mut HashSet<Location>,
) -> Result<Option<Vec<u8>>, StorageError> {
    let mut range = parsed::family(family);
    if let Some(after) = after.filter(|after| !after.is_empty()) {
        range = crate::format::keys::after(range, after);
    }
    let mut next = None;
    view.scan(&range, Direction::Forward, &mut |key, _| {
        into.extend(crate::format::keys::location_of(key));
        if into.len() < limit {
            return std::ops::ControlFlow::Continue(());
        }
        next = Some(key.to_vec());
        std::ops::ControlFlow::Break(())
    })?;
    Ok(next)
}

pub(super) fn inline_fact(location: Location, len: u64, root: &[u8; 32]) -> Vec<u8> {
    [&location.0[..], &len.to_be_bytes(), root].concat()
}

fn inline_of(location: Location, bytes: &[u8]) -> Vec<u8> {
    inline_fact(location, bytes.len() as u64, blake3::hash(bytes).as_bytes())
}

pub(super) fn groups_fact(location: Location, count: u64, folded: &ChainingValue) -> Vec<u8> {
    [&location.0[..], &count.to_be_bytes(), folded].concat()
}

fn groups_of(location: Location, folded: &GroupFold) -> Vec<u8> {
    groups_fact(location, folded.count(), &folded.value().unwrap_or_default())
}
