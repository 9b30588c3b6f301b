//! Layers: availability, uploads in parts, download URLs.

use layerhold::blob::{self, BlobStatus};
use layerhold::digest::{Algorithm, Digest};
use layerhold::upload::{
    AppendError, BeginError, CompleteError, CompleteUpload, EmptyUpload, Expected, PartRange, UploadId,
};

use super::identifier::{GivenDigest, is_sha256};
use super::{Context, Target};
use crate::failure::Failure;
use crate::generated::types::{
    BatchCheckLayerAvailabilityRequest, BatchCheckLayerAvailabilityResponse, CompleteLayerUploadRequest,
    CompleteLayerUploadResponse, ErrorCode, GetDownloadUrlForLayerRequest, GetDownloadUrlForLayerResponse,
    InitiateLayerUploadRequest, InitiateLayerUploadResponse, Layer, LayerAvailability, LayerFailure, LayerFailureCode,
    UploadLayerPartRequest, UploadLayerPartResponse,
};
use crate::messages;

/// The part size that a client is advised to use, in bytes: the quota "maximum layer part size".
const PART_BYTES_ADVISED: i64 = 10 * 1024 * 1024;
/// The least size of every part but the last, in bytes: the quota "minimum layer part size".
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// How long a download URL lasts.
const DOWNLOAD_MS: u64 = 3_600_000;

pub(super) fn check(
    context: &Context<'_>,
    input: BatchCheckLayerAvailabilityRequest,
) -> Result<BatchCheckLayerAvailabilityResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let given = input.layer_digests.iter().map(|text| GivenDigest::read(text)).collect::<Vec<_>>();
    let digests = given.iter().filter_map(|given| given.digest()).collect::<Vec<_>>();
    let mut found = target.repository.check_blobs(&digests).map_err(|error| blob_read(&target, &error))?.into_iter();

    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for (text, given) in input.layer_digests.into_iter().zip(given) {
        match given {
            GivenDigest::Malformed => failures.push(unusable(text)),
            GivenDigest::Nowhere => layers.push(layer(text, BlobStatus::Absent)),
            GivenDigest::Digest(_) => layers.push(layer(text, found.next().unwrap_or(BlobStatus::Absent))),
        }
    }
    Ok(BatchCheckLayerAvailabilityResponse { layers: Some(layers), failures: Some(failures) })
}

fn unusable(text: String) -> LayerFailure {
    let (code, reason) = if text.trim().is_empty() {
        (LayerFailureCode::MissingLayerDigest, messages::MISSING_LAYER_DIGEST.to_owned())
    } else {
        (LayerFailureCode::InvalidLayerDigest, messages::invalid_layer_digest())
    };
    LayerFailure { layer_digest: Some(text), failure_code: Some(code), failure_reason: Some(reason) }
}

fn layer(digest: String, status: BlobStatus) -> Layer {
    let (availability, size, media_type) = match status {
        BlobStatus::Absent => (LayerAvailability::Unavailable, None, None),
        BlobStatus::Present { size, media_type } => (LayerAvailability::Available, Some(size), media_type),
    };
    Layer {
        layer_digest: Some(digest),
        layer_availability: Some(availability),
        layer_size: size.map(long),
        media_type: media_type.map(|media_type| media_type.as_str().to_owned()),
    }
}

/// A count or a size as the wire carries it.
pub(super) fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn initiate(
    context: &Context<'_>,
    input: InitiateLayerUploadRequest,
) -> Result<InitiateLayerUploadResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let id = target.repository.begin_upload(Algorithm::Sha256, context.call).map_err(|error| match error {
        BeginError::RepositoryNotFound(_) => target.not_found(),
        BeginError::Storage(error) => Failure::store(&error),
        error => Failure::internal().caused_by(&error),
    })?;
    Ok(InitiateLayerUploadResponse { upload_id: Some(id.to_string()), part_size: Some(PART_BYTES_ADVISED) })
}

/// An upload session as a request names it.
struct Session<'a> {
    target: Target,
    id: UploadId,
    given: &'a str,
}

