//! Blobs with the links to them.

use std::collections::HashSet;

use crate::blob::fingerprint::GroupLen;
use crate::digest::Digest;
use crate::format::keys::{Family, KeyBytes, RegistryId, Scope};
use crate::format::parsed::{self, Key};
use crate::format::values::{BlobRow, LinkRow, Placement, Row};
use crate::store::{Location, View};

use super::super::case::Case;
use super::super::examination::Examination;
use super::super::judge::contradiction;
use super::super::relation::Relation;
use super::super::report::Stage;
use super::super::walk::{Halt, Rows, each};
use super::strays::{LOCATIONS_AT_ONCE, groups_fact, inline_fact, locations_after, session_locations};
use super::{Count, Facts, counted};

/// A blob or a way back, as the two families are walked together.
enum Met<'a> {
    Blob(RegistryId, Digest, &'a BlobRow),
    /// With the size of the blob, if that has a row that decodes; `None` where it has no row at all.
    LinkBack(Scope, Digest, Option<Option<u64>>),
}

impl Examination<'_> {
    pub(super) fn blobs(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        self.enter(Stage::Blobs)?;
        let mut given_up: HashSet<Location> = HashSet::new();
        locations_after(view, Family::Removal, None, LOCATIONS_AT_ONCE, &mut given_up)?;
        // A blob of one group has no other row that would tell a session at its location.
        let mut sessions = HashSet::new();
        let mut shared = HashSet::new();
        let mut later = session_locations(view, None, &mut sessions, &mut shared)?;
        let mut current: Option<(RegistryId, [u64; 4])> = None;
        self.blobs_and_ways_back(view, &mut |exam, met| match met {
            Met::Blob(registry, digest, row) => {
                exam.read_rows(1)?;
                let add = [0, 0, 1, row.stored_size];
                match &mut current {
                    Some((counting, counters)) if *counting == registry => {
                        counters.iter_mut().zip(add).for_each(|(counter, add)| *counter = counter.saturating_add(add));
                    }
                    _ => tell_registry(&mut facts.usage, current.replace((registry, add))),
                }
                if let Some((inline, fact)) = location_fact(row) {
                    let relation = if inline { &mut facts.inline } else { &mut facts.groups };
                    relation.left(&fact);
                }
                let (Placement::Inline(location) | Placement::File(location)) = row.placement;
                if sessions.contains(&location) {
                    exam.doubt(view, location, &mut shared)?;
                }
                let odd = row.state != crate::format::values::BlobState::Live
                    || contradiction(row).is_some()
                    || given_up.contains(&location);
                if odd { exam.suspect(&Case::Row(Key::Blob(registry, digest))) } else { Ok(()) }
            }
            Met::LinkBack(scope, digest, size) => {
                exam.read_rows(1)?;
                match size {
                    Some(Some(size)) => facts.links.right(&link_fact(scope, &digest, size)),
                    // Unreadable blobs are found as such.
                    Some(None) => {}
                    None => return exam.suspect(&Case::Row(Key::LinkBack(scope, digest))),
                }
                Ok(())
            }
        })?;
        tell_registry(&mut facts.usage, current);
        self.judge_strays(view, shared)?;
        while let Some(after) = later.take() {
            let (mut sessions, mut shared) = (HashSet::new(), HashSet::new());
            later = session_locations(view, Some(&after), &mut sessions, &mut shared)?;
            self.judge_strays(view, sessions)?;
        }
        // There are few of them.
        each(view, &parsed::family(Family::Suspect), &mut |key, value| {
            self.read_rows(1)?;
            match self.parsed(key, value)? {
                Some(key) => self.suspect(&Case::Row(key)),
                None => Ok(()),
            }
        })?;
        let mut count = Count::default();
        each(view, &parsed::family(Family::Link), &mut |key, value| {
            self.read_rows(1)?;
            let link = LinkRow::decode(value);
            if let Some(Key::Link(scope, digest)) = Key::parse(key) {
                let size = link.as_ref().map_or(0, |link| link.size);
                count.add(&mut facts.usage, scope, [0, 0, 1, size]);
                if link.is_ok() {
                    facts.links.left(&link_fact(scope, &digest, size));
                }
            }
            self.parsed(key, value).map(drop)
        })?;
        count.tell(&mut facts.usage);
        self.doubted_links(view, facts)
    }

    fn doubted_links(&mut self, view: &dyn View, facts: &Facts) -> Result<(), Halt> {
        if facts.links.is_even() {
            return Ok(());
        }
        each(view, &parsed::family(Family::Link), &mut |key, value| {
            let (Some(Key::Link(scope, digest)), Ok(link)) = (Key::parse(key), LinkRow::decode(value)) else {
                return Ok(());
            };
            let doubted = facts.links.doubts(&link_fact(scope, &digest, link.size));
            if doubted { self.suspect(&Case::Row(Key::Link(scope, digest))) } else { Ok(()) }
        })?;
        self.blobs_and_ways_back(view, &mut |exam, met| match met {
            Met::LinkBack(scope, digest, Some(Some(size))) if facts.links.doubts(&link_fact(scope, &digest, size)) => {
                exam.suspect(&Case::Row(Key::LinkBack(scope, digest)))
            }
            _ => Ok(()),
        })
    }

    /// Walks over blobs and ways back together; both are in the order of registry and digest.
    fn blobs_and_ways_back(
        &mut self,
        view: &dyn View,
        visit: &mut dyn FnMut(&mut Self, Met<'_>) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut backs = Rows::new(view, parsed::family(Family::LinkBack));
        let mut blobs = Rows::new(view, parsed::family(Family::Blob));
        loop {
            let blob = blobs.next()?;
            // Ways back that come before the blob lead nowhere; those behind the last one, too.
            let upto = blob.as_ref().and_then(|(key, _)| key.get(1..));
            let mut size = None;
            if let Some((key, value)) = &blob {
                size = Some(BlobRow::decode(value).ok().map(|row| row.size));
                if let (Some(Key::Blob(registry, digest)), Ok(row)) = (self.parsed(key, value)?, BlobRow::decode(value))
                {
                    visit(self, Met::Blob(registry, digest, &row))?;
                }
            }
            while let Some((key, _)) = backs.peek()? {
                let stem = key.len().checked_sub(8).and_then(|end| key.get(1..end)).unwrap_or_default();
                let own = upto.is_some_and(|upto| stem == upto);
                if upto.is_some_and(|upto| stem > upto) {
                    break;
                }
                let Some((key, value)) = backs.next()? else { break };
                if let Some(Key::LinkBack(scope, digest)) = self.parsed(&key, &value)? {
                    visit(self, Met::LinkBack(scope, digest, size.filter(|_| own)))?;
                }
            }
            if blob.is_none() {
                return Ok(());
            }
        }
    }

    /// Suspects the blobs whose bytes or chaining values are not as they say.
    pub(super) fn doubted_blobs(&mut self, view: &dyn View, facts: &Facts) -> Result<(), Halt> {
        if facts.inline.is_even() && facts.groups.is_even() {
            return Ok(());
        }
        each(view, &parsed::family(Family::Blob), &mut |key, value| {
            let (Some(Key::Blob(registry, digest)), Ok(row)) = (Key::parse(key), BlobRow::decode(value)) else {
                return Ok(());
            };
            let doubted = location_fact(&row).is_some_and(|(inline, fact)| {
                if inline { facts.inline.doubts(&fact) } else { facts.groups.doubts(&fact) }
            });
            if doubted { self.suspect(&Case::Row(Key::Blob(registry, digest))) } else { Ok(()) }
        })
    }
}

/// What a blob's row says of its bytes, and whether they are inline; `None` where no row but its own has to be there.
fn location_fact(row: &BlobRow) -> Option<(bool, Vec<u8>)> {
    match row.placement {
        Placement::Inline(location) => Some((true, inline_fact(location, row.stored_size, &row.root))),
        Placement::File(location) => {
            let count = GroupLen::new(row.group_len).ok()?.group_count(row.stored_size);
            (count > 1).then(|| (false, groups_fact(location, count, &row.root)))
        }
    }
}

fn link_fact(scope: Scope, digest: &Digest, size: u64) -> KeyBytes {
    let mut fact = crate::format::keys::link(scope, digest);
    fact.extend_from_slice(&size.to_be_bytes());
    fact
}

/// Tells how many blobs a registry has, and how long they are.
fn tell_registry(usage: &mut Relation, counted_so_far: Option<(RegistryId, [u64; 4])>) {
    if let Some((registry, counters)) = counted_so_far {
        counted(usage, Relation::left_about, &Key::RegistryUsage(registry).encode(), counters);
    }
}
