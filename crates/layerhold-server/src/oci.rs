//! OCI distribution: the adapter decides, this module moves bodies to it and its answers out.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use layerhold::Call;
use layerhold_oci::{Adapter, BodySink, ErrorCode, OciError, RequestBody, Route};

use crate::answer::Answer;
use crate::app::{App, announced, blocking};
use crate::arrival::{Arrival, Stop};
use crate::body::Payload;
use crate::collect::{IN_ONE_PIECE_BYTES_MAX, Refusal, collect_shared};
use crate::download::{Download, Downloads, ReadFailed};
use crate::upload::{Outcome, Sink, feed};

/// Seconds after which a client that was told to slow down may come again.
const RETRY_AFTER_S: u32 = 1;

/// Answers a request below `/v2/`.
pub(crate) async fn answer(app: &App, adapter: &Adapter, parts: &Parts, arrival: &mut Arrival<Incoming>) -> Answer {
    let route = match adapter.route(&parts.method, parts.uri.path(), parts.uri.query()) {
        Ok(route) => route,
        Err(error) => return outward("none", error.into_response(), &app.downloads),
    };
    let name = route.name();
    let length = announced(parts);
    let bytes_max = match route.body() {
        RequestBody::None => match adapter.respond_at_once(&route, &parts.headers, &Call::anonymous()) {
            Some(response) => return charged(app, outward(name, response, &app.downloads)),
            None => 0,
        },
        RequestBody::Collect => adapter.manifest_body_bytes_max(),
        RequestBody::Stream => match length {
            Some(length) if length <= IN_ONE_PIECE_BYTES_MAX => IN_ONE_PIECE_BYTES_MAX,
            _ => return stream(app, adapter, route, parts, arrival).await,
        },
    };
    let collected = match bytes_max {
        0 => Ok((Bytes::new(), None)),
        _ => collect_shared(arrival, length, bytes_max, &app.budget).await,
    };
    let (body, share) = match collected {
        Ok(collected) => collected,
        Err(Refusal::TooLarge) => return refusal(app, name, OciError::manifest_too_large(bytes_max)),
        Err(Refusal::Busy) => return refusal(app, name, OciError::too_busy(RETRY_AFTER_S)),
        Err(Refusal::Cut(stop)) => return cut(app, name, stop),
    };
    let (adapter, headers, downloads) = (adapter.clone(), parts.headers.clone(), app.downloads.clone());
    let done = blocking(move || {
        let _share = share;
        outward(name, adapter.respond(&route, &headers, body, &Call::anonymous()), &downloads)
    });
    match done.await {
        Some(answer) => charged(app, answer),
        None => refusal(app, name, OciError::unavailable()),
    }
}

/// The answer, its bytes charged to the budget until they are sent; where that is spent, the client is told to come again.
/// Only what reads has an answer of such a length.
fn charged(app: &App, mut answer: Answer) -> Answer {
    if let Payload::Bytes(bytes) = answer.payload {
        match app.budget.charge(bytes, None) {
            Ok(bytes) => answer.payload = Payload::Bytes(bytes),
            Err(_) => return refusal(app, answer.operation, OciError::too_busy(RETRY_AFTER_S)),
        }
    }
    answer
}

async fn stream(app: &App, adapter: &Adapter, route: Route, parts: &Parts, arrival: &mut Arrival<Incoming>) -> Answer {
    let name = route.name();
    let begun = blocking({
        let (adapter, headers) = (adapter.clone(), parts.headers.clone());
        move || adapter.begin_body(&route, &headers, &Call::anonymous())
    });
    let sink = match begun.await {
        Some(Ok(sink)) => sink,
        Some(Err(error)) => return refusal(app, name, error),
        None => return refusal(app, name, OciError::unavailable()),
    };
    match feed(arrival, BlobSink(sink)).await {
        Outcome::Complete(response) => outward(name, response, &app.downloads),
        Outcome::Refused(response) => outward(name, response, &app.downloads).closing(),
        Outcome::Cut(stop) => cut(app, name, stop),
        Outcome::Lost => refusal(app, name, OciError::unavailable()).closing(),
    }
}

struct BlobSink(BodySink);

impl Sink for BlobSink {
    type Answer = layerhold_oci::Response;

    fn write(&mut self, bytes: Bytes) -> Result<(), Self::Answer> {
        self.0.write(bytes).map_err(OciError::into_response)
    }

    fn finish(self) -> Self::Answer {
        self.0.finish()
    }

    fn disconnected(self) {
        self.0.disconnected();
    }
}

/// The adapter's answer as the server sends it. Reads the first bytes of a blob, so it may block.
fn outward(operation: &'static str, response: layerhold_oci::Response, downloads: &Downloads) -> Answer {
    let layerhold_oci::Response { status, headers, body, cause } = response;
    let payload = match body {
        layerhold_oci::Body::Empty => Payload::Empty,
        layerhold_oci::Body::Bytes(bytes) => Payload::Bytes(bytes),
        layerhold_oci::Body::Blob { reader, first_byte, len } => {
            match Download::of_blob(reader, first_byte, len, downloads) {
                Ok(payload) => payload,
                Err(failed) => {
                    let error = match &failed {
                        ReadFailed::Fault { source, .. } => layerhold_oci::blob_read_error(source),
                        ReadFailed::Short { .. } | ReadFailed::Cancelled { .. } => OciError::unavailable(),
                    };
                    let mut answer = outward(operation, error.into_response(), downloads);
                    answer.cause = Some(crate::chain(&failed));
                    return answer;
                }
            }
        }
    };
    Answer { status, headers, payload, operation, cause }
}

fn refusal(app: &App, operation: &'static str, error: OciError) -> Answer {
    outward(operation, error.into_response(), &app.downloads)
}

fn cut(app: &App, operation: &'static str, stop: Stop) -> Answer {
    let status = match stop {
        Stop::Idle | Stop::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Stop::Broken => StatusCode::BAD_REQUEST,
    };
    refusal(app, operation, OciError::new(status, ErrorCode::BlobUploadInvalid, stop.to_string())).closing()
}

/// The answer for a Host that names an account which is not served.
pub(crate) fn no_such_registry(app: &App) -> Answer {
    refusal(app, "none", OciError::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, "the registry does not exist"))
}