impl<'a> Session<'a> {
    fn new(context: &Context<'_>, registry_id: Option<&str>, name: &str, given: &'a str) -> Result<Self, Failure> {
        let target = context.target(registry_id, name)?;
        // The table has judged that it is a UUID.
        let id = UploadId::parse(given).map_err(|error| Failure::internal().caused_by(&error))?;
        Ok(Self { target, id, given })
    }

    fn not_found(&self) -> Failure {
        let message = messages::upload_not_found(self.given, self.target.place());
        Failure::new(ErrorCode::UploadNotFoundException, message)
    }

    fn limit(&self, message: fn(&str, messages::Place<'_>, u64) -> String, limit: u64) -> Failure {
        Failure::new(ErrorCode::LimitExceededException, message(self.given, self.target.place(), limit))
    }

    /// `InvalidLayerPartException`. `next` is the first byte that was not accepted yet; with nothing accepted there is
    /// no last valid byte to tell.
    fn invalid_part(&self, message: String, next: u64) -> Failure {
        let failure = Failure::new(ErrorCode::InvalidLayerPartException, message)
            .with("registryId", self.target.registry.as_str())
            .with("repositoryName", self.target.name.as_str())
            .with("uploadId", self.given);
        match next.checked_sub(1) {
            Some(last) => failure.with("lastValidByteReceived", last),
            None => failure,
        }
    }
}

pub(super) fn upload_part(
    context: &Context<'_>,
    input: UploadLayerPartRequest,
) -> Result<UploadLayerPartResponse, Failure> {
    let session = Session::new(context, input.registry_id.as_deref(), &input.repository_name, &input.upload_id)?;
    // The tables have judged that neither is negative. The wire names the last byte, the engine a length.
    let first = u64::try_from(input.part_first_byte).unwrap_or_default();
    let last = u64::try_from(input.part_last_byte).unwrap_or_default();
    let range = PartRange { first_byte: first, len: (last + 1).saturating_sub(first) };
    let received = input.layer_part_blob.len() as u64;
    let appended = session.target.repository.append_part(&session.id, range, input.layer_part_blob, context.call);
    appended.map_err(|error| append_error(&session, error, (first, last), received))?;
    Ok(UploadLayerPartResponse {
        registry_id: Some(session.target.registry),
        repository_name: Some(session.target.name),
        upload_id: Some(input.upload_id.clone()),
        last_byte_received: Some(input.part_last_byte),
    })
}

fn append_error(session: &Session<'_>, error: AppendError, (first, last): (u64, u64), received: u64) -> Failure {
    match error {
        AppendError::RepositoryNotFound(_) => session.target.not_found(),
        AppendError::UploadNotFound(_) => session.not_found(),
        AppendError::Damaged(error) => session.not_found().caused_by(&error),
        AppendError::OutOfOrder { durable_offset, .. } | AppendError::Replayed { durable_offset } => {
            session.invalid_part(messages::not_the_next_byte(first, durable_offset), durable_offset)
        }
        // The place was right, or the engine would have said so first.
        AppendError::LengthMismatch { .. } | AppendError::Empty => {
            session.invalid_part(messages::part_length(first, last, received), first)
        }
        AppendError::TooManyParts { limit } => session.limit(messages::part_limit, u64::from(limit)),
        AppendError::TooLarge { limit, .. } => session.limit(messages::layer_size_limit, limit),
        AppendError::PartTooLarge { limit, .. } => {
            Failure::invalid_parameter("layerPartBlob", &messages::length_at_most(limit))
        }
        AppendError::Storage(error) => Failure::store(&error),
        error => Failure::internal().caused_by(&error),
    }
}

pub(super) fn complete(
    context: &Context<'_>,
    input: CompleteLayerUploadRequest,
) -> Result<CompleteLayerUploadResponse, Failure> {
    let session = Session::new(context, input.registry_id.as_deref(), &input.repository_name, &input.upload_id)?;
    let complete = CompleteUpload {
        expected: expected(&input.layer_digests),
        part_bytes_min: Some(PART_BYTES_MIN),
        empty: EmptyUpload::Refuse,
    };
    let completed = session
        .target
        .repository
        .complete_upload(&session.id, &complete, context.call)
        .map_err(|error| complete_error(&session, error))?;
    let digest = completed.digest.to_string();
    // A damaged layer was unavailable to whoever asked, so these bytes were wanted.
    if completed.already_linked && !completed.healed {
        let message = messages::layer_already_exists(&digest, session.target.place());
        return Err(Failure::new(ErrorCode::LayerAlreadyExistsException, message));
    }
    Ok(CompleteLayerUploadResponse {
        registry_id: Some(session.target.registry),
        repository_name: Some(session.target.name),
        upload_id: Some(input.upload_id.clone()),
        layer_digest: Some(digest),
    })
}

/// One sha256 digest must be right if there is any. Digests of other algorithms are ignored, as the service does; a session
/// that was begun over the other protocol may have one of those, and ends with a sha256 digest all the same.
fn expected(given: &[String]) -> Expected {
    let sha256 = given.iter().filter(|text| is_sha256(text)).collect::<Vec<_>>();
    if sha256.is_empty() {
        return Expected::Sha256;
    }
    Expected::AnyOf(sha256.iter().filter_map(|text| Digest::parse(text).ok()).collect())
}

fn complete_error(session: &Session<'_>, error: CompleteError) -> Failure {
    match error {
        CompleteError::RepositoryNotFound(_) => session.target.not_found(),
        CompleteError::UploadNotFound(_) => session.not_found(),
        CompleteError::Damaged(error) => session.not_found().caused_by(&error),
        CompleteError::Empty { .. } => {
            let message = messages::empty_upload(session.given, session.target.place());
            Failure::new(ErrorCode::EmptyUploadException, message)
        }
        CompleteError::PartTooSmall { part, size, limit } => {
            Failure::new(ErrorCode::LayerPartTooSmallException, messages::part_too_small(u64::from(part), size, limit))
        }
        CompleteError::DigestMismatch { .. } => {
            Failure::new(ErrorCode::InvalidLayerException, messages::NO_DIGEST_MATCHES)
        }
        CompleteError::Storage(error) => Failure::store(&error),
        error => Failure::internal().caused_by(&error),
    }
}

pub(super) fn download_url(
    context: &Context<'_>,
    input: GetDownloadUrlForLayerRequest,
) -> Result<GetDownloadUrlForLayerResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let given = &input.layer_digest;
    let absent = || Failure::new(ErrorCode::LayersNotFoundException, messages::layer_not_found(given, target.place()));
    let Some(digest) = GivenDigest::read(given).digest() else { return Err(target.unless_absent(absent())) };
    let grant = target.repository.grant_download(&digest, DOWNLOAD_MS).map_err(|error| match error {
        blob::OpenError::RepositoryNotFound(_) => target.not_found(),
        // To a client a damaged blob is an absent one: pushing it again brings it back.
        blob::OpenError::NotFound { .. } | blob::OpenError::Corrupt { .. } => absent(),
        blob::OpenError::Storage(error) => Failure::store(&error),
        error => Failure::internal().caused_by(&error),
    })?;
    if !grant.referenced {
        let message = messages::layer_inaccessible(given, target.place());
        return Err(Failure::new(ErrorCode::LayerInaccessibleException, message));
    }
    let base = context.scope.external_url(context.config()).as_str();
    Ok(GetDownloadUrlForLayerResponse {
        download_url: Some(format!("{base}/download/{}", grant.token)),
        layer_digest: Some(input.layer_digest.clone()),
    })
}

fn blob_read(target: &Target, error: &blob::ReadError) -> Failure {
    match error {
        blob::ReadError::RepositoryNotFound(_) => target.not_found(),
        blob::ReadError::Storage(error) => Failure::store(error),
        error => Failure::internal().caused_by(error),
    }
}

// The advice must be a size that the engine's default quotas accept.
const _: () = assert!(PART_BYTES_ADVISED as u64 >= PART_BYTES_MIN);
