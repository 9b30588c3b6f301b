//! Upload sessions: bytes that arrive in order, part by part, and become a blob at the end.

use std::sync::Arc;

use layerhold::digest::{Algorithm, Digest};
use layerhold::name::{Principal, RepositoryName};

use super::answer::{Answer, Refusal};
use super::blob::Link;
use super::{Model, Now, Outcome};
use crate::operation::request::{Complete, Expected, StreamFinish};

#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The incarnation of the repository it was begun in.
    pub(super) repository: u64,
    caller: Principal,
    pub(super) algorithm: Algorithm,
    bytes: Vec<u8>,
    /// Start and end of each part. Streamed bytes belong to none.
    parts: Vec<(usize, usize)>,
    /// When it was begun or last took a part.
    pub(super) touched_ms: u64,
}

impl Session {
    pub(super) fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Model {
    /// Legal for a blob that exists, and any number at once.
    pub(super) fn begin_upload(
        &mut self,
        name: &RepositoryName,
        session: u64,
        algorithm: Algorithm,
        caller: &Principal,
    ) -> Outcome {
        let session_of = Session {
            repository: self.repository(name)?.incarnation,
            caller: caller.clone(),
            algorithm,
            bytes: Vec::new(),
            parts: Vec::new(),
            touched_ms: self.now.engine_ms,
        };
        self.sessions.insert(session, session_of);
        Ok(Answer::Done)
    }

    /// Parts come strictly in order. One that was accepted already, with the same bytes, is told apart from one that
    /// does not fit.
    pub(super) fn append_part(
        &mut self,
        name: &RepositoryName,
        session: u64,
        caller: &Principal,
        first_byte: u64,
        declared: u64,
        bytes: &[u8],
    ) -> Outcome {
        let (limits, now) = (self.limits, self.now.engine_ms);
        let session = self.session(name, session, caller)?;
        let (durable_offset, received) = (session.offset(), bytes.len() as u64);
        if first_byte != durable_offset {
            let same =
                |&(start, end): &(usize, usize)| start as u64 == first_byte && session.bytes[start..end] == *bytes;
            return Err(match session.parts.iter().any(same) {
                true => Refusal::Replayed { durable_offset },
                false => Refusal::OutOfOrder { first_byte, durable_offset },
            });
        }
        if declared != received {
            return Err(Refusal::LengthMismatch { declared, received });
        }
        if received == 0 {
            return Err(Refusal::EmptyPart);
        }
        if session.parts.len() as u64 >= limits.upload_parts {
            return Err(Refusal::TooManyParts { limit: limits.upload_parts });
        }
        if received > limits.part_bytes {
            return Err(Refusal::PartTooLarge { size: received, limit: limits.part_bytes });
        }
        if durable_offset + received > limits.blob_bytes {
            return Err(Refusal::BlobTooLarge { size: durable_offset + received, limit: limits.blob_bytes });
        }
        session.parts.push((session.bytes.len(), session.bytes.len() + bytes.len()));
        Ok(session.accept(bytes, now))
    }

    /// A streamed body has no parts that a client counts: the limits of parts do not bind it. What was committed stays
    /// when the writer goes away.
    pub(super) fn stream_upload(
        &mut self,
        name: &RepositoryName,
        number: u64,
        caller: &Principal,
        first_byte: Option<u64>,
        bytes: &[u8],
        end: &StreamFinish,
    ) -> Outcome {
        let (limits, now) = (self.limits, self.now.engine_ms);
        let session = self.session(name, number, caller)?;
        let durable_offset = session.offset();
        if let Some(first_byte) = first_byte.filter(|&first_byte| first_byte != durable_offset) {
            return Err(Refusal::OutOfOrder { first_byte, durable_offset });
        }
        let judge = |bytes: &[u8]| match durable_offset + bytes.len() as u64 {
            size if size > limits.blob_bytes => Err(Refusal::BlobTooLarge { size, limit: limits.blob_bytes }),
            _ => Ok(()),
        };
        match end {
            StreamFinish::Finish => {
                judge(bytes)?;
                Ok(session.accept(bytes, now))
            }
            StreamFinish::CommitAndDrop => {
                let first_half = &bytes[..bytes.len() / 2];
                judge(first_half)?;
                let accepted = session.accept(first_half, now);
                judge(bytes).map(|()| accepted)
            }
            StreamFinish::Complete(complete) => {
                judge(bytes)?;
                session.accept(bytes, now);
                self.complete_upload(name, number, caller, complete)
            }
        }
    }

    pub(super) fn upload_status(&mut self, name: &RepositoryName, session: u64, caller: &Principal) -> Outcome {
        let session = self.session(name, session, caller)?;
        let parts = session.parts.len() as u64;
        Ok(Answer::Session { offset: session.offset(), parts, algorithm: session.algorithm })
    }

    /// An upload that is refused as empty or for a small part stays open, for nothing is lost; one whose digest does not
    /// match ends. A digest that is there already is stored again, which heals damaged bytes.
    pub(super) fn complete_upload(
        &mut self,
        name: &RepositoryName,
        number: u64,
        caller: &Principal,
        complete: &Complete,
    ) -> Outcome {
        let session = self.session(name, number, caller)?;
        if session.bytes.is_empty() && complete.refuse_empty {
            return Err(Refusal::EmptyUpload);
        }
        let least = complete.part_bytes_min.unwrap_or(0);
        // The shortest part but the last is named, the first of them if there are several.
        let sizes = session.parts.iter().map(|(start, end)| (end - start) as u64);
        let shortest = sizes.zip(1..session.parts.len() as u64).min();
        if let Some((size, part)) = shortest.filter(|(size, _)| *size < least) {
            return Err(Refusal::PartTooSmall { part, size, limit: least });
        }
        let Some(ended) = self.sessions.remove(&number) else { return Err(Refusal::UploadNotFound) };
        let digest = judge(&complete.expected, ended.algorithm, &ended.bytes)?;
        let size = ended.offset();
        Ok(Answer::Completed {
            digest,
            size,
            already_linked: self.repository_mut(name)?.link(digest, Link::new(ended.bytes.into())),
        })
    }

    pub(super) fn cancel_upload(&mut self, name: &RepositoryName, number: u64, caller: &Principal) -> Outcome {
        self.session(name, number, caller)?;
        self.sessions.remove(&number);
        Ok(Answer::Done)
    }

    /// Begin, write and complete in one call.
    pub(super) fn put_blob(&mut self, name: &RepositoryName, bytes: &Arc<[u8]>, expected: &Expected) -> Outcome {
        self.repository(name)?;
        let size = bytes.len() as u64;
        if size > self.limits.blob_bytes {
            return Err(Refusal::BlobTooLarge { size, limit: self.limits.blob_bytes });
        }
        let algorithm = match expected {
            Expected::Digest(digest) => digest.algorithm(),
            _ => Algorithm::Sha256,
        };
        let digest = judge(expected, algorithm, bytes)?;
        Ok(Answer::Completed {
            digest,
            size,
            already_linked: self.repository_mut(name)?.link(digest, Link::new(Arc::clone(bytes))),
        })
    }

    /// Where an open session lives and whose it is, for asking after it.
    pub fn upload_owner(&self, number: u64, now: Now) -> Option<(RepositoryName, Principal)> {
        let session = self.sessions.get(&number)?;
        let alive = session.is_alive(now, self.terms.upload_idle_ms);
        let mut repositories = self.repositories.iter();
        let (name, _) = repositories.find(|(_, repository)| repository.incarnation == session.repository)?;
        alive.then(|| (name.clone(), session.caller.clone()))
    }

    /// Follows an engine that lost a session which was never durable.
    pub fn forget_upload(&mut self, number: u64) {
        self.sessions.remove(&number);
    }

    /// Finished, cancelled, expired, begun elsewhere or by another caller: all of these are one answer.
    fn session(&mut self, name: &RepositoryName, session: u64, caller: &Principal) -> Result<&mut Session, Refusal> {
        let incarnation = self.repository(name)?.incarnation;
        let (now, idle_ms) = (self.now, self.terms.upload_idle_ms);
        let session = self.sessions.get_mut(&session).filter(|session| {
            session.repository == incarnation && session.caller == *caller && session.is_alive(now, idle_ms)
        });
        session.ok_or(Refusal::UploadNotFound)
    }
}

impl Session {
    fn is_alive(&self, now: Now, idle_ms: u64) -> bool {
        now.engine_ms < self.touched_ms + idle_ms
    }

    fn accept(&mut self, bytes: &[u8], now_ms: u64) -> Answer {
        if !bytes.is_empty() {
            self.bytes.extend_from_slice(bytes);
            self.touched_ms = now_ms;
        }
        Answer::Accepted { durable_offset: self.offset() }
    }
}

/// The digest under which the bytes are stored. One digest that is expected decides by its own algorithm; a list must hold
/// the digest by the session's algorithm.
fn judge(expected: &Expected, algorithm: Algorithm, bytes: &[u8]) -> Result<Digest, Refusal> {
    let computed = match expected {
        Expected::Digest(digest) => Digest::of(digest.algorithm(), bytes),
        Expected::AnyOf(_) => Digest::of(Algorithm::Sha256, bytes),
        Expected::Computed => Digest::of(algorithm, bytes),
    };
    let matches = match expected {
        Expected::Computed => true,
        Expected::Digest(digest) => *digest == computed,
        Expected::AnyOf(digests) => digests.contains(&computed),
    };
    matches.then_some(computed).ok_or(Refusal::UploadDigestMismatch { computed })
}
