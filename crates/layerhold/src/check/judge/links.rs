//! The right of a repository to a blob, and the way back.

use crate::descriptor::MediaType;
use crate::digest::Digest;
use crate::format::keys::{self, Scope};
use crate::format::parsed::Key;
use crate::format::values::{BlobRow, LinkRow, Placement, RepositoryRow, Row, UsageRow};
use crate::manifest::document::Role;
use crate::store::{Direction, StorageError, View};

use super::super::case::Verdict;
use super::super::finding::{Counters, Fault, RowKey};
use super::super::medium::of_one_file;
use super::super::walk::{Slot, look};
use super::{Judge, rewritten, unreadable_row};

const REMADE: &str = "made anew from the blob and what references it";

impl Judge<'_> {
    pub(super) fn link(&self, view: &dyn View, scope: Scope, digest: &Digest) -> Result<Vec<Verdict>, StorageError> {
        let (key, back_key) = (Key::Link(scope, *digest), Key::LinkBack(scope, *digest));
        let blob = look::<BlobRow>(view, &keys::blob(scope.registry, digest))?;
        let back = view.get(&back_key.encode())?;
        let link = match look::<LinkRow>(view, &key.encode())? {
            Slot::There(link) => link,
            Slot::Unreadable(what) => return self.unreadable_link(view, scope, digest, blob.there().as_ref(), &what),
            Slot::Absent if back.is_some() => return self.missing_link(view, scope, digest, blob.there().as_ref()),
            Slot::Absent => return Ok(Vec::new()),
        };
        let mut verdicts = Vec::new();
        match &back {
            None => {
                let fault = Fault::LinkBackMissing { scope, digest: *digest };
                verdicts.push(Verdict::put(fault, "made anew from the link", &back_key.encode(), &[]));
            }
            Some(value) if !value.is_empty() => verdicts.push(rewritten(&back_key, "link-back row: not empty", &[])),
            Some(_) => {}
        }
        match blob {
            Slot::Absent => {
                self.missed.borrow_mut().add(link.size);
                let fault = Fault::DanglingLink { scope, digest: *digest };
                let why =
                    "the blob is gone: a repair that looks at files finds its file if that is left; else push it again";
                verdicts.push(Verdict::leave(fault, why));
            }
            Slot::There(blob) if blob.size != link.size => {
                let fault = Fault::LinkSize { scope, digest: *digest, link: link.size, blob: blob.size };
                verdicts.push(if self.stored_size(view, &blob)? == Some(blob.size) {
                    let right = LinkRow { size: blob.size, ..link };
                    Verdict::put(fault, "the size is that of the stored bytes", &key.encode(), &right.encode())
                } else {
                    Verdict::leave(fault, "the stored bytes do not say which of both is right")
                });
            }
            Slot::Unreadable(_) => self.missed.borrow_mut().add(link.size),
            Slot::There(_) => {}
        }
        Ok(verdicts)
    }

    /// The length of a blob by its bytes.
    fn stored_size(&self, view: &dyn View, blob: &BlobRow) -> Result<Option<u64>, StorageError> {
        Ok(match blob.placement {
            Placement::Inline(location) => view.get(&keys::inline_bytes(location))?.map(|bytes| bytes.len() as u64),
            Placement::File(location) => {
                let len = of_one_file(self.inner.blobs.len(location))?.ok().flatten();
                len.and_then(|len| len.checked_sub(crate::store::local::FOOTER_LEN))
            }
        })
    }

    fn unreadable_link(
        &self,
        view: &dyn View,
        scope: Scope,
        digest: &Digest,
        blob: Option<&BlobRow>,
        what: &str,
    ) -> Result<Vec<Verdict>, StorageError> {
        let key = Key::Link(scope, *digest);
        let Some(blob) = blob else { return Ok(vec![unreadable_row(&key, what)]) };
        let fault = Fault::UnreadableRow { key: RowKey(key.encode().into()), what: what.to_owned() };
        let link = remade(view, scope, digest, blob)?;
        Ok(vec![Verdict::put(fault, REMADE, &key.encode(), &link.encode())])
    }

    /// A way back without its link: either the link was lost, or the way back was left. A manifest that was refused without
    /// the link proves the first, and so do counters that count one blob of this size more than there are links. Without
    /// such a proof both stay as they are: the way back may be the last that is left of a push.
    fn missing_link(
        &self,
        view: &dyn View,
        scope: Scope,
        digest: &Digest,
        blob: Option<&BlobRow>,
    ) -> Result<Vec<Verdict>, StorageError> {
        let repository = look::<RepositoryRow>(view, &keys::repository(scope))?.there();
        let excess = Fault::LinkBackExcess { scope, digest: *digest };
        let never_sparse = match &repository {
            Some(row) if row.dead_since_ms.is_some() => {
                let how = "removed: no link has it, and its repository is deleted";
                return Ok(vec![Verdict::delete(excess, how, &keys::link_back(scope, digest))]);
            }
            Some(row) => self.settings.borrow_mut().never_sparse(view, row)?,
            None => false,
        };
        let needed = never_sparse && is_required(view, scope, digest)?;
        let was_there = needed || blob.map_or(Ok(false), |blob| is_counted(view, scope, blob))?;
        Ok(vec![match (was_there, blob) {
            (false, _) => {
                let why =
                    "nothing says whether the link was lost or undone; pushing or mounting the blob there ends it";
                Verdict::leave(excess, why)
            }
            (true, Some(blob)) => {
                let fault = Fault::LinkMissing { scope, digest: *digest };
                let link = remade(view, scope, digest, blob)?;
                Verdict::put(fault, REMADE, &keys::link(scope, digest), &link.encode())
            }
            (true, None) => {
                let fault = Fault::LinkMissing { scope, digest: *digest };
                Verdict::leave(fault, "the blob is gone, too; push it again")
            }
        }])
    }
}

