//! The writer of a session: takes bytes as they arrive and makes them durable now and then.

use crate::call::Call;
use crate::error::ErrorKind;
use crate::format::codec::Encoder;
use crate::repository::Repository;

use super::UploadId;
use super::complete::{CompleteUpload, Completed};
use super::errors::{AppendError, CompleteError, UploadDamaged};
use super::lane::SharedBytes;
use super::open::Place;
use super::part::PartAccepted;
use super::session::{End, Live, PartRecord, share};
use super::staging::is_damage;

/// Slices that the caller keeps are copied in pieces of this length.
const COPY_BYTES: usize = 256 << 10;

/// The one writer of an upload session.
///
/// Bytes are durable after [`UploadWriter::commit`], which also happens by itself every
/// [`upload_commit_bytes`](crate::Options::upload_commit_bytes) and
/// [`upload_commit_ms`](crate::Options::upload_commit_ms). Dropping a writer gives up what came after the last commit
/// and keeps the session; [`UploadWriter::finish`] keeps all of it. After an error the writer is of no further use; the
/// session stands at its last durable byte.
#[must_use = "bytes written are kept only by `finish`, `commit` or `complete`"]
pub struct UploadWriter {
    repository: Repository,
    id: UploadId,
    call: Call,
    /// Taken out only to be handed back to the engine.
    live: Option<Box<Live>>,
    committed_ms: u64,
    _place: Place,
}

impl std::fmt::Debug for UploadWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadWriter").field("id", &self.id).field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl Repository {
    /// Becomes the writer of a session, which has one at a time: waits for another one, at most
    /// [`lock_wait_ms`](crate::Options::lock_wait_ms) and only where nobody else waits for it. There are as many writers at a
    /// time as [`memory_bytes`](crate::Options::memory_bytes) has room for; one too many is told to come again.
    ///
    /// With `first_byte`, the session must end exactly there ([`AppendError::OutOfOrder`]).
    pub fn upload_writer(
        &self,
        id: &UploadId,
        first_byte: Option<u64>,
        call: &Call,
    ) -> Result<UploadWriter, AppendError> {
        let inner = self.inner();
        inner.check_room()?;
        let place = inner.upload_memory.writer()?;
        let warm = inner.writers.acquire(*id, inner.options.lock_wait_ms, inner.components.clock.as_ref())?;
        // From here on the drop of the writer releases the session.
        let mut writer = UploadWriter {
            repository: self.clone(),
            id: *id,
            call: call.clone(),
            live: None,
            committed_ms: inner.components.clock.monotonic_ms(),
            _place: place,
        };
        let row = {
            let view = inner.txn.store.view()?;
            self.session(view.as_ref(), id, &call.principal)?.1
        };
        if let Some(first_byte) = first_byte.filter(|first_byte| *first_byte != row.offset) {
            let durable_offset = row.offset;
            writer.live = warm.filter(|live| live.row == row && live.offset == row.offset);
            return Err(AppendError::OutOfOrder { first_byte, durable_offset });
        }
        writer.live = Some(match warm {
            Some(live) if live.row == row && live.offset == row.offset => live,
            _ => match Live::resume(inner, id, row) {
                Ok(live) => Box::new(live),
                Err(error) if is_damage(&error) => {
                    // Nobody can go on from it, and another who tries should not wait for the term to end.
                    drop(self.end_session(id, End::Damaged, &Call::by(call.principal.clone())));
                    return Err(UploadDamaged { upload: *id }.into());
                }
                Err(error) => return Err(error.into()),
            },
        });
        Ok(writer)
    }
}

