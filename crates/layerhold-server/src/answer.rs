//! Answers on their way out, before they are bound to a request.

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::body::Payload;

/// `X-Request-Id`, on every answer but ECR's.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A status, headers and a body.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, complete but for `Date`, the request id and, where the body tells it, `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
    /// What was asked for, as a log line names it.
    pub operation: &'static str,
    /// What went wrong inside, for the log and never for the client.
    pub cause: Option<String>,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn empty(operation: &'static str, status: StatusCode) -> Answer {
        Answer { status, headers: HeaderMap::new(), payload: Payload::Empty, operation, cause: None }
    }

    /// One line of text.
    #[must_use]
    pub fn text(operation: &'static str, status: StatusCode, text: &'static str) -> Answer {
        let mut answer = Answer::empty(operation, status);
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer.payload = Payload::Bytes(bytes::Bytes::from_static(text.as_bytes()));
        answer
    }

    /// This answer with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.insert(name, value);
        self
    }

    /// This answer, upon which the connection ends.
    #[must_use]
    pub fn closing(self) -> Answer {
        self.with(http::header::CONNECTION, HeaderValue::from_static("close"))
    }
}
