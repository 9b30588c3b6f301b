//! Images, one by one: pushing a manifest, and reading manifests back.

use layerhold::descriptor::MediaType;
use layerhold::digest::Digest;
use layerhold::manifest::{self, ImageId, ManifestError, ManifestRead, PutError, PutManifest};
use layerhold::name::{Reference, Tag};

use super::identifier::{GivenDigest, GivenImage};
use super::{Context, Target};
use crate::failure::Failure;
use crate::generated::types::{
    BatchGetImageRequest, BatchGetImageResponse, ErrorCode, Image, ImageFailure, ImageFailureCode, ImageIdentifier,
    PutImageRequest, PutImageResponse,
};
use crate::messages;

/// How many bytes of manifests one answer carries at most. A hundred manifests of the greatest length would be 400 MiB.
const ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;

pub(super) fn put(context: &Context<'_>, input: PutImageRequest) -> Result<PutImageResponse, Failure> {
    let tag = input
        .image_tag
        .as_deref()
        .map(Tag::parse)
        .transpose()
        .map_err(|_| Failure::invalid_parameter("imageTag", &messages::must_match(messages::TAG_PATTERN)))?;
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let media_type = input.image_manifest_media_type.as_deref().map(MediaType::parse).transpose();
    let media_type = media_type.map_err(|_| target.unless_absent(invalid_manifest(messages::INVALID_JSON_SYNTAX)))?;
    let expected = input.image_digest.as_deref().map(|given| expected(given, input.image_manifest.as_bytes()));
    let put = PutManifest {
        bytes: input.image_manifest.into_bytes(),
        media_type,
        tags: tag.iter().cloned().collect(),
        expected,
        schema1: true,
    };
    let stored = target
        .repository
        .put_manifest(&put, context.call)
        .map_err(|error| put_error(&target, &error, input.image_digest.as_deref()))?;
    let digest = stored.digest.to_string();
    if stored.changed_nothing() {
        let message = messages::image_already_exists(&digest, tag.as_ref().map(Tag::as_str), target.place());
        return Err(Failure::new(ErrorCode::ImageAlreadyExistsException, message));
    }
    let image = Image {
        registry_id: Some(target.registry),
        repository_name: Some(target.name),
        image_id: Some(ImageIdentifier { image_digest: Some(digest), image_tag: input.image_tag }),
        image_manifest: String::from_utf8(put.bytes).ok(),
        image_manifest_media_type: Some(stored.media_type.as_str().to_owned()),
    };
    Ok(PutImageResponse { image: Some(image) })
}

/// The digest that the engine is told to expect of `bytes`.
///
/// The service computes sha256 and nothing else. What is given and cannot be that digest must be refused in its place in
/// the engine's order of judgement, so it becomes a digest that these bytes certainly do not have.
fn expected(given: &str, bytes: &[u8]) -> Digest {
    let computed = Digest::sha256(bytes);
    match GivenDigest::read(given).digest() {
        Some(digest) if digest.algorithm() == computed.algorithm() => digest,
        _ => {
            let mut other = computed.as_bytes().to_vec();
            other.iter_mut().for_each(|byte| *byte = !*byte);
            Digest::from_bytes(computed.algorithm(), &other).unwrap_or(computed)
        }
    }
}

fn invalid_manifest(detail: &str) -> Failure {
    // The capital is the service's own, for what it says of a manifest's content.
    Failure::invalid_parameter("ImageManifest", detail)
}

fn put_error(target: &Target, error: &PutError, given_digest: Option<&str>) -> Failure {
    let place = target.place();
    let (code, message) = match error {
        PutError::RepositoryNotFound(_) => return target.not_found(),
        PutError::Manifest(error) => return manifest_error(error),
        PutError::DigestMismatch { .. } => (
            ErrorCode::ImageDigestDoesNotMatchException,
            messages::image_digest_does_not_match(given_digest.unwrap_or_default(), place),
        ),
        PutError::TagImmutable { tag, .. } => {
            (ErrorCode::ImageTagAlreadyExistsException, messages::tag_is_immutable(tag.as_str(), &target.name))
        }
        PutError::ImageLimit { limit } => (ErrorCode::LimitExceededException, messages::image_limit(place, *limit)),
        PutError::TagLimit { tag, limit } => {
            (ErrorCode::LimitExceededException, messages::tag_limit(tag.as_str(), place, u64::from(*limit)))
        }
        PutError::BlobsMissing { digests } => {
            (ErrorCode::LayersNotFoundException, messages::layers_missing(digests, place))
        }
        PutError::ManifestsMissing { digests } => {
            (ErrorCode::ReferencedImagesNotFoundException, messages::images_missing(digests, place))
        }
        PutError::Storage(error) => return Failure::store(error),
        error => return Failure::internal().caused_by(error),
    };
    Failure::new(code, message)
}

fn manifest_error(error: &ManifestError) -> Failure {
    let failure = match error {
        ManifestError::TooManyReferences { .. } => invalid_manifest(messages::TOO_MANY_LAYERS),
        ManifestError::TooLarge { limit, .. } => {
            Failure::invalid_parameter("imageManifest", &messages::length_at_most(*limit))
        }
        _ => invalid_manifest(messages::INVALID_JSON_SYNTAX),
    };
    failure.caused_by(error)
}

/// Why one image of a batch could not be had.
pub(super) type Refusal = (ImageFailureCode, String);

