//! Repositories: creating, describing, deleting, and which of their tags may move.

use std::collections::BTreeMap;

use layerhold::name::RepositoryName;
use layerhold::repository::{
    CreateError, DeleteError, DeleteMode, ReadError, RepositoryDetail, RepositorySettings, UpdateError,
};
use layerhold::tag::rules::{EXCLUSION_FILTER_WILDCARDS_MAX, ExclusionFilter, Mutability, TagMutability};

use super::{Context, Target, page_size, resource_tags};
use crate::failure::Failure;
use crate::generated::types::{
    CreateRepositoryRequest, CreateRepositoryResponse, DeleteRepositoryRequest, DeleteRepositoryResponse,
    DescribeRepositoriesRequest, DescribeRepositoriesResponse, EncryptionConfiguration, EncryptionType, ErrorCode,
    ImageScanningConfiguration, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType, PutImageTagMutabilityRequest, PutImageTagMutabilityResponse, Repository,
    RepositoryCatalogData, RepositoryCatalogDataInput, Tag,
};
use crate::messages;
use crate::registry::Scope;
use crate::shape::Timestamp;

/// Repositories on a page where the request does not say.
const PAGE_DEFAULT: u32 = 100;

/// Where the engine keeps for us what it does not understand itself.
mod attribute {
    /// Resource tags: a JSON object from key to value.
    pub(super) const RESOURCE_TAGS: &str = "ecr.resource-tags";
    /// Present, with the value `1`, where images are to be scanned when they are pushed.
    pub(super) const SCAN_ON_PUSH: &str = "ecr.scan-on-push";
    /// The public catalogue record: a JSON object with the members of `RepositoryCatalogData`.
    pub(super) const CATALOG: &str = "ecr.catalog";
}

pub(super) fn create(
    context: &Context<'_>,
    input: CreateRepositoryRequest,
) -> Result<CreateRepositoryResponse, Failure> {
    if input.registry_id.as_deref().is_some_and(|id| id != context.config().account()) {
        // No exception of this operation says that a registry does not exist.
        return Err(Failure::invalid_parameter("registryId", messages::NO_SUCH_REGISTRY));
    }
    let target = context.target(None, &input.repository_name)?;
    let mutability = input.image_tag_mutability.unwrap_or(ImageTagMutability::Mutable);
    let filters = input.image_tag_mutability_exclusion_filters.as_deref();
    let tag_mutability = tag_mutability(mutability, filters)?;
    let tags = input.tags.unwrap_or_default();
    resource_tags::judge(&tags)?;
    judge_encryption(context, &target, input.encryption_configuration.as_ref())?;
    let catalog = input.catalog_data.map(catalog).transpose()?;
    let scan_on_push = input.image_scanning_configuration.and_then(|scanning| scanning.scan_on_push);
    let attributes = attributes(&tags, scan_on_push == Some(true), catalog.as_ref())?;
    let settings = RepositorySettings { tag_mutability, attributes, ..RepositorySettings::default() };
    let created = context
        .registry()
        .create_repository(target.repository.name(), &settings, context.call)
        .map_err(|error| create_error(&target, &error))?;
    Ok(CreateRepositoryResponse { repository: Some(described(context, &created)), catalog_data: catalog })
}

fn create_error(target: &Target, error: &CreateError) -> Failure {
    match error {
        CreateError::AlreadyExists { .. } => already_exists(target),
        CreateError::LimitExceeded { limit } => {
            Failure::new(ErrorCode::LimitExceededException, messages::repository_limit(target.place(), *limit))
        }
        CreateError::AttributesTooLarge { .. } => {
            Failure::invalid_parameter("catalogData", messages::ATTRIBUTES_TOO_LARGE)
        }
        CreateError::Storage(error) => Failure::store(error),
        error => Failure::internal().caused_by(error),
    }
}

fn already_exists(target: &Target) -> Failure {
    let message = messages::repository_already_exists(target.place());
    Failure::new(ErrorCode::RepositoryAlreadyExistsException, message)
}

/// AES256 is what every repository says it has. Anything else would be a promise that nobody keeps, and is refused once
/// it is certain that the name is free and the registry has room.
fn judge_encryption(
    context: &Context<'_>,
    target: &Target,
    asked: Option<&EncryptionConfiguration>,
) -> Result<(), Failure> {
    let Some(asked) = asked else { return Ok(()) };
    if asked.encryption_type == EncryptionType::Aes256 {
        return match asked.kms_key {
            Some(_) => Err(Failure::invalid_parameter("encryptionConfiguration.kmsKey", messages::KEY_WITHOUT_KMS)),
            None => Ok(()),
        };
    }
    context.registry().judge_create(target.repository.name()).map_err(|error| create_error(target, &error))?;
    let message = messages::encryption_not_supported(asked.encryption_type.as_str());
    Err(Failure::new(ErrorCode::KmsException, message).with("kmsError", messages::KMS_NOT_SUPPORTED))
}

