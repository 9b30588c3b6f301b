//! Uploads: sessions, chunks, streamed bodies, completion, mounts.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, StatusCode};
use layerhold::upload::{CompleteUpload, Expected};
use layerhold::{Algorithm, Call, Digest, RepositoryName, UploadId, UploadWriter};

use crate::adapter::Adapter;
use crate::code::{ErrorCode, OciError};
use crate::error::{unknown_path, unknown_upload};
use crate::response::{DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, Response};
use crate::route::{Begin, MountSource, Route};
use crate::{error, range};

/// The body of an upload while it arrives.
///
/// Blocking, for a thread that may wait. Memory: what the engine's writer holds and the slice being written, whatever the
/// length of the body. Dropped without a word, it keeps what the engine has made durable by then.
#[derive(Debug)]
#[must_use = "the body's end, or the client's, has to be told"]
pub struct BodySink {
    adapter: Adapter,
    repository: RepositoryName,
    upload: UploadId,
    call: Call,
    /// Gone after a write failed.
    writer: Option<UploadWriter>,
    purpose: Purpose,
    /// Length of the chunk by its `Content-Range`, where it has one.
    declared: Option<u64>,
    received: u64,
}

/// What the end of a body means.
#[derive(Debug)]
enum Purpose {
    /// More may follow.
    Append,
    /// These were the last bytes.
    Complete { digest: Digest },
    /// These were all bytes, of a session that the client never learns of.
    Whole { digest: Digest },
}

impl BodySink {
    /// Takes the next bytes of the body, without copying them.
    ///
    /// # Errors
    /// The answer to the request. The rest of the body is not wanted: drop the sink, send the answer, and close the
    /// connection, since the client may still be sending.
    pub fn write(&mut self, bytes: Bytes) -> Result<(), OciError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let received = self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let result = match (&mut self.writer, self.declared) {
            (None, _) => Err(unknown_upload()),
            (Some(_), Some(declared)) if received > declared => Err(error::length_mismatch(declared, received)),
            (Some(writer), _) => {
                writer.write_owned(bytes).map_err(|e| self.adapter.append_error(&e, &self.repository, &self.upload))
            }
        };
        self.received = received;
        if result.is_err() {
            self.writer = None;
            self.forget_nameless();
        }
        result
    }

    /// Gives up a session whose name no client knows. If that fails the session expires by itself.
    fn forget_nameless(&self) {
        if let Purpose::Whole { .. } = self.purpose {
            let _ = self.adapter.repository(&self.repository).cancel_upload(&self.upload, &self.call);
        }
    }

    /// The body has arrived whole: gives the answer, after what it says has become durable.
    pub fn finish(self) -> Response {
        self.end().unwrap_or_else(OciError::into_response)
    }

    fn end(mut self) -> Result<Response, OciError> {
        let Some(writer) = self.writer.take() else {
            return Err(unknown_upload());
        };
        let result = self.end_with(writer);
        if result.is_err() {
            self.forget_nameless();
        }
        result
    }

    fn end_with(&self, writer: UploadWriter) -> Result<Response, OciError> {
        let BodySink { adapter, repository, upload, purpose, declared, received, .. } = self;
        if let Some(declared) = declared.filter(|declared| declared != received) {
            // What the engine has made durable by itself stays: the session's own range says how much.
            return Err(error::length_mismatch(declared, *received));
        }
        match purpose {
            Purpose::Append => {
                let offset = writer.finish().map_err(|e| adapter.append_error(&e, repository, upload))?;
                Ok(adapter.accepted(StatusCode::ACCEPTED, repository, upload, offset))
            }
            Purpose::Complete { digest } | Purpose::Whole { digest } => {
                writer
                    .complete(&complete(digest))
                    .map_err(|e| error::complete_upload(&e, &adapter.spelled(repository), digest))?;
                Ok(adapter.created(repository, digest))
            }
        }
    }

    /// The client went away: what arrived is kept, so that it can go on from there. A body that was to be a whole blob
    /// is given up, since nobody knows the session's name.
    pub fn disconnected(mut self) {
        match (self.writer.take(), &self.purpose) {
            (None, _) => {}
            (Some(writer), Purpose::Whole { .. }) => {
                drop(writer);
                self.forget_nameless();
            }
            // Nobody is left to hear of a failure; the next request for the session will.
            (Some(writer), _) => drop(writer.finish()),
        }
    }
}

