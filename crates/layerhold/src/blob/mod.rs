//! Blobs: bytes addressed by digest, stored once per registry, read through the repositories that link them.

mod access;
mod damage;
pub mod download;
mod errors;
pub mod fingerprint;
pub(crate) mod judging;
pub(crate) mod open;
pub(crate) mod outboard;
pub(crate) mod quarantine;
mod reader;
pub(crate) mod source;

pub use access::{BlobStatus, MountedBlob};
pub use damage::Damage;
pub use download::DownloadGrant;
pub use errors::{DeleteError, MountError, OpenError, ReadError, ReadFault};
pub use reader::{BlobReader, MAP_BYTES_MAX, MappedBytes};
