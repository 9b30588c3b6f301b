//! The operations that have a body: from judged members to an answer, one file for each family.
//!
//! A body decides nothing that the engine decides. It parses names, asks the engine, and says the engine's answer in the
//! service's words; the order in which it asks is the order in which the service reports what is wrong.

mod authorization;
mod deletion;
mod identifier;
mod images;
mod layers;
mod listings;
mod registries;
mod repositories;
mod resource_tags;

use layerhold::error::RepositoryNotFound;
use layerhold::name::RepositoryName;
use layerhold::repository::ReadError;
use layerhold::{Call, Repository};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ecr::Ecr;
use crate::failure::{CommonError, Failure};
use crate::generated::types::ErrorCode;
use crate::messages::{self, Place};
use crate::registry::{RegistryConfig, Scope};
use crate::shape::Operation;
use crate::token::Query;
use crate::wire::{self, Input};

/// How long an operation may keep the thread that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A few point reads or one bounded scan of the metadata, no sync: as cheap as handing it to another thread.
    Point,
    /// It waits for a sync, moves megabytes, or reads many rows.
    Blocking,
}

type Body = fn(&Context<'_>, Input) -> Result<Vec<u8>, Failure>;

struct Entry {
    scopes: &'static [Scope],
    name: &'static str,
    cost: Cost,
    body: Body,
}

const BOTH: &[Scope] = &[Scope::Private, Scope::Public];
const PRIVATE: &[Scope] = &[Scope::Private];
const PUBLIC: &[Scope] = &[Scope::Public];

/// Makes the untyped form of a body out of its typed one.
macro_rules! body {
    ($body:path) => {
        |context, input| typed(context, input, $body)
    };
}

/// Every operation that has a body. One that is not here answers that it is not implemented.
static BODIES: &[Entry] = &[
    Entry { scopes: BOTH, name: "BatchCheckLayerAvailability", cost: Cost::Blocking, body: body!(layers::check) },
    Entry { scopes: BOTH, name: "InitiateLayerUpload", cost: Cost::Blocking, body: body!(layers::initiate) },
    Entry { scopes: BOTH, name: "UploadLayerPart", cost: Cost::Blocking, body: body!(layers::upload_part) },
    Entry { scopes: BOTH, name: "CompleteLayerUpload", cost: Cost::Blocking, body: body!(layers::complete) },
    Entry { scopes: PRIVATE, name: "GetDownloadUrlForLayer", cost: Cost::Blocking, body: body!(layers::download_url) },
    Entry { scopes: BOTH, name: "PutImage", cost: Cost::Blocking, body: body!(images::put) },
    Entry { scopes: PRIVATE, name: "BatchGetImage", cost: Cost::Blocking, body: body!(images::batch_get) },
    Entry { scopes: BOTH, name: "BatchDeleteImage", cost: Cost::Blocking, body: body!(deletion::batch_delete) },
    Entry { scopes: PRIVATE, name: "ListImages", cost: Cost::Point, body: body!(listings::list_images) },
    Entry { scopes: BOTH, name: "DescribeImages", cost: Cost::Blocking, body: body!(listings::describe_images) },
    Entry {
        scopes: PUBLIC,
        name: "DescribeImageTags",
        cost: Cost::Blocking,
        body: body!(listings::describe_image_tags),
    },
    Entry { scopes: PRIVATE, name: "ListImageReferrers", cost: Cost::Blocking, body: body!(listings::list_referrers) },
    Entry { scopes: BOTH, name: "CreateRepository", cost: Cost::Blocking, body: body!(repositories::create) },
    Entry { scopes: BOTH, name: "DeleteRepository", cost: Cost::Blocking, body: body!(repositories::delete) },
    Entry { scopes: BOTH, name: "DescribeRepositories", cost: Cost::Blocking, body: body!(repositories::describe) },
    Entry {
        scopes: PRIVATE,
        name: "PutImageTagMutability",
        cost: Cost::Blocking,
        body: body!(repositories::put_mutability),
    },
    Entry { scopes: PUBLIC, name: "DescribeRegistries", cost: Cost::Point, body: body!(registries::describe) },
    Entry {
        scopes: PRIVATE,
        name: "GetAuthorizationToken",
        cost: Cost::Point,
        body: body!(authorization::private_token),
    },
    Entry {
        scopes: PUBLIC,
        name: "GetAuthorizationToken",
        cost: Cost::Point,
        body: body!(authorization::public_token),
    },
];

fn entry(scope: Scope, operation: &Operation) -> Option<&'static Entry> {
    BODIES.iter().find(|entry| entry.name == operation.name && entry.scopes.contains(&scope))
}

/// Whether an operation does its work here, rather than answer that it is not implemented.
pub fn is_implemented(scope: Scope, operation: &Operation) -> bool {
    entry(scope, operation).is_some()
}

