//! Answers: a status, headers and a body that the server writes out.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use layerhold::BlobReader;

/// `Docker-Content-Digest`: the digest of the object that an answer is about.
pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Distribution-Api-Version`: on every answer, because some clients look for it before anything else.
pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// `Docker-Upload-UUID`: the id of an upload session.
pub(crate) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// `OCI-Subject`: the registry has taken note of a manifest's subject.
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// `OCI-Tag`: one tag that a manifest now bears; once for each.
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// `OCI-Filters-Applied`: which filters of a referrers request were applied.
pub(crate) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const VERSION_2: HeaderValue = HeaderValue::from_static("registry/2.0");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer, ready to be written out.
///
/// `Content-Length` is among the headers wherever HTTP wants it; the answer to a `HEAD` carries the length that the
/// `GET` would have and an empty body.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers, complete but for what the server adds about itself and the connection.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// What went wrong inside, where something did: for the server's log, never for the client.
    pub cause: Option<String>,
}

/// What follows the headers of an answer.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// A part of a blob, to be read piece by piece while it is sent. Every read verifies what it gives; a read that
    /// fails after the headers went out must end the connection, since nothing else tells the client.
    Blob {
        /// Where the bytes come from.
        reader: BlobReader,
        /// The first byte to send.
        first_byte: u64,
        /// How many bytes to send.
        len: u64,
    },
}

impl Response {
    /// An answer without a body. The caller adds a `Content-Length` of 0 only where HTTP allows one.
    pub(crate) fn new(status: StatusCode) -> Response {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(API_VERSION, VERSION_2);
        headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
        if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Response { status, headers, body: Body::Empty, cause: None }
    }

    /// An answer with a JSON document for its body.
    pub(crate) fn json(status: StatusCode, document: &serde_json::Value) -> Response {
        Response::new(status).with(CONTENT_TYPE, JSON).with_bytes(Bytes::from(document.to_string()))
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header whose value is one of our own spellings: a digest, an id, a path of parsed names.
    pub(crate) fn with_text(self, name: HeaderName, text: &str) -> Response {
        let value = header_text(text);
        self.with(name, value)
    }

    pub(crate) fn with_location(self, location: &str) -> Response {
        self.with_text(LOCATION, location)
    }

    pub(crate) fn with_bytes(mut self, bytes: Bytes) -> Response {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        self.body = Body::Bytes(bytes);
        self
    }

    /// The answer to the same request made with `HEAD`.
    pub(crate) fn without_body(mut self) -> Response {
        self.body = Body::Empty;
        self
    }
}

/// A header value of a text that was made here from parsed values.
#[expect(clippy::expect_used, reason = "names, tags, digests, media types and ids are visible ASCII by their grammar")]
pub(crate) fn header_text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("parsed values are header values")
}
