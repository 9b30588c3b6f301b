//! Every text that an answer may carry, in one place.
//!
//! Where a text of the real service is known, it is that text, word for word, because people search for it; clients
//! should branch on `__type` and on failure codes only. The others are ours and follow the same manner.

use std::fmt::{Display, Write as _};

/// What messages call the place of something: a repository in the registry of an account.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The repository's name.
    pub repository: &'a str,
    /// The registry's id: the account, or what the caller gave in its stead.
    pub registry: &'a str,
}

/// The characters that a layer or image digest consists of, as failure reasons quote them.
pub const DIGEST_PATTERN: &str = "[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+";
/// The characters that a tag consists of, as messages quote them.
pub const TAG_PATTERN: &str = "[a-zA-Z0-9-_.]+";

// --- constraints ---------------------------------------------------------------------------------------------------

/// The one sentence of every `InvalidParameterException`.
pub fn invalid_parameter(path: &str, detail: &str) -> String {
    format!("Invalid parameter at '{path}' failed to satisfy constraint: '{detail}'")
}

/// The detail for a required member that is absent.
pub const MUST_NOT_BE_NULL: &str = "Member must not be null";
/// The detail for a manifest that is not acceptable, whatever the reason.
pub const INVALID_JSON_SYNTAX: &str = "Invalid JSON syntax";
/// The detail for a manifest with too many layers.
pub const TOO_MANY_LAYERS: &str = "Limit on number of layers per image exceeded";
/// The detail for a page token that is not one of ours, or not one for this query.
pub const INVALID_TOKEN: &str = "Member must be a token that the same request returned";
/// The detail for paging members beside explicit ids.
pub const NO_PAGING_WITH_IDS: &str = "Member must be null when items are named explicitly";
/// The detail for an image id without tag and digest.
pub const EMPTY_IMAGE_ID: &str = "both tag and digest cannot be null";

/// A string or list is too short.
pub fn length_at_least(min: u64) -> String {
    format!("Member must have length greater than or equal to {min}")
}

/// A string or list is too long.
pub fn length_at_most(max: u64) -> String {
    format!("Member must have length less than or equal to {max}")
}

/// A number is too small.
pub fn value_at_least(min: impl Display) -> String {
    format!("Member must have value greater than or equal to {min}")
}

/// A number is too large.
pub fn value_at_most(max: impl Display) -> String {
    format!("Member must have value less than or equal to {max}")
}

/// A string does not match its pattern.
pub fn must_match(pattern: &str) -> String {
    format!("must satisfy regular expression '{pattern}'")
}

/// A string is not in its set.
pub fn must_be_one_of(values: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", values.join(", "))
}

/// A mutability value that takes exclusion filters came without them.
pub fn filters_missing(mutability: &str) -> String {
    format!("ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as {mutability}")
}

/// A mutability value that takes no exclusion filters came with some.
pub fn filters_unexpected(mutability: &str) -> String {
    format!("ImageTagMutabilityExclusionFilters must be null when imageTagMutability is set as {mutability}")
}

/// An exclusion filter has too many wildcards.
pub fn too_many_wildcards(max: usize) -> String {
    format!("Filter must have at most {max} wildcards")
}

// --- the wire ------------------------------------------------------------------------------------------------------

/// The body is not JSON, or a member holds JSON of another type.
pub fn not_readable(what: &str, at: usize) -> String {
    format!("The request body could not be read at byte {at}: {what}")
}

/// The Content-Type is another one.
pub fn content_type(given: &str) -> String {
    format!("The request has content type '{given}' instead of 'application/x-amz-json-1.1'")
}

/// The body is too large.
pub fn body_too_large(max: usize) -> String {
    format!("The request body has more than {max} bytes")
}

/// The target names no operation.
pub fn unknown_operation(target: Option<&str>) -> String {
    match target {
        Some(target) => format!("The target '{target}' names no operation"),
        None => "The request names no operation: the header X-Amz-Target is missing".to_owned(),
    }
}

/// The operation has no body here.
pub fn not_implemented(operation: &str) -> String {
    format!("The operation {operation} is not implemented")
}

/// Something of ours went wrong, and nothing else may be said about it.
pub const INTERNAL: &str = "An internal error occurred; the request may be tried again";
/// The store cannot answer now.
pub const UNAVAILABLE: &str = "The service is temporarily unavailable; try the request again";
/// Too much is going on.
pub const RATE_EXCEEDED: &str = "Rate exceeded";
/// The answer would be larger than one answer may be.
pub fn answer_too_large(max: u64) -> String {
    format!("The requested manifests together have more than {max} bytes; ask for fewer images at once")
}

