//! Tags, each with its history, and the way back from manifests.

use crate::format::keys::{self, Family, Scope};
use crate::format::parsed::{self, Key};
use crate::format::values::{Row, TagHistoryRow, TagRow};
use crate::store::View;

use super::super::case::Case;
use super::super::examination::Examination;
use super::super::report::Stage;
use super::super::walk::{Halt, Rows, each};
use super::{Count, Facts};

impl Examination<'_> {
    pub(super) fn tags(&mut self, view: &dyn View, facts: &mut Facts) -> Result<(), Halt> {
        self.enter(Stage::Tags)?;
        let mut count = Count::default();
        let mut tags = Rows::new(view, parsed::family(Family::Tag));
        let mut histories = Rows::new(view, parsed::family(Family::TagHistory));
        loop {
            // Both are in the order of repository and tag.
            let tag = tags.peek()?.map(|(key, _)| key.get(1..).unwrap_or_default().to_vec());
            let history = histories.peek()?.map(|(key, _)| stem_of(key).to_vec());
            let stem = match (tag, history) {
                (None, None) => break,
                (Some(stem), None) | (None, Some(stem)) => stem,
                (Some(tag), Some(history)) => tag.min(history),
            };
            let mut row = None;
            if tags.peek()?.is_some_and(|(key, _)| key.get(1..) == Some(&stem)) {
                self.read_rows(1)?;
                row = tags.next()?.map(|(_, value)| value);
            }
            let mut newest = None;
            while histories.peek()?.is_some_and(|(key, _)| stem_of(key) == stem) {
                self.read_rows(1)?;
                let Some((key, value)) = histories.next()? else { break };
                self.parsed(&key, &value)?;
                newest = Some(value);
            }
            let Some(Key::Tag(scope, tag)) = Key::parse(&[&[Family::Tag as u8], stem.as_slice()].concat()) else {
                // Malformed histories were suspected above.
                self.suspect(&Case::Raw([&[Family::Tag as u8], stem.as_slice()].concat()))?;
                continue;
            };
            let named = row.as_deref().map(TagRow::decode);
            if row.is_some() {
                count.add(&mut facts.usage, scope, [0, 1, 0, 0]);
            }
            if let Some(Ok(row)) = &named {
                facts.tags.left(&keys::tag_by_digest(scope, &row.digest, &tag));
            }
            let unreadable = matches!(named, Some(Err(_)));
            let named = named.and_then(Result::ok).map(|row| row.digest);
            let last = newest.as_deref().map(TagHistoryRow::decode).and_then(Result::ok).and_then(|row| row.to);
            if unreadable || named != last {
                self.suspect(&Case::Row(Key::Tag(scope, tag)))?;
            }
        }
        count.tell(&mut facts.usage);
        each(view, &parsed::family(Family::TagByDigest), &mut |key, value| {
            self.read_rows(1)?;
            if self.parsed(key, value)?.is_some() {
                facts.tags.right(key);
            }
            Ok(())
        })?;
        self.doubted_tags(view, facts)
    }

    fn doubted_tags(&mut self, view: &dyn View, facts: &Facts) -> Result<(), Halt> {
        let mut known: Option<(Scope, crate::digest::Digest, bool)> = None;
        each(view, &parsed::family(Family::TagByDigest), &mut |key, _| {
            let Some(Key::TagByDigest(scope, digest, tag)) = Key::parse(key) else { return Ok(()) };
            // A tag that leads to no manifest: one look for all tags of a digest.
            let there = match known {
                Some((known_scope, known_digest, there)) if known_scope == scope && known_digest == digest => there,
                _ => view.get(&keys::manifest(scope, &digest))?.is_some(),
            };
            known = Some((scope, digest, there));
            if !there {
                self.suspect(&Case::Row(Key::Tag(scope, tag.clone())))?;
            }
            if facts.tags.doubts(key) { self.suspect(&Case::Row(Key::TagByDigest(scope, digest, tag))) } else { Ok(()) }
        })?;
        if facts.tags.is_even() {
            return Ok(());
        }
        each(view, &parsed::family(Family::Tag), &mut |key, value| {
            let (Some(Key::Tag(scope, tag)), Ok(row)) = (Key::parse(key), TagRow::decode(value)) else { return Ok(()) };
            let doubted = facts.tags.doubts(&keys::tag_by_digest(scope, &row.digest, &tag));
            if doubted { self.suspect(&Case::Row(Key::Tag(scope, tag))) } else { Ok(()) }
        })
    }
}

/// Repository and tag in the key of a tag's history.
fn stem_of(key: &[u8]) -> &[u8] {
    key.len().checked_sub(8).and_then(|end| key.get(1..end)).unwrap_or_default()
}
