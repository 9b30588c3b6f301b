//! Listings of tags, straight from their rows.

use crate::digest::Digest;
use crate::format::keys::{self, Scope};
use crate::format::parsed::Key;
use crate::format::values::{Row, TagRow};
use crate::name::Tag;
use crate::page::Page;
use crate::repository::{ReadError, Repository};
use crate::store::{KeyRange, StorageError};

/// A tag and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagDetail {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// Wall time at which it was put there, in milliseconds since 1970.
    pub tagged_ms: u64,
}

impl Repository {
    /// The tags in byte order. `after` is the [`next`](Page::next) of the page before.
    pub fn list_tags(&self, after: Option<&[u8]>, limit: u32) -> Result<Page<TagDetail>, ReadError> {
        // A token that is no text is none of ours and sorts before everything.
        self.list_tags_after(after.and_then(|token| std::str::from_utf8(token).ok()), limit)
    }

    /// The tags that sort after `last`, which need not be a tag (OCI distribution, listing tags).
    pub fn list_tags_after(&self, last: Option<&str>, limit: u32) -> Result<Page<TagDetail>, ReadError> {
        let range = |scope: Scope| last.map_or_else(|| keys::tags(scope), |last| keys::tags_after(scope, last));
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let range: KeyRange = range(scope);
        let limit = self.page_limit(limit);
        let token = |last: &TagDetail| last.tag.as_str().as_bytes().to_vec();
        let page = Page::of_rows(view.as_ref(), &range, limit, token, |key, value| {
            let Some(Key::Tag(_, tag)) = Key::parse(key) else {
                return Err(StorageError::corrupt("tag row: malformed key"));
            };
            let TagRow { digest, tagged_wall_ms } = TagRow::decode(value)?;
            Ok(TagDetail { tag, digest, tagged_ms: tagged_wall_ms })
        })?;
        Ok(page)
    }
}
