//! Listings in a repository: images, their details, public tags, referrers.

use std::collections::BTreeMap;

use layerhold::digest::Digest;
use layerhold::manifest::{self, ImageId, TagFilter};

use super::identifier::{GivenDigest, GivenImage};
use super::layers::long;
use super::{Context, Target, page_size};
use crate::failure::Failure;
use crate::generated::types::{
    ArtifactStatus, ArtifactStatusFilter, DescribeImageTagsRequest, DescribeImageTagsResponse, DescribeImagesRequest,
    DescribeImagesResponse, ErrorCode, ImageDetail, ImageIdentifier, ImageReferrer, ImageStatus, ImageStatusFilter,
    ImageTagDetail, ListImageReferrersRequest, ListImageReferrersResponse, ListImagesRequest, ListImagesResponse,
    ReferencedImageDetail, TagStatus,
};
use crate::messages;
use crate::registry::Scope;
use crate::shape::Timestamp;

/// Items on a page where the request does not say.
const PAGE_DEFAULT: u32 = 100;
/// Referrers on a page where the request does not say.
const REFERRERS_PAGE_DEFAULT: u32 = 20;

fn tag_filter(status: Option<TagStatus>) -> TagFilter {
    match status {
        Some(TagStatus::Tagged) => TagFilter::Tagged,
        Some(TagStatus::Untagged) => TagFilter::Untagged,
        Some(TagStatus::Any) | None => TagFilter::Any,
    }
}

/// Whether a filter keeps active images. Every stored image is active: nothing archives one here.
fn keeps_active(status: Option<ImageStatusFilter>) -> bool {
    matches!(status, None | Some(ImageStatusFilter::Active | ImageStatusFilter::Any))
}

pub(super) fn list_images(context: &Context<'_>, input: ListImagesRequest) -> Result<ListImagesResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let (tags, images) = input.filter.map_or((None, None), |filter| (filter.tag_status, filter.image_status));
    let query = context
        .query()
        .narrowed(&target.name)
        .narrowed(tags.map_or("", TagStatus::as_str))
        .narrowed(images.map_or("", ImageStatusFilter::as_str));
    let after = context.place_in(&target, &query, input.next_token.as_deref())?;
    if !keeps_active(images) {
        target.exists()?;
        return Ok(ListImagesResponse { image_ids: Some(Vec::new()), next_token: None });
    }
    let limit = page_size(input.max_results, PAGE_DEFAULT);
    let page = target
        .repository
        .list_images(tag_filter(tags), after.as_deref(), limit)
        .map_err(|error| listing_error(&target, &error))?;
    let next_token = context.token(&query, page.next);
    let entry = |entry: manifest::ImageEntry| ImageIdentifier {
        image_digest: Some(entry.digest.to_string()),
        image_tag: entry.tag.map(|tag| tag.as_str().to_owned()),
    };
    Ok(ListImagesResponse { image_ids: Some(page.items.into_iter().map(entry).collect()), next_token })
}

fn listing_error(target: &Target, error: &manifest::ReadError) -> Failure {
    match error {
        manifest::ReadError::RepositoryNotFound(_) => target.not_found(),
        manifest::ReadError::Storage(error) => Failure::store(error),
        error => Failure::internal().caused_by(error),
    }
}

pub(super) fn describe_images(
    context: &Context<'_>,
    input: DescribeImagesRequest,
) -> Result<DescribeImagesResponse, Failure> {
    if let Some(ids) = input.image_ids {
        if input.next_token.is_some() || input.max_results.is_some() {
            let member = if input.next_token.is_some() { "nextToken" } else { "maxResults" };
            return Err(Failure::invalid_parameter(member, messages::NO_PAGING_WITH_IDS));
        }
        let images = ids
            .iter()
            .enumerate()
            .map(|(index, id)| Ok((id, named(index + 1, id)?)))
            .collect::<Result<Vec<_>, Failure>>()?;
        let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
        let image_details = Some(describe_named(context, &target, images)?);
        return Ok(DescribeImagesResponse { image_details, next_token: None });
    }
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let (tags, images) = input.filter.map_or((None, None), |filter| (filter.tag_status, filter.image_status));
    let query = context
        .query()
        .narrowed(&target.name)
        .narrowed(tags.map_or("", TagStatus::as_str))
        .narrowed(images.map_or("", ImageStatusFilter::as_str));
    let after = context.place_in(&target, &query, input.next_token.as_deref())?;
    if !keeps_active(images) {
        target.exists()?;
        return Ok(DescribeImagesResponse { image_details: Some(Vec::new()), next_token: None });
    }
    let limit = page_size(input.max_results, PAGE_DEFAULT);
    let page = target
        .repository
        .describe_images(tag_filter(tags), after.as_deref(), limit)
        .map_err(|error| listing_error(&target, &error))?;
    let next_token = context.token(&query, page.next);
    let details = page.items.into_iter().map(|image| detail(context, &target, image)).collect();
    Ok(DescribeImagesResponse { image_details: Some(details), next_token })
}

