//! Tags: the row, the way back, and the history, which ends where the tag is.

use crate::digest::Digest;
use crate::format::keys::{self, Scope};
use crate::format::parsed::Key;
use crate::format::values::{ManifestRow, Row, TagHistoryRow, TagRow};
use crate::name::Tag;
use crate::store::{StorageError, View};

use super::super::case::Verdict;
use super::super::finding::{Fault, RowKey};
use super::super::walk::{Slot, last, look, slot};
use super::{Judge, rewritten, unreadable_row};

const FROM_HISTORY: &str = "made anew: its history and the way back say where it was";

impl Judge<'_> {
    pub(super) fn tag(&self, view: &dyn View, scope: Scope, tag: &Tag) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Tag(scope, tag.clone());
        let history = match last(view, &keys::tag_histories(scope, tag))? {
            Some((_, value)) => slot::<TagHistoryRow>(Some(&value)),
            None => Slot::Absent,
        };
        match look::<TagRow>(view, &key.encode())? {
            Slot::There(row) => tag_there(view, scope, tag, &row, history),
            Slot::Absent => {
                let Slot::There(TagHistoryRow { to: Some(digest), wall_ms, .. }) = history else {
                    return Ok(Vec::new());
                };
                let fault = Fault::TagMissing { scope, tag: tag.clone(), digest };
                Ok(vec![remade(view, scope, tag, fault, TagRow { digest, tagged_wall_ms: wall_ms })?])
            }
            Slot::Unreadable(what) => match history {
                Slot::There(TagHistoryRow { to: Some(digest), wall_ms, .. }) => {
                    let fault = Fault::UnreadableRow { key: RowKey(key.encode().into()), what };
                    Ok(vec![remade(view, scope, tag, fault, TagRow { digest, tagged_wall_ms: wall_ms })?])
                }
                _ => Ok(vec![unreadable_row(&key, &what)]),
            },
        }
    }

    pub(super) fn tag_by_digest(
        &self,
        view: &dyn View,
        scope: Scope,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::TagByDigest(scope, *digest, tag.clone());
        let Some(value) = view.get(&key.encode())? else { return Ok(Vec::new()) };
        let excess = || Fault::TagByDigestExcess { scope, tag: tag.clone(), digest: *digest };
        let delete = || Verdict::delete(excess(), "removed: the tag does not name the manifest", &key.encode());
        let history = match last(view, &keys::tag_histories(scope, tag))? {
            Some((_, value)) => slot::<TagHistoryRow>(Some(&value)),
            None => Slot::Absent,
        };
        Ok(match (look::<TagRow>(view, &keys::tag(scope, tag))?, history) {
            (Slot::There(row), _) if row.digest == *digest && value.is_empty() => Vec::new(),
            (Slot::There(row), _) if row.digest == *digest => {
                vec![rewritten(&key, "tag-by-digest row: not empty", &[])]
            }
            (_, Slot::There(row)) if row.to != Some(*digest) => vec![delete()],
            // The history ends where this leads, so the tag's row is what is wrong.
            (_, Slot::There(_)) => self.tag(view, scope, tag)?,
            (Slot::There(_), _) => {
                let why = "the history of the tag is gone, and its row names another manifest; tag the image again";
                vec![Verdict::leave(excess(), why)]
            }
            (_, _) => {
                let why =
                    "the history of the tag is gone, too: nothing says whether it was dropped; tag the image again";
                vec![Verdict::leave(excess(), why)]
            }
        })
    }
}

fn tag_there(
    view: &dyn View,
    scope: Scope,
    tag: &Tag,
    row: &TagRow,
    history: Slot<TagHistoryRow>,
) -> Result<Vec<Verdict>, StorageError> {
    let digest = row.digest;
    let mut verdicts = Vec::new();
    if look::<ManifestRow>(view, &keys::manifest(scope, &digest))?.is_absent() {
        let fault = Fault::DanglingTag { scope, tag: tag.clone(), digest };
        verdicts.push(Verdict::leave(fault, "push the manifest again, or drop the tag"));
    }
    let back = Key::TagByDigest(scope, digest, tag.clone());
    let found = view.get(&back.encode())?;
    let moved = history.there();
    if let Some(TagHistoryRow { to: Some(before), wall_ms, .. }) = moved
        && before != digest
        && view.get(&keys::tag_by_digest(scope, &before, tag))?.is_some()
    {
        let fault = Fault::TagHistory { scope, tag: tag.clone() };
        verdicts.push(if found.is_none() {
            remade(view, scope, tag, fault, TagRow { digest: before, tagged_wall_ms: wall_ms })?
        } else {
            Verdict::leave(fault, "ways back lead to both manifests; tag the image that is right again")
        });
        return Ok(verdicts);
    }
    match found {
        None => {
            let fault = Fault::TagByDigestMissing { scope, tag: tag.clone(), digest };
            verdicts.push(Verdict::put(fault, "made anew from the tag", &back.encode(), &[]));
        }
        Some(value) if !value.is_empty() => verdicts.push(rewritten(&back, "tag-by-digest row: not empty", &[])),
        Some(_) => {}
    }
    if moved.and_then(|row| row.to) != Some(digest) {
        let fault = Fault::TagHistory { scope, tag: tag.clone() };
        verdicts.push(Verdict::leave(fault, "nothing else says where the tag was; its next move goes on from here"));
    }
    Ok(verdicts)
}

/// A tag that is lost or leads elsewhere, if the way back agrees with the history.
fn remade(view: &dyn View, scope: Scope, tag: &Tag, fault: Fault, row: TagRow) -> Result<Verdict, StorageError> {
    let back = view.get(&keys::tag_by_digest(scope, &row.digest, tag))?;
    let manifest = view.get(&keys::manifest(scope, &row.digest))?;
    Ok(if back.is_some() && manifest.is_some() {
        Verdict::put(fault, FROM_HISTORY, &keys::tag(scope, tag), &row.encode())
    } else {
        Verdict::leave(fault, "its manifest or the way back is gone, too; tag the image again")
    })
}
