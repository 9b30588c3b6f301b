//! Requests: what an operation asks for once the state it refers to is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use layerhold::descriptor::MediaType;
use layerhold::digest::{Algorithm, Digest};
use layerhold::name::{Principal, Reference, RepositoryName, Tag};
use layerhold::tag::rules::TagMutability;

use crate::model::{Answer, Refusal};

use super::{Declared, ExpectedDigest, ExpectedManifest, Image, Operation, Position, Share, StreamEnd, Through, pool};

/// One call of the engine, or one thing that happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A call on the registry or on the harness.
    Registry(RegistryRequest),
    /// A call on a repository.
    Repository(RepositoryName, RepositoryRequest),
}

impl Request {
    /// The upload that it is about.
    pub(crate) fn session(&self) -> Option<u64> {
        use RepositoryRequest as On;
        let Self::Repository(_, request) = self else { return None };
        match request {
            On::BeginUpload { session, .. }
            | On::AppendPart { session, .. }
            | On::StreamUpload { session, .. }
            | On::UploadStatus { session, .. }
            | On::CompleteUpload { session, .. }
            | On::CancelUpload { session, .. } => Some(*session),
            _ => None,
        }
    }
}

/// A call on the registry, or something that happens to the whole engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each carries the arguments of the call that it is named for")]
pub enum RegistryRequest {
    ListRepositories { limit: u32 },
    OpenDownload { grant: u64 },
    Repeat,
    AdvanceClock { ms: u64 },
    Maintain,
    Reopen { close: bool },
}

/// A call on one repository. Upload sessions and download tokens are called by the number in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each carries the arguments of the call that it is named for")]
pub enum RepositoryRequest {
    Create { tag_mutability: TagMutability, sparse_images: bool },
    Delete { force: bool },
    Describe,
    PutTagMutability { tag_mutability: TagMutability },
    PutAttributes { attributes: BTreeMap<String, Vec<u8>> },
    BeginUpload { session: u64, algorithm: Algorithm, caller: Principal },
    AppendPart { session: u64, caller: Principal, first_byte: u64, declared: u64, bytes: Arc<[u8]> },
    StreamUpload { session: u64, caller: Principal, first_byte: Option<u64>, bytes: Arc<[u8]>, end: StreamFinish },
    UploadStatus { session: u64, caller: Principal },
    CompleteUpload { session: u64, caller: Principal, complete: Complete },
    CancelUpload { session: u64, caller: Principal },
    PutBlob { bytes: Arc<[u8]>, expected: Expected },
    CheckBlobs { digests: Vec<Digest> },
    ReadBlob { digest: Digest, offset: u64, len: u64 },
    MountBlob { digest: Digest, from: RepositoryName },
    DeleteBlob { digest: Digest },
    GrantDownload { grant: u64, digest: Digest },
    PutManifest(PutManifest),
    GetManifest { reference: Reference, pull: bool },
    HeadManifest { reference: Reference },
    DeleteImage { image: ImageName },
    Untag { tag: Tag },
    ResolveImage { image: ImageName },
    ListTags { limit: u32 },
    ListTagsAfter { last: String, limit: u32 },
    ListImages { tagged: Option<bool>, limit: u32 },
    DescribeImages { tagged: Option<bool>, limit: u32 },
    DescribeImage { image: ImageName },
    ListReferrers { subject: Digest, artifact_types: Vec<String>, limit: u32 },
    TagHistory { tag: Tag, limit: u32 },
}

/// How a streamed body ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamFinish {
    /// What came is kept and the session stays open.
    Finish,
    /// What came is kept and completed in the same commit.
    Complete(Complete),
    /// The first half is committed, the second half is written and dropped.
    CommitAndDrop,
}

/// The arguments of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// Which digests the client accepts.
    pub expected: Expected,
    /// The least length of every part but the last.
    pub part_bytes_min: Option<u64>,
    /// Whether an upload without bytes is refused.
    pub refuse_empty: bool,
}

/// Which digests a client accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever comes out.
    Computed,
    /// This one.
    Digest(Digest),
    /// One of these, which is a SHA-256 digest whatever the session's algorithm.
    AnyOf(Vec<Digest>),
}