fn catalog(input: RepositoryCatalogDataInput) -> Result<RepositoryCatalogData, Failure> {
    if input.logo_image_blob.is_some() {
        return Err(Failure::invalid_parameter("catalogData.logoImageBlob", messages::NO_LOGOS));
    }
    Ok(RepositoryCatalogData {
        description: input.description,
        architectures: input.architectures,
        operating_systems: input.operating_systems,
        logo_url: None,
        about_text: input.about_text,
        usage_text: input.usage_text,
        marketplace_certified: None,
    })
}

fn attributes(
    tags: &[Tag],
    scan_on_push: bool,
    catalog: Option<&RepositoryCatalogData>,
) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut attributes = BTreeMap::new();
    if !tags.is_empty() {
        let tags = tags
            .iter()
            .map(|tag| (tag.key.as_deref().unwrap_or_default(), tag.value.as_deref().unwrap_or_default()))
            .collect::<BTreeMap<_, _>>();
        attributes.insert(attribute::RESOURCE_TAGS.to_owned(), json(&tags)?);
    }
    if scan_on_push {
        attributes.insert(attribute::SCAN_ON_PUSH.to_owned(), b"1".to_vec());
    }
    if let Some(catalog) = catalog {
        attributes.insert(attribute::CATALOG.to_owned(), json(catalog)?);
    }
    Ok(attributes)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::internal().caused_by(&error))
}

/// A repository as answers describe it.
fn described(context: &Context<'_>, detail: &RepositoryDetail) -> Repository {
    let (scope, config, name) = (context.scope, context.config(), detail.name.as_str());
    let private = scope == Scope::Private;
    let (mutability, filters) = mutability_members(&detail.settings.tag_mutability);
    let scan_on_push = detail.settings.attributes.contains_key(attribute::SCAN_ON_PUSH);
    Repository {
        repository_arn: Some(scope.repository_arn(config, name)),
        registry_id: Some(config.account().to_owned()),
        repository_name: Some(name.to_owned()),
        repository_uri: Some(scope.repository_uri(config, name)),
        created_at: Some(Timestamp::from_ms(detail.created_ms)),
        image_tag_mutability: private.then_some(mutability),
        image_tag_mutability_exclusion_filters: filters.filter(|_| private),
        image_scanning_configuration: private
            .then_some(ImageScanningConfiguration { scan_on_push: Some(scan_on_push) }),
        encryption_configuration: private
            .then_some(EncryptionConfiguration { encryption_type: EncryptionType::Aes256, kms_key: None }),
    }
}

pub(super) fn delete(
    context: &Context<'_>,
    input: DeleteRepositoryRequest,
) -> Result<DeleteRepositoryResponse, Failure> {
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let mode = if input.force == Some(true) { DeleteMode::Force } else { DeleteMode::IfEmpty };
    let deleted = context.registry().delete_repository(target.repository.name(), mode, context.call);
    let deleted = deleted.map_err(|error| match error {
        DeleteError::RepositoryNotFound(_) => target.not_found(),
        DeleteError::NotEmpty { .. } => {
            let message = messages::repository_not_empty(target.place());
            Failure::new(ErrorCode::RepositoryNotEmptyException, message)
        }
        DeleteError::Storage(error) => Failure::store(&error),
        error => Failure::internal().caused_by(&error),
    })?;
    Ok(DeleteRepositoryResponse { repository: Some(described(context, &deleted)) })
}

pub(super) fn describe(
    context: &Context<'_>,
    input: DescribeRepositoriesRequest,
) -> Result<DescribeRepositoriesResponse, Failure> {
    if let Some(names) = input.repository_names {
        if input.next_token.is_some() || input.max_results.is_some() {
            let member = if input.next_token.is_some() { "nextToken" } else { "maxResults" };
            return Err(Failure::invalid_parameter(member, messages::NO_PAGING_WITH_IDS));
        }
        let repositories = Some(describe_named(context, input.registry_id.as_deref(), &names)?);
        return Ok(DescribeRepositoriesResponse { repositories, next_token: None });
    }
    if input.registry_id.as_deref().is_some_and(|id| id != context.config().account()) {
        // The exception for an unknown repository would have none to name.
        return Err(Failure::invalid_parameter("registryId", messages::NO_SUCH_REGISTRY));
    }
    let query = context.query();
    let place = context.place(&query, input.next_token.as_deref())?;
    let after = place.map(|place| repository_after(&place)).transpose()?;
    let page = context
        .registry()
        .list_repositories(after.as_ref(), page_size(input.max_results, PAGE_DEFAULT))
        .map_err(|error| match error {
            ReadError::Storage(error) => Failure::store(&error),
            error => Failure::internal().caused_by(&error),
        })?;
    let next_token = context.token(&query, page.next);
    let repositories = page.items.iter().map(|detail| described(context, detail)).collect();
    Ok(DescribeRepositoriesResponse { repositories: Some(repositories), next_token })
}

