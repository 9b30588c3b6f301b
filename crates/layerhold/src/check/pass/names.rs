//! Names, ids, repositories; and keys that no version writes.

use crate::format::keys::{Family, RegistryId};
use crate::format::parsed::{self, FAMILIES, IN_REPOSITORIES, Key};
use crate::format::values::{RepositoryRow, Row};
use crate::store::{KeyRange, View};

use super::super::case::{Case, Verdict};
use super::super::examination::Examination;
use super::super::finding::Fault;
use super::super::relation::Relation;
use super::super::report::Stage;
use super::super::walk::{Halt, each};
use super::{Facts, counted, for_registries, for_scopes};

/// Registry ids that are looked at together.
const IDS_AT_ONCE: u32 = 1 << 20;

impl Examination<'_> {
    pub(super) fn names(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        self.enter(Stage::Names)?;
        self.unknown_rows(view)?;
        for id in 1..=6 {
            self.suspect(&Case::Row(Key::Meta(id)))?;
        }
        self.registries(view)?;
        self.repositories(view, facts)?;
        for family in IN_REPOSITORIES {
            for_scopes(view, family, &mut |scope| {
                let there = view.get(&crate::format::keys::repository(scope))?.is_some();
                // Counters are all that a registry without repositories has.
                if there {
                    return Ok(());
                }
                let fault = Fault::RowsWithoutRepository { scope, family: family as u8 };
                let why = "nothing says what the repository was; a backup may";
                self.pronounce(&Case::Row(Key::Repository(scope)), Verdict::leave(fault, why))
            })?;
        }
        Ok(())
    }

    /// Everything between the families. The table's own rows begin with 0.
    fn unknown_rows(&mut self, view: &dyn View) -> Result<(), Halt> {
        let mut start = vec![1];
        for family in FAMILIES {
            self.unknown_in(view, KeyRange { start, end: vec![family as u8] })?;
            start = vec![family as u8 + 1];
        }
        self.unknown_in(view, KeyRange { start, end: vec![u8::MAX; 64] })?;
        each(view, &parsed::family(Family::Meta), &mut |key, value| self.parsed(key, value).map(drop))
    }

    fn unknown_in(&mut self, view: &dyn View, range: KeyRange) -> Result<(), Halt> {
        if range.start >= range.end {
            return Ok(());
        }
        each(view, &range, &mut |key, _| self.suspect(&Case::Raw(key.to_vec())))
    }

    /// Each registry id has one name, and nothing has the id of none.
    fn registries(&mut self, view: &dyn View) -> Result<(), Halt> {
        let mut base = 0;
        loop {
            let mut named = vec![false; IDS_AT_ONCE as usize];
            let mut beyond = false;
            each(view, &parsed::family(Family::RegistryName), &mut |key, value| {
                self.read_rows(1)?;
                if self.parsed(key, value)?.is_none() {
                    return Ok(());
                }
                let id = value.try_into().map_or(0, u32::from_be_bytes);
                beyond |= id.checked_sub(base).is_some_and(|at| at >= IDS_AT_ONCE);
                let Some(named) = id.checked_sub(base).and_then(|at| named.get_mut(at as usize)) else {
                    return Ok(());
                };
                if std::mem::replace(named, true) {
                    let why = "nothing says which of both names is right";
                    let verdict = Verdict::leave(Fault::RegistryShared { registry: id }, why);
                    return self.pronounce(&Case::Raw(key.to_vec()), verdict);
                }
                Ok(())
            })?;
            for family in [Family::RepositoryName, Family::Repository, Family::Blob] {
                for_registries(view, family, &mut |RegistryId(id)| {
                    beyond |= id.checked_sub(base).is_some_and(|at| at >= IDS_AT_ONCE);
                    let known = id.checked_sub(base).and_then(|at| named.get(at as usize));
                    if known != Some(&false) {
                        return Ok(());
                    }
                    let why = "nothing says what its name was; a backup may";
                    let verdict = Verdict::leave(Fault::RegistryUnnamed { registry: id }, why);
                    self.pronounce(&Case::Row(Key::RegistryUsage(RegistryId(id))), verdict)
                })?;
            }
            match base.checked_add(IDS_AT_ONCE).filter(|_| beyond) {
                Some(next) => base = next,
                None => return Ok(()),
            }
        }
    }

    fn repositories(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        let mut names = self.relation();
        let mut current: Option<(RegistryId, u64)> = None;
        each(view, &parsed::family(Family::RepositoryName), &mut |key, value| {
            self.read_rows(1)?;
            let parsed = self.parsed(key, value)?;
            // Counted as the deletion counts: by names, whatever they lead to.
            if let Some(Key::RepositoryName(registry, _)) = parsed.as_ref().or(Key::parse(key).as_ref()) {
                match &mut current {
                    Some((counting, count)) if counting == registry => *count += 1,
                    _ => {
                        tell_registry(&mut facts.usage, current.replace((*registry, 1)));
                    }
                }
            }
            if parsed.is_some() {
                names.left(&[key, value].concat());
            }
            Ok(())
        })?;
        tell_registry(&mut facts.usage, current);
        each(view, &parsed::family(Family::Repository), &mut |key, value| {
            self.read_rows(1)?;
            let (Some(Key::Repository(scope)), Ok(row)) = (self.parsed(key, value)?, RepositoryRow::decode(value))
            else {
                return Ok(());
            };
            if row.dead_since_ms.is_some() {
                return self.suspect(&Case::Row(Key::Repository(scope)));
            }
            let name = crate::format::keys::repository_name(scope.registry, &row.name);
            names.right(&[name.as_slice(), &scope.repository.0.to_be_bytes()].concat());
            Ok(())
        })?;
        each(view, &parsed::family(Family::DeadRepository), &mut |key, value| {
            self.read_rows(1)?;
            match self.parsed(key, value)? {
                Some(key) => self.suspect(&Case::Row(key)),
                None => Ok(()),
            }
        })?;
        if names.is_even() {
            return Ok(());
        }
        each(view, &parsed::family(Family::RepositoryName), &mut |key, value| match Key::parse(key)
            .filter(|_| names.doubts(&[key, value].concat()))
        {
            Some(key) => self.suspect(&Case::Row(key)),
            None => Ok(()),
        })?;
        each(view, &parsed::family(Family::Repository), &mut |key, value| {
            let (Some(Key::Repository(scope)), Ok(row)) = (Key::parse(key), RepositoryRow::decode(value)) else {
                return Ok(());
            };
            let name = crate::format::keys::repository_name(scope.registry, &row.name);
            if names.doubts(&[name.as_slice(), &scope.repository.0.to_be_bytes()].concat()) {
                return self.suspect(&Case::Row(Key::Repository(scope)));
            }
            Ok(())
        })
    }
}

/// Tells how many repositories a registry has.
fn tell_registry(usage: &mut Relation, counted_so_far: Option<(RegistryId, u64)>) {
    if let Some((registry, repositories)) = counted_so_far {
        let subject = Key::RegistryUsage(registry).encode();
        counted(usage, Relation::left_about, &subject, [repositories, 0, 0, 0]);
    }
}
