//! ECR operations: collect the body, hand it to the adapter, send what it says.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Incoming;
use layerhold::Call;
use layerhold_ecr::failure::{CommonError, Failure};
use layerhold_ecr::{Cost, Ecr, shape, wire};

use crate::answer::Answer;
use crate::app::{App, announced, blocking, is_read};
use crate::arrival::{Arrival, Stop};
use crate::body::Payload;
use crate::collect::{Collected, Refusal, collect};
use crate::request_id::RequestId;

/// Answers `POST /`.
pub(crate) async fn answer(app: &App, parts: &Parts, arrival: &mut Arrival<Incoming>, id: RequestId) -> Answer {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let target = header("x-amz-target");
    let content_type = header("content-type");
    let operation = operation(target.as_deref());
    let limit = wire::body_bytes_max(target.as_deref());
    let request_id = id.to_string();

    let Collected { bytes, share } = match collect(arrival, announced(parts), limit as u64, &app.budget).await {
        Ok(collected) => collected,
        Err(refusal) => {
            let failure = match refusal {
                Refusal::TooLarge => Failure::body_too_large(limit),
                Refusal::Busy => Failure::throttled(),
                Refusal::Cut(stop) => return cut(operation, stop, &request_id),
            };
            return outward(operation, wire::Response::failed(&failure, &request_id));
        }
    };
    let cost = Ecr::cost(target.as_deref());
    let ecr = app.ecr.clone();
    let respond = move || {
        let request = wire::Request {
            target: target.as_deref(),
            content_type: content_type.as_deref(),
            body: bytes,
            request_id: &request_id,
        };
        // A decoded part stays in the body's own memory, so the share is held until the engine has it.
        (ecr.respond(request, &Call::anonymous()), share)
    };
    let done = match cost {
        Cost::Point => Some(respond()),
        Cost::Blocking => blocking(respond).await,
    };
    let failed = |failure: &Failure| outward(operation, wire::Response::failed(failure, &id.to_string()));
    let Some((response, share)) = done else { return failed(&Failure::internal()) };
    let mut answer = outward(operation, response);
    if let Payload::Bytes(bytes) = &answer.payload {
        answer.payload = match app.budget.charge(bytes.clone(), Some(share)) {
            Ok(bytes) => Payload::Bytes(bytes),
            // What is done is told, whatever it takes: it is hardly longer than the request was.
            Err(_) if !is_read(operation) => answer.payload,
            Err(_) => return failed(&Failure::throttled()),
        };
    }
    answer
}

/// The operation that `target` names, for the log: a word of ours, whatever the client wrote.
fn operation(target: Option<&str>) -> &'static str {
    let known = || {
        let (prefix, name) = target?.split_once('.')?;
        let service = shape::services().into_iter().find(|service| service.target_prefix == prefix)?;
        Some(service.operation(name)?.name)
    };
    known().unwrap_or("unknown")
}

fn cut(operation: &'static str, stop: Stop, request_id: &str) -> Answer {
    let error = match stop {
        Stop::Idle | Stop::TooSlow => CommonError::RequestTimeout,
        Stop::Broken => CommonError::RequestAborted,
    };
    outward(operation, wire::Response::failed(&Failure::common(error, stop.to_string()), request_id)).closing()
}

fn outward(operation: &'static str, response: wire::Response) -> Answer {
    let mut headers = HeaderMap::with_capacity(response.headers.len() + 2);
    for (name, value) in response.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(wire::CONTENT_TYPE));
    Answer {
        status: StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        headers,
        payload: Payload::Bytes(Bytes::from(response.body)),
        operation,
        cause: response.cause,
    }
}
