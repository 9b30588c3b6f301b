//! Listings: repositories, tags, referrers, page by page.
//!
//! A page of the engine may be short, because a listing looks at a bounded number of rows; the protocol allows that only
//! where a `Link` follows. So each listing here asks again until its page is full or the work has been enough, and then
//! names the next page by the last thing it looked at.

use http::StatusCode;
use http::header::{CONTENT_TYPE, LINK};
use layerhold::{Descriptor, Digest, MediaType, RepositoryName, Tag};
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::code::{ErrorCode, OciError};
use crate::error;
use crate::query::PageQuery;
use crate::response::{OCI_FILTERS_APPLIED, Response};

/// How often the engine is asked for one page: enough to fill any page of a store without gaps, few enough that no
/// request holds a worker for long.
const ROUNDS_MAX: u32 = 16;

/// The length of the descriptors of referrers after which a page ends. Annotations are copied into descriptors and may be
/// long; a page stays below the 4 MiB that clients accept for a manifest, because no single descriptor is longer than the
/// manifest that it was made from.
const REFERRERS_BYTES: usize = 1 << 20;

impl Adapter {
    pub(crate) fn catalog(&self, page: &PageQuery) -> Result<Response, OciError> {
        let limit = page.limit();
        let mut after = match &page.last {
            None => None,
            Some(last) => Some(self.unspelled(last).ok_or_else(|| {
                OciError::bad_request(ErrorCode::NameInvalid, "the query parameter last is not a repository name")
            })?),
        };
        let mut names: Vec<String> = Vec::new();
        let mut more = limit > 0;
        for _ in 0..ROUNDS_MAX {
            let Some(wanted) = left(limit, names.len()).filter(|_| more) else {
                break;
            };
            let found = self
                .registry
                .list_repository_names(after.as_ref(), wanted)
                .map_err(|e| error::read_repository(&e, ""))?;
            more = found.next.is_some() && !found.items.is_empty();
            names.extend(found.items.iter().map(|repository| self.spelled(repository)));
            if let Some(last) = found.items.into_iter().next_back() {
                after = Some(last);
            }
        }
        let response = Response::json(StatusCode::OK, &json!({ "repositories": names }));
        Ok(match after.filter(|_| more) {
            Some(last) => self.linked(response, "_catalog", limit, &self.spelled(&last), &[]),
            None => response,
        })
    }

    /// Tags outside of OCI's grammar, which only ECR's protocol can set, are left out: no request could name them.
    pub(crate) fn tags(&self, repository: &RepositoryName, page: &PageQuery) -> Result<Response, OciError> {
        let limit = page.limit();
        let name = self.spelled(repository);
        let handle = self.repository(repository);
        let mut last = page.last.clone();
        let mut tags: Vec<Tag> = Vec::new();
        let mut more = limit > 0;
        if limit == 0 {
            // The repository must exist all the same.
            handle.list_tags_after(last.as_deref(), 1).map_err(|e| error::read_repository(&e, &name))?;
        }
        for _ in 0..ROUNDS_MAX {
            let Some(wanted) = left(limit, tags.len()).filter(|_| more) else {
                break;
            };
            let found =
                handle.list_tags_after(last.as_deref(), wanted).map_err(|e| error::read_repository(&e, &name))?;
            more = found.next.is_some() && !found.items.is_empty();
            if let Some(item) = found.items.last() {
                last = Some(item.tag.to_string());
            }
            tags.extend(found.items.into_iter().map(|item| item.tag).filter(Tag::is_oci));
        }
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let response = Response::json(StatusCode::OK, &json!({ "name": name, "tags": tags }));
        Ok(match last.filter(|_| more) {
            Some(last) => self.linked(response, &format!("{name}/tags/list"), limit, &last, &[]),
            None => response,
        })
    }

