//! Upload sessions: what they go on from, and where their bytes are.

use crate::blob::fingerprint::Frontier;
use crate::blob::outboard::fold_stored;
use crate::digest::DigestHasher;
use crate::format::keys::{self, Family};
use crate::format::parsed::Key;
use crate::format::values::{Row, Staging, UploadPartRow, UploadRow};
use crate::store::{Direction, StorageError, View};
use crate::upload::UploadId;

use super::super::case::Verdict;
use super::super::finding::Fault;
use super::super::medium::of_one_file;
use super::super::report::Level;
use super::super::walk::{Slot, first, look};
use super::blobs::kept_removal;
use super::strays::other_unreadable;
use super::{Judge, rewritten, unreadable_row};

const UPLOAD_AGAIN: &str = "the session cannot go on; it goes when it expires, and the client uploads again";

impl Judge<'_> {
    pub(super) fn upload(&self, view: &dyn View, id: &[u8; 16]) -> Result<Vec<Verdict>, StorageError> {
        let upload = UploadId(*id);
        let row = match look::<UploadRow>(view, &keys::upload(id))? {
            Slot::There(row) => row,
            Slot::Unreadable(what) => return Ok(vec![unreadable_row(&Key::Upload(*id), &what)]),
            Slot::Absent => return left_over(view, upload),
        };
        let mut verdicts = Vec::new();
        let expiry = Key::UploadExpiry(row.expires_ms, *id);
        match view.get(&expiry.encode())? {
            None => {
                let fault = Fault::UploadWithoutExpiry { upload, expires_ms: row.expires_ms };
                verdicts.push(Verdict::put(fault, "made anew from the session", &expiry.encode(), &[]));
            }
            Some(value) if !value.is_empty() => {
                verdicts.push(rewritten(&expiry, "upload expiry row: not empty", &[]));
            }
            Some(_) => {}
        }
        let mut lost = Vec::new();
        lost.extend(wrong_bytes(view, upload, &row)?);
        lost.extend(wrong_parts(view, upload, &row)?);
        lost.extend(wrong_state(view, upload, &row)?);
        if row.staging == Staging::File && self.level >= Level::Files {
            let (location, expected) = (row.location, row.offset);
            match of_one_file(self.inner.blobs.len(location))? {
                Ok(found) if found.unwrap_or(0) >= expected => {}
                Ok(found) => {
                    let found = found.unwrap_or(0);
                    lost.push(Fault::UploadFile { upload, location, expected, found });
                }
                Err(what) => verdicts.push(other_unreadable(location, what)),
            }
        }
        verdicts.extend(lost.into_iter().map(|fault| Verdict::leave(fault, UPLOAD_AGAIN)));
        verdicts.extend(kept_removal(view, row.location)?);
        if view.get(&keys::repository(row.scope))?.is_none() {
            let fault = Fault::RowsWithoutRepository { scope: row.scope, family: Family::Upload as u8 };
            verdicts
                .push(Verdict::leave(fault, "nothing says what the repository was; the session goes when it expires"));
        }
        Ok(verdicts)
    }

    pub(super) fn upload_expiry(
        &self,
        view: &dyn View,
        at_ms: u64,
        id: &[u8; 16],
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = keys::upload_expiry(at_ms, id);
        if view.get(&key)?.is_none() {
            return Ok(Vec::new());
        }
        let upload = UploadId(*id);
        Ok(match look::<UploadRow>(view, &keys::upload(id))? {
            Slot::There(row) if row.expires_ms == at_ms => self.upload(view, id)?,
            Slot::Unreadable(_) => Vec::new(),
            Slot::There(_) | Slot::Absent => {
                let fault = Fault::UploadExpiryExcess { upload, expires_ms: at_ms };
                vec![Verdict::delete(fault, "removed: no session expires then", &key)]
            }
        })
    }
}

/// Rows of a session that is gone. Its parts may wait for their sweep.
fn left_over(view: &dyn View, upload: UploadId) -> Result<Vec<Verdict>, StorageError> {
    let mut verdicts = Vec::new();
    let bytes = keys::upload_bytes(&upload.0);
    if view.get(&bytes)?.is_some() {
        let fault = Fault::UploadRowsLeftOver { upload, family: Family::UploadBytes as u8 };
        verdicts.push(Verdict::delete(fault, "removed: the session is gone", &bytes));
    }
    let sweep = keys::upload_sweep(&upload.0);
    if view.get(&sweep)?.is_none() && first(view, &keys::upload_parts(&upload.0))?.is_some() {
        let fault = Fault::UploadRowsLeftOver { upload, family: Family::UploadPart as u8 };
        verdicts.push(Verdict::put(fault, "queued for removal: the session is gone", &sweep, &[]));
    }
    Ok(verdicts)
}

fn wrong_bytes(view: &dyn View, upload: UploadId, row: &UploadRow) -> Result<Option<Fault>, StorageError> {
    let expected = if row.staging == Staging::Row { row.offset } else { 0 };
    let found = view.get(&keys::upload_bytes(&upload.0))?.map_or(0, |bytes| bytes.len() as u64);
    Ok((found != expected).then_some(Fault::UploadBytes { upload, expected, found }))
}

fn wrong_parts(view: &dyn View, upload: UploadId, row: &UploadRow) -> Result<Option<Fault>, StorageError> {
    let range = keys::upload_parts(&upload.0);
    let (mut count, mut end, mut wrong) = (0u32, 0u64, false);
    view.scan(&range, Direction::Forward, &mut |key, value| {
        count = count.saturating_add(1);
        match (Key::parse(key), UploadPartRow::decode(value)) {
            (Some(Key::UploadPart(_, first_byte)), Ok(part)) => {
                wrong |= first_byte < end;
                end = first_byte.saturating_add(part.len);
            }
            _ => wrong = true,
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let wrong = wrong || count != row.parts || end > row.offset;
    Ok(wrong.then_some(Fault::UploadParts { upload, expected: row.parts, found: count }))
}

/// What a session goes on from: its hash state, its frontier, and the chaining values that were committed.
fn wrong_state(view: &dyn View, upload: UploadId, row: &UploadRow) -> Result<Option<Fault>, StorageError> {
    let damaged = |what: String| Ok(Some(Fault::UploadState { upload, what }));
    let frontier = match Frontier::parse(&row.frontier) {
        Ok(frontier) => frontier,
        Err(error) => return damaged(error.to_string()),
    };
    if frontier.offset() != row.offset {
        return damaged(format!("frontier of another offset expected={} found={}", row.offset, frontier.offset()));
    }
    if (frontier.tail_len() > 0) != row.tail.is_some() {
        return damaged("value of the unfinished group".to_owned());
    }
    // A state of another version is rebuilt from the staged bytes; one of this version must be whole.
    if let Err(crate::digest::UnknownHashState::Damaged { .. }) = DigestHasher::restore(&row.hash_state) {
        return damaged("hash state".to_owned());
    }
    let location = row.location;
    let taken = frontier.taken();
    let wrong = match fold_stored(view, location)? {
        Err(what) => Some(what),
        Ok(stored) if stored.count() != taken.count() => {
            Some(format!("another number of groups expected={} found={}", taken.count(), stored.count()))
        }
        Ok(stored) => (stored.value() != taken.value()).then(|| "they are not those of the staged bytes".to_owned()),
    };
    Ok(wrong.map(|what| Fault::UploadGroups { upload, location, what }))
}
