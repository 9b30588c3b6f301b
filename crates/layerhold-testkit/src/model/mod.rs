//! The reference model: what every operation of the engine answers, over plain maps.
//!
//! This is the specification, short enough to be read as one. It knows nothing of transactions, files, caches or time
//! that passes inside a call; one operation happens after another and is done when it is answered. It shares value types
//! with the engine (digests, names, media types, the parsed manifest) and nothing else, so that a fault in the engine's
//! rules cannot hide here as well. `docs/ARCHITECTURE.md` says what the rules are for.
//!
//! Rules that hold everywhere:
//! - A refused operation changes nothing, with one exception: an upload whose digest does not match ends (see
//!   `Model::complete_upload`).
//! - Tests are made in the order in which they stand in each method, and the first that fails is the answer.
//! - A name that was deleted and made again is a new repository; nothing of the old one is seen through it.

use std::collections::BTreeMap;
use std::sync::Arc;

use layerhold::digest::Digest;
use layerhold::name::{RepositoryName, Tag};
use layerhold::tag::rules::TagMutability;

pub mod answer;
mod blob;
mod listing;
mod manifest;
mod upload;

pub use answer::{Answer, Refusal};
pub use listing::RepositoryState;

use self::manifest::Image;
use self::upload::Session;
use crate::operation::request::{RegistryRequest, RepositoryRequest, Request};

/// The quotas that the model judges by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the engine's limits are")]
pub struct Limits {
    pub repositories: u64,
    pub images: u64,
    pub tags_per_image: u64,
    pub upload_parts: u64,
    pub blob_bytes: u64,
    pub part_bytes: u64,
}

impl Limits {
    /// The quotas of a private ECR registry (spec section 4).
    pub fn ecr_private() -> Self {
        Self {
            repositories: 100_000,
            images: 100_000,
            tags_per_image: 1_000,
            upload_parts: 4_200,
            blob_bytes: 52_000 << 20,
            part_bytes: 20_971_520,
        }
    }

    /// Quotas that random operations meet often.
    pub fn small() -> Self {
        Self { repositories: 2, images: 4, tags_per_image: 2, upload_parts: 2, blob_bytes: 200_000, part_bytes: 60_000 }
    }
}

/// The terms after which things expire, in milliseconds of engine time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// An upload session ends this long after it was begun or last took a part.
    pub upload_idle_ms: u64,
    /// A download token ends this long after it was given out.
    pub download_ms: u64,
    /// A pull moves the recorded pull time only this long after the pull that was recorded last.
    pub pull_record_ms: u64,
}

impl Terms {
    /// The terms that test engines are opened with.
    pub const TEST: Self = Self { upload_idle_ms: 3_600_000, download_ms: 3_600_000, pull_record_ms: 3_600_000 };
}

/// A registry with everything in it.
#[derive(Debug, Clone)]
pub struct Model {
    limits: Limits,
    terms: Terms,
    repositories: BTreeMap<RepositoryName, Repository>,
    sessions: BTreeMap<u64, Session>,
    downloads: BTreeMap<u64, Download>,
    repositories_made: u64,
    now: Now,
}

/// The two times at which an operation happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall time, for display.
    pub wall_ms: u64,
    /// Engine time, for terms.
    pub engine_ms: u64,
}

#[derive(Debug, Clone)]
struct Repository {
    /// Which of all repositories ever made this is: ids are never used again.
    incarnation: u64,
    created_ms: u64,
    tag_mutability: TagMutability,
    sparse_images: bool,
    attributes: BTreeMap<String, Vec<u8>>,
    /// The blobs that can be read through this repository.
    links: BTreeMap<Digest, blob::Link>,
    images: BTreeMap<Digest, Image>,
    tags: BTreeMap<Tag, TagRow>,
    /// All moves of each tag, oldest first.
    history: BTreeMap<Tag, Vec<HistoryEntry>>,
}

/// A move of a tag: when, from where, to where.
pub type HistoryEntry = (u64, Option<Digest>, Option<Digest>);

#[derive(Debug, Clone)]
struct TagRow {
    digest: Digest,
    tagged_ms: u64,
}

#[derive(Debug, Clone)]
struct Download {
    bytes: Arc<[u8]>,
    expires_ms: u64,
}

type Outcome = Result<Answer, Refusal>;

impl Model {
    /// A registry without repositories.
    pub fn new(limits: Limits, terms: Terms) -> Self {
        Self {
            limits,
            terms,
            repositories: BTreeMap::new(),
            sessions: BTreeMap::new(),
            downloads: BTreeMap::new(),
            repositories_made: 0,
            now: Now::default(),
        }
    }

