//! Blobs: bytes addressed by digest, stored once per registry, read through the repositories that link them.

mod access;
pub mod download;
mod errors;
pub mod fingerprint;
pub(crate) mod open;
mod reader;

pub use access::{BlobStatus, MountedBlob};
pub use download::DownloadGrant;
pub use errors::{DeleteError, MountError, OpenError, ReadError, ReadFault};
pub use reader::BlobReader;
