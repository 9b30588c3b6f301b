//! Parts with an explicit range, each durable when it is acknowledged.

use crate::call::Call;
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys;
use crate::format::values::{Row, UploadPartRow};
use crate::repository::Repository;
use crate::store::StorageError;
use crate::txn::Outcome;

use super::UploadId;
use super::errors::AppendError;
use super::session::{PartRecord, share};

/// The bytes that a part claims to be: `len` bytes from `first_byte` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRange {
    /// Offset of the first byte in the blob.
    pub first_byte: u64,
    /// How many bytes.
    pub len: u64,
}

/// A part that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartAccepted {
    /// Where the next part must begin.
    pub durable_offset: u64,
    /// The number of this part, from 1.
    pub part: u32,
}

impl Outcome for PartAccepted {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.durable_offset).u32(self.part);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        Ok(Self { durable_offset: decoder.u64()?, part: decoder.u32()? })
    }
}

impl Repository {
    /// Appends one part to a session. Durable when it returns. Whatever it answers instead, the session is as it was, with two
    /// exceptions: [`AppendError::Damaged`] and a failed sync end it.
    ///
    /// The order of judgement: repository, session, offset, length, number of parts, size.
    pub fn append_part(
        &self,
        id: &UploadId,
        range: PartRange,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        call: &Call,
    ) -> Result<PartAccepted, AppendError> {
        let bytes = share(bytes);
        let slice = bytes.as_ref().as_ref();
        let received = slice.len() as u64;
        let row = UploadPartRow { len: received, checksum: crc32fast::hash(slice) };
        let part = PartRecord { first_byte: range.first_byte, row };
        let limits = &self.registry.limits;
        let mut writer = match self.upload_writer(id, Some(range.first_byte), call) {
            Ok(writer) => writer,
            Err(error) => {
                // The session may have moved on, or be gone, because this very call was carried out before.
                if let Some(accepted) = self.inner().txn.replayed(call, &mut self.part_arguments(id, &part))? {
                    return Ok(accepted);
                }
                return Err(match error {
                    AppendError::OutOfOrder { durable_offset, .. } => {
                        self.replayed_or_out_of_order(id, &part, durable_offset)?
                    }
                    error => error,
                });
            }
        };
        if received != range.len {
            return Err(AppendError::LengthMismatch { declared: range.len, received });
        }
        if received == 0 {
            return Err(AppendError::Empty);
        }
        if self.upload_status(id, call)?.parts >= limits.upload_parts {
            return Err(AppendError::TooManyParts { limit: limits.upload_parts });
        }
        if received > limits.part_bytes {
            return Err(AppendError::PartTooLarge { size: received, limit: limits.part_bytes });
        }
        writer.take(&bytes)?;
        writer.commit_part(Some(&part))
    }

    /// What one part under an operation id is told from another by.
    pub(crate) fn part_arguments(&self, id: &UploadId, part: &PartRecord) -> Encoder {
        let mut arguments = self.arguments("append part");
        arguments.raw(&id.0).u64(part.first_byte).u64(part.row.len).u32(part.row.checksum);
        arguments
    }

    /// Tells bytes that were accepted before from bytes that do not belong there.
    fn replayed_or_out_of_order(
        &self,
        id: &UploadId,
        part: &PartRecord,
        durable_offset: u64,
    ) -> Result<AppendError, AppendError> {
        let stored = self.inner().txn.store.view()?.get(&keys::upload_part(&id.0, part.first_byte))?;
        Ok(if UploadPartRow::decode_optional(stored.as_deref())? == Some(part.row) {
            AppendError::Replayed { durable_offset }
        } else {
            AppendError::OutOfOrder { first_byte: part.first_byte, durable_offset }
        })
    }
}
