//! Response bodies: none, bytes at hand, or a blob that is read while it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::connection::Pulse;
use crate::download::{Download, ReadFailed};
use crate::request_id::RequestId;

/// What a response carries.
#[derive(Debug)]
pub enum Payload {
    /// Nothing; also the answer to HEAD, whose length stands in a header.
    Empty,
    /// Bytes that are at hand.
    Bytes(Bytes),
    /// A blob or a range of one.
    Blob(Box<Download>),
}

/// A body as the HTTP library sends it.
///
/// A blob that turns out damaged ends in an error, upon which the library closes the connection short of the length that
/// it announced: no client can take that for a complete response.
#[derive(Debug)]
pub struct Body {
    payload: Payload,
    request: RequestId,
    pulse: Arc<Pulse>,
}

impl Body {
    /// The body of the answer to `request`; it tells `pulse` when it has been handed over.
    #[must_use]
    pub fn new(payload: Payload, request: RequestId, pulse: Arc<Pulse>) -> Body {
        Body { payload, request, pulse }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ReadFailed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadFailed>>> {
        match &mut self.payload {
            Payload::Empty => Poll::Ready(None),
            Payload::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Payload::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Payload::Blob(download) => {
                let next = std::task::ready!(download.poll_next(cx));
                if let Some(Err(failed)) = &next {
                    tracing::error!(request = %self.request, cause = %crate::chain(failed), "aborted a download");
                }
                Poll::Ready(next.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.payload {
            Payload::Empty => true,
            Payload::Bytes(bytes) => bytes.is_empty(),
            Payload::Blob(download) => download.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.payload {
            Payload::Empty => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Blob(download) => download.remaining(),
        })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.pulse.response_done();
    }
}
