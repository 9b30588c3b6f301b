//! layerhold: the storage engine under a container registry.

pub mod blob;
pub mod call;
pub mod change;
pub mod clock;
pub mod descriptor;
#[cfg(feature = "rocksdb")]
mod directory;
pub mod digest;
pub mod engine;
pub mod error;
pub mod format;
pub mod maintain;
pub mod manifest;
pub mod name;
pub mod options;
pub mod page;
pub mod registry;
pub mod repository;
pub mod store;
pub mod tag;
mod time;
mod txn;
pub mod upload;

pub use blob::{BlobReader, BlobStatus, DownloadGrant, MountedBlob};
pub use call::{Call, OperationId};
pub use change::Change;
pub use clock::Components;
pub use descriptor::{Descriptor, MediaType};
pub use digest::{Algorithm, Digest};
pub use engine::{Engine, OpenError, Stores};
pub use error::{ErrorKind, Failure, RepositoryNotFound};
pub use manifest::{DeletedImage, ImageDetail, ImageEntry, ImageId, Manifest, ManifestHead, ManifestPut, ManifestRead};
pub use manifest::{PutManifest, TagChange, TagFilter};
pub use name::{Principal, Reference, RegistryName, RepositoryName, Tag};
pub use options::{Limits, Options};
pub use page::Page;
pub use registry::{DeleteMode, Registry};
pub use repository::{Repository, RepositoryDetail, RepositorySettings, RepositoryUsage};
pub use store::StorageError;
pub use tag::rules::{ExclusionFilter, Mutability, TagMutability};
pub use tag::{TagDetail, TagEvent};
pub use upload::{CompleteUpload, Completed, EmptyUpload, Expected, PartAccepted, PartRange};
pub use upload::{UploadId, UploadStatus, UploadWriter};
