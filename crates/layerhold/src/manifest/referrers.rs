//! Referrers: the manifests whose subject is a given digest.

use std::ops::ControlFlow;

use crate::descriptor::{Descriptor, MediaType};
use crate::digest::Digest;
use crate::format::keys;
use crate::format::parsed::Key;
use crate::format::values::{ReferrerRow, Row};
use crate::page::Page;
use crate::repository::Repository;
use crate::store::{Direction, StorageError};

use super::errors::ReadError;

impl Repository {
    /// Descriptors of the manifests that refer to `subject`, which need not exist, in order of their digests.
    ///
    /// With `artifact_types`, only those whose artifact type is one of them (OCI distribution 1.1, listing referrers).
    ///
    /// A page's [`next`](Page::next) is the text of the last digest that was looked at. Descriptors bear the annotations of
    /// their manifests, megabytes each where a manifest is made so: a page ends after
    /// [`page_rows`](crate::Limits::page_rows) rows or [`page_bytes`](crate::Limits::page_bytes) bytes of them, and holds
    /// more bytes than that only where one row has more.
    pub fn referrers(
        &self,
        subject: &Digest,
        artifact_types: &[String],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Page<Descriptor>, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        let limit = self.page_limit(limit);
        let mut range = keys::referrers(scope, subject);
        let last = after.and_then(|token| Digest::parse(std::str::from_utf8(token).ok()?).ok());
        if let Some(last) = last {
            range = keys::after(range, &keys::referrer(scope, subject, &last));
        }
        let mut page = Page { items: Vec::new(), next: None };
        let mut rows_left = self.registry.limits.page_rows;
        let mut bytes_left = self.registry.limits.page_bytes;
        let mut looked_at = None;
        let mut failed = None;
        view.scan(&range, Direction::Forward, &mut |key, value| {
            let bytes = value.len() as u64;
            let too_long = looked_at.is_some() && bytes > bytes_left;
            if rows_left == 0 || too_long || page.items.len() >= limit {
                page.next = looked_at.map(|digest: Digest| digest.to_string().into_bytes());
                return ControlFlow::Break(());
            }
            rows_left -= 1;
            bytes_left = bytes_left.saturating_sub(bytes);
            match (Key::parse(key), ReferrerRow::decode(value)) {
                (Some(Key::Referrer { referrer: digest, .. }), Ok(row)) => {
                    looked_at = Some(digest);
                    let wanted = |text: &String| Some(text) == row.artifact_type.as_ref();
                    if artifact_types.is_empty() || artifact_types.iter().any(wanted) {
                        page.items.push(describe(digest, row));
                    }
                    ControlFlow::Continue(())
                }
                (_, row) => {
                    failed = row.err().or_else(|| Some(StorageError::corrupt("referrer row: malformed key")));
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(page), |error| Err(error.into()))
    }
}

fn describe(digest: Digest, row: ReferrerRow) -> Descriptor {
    let artifact_type = row.artifact_type.and_then(|text| MediaType::parse(&text).ok());
    Descriptor { artifact_type, annotations: row.annotations, ..Descriptor::new(row.media_type, digest, row.size) }
}