/// The arguments of a put.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the engine")]
pub struct PutManifest {
    pub what: &'static str,
    pub bytes: Vec<u8>,
    pub media_type: Option<MediaType>,
    pub tags: Vec<Tag>,
    pub expected: Option<Digest>,
    pub schema1: bool,
}

/// An image by tag, by digest or by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// By a tag.
    Tag(Tag),
    /// By a digest.
    Digest(Digest),
    /// By both, which must agree.
    Both(Tag, Digest),
}

impl From<Reference> for ImageName {
    fn from(reference: Reference) -> Self {
        match reference {
            Reference::Tag(tag) => Self::Tag(tag),
            Reference::Digest(digest) => Self::Digest(digest),
        }
    }
}

/// What an operation may refer to: the uploads and download tokens so far.
#[derive(Debug, Default, Clone)]
pub struct Past {
    /// Every upload, in the order in which they were begun.
    pub uploads: Vec<UploadPast>,
    /// How many download tokens were asked for.
    pub grants: u64,
}

/// What an operation needs to know of an upload to go on with it.
#[derive(Debug, Clone)]
pub struct UploadPast {
    /// Where it was begun.
    pub repository: u8,
    /// By whom.
    pub caller: u8,
    /// With which algorithm.
    pub algorithm: Algorithm,
    /// Which content it is meant to carry.
    pub content: u8,
    /// Where each accepted part began, and what it carried.
    pub parts: Vec<(u64, Arc<[u8]>)>,
    /// Whether an answer said that it is gone.
    pub ended: bool,
}

impl UploadPast {
    fn new(repository: u8, caller: u8, algorithm: Algorithm, content: u8) -> Self {
        Self { repository, caller, algorithm, content, parts: Vec::new(), ended: false }
    }

    fn offset(&self) -> u64 {
        self.parts.last().map_or(0, |(first_byte, bytes)| first_byte + bytes.len() as u64)
    }

    /// First byte and bytes of a part.
    fn part(&self, at: Position, share: Share) -> (u64, Arc<[u8]>) {
        let content = &pool::content(self.content).bytes;
        let first_byte = match at {
            Position::Next => self.offset(),
            Position::Gap => self.offset() + 1,
            Position::Start => 0,
            Position::Latest => match self.parts.last() {
                Some((first_byte, bytes)) => return (*first_byte, Arc::clone(bytes)),
                None => 0,
            },
        };
        let start = usize::try_from(first_byte).unwrap_or(usize::MAX).min(content.len());
        let rest = &content[start..];
        let bytes = match share {
            Share::Rest => rest.into(),
            Share::Half => rest[..rest.len().div_ceil(2)].into(),
            Share::One => rest[..rest.len().min(1)].into(),
            Share::Nothing => Arc::default(),
            Share::Over => [rest, b"over"].concat().into(),
            Share::Wrong => rest.iter().map(|byte| !byte).collect(),
        };
        (first_byte, bytes)
    }

    fn complete(&self, expected: ExpectedDigest, minimum: bool, refuse_empty: bool) -> Complete {
        Complete {
            expected: expected_digest(expected, self.content, self.algorithm),
            part_bytes_min: minimum.then_some(500),
            refuse_empty,
        }
    }

    fn name_and_caller(&self, through: Through) -> (RepositoryName, Principal) {
        match through {
            Through::Own => (pool::repository(self.repository), pool::principal(self.caller)),
            Through::OtherRepository => (pool::repository(self.repository + 1), pool::principal(self.caller)),
            Through::OtherCaller => (pool::repository(self.repository), pool::principal(self.caller + 1)),
        }
    }
}

