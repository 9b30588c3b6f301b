//! Listings of images: keyset pages over a bounded number of rows.

use std::ops::ControlFlow;

use crate::descriptor::MediaType;
use crate::digest::Digest;
use crate::format::keys::{self, Scope};
use crate::format::values::{ManifestRow, Row};
use crate::name::{Reference, Tag};
use crate::page::Page;
use crate::repository::Repository;
use crate::store::{Direction, KeyRange, StorageError, View};

use super::delete::tags_of;
use super::errors::ReadError;
use super::read::{ImageId, pull_time, resolve};

/// Which images a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TagFilter {
    /// All of them.
    #[default]
    Any,
    /// Those with a tag.
    Tagged,
    /// Those without.
    Untagged,
}

/// One (manifest, tag) pair, or a manifest without tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// The manifest.
    pub digest: Digest,
    /// One of its tags; `None` where it has none.
    pub tag: Option<Tag>,
}

/// An image as listings describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetail {
    /// The manifest.
    pub digest: Digest,
    /// The type that is pinned to the digest.
    pub media_type: MediaType,
    /// All of its tags, in byte order.
    pub tags: Vec<Tag>,
    /// What it weighs by its own account: config and layers, each time they appear; an image index, its largest child.
    pub image_bytes: u64,
    /// Length of the document.
    pub manifest_bytes: u64,
    /// Wall time of its first push, in milliseconds since 1970.
    pub pushed_ms: u64,
    /// Wall time of its last recorded pull.
    pub last_pull_ms: Option<u64>,
    /// The document's `artifactType`, else its config's media type.
    pub artifact_type: Option<String>,
    /// Its config's media type.
    pub config_media_type: Option<MediaType>,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
}

impl Repository {
    /// The images, one entry for each tag and one for each untagged manifest, in order of digest and then tag.
    pub fn list_images(
        &self,
        filter: TagFilter,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Page<ImageEntry>, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let limit = self.page_limit(limit);
        let mut items: Vec<ImageEntry> = Vec::new();
        let (after_digest, after_tag) = after.and_then(read_token).unzip();
        let after_tag = after_tag.flatten();
        // A token inside the tags of a manifest begins at that manifest again.
        let mut range = keys::manifests(scope);
        if let Some(digest) = &after_digest {
            let key = keys::manifest(scope, digest);
            range =
                if after_tag.is_some() { KeyRange { start: key.into(), ..range } } else { keys::after(range, &key) };
        }
        let mut walk = Walk::new(self.registry.limits.page_rows);
        for (digest, row) in walk.manifests(view.as_ref(), &range, limit)? {
            if row.tags == 0 && filter != TagFilter::Tagged {
                items.push(ImageEntry { digest, tag: None });
            }
            if row.tags > 0 && filter != TagFilter::Untagged {
                let tags = tags_of(view.as_ref(), scope, &digest)?;
                let resumed = after_digest == Some(digest);
                let fresh = |tag: &Tag| !resumed || after_tag.as_ref().is_none_or(|last| tag > last);
                items.extend(tags.into_iter().filter(fresh).map(|tag| ImageEntry { digest, tag: Some(tag) }));
            }
            walk.looked_at = Some(digest);
            if items.len() > limit {
                break;
            }
        }
        let next = if items.len() > limit {
            items.truncate(limit);
            items.last().map(write_token)
        } else {
            walk.looked_at.filter(|_| walk.more).map(|digest| write_token(&ImageEntry { digest, tag: None }))
        };
        Ok(Page { items, next })
    }

    /// The images with everything that is known of them, in order of digest.
    pub fn describe_images(
        &self,
        filter: TagFilter,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Page<ImageDetail>, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let limit = self.page_limit(limit);
        let mut range = keys::manifests(scope);
        if let Some((digest, _)) = after.and_then(read_token) {
            range = keys::after(range, &keys::manifest(scope, &digest));
        }
        let mut items = Vec::new();
        let mut walk = Walk::new(self.registry.limits.page_rows);
        let keep = |row: &ManifestRow| match filter {
            TagFilter::Any => true,
            TagFilter::Tagged => row.tags > 0,
            TagFilter::Untagged => row.tags == 0,
        };
        let rows = walk.manifests_where(view.as_ref(), &range, limit, keep)?;
        let (count, mut tags) = (rows.len(), 0u32);
        for (digest, row) in rows {
            tags = tags.saturating_add(row.tags);
            items.push(ImageDetail::read(view.as_ref(), scope, digest, row)?);
            // Tags are rows, too; an image's are never told apart.
            if tags > self.registry.limits.page_rows && items.len() < count {
                (walk.looked_at, walk.more) = (Some(digest), true);
                break;
            }
        }
        let next = walk.looked_at.filter(|_| walk.more).map(|digest| write_token(&ImageEntry { digest, tag: None }));
        Ok(Page { items, next })
    }

