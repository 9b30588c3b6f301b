//! The walks: each goes over some families once, in the order of their keys, and suspects what does not fit.
//!
//! The walks over rows share one view, so that what one of them counts is what another one finds. Whatever lies in two
//! orders is compared by a [`Relation`]; only where that is uneven are rows looked at a second time.

mod blobs;
mod contents;
mod files;
mod log;
mod manifests;
mod names;
mod strays;
mod tags;
mod uploads;

use crate::format::keys::{Family, RegistryId, Scope};
use crate::format::parsed::{self, Key};
use crate::format::rows;
use crate::format::values::{Row, UsageRow};
use crate::store::{Direction, StorageError, View};

use super::case::Case;
use super::examination::Examination;
use super::relation::Relation;
use super::report::{Level, Stage};
use super::walk::{Halt, each, first};

/// What the walks over rows tell one another.
pub(super) struct Facts {
    /// Counters: as counted, as stored.
    usage: Relation,
    /// Links with the size of their blob: as linked, as found on the way back.
    links: Relation,
    /// Small blobs: as their rows say, as their bytes are.
    inline: Relation,
    /// Chaining values: as blobs and sessions say, as stored.
    groups: Relation,
    /// References: as documents say, as stored for the way back.
    references: Relation,
    /// Referrers: as documents say, as stored.
    referrers: Relation,
    /// Tags: as tagged, as stored for the way back.
    tags: Relation,
}