impl Operation {
    /// The requests this operation stands for. Uploads and tokens it refers to and that nobody made give none.
    pub fn requests(&self, past: &mut Past) -> Vec<Request> {
        use RepositoryRequest as On;
        let (repository, request) = match *self {
            Self::ListRepositories { limit } => {
                return alone(RegistryRequest::ListRepositories { limit: limit.into() });
            }
            Self::OpenDownload { grant } => {
                let grant = past.grants.checked_sub(1 + u64::from(grant));
                return grant.map_or_else(Vec::new, |grant| alone(RegistryRequest::OpenDownload { grant }));
            }
            Self::Repeat => return alone(RegistryRequest::Repeat),
            Self::AdvanceClock { step } => return alone(RegistryRequest::AdvanceClock { ms: clock_step_ms(step) }),
            Self::Maintain => return alone(RegistryRequest::Maintain),
            Self::Reopen { close } => return alone(RegistryRequest::Reopen { close }),
            Self::AppendPart { upload, through, at, share, declared } => {
                let mut requests = begin_where_none_is_open(past);
                let Some((session, upload)) = nth_latest(past, upload) else { return requests };
                let ((name, caller), (first_byte, bytes)) = (upload.name_and_caller(through), upload.part(at, share));
                let declared = match declared {
                    Declared::Right => bytes.len() as u64,
                    Declared::Short => (bytes.len() as u64).saturating_sub(1),
                    Declared::Long => bytes.len() as u64 + 1,
                };
                let request = On::AppendPart { session, caller, first_byte, declared, bytes };
                requests.push(Request::Repository(name, request));
                return requests;
            }
            Self::StreamUpload { upload, through, at, share, end } => {
                let mut requests = begin_where_none_is_open(past);
                let Some((session, upload)) = nth_latest(past, upload) else { return requests };
                let (name, caller) = upload.name_and_caller(through);
                let (first_byte, bytes) = upload.part(at.unwrap_or(Position::Next), share);
                let end = match end {
                    StreamEnd::Finish => StreamFinish::Finish,
                    StreamEnd::Complete => StreamFinish::Complete(upload.complete(ExpectedDigest::Right, false, false)),
                    StreamEnd::CommitAndDrop => StreamFinish::CommitAndDrop,
                };
                let request = On::StreamUpload { session, caller, first_byte: at.map(|_| first_byte), bytes, end };
                requests.push(Request::Repository(name, request));
                return requests;
            }
            Self::UploadStatus { upload, through } => {
                let Some((session, upload)) = nth_latest(past, upload) else { return Vec::new() };
                let (name, caller) = upload.name_and_caller(through);
                return vec![Request::Repository(name, On::UploadStatus { session, caller })];
            }
            Self::CompleteUpload { upload, through, expected, minimum, refuse_empty } => {
                let Some((session, upload)) = nth_latest(past, upload) else { return Vec::new() };
                let (name, caller) = upload.name_and_caller(through);
                let complete = upload.complete(expected, minimum, refuse_empty);
                return vec![Request::Repository(name, On::CompleteUpload { session, caller, complete })];
            }
            Self::CancelUpload { upload, through } => {
                let Some((session, upload)) = nth_latest(past, upload) else { return Vec::new() };
                let (name, caller) = upload.name_and_caller(through);
                return vec![Request::Repository(name, On::CancelUpload { session, caller })];
            }
            Self::PushImage { repository, document, tag } => {
                let name = pool::repository(repository);
                let mut requests = Vec::new();
                push_image(&name, document, tag, &mut requests);
                return requests;
            }
            Self::CreateRepository { repository, mutability, sparse } => {
                (repository, On::Create { tag_mutability: pool::mutability(mutability), sparse_images: sparse })
            }
            Self::DeleteRepository { repository, force } => (repository, On::Delete { force }),
            Self::DescribeRepository { repository } => (repository, On::Describe),
            Self::PutTagMutability { repository, mutability } => {
                (repository, On::PutTagMutability { tag_mutability: pool::mutability(mutability) })
            }
            Self::PutAttributes { repository, value } => {
                let attributes = (0..value).map(|n| (format!("example.key{n}"), pool::noise(u64::from(n) + 90, 9)));
                (repository, On::PutAttributes { attributes: attributes.collect() })
            }
            Self::BeginUpload { repository, content, sha512, caller } => {
                let algorithm = if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
                (repository, begin(past, UploadPast::new(repository, caller, algorithm, content)))
            }
            Self::PutBlob { repository, content, expected } => {
                let expected = expected_digest(expected, content, Algorithm::Sha256);
                (repository, On::PutBlob { bytes: Arc::clone(&pool::content(content).bytes), expected })
            }
            Self::CheckBlobs { repository, blobs } => {
                (repository, On::CheckBlobs { digests: blobs.map(pool::blob_digest).to_vec() })
            }
            Self::ReadBlob { repository, blob, offset, len } => {
                (repository, On::ReadBlob { digest: pool::blob_digest(blob), offset: offset.into(), len: len.into() })
            }
            Self::MountBlob { repository, from, blob } => {
                (repository, On::MountBlob { digest: pool::blob_digest(blob), from: pool::repository(from) })
            }
            Self::DeleteBlob { repository, blob } => (repository, On::DeleteBlob { digest: pool::blob_digest(blob) }),
            Self::GrantDownload { repository, blob } => {
                let grant = past.grants;
                past.grants += 1;
                (repository, On::GrantDownload { grant, digest: pool::blob_digest(blob) })
            }
            Self::PutManifest { repository, document, ref tags, expected } => {
                let document = pool::document(document);
                let expected = match expected {
                    ExpectedManifest::Any => None,
                    ExpectedManifest::Right => Some(document.digest),
                    ExpectedManifest::Wrong => Some(pool::never()),
                };
                (repository, On::PutManifest(put(document, tags.iter().copied(), expected)))
            }
            Self::GetManifest { repository, image, pull } => {
                (repository, On::GetManifest { reference: reference(image), pull })
            }
            Self::HeadManifest { repository, image } => (repository, On::HeadManifest { reference: reference(image) }),
            Self::DeleteImage { repository, image } => (repository, On::DeleteImage { image: image_name(image) }),
            Self::Untag { repository, tag } => (repository, On::Untag { tag: pool::tag(tag) }),
            Self::ResolveImage { repository, image } => (repository, On::ResolveImage { image: image_name(image) }),
            Self::ListTags { repository, limit } => (repository, On::ListTags { limit: limit.into() }),
            Self::ListTagsAfter { repository, last, limit } => {
                (repository, On::ListTagsAfter { last: pool::last(last).to_owned(), limit: limit.into() })
            }
            Self::ListImages { repository, filter, limit } => {
                (repository, On::ListImages { tagged: tagged(filter), limit: limit.into() })
            }
            Self::DescribeImages { repository, filter, limit } => {
                (repository, On::DescribeImages { tagged: tagged(filter), limit: limit.into() })
            }
            Self::DescribeImage { repository, image } => (repository, On::DescribeImage { image: image_name(image) }),
            Self::ListReferrers { repository, subject, ref artifact_types, limit } => {
                let artifact_types = artifact_types.iter().map(|&n| pool::artifact_type(n).to_owned()).collect();
                let subject = pool::document_digest(subject);
                (repository, On::ListReferrers { subject, artifact_types, limit: limit.into() })
            }
            Self::TagHistory { repository, tag, limit } => {
                (repository, On::TagHistory { tag: pool::tag(tag), limit: limit.into() })
            }
        };
        vec![Request::Repository(pool::repository(repository), request)]
    }
}

