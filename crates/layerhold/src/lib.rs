//! layerhold is the storage engine under a container registry: embeddable, transactional, content-addressed.
//!
//! It keeps layers, resumable uploads, manifests, tags and the rules that move them as one transactional store. It opens
//! no socket, starts no runtime, reads no environment variable and asks no global clock: a registry links it and calls
//! it. Every call blocks until its effect is on disk; a host with a runtime of its own moves calls to threads.
//!
//! # What it promises
//!
//! - **Nothing acknowledged is lost.** When a mutating call returns, its effect survives a process kill and a power cut.
//!   If the medium destroys acknowledged data, opening or reading says so with a typed error.
//! - **No unverified byte is visible.** Bytes leave the store only after they were checked against what was pushed.
//! - **Every operation is one transaction.** A manifest appears with its tags, references and referrer row or not at all,
//!   and tag rules are decided inside the transaction that moves the tag.
//! - **Pushing again heals.** A completed upload always takes the place of what was stored under its digest.
//!
//! Exempt from the first promise, and documented where they are: the start of an upload session, leases taken by
//! answers, and pull times.
//!
//! # A whole program
//!
//! ```
//! # #[cfg(feature = "rocksdb")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use layerhold::manifest::ManifestRead;
//! use layerhold::{
//!     Call, Engine, Expected, Options, PutManifest, Reference, RegistryName, RepositoryName, RepositorySettings, Tag,
//! };
//!
//! let dir = tempfile::tempdir()?;
//! let engine = Engine::create(dir.path().join("store"), Options::default())?;
//! let call = Call::anonymous();
//!
//! // A registry owns repositories; a repository is the scope of blobs, manifests and tags.
//! let registry = RegistryName::parse("example")?;
//! engine.create_registry(&registry, &call)?;
//! let registry = engine.registry(&registry);
//! let name = RepositoryName::parse("team/app")?;
//! registry.create_repository(&name, &RepositorySettings::default(), &call)?;
//! let repository = registry.repository(&name);
//!
//! // Push: the blobs first, then the manifest that names them, with a tag.
//! let layer = repository.put_blob(b"the bytes of a layer", &Expected::Computed, &call)?;
//! let config = repository.put_blob(b"{}", &Expected::Computed, &call)?;
//! let document = format!(
//!     r#"{{
//!       "schemaVersion": 2,
//!       "mediaType": "application/vnd.oci.image.manifest.v1+json",
//!       "config": {{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "{}", "size": {}}},
//!       "layers": [{{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "{}", "size": {}}}]
//!     }}"#,
//!     config.digest, config.size, layer.digest, layer.size,
//! );
//! let tag = Tag::parse("v1")?;
//! let put = repository.put_manifest(&PutManifest::new(document.as_str()).with_tag(tag.clone()), &call)?;
//!
//! // Pull: the manifest by its tag, exactly as it was pushed, then each blob, verified as it is read.
//! let manifest = repository.manifest(&Reference::Tag(tag), ManifestRead::Pull)?;
//! assert_eq!(manifest.digest, put.digest);
//! assert_eq!(manifest.bytes, document.as_bytes());
//! let mut bytes = vec![0; usize::try_from(layer.size)?];
//! repository.blob(&layer.digest)?.read_at(0, &mut bytes)?;
//! assert_eq!(bytes, b"the bytes of a layer");
//!
//! engine.close()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "rocksdb"))]
//! # fn main() {}
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | opening a store, registries, the change log | [`Engine`], [`Registry`] |
//! | uploads in parts or as a stream, resumed after a restart | [`upload`], [`UploadWriter`] |
//! | availability, verified reads, mounts, download tokens | [`blob`], [`BlobReader`] |
//! | manifests, image listings, referrers | [`manifest`], [`PutManifest`] |
//! | tags, their rules and their history | [`tag`] |
//! | what every error means and what to do next | [`ErrorKind`], [`Failure`] |
//! | expiries and removals, which the host drives: call it every second or so | [`Engine::maintain`] |
//! | looking for damage before a client meets it | [`scrub`], [`Engine::scrub_step`] |
//! | time, randomness and threads passed in | [`clock`] |
//! | proving that a store is sound, and mending it | [`check`] |
//! | a store that does not open | [`recovery`], [`Engine::open_read_only`] |
//! | running over other storage | [`store`], [`directory`] |
//!
//! Every mutating call takes a [`Call`]: who acts, and an optional [`OperationId`] under which a retry after a lost
//! answer is told the first outcome instead of acting twice.

pub mod blob;
pub mod call;
pub mod change;
pub mod check;
pub mod clock;
pub mod descriptor;
pub mod digest;
pub mod directory;
pub mod engine;
pub mod error;
pub mod format;
mod hex;
pub mod maintain;
pub mod manifest;
pub mod name;
#[cfg(feature = "rocksdb")]
mod native;
pub mod options;
pub mod page;
mod queue;
pub mod recovery;
pub mod registry;
pub mod repository;
mod room;
pub mod scrub;
pub mod store;
pub mod tag;
mod time;
mod txn;
pub mod upload;

pub use blob::{BlobReader, BlobStatus, DownloadGrant, MountedBlob};
pub use call::{Call, OperationId};
pub use change::Change;
pub use check::{CheckOptions, RepairOptions};
pub use clock::Components;
pub use descriptor::{Descriptor, MediaType};
pub use digest::{Algorithm, Digest};
pub use engine::{Engine, OpenError, Opening, Stores};
pub use error::{ErrorKind, Failure, RepositoryNotFound};
pub use manifest::{DeletedImage, ImageDetail, ImageEntry, ImageId, Manifest, ManifestHead, ManifestPut, ManifestRead};
pub use manifest::{PutManifest, TagChange, TagFilter};
pub use name::{Principal, Reference, RegistryName, RepositoryName, Tag};
pub use options::{Limits, Options, ReadBack};
pub use page::Page;
pub use registry::{DeleteMode, Registry};
pub use repository::{Repository, RepositoryDetail, RepositorySettings, RepositoryUsage};
pub use scrub::{ScrubAlone, ScrubBudget, ScrubFinding, ScrubProgress, Scrubbed};
pub use store::StorageError;
pub use tag::rules::{ExclusionFilter, Mutability, TagMutability};
pub use tag::{TagDetail, TagEvent};
pub use upload::{CompleteUpload, Completed, EmptyUpload, Expected, PartAccepted, PartRange};
pub use upload::{UploadId, UploadStatus, UploadWriter};