/// The name that a page ended with. The token was sealed, so it is one that we wrote.
fn repository_after(place: &[u8]) -> Result<RepositoryName, Failure> {
    let text = std::str::from_utf8(place).map_err(|error| Failure::internal().caused_by(&error))?;
    RepositoryName::parse(text).map_err(|error| Failure::internal().caused_by(&error))
}

/// The repositories that a request names, each once. One that is missing fails all.
fn describe_named(
    context: &Context<'_>,
    registry_id: Option<&str>,
    names: &[String],
) -> Result<Vec<Repository>, Failure> {
    let mut found = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let target = context.target(registry_id, name)?;
        if names.iter().take(index).any(|earlier| earlier == name) {
            continue;
        }
        let detail = target.repository.describe().map_err(|error| target.read_error(&error))?;
        found.push(described(context, &detail));
    }
    Ok(found)
}

pub(super) fn put_mutability(
    context: &Context<'_>,
    input: PutImageTagMutabilityRequest,
) -> Result<PutImageTagMutabilityResponse, Failure> {
    let filters = input.image_tag_mutability_exclusion_filters.as_deref();
    let mutability = tag_mutability(input.image_tag_mutability, filters)?;
    let target = context.target(input.registry_id.as_deref(), &input.repository_name)?;
    let detail = target.repository.put_tag_mutability(&mutability, context.call).map_err(|error| match error {
        UpdateError::RepositoryNotFound(_) => target.not_found(),
        UpdateError::Storage(error) => Failure::store(&error),
        error => Failure::internal().caused_by(&error),
    })?;
    let (mutability, filters) = mutability_members(&detail.settings.tag_mutability);
    Ok(PutImageTagMutabilityResponse {
        registry_id: Some(target.registry),
        repository_name: Some(target.name),
        image_tag_mutability: Some(mutability),
        image_tag_mutability_exclusion_filters: filters,
    })
}

/// The setting that a request asks for: mode and filters must pair up.
fn tag_mutability(
    asked: ImageTagMutability,
    filters: Option<&[ImageTagMutabilityExclusionFilter]>,
) -> Result<TagMutability, Failure> {
    const MEMBER: &str = "imageTagMutabilityExclusionFilters";
    let mode = match asked {
        ImageTagMutability::Mutable => Mutability::Mutable,
        ImageTagMutability::Immutable => Mutability::Immutable,
        ImageTagMutability::ImmutableWithExclusion => Mutability::ImmutableWithExclusion,
        ImageTagMutability::MutableWithExclusion => Mutability::MutableWithExclusion,
    };
    if mode.has_exclusions() && filters.is_none() {
        return Err(Failure::invalid_parameter(MEMBER, &messages::filters_missing(asked.as_str())));
    }
    if !mode.has_exclusions() && filters.is_some() {
        return Err(Failure::invalid_parameter(MEMBER, &messages::filters_unexpected(asked.as_str())));
    }
    let parsed = filters
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, given)| {
            // Length and characters were judged by the table; the number of wildcards is the engine's rule.
            ExclusionFilter::parse(&given.filter).map_err(|error| {
                let detail = messages::too_many_wildcards(EXCLUSION_FILTER_WILDCARDS_MAX);
                Failure::invalid_parameter(&format!("{MEMBER}.{}.filter", index + 1), &detail).caused_by(&error)
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    TagMutability::new(mode, parsed).map_err(|error| Failure::internal().caused_by(&error))
}

/// The setting as answers tell it; filters only with a mode that has some.
fn mutability_members(
    mutability: &TagMutability,
) -> (ImageTagMutability, Option<Vec<ImageTagMutabilityExclusionFilter>>) {
    let mode = match mutability.mode() {
        Mutability::Mutable => ImageTagMutability::Mutable,
        Mutability::Immutable => ImageTagMutability::Immutable,
        Mutability::ImmutableWithExclusion => ImageTagMutability::ImmutableWithExclusion,
        Mutability::MutableWithExclusion => ImageTagMutability::MutableWithExclusion,
    };
    let filter = |filter: &ExclusionFilter| ImageTagMutabilityExclusionFilter {
        filter_type: ImageTagMutabilityExclusionFilterType::Wildcard,
        filter: filter.as_str().to_owned(),
    };
    let filters = mutability.filters().iter().map(filter).collect::<Vec<_>>();
    (mode, Some(filters).filter(|filters| !filters.is_empty()))
}