/// Whether a manifest of the repository could not have been put without the blob.
fn is_required(view: &dyn View, scope: Scope, digest: &Digest) -> Result<bool, StorageError> {
    let manifests = crate::manifest::referencing(view, scope, digest, Role::is_blob)?;
    for manifest in manifests {
        let required = super::manifests::required(view, scope, &manifest)?;
        if required.iter().any(|(needed, role)| needed == digest && role.is_blob()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the counters of a repository count exactly one blob, of this size, more than it has links. Both are of one view,
/// in which every commit changed counters and links alike.
fn is_counted(view: &dyn View, scope: Scope, blob: &BlobRow) -> Result<bool, StorageError> {
    let Slot::There(UsageRow(stored)) = look(view, &keys::repository_usage(scope))? else { return Ok(false) };
    let Counters([_, _, blobs, bytes]) = super::usage::count(view, scope)?;
    Ok(matches!(stored, [_, _, stored_blobs, stored_bytes]
        if stored_blobs == blobs.saturating_add(1) && stored_bytes == bytes.saturating_add(blob.size)))
}

/// A link out of what is known: the type is given only where all manifests call the blob the same.
fn remade(view: &dyn View, scope: Scope, digest: &Digest, blob: &BlobRow) -> Result<LinkRow, StorageError> {
    let mut media_types: Vec<MediaType> = Vec::new();
    let range = keys::back_references(scope, digest);
    view.scan(&range, Direction::Forward, &mut |_, value| {
        let media_type = std::str::from_utf8(value).ok().and_then(|text| MediaType::parse(text).ok());
        media_types.extend(media_type.filter(|media_type| !media_types.contains(media_type)));
        if media_types.len() > 1 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    let media_type = media_types.pop().filter(|_| media_types.is_empty());
    Ok(LinkRow { size: blob.size, media_type, linked_wall_ms: 0 })
}