/// How long a step of the clock is. No sum of few steps is a whole number of any term, so that no test depends on which
/// side of a limit the last millisecond falls.
fn clock_step_ms(step: u8) -> u64 {
    [3_001, 421_013, 3_660_007, 93_600_011][usize::from(step) % 4]
}

fn alone(request: RegistryRequest) -> Vec<Request> {
    vec![Request::Registry(request)]
}

fn begin(past: &mut Past, upload: UploadPast) -> RepositoryRequest {
    let session = past.uploads.len() as u64;
    let (algorithm, caller) = (upload.algorithm, pool::principal(upload.caller));
    past.uploads.push(upload);
    RepositoryRequest::BeginUpload { session, algorithm, caller }
}

/// An upload to append to, so that most parts find one.
fn begin_where_none_is_open(past: &mut Past) -> Vec<Request> {
    if past.uploads.iter().any(|upload| !upload.ended) {
        return Vec::new();
    }
    let content = u8::try_from(past.uploads.len() % usize::from(pool::CONTENT_COUNT)).unwrap_or(0);
    let request = begin(past, UploadPast::new(0, 0, Algorithm::Sha256, content));
    vec![Request::Repository(pool::repository(0), request)]
}

/// The n-th latest upload that is still open, or else the n-th latest that is not.
fn nth_latest(past: &Past, upload: u8) -> Option<(u64, &UploadPast)> {
    let latest_first = || (0_u64..).zip(&past.uploads).collect::<Vec<_>>().into_iter().rev();
    let open = latest_first().filter(|(_, upload)| !upload.ended);
    let ended = latest_first().filter(|(_, upload)| upload.ended);
    open.chain(ended).nth(usize::from(upload))
}

