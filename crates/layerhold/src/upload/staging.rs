//! The bytes of a session between its parts: in memory while they are few, in a staged file once they are more.

use crate::blob::fingerprint::{FingerprintHasher, GroupLen};
use crate::digest::{Algorithm, DigestHasher};
use crate::engine::Inner;
use crate::store::{Location, StagedBlob, StorageError};

/// Where the bytes of an open session are.
pub(crate) enum Staged {
    /// All of them, not more than fit in a row.
    Small(Vec<u8>),
    /// In a file that bears its final name.
    File(Box<dyn StagedBlob>),
}

impl Staged {
    /// Adds bytes behind the first `offset`; a session that outgrows its row moves to a file.
    pub(crate) fn append(
        &mut self,
        inner: &Inner,
        location: Location,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        if let Self::Small(small) = self {
            if (small.len() + bytes.len()) as u64 <= inner.options.inline_blob_bytes_max {
                small.extend_from_slice(bytes);
                return Ok(());
            }
            *self = Self::File(spill(inner, location, small)?);
        }
        match self {
            Self::File(file) => file.append(offset, bytes),
            Self::Small(_) => Ok(()),
        }
    }

    /// Reads bytes back.
    pub(crate) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), StorageError> {
        match self {
            Self::File(file) => file.read_exact_at(buf, offset),
            Self::Small(small) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let bytes = small.get(start..).and_then(|bytes| bytes.get(..buf.len()));
                buf.copy_from_slice(bytes.ok_or_else(|| StorageError::corrupt("staged row is too short"))?);
                Ok(())
            }
        }
    }
}

fn spill(inner: &Inner, location: Location, small: &[u8]) -> Result<Box<dyn StagedBlob>, StorageError> {
    // A file can be here already: an earlier try that was never committed. Its bytes are nobody's.
    inner.blobs.delete(location)?;
    let mut file = inner.blobs.stage(location)?;
    file.append(0, small)?;
    Ok(file)
}

/// Both hashes of staged bytes, read from the beginning.
pub(crate) fn reread(
    staged: &Staged,
    len: u64,
    algorithm: Algorithm,
    group_len: GroupLen,
) -> Result<(DigestHasher, FingerprintHasher), StorageError> {
    const STEP: u64 = 1 << 20;
    let mut digest = DigestHasher::new(algorithm);
    let mut fingerprint = FingerprintHasher::new(group_len);
    let mut buf = vec![0; usize::try_from(len.min(STEP)).unwrap_or_default()];
    let mut offset = 0;
    while offset < len {
        let step = usize::try_from((len - offset).min(STEP)).unwrap_or_default();
        let chunk = buf.get_mut(..step).unwrap_or_default();
        staged.read_exact_at(chunk, offset)?;
        digest.update(chunk);
        fingerprint.update(chunk);
        // The values are in rows already, or come from the running hash.
        drop(fingerprint.take_groups());
        offset += step as u64;
    }
    Ok((digest, fingerprint))
}

/// Whether an error says that what is stored of a session is not what was written, so that no second try helps.
pub(crate) fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupt { .. } => true,
        StorageError::Io { source, .. } => source.kind() == std::io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}
