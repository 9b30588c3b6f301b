//! AWS JSON 1.1 without sockets: a request's parts in, status, headers and body out.
//!
//! A request is judged in one order: size, target, content type, JSON and types, constraints. Only what passes reaches
//! an operation, so that an operation never meets a member of the wrong type, length or form.

mod constraint;
mod decode;
mod reader;
mod value;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use decode::LIST_ITEMS_MAX;
pub use reader::{DEPTH_MAX, OBJECT_MEMBERS_MAX};

use crate::failure::{CommonError, Failure};
use crate::generated::types::ErrorCode;
use crate::messages;
use crate::shape::{Operation, Service, services};
use value::Value;

/// The content type of every request and answer.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
/// The largest body of the operations that carry a layer part or a manifest: 20,971,520 bytes in base64, or 4,194,304
/// characters of which each is escaped, and room for the other members.
pub const LARGE_BODY_BYTES_MAX: usize = 28 * 1024 * 1024;
/// The largest body of any other operation.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many bytes the body of a request to `target` may have. A server refuses more before it reads them; [`accept`]
/// refuses them too.
pub fn body_bytes_max(target: Option<&str>) -> usize {
    match target.and_then(|target| target.rsplit_once('.')) {
        Some((_, "UploadLayerPart" | "PutImage")) => LARGE_BODY_BYTES_MAX,
        _ => BODY_BYTES_MAX,
    }
}

/// What came in, as a server hands it over.
#[derive(Debug)]
pub struct Request<'a> {
    /// The header `X-Amz-Target`.
    pub target: Option<&'a str>,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body. It is overwritten: a blob is decoded where it stands and keeps the buffer.
    pub body: Vec<u8>,
    /// The id under which the answer and the log name this request.
    pub request_id: &'a str,
}

/// What goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, in the order to send them. `Content-Length` and `Date` are the server's.
    pub headers: Vec<(&'static str, String)>,
    /// The body, a JSON object.
    pub body: Vec<u8>,
    /// What a log should say of a failure, if there is more than the body tells. The client never sees it.
    pub cause: Option<String>,
}

impl Response {
    /// The answer that carries `body`.
    pub fn succeeded(body: Vec<u8>, request_id: &str) -> Self {
        Self { status: 200, headers: headers(request_id), body, cause: None }
    }

    /// The answer that carries `failure`.
    pub fn failed(failure: &Failure, request_id: &str) -> Self {
        Self {
            status: failure.code().status(),
            headers: headers(request_id),
            body: failure.body(),
            cause: failure.cause().map(ToOwned::to_owned),
        }
    }
}

fn headers(request_id: &str) -> Vec<(&'static str, String)> {
    vec![("content-type", CONTENT_TYPE.to_owned()), ("x-amzn-requestid", request_id.to_owned())]
}

/// A request that may reach its operation.
#[derive(Debug)]
pub struct Accepted {
    /// The service it is for.
    pub service: &'static Service,
    /// The operation it asks for.
    pub operation: &'static Operation,
    /// Its members.
    pub input: Input,
}

/// The members of a request, typed and judged.
#[derive(Debug)]
pub struct Input(Value);

impl Input {
    /// The members as the type that the operation takes.
    ///
    /// # Errors
    /// `ServerException` where type and table disagree, which is a fault of ours.
    pub fn into_type<T: DeserializeOwned>(self) -> Result<T, Failure> {
        T::deserialize(self.0).map_err(|_| Failure::internal())
    }
}

/// Judges a request up to its constraints.
///
/// # Errors
/// The first thing that is wrong, in the order that the module's page gives.
pub fn accept(request: Request<'_>) -> Result<Accepted, Failure> {
    let Request { target, content_type, mut body, .. } = request;
    let limit = body_bytes_max(target);
    if body.len() > limit {
        return Err(Failure::body_too_large(limit));
    }
    let (service, operation) = find(target)
        .ok_or_else(|| Failure::common(CommonError::UnknownOperation, messages::unknown_operation(target)))?;
    if let Some(given) = content_type.filter(|given| !is_accepted(given)) {
        return Err(Failure::common(CommonError::ContentType, messages::content_type(given)));
    }
    let input = decode::decode(operation.input, &mut body)
        .map_err(|fault| Failure::common(CommonError::Serialization, messages::not_readable(&fault.what, fault.at)))?;
    constraint::check(operation.input, &input).map_err(|violation| {
        let message = messages::invalid_parameter(&violation.path, &violation.detail);
        Failure::new(violation_code(operation, &violation), message)
    })?;
    Ok(Accepted { service, operation, input: Input(input) })
}

/// An answer's members as the wire carries them.
///
/// # Errors
/// `ServerException` if they cannot be written, which no type of ours gives a reason for.
pub fn encode(output: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(output).map_err(|_| Failure::internal())
}

pub(crate) fn find(target: Option<&str>) -> Option<(&'static Service, &'static Operation)> {
    let (prefix, name) = target?.split_once('.')?;
    let service = services().into_iter().find(|service| service.target_prefix == prefix)?;
    Some((service, service.operation(name)?))
}

fn is_accepted(content_type: &str) -> bool {
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    bare.is_empty() || bare.eq_ignore_ascii_case(CONTENT_TYPE) || bare.eq_ignore_ascii_case("application/json")
}

/// Where an operation has an exception of its own for resource tags, it takes the place of the general one when a key or
/// a value is out of range.
fn violation_code(operation: &Operation, violation: &constraint::Violation) -> ErrorCode {
    let in_a_tag = violation.path.starts_with("tags.") || violation.path.starts_with("tagKeys.");
    if in_a_tag && violation.out_of_range && operation.models(ErrorCode::InvalidTagParameterException) {
        ErrorCode::InvalidTagParameterException
    } else {
        ErrorCode::InvalidParameterException
    }
}
