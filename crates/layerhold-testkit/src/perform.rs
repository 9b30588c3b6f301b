//! Makes requests of an engine and puts what it answers into the model's words.

use std::collections::{BTreeMap, BTreeSet};

use layerhold::blob::{self, BlobReader, BlobStatus};
use layerhold::call::Call;
use layerhold::digest::Digest;
use layerhold::error::Failure;
use layerhold::manifest::{self, ImageDetail, ImageId, ManifestRead, TagChange, TagFilter};
use layerhold::name::RepositoryName;
use layerhold::page::Page;
use layerhold::registry::{DeleteMode, Registry};
use layerhold::repository::{self, Repository, RepositoryDetail, RepositorySettings};
use layerhold::tag;
use layerhold::upload::{
    self, AppendError, CompleteError, CompleteUpload, EmptyUpload, Expected as EngineExpected, PartRange, UploadId,
};

use crate::model::answer::{BlobFacts, ImageFacts, ReferrerFacts, RepositoryFacts, TagFacts, TagMove};
use crate::model::{Answer, HistoryEntry, Refusal, RepositoryState, Terms};
use crate::operation::pool;
use crate::operation::request::{
    Complete, Expected, ImageName, PutManifest, RegistryRequest, RepositoryRequest, Request, StreamFinish,
};

/// More pages than any listing of a test has: one that goes on for longer goes round in circles.
const PAGES_MAX: usize = 10_000;

/// Upload ids and download tokens by the number in which they were asked for.
#[derive(Debug, Default, Clone)]
pub struct Handles {
    uploads: BTreeMap<u64, UploadId>,
    downloads: BTreeMap<u64, String>,
}

impl Handles {
    /// An id that was never given out stands for an upload that was refused.
    fn upload(&self, number: u64) -> UploadId {
        self.uploads.get(&number).copied().unwrap_or(UploadId([0xee; 16]))
    }

    /// The id of the upload with this number, if it was begun.
    pub fn upload_id(&self, number: u64) -> Option<UploadId> {
        self.uploads.get(&number).copied()
    }

    /// The download token with this number, if it was given out.
    pub fn download_token(&self, number: u64) -> Option<&str> {
        self.downloads.get(&number).map(String::as_str)
    }

    /// Knows an upload that another process began.
    pub fn know_upload(&mut self, number: u64, id: UploadId) {
        self.uploads.insert(number, id);
    }

    /// Knows a download token that another process was given.
    pub fn know_download(&mut self, number: u64, token: String) {
        self.downloads.insert(number, token);
    }

    /// The recorded pull time of an image.
    pub fn last_pull_ms(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        repository.describe_image(&ImageId::Digest(*digest)).ok().and_then(|detail| detail.last_pull_ms)
    }
}

/// Asks `registry` for what `request` says. What happens to the engine as a whole is the caller's work.
///
/// # Errors
/// What no rule of the registry explains: the storage failed, or the engine did.
pub fn perform(registry: &Registry, handles: &mut Handles, request: &Request, call: &Call) -> Result<Answer, Failure> {
    match request {
        Request::Registry(request) => on_registry(registry, handles, request),
        Request::Repository(name, request) => said(on_repository(registry, handles, name, request, call)),
    }
}

/// Everything that can be seen of a registry. Of blobs it looks for the digests of the pool and for those given: there is
/// no call that lists them, but usage counts them.
///
/// # Errors
/// [`Unread`].
pub fn state(
    registry: &Registry,
    blobs_known: &BTreeSet<Digest>,
) -> Result<BTreeMap<RepositoryName, RepositoryState>, Unread> {
    state_with(registry, blobs_known, None)
}

