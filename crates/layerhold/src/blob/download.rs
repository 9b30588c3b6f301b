//! Download grants: a token that reads one blob for a while without any further right.

use crate::digest::Digest;
use crate::engine::Engine;
use crate::error::{ErrorKind, Failure, storage_into};
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys::{self, RegistryId, RepositoryId};
use crate::hex;
use crate::manifest::{Role, referencing};
use crate::repository::Repository;
use crate::store::StorageError;

use super::errors::OpenError;
use super::reader::{BlobReader, Opened};

/// The number of the key that signs tokens; a store has one until keys rotate.
const KEY_ID: u32 = 1;
const TAG_LEN: usize = 32;

/// A token, and how long it is good for.
#[derive(Clone, PartialEq, Eq)]
pub struct DownloadGrant {
    /// Fits into a URL as it is. Whoever has it can read the blob: it belongs in no log.
    pub token: String,
    /// Engine time in milliseconds at which it ends.
    pub expires_ms: u64,
    /// Whether a manifest of the repository references the blob; some protocols refuse the download otherwise.
    pub referenced: bool,
}

impl std::fmt::Debug for DownloadGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DownloadGrant").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// Why a token reads nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not one of this store's tokens, or it was tampered with.
    #[error("download token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("download token has expired")]
    Expired,
    /// The blob is gone.
    #[error("blob does not exist digest={digest}")]
    Gone {
        /// The blob.
        digest: Digest,
    },
    /// The stored bytes are damaged. Pushing the blob again heals it.
    #[error("stored blob is damaged digest={digest}")]
    Corrupt {
        /// The blob.
        digest: Digest,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(Error);

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid | Self::Expired => ErrorKind::Denied,
            Self::Gone { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

/// What a token says.
struct Claim {
    registry: RegistryId,
    repository: RepositoryId,
    digest: Digest,
    expires_ms: u64,
}

impl Repository {
    /// A token that reads one blob for `ttl_ms` of engine time, even if the repository is deleted meanwhile: the blob is
    /// leased for as long. The lease is not synced.
    pub fn grant_download(&self, digest: &Digest, ttl_ms: u64) -> Result<DownloadGrant, OpenError> {
        let inner = self.inner();
        let (scope, referenced) = {
            let view = inner.txn.store.view()?;
            let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
            if view.get(&keys::link(scope, digest))?.is_none() {
                return Err(OpenError::NotFound { digest: *digest });
            }
            (scope, !referencing(view.as_ref(), scope, digest, Role::is_blob)?.is_empty())
        };
        let expires_ms = inner.txn.committer.now_ms().saturating_add(ttl_ms);
        if self.lease_until(scope, &[*digest], expires_ms)?.is_empty() {
            return Err(OpenError::Corrupt { digest: *digest });
        }
        let claim = Claim { registry: scope.registry, repository: scope.repository, digest: *digest, expires_ms };
        Ok(DownloadGrant { token: claim.sign(&inner.download_key), expires_ms, referenced })
    }
}

impl Engine {
    /// Opens the blob that a token of [`Repository::grant_download`] stands for.
    pub fn open_download(&self, token: &str) -> Result<BlobReader, Error> {
        let claim = Claim::verify(token, &self.inner.download_key).ok_or(Error::Invalid)?;
        if claim.expires_ms <= self.now_ms() {
            return Err(Error::Expired);
        }
        match self.open_blob(claim.registry, &claim.digest)? {
            Opened::Reader(reader) => Ok(reader),
            Opened::Absent => Err(Error::Gone { digest: claim.digest }),
            Opened::Corrupt => Err(Error::Corrupt { digest: claim.digest }),
        }
    }
}

impl Claim {
    fn sign(&self, key: &[u8; 32]) -> String {
        let mut encoder = Encoder::bare();
        encoder.u32(KEY_ID).u32(self.registry.0).u64(self.repository.0).u64(self.expires_ms).digest(&self.digest);
        let mut bytes = encoder.finish();
        let tag = blake3::keyed_hash(key, &bytes);
        bytes.extend_from_slice(tag.as_bytes());
        hex::encode(&bytes)
    }

    fn verify(token: &str, key: &[u8; 32]) -> Option<Self> {
        let bytes = hex::decode(token.as_bytes()).ok()?;
        let (claim, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_LEN)?)?;
        // blake3's hash compares in constant time.
        if blake3::keyed_hash(key, claim) != blake3::Hash::from_bytes(tag.try_into().ok()?) {
            return None;
        }
        Self::decode(claim).ok()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let mut decoder = Decoder::bare(bytes, "download token");
        if decoder.u32()? != KEY_ID {
            return Err(decoder.malformed());
        }
        let registry = RegistryId(decoder.u32()?);
        let repository = RepositoryId(decoder.u64()?);
        let expires_ms = decoder.u64()?;
        let digest = decoder.digest()?;
        decoder.end()?;
        Ok(Self { registry, repository, digest, expires_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_was_signed_and_nothing_else() {
        let claim = Claim {
            registry: RegistryId(1),
            repository: RepositoryId(2),
            digest: Digest::sha256(b"x"),
            expires_ms: 77,
        };
        let token = claim.sign(&[1; 32]);
        assert_eq!(Claim::verify(&token, &[1; 32]).map(|claim| claim.expires_ms), Some(77));
        assert!(Claim::verify(&token, &[2; 32]).is_none());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(Claim::verify(std::str::from_utf8(&changed).unwrap(), &[1; 32]).is_none(), "character {at}");
        }
        // Another spelling of a token is another token, and nobody signed it.
        for wrong in ["", "0", "zz", &token[..token.len() - 2], &token.to_uppercase()] {
            assert!(Claim::verify(wrong, &[1; 32]).is_none(), "{wrong}");
        }
    }
}