/// What is wrong with an id by itself.
pub(super) fn readable(id: &ImageIdentifier) -> Result<ImageId, Refusal> {
    match GivenImage::read(id) {
        GivenImage::Image(image) => Ok(image),
        GivenImage::Empty => Err((ImageFailureCode::MissingDigestAndTag, messages::MISSING_DIGEST_AND_TAG.to_owned())),
        GivenImage::MalformedDigest => Err((ImageFailureCode::InvalidImageDigest, messages::invalid_image_digest())),
        GivenImage::MalformedTag => Err((ImageFailureCode::InvalidImageTag, messages::invalid_image_tag())),
        GivenImage::Nowhere => Err(not_found()),
    }
}

pub(super) fn not_found() -> Refusal {
    (ImageFailureCode::ImageNotFound, messages::REQUESTED_IMAGE_NOT_FOUND.to_owned())
}

pub(super) fn failed(id: ImageIdentifier, (code, reason): Refusal) -> ImageFailure {
    ImageFailure { image_id: Some(id), failure_code: Some(code), failure_reason: Some(reason) }
}

/// What happened to one item of a batch: the whole call fails, or only the item does.
pub(super) enum Trouble {
    Call(Failure),
    Item(Refusal),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Item(refusal)
    }
}

pub(super) fn batch_get(context: &Context<'_>, input: BatchGetImageRequest) -> Result<BatchGetImageResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    target.exists()?;
    let accepted = input.accepted_media_types.as_deref();
    let (mut images, mut failures, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    for id in input.image_ids {
        match get(&target, &id, accepted) {
            Ok(image) => {
                bytes += image.image_manifest.as_ref().map_or(0, |text| text.len() as u64);
                if bytes > ANSWER_BYTES_MAX {
                    let message = messages::answer_too_large(ANSWER_BYTES_MAX);
                    return Err(Failure::new(ErrorCode::LimitExceededException, message));
                }
                images.push(image);
            }
            Err(Trouble::Item(refusal)) => failures.push(failed(id, refusal)),
            Err(Trouble::Call(failure)) => return Err(failure),
        }
    }
    Ok(BatchGetImageResponse { images: Some(images), failures: Some(failures) })
}

fn get(target: &Target, id: &ImageIdentifier, accepted: Option<&[String]>) -> Result<Image, Trouble> {
    let image = readable(id)?;
    let digest = resolve(target, id, &image)?;
    let reference = Reference::Digest(digest);
    if let (ImageId::Tag(_), Some(accepted)) = (&image, accepted) {
        // Looked at before it is read, because reading records a pull.
        let found = target.repository.manifest_head(&reference).map_err(|error| read_trouble(target, &error))?;
        if !accepted.iter().any(|media_type| media_type == found.media_type.as_str()) {
            return Err(not_found().into());
        }
    }
    let found =
        target.repository.manifest(&reference, ManifestRead::Pull).map_err(|error| read_trouble(target, &error))?;
    let text = String::from_utf8(found.bytes).map_err(|_| damaged())?;
    Ok(Image {
        registry_id: Some(target.registry.clone()),
        repository_name: Some(target.name.clone()),
        image_id: Some(ImageIdentifier { image_digest: Some(digest.to_string()), image_tag: id.image_tag.clone() }),
        image_manifest: Some(text),
        image_manifest_media_type: Some(found.media_type.as_str().to_owned()),
    })
}

/// The manifest that an id names.
fn resolve(target: &Target, id: &ImageIdentifier, image: &ImageId) -> Result<Digest, Trouble> {
    use manifest::ReadError::{NotFound, TagMismatch};
    match (target.repository.resolve_image(image), image) {
        (Ok(digest), _) => Ok(digest),
        // A tag that nobody knows does not name the digest either.
        (Err(NotFound { .. } | TagMismatch { .. }), ImageId::Both(_, digest)) => {
            Err(disagreement(target, id, digest)?.into())
        }
        (Err(error), _) => Err(read_trouble(target, &error)),
    }
}

/// Why tag and digest together name nothing: an unknown digest is reported before a tag that names another one.
pub(super) fn disagreement(target: &Target, id: &ImageIdentifier, digest: &Digest) -> Result<Refusal, Trouble> {
    match target.repository.resolve_image(&ImageId::Digest(*digest)) {
        Ok(_) => {
            let (tag, digest) = (id.image_tag.as_deref(), id.image_digest.as_deref());
            let reason = messages::tag_does_not_match(tag.unwrap_or_default(), digest.unwrap_or_default());
            Ok((ImageFailureCode::ImageTagDoesNotMatchDigest, reason))
        }
        Err(manifest::ReadError::NotFound { .. }) => Ok(not_found()),
        Err(error) => Err(read_trouble(target, &error)),
    }
}

fn read_trouble(target: &Target, error: &manifest::ReadError) -> Trouble {
    match error {
        manifest::ReadError::NotFound { .. } => not_found().into(),
        manifest::ReadError::Corrupt { .. } => damaged().into(),
        manifest::ReadError::RepositoryNotFound(_) => target.not_found().into(),
        manifest::ReadError::Storage(error) => Failure::store(error).into(),
        error => Failure::internal().caused_by(error).into(),
    }
}

fn damaged() -> Refusal {
    (ImageFailureCode::ImageInaccessible, messages::REQUESTED_IMAGE_DAMAGED.to_owned())
}
