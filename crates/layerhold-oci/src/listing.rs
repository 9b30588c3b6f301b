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

/// Referrers asked for at once, and the length of their descriptors after which a page ends. Annotations are copied into
/// descriptors and may be long; a page stays below the 4 MiB that clients accept for a manifest.
const REFERRERS_AT_ONCE: u32 = 32;
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
            let found =
                self.registry.list_repositories(after.as_ref(), wanted).map_err(|e| error::read_repository(&e, ""))?;
            more = found.next.is_some() && !found.items.is_empty();
            if let Some(last) = found.items.last() {
                after = Some(last.name.clone());
            }
            names.extend(found.items.iter().map(|repository| self.spelled(&repository.name)));
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
        let mut after = page.last.as_deref().map(token).transpose()?;
        let mut manifests: Vec<Value> = Vec::new();
        let mut bytes = 0_usize;
        let mut more = limit > 0;
        // One round gives a small page at the most, so the bound on the work is the page's own.
        while let Some(wanted) = left(limit, manifests.len()).filter(|_| more && bytes < REFERRERS_BYTES) {
            let asked = wanted.min(REFERRERS_AT_ONCE);
            let found = match handle.referrers(subject, artifact_types, after.as_deref(), asked) {
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
            more = found.next.is_some();
            let none = found.items.is_empty();
            after = found.next;
            for item in found.items {
                let descriptor = spelled_descriptor(&item);
                bytes = bytes.saturating_add(descriptor.to_string().len());
                manifests.push(descriptor);
            }
            if none {
                // The filter passed over as many rows as one request may look at.
                break;
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
                self.linked(response, &path, limit, &spelled_token(&after), artifact_types)
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

/// A page token as clients carry it: two hexadecimal digits for each byte.
fn spelled_token(token: &[u8]) -> String {
    use std::fmt::Write as _;

    token.iter().fold(String::with_capacity(token.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn token(text: &str) -> Result<Vec<u8>, OciError> {
    let invalid =
        || OciError::bad_request(ErrorCode::Unsupported, "the query parameter last is not one that a Link gave");
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.ok_or_else(invalid)?;
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(invalid());
    }
    pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).map_err(|_| invalid())).collect()
}

#[cfg(test)]
mod tests {
    use super::{left, spelled_token, token};

    #[test]
    fn tokens_come_back_as_they_went() {
        for bytes in [&[][..], &[0], &[0xff, 0x00, 0x1a]] {
            assert_eq!(token(&spelled_token(bytes)).unwrap(), bytes);
        }
        for text in ["0", "0g", "zz", "é0"] {
            assert!(token(text).is_err(), "text={text}");
        }
    }

    #[test]
    fn a_page_wants_what_it_lacks() {
        assert_eq!(left(10, 0), Some(10));
        assert_eq!(left(10, 9), Some(1));
        assert_eq!(left(10, 10), None);
        assert_eq!(left(0, 0), None);
        assert_eq!(left(10, usize::MAX), None);
    }
}
