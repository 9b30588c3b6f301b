//! What an operation answers when it does not succeed.

use std::fmt;

use layerhold::error::ErrorKind;
use serde_json::{Map, Value, json};

use crate::generated::types::ErrorCode;
use crate::messages;

/// An error answer: a code, a text, and for two of the codes some members more.
///
/// Whoever makes one names the code and takes the text from [`crate::messages`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    message: String,
    extra: Map<String, Value>,
    cause: Option<String>,
}

/// The name of an error and the status it comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// An exception that the operation's model lists.
    Modelled(ErrorCode),
    /// An error that any operation may answer and no model lists.
    Common(CommonError),
}

/// The errors that any operation may answer and no model lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommonError {
    /// The request's target names no operation. Status 404.
    UnknownOperation,
    /// The body is not JSON, or a member holds JSON of another type. Status 400.
    Serialization,
    /// The content type is not that of AWS JSON 1.1. Status 415.
    ContentType,
    /// The body is too large. Status 413.
    RequestEntityTooLarge,
    /// The body did not arrive in time. Status 408.
    RequestTimeout,
    /// The body ended before it was complete. Status 400.
    RequestAborted,
    /// Too much is going on; the caller should wait and try again. Status 400.
    Throttling,
    /// The store cannot answer now; the caller should wait and try again. Status 503.
    ServiceUnavailable,
    /// The operation has no body here. Status 501.
    NotImplemented,
}

impl Code {
    /// The name as the wire spells it in `__type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Modelled(code) => code.as_str(),
            Self::Common(error) => match error {
                CommonError::UnknownOperation => "UnknownOperationException",
                CommonError::Serialization | CommonError::ContentType => "SerializationException",
                CommonError::RequestEntityTooLarge => "RequestEntityTooLargeException",
                CommonError::RequestTimeout => "RequestTimeoutException",
                CommonError::RequestAborted => "RequestAbortedException",
                CommonError::Throttling => "ThrottlingException",
                CommonError::ServiceUnavailable => "ServiceUnavailable",
                CommonError::NotImplemented => "NotImplemented",
            },
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Modelled(code) => {
                if code.is_fault() {
                    500
                } else {
                    400
                }
            }
            Self::Common(error) => match error {
                CommonError::UnknownOperation => 404,
                CommonError::Serialization | CommonError::RequestAborted | CommonError::Throttling => 400,
                CommonError::RequestTimeout => 408,
                CommonError::ContentType => 415,
                CommonError::RequestEntityTooLarge => 413,
                CommonError::ServiceUnavailable => 503,
                CommonError::NotImplemented => 501,
            },
        }
    }
}

impl Failure {
    /// An exception of the operation's model.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: Code::Modelled(code), message: message.into(), extra: Map::new(), cause: None }
    }

    /// An error that no model lists.
    pub fn common(error: CommonError, message: impl Into<String>) -> Self {
        Self { code: Code::Common(error), message: message.into(), extra: Map::new(), cause: None }
    }

    /// `InvalidParameterException` for the member at `path`.
    pub fn invalid_parameter(path: &str, detail: &str) -> Self {
        Self::new(ErrorCode::InvalidParameterException, messages::invalid_parameter(path, detail))
    }

    /// `ServerException`, which says nothing of the cause.
    pub fn internal() -> Self {
        Self::new(ErrorCode::ServerException, messages::INTERNAL)
    }

    /// What a failed store answers. Nothing of the cause reaches the client.
    pub(crate) fn store(error: &layerhold::error::Failure) -> Self {
        let failure = match error.kind() {
            // What passes or what an operator repairs: the same request may succeed later.
            ErrorKind::Unavailable
            | ErrorKind::NoSpace
            | ErrorKind::ReadOnly
            | ErrorKind::Locked
            | ErrorKind::Closed => Self::unavailable(),
            _ => Self::internal(),
        };
        failure.caused_by(error)
    }

    /// `ServiceUnavailable`.
    pub fn unavailable() -> Self {
        Self::common(CommonError::ServiceUnavailable, messages::UNAVAILABLE)
    }

    /// `ThrottlingException`.
    pub fn throttled() -> Self {
        Self::common(CommonError::Throttling, messages::RATE_EXCEEDED)
    }

    /// `RequestEntityTooLargeException` for a body of more than `limit` bytes.
    pub fn body_too_large(limit: usize) -> Self {
        Self::common(CommonError::RequestEntityTooLarge, messages::body_too_large(limit))
    }

    /// The same with what a log should say of it. The client never sees it.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        self.cause = Some(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "));
        self
    }

    /// The same with one member more.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    /// The code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The members besides `__type` and `message`.
    pub const fn extra(&self) -> &Map<String, Value> {
        &self.extra
    }

    /// What a log should say of it, if there is more than the text.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The body as the wire carries it.
    pub fn body(&self) -> Vec<u8> {
        let mut body = json!({ "__type": self.code.as_str(), "message": self.message });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.extra.clone());
        }
        body.to_string().into_bytes()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Failure {}
