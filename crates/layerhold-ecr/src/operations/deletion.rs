//! Deleting images, and with them tags.

use layerhold::manifest::{DeleteError, DeletedImage, ImageId};

use super::images::{Trouble, disagreement, failed, not_found, readable};
use super::{Context, Target};
use crate::failure::Failure;
use crate::generated::types::{BatchDeleteImageRequest, BatchDeleteImageResponse, ImageFailureCode, ImageIdentifier};
use crate::messages;

pub(super) fn batch_delete(
    context: &Context<'_>,
    input: BatchDeleteImageRequest,
) -> Result<BatchDeleteImageResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    target.exists()?;
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    // Items are independent and in order: an index that is named before its children is gone when they are looked at.
    for id in input.image_ids {
        match delete(context, &target, &id) {
            Ok(deleted) => removed.extend(identifiers(&deleted)),
            Err(Trouble::Item(refusal)) => failures.push(failed(id, refusal)),
            Err(Trouble::Call(failure)) => return Err(failure),
        }
    }
    Ok(BatchDeleteImageResponse { image_ids: Some(removed), failures: Some(failures) })
}

fn delete(context: &Context<'_>, target: &Target, id: &ImageIdentifier) -> Result<DeletedImage, Trouble> {
    let image = readable(id)?;
    target.repository.delete_image(&image, context.call).map_err(|error| match (error, &image) {
        (DeleteError::TagMismatch { .. }, ImageId::Both(_, digest)) => {
            disagreement(target, id, digest).map_or_else(|trouble| trouble, Trouble::from)
        }
        // The repository was there a moment ago. Whoever deleted it deleted the image.
        (DeleteError::RepositoryNotFound(_) | DeleteError::NotFound { .. }, _) => not_found().into(),
        (DeleteError::ReferencedBy { manifests, .. }, _) => {
            (ImageFailureCode::ImageReferencedByManifestList, messages::referenced_by(&manifests)).into()
        }
        (DeleteError::Storage(error), _) => Failure::store(&error).into(),
        (error, _) => Failure::internal().caused_by(&error).into(),
    })
}

/// One entry for each tag that went, or one for an image that had none.
fn identifiers(deleted: &DeletedImage) -> Vec<ImageIdentifier> {
    let entry = |image_tag| ImageIdentifier { image_digest: Some(deleted.digest.to_string()), image_tag };
    if deleted.tags.is_empty() {
        return vec![entry(None)];
    }
    deleted.tags.iter().map(|tag| entry(Some(tag.as_str().to_owned()))).collect()
}