    /// One image with everything that is known of it.
    pub fn describe_image(&self, image: &ImageId) -> Result<ImageDetail, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let digest = resolve(view.as_ref(), scope, image)?;
        let row = view.get(&keys::manifest(scope, &digest))?;
        let row = ManifestRow::decode_optional(row.as_deref())?
            .ok_or(ReadError::NotFound { reference: Reference::Digest(digest) })?;
        Ok(ImageDetail::read(view.as_ref(), scope, digest, row)?)
    }

    pub(crate) fn page_limit(&self, limit: u32) -> usize {
        limit.min(self.registry.limits.page_items) as usize
    }
}

impl ImageDetail {
    fn read(view: &dyn View, scope: Scope, digest: Digest, row: ManifestRow) -> Result<Self, StorageError> {
        let pulled = view.get(&keys::pull_time(scope, &digest))?;
        Ok(Self {
            digest,
            tags: if row.tags > 0 { tags_of(view, scope, &digest)? } else { Vec::new() },
            media_type: row.media_type,
            image_bytes: row.image_bytes,
            manifest_bytes: row.size,
            pushed_ms: row.pushed_wall_ms,
            last_pull_ms: pull_time(pulled.as_deref())?,
            artifact_type: row.artifact_type,
            config_media_type: row.config_media_type,
            subject: row.subject,
        })
    }
}

/// A walk over manifest rows that stops after a bounded number of them.
struct Walk {
    rows_left: u32,
    /// The last manifest that was looked at, kept or not.
    looked_at: Option<Digest>,
    /// Whether there may be more behind it.
    more: bool,
}

impl Walk {
    fn new(rows: u32) -> Self {
        Self { rows_left: rows, looked_at: None, more: false }
    }

    fn manifests(
        &mut self,
        view: &dyn View,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<(Digest, ManifestRow)>, StorageError> {
        // One more than the page holds tells whether there is a next page.
        self.manifests_where(view, range, limit + 1, |_| true)
    }

    /// The first `limit` rows that `keep` takes.
    fn manifests_where(
        &mut self,
        view: &dyn View,
        range: &KeyRange,
        limit: usize,
        keep: impl Fn(&ManifestRow) -> bool,
    ) -> Result<Vec<(Digest, ManifestRow)>, StorageError> {
        let mut rows = Vec::new();
        let mut failed = None;
        view.scan(range, Direction::Forward, &mut |key, value| {
            if self.rows_left == 0 || rows.len() >= limit {
                self.more = true;
                return ControlFlow::Break(());
            }
            self.rows_left -= 1;
            match (keys::scoped_digest_of(key), ManifestRow::decode(value)) {
                (Some(digest), Ok(row)) => {
                    self.looked_at = Some(digest);
                    if keep(&row) {
                        rows.push((digest, row));
                    }
                    ControlFlow::Continue(())
                }
                (_, row) => {
                    failed = row.err().or_else(|| Some(StorageError::corrupt("manifest row: malformed key")));
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(rows), Err)
    }
}

fn write_token(entry: &ImageEntry) -> Vec<u8> {
    let mut text = entry.digest.to_string();
    if let Some(tag) = &entry.tag {
        text.push('@');
        text.push_str(tag.as_str());
    }
    text.into_bytes()
}

/// The last digest, and the last tag where the page ended inside a manifest's tags. A token that is not one of ours
/// begins at the beginning; adapters refuse those before.
fn read_token(token: &[u8]) -> Option<(Digest, Option<Tag>)> {
    let text = std::str::from_utf8(token).ok()?;
    match text.split_once('@') {
        None => Some((Digest::parse(text).ok()?, None)),
        Some((digest, tag)) => Some((Digest::parse(digest).ok()?, Some(Tag::parse(tag).ok()?))),
    }
}