/// The images that a request names, each once, in the order in which it is named first. One that is missing fails all.
fn describe_named(
    context: &Context<'_>,
    target: &Target,
    images: Vec<(&ImageIdentifier, Option<ImageId>)>,
) -> Result<Vec<ImageDetail>, Failure> {
    let mut found: Vec<manifest::ImageDetail> = Vec::new();
    for (id, image) in images {
        let Some(image) = image else { return Err(target.unless_absent(image_not_found(target, id))) };
        let image = target.repository.describe_image(&image).map_err(|error| match error {
            manifest::ReadError::NotFound { .. } | manifest::ReadError::TagMismatch { .. } => {
                image_not_found(target, id)
            }
            error => listing_error(target, &error),
        })?;
        if found.iter().all(|other| other.digest != image.digest) {
            found.push(image);
        }
    }
    Ok(found.into_iter().map(|image| detail(context, target, image)).collect())
}

/// The image that the id in this place names; nothing if it can name none that is stored.
fn named(number: usize, id: &ImageIdentifier) -> Result<Option<ImageId>, Failure> {
    let malformed = |member: &str, pattern: &str| {
        Failure::invalid_parameter(&format!("imageIds.{number}.{member}"), &messages::must_match(pattern))
    };
    match GivenImage::read(id) {
        GivenImage::Image(image) => Ok(Some(image)),
        GivenImage::Nowhere => Ok(None),
        GivenImage::Empty => Err(Failure::invalid_parameter(&format!("imageIds.{number}"), messages::EMPTY_IMAGE_ID)),
        GivenImage::MalformedDigest => Err(malformed("imageDigest", messages::DIGEST_PATTERN)),
        GivenImage::MalformedTag => Err(malformed("imageTag", messages::TAG_PATTERN)),
    }
}

fn image_not_found(target: &Target, id: &ImageIdentifier) -> Failure {
    let message = messages::image_not_found(id.image_digest.as_deref(), id.image_tag.as_deref(), target.place());
    Failure::new(ErrorCode::ImageNotFoundException, message)
}

fn detail(context: &Context<'_>, target: &Target, image: manifest::ImageDetail) -> ImageDetail {
    // The public service tells neither subjects, nor pulls, nor states.
    let private = context.scope == Scope::Private;
    let tags = image.tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>();
    ImageDetail {
        registry_id: Some(target.registry.clone()),
        repository_name: Some(target.name.clone()),
        image_digest: Some(image.digest.to_string()),
        image_tags: Some(tags).filter(|tags| !tags.is_empty()),
        image_size_in_bytes: Some(long(image.image_bytes)),
        image_pushed_at: Some(Timestamp::from_ms(image.pushed_ms)),
        image_scan_status: None,
        image_scan_findings_summary: None,
        image_manifest_media_type: Some(image.media_type.as_str().to_owned()),
        artifact_media_type: artifact_media_type(&image),
        last_recorded_pull_time: image.last_pull_ms.filter(|_| private).map(Timestamp::from_ms),
        subject_manifest_digest: image.subject.filter(|_| private).map(|subject| subject.to_string()),
        image_status: private.then_some(ImageStatus::Active),
        last_archived_at: None,
        last_activated_at: None,
    }
}

/// What the image says it is: its artifact type, else the media type of its config.
fn artifact_media_type(image: &manifest::ImageDetail) -> Option<String> {
    image.artifact_type.clone().or_else(|| image.config_media_type.as_ref().map(|m| m.as_str().to_owned()))
}