fn image_name(image: Image) -> ImageName {
    match image {
        Image::Tag(tag) => ImageName::Tag(pool::tag(tag)),
        Image::Digest(document) => ImageName::Digest(pool::document_digest(document)),
        Image::Both(tag, document) => ImageName::Both(pool::tag(tag), pool::document_digest(document)),
    }
}

/// One name alone: of two, the digest.
fn reference(image: Image) -> Reference {
    match image_name(image) {
        ImageName::Tag(tag) => tag.into(),
        ImageName::Digest(digest) | ImageName::Both(_, digest) => digest.into(),
    }
}

fn tagged(filter: u8) -> Option<bool> {
    [None, Some(true), Some(false)][usize::from(filter) % 3]
}

fn expected_digest(expected: ExpectedDigest, content: u8, algorithm: Algorithm) -> Expected {
    let (right, wrong) = (pool::content(content), pool::content(content.wrapping_add(1)));
    let other = if algorithm == Algorithm::Sha256 { Algorithm::Sha512 } else { Algorithm::Sha256 };
    match expected {
        ExpectedDigest::Computed => Expected::Computed,
        ExpectedDigest::Right => Expected::Digest(right.digest(algorithm)),
        ExpectedDigest::OtherAlgorithm => Expected::Digest(right.digest(other)),
        ExpectedDigest::Wrong => Expected::Digest(wrong.digest(algorithm)),
        ExpectedDigest::AnyWithRight => Expected::AnyOf(vec![wrong.digest(algorithm), right.digest(Algorithm::Sha256)]),
        ExpectedDigest::AnyWrong => Expected::AnyOf(vec![wrong.digest(algorithm), right.digest(Algorithm::Sha512)]),
    }
}

fn put(document: &pool::Document, tags: impl Iterator<Item = u8>, expected: Option<Digest>) -> PutManifest {
    PutManifest {
        what: document.what,
        bytes: document.bytes.clone(),
        media_type: document.media_type.clone(),
        tags: tags.map(pool::tag).collect(),
        expected,
        schema1: document.schema1,
    }
}

/// Children first, as clients do. No document needs itself, because none can name its own digest.
fn push_image(name: &RepositoryName, document: u8, tag: Option<u8>, requests: &mut Vec<Request>) {
    let document = pool::document(document);
    for &child in &document.documents {
        push_image(name, child, None, requests);
    }
    for &content in &document.contents {
        let content = pool::content(content);
        let request = RepositoryRequest::PutBlob {
            bytes: Arc::clone(&content.bytes),
            expected: Expected::Digest(content.sha256),
        };
        requests.push(Request::Repository(name.clone(), request));
    }
    let request = RepositoryRequest::PutManifest(put(document, tag.into_iter(), None));
    requests.push(Request::Repository(name.clone(), request));
}

impl Past {
    /// Notes what a request was answered, so that later operations can go on from there.
    pub fn note(&mut self, request: &Request, answer: &Answer) {
        use RepositoryRequest as On;
        let Request::Repository(_, request) = request else { return };
        let (session, bytes) = match request {
            On::AppendPart { session, bytes, .. } | On::StreamUpload { session, bytes, .. } => (session, &bytes[..]),
            On::CompleteUpload { session, .. } | On::CancelUpload { session, .. } => (session, [].as_slice()),
            On::BeginUpload { session, .. } if matches!(answer, Answer::Refused(_)) => (session, [].as_slice()),
            _ => return,
        };
        let upload = usize::try_from(*session).ok().and_then(|number| self.uploads.get_mut(number));
        let Some(upload) = upload else { return };
        match answer {
            Answer::Accepted { durable_offset } => {
                let first_byte = upload.offset();
                let len = usize::try_from(durable_offset - first_byte).unwrap_or(usize::MAX).min(bytes.len());
                upload.parts.push((first_byte, bytes[..len].into()));
            }
            Answer::Done
            | Answer::Completed { .. }
            | Answer::Refused(Refusal::UploadDigestMismatch { .. } | Refusal::RepositoryNotFound) => {
                upload.ended = true
            }
            _ => {}
        }
    }
}