impl Examination<'_> {
    /// Walks over everything, as deep as the level says.
    pub(super) fn walk(&mut self) -> Result<(), Halt> {
        let inner = self.inner;
        self.estimate(inner.txn.store.view()?.as_ref())?;
        {
            let applied = inner.txn.committer.acknowledged_sequence();
            let view = inner.txn.store.view()?;
            let given = inner.txn.committer.given_sequence();
            let view = view.as_ref();
            let mut facts = Facts {
                usage: self.relation(),
                links: self.relation(),
                inline: self.relation(),
                groups: self.relation(),
                references: self.relation(),
                referrers: self.relation(),
                tags: self.relation(),
            };
            self.names(view, &mut facts)?;
            self.blobs(view, &mut facts)?;
            self.uploads(view, &mut facts)?;
            self.strays(view, &mut facts)?;
            self.manifests(view, &mut facts)?;
            self.tags(view, &mut facts)?;
            self.log(view, applied, given)?;
            self.usage(view, &mut facts)?;
        }
        if self.level >= Level::Files {
            self.files()?;
        }
        if self.level >= Level::Bytes {
            self.contents()?;
        }
        Ok(())
    }

    /// About how much there is to read, by the counters.
    fn estimate(&mut self, view: &dyn View) -> Result<(), StorageError> {
        let (mut rows, mut bytes) = (0u64, 0u64);
        view.scan(&parsed::family(Family::Usage), Direction::Forward, &mut |key, value| {
            match (Key::parse(key), UsageRow::decode(value)) {
                // A repository, its name, its counters; a blob and its bytes.
                (Some(Key::RegistryUsage(_)), Ok(UsageRow([repositories, _, blobs, stored]))) => {
                    rows = rows.saturating_add(repositories.saturating_mul(3)).saturating_add(blobs.saturating_mul(2));
                    bytes = bytes.saturating_add(stored);
                }
                // A manifest has three rows and, in most images, some ten references; a tag three; a link two.
                (Some(Key::Usage(_)), Ok(UsageRow([images, tags, blobs, _]))) => {
                    let of_images = images.saturating_mul(13);
                    rows = rows.saturating_add(of_images).saturating_add(tags.saturating_mul(3));
                    rows = rows.saturating_add(blobs.saturating_mul(2));
                }
                _ => {}
            }
            std::ops::ControlFlow::Continue(())
        })?;
        let low = super::judge::low_water(view)?;
        let changes = self.inner.txn.committer.acknowledged_sequence().saturating_sub(low.changes);
        self.rows_total = rows.saturating_add(changes.saturating_mul(2));
        self.bytes_total = if self.level >= Level::Bytes { bytes } else { 0 };
        Ok(())
    }

    /// Counters: what was counted on the way against what is stored.
    fn usage(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        self.enter(Stage::Usage)?;
        each(view, &parsed::family(Family::Usage), &mut |key, value| {
            self.read_rows(1)?;
            let Some(parsed) = self.parsed(key, value)? else { return Ok(()) };
            if let Ok(UsageRow(counters)) = UsageRow::decode(value) {
                let subject = parsed.encode();
                counted(&mut facts.usage, Relation::right_about, &subject, counters);
            }
            Ok(())
        })?;
        if facts.usage.is_even() {
            return Ok(());
        }
        for rows in [Family::Usage, Family::Link, Family::Manifest, Family::Tag] {
            for_scopes(view, rows, &mut |scope| {
                let key = Key::Usage(scope);
                if facts.usage.doubts(&key.encode()) { self.suspect(&Case::Row(key)) } else { Ok(()) }
            })?;
        }
        for rows in [Family::Usage, Family::RepositoryName, Family::Blob] {
            for_registries(view, rows, &mut |registry| {
                let key = Key::RegistryUsage(registry);
                if facts.usage.doubts(&key.encode()) { self.suspect(&Case::Row(key)) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// What a key says; a row that is none of ours, or does not decode, is suspected and gives `None`.
    pub(super) fn parsed(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Key>, Halt> {
        if let Ok(parsed) = rows::parse(key, value) {
            return Ok(Some(parsed));
        }
        self.suspect(&Key::parse(key).map_or_else(|| Case::Raw(key.to_vec()), Case::Row))?;
        Ok(None)
    }
}

/// Tells one side of the counters of a repository or registry, each that is not zero by itself.
fn counted(usage: &mut Relation, tell: fn(&mut Relation, &[u8], &[u8]), subject: &[u8], counters: [u64; 4]) {
    for (index, value) in (0u8..).zip(counters) {
        if value != 0 {
            let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
            tell(usage, subject, &[index, a, b, c, d, e, f, g, h]);
        }
    }
}

/// Calls `visit` with each repository that has a row of a family, without reading all of them.
fn for_scopes(view: &dyn View, family: Family, visit: &mut dyn FnMut(Scope) -> Result<(), Halt>) -> Result<(), Halt> {
    let mut range = parsed::family(family);
    while let Some((key, _)) = first(view, &range)? {
        match key.get(1..13).and_then(|ids| Key::parse(&[&[Family::Repository as u8], ids].concat())) {
            Some(Key::Repository(scope)) => {
                visit(scope)?;
                range.start = parsed::in_scope(family, scope).end;
            }
            _ => range.start = [key.as_slice(), &[0]].concat(),
        }
    }
    Ok(())
}

/// The same for registries.
fn for_registries(
    view: &dyn View,
    family: Family,
    visit: &mut dyn FnMut(RegistryId) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let mut range = parsed::family(family);
    while let Some((key, _)) = first(view, &range)? {
        match key.get(1..5).and_then(|id| <[u8; 4]>::try_from(id).ok()) {
            Some(id) => {
                visit(RegistryId(u32::from_be_bytes(id)))?;
                let mut prefix = vec![family as u8];
                prefix.extend_from_slice(&id);
                range.start = crate::format::keys::prefix(prefix).end;
            }
            None => range.start = [key.as_slice(), &[0]].concat(),
        }
    }
    Ok(())
}

/// Counts rows of one repository after another.
#[derive(Default)]
struct Count {
    scope: Option<Scope>,
    counters: [u64; 4],
}

impl Count {
    /// Adds to the counters of `scope`; what was counted of another one is told.
    fn add(&mut self, usage: &mut Relation, scope: Scope, add: [u64; 4]) {
        if self.scope != Some(scope) {
            self.tell(usage);
            self.scope = Some(scope);
        }
        for (counter, add) in self.counters.iter_mut().zip(add) {
            *counter = counter.saturating_add(add);
        }
    }

    fn tell(&mut self, usage: &mut Relation) {
        if let Some(scope) = self.scope.take() {
            counted(usage, Relation::left_about, &Key::Usage(scope).encode(), std::mem::take(&mut self.counters));
        }
    }
}