    /// What `request` answers at `now`. What happens to the engine as a whole changes no state.
    pub fn answer(&mut self, request: &Request, now: Now) -> Answer {
        use RepositoryRequest as On;
        self.now = now;
        let (name, request) = match request {
            Request::Repository(name, request) => (name, request),
            Request::Registry(RegistryRequest::ListRepositories { .. }) => return self.list_repositories(),
            Request::Registry(RegistryRequest::OpenDownload { grant }) => return said(self.open_download(*grant)),
            Request::Registry(_) => return Answer::Done,
        };
        said(match request {
            On::Create { tag_mutability, sparse_images } => {
                self.create_repository(name, tag_mutability, *sparse_images)
            }
            On::Delete { force } => self.delete_repository(name, *force),
            On::Describe => self.repository(name).map(|repository| Answer::Repository(repository.facts(name))),
            On::PutTagMutability { tag_mutability } => {
                self.update(name, |it| it.tag_mutability = tag_mutability.clone())
            }
            On::PutAttributes { attributes } => self.update(name, |it| it.attributes = attributes.clone()),
            On::BeginUpload { session, algorithm, caller } => self.begin_upload(name, *session, *algorithm, caller),
            On::AppendPart { session, caller, first_byte, declared, bytes } => {
                self.append_part(name, *session, caller, *first_byte, *declared, bytes)
            }
            On::StreamUpload { session, caller, first_byte, bytes, end } => {
                self.stream_upload(name, *session, caller, *first_byte, bytes, end)
            }
            On::UploadStatus { session, caller } => self.upload_status(name, *session, caller),
            On::CompleteUpload { session, caller, complete } => self.complete_upload(name, *session, caller, complete),
            On::CancelUpload { session, caller } => self.cancel_upload(name, *session, caller),
            On::PutBlob { bytes, expected } => self.put_blob(name, bytes, expected),
            On::CheckBlobs { digests } => self.check_blobs(name, digests),
            On::ReadBlob { digest, offset, len } => self.read_blob(name, digest, *offset, *len),
            On::MountBlob { digest, from } => self.mount_blob(name, digest, from),
            On::DeleteBlob { digest } => self.delete_blob(name, digest),
            On::GrantDownload { grant, digest } => self.grant_download(name, *grant, digest),
            On::PutManifest(put) => self.put_manifest(name, put),
            On::GetManifest { reference, pull } => self.get_manifest(name, reference, *pull),
            On::HeadManifest { reference } => self.head_manifest(name, reference),
            On::DeleteImage { image } => self.delete_image(name, image),
            On::Untag { tag } => self.untag(name, tag),
            On::ResolveImage { image } => self.resolve_image(name, image),
            On::ListTags { .. } => self.list_tags(name, ""),
            On::ListTagsAfter { last, .. } => self.list_tags(name, last),
            On::ListImages { tagged, .. } => self.list_images(name, *tagged),
            On::DescribeImages { tagged, .. } => self.describe_images(name, *tagged),
            On::DescribeImage { image } => self.describe_image(name, image),
            On::ListReferrers { subject, artifact_types, .. } => self.list_referrers(name, subject, artifact_types),
            On::TagHistory { tag, .. } => self.tag_history(name, tag),
        })
    }

    /// Names are unique, and there is a quota of them.
    fn create_repository(
        &mut self,
        name: &RepositoryName,
        tag_mutability: &TagMutability,
        sparse_images: bool,
    ) -> Outcome {
        if self.repositories.contains_key(name) {
            return Err(Refusal::RepositoryAlreadyExists);
        }
        if self.repositories.len() as u64 >= self.limits.repositories {
            return Err(Refusal::RepositoryLimit { limit: self.limits.repositories });
        }
        self.repositories_made += 1;
        let repository = Repository {
            incarnation: self.repositories_made,
            created_ms: self.now.wall_ms,
            tag_mutability: tag_mutability.clone(),
            sparse_images,
            attributes: BTreeMap::new(),
            links: BTreeMap::new(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            history: BTreeMap::new(),
        };
        let facts = repository.facts(name);
        self.repositories.insert(name.clone(), repository);
        Ok(Answer::Repository(facts))
    }

    /// Images stand in the way unless forced; blobs without images do not. The answer is the repository as it was. Its
    /// upload sessions end with it; download tokens go on.
    fn delete_repository(&mut self, name: &RepositoryName, force: bool) -> Outcome {
        let repository = self.repository(name)?;
        if !force && !repository.images.is_empty() {
            return Err(Refusal::RepositoryNotEmpty { images: repository.images.len() as u64 });
        }
        let (facts, incarnation) = (repository.facts(name), repository.incarnation);
        self.sessions.retain(|_, session| session.repository != incarnation);
        self.repositories.remove(name);
        Ok(Answer::Repository(facts))
    }

    /// Settings are replaced as a whole, at once, and without looking at what is stored.
    fn update(&mut self, name: &RepositoryName, change: impl FnOnce(&mut Repository)) -> Outcome {
        let repository = self.repository_mut(name)?;
        change(repository);
        Ok(Answer::Repository(repository.facts(name)))
    }

    fn repository(&self, name: &RepositoryName) -> Result<&Repository, Refusal> {
        self.repositories.get(name).ok_or(Refusal::RepositoryNotFound)
    }

    fn repository_mut(&mut self, name: &RepositoryName) -> Result<&mut Repository, Refusal> {
        self.repositories.get_mut(name).ok_or(Refusal::RepositoryNotFound)
    }
}

impl Repository {
    fn facts(&self, name: &RepositoryName) -> answer::RepositoryFacts {
        answer::RepositoryFacts {
            name: name.clone(),
            created_ms: self.created_ms,
            tag_mutability: format!("{:?}", self.tag_mutability),
            sparse_images: self.sparse_images,
            attributes: self.attributes.clone(),
            images: self.images.len() as u64,
            tags: self.tags.len() as u64,
            blobs: self.links.len() as u64,
            logical_bytes: self.links.values().map(|link| link.bytes.len() as u64).sum(),
        }
    }
}

fn said(outcome: Outcome) -> Answer {
    outcome.unwrap_or_else(Answer::Refused)
}
