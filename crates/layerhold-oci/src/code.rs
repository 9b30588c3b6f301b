//! The protocol's own errors: a status, a code, a message, and what each thing at fault is.

use std::fmt;

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::response::{Response, header_text};

/// The codes of OCI distribution 1.1, and the few of Docker's protocol that it leaves out and clients still know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `BLOB_UNKNOWN`: the repository holds no such blob.
    BlobUnknown,
    /// `BLOB_UPLOAD_INVALID`: the bytes cannot be added to the upload.
    BlobUploadInvalid,
    /// `BLOB_UPLOAD_UNKNOWN`: the repository has no such upload.
    BlobUploadUnknown,
    /// `DENIED`: refused by a rule or a limit.
    Denied,
    /// `DIGEST_INVALID`: not a digest, or not the digest of what was sent.
    DigestInvalid,
    /// `MANIFEST_BLOB_UNKNOWN`: the manifest references what the repository does not hold.
    ManifestBlobUnknown,
    /// `MANIFEST_INVALID`: not a manifest that this registry takes.
    ManifestInvalid,
    /// `MANIFEST_UNKNOWN`: the repository holds no such manifest.
    ManifestUnknown,
    /// `NAME_INVALID`: not a repository name.
    NameInvalid,
    /// `NAME_UNKNOWN`: no such repository.
    NameUnknown,
    /// `PAGINATION_NUMBER_INVALID` (Docker): the size of a page is no number.
    PaginationNumberInvalid,
    /// `RANGE_INVALID` (Docker): the blob has no such range.
    RangeInvalid,
    /// `SIZE_INVALID`: lengths that should agree do not.
    SizeInvalid,
    /// `TAG_INVALID` (Docker): not a tag.
    TagInvalid,
    /// `TOOMANYREQUESTS`: come back later.
    TooManyRequests,
    /// `UNAUTHORIZED`: authentication is missing.
    Unauthorized,
    /// `UNKNOWN` (Docker): the registry failed.
    Unknown,
    /// `UNSUPPORTED`: not an operation of this registry.
    Unsupported,
}

impl ErrorCode {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer that says what is wrong with a request, or that the registry failed.
///
/// [`into_response`](Self::into_response) gives `{"errors":[{"code","message","detail"}]}`, one entry for each thing at
/// fault.
#[derive(Clone)]
pub struct OciError(Box<Parts>);

#[derive(Clone)]
struct Parts {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    details: Vec<Value>,
    headers: HeaderMap,
    cause: Option<String>,
}

impl OciError {
    /// An error of this status and code; the message is for a person and names no path, host or program.
    pub fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> OciError {
        OciError(Box::new(Parts {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            headers: HeaderMap::new(),
            cause: None,
        }))
    }

    pub(crate) fn bad_request(code: ErrorCode, message: impl Into<String>) -> OciError {
        OciError::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(code: ErrorCode, message: impl Into<String>) -> OciError {
        OciError::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 405 with the methods that would do instead.
    pub(crate) fn method_not_allowed(allowed: &'static str, message: impl Into<String>) -> OciError {
        OciError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message)
            .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 413: a manifest of more than `limit` bytes.
    pub fn manifest_too_large(limit: u64) -> OciError {
        OciError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::ManifestInvalid,
            format!("the manifest is too large limit={limit}"),
        )
    }

    /// 429: the registry has too much to do; come back after so many seconds.
    pub fn too_busy(retry_after_s: u32) -> OciError {
        OciError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, "the registry has too much to do")
            .with_header(RETRY_AFTER, HeaderValue::from(retry_after_s))
    }

    /// 503: the registry cannot answer now.
    pub fn unavailable() -> OciError {
        OciError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unknown, "the registry cannot answer now")
    }

    /// Adds one thing at fault. The first one gives the first entry its detail, each further one adds an entry.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> OciError {
        self.0.details.push(detail);
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> OciError {
        self.0.headers.insert(name, value);
        self
    }

    /// Adds a header whose value is one of our own spellings.
    #[must_use]
    pub(crate) fn with_text_header(self, name: HeaderName, text: &str) -> OciError {
        let value = header_text(text);
        self.with_header(name, value)
    }

    /// Adds what went wrong inside, for the server's log.
    #[must_use]
    pub(crate) fn with_cause(mut self, cause: impl fmt::Display) -> OciError {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The code of the answer.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The text of the answer.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let Parts { status, code, message, details, headers, cause } = *self.0;
        let entry = |detail: Option<Value>| match detail {
            Some(detail) => json!({ "code": code.as_str(), "message": message, "detail": detail }),
            None => json!({ "code": code.as_str(), "message": message }),
        };
        let errors: Vec<Value> = if details.is_empty() {
            vec![entry(None)]
        } else {
            details.into_iter().map(|detail| entry(Some(detail))).collect()
        };
        let mut response = Response::json(status, &json!({ "errors": errors }));
        response.headers.extend(headers);
        response.cause = cause;
        response
    }
}

impl From<OciError> for Response {
    fn from(error: OciError) -> Response {
        error.into_response()
    }
}

impl fmt::Display for OciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} status={} code={}", self.0.message, self.0.status.as_u16(), self.0.code)
    }
}

impl fmt::Debug for OciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciError")
            .field("status", &self.0.status)
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for OciError {}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, OciError};
    use crate::Body;
    use http::StatusCode;
    use serde_json::{Value, json};

    fn body(error: OciError) -> Value {
        match error.into_response().body {
            Body::Bytes(bytes) => serde_json::from_slice(&bytes).unwrap(),
            other => panic!("an error has a body, not {other:?}"),
        }
    }

    #[test]
    fn the_body_has_one_entry_for_each_thing_at_fault() {
        let error = OciError::new(StatusCode::NOT_FOUND, ErrorCode::ManifestBlobUnknown, "a \"quoted\" text");
        assert_eq!(
            body(error.clone()),
            json!({"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"a \"quoted\" text"}]})
        );
        let error = error.with_detail(json!({"digest":"a"})).with_detail(json!({"digest":"b"}));
        let entries = body(error)["errors"].as_array().unwrap().clone();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0]["detail"]["digest"], "a");
        assert_eq!(entries[1]["detail"]["digest"], "b");
    }

    #[test]
    fn headers_and_lengths_are_set() {
        let response = OciError::method_not_allowed("GET", "no").into_response();
        assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers["allow"], "GET");
        assert_eq!(response.headers["content-type"], "application/json");
        assert_eq!(response.headers["docker-distribution-api-version"], "registry/2.0");
        let Body::Bytes(bytes) = &response.body else { panic!("an error has a body") };
        assert_eq!(response.headers["content-length"], bytes.len().to_string());
        assert_eq!(OciError::too_busy(3).into_response().headers["retry-after"], "3");
    }

    #[test]
    fn the_cause_is_for_the_log_only() {
        let response = OciError::unavailable().with_cause("disk on fire").into_response();
        assert_eq!(response.cause.as_deref(), Some("disk on fire"));
        let Body::Bytes(bytes) = &response.body else { panic!("an error has a body") };
        assert!(!String::from_utf8_lossy(bytes).contains("fire"));
    }
}