// --- repositories --------------------------------------------------------------------------------------------------

/// `RepositoryNotFoundException`.
pub fn repository_not_found(place: Place<'_>) -> String {
    format!(
        "The repository with name '{}' does not exist in the registry with id '{}'",
        place.repository, place.registry
    )
}

/// `RepositoryAlreadyExistsException`.
pub fn repository_already_exists(place: Place<'_>) -> String {
    format!(
        "The repository with name '{}' already exists in the registry with id '{}'",
        place.repository, place.registry
    )
}

/// `RepositoryNotEmptyException`.
pub fn repository_not_empty(place: Place<'_>) -> String {
    format!(
        "The repository with name '{}' in registry with id '{}' cannot be deleted because it still contains images",
        place.repository, place.registry
    )
}

/// `RegistryNotFoundException`.
pub fn registry_not_found(registry: &str) -> String {
    format!("The registry with id '{registry}' does not exist")
}

/// `LimitExceededException`: repositories of a registry.
pub fn repository_limit(place: Place<'_>, limit: u64) -> String {
    format!(
        "Creating the repository with name '{}' in registry with id '{}' exceeds the maximum allowed number of \
         repositories per registry which is '{limit}'",
        place.repository, place.registry
    )
}

/// `KmsException`: encryption that does not exist here.
pub fn encryption_not_supported(kind: &str) -> String {
    format!("Encryption of type {kind} is not supported by this registry")
}

/// `TooManyTagsException`.
pub fn too_many_resource_tags(max: usize) -> String {
    format!("The resource has more than {max} tags")
}

/// The detail for a resource tag key that is reserved.
pub const RESERVED_TAG_KEY: &str = "Tag keys must not start with aws:";
/// The detail for a resource tag with a character that tags do not have.
pub const TAG_CHARACTERS: &str = "Tags must consist of letters, digits, spaces and + - = . _ : / @";
/// The detail for a resource tag key that is used twice.
pub const REPEATED_TAG_KEY: &str = "Tag keys must be unique";
/// The detail for a key together with AES256.
pub const KEY_WITHOUT_KMS: &str = "kmsKey must be null when encryptionType is set as AES256";
/// KMS's own code for what does not exist here.
pub const KMS_NOT_SUPPORTED: &str = "UnsupportedOperationException";
/// The detail for a logo.
pub const NO_LOGOS: &str = "Logos are not stored by this registry";
/// The detail for an account or alias that is not this registry's.
pub const NO_SUCH_REGISTRY: &str = "Registry does not exist";
/// The detail for attributes that together are larger than the store takes.
pub const ATTRIBUTES_TOO_LARGE: &str = "Tags and catalog data together are too large";

// --- layers --------------------------------------------------------------------------------------------------------

/// The reason of `MissingLayerDigest`.
pub const MISSING_LAYER_DIGEST: &str = "Invalid request parameters: layer digest cannot be null or empty";

/// The reason of `InvalidLayerDigest`.
pub fn invalid_layer_digest() -> String {
    format!("Invalid request parameters: layer digest should satisfy the regex '{DIGEST_PATTERN}'")
}

/// `UploadNotFoundException`.
pub fn upload_not_found(upload: &str, place: Place<'_>) -> String {
    format!(
        "Upload with id '{upload}' could not be found for the repository with name '{}' in the registry with id '{}'",
        place.repository, place.registry
    )
}

/// `InvalidLayerPartException`: not the next byte.
pub fn not_the_next_byte(given: u64, expected: u64) -> String {
    format!("First byte of the layer part is {given} instead of {expected}")
}

/// `InvalidLayerPartException`: the range and the blob disagree.
pub fn part_length(first: u64, last: u64, received: u64) -> String {
    format!(
        "The layer part has {received} bytes, which is not the length of the range from byte {first} to byte {last}"
    )
}

/// `LimitExceededException`: parts of an upload.
pub fn part_limit(upload: &str, place: Place<'_>, limit: u64) -> String {
    format!(
        "Adding a part to the upload with id '{upload}' in the repository with name '{}' in registry with id '{}' exceeds \
         the maximum allowed number of layer parts which is '{limit}'",
        place.repository, place.registry
    )
}

/// `LimitExceededException`: bytes of a layer.
pub fn layer_size_limit(upload: &str, place: Place<'_>, limit: u64) -> String {
    format!(
        "Adding a part to the upload with id '{upload}' in the repository with name '{}' in registry with id '{}' exceeds \
         the maximum allowed layer size which is '{limit}' bytes",
        place.repository, place.registry
    )
}