    /// An image index of the manifests whose subject this is. Empty rather than 404 where the subject or the repository
    /// does not exist: a 404 tells clients that the registry cannot list referrers at all.
    pub(crate) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_types: &[String],
        page: &PageQuery,
    ) -> Result<Response, OciError> {
        let limit = page.limit();
        let name = self.spelled(repository);
        let handle = self.repository(repository);
        let mut after = page.last.as_deref().map(digest_of_link).transpose()?;
        let mut manifests: Vec<Value> = Vec::new();
        let mut bytes = 0_usize;
        let mut more = limit > 0;
        // A filter may pass over everything that one round looks at.
        for _ in 0..ROUNDS_MAX {
            let Some(wanted) = left(limit, manifests.len()).filter(|_| more && bytes < REFERRERS_BYTES) else {
                break;
            };
            let place = after.map(|digest| digest.to_string());
            let found = match handle.referrers(subject, artifact_types, place.as_deref().map(str::as_bytes), wanted) {
                Ok(found) => found,
                Err(error) => {
                    let error = error::read_manifest(&error, &name);
                    if error.code() == ErrorCode::NameUnknown {
                        more = false;
                        break;
                    }
                    return Err(error);
                }
            };
            let mut full = false;
            for item in found.items {
                let descriptor = spelled_descriptor(&item);
                let len = descriptor.to_string().len();
                full = !manifests.is_empty() && bytes.saturating_add(len) > REFERRERS_BYTES;
                if full {
                    break;
                }
                bytes = bytes.saturating_add(len);
                manifests.push(descriptor);
                after = Some(item.digest);
            }
            if full {
                break;
            }
            more = found.next.is_some();
            if let Some(next) = found.next {
                after = Some(digest_of_page(&next)?);
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX.as_str(), "manifests": manifests });
        let mut response =
            Response::json(StatusCode::OK, &index).with_text(CONTENT_TYPE, MediaType::OCI_INDEX.as_str());
        if !artifact_types.is_empty() {
            response = response.with_text(OCI_FILTERS_APPLIED, "artifactType");
        }
        Ok(match after.filter(|_| more) {
            Some(after) => {
                let path = format!("{name}/referrers/{subject}");
                self.linked(response, &path, limit, &after.to_string(), artifact_types)
            }
            None => response,
        })
    }

    fn linked(&self, response: Response, path: &str, limit: u32, last: &str, artifact_types: &[String]) -> Response {
        let limit = limit.to_string();
        let mut parameters = vec![("n", limit.as_str()), ("last", last)];
        parameters.extend(artifact_types.iter().map(|artifact_type| ("artifactType", artifact_type.as_str())));
        response.with_text(LINK, &self.next_page(path, &parameters))
    }
}

/// How many items a page still wants, if any.
fn left(limit: u32, held: usize) -> Option<u32> {
    let held = u32::try_from(held).unwrap_or(u32::MAX);
    limit.checked_sub(held).filter(|left| *left > 0)
}

/// A descriptor as it stands in an image index.
fn spelled_descriptor(descriptor: &Descriptor) -> Value {
    let mut value = json!({
        "mediaType": descriptor.media_type.as_str(),
        "digest": descriptor.digest.to_string(),
        "size": descriptor.size,
    });
    if let Value::Object(members) = &mut value {
        if let Some(artifact_type) = &descriptor.artifact_type {
            members.insert("artifactType".to_owned(), json!(artifact_type.as_str()));
        }
        if !descriptor.annotations.is_empty() {
            members.insert("annotations".to_owned(), json!(descriptor.annotations));
        }
    }
    value
}

/// Where a page of referrers begins, as a `Link` gave it.
fn digest_of_link(text: &str) -> Result<Digest, OciError> {
    Digest::parse(text).map_err(|_| {
        OciError::bad_request(ErrorCode::Unsupported, "the query parameter last is not one that a Link gave")
    })
}

/// Where a page of referrers ended, as the engine says it.
fn digest_of_page(next: &[u8]) -> Result<Digest, OciError> {
    let text = std::str::from_utf8(next).ok();
    text.and_then(|text| Digest::parse(text).ok()).ok_or_else(|| error::internal("the registry failed"))
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn a_page_wants_what_it_lacks() {
        assert_eq!(left(10, 0), Some(10));
        assert_eq!(left(10, 9), Some(1));
        assert_eq!(left(10, 10), None);
        assert_eq!(left(0, 0), None);
        assert_eq!(left(10, usize::MAX), None);
    }
}
