//! Parts with an explicit range, each durable when it is acknowledged.

use crate::call::Call;
use crate::format::keys;
use crate::format::values::{Row, UploadPartRow};
use crate::repository::Repository;

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

impl Repository {
    /// Appends one part to a session. Durable when it returns; whatever it answers instead, the session is as it was.
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
        let limits = &self.registry.limits;
        let mut writer = match self.upload_writer(id, Some(range.first_byte), call) {
            Err(AppendError::OutOfOrder { first_byte, durable_offset }) => {
                return Err(self.replayed_or_out_of_order(id, first_byte, slice, durable_offset)?);
            }
            writer => writer?,
        };
        if received != range.len {
            return Err(AppendError::LengthMismatch { declared: range.len, received });
        }
        if received == 0 {
            return Err(AppendError::Empty);
        }
        let part = self.upload_status(id, call)?.parts + 1;
        if part > limits.upload_parts {
            return Err(AppendError::TooManyParts { limit: limits.upload_parts });
        }
        if received > limits.part_bytes {
            return Err(AppendError::PartTooLarge { size: received, limit: limits.part_bytes });
        }
        writer.take(&bytes)?;
        let row = UploadPartRow { len: received, checksum: crc32fast::hash(slice) };
        let durable_offset = writer.commit_part(Some(&PartRecord { first_byte: range.first_byte, row }))?;
        Ok(PartAccepted { durable_offset, part })
    }

    /// Tells bytes that were accepted before from bytes that do not belong there.
    fn replayed_or_out_of_order(
        &self,
        id: &UploadId,
        first_byte: u64,
        bytes: &[u8],
        durable_offset: u64,
    ) -> Result<AppendError, AppendError> {
        let stored = self.inner().txn.store.view()?.get(&keys::upload_part(&id.0, first_byte))?;
        let same = UploadPartRow::decode_optional(stored.as_deref())?
            .is_some_and(|part| part.len == bytes.len() as u64 && part.checksum == crc32fast::hash(bytes));
        Ok(if same {
            AppendError::Replayed { durable_offset }
        } else {
            AppendError::OutOfOrder { first_byte, durable_offset }
        })
    }
}