pub(super) fn describe_image_tags(
    context: &Context<'_>,
    input: DescribeImageTagsRequest,
) -> Result<DescribeImageTagsResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let query = context.query().narrowed(&target.name);
    let after = context.place_in(&target, &query, input.next_token.as_deref())?;
    let page = target
        .repository
        .list_tags(after.as_deref(), page_size(input.max_results, PAGE_DEFAULT))
        .map_err(|error| target.read_error(&error))?;
    let next_token = context.token(&query, page.next);
    // Many tags often name few images.
    let mut images: BTreeMap<Digest, Option<ReferencedImageDetail>> = BTreeMap::new();
    let mut details = Vec::with_capacity(page.items.len());
    for tag in page.items {
        let image = match images.get(&tag.digest) {
            Some(known) => known.clone(),
            None => {
                let found = referenced_image(&target, &tag.digest)?;
                images.insert(tag.digest, found.clone());
                found
            }
        };
        // An image that is gone took its tags along since the page was read.
        if let Some(image) = image {
            details.push(ImageTagDetail {
                image_tag: Some(tag.tag.as_str().to_owned()),
                created_at: Some(Timestamp::from_ms(tag.tagged_ms)),
                image_detail: Some(image),
            });
        }
    }
    Ok(DescribeImageTagsResponse { image_tag_details: Some(details), next_token })
}

fn referenced_image(target: &Target, digest: &Digest) -> Result<Option<ReferencedImageDetail>, Failure> {
    match target.repository.describe_image(&ImageId::Digest(*digest)) {
        Ok(image) => Ok(Some(ReferencedImageDetail {
            image_digest: Some(image.digest.to_string()),
            image_size_in_bytes: Some(long(image.image_bytes)),
            image_pushed_at: Some(Timestamp::from_ms(image.pushed_ms)),
            image_manifest_media_type: Some(image.media_type.as_str().to_owned()),
            artifact_media_type: artifact_media_type(&image),
        })),
        Err(manifest::ReadError::NotFound { .. }) => Ok(None),
        Err(error) => Err(listing_error(target, &error)),
    }
}

pub(super) fn list_referrers(
    context: &Context<'_>,
    input: ListImageReferrersRequest,
) -> Result<ListImageReferrersResponse, Failure> {
    let given = &input.subject_id.image_digest;
    let subject = GivenDigest::read(given);
    if subject == GivenDigest::Malformed {
        return Err(context.bad_value("subjectId.imageDigest", &messages::must_match(messages::DIGEST_PATTERN)));
    }
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let (types, status) = input
        .filter
        .map_or_else(Default::default, |filter| (filter.artifact_types.unwrap_or_default(), filter.artifact_status));
    let mut query = context
        .query()
        .narrowed(&target.name)
        .narrowed(given)
        .narrowed(status.map_or("", ArtifactStatusFilter::as_str));
    for artifact_type in &types {
        query = query.narrowed(artifact_type);
    }
    let after = context.place_in(&target, &query, input.next_token.as_deref())?;
    let keeps_active = matches!(status, None | Some(ArtifactStatusFilter::Active | ArtifactStatusFilter::Any));
    let Some(subject) = subject.digest().filter(|_| keeps_active) else {
        target.exists()?;
        return Ok(ListImageReferrersResponse { referrers: Some(Vec::new()), next_token: None });
    };
    let limit = page_size(input.max_results, REFERRERS_PAGE_DEFAULT);
    let page = target
        .repository
        .referrers(&subject, &types, after.as_deref(), limit)
        .map_err(|error| listing_error(&target, &error))?;
    let next_token = context.token(&query, page.next);
    let referrer = |descriptor: layerhold::descriptor::Descriptor| ImageReferrer {
        digest: descriptor.digest.to_string(),
        media_type: descriptor.media_type.as_str().to_owned(),
        artifact_type: descriptor.artifact_type.map(|artifact_type| artifact_type.as_str().to_owned()),
        size: long(descriptor.size),
        annotations: Some(descriptor.annotations).filter(|annotations| !annotations.is_empty()),
        artifact_status: Some(ArtifactStatus::Active),
    };
    Ok(ListImageReferrersResponse { referrers: Some(page.items.into_iter().map(referrer).collect()), next_token })
}