impl Adapter {
    /// Opens the sink for a route whose body is [`RequestBody::Stream`](crate::RequestBody::Stream).
    ///
    /// # Errors
    /// The answer to the request, found before any of its body was read: drop the body unread.
    pub fn begin_body(&self, route: &Route, headers: &HeaderMap, call: &Call) -> Result<BodySink, OciError> {
        match route {
            Route::AppendUpload { repository, upload } => {
                let chunk = chunk(headers, None)?;
                self.sink(repository, *upload, chunk, Purpose::Append, call)
            }
            Route::CompleteUpload { repository, upload, digest } => {
                let chunk = chunk(headers, None)?;
                self.sink(repository, *upload, chunk, Purpose::Complete { digest: *digest }, call)
            }
            Route::BeginUpload { repository, begin: Begin::Whole { digest } } => {
                // The digest is known when the last byte is, and a session needs its repository before the first.
                let upload = self.begin_session(repository, digest.algorithm(), call, || Ok(()))?;
                self.sink(repository, upload, None, Purpose::Whole { digest: *digest }, call)
            }
            _ => Err(unknown_path()),
        }
    }

    fn sink(
        &self,
        repository: &RepositoryName,
        upload: UploadId,
        chunk: Option<(u64, u64)>,
        purpose: Purpose,
        call: &Call,
    ) -> Result<BodySink, OciError> {
        let writer = self
            .repository(repository)
            .upload_writer(&upload, chunk.map(|(first_byte, _)| first_byte), call)
            .map_err(|e| self.append_error(&e, repository, &upload))?;
        Ok(BodySink {
            adapter: self.clone(),
            repository: repository.clone(),
            upload,
            call: call.clone(),
            writer: Some(writer),
            purpose,
            declared: chunk.map(|(_, len)| len),
            received: 0,
        })
    }

    pub(crate) fn begin(
        &self,
        repository: &RepositoryName,
        begin: &Begin,
        body: Bytes,
        call: &Call,
    ) -> Result<Response, OciError> {
        let algorithm = match begin {
            Begin::Whole { digest } => return self.put_blob(repository, digest, body, call),
            Begin::Mount { digest, from: Some(MountSource::Here(from)) } => {
                if self.mount(repository, digest, from, call)? {
                    return Ok(self.created(repository, digest));
                }
                digest.algorithm()
            }
            Begin::Mount { digest, .. } => digest.algorithm(),
            Begin::Session { algorithm } => *algorithm,
        };
        let upload = self.begin_session(repository, algorithm, call, || Ok(()))?;
        Ok(self.accepted(StatusCode::ACCEPTED, repository, &upload, 0))
    }

    fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        body: Bytes,
        call: &Call,
    ) -> Result<Response, OciError> {
        let judge = || {
            let computed = Digest::of(digest.algorithm(), &body);
            if computed == *digest { Ok(()) } else { Err(error::digest_mismatch(digest, &computed)) }
        };
        let upload = self.begin_session(repository, digest.algorithm(), call, judge)?;
        whole(self.sink(repository, upload, None, Purpose::Whole { digest: *digest }, call)?, body)
    }

    fn begin_session(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
        call: &Call,
        judge: impl FnOnce() -> Result<(), OciError>,
    ) -> Result<UploadId, OciError> {
        self.pushing(repository, call, judge, || {
            self.repository(repository)
                .begin_upload(algorithm, call)
                .map_err(|e| error::begin_upload(&e, &self.spelled(repository)))
        })
    }

    /// Whether the blob could be had from the other repository.
    fn mount(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
        call: &Call,
    ) -> Result<bool, OciError> {
        let step = || match self.repository(repository).mount_blob(digest, from, call) {
            Ok(_) => Ok(true),
            Err(error) => error::mount_blob(&error, &self.spelled(repository)).map_or(Ok(false), Err),
        };
        self.pushing(repository, call, || Ok(()), step)
    }

    pub(crate) fn append(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        headers: &HeaderMap,
        body: Bytes,
        call: &Call,
    ) -> Result<Response, OciError> {
        let chunk = chunk(headers, Some(&body))?;
        if body.is_empty() {
            let status = self.status(repository, upload, call)?;
            return Ok(self.accepted(StatusCode::ACCEPTED, repository, upload, status));
        }
        whole(self.sink(repository, *upload, chunk, Purpose::Append, call)?, body)
    }

    pub(crate) fn complete(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        digest: &Digest,
        headers: &HeaderMap,
        body: Bytes,
        call: &Call,
    ) -> Result<Response, OciError> {
        let chunk = chunk(headers, Some(&body))?;
        if body.is_empty() {
            self.repository(repository)
                .complete_upload(upload, &complete(digest), call)
                .map_err(|e| error::complete_upload(&e, &self.spelled(repository), digest))?;
            return Ok(self.created(repository, digest));
        }
        whole(self.sink(repository, *upload, chunk, Purpose::Complete { digest: *digest }, call)?, body)
    }

    pub(crate) fn upload_status(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        call: &Call,
    ) -> Result<Response, OciError> {
        let offset = self.status(repository, upload, call)?;
        Ok(self.accepted(StatusCode::NO_CONTENT, repository, upload, offset))
    }

    fn status(&self, repository: &RepositoryName, upload: &UploadId, call: &Call) -> Result<u64, OciError> {
        self.repository(repository)
            .upload_status(upload, call)
            .map(|status| status.offset)
            .map_err(|e| error::upload_status(&e, &self.spelled(repository)))
    }

    pub(crate) fn cancel_upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        call: &Call,
    ) -> Result<Response, OciError> {
        self.repository(repository)
            .cancel_upload(upload, call)
            .map_err(|e| error::cancel_upload(&e, &self.spelled(repository)))?;
        Ok(Response::new(StatusCode::NO_CONTENT))
    }

    /// An open session: where it goes on, and how far it is.
    fn accepted(&self, status: StatusCode, repository: &RepositoryName, upload: &UploadId, offset: u64) -> Response {
        Response::new(status)
            .with_location(&self.upload_location(repository, upload))
            .with_text(DOCKER_UPLOAD_UUID, &upload.to_string())
            .with(RANGE, range::held(offset))
    }

    /// 201: the blob is in the repository.
    fn created(&self, repository: &RepositoryName, digest: &Digest) -> Response {
        Response::new(StatusCode::CREATED)
            .with_location(&self.blob_location(repository, digest))
            .with_text(DOCKER_CONTENT_DIGEST, &digest.to_string())
    }

    /// An append's error; where the session stands as it was, the answer says where to go on.
    fn append_error(
        &self,
        error: &layerhold::upload::AppendError,
        repository: &RepositoryName,
        upload: &UploadId,
    ) -> OciError {
        let answer = error::append_upload(error, &self.spelled(repository));
        if answer.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            return answer;
        }
        answer
            .with_text_header(http::header::LOCATION, &self.upload_location(repository, upload))
            .with_text_header(DOCKER_UPLOAD_UUID, &upload.to_string())
    }
}

/// Parts of any length, and none at all, are what the protocol allows.
fn complete(digest: &Digest) -> CompleteUpload {
    CompleteUpload::expecting(Expected::Digest(*digest))
}

fn whole(mut sink: BodySink, body: Bytes) -> Result<Response, OciError> {
    sink.write(body)?;
    sink.end()
}

/// The chunk that the headers declare: its first byte and length, after comparing the length with the other one that is
/// known, the body's or what `Content-Length` says of it.
fn chunk(headers: &HeaderMap, body: Option<&Bytes>) -> Result<Option<(u64, u64)>, OciError> {
    let Some(header) = headers.get(CONTENT_RANGE) else {
        return Ok(None);
    };
    let Some((first_byte, len)) = header.to_str().ok().and_then(range::chunk) else {
        return Err(OciError::bad_request(
            ErrorCode::BlobUploadInvalid,
            "the content range is not two numbers with a hyphen, the second not less than the first",
        ));
    };
    let received = match body {
        Some(body) => u64::try_from(body.len()).ok(),
        None => headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()),
    };
    match received {
        Some(received) if received != len => Err(error::length_mismatch(len, received)),
        _ => Ok(Some((first_byte, len))),
    }
}
