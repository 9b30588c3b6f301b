//! Manifests: documents kept byte for byte, with what they reference and what refers to them.

mod delete;
pub mod document;
mod error;
mod errors;
pub mod json;
mod listing;
mod members;
mod put;
mod quarantine;
mod read;
mod referrers;

pub use delete::DeletedImage;
pub(crate) use delete::{dropped as dropped_tag, referencing};
pub use document::{DocumentLimits, ManifestDocument, ManifestKind, ManifestReference, Role};
pub use error::ManifestError;
pub use errors::{DeleteError, PutError, ReadError};
pub use listing::{ImageDetail, ImageEntry, TagFilter};
pub(crate) use put::name_once;
pub use put::{ManifestPut, PutManifest, TagChange};
pub use read::{ImageId, Manifest, ManifestHead, ManifestRead};