/// `EmptyUploadException`.
pub fn empty_upload(upload: &str, place: Place<'_>) -> String {
    format!(
        "The upload with id '{upload}' in the repository with name '{}' in registry with id '{}' cannot be completed because \
         it does not have any parts",
        place.repository, place.registry
    )
}

/// `LayerPartTooSmallException`.
pub fn part_too_small(part: u64, size: u64, limit: u64) -> String {
    format!("Layer part {part} has {size} bytes; every part but the last must have at least {limit} bytes")
}

/// `InvalidLayerException`.
pub const NO_DIGEST_MATCHES: &str = "None of the provided layer digests match the calculated layer digest";

/// `LayerAlreadyExistsException`.
pub fn layer_already_exists(digest: &str, place: Place<'_>) -> String {
    format!(
        "The layer with digest '{digest}' already exists in the repository with name '{}' in registry with id '{}'",
        place.repository, place.registry
    )
}

/// `LayersNotFoundException` of a download.
pub fn layer_not_found(digest: &str, place: Place<'_>) -> String {
    format!(
        "The layer with digest {digest} does not exist within the repository with name '{}' in the registry with id '{}'",
        place.repository, place.registry
    )
}

/// `LayerInaccessibleException`.
pub fn layer_inaccessible(digest: &str, place: Place<'_>) -> String {
    format!(
        "The layer with digest {digest} within the repository with name '{}' in the registry with id '{}' is not referenced \
         by any image",
        place.repository, place.registry
    )
}

// --- images --------------------------------------------------------------------------------------------------------

/// `ImageDigestDoesNotMatchException`.
pub fn image_digest_does_not_match(given: &str, place: Place<'_>) -> String {
    format!(
        "The image with digest '{given}' in repository '{}' and registry ID '{}' does not match the image digest that Amazon \
         ECR has calculated",
        place.repository, place.registry
    )
}

/// `ImageAlreadyExistsException`.
pub fn image_already_exists(digest: &str, tag: Option<&str>, place: Place<'_>) -> String {
    let tag = tag.map(|tag| format!(" and tag '{tag}'")).unwrap_or_default();
    format!(
        "Image with digest '{digest}'{tag} already exists in the repository with name '{}' in registry with id '{}'",
        place.repository, place.registry
    )
}

/// `ImageTagAlreadyExistsException`.
pub fn tag_is_immutable(tag: &str, repository: &str) -> String {
    format!(
        "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the tag is \
         immutable"
    )
}

/// `LimitExceededException`: tags of an image.
pub fn tag_limit(tag: &str, place: Place<'_>, limit: u64) -> String {
    format!(
        "Adding tag '{tag}' to an image in the repository with name '{}' in registry with id '{}' exceeds the maximum allowed \
         number of tags per image which is '{limit}'",
        place.repository, place.registry
    )
}

/// `LimitExceededException`: images of a repository.
pub fn image_limit(place: Place<'_>, limit: u64) -> String {
    format!(
        "Adding an image to the repository with name '{}' in registry with id '{}' exceeds the maximum allowed number of \
         images per repository which is '{limit}'",
        place.repository, place.registry
    )
}

/// `LayersNotFoundException` of a push.
pub fn layers_missing<D: Display>(digests: &[D], place: Place<'_>) -> String {
    required_missing("Layers", digests, place)
}

/// `ReferencedImagesNotFoundException`.
pub fn images_missing<D: Display>(digests: &[D], place: Place<'_>) -> String {
    required_missing("Images", digests, place)
}

fn required_missing<D: Display>(what: &str, digests: &[D], place: Place<'_>) -> String {
    format!(
        "{what} with digests '[{}]' required for pushing image into repository with name '{}' in the registry with id '{}' do \
         not exist",
        joined(digests),
        place.repository,
        place.registry
    )
}

/// `ImageNotFoundException`.
pub fn image_not_found(digest: Option<&str>, tag: Option<&str>, place: Place<'_>) -> String {
    format!(
        "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name '{}' in \
         the registry with id '{}'",
        digest.unwrap_or("null"),
        tag.unwrap_or("null"),
        place.repository,
        place.registry
    )
}

/// The reason of `MissingDigestAndTag`.
pub const MISSING_DIGEST_AND_TAG: &str = "Invalid request parameters: both tag and digest cannot be null";
/// The reason of `ImageNotFound`.
pub const REQUESTED_IMAGE_NOT_FOUND: &str = "Requested image not found";