pub(crate) fn cost(scope: Scope, operation: &Operation) -> Cost {
    // Saying that there is no body costs nothing.
    entry(scope, operation).map_or(Cost::Point, |entry| entry.cost)
}

pub(crate) fn run(context: &Context<'_>, input: Input) -> Result<Vec<u8>, Failure> {
    match entry(context.scope, context.operation) {
        Some(entry) => (entry.body)(context, input),
        None => Err(Failure::common(CommonError::NotImplemented, messages::not_implemented(context.operation.name))),
    }
}

fn typed<I: DeserializeOwned, O: Serialize>(
    context: &Context<'_>,
    input: Input,
    body: fn(&Context<'_>, I) -> Result<O, Failure>,
) -> Result<Vec<u8>, Failure> {
    wire::encode(&body(context, input.into_type()?)?)
}

/// What a body knows besides the members of its request.
pub(crate) struct Context<'a> {
    pub(crate) ecr: &'a Ecr,
    pub(crate) scope: Scope,
    pub(crate) operation: &'static Operation,
    pub(crate) call: &'a Call,
}

impl Context<'_> {
    fn config(&self) -> &RegistryConfig {
        self.ecr.config()
    }

    fn registry(&self) -> &layerhold::Registry {
        self.ecr.registry(self.scope)
    }

    /// The repository that a request is about. Whether it exists is for the engine to say.
    fn target(&self, registry_id: Option<&str>, name: &str) -> Result<Target, Failure> {
        self.scope.resolve(self.config(), self.operation, registry_id, name)?;
        // Both services' grammars are within the engine's, so a name that the tables passed always parses.
        let parsed = RepositoryName::parse(name).map_err(|error| Failure::internal().caused_by(&error))?;
        let repository = self.registry().repository(&parsed);
        Ok(Target { repository, name: name.to_owned(), registry: self.config().account().to_owned() })
    }

    /// A listing by this operation, to be narrowed by what else its token must be bound to.
    fn query(&self) -> Query {
        Query::new(self.operation.name, &self.scope.engine_name(self.config()))
    }

    /// A member of the right form whose value makes no sense here.
    fn bad_value(&self, path: &str, detail: &str) -> Failure {
        let both = self.operation.models(ErrorCode::ValidationException);
        let code = if both { ErrorCode::ValidationException } else { ErrorCode::InvalidParameterException };
        Failure::new(code, messages::invalid_parameter(path, detail))
    }

    /// Where a listing goes on; nothing on its first page.
    fn place(&self, query: &Query, token: Option<&str>) -> Result<Option<Vec<u8>>, Failure> {
        let Some(token) = token else { return Ok(None) };
        let place = query.place(self.ecr.key(), token);
        place.map(Some).ok_or_else(|| self.bad_value("nextToken", messages::INVALID_TOKEN))
    }

    /// The same within a repository, whose absence is reported before a bad token.
    fn place_in(&self, target: &Target, query: &Query, token: Option<&str>) -> Result<Option<Vec<u8>>, Failure> {
        self.place(query, token).map_err(|bad| target.unless_absent(bad))
    }

    /// The token of the next page.
    fn token(&self, query: &Query, next: Option<Vec<u8>>) -> Option<String> {
        next.map(|place| query.token(self.ecr.key(), &place))
    }
}

/// How many items a page holds where the request does not say, and where it does.
fn page_size(max_results: Option<i32>, default: u32) -> u32 {
    max_results.and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
}

/// A repository, under the names that messages give it.
struct Target {
    repository: Repository,
    name: String,
    registry: String,
}

impl Target {
    fn place(&self) -> Place<'_> {
        Place { repository: &self.name, registry: &self.registry }
    }

    fn not_found(&self) -> Failure {
        Failure::new(ErrorCode::RepositoryNotFoundException, messages::repository_not_found(self.place()))
    }

    fn read_error(&self, error: &ReadError) -> Failure {
        match error {
            ReadError::RepositoryNotFound(RepositoryNotFound { .. }) => self.not_found(),
            ReadError::Storage(error) => Failure::store(error),
            _ => Failure::internal().caused_by(error),
        }
    }

    /// That the repository exists.
    fn exists(&self) -> Result<(), Failure> {
        self.repository.describe().map(drop).map_err(|error| self.read_error(&error))
    }

    /// `failure`, but if the repository does not exist, that: it is reported first.
    fn unless_absent(&self, failure: Failure) -> Failure {
        self.exists().err().unwrap_or(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::services;

    #[test]
    fn every_body_belongs_to_an_operation() {
        let mut found = 0;
        for service in services() {
            let scope = Scope::of(service);
            found += service.operations.iter().filter(|operation| is_implemented(scope, operation)).count();
        }
        assert_eq!(found, BODIES.iter().map(|entry| entry.scopes.len()).sum::<usize>());
    }
}