/// The same where one blob may be found damaged: then it counts as what it should be.
pub(crate) fn state_with(
    registry: &Registry,
    blobs_known: &BTreeSet<Digest>,
    spoiled: Option<&pool::Content>,
) -> Result<BTreeMap<RepositoryName, RepositoryState>, Unread> {
    let mut state = BTreeMap::new();
    for detail in all_repositories(registry, 3)? {
        let (repository, facts) = (registry.repository(&detail.name), repository_facts(detail));
        let read = || -> Result<RepositoryState, Said> {
            let Answer::Tags(tags) = list_tags(&repository, None, 1_000)? else { unreachable!("tags were listed") };
            let images = describe_images(&repository, None, 1_000)?;
            let mut manifests = BTreeMap::new();
            for image in &images {
                let manifest = repository.manifest(&image.digest.into(), ManifestRead::Peek)?;
                manifests.insert(image.digest, manifest.bytes.to_vec());
            }
            let mut blobs = BTreeMap::new();
            for digest in pool::all_blob_digests().chain(blobs_known.iter().copied()) {
                let spoiled = spoiled.filter(|content| content.sha256 == digest);
                match (repository.blob(&digest), spoiled) {
                    (Ok(reader), spoiled) => {
                        let bytes = match (read(&reader, 0, u64::MAX), spoiled) {
                            (Err(Said::Refused(Refusal::Unexpected(text))), Some(content))
                                if text.starts_with("corrupt") =>
                            {
                                content.bytes.to_vec()
                            }
                            (bytes, _) => bytes?,
                        };
                        blobs.insert(digest, bytes);
                    }
                    (Err(blob::OpenError::NotFound { .. }), _) => {}
                    (Err(blob::OpenError::Corrupt { .. }), Some(content)) => {
                        drop(blobs.insert(digest, content.bytes.to_vec()))
                    }
                    (Err(error), _) => return Err(error.into()),
                }
            }
            let mut history = BTreeMap::new();
            for tag in pool::all_tags() {
                let moves = tag_history(&repository, &tag, 1_000)?;
                if !moves.is_empty() {
                    history.insert(tag, moves);
                }
            }
            Ok(RepositoryState { facts: facts.clone(), tags, images, manifests, blobs, history })
        };
        match read() {
            Ok(repository) => drop(state.insert(facts.name.clone(), repository)),
            Err(Said::Failed(failure)) => return Err(failure.into()),
            Err(Said::Refused(refusal)) => return Err(Unread::Refused(facts.name.clone(), refusal)),
        }
    }
    Ok(state)
}