/// The reason of `ImageInaccessible`: its stored bytes are damaged.
pub const REQUESTED_IMAGE_DAMAGED: &str = "Requested image is damaged; pushing it again repairs it";

/// The reason of `InvalidImageDigest`.
pub fn invalid_image_digest() -> String {
    format!("Invalid request parameters: image digest should satisfy the regex '{DIGEST_PATTERN}'")
}

/// The reason of `InvalidImageTag`.
pub fn invalid_image_tag() -> String {
    format!("Invalid request parameters: image tag should satisfy the regex '{TAG_PATTERN}'")
}

/// The reason of `ImageTagDoesNotMatchDigest`.
pub fn tag_does_not_match(tag: &str, digest: &str) -> String {
    format!("Requested image tag '{tag}' does not name the image with digest '{digest}'")
}

/// The reason of `ImageReferencedByManifestList`.
pub fn referenced_by<D: Display>(lists: &[D]) -> String {
    format!("Requested image referenced by manifest list: [{}]", joined(lists))
}

fn joined<D: Display>(items: &[D]) -> String {
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{item}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { repository: "team/app", registry: "012345678901" };

    /// The texts of the real service, as people have met them.
    #[test]
    fn known_texts_are_word_for_word() {
        assert_eq!(
            invalid_parameter("repositoryName", &must_match("[a-z]+")),
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '[a-z]+''"
        );
        assert_eq!(
            repository_not_found(PLACE),
            "The repository with name 'team/app' does not exist in the registry with id '012345678901'"
        );
        assert_eq!(
            repository_already_exists(PLACE),
            "The repository with name 'team/app' already exists in the registry with id '012345678901'"
        );
        assert_eq!(
            repository_not_empty(PLACE),
            "The repository with name 'team/app' in registry with id '012345678901' cannot be deleted because it still contains images"
        );
        assert_eq!(
            upload_not_found("U", PLACE),
            "Upload with id 'U' could not be found for the repository with name 'team/app' in the registry with id '012345678901'"
        );
        assert_eq!(not_the_next_byte(5, 0), "First byte of the layer part is 5 instead of 0");
        assert_eq!(
            empty_upload("U", PLACE),
            "The upload with id 'U' in the repository with name 'team/app' in registry with id '012345678901' cannot be completed because it does not have any parts"
        );
        assert_eq!(
            image_digest_does_not_match("sha256:ab", PLACE),
            "The image with digest 'sha256:ab' in repository 'team/app' and registry ID '012345678901' does not match the image digest that Amazon ECR has calculated"
        );
        assert_eq!(
            image_already_exists("sha256:ab", Some("v1"), PLACE),
            "Image with digest 'sha256:ab' and tag 'v1' already exists in the repository with name 'team/app' in registry with id '012345678901'"
        );
        assert_eq!(
            image_already_exists("sha256:ab", None, PLACE),
            "Image with digest 'sha256:ab' already exists in the repository with name 'team/app' in registry with id '012345678901'"
        );
        assert_eq!(
            tag_is_immutable("v1", "team/app"),
            "The image tag 'v1' already exists in the 'team/app' repository and cannot be overwritten because the tag is immutable"
        );
        assert_eq!(
            tag_limit("v1", PLACE, 1000),
            "Adding tag 'v1' to an image in the repository with name 'team/app' in registry with id '012345678901' exceeds the maximum allowed number of tags per image which is '1000'"
        );
        assert_eq!(
            layers_missing(&["sha256:a", "sha256:b"], PLACE),
            "Layers with digests '[sha256:a, sha256:b]' required for pushing image into repository with name 'team/app' in the registry with id '012345678901' do not exist"
        );
        assert_eq!(
            layer_not_found("sha256:ab", PLACE),
            "The layer with digest sha256:ab does not exist within the repository with name 'team/app' in the registry with id '012345678901'"
        );
        assert_eq!(
            image_not_found(None, Some("v1"), PLACE),
            "The image with imageId {imageDigest:'null', imageTag:'v1'} does not exist within the repository with name 'team/app' in the registry with id '012345678901'"
        );
        assert_eq!(
            filters_missing("IMMUTABLE_WITH_EXCLUSION"),
            "ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as IMMUTABLE_WITH_EXCLUSION"
        );
        assert_eq!(
            referenced_by(&["sha256:a", "sha256:b"]),
            "Requested image referenced by manifest list: [sha256:a, sha256:b]"
        );
    }
}
