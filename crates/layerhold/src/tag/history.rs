//! Where a tag has been.

use crate::digest::Digest;
use crate::format::keys;
use crate::format::values::{Row, TagHistoryRow};
use crate::name::{Principal, Tag};
use crate::page::Page;
use crate::repository::{ReadError, Repository};
use crate::store::StorageError;

/// One move of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagEvent {
    /// The change that moved it.
    pub sequence: u64,
    /// Wall time in milliseconds since 1970.
    pub wall_ms: u64,
    /// Who moved it.
    pub principal: Principal,
    /// What it named before; `None` where it was new.
    pub from: Option<Digest>,
    /// What it names since; `None` where it was dropped.
    pub to: Option<Digest>,
}

impl Repository {
    /// The moves of a tag, oldest first, whether or not the tag exists now.
    pub fn tag_history(&self, tag: &Tag, after: Option<&[u8]>, limit: u32) -> Result<Page<TagEvent>, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let limit = self.page_limit(limit);
        let mut range = keys::tag_histories(scope, tag);
        let last = after.and_then(|token| <[u8; 8]>::try_from(token).ok()).map(u64::from_be_bytes);
        if let Some(last) = last {
            range = keys::after(range, &keys::tag_history(scope, tag, last));
        }
        let token = |last: &TagEvent| last.sequence.to_be_bytes().to_vec();
        let page = Page::of_rows(view.as_ref(), &range, limit, token, |key, value| {
            let sequence =
                keys::sequence_of(key).ok_or_else(|| StorageError::corrupt("tag history row: malformed key"))?;
            let TagHistoryRow { principal, wall_ms, from, to } = TagHistoryRow::decode(value)?;
            Ok(TagEvent { sequence, wall_ms, principal, from, to })
        })?;
        Ok(page)
    }
}
