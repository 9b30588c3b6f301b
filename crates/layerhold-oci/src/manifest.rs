//! Manifests: reading, storing and deleting, by tag and by digest.
//!
//! `Accept` is not asked. A digest has one type, pinned when it was pushed, and every client says in `Content-Type` or in
//! the document what it sends; answering 404 to a client that forgot to list a type, as older registries do, hides an
//! object that is there. The stored document goes out as it came, and its type with it.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use layerhold::manifest::document::Role;
use layerhold::manifest::{Manifest, ManifestRead, PutManifest};
use layerhold::{Call, Digest, MediaType, Reference, RepositoryName, Tag};

use crate::adapter::Adapter;
use crate::blob::{matches_etag, not_modified};
use crate::code::{ErrorCode, OciError};
use crate::error;
use crate::response::{Body, DOCKER_CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG, Response, header_text};

impl Adapter {
    pub(crate) fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let head = self
            .repository(repository)
            .manifest_head(reference)
            .map_err(|e| error::head_manifest(&e, &self.spelled(repository)))?;
        if matches_etag(headers, &head.digest) {
            return Ok(not_modified(&head.digest));
        }
        Ok(described(&head.digest, &head.media_type).with(CONTENT_LENGTH, HeaderValue::from(head.size)))
    }

    pub(crate) fn get_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let manifest = self
            .repository(repository)
            .manifest(reference, ManifestRead::Pull)
            .map_err(|e| error::read_manifest(&e, &self.spelled(repository)))?;
        Ok(pulled(manifest, headers))
    }

    /// The same where the pull is not to be noted.
    pub(crate) fn get_manifest_at_once(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Option<Response>, OciError> {
        let manifest = self
            .repository(repository)
            .manifest_at_once(reference)
            .map_err(|e| error::read_manifest(&e, &self.spelled(repository)))?;
        Ok(manifest.map(|manifest| pulled(manifest, headers)))
    }

    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        expected: Option<&Digest>,
        tags: &[Tag],
        headers: &HeaderMap,
        body: Bytes,
        call: &Call,
    ) -> Result<Response, OciError> {
        let limit = self.manifest_body_bytes_max();
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit {
            return Err(OciError::manifest_too_large(limit));
        }
        let mut put = PutManifest::new(Vec::from(body));
        put.media_type = declared_type(headers)?;
        put.tags = tags.to_vec();
        put.expected = expected.copied();
        let step = || {
            self.repository(repository)
                .put_manifest(&put, call)
                .map_err(|e| error::put_manifest(&e, repository.as_str(), &self.spelled(repository)))
        };
        let stored = self.pushing(repository, call, || self.storable_alone(repository, &put), step)?;

        let reference = match (expected, tags) {
            (None, [tag, ..]) => Reference::Tag(tag.clone()),
            _ => Reference::Digest(stored.digest),
        };
        let mut response = Response::new(StatusCode::CREATED)
            .with_location(&self.manifest_location(repository, &reference))
            .with_text(DOCKER_CONTENT_DIGEST, &stored.digest.to_string());
        if let Some(subject) = &stored.subject {
            response = response.with_text(OCI_SUBJECT, &subject.to_string());
        }
        for tag in tags {
            response.headers.append(OCI_TAG, header_text(tag.as_str()));
        }
        Ok(response)
    }

    /// Whether a manifest could be stored in a repository that holds nothing.
    fn storable_alone(&self, repository: &RepositoryName, put: &PutManifest) -> Result<(), OciError> {
        let (document, _) = put
            .judge(self.registry.limits())
            .map_err(|e| error::put_manifest(&e, repository.as_str(), &self.spelled(repository)))?;
        let mut missing = document.references.iter().filter(|reference| reference.required).peekable();
        let Some(first) = missing.peek() else {
            return Ok(());
        };
        let what = match first.role {
            Role::Manifest => "the manifest names manifests",
            Role::Config | Role::Layer => "the manifest names blobs",
        };
        Err(error::references_missing(what, missing.map(|reference| &reference.descriptor.digest)))
    }

    pub(crate) fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        call: &Call,
    ) -> Result<Response, OciError> {
        let handle = self.repository(repository);
        match reference {
            Reference::Tag(tag) => {
                handle.untag(tag, call).map_err(|e| error::untag(&e, &self.spelled(repository)))?;
            }
            Reference::Digest(digest) => {
                handle
                    .delete_manifest(digest, call)
                    .map_err(|e| error::delete_manifest(&e, &self.spelled(repository)))?;
            }
        }
        Ok(Response::new(StatusCode::ACCEPTED))
    }
}

fn pulled(manifest: Manifest, headers: &HeaderMap) -> Response {
    if matches_etag(headers, &manifest.digest) {
        return not_modified(&manifest.digest);
    }
    described(&manifest.digest, &manifest.media_type).with_bytes(Bytes::from(manifest.bytes))
}

fn described(digest: &Digest, media_type: &MediaType) -> Response {
    let response = Response::new(StatusCode::OK)
        .with_text(CONTENT_TYPE, media_type.as_str())
        .with_text(DOCKER_CONTENT_DIGEST, &digest.to_string())
        .with_text(ETAG, &format!("\"{digest}\""));
    debug_assert!(matches!(response.body, Body::Empty), "the bytes are added by whoever has them");
    response
}

/// What the client says it sends; parameters are ignored, as the specification asks.
fn declared_type(headers: &HeaderMap) -> Result<Option<MediaType>, OciError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let invalid = |why: String| OciError::bad_request(ErrorCode::ManifestInvalid, why);
    match (types.next(), types.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| invalid("the content type is not text".to_owned()))?;
            let text = text.split(';').next().unwrap_or_default().trim();
            if text.is_empty() {
                return Ok(None);
            }
            MediaType::parse(text).map(Some).map_err(|error| invalid(error.to_string()))
        }
        (Some(_), Some(_)) => Err(invalid("the content type is given more than once".to_owned())),
    }
}
