//! Manifests: row, document, references and tags of each together, since all are in the order of repository and digest.

use std::collections::HashSet;

use crate::digest::Digest;
use crate::format::keys::{self, Family, KeyBytes, Scope};
use crate::format::parsed::{self, Key};
use crate::format::values::{ManifestRow, ReferenceEntry, ReferencesRow, RepositoryRow, Row};
use crate::manifest::document::Role;
use crate::store::{StorageError, View};

use super::super::case::Case;
use super::super::examination::Examination;
use super::super::judge::{Document, expected_entries};
use super::super::report::Stage;
use super::super::walk::{Halt, Rows, each, look};
use super::{Count, Facts};

/// So many references are remembered to be met: base layers are asked for by every image.
const MET_MAX: usize = 4_096;

/// The rows of one manifest.
struct Met {
    scope: Scope,
    digest: Digest,
    row: Option<Vec<u8>>,
    bytes: Option<Vec<u8>>,
    references: Option<Vec<u8>>,
    pull_time: Option<Vec<u8>>,
    tags: u32,
}

/// What a repository was found to hold.
#[derive(Default)]
struct Held {
    scope: Option<Scope>,
    /// Whether its manifests must have what they require.
    strict: bool,
    met: HashSet<(Digest, bool)>,
}

impl Held {
    fn enter(&mut self, view: &dyn View, scope: Scope) -> Result<(), StorageError> {
        if self.scope == Some(scope) {
            return Ok(());
        }
        let row = look::<RepositoryRow>(view, &keys::repository(scope))?.there();
        let strict = row.is_some_and(|row| row.dead_since_ms.is_none() && !row.settings.sparse_images);
        *self = Self { scope: Some(scope), strict, met: HashSet::new() };
        Ok(())
    }

    fn holds_all(&mut self, view: &dyn View, required: &[(Digest, Role)]) -> Result<bool, StorageError> {
        let Some(scope) = self.scope.filter(|_| self.strict) else { return Ok(true) };
        let fact = |(digest, role): &(Digest, Role)| (*digest, role.is_blob());
        let asked: Vec<_> = required.iter().map(fact).filter(|fact| !self.met.contains(fact)).collect();
        let rows = asked.iter().map(
            |(digest, is_blob)| {
                if *is_blob { keys::link(scope, digest) } else { keys::manifest(scope, digest) }
            },
        );
        let rows: Vec<_> = rows.collect();
        let found = view.get_many(&rows.iter().map(KeyBytes::as_slice).collect::<Vec<_>>())?;
        let all = found.iter().all(Option::is_some);
        if self.met.len() + asked.len() > MET_MAX {
            self.met.clear();
        }
        self.met.extend(asked.into_iter().zip(found).filter_map(|(fact, found)| found.map(|_| fact)));
        Ok(all)
    }
}