impl UploadWriter {
    /// The session.
    #[must_use]
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// Length of the bytes taken so far, durable or not.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.offset)
    }

    /// Takes bytes that the caller keeps; they are copied once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        bytes.chunks(COPY_BYTES).try_for_each(|piece| self.write_owned(piece.to_vec()))
    }

    /// Takes bytes without copying them: they are written by this thread while another one hashes them.
    pub fn write_owned(&mut self, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<(), AppendError> {
        self.take(&share(bytes))?;
        let repository = self.repository.clone();
        let inner = repository.inner();
        let options = &inner.options;
        let now_ms = inner.components.clock.monotonic_ms();
        let pending = self.live.as_ref().map_or(0, |live| live.offset - live.row.offset);
        if pending >= options.upload_commit_bytes
            || (pending > 0 && now_ms.saturating_sub(self.committed_ms) >= options.upload_commit_ms)
        {
            self.commit()?;
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, bytes: &SharedBytes) -> Result<(), AppendError> {
        let inner = self.repository.inner();
        inner.access.room.admit()?;
        let limit = self.repository.registry.limits.blob_bytes;
        let live = self.live.as_mut().ok_or(super::UploadNotFound { upload: self.id })?;
        let size = live.offset.saturating_add(bytes.as_ref().as_ref().len() as u64);
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        if let Err(error) = live.append(inner, bytes) {
            // Whatever part of it was written lies behind the durable offset and is cut off on resumption.
            if let Some(live) = self.live.take() {
                live.discard(inner);
            }
            // The directory of a new file may be new as well.
            self.repository.give_up_file(&self.id, &error, &self.call);
            return Err(error.into());
        }
        Ok(())
    }

    /// Makes everything taken so far durable; gives the durable offset.
    pub fn commit(&mut self) -> Result<u64, AppendError> {
        self.commit_part(None).map(|accepted| accepted.durable_offset)
    }

    pub(crate) fn commit_part(&mut self, part: Option<&PartRecord>) -> Result<PartAccepted, AppendError> {
        let inner = self.repository.inner();
        let live = self.live.as_mut().ok_or(super::UploadNotFound { upload: self.id })?;
        if live.offset == live.row.offset {
            return Ok(PartAccepted { durable_offset: live.offset, part: live.row.parts });
        }
        // The engine may have been closed since this writer was made.
        inner.check_room()?;
        // The session advances by many commits; a caller's operation id can stand for one part alone.
        let call = if part.is_some() { self.call.clone() } else { Call::by(self.call.principal.clone()) };
        let committed = self.repository.commit_session(&self.id, live, part, &call);
        if let Err(error) = &committed {
            // The commit took chaining values out of the running hash, so what is in memory is of no more use.
            let live = self.live.take().filter(|_| error.kind() != ErrorKind::Indeterminate);
            if let Some(live) = live {
                live.discard(inner);
            }
        }
        self.committed_ms = inner.components.clock.monotonic_ms();
        committed
    }

    /// Makes everything durable and ends writing; the session waits for more. Gives the durable offset.
    pub fn finish(mut self) -> Result<u64, AppendError> {
        self.commit()
    }

    /// Makes everything durable and a blob of it, as one commit.
    pub fn complete(self, complete: &CompleteUpload) -> Result<Completed, CompleteError> {
        let arguments = self.repository.completion_arguments(&self.id, complete);
        self.complete_as(complete, arguments)
    }

    /// The same under the arguments of the call that it is a part of.
    pub(crate) fn complete_as(
        mut self,
        complete: &CompleteUpload,
        arguments: Encoder,
    ) -> Result<Completed, CompleteError> {
        let mut live = self.live.take().ok_or(super::UploadNotFound { upload: self.id })?;
        let completed = self.repository.complete_session(&self.id, &mut live, complete, arguments, &self.call);
        match &completed {
            // Judged before anything was done: the session goes on.
            Err(CompleteError::Empty { .. } | CompleteError::PartTooSmall { .. }) => self.live = Some(live),
            Err(error) if error.kind() != ErrorKind::Indeterminate => live.discard(self.repository.inner()),
            // The bytes are the blob's, or may be.
            _ => {}
        }
        completed
    }
}

impl Drop for UploadWriter {
    fn drop(&mut self) {
        let inner = self.repository.inner();
        // Only a session that stands at its durable byte is worth keeping warm.
        let live = match self.live.take() {
            Some(mut live) if live.offset == live.row.offset => {
                live.lane.rest();
                Some(live)
            }
            Some(live) => {
                live.discard(inner);
                None
            }
            None => None,
        };
        inner.writers.release(self.id, live);
    }
}