/// Why not everything could be looked at.
#[derive(Debug)]
pub enum Unread {
    /// The storage failed, or the engine did.
    Failed(Failure),
    /// Something of a repository that is listed was refused.
    Refused(RepositoryName, Refusal),
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What an error of the engine says.
enum Said {
    Refused(Refusal),
    Failed(Failure),
}

fn said(result: Result<Answer, Said>) -> Result<Answer, Failure> {
    match result {
        Ok(answer) => Ok(answer),
        Err(Said::Refused(refusal)) => Ok(Answer::Refused(refusal)),
        Err(Said::Failed(failure)) => Err(failure),
    }
}

fn on_registry(registry: &Registry, handles: &Handles, request: &RegistryRequest) -> Result<Answer, Failure> {
    match request {
        RegistryRequest::ListRepositories { limit } => {
            let repositories = all_repositories(registry, *limit)?;
            Ok(Answer::Repositories(repositories.into_iter().map(repository_facts).collect()))
        }
        RegistryRequest::OpenDownload { grant } => {
            let Some(token) = handles.downloads.get(grant) else { return Ok(Answer::Refused(Refusal::GrantExpired)) };
            said(match registry.engine().open_download(token) {
                Ok(reader) => read(&reader, 0, u64::MAX).map(Answer::Bytes),
                Err(error) => Err(error.into()),
            })
        }
        _ => Ok(Answer::Done),
    }
}

fn on_repository(
    registry: &Registry,
    handles: &mut Handles,
    name: &RepositoryName,
    request: &RepositoryRequest,
    call: &Call,
) -> Result<Answer, Said> {
    use RepositoryRequest as On;
    let repository = registry.repository(name);
    let by = |caller: &layerhold::name::Principal| Call { principal: caller.clone(), ..call.clone() };
    Ok(match request {
        On::Create { tag_mutability, sparse_images } => {
            let settings = RepositorySettings {
                tag_mutability: tag_mutability.clone(),
                sparse_images: *sparse_images,
                ..RepositorySettings::default()
            };
            Answer::Repository(repository_facts(registry.create_repository(name, &settings, call)?))
        }
        On::Delete { force } => {
            let mode = if *force { DeleteMode::Force } else { DeleteMode::IfEmpty };
            Answer::Repository(repository_facts(registry.delete_repository(name, mode, call)?))
        }
        On::Describe => Answer::Repository(repository_facts(repository.describe()?)),
        On::PutTagMutability { tag_mutability } => {
            Answer::Repository(repository_facts(repository.put_tag_mutability(tag_mutability, call)?))
        }
        On::PutAttributes { attributes } => {
            Answer::Repository(repository_facts(repository.put_attributes(attributes, call)?))
        }
        On::BeginUpload { session, algorithm, caller } => {
            handles.uploads.insert(*session, repository.begin_upload(*algorithm, &by(caller))?);
            Answer::Done
        }
        On::AppendPart { session, caller, first_byte, declared, bytes } => {
            let range = PartRange { first_byte: *first_byte, len: *declared };
            let part = repository.append_part(&handles.upload(*session), range, bytes.clone(), &by(caller))?;
            Answer::Accepted { durable_offset: part.durable_offset }
        }
        On::StreamUpload { session, caller, first_byte, bytes, end } => {
            let mut writer = repository.upload_writer(&handles.upload(*session), *first_byte, &by(caller))?;
            let (first_half, second_half) = bytes.split_at(bytes.len() / 2);
            match end {
                StreamFinish::Finish => {
                    writer.write_owned(bytes.clone())?;
                    Answer::Accepted { durable_offset: writer.finish()? }
                }
                StreamFinish::Complete(complete) => {
                    writer.write_owned(bytes.clone())?;
                    completed(writer.complete(&complete_upload(complete))?)
                }
                StreamFinish::CommitAndDrop => {
                    writer.write(first_half)?;
                    let durable_offset = writer.commit()?;
                    writer.write_owned(second_half.to_vec())?;
                    Answer::Accepted { durable_offset }
                }
            }
        }
        On::UploadStatus { session, caller } => {
            let status = repository.upload_status(&handles.upload(*session), &by(caller))?;
            Answer::Session { offset: status.offset, parts: status.parts.into(), algorithm: status.algorithm }
        }
        On::CompleteUpload { session, caller, complete } => {
            let id = handles.upload(*session);
            completed(repository.complete_upload(&id, &complete_upload(complete), &by(caller))?)
        }
        On::CancelUpload { session, caller } => {
            repository.cancel_upload(&handles.upload(*session), &by(caller))?;
            Answer::Done
        }
        On::PutBlob { bytes, expected } => completed(repository.put_blob(bytes, &engine_expected(expected), call)?),
        On::CheckBlobs { digests } => {
            let facts = repository.check_blobs(digests)?.into_iter().map(|status| match status {
                BlobStatus::Present { size, media_type } => Some(BlobFacts { size, media_type }),
                _ => None,
            });
            Answer::Blobs(facts.collect())
        }
        On::ReadBlob { digest, offset, len } => {
            let reader = repository.blob(digest)?;
            assert_eq!(reader.digest(), *digest, "a reader says what it reads");
            Answer::Bytes(read(&reader, *offset, *len)?)
        }
        On::MountBlob { digest, from } => {
            let mounted = repository.mount_blob(digest, from, call)?;
            Answer::Mounted { size: mounted.size, already_linked: mounted.already_linked }
        }
        On::DeleteBlob { digest } => {
            repository.delete_blob(digest, call)?;
            Answer::Done
        }
        On::GrantDownload { grant, digest } => {
            let granted = repository.grant_download(digest, Terms::TEST.download_ms)?;
            handles.downloads.insert(*grant, granted.token);
            Answer::Granted { expires_ms: granted.expires_ms, referenced: granted.referenced }
        }
        On::PutManifest(put) => {
            let put = repository.put_manifest(&engine_put(put), call)?;
            let tags = put.tags.into_iter().map(|(tag, change)| {
                let change = match change {
                    TagChange::Created => TagMove::Created,
                    TagChange::AlreadyThere => TagMove::AlreadyThere,
                    TagChange::Moved { from } => TagMove::Moved { from },
                };
                (tag, change)
            });
            Answer::ManifestPut {
                digest: put.digest,
                media_type: put.media_type,
                created: put.created,
                tags: tags.collect(),
                subject: put.subject,
            }
        }
        On::GetManifest { reference, pull } => {
            let read = if *pull { ManifestRead::Pull } else { ManifestRead::Peek };
            let manifest = repository.manifest(reference, read)?;
            let (digest, media_type) = (manifest.digest, manifest.media_type);
            Answer::Manifest { digest, media_type, bytes: manifest.bytes.to_vec() }
        }
        On::HeadManifest { reference } => {
            let descriptor = repository.manifest_head(reference)?;
            let (digest, media_type, size) = (descriptor.digest, descriptor.media_type, descriptor.size);
            Answer::Descriptor { digest, media_type, size }
        }
        On::DeleteImage { image } => {
            let deleted = repository.delete_image(&image_id(image), call)?;
            let (digest, tags, manifest_deleted) = (deleted.digest, deleted.tags, deleted.manifest_deleted);
            Answer::DeletedImage { digest, tags, manifest_deleted }
        }
        On::Untag { tag } => Answer::Digest(repository.untag(tag, call)?),
        On::ResolveImage { image } => Answer::Digest(repository.resolve_image(&image_id(image))?),
        On::ListTags { limit } => list_tags(&repository, None, *limit)?,
        On::ListTagsAfter { last, limit } => list_tags(&repository, Some(last), *limit)?,
        On::ListImages { tagged, limit } => {
            let entries = pages(*limit, |after| repository.list_images(tag_filter(*tagged), after, *limit))?;
            Answer::Images(entries.into_iter().map(|entry| (entry.digest, entry.tag)).collect())
        }
        On::DescribeImages { tagged, limit } => Answer::ImageDetails(describe_images(&repository, *tagged, *limit)?),
        On::DescribeImage { image } => {
            Answer::ImageDetails(vec![image_facts(repository.describe_image(&image_id(image))?)])
        }
        On::ListReferrers { subject, artifact_types, limit } => {
            let items = pages(*limit, |after| repository.referrers(subject, artifact_types, after, *limit))?;
            let facts = items.into_iter().map(|descriptor| ReferrerFacts {
                digest: descriptor.digest,
                media_type: descriptor.media_type,
                size: descriptor.size,
                artifact_type: descriptor.artifact_type.map(|artifact_type| artifact_type.to_string()),
                annotations: descriptor.annotations,
            });
            Answer::Referrers(facts.collect())
        }
        On::TagHistory { tag, limit } => Answer::History(tag_history(&repository, tag, *limit)?),
    })
}

fn read(reader: &BlobReader, offset: u64, len: u64) -> Result<Vec<u8>, Said> {
    let left = reader.size().saturating_sub(offset).min(len);
    let mut bytes = vec![0; usize::try_from(left).expect("a small blob")];
    let mut at = 0;
    while at < bytes.len() {
        match reader.read_at(offset + at as u64, &mut bytes[at..])? {
            0 => break,
            n => at += n,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// Every item of a listing, page by page.
fn pages<T, E>(limit: u32, mut page: impl FnMut(Option<&[u8]>) -> Result<Page<T>, E>) -> Result<Vec<T>, Said>
where
    Said: From<E>,
{
    let mut items = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    for _ in 0..PAGES_MAX {
        let page = page(after.as_deref())?;
        assert!(
            page.items.len() <= limit as usize,
            "a page of {} items where {limit} were asked for",
            page.items.len()
        );
        items.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(items),
        }
    }
    panic!("a listing does not end");
}

fn all_repositories(registry: &Registry, limit: u32) -> Result<Vec<RepositoryDetail>, Failure> {
    let mut items: Vec<RepositoryDetail> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = items.last().map(|detail| detail.name.clone());
        let page = registry.list_repositories(after.as_ref(), limit).map_err(|error| match error {
            repository::ReadError::Storage(failure) => failure,
            error => panic!("repositories cannot be listed: {error}"),
        })?;
        assert!(page.items.len() <= limit as usize, "a page longer than asked for");
        let more = page.next.is_some() && !page.items.is_empty();
        items.extend(page.items);
        if !more {
            return Ok(items);
        }
    }
    panic!("a listing does not end");
}

fn list_tags(repository: &Repository, last: Option<&str>, limit: u32) -> Result<Answer, Said> {
    let mut first = last;
    let tags = pages(limit, |after| match first.take() {
        Some(last) => repository.list_tags_after(Some(last), limit),
        None => repository.list_tags(after, limit),
    })?;
    let facts =
        tags.into_iter().map(|detail| TagFacts { tag: detail.tag, digest: detail.digest, tagged_ms: detail.tagged_ms });
    Ok(Answer::Tags(facts.collect()))
}

fn describe_images(repository: &Repository, tagged: Option<bool>, limit: u32) -> Result<Vec<ImageFacts>, Said> {
    let images = pages(limit, |after| repository.describe_images(tag_filter(tagged), after, limit))?;
    Ok(images.into_iter().map(image_facts).collect())
}

fn tag_history(repository: &Repository, tag: &layerhold::name::Tag, limit: u32) -> Result<Vec<HistoryEntry>, Said> {
    let events = pages(limit, |after| repository.tag_history(tag, after, limit))?;
    Ok(events.into_iter().map(|event| (event.wall_ms, event.from, event.to)).collect())
}

fn tag_filter(tagged: Option<bool>) -> TagFilter {
    match tagged {
        None => TagFilter::Any,
        Some(true) => TagFilter::Tagged,
        Some(false) => TagFilter::Untagged,
    }
}

fn repository_facts(detail: RepositoryDetail) -> RepositoryFacts {
    RepositoryFacts {
        name: detail.name,
        created_ms: detail.created_ms,
        tag_mutability: format!("{:?}", detail.settings.tag_mutability),
        sparse_images: detail.settings.sparse_images,
        attributes: detail.settings.attributes,
        images: detail.usage.images,
        tags: detail.usage.tags,
        blobs: detail.usage.blobs,
        logical_bytes: detail.usage.logical_bytes,
    }
}

fn image_facts(detail: ImageDetail) -> ImageFacts {
    ImageFacts {
        digest: detail.digest,
        media_type: detail.media_type,
        tags: detail.tags,
        image_bytes: detail.image_bytes,
        manifest_bytes: detail.manifest_bytes,
        pushed_ms: detail.pushed_ms,
        last_pull_ms: detail.last_pull_ms,
        artifact_type: detail.artifact_type,
        config_media_type: detail.config_media_type.map(|media_type| media_type.to_string()),
        subject: detail.subject,
    }
}

fn image_id(image: &ImageName) -> ImageId {
    match image.clone() {
        ImageName::Tag(tag) => ImageId::Tag(tag),
        ImageName::Digest(digest) => ImageId::Digest(digest),
        ImageName::Both(tag, digest) => ImageId::Both(tag, digest),
    }
}

fn engine_expected(expected: &Expected) -> EngineExpected {
    match expected.clone() {
        Expected::Computed => EngineExpected::Computed,
        Expected::Digest(digest) => EngineExpected::Digest(digest),
        Expected::AnyOf(digests) => EngineExpected::AnyOf(digests),
    }
}

fn complete_upload(complete: &Complete) -> CompleteUpload {
    CompleteUpload {
        expected: engine_expected(&complete.expected),
        part_bytes_min: complete.part_bytes_min,
        empty: if complete.refuse_empty { EmptyUpload::Refuse } else { EmptyUpload::Accept },
    }
}

fn completed(completed: upload::Completed) -> Answer {
    Answer::Completed { digest: completed.digest, size: completed.size, already_linked: completed.already_linked }
}

fn engine_put(put: &PutManifest) -> manifest::PutManifest {
    manifest::PutManifest {
        bytes: put.bytes.clone(),
        media_type: put.media_type.clone(),
        tags: put.tags.clone(),
        expected: put.expected,
        schema1: put.schema1,
    }
}

/// Each error of the engine becomes the refusal of its name with its facts; storage failures stay failures. An error that
/// nobody thought of is a refusal that the model never gives.
macro_rules! said_of {
    ($($error:ty { $($pattern:pat => $refusal:expr),+ $(,)? })+) => {$(
        impl From<$error> for Said {
            fn from(error: $error) -> Self {
                use $error as E;
                match error {
                    E::Storage(failure) => Self::Failed(failure.into()),
                    $($pattern => Self::Refused($refusal),)+
                    #[allow(unreachable_patterns, reason = "the engine's errors may grow")]
                    error => Self::Refused(Refusal::Unexpected(format!("{error:?}"))),
                }
            }
        }
    )+};
}

said_of! {
    layerhold::registry::CreateError {
        E::RegistryNotFound { .. } => Refusal::RegistryNotFound,
        E::AlreadyExists { .. } => Refusal::RepositoryAlreadyExists,
        E::LimitExceeded { limit } => Refusal::RepositoryLimit { limit },
    }
    layerhold::registry::DeleteError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::NotEmpty { images, .. } => Refusal::RepositoryNotEmpty { images },
    }
    repository::ReadError { E::RepositoryNotFound(_) => Refusal::RepositoryNotFound }
    repository::UpdateError { E::RepositoryNotFound(_) => Refusal::RepositoryNotFound }
    upload::BeginError { E::RepositoryNotFound(_) => Refusal::RepositoryNotFound }
    upload::StatusError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::UploadNotFound(_) => Refusal::UploadNotFound,
    }
    AppendError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::UploadNotFound(_) => Refusal::UploadNotFound,
        E::OutOfOrder { first_byte, durable_offset } => Refusal::OutOfOrder { first_byte, durable_offset },
        E::Replayed { durable_offset } => Refusal::Replayed { durable_offset },
        E::LengthMismatch { declared, received } => Refusal::LengthMismatch { declared, received },
        E::Empty => Refusal::EmptyPart,
        E::TooManyParts { limit } => Refusal::TooManyParts { limit: limit.into() },
        E::TooLarge { size, limit } => Refusal::BlobTooLarge { size, limit },
        E::PartTooLarge { size, limit } => Refusal::PartTooLarge { size, limit },
    }
    CompleteError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::UploadNotFound(_) => Refusal::UploadNotFound,
        E::Empty { .. } => Refusal::EmptyUpload,
        E::PartTooSmall { part, size, limit } => Refusal::PartTooSmall { part: part.into(), size, limit },
        E::DigestMismatch { computed } => Refusal::UploadDigestMismatch { computed },
        E::Append(AppendError::TooLarge { size, limit }) => Refusal::BlobTooLarge { size, limit },
    }
    blob::OpenError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::NotFound { .. } => Refusal::BlobNotFound,
    }
    blob::MountError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::SourceNotFound { .. } => Refusal::MountSourceNotFound,
    }
    blob::DeleteError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::NotFound { .. } => Refusal::BlobNotFound,
        E::Referenced { manifests, .. } => Refusal::BlobReferenced { manifests },
    }
    blob::ReadFault { E::Corrupt { digest, offset } => Refusal::Unexpected(format!("corrupt {digest} at {offset}")) }
    blob::download::Error { E::Expired => Refusal::GrantExpired }
    manifest::PutError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::Manifest(error) => Refusal::Malformed(error.to_string()),
        E::DigestMismatch { expected, computed } => Refusal::ManifestDigestMismatch { expected, computed },
        E::TagImmutable { tag, current } => Refusal::TagImmutable { tag, current },
        E::ImageLimit { limit } => Refusal::ImageLimit { limit },
        E::TagLimit { tag, limit } => Refusal::TagLimit { tag, limit: limit.into() },
        E::BlobsMissing { digests } => Refusal::BlobsMissing { digests },
        E::ManifestsMissing { digests } => Refusal::ManifestsMissing { digests },
    }
    manifest::ReadError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::NotFound { .. } => Refusal::ManifestNotFound,
        E::TagMismatch { tag, current } => Refusal::TagMismatch { tag, current },
    }
    manifest::DeleteError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::NotFound { .. } => Refusal::ManifestNotFound,
        E::TagMismatch { tag, current } => Refusal::TagMismatch { tag, current },
        E::ReferencedBy { manifests, .. } => Refusal::ReferencedBy { manifests },
    }
    tag::UntagError {
        E::RepositoryNotFound(_) => Refusal::RepositoryNotFound,
        E::NotFound { .. } => Refusal::TagNotFound,
    }
}