impl Examination<'_> {
    pub(super) fn manifests(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        self.enter(Stage::Manifests)?;
        let mut count = Count::default();
        let mut held = Held::default();
        self.each_manifest(view, &mut |exam, met| {
            if met.row.is_some() {
                count.add(&mut facts.usage, met.scope, [1, 0, 0, 0]);
            }
            held.enter(view, met.scope)?;
            let mut odd = met.pull_time.as_ref().is_some_and(|value| value.len() != 8 || met.row.is_none());
            let row = met.row.as_deref().map(ManifestRow::decode).and_then(Result::ok);
            let intact = met.bytes.as_ref().filter(|bytes| Digest::of(met.digest.algorithm(), bytes) == met.digest);
            let document = intact.and_then(|bytes| Document::read(bytes, row.as_ref()).ok());
            let entries = match (&row, &document) {
                (Some(row), Some(document)) => {
                    let references = met.references.as_deref().map(ReferencesRow::decode);
                    odd |= document.difference(row).is_some()
                        || row.tags != met.tags
                        || !matches!(references, Some(Ok(ReferencesRow(entries))) if entries == document.entries)
                        || !held.holds_all(view, &document.required)?;
                    if let Some((subject, referrer)) = &document.referrer {
                        facts.referrers.left(&referrer_fact(met.scope, subject, &met.digest, &referrer.encode()));
                    }
                    Some(document.entries.clone())
                }
                _ => {
                    odd = true;
                    expected_entries(view, met.scope, &met.digest)?.filter(|_| met.row.is_some())
                }
            };
            for entry in entries.unwrap_or_default() {
                facts.references.left(&reference_fact(met.scope, &met.digest, &entry));
            }
            if odd { exam.suspect(&Case::Row(Key::Manifest(met.scope, met.digest))) } else { Ok(()) }
        })?;
        count.tell(&mut facts.usage);
        self.ways_back(view, facts)?;
        self.doubted_manifests(view, facts)
    }

    /// References and referrers as they are stored for the way back.
    fn ways_back(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        each(view, &parsed::family(Family::BackReference), &mut |key, value| {
            self.read_rows(1)?;
            if self.parsed(key, value)?.is_some() {
                facts.references.right(&[key, value].concat());
            }
            Ok(())
        })?;
        each(view, &parsed::family(Family::Referrer), &mut |key, value| {
            self.read_rows(1)?;
            if self.parsed(key, value)?.is_some() {
                facts.referrers.right(&[key, value].concat());
            }
            Ok(())
        })
    }

    fn doubted_manifests(&mut self, view: &dyn View, facts: &Facts) -> Result<(), Halt> {
        if facts.references.is_even() && facts.referrers.is_even() {
            return Ok(());
        }
        // By the rows that repeat the documents: where those differ, the manifest was judged already.
        each(view, &parsed::family(Family::ManifestReferences), &mut |key, value| {
            let (Some(Key::ManifestReferences(scope, digest)), Ok(ReferencesRow(entries))) =
                (Key::parse(key), ReferencesRow::decode(value))
            else {
                return Ok(());
            };
            let doubted = entries.iter().any(|entry| facts.references.doubts(&reference_fact(scope, &digest, entry)));
            if doubted { self.suspect(&Case::Row(Key::Manifest(scope, digest))) } else { Ok(()) }
        })?;
        if !facts.referrers.is_even() {
            each(view, &parsed::family(Family::Manifest), &mut |key, value| {
                let (Some(Key::Manifest(scope, digest)), Ok(row)) = (Key::parse(key), ManifestRow::decode(value))
                else {
                    return Ok(());
                };
                if row.subject.is_some() { self.suspect(&Case::Row(Key::Manifest(scope, digest))) } else { Ok(()) }
            })?;
        }
        for (family, relation) in [(Family::BackReference, &facts.references), (Family::Referrer, &facts.referrers)] {
            each(view, &parsed::family(family), &mut |key, value| match Key::parse(key)
                .filter(|_| relation.doubts(&[key, value].concat()))
            {
                Some(key) => self.suspect(&Case::Row(key)),
                None => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Visits the rows of each manifest together, also of one that has no row of its own.
    fn each_manifest(
        &mut self,
        view: &dyn View,
        visit: &mut dyn FnMut(&mut Self, Met) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        const FAMILIES: [Family; 4] =
            [Family::Manifest, Family::ManifestBytes, Family::ManifestReferences, Family::PullTime];
        let mut rows = FAMILIES.map(|family| Rows::new(view, parsed::family(family)));
        let mut tags = Rows::new(view, parsed::family(Family::TagByDigest));
        loop {
            let mut stem: Option<Vec<u8>> = None;
            for rows in &mut rows {
                if let Some((key, _)) = rows.peek()? {
                    let own = key.get(1..).unwrap_or_default();
                    if stem.as_deref().is_none_or(|stem| own < stem) {
                        stem = Some(own.to_vec());
                    }
                }
            }
            let Some(stem) = stem else { return Ok(()) };
            let mut found: [Option<Vec<u8>>; 4] = Default::default();
            for (rows, found) in rows.iter_mut().zip(&mut found) {
                if rows.peek()?.is_some_and(|(key, _)| key.get(1..) == Some(&stem)) {
                    self.read_rows(1)?;
                    *found = rows.next()?.map(|(_, value)| value);
                }
            }
            let mut count = 0u32;
            while let Some((key, _)) = tags.peek()? {
                let own = key.get(1..).unwrap_or_default();
                if own.starts_with(&stem) {
                    count = count.saturating_add(1);
                } else if own > stem.as_slice() {
                    break;
                }
                tags.next()?;
            }
            let [row, bytes, references, pull_time] = found;
            match Key::parse(&[&[Family::Manifest as u8], stem.as_slice()].concat()) {
                Some(Key::Manifest(scope, digest)) => {
                    visit(self, Met { scope, digest, row, bytes, references, pull_time, tags: count })?;
                }
                _ => {
                    for family in FAMILIES {
                        self.suspect(&Case::Raw([&[family as u8], stem.as_slice()].concat()))?;
                    }
                }
            }
        }
    }
}

fn reference_fact(scope: Scope, manifest: &Digest, entry: &ReferenceEntry) -> KeyBytes {
    let mut fact = keys::back_reference(scope, &entry.digest, manifest, entry.role.code());
    fact.extend_from_slice(entry.media_type.as_str().as_bytes());
    fact
}

fn referrer_fact(scope: Scope, subject: &Digest, referrer: &Digest, row: &[u8]) -> KeyBytes {
    let mut fact = keys::referrer(scope, subject, referrer);
    fact.extend_from_slice(row);
    fact
}
