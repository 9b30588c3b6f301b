//! Download URLs: whoever holds one reads one blob, until it expires.

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use layerhold::ErrorKind;
use layerhold::blob::download::Error;
use layerhold_oci::range::{self, Wanted};

use crate::answer::Answer;
use crate::app::{App, blocking};
use crate::body::Payload;
use crate::download::{Download, Downloads, ReadFailed};

const OPERATION: &str = "download";

/// Answers `GET` and `HEAD` below `/download/`.
pub(crate) async fn answer(app: &App, token: &str, parts: &Parts) -> Answer {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Answer::text(OPERATION, StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
            .with(http::header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    let (engine, token, downloads) = (app.engine.clone(), token.to_owned(), app.downloads.clone());
    let head = parts.method == Method::HEAD;
    let wanted = parts.headers.get(RANGE).map(|range| range.to_str().unwrap_or_default().to_owned());
    let opened = blocking(move || match engine.open_download(&token) {
        Ok(reader) => serve(reader, wanted.as_deref(), head, &downloads),
        Err(error) => refusal(&error),
    });
    opened.await.unwrap_or_else(|| Answer::text(OPERATION, StatusCode::SERVICE_UNAVAILABLE, "try again\n"))
}

fn serve(reader: layerhold::BlobReader, wanted: Option<&str>, head: bool, downloads: &Downloads) -> Answer {
    let size = reader.size();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // Whoever pushed the bytes chose them, and this URL is one that a browser may follow.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", reader.digest())) {
        headers.insert(ETAG, tag);
    }
    let (status, first_byte, len) = match wanted.map_or(Wanted::Whole, |header| range::wanted(header, size)) {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part { first_byte, len } => {
            headers.insert(CONTENT_RANGE, range::content_range(first_byte, len, size));
            (StatusCode::PARTIAL_CONTENT, first_byte, len)
        }
        Wanted::Unsatisfiable => {
            return Answer::text(OPERATION, StatusCode::RANGE_NOT_SATISFIABLE, "the range lies outside of the blob\n")
                .with(CONTENT_RANGE, range::unsatisfied(size));
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    let payload = if head { Ok(Payload::Empty) } else { Download::of_blob(reader, first_byte, len, downloads) };
    match payload {
        Ok(payload) => Answer { status, headers, payload, operation: OPERATION, cause: None },
        Err(ReadFailed::Fault { source, offset }) => {
            let kind = source.kind();
            failed(kind, crate::chain(&ReadFailed::Fault { source, offset }))
        }
        Err(cut) => failed(ErrorKind::Unavailable, crate::chain(&cut)),
    }
}

fn refusal(error: &Error) -> Answer {
    match error {
        Error::Invalid | Error::Expired => {
            Answer::text(OPERATION, StatusCode::FORBIDDEN, "the download URL is not valid, or no longer\n")
        }
        Error::Gone { .. } => Answer::text(OPERATION, StatusCode::NOT_FOUND, "the blob is gone\n"),
        _ => failed(error.kind(), crate::chain(error)),
    }
}

/// What failed before the first byte: 503 where another try may find the blob, as both protocols answer these kinds.
fn failed(kind: ErrorKind, cause: String) -> Answer {
    let mut answer = match kind {
        ErrorKind::Unavailable
        | ErrorKind::NoSpace
        | ErrorKind::ReadOnly
        | ErrorKind::Locked
        | ErrorKind::Closed
        | ErrorKind::Conflict => Answer::text(OPERATION, StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
        _ => Answer::text(OPERATION, StatusCode::INTERNAL_SERVER_ERROR, "the blob cannot be read\n"),
    };
    answer.cause = Some(cause);
    answer
}

#[cfg(test)]
mod tests {
    use layerhold::store::StorageError;

    use super::*;

    #[test]
    fn what_may_pass_is_not_called_damage() {
        let busy = StorageError::Unavailable { what: "a row lock", waited_ms: 1 };
        let answer = refusal(&Error::from(busy));
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.cause.is_some());
        assert_eq!(refusal(&Error::from(StorageError::corrupt("a row"))).status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(refusal(&Error::Expired).status, StatusCode::FORBIDDEN);
    }
}
