//! Blobs: whether they are there, their bytes whole or in part, and taking them out of a repository.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use layerhold::blob::BlobStatus;
use layerhold::{Call, Digest, RepositoryName};

use crate::adapter::Adapter;
use crate::code::{ErrorCode, OciError};
use crate::error;
use crate::range::{Wanted, content_range, unsatisfied, wanted};
use crate::response::{Body, DOCKER_CONTENT_DIGEST, Response};

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
/// What a digest names never changes; who may read it may, so shared caches keep out.
const KEEP: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

impl Adapter {
    /// Answers whether a blob is there. A client told so need not upload it, so the engine's own check is asked, which
    /// keeps the blob for a while.
    pub(crate) fn head_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Response, OciError> {
        let statuses = self
            .repository(repository)
            .check_blobs(std::slice::from_ref(digest))
            .map_err(|e| error::read_repository(&e, &self.spelled(repository)))?;
        told(&statuses, digest)
    }

    /// The same where no lease is to be extended.
    pub(crate) fn head_blob_at_once(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Response>, OciError> {
        let statuses = self
            .repository(repository)
            .check_blobs_at_once(std::slice::from_ref(digest))
            .map_err(|e| error::read_repository(&e, &self.spelled(repository)))?;
        statuses.map(|statuses| told(&statuses, digest)).transpose()
    }

    pub(crate) fn get_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Result<Response, OciError> {
        let reader = self
            .repository(repository)
            .blob(digest)
            .map_err(|e| error::open_blob(&e, &self.spelled(repository), digest))?;
        if matches_etag(headers, digest) {
            return Ok(not_modified(digest));
        }
        let size = reader.size();
        match wanted_part(headers, digest, size) {
            Wanted::Whole => {
                let mut response = described(StatusCode::OK, digest).with(CONTENT_LENGTH, HeaderValue::from(size));
                response.body = Body::Blob { reader, first_byte: 0, len: size };
                Ok(response)
            }
            Wanted::Part { first_byte, len } => {
                let mut response = described(StatusCode::PARTIAL_CONTENT, digest)
                    .with(CONTENT_LENGTH, HeaderValue::from(len))
                    .with(CONTENT_RANGE, content_range(first_byte, len, size));
                response.body = Body::Blob { reader, first_byte, len };
                Ok(response)
            }
            Wanted::Unsatisfiable => Err(OciError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::RangeInvalid,
                format!("the blob has no such range size={size}"),
            )
            .with_header(CONTENT_RANGE, unsatisfied(size))),
        }
    }

    pub(crate) fn delete_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        call: &Call,
    ) -> Result<Response, OciError> {
        self.repository(repository)
            .delete_blob(digest, call)
            .map_err(|e| error::delete_blob(&e, &self.spelled(repository), digest))?;
        Ok(Response::new(StatusCode::ACCEPTED))
    }
}

fn told(statuses: &[BlobStatus], digest: &Digest) -> Result<Response, OciError> {
    match statuses.first() {
        Some(BlobStatus::Present { size, .. }) => {
            Ok(described(StatusCode::OK, digest).with(CONTENT_LENGTH, HeaderValue::from(*size)))
        }
        _ => Err(error::unknown_blob(digest)),
    }
}

fn described(status: StatusCode, digest: &Digest) -> Response {
    Response::new(status)
        .with(CONTENT_TYPE, OCTET_STREAM)
        .with(ACCEPT_RANGES, BYTES)
        .with(CACHE_CONTROL, KEEP)
        .with_text(DOCKER_CONTENT_DIGEST, &digest.to_string())
        .with_text(ETAG, &format!("\"{digest}\""))
}

/// 304: the client has these bytes.
pub(crate) fn not_modified(digest: &Digest) -> Response {
    Response::new(StatusCode::NOT_MODIFIED)
        .with_text(DOCKER_CONTENT_DIGEST, &digest.to_string())
        .with_text(ETAG, &format!("\"{digest}\""))
}

/// Whether `If-None-Match` names this object. A digest without quotes counts too: older clients send it so.
pub(crate) fn matches_etag(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(IF_NONE_MATCH) {
        return false;
    }
    let digest = digest.to_string();
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == digest
        })
    })
}

/// The part that is wanted. A range asked for on the condition that the blob is another one (`If-Range`) is the whole.
fn wanted_part(headers: &HeaderMap, digest: &Digest, size: u64) -> Wanted {
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return Wanted::Whole;
    };
    if let Some(condition) = headers.get(IF_RANGE)
        && condition.as_bytes() != format!("\"{digest}\"").as_bytes()
    {
        return Wanted::Whole;
    }
    match range.to_str() {
        Ok(range) => wanted(range, size),
        Err(_) => Wanted::Unsatisfiable,
    }
}
