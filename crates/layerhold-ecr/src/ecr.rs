//! The adapter as a host holds it.

use std::sync::Arc;

use layerhold::clock::Clock;
use layerhold::error::Failure as EngineFailure;
use layerhold::name::RegistryName;
use layerhold::{Call, Engine, Limits, Registry};

use crate::failure::Failure;
use crate::operations::{self, Context, Cost};
use crate::registry::{ConfigError, RegistryConfig, Scope};
use crate::token::TokenKey;
use crate::wire::{self, Request, Response};

/// The private and the public service over one engine. Cheap to clone, `Send + Sync`; every call blocks until it is done.
#[derive(Debug, Clone)]
pub struct Ecr {
    config: Arc<RegistryConfig>,
    private: Registry,
    public: Registry,
    key: TokenKey,
    clock: Arc<dyn Clock>,
}

impl Ecr {
    /// The services of `config` over `engine`, with ECR's own quotas.
    ///
    /// `key` seals page tokens and authorization tokens. `clock` dates authorization tokens, which expire by wall time.
    ///
    /// # Errors
    /// [`ConfigError`] where the configured names are too long together for the engine.
    pub fn new(
        engine: &Engine,
        config: RegistryConfig,
        key: TokenKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let registry = |scope: Scope| {
            let name = scope.engine_name(&config);
            RegistryName::parse(&name)
                .map(|name| engine.registry(&name))
                .map_err(|_| ConfigError::Account { given: name })
        };
        let private = registry(Scope::Private)?.with_limits(Limits::ecr_private());
        let public = registry(Scope::Public)?.with_limits(Limits::ecr_public());
        Ok(Self { config: Arc::new(config), private, public, key, clock })
    }

    /// The same with other quotas for the private registry.
    #[must_use]
    pub fn with_private_limits(mut self, limits: Limits) -> Self {
        self.private = self.private.with_limits(limits);
        self
    }

    /// The same with other quotas for the public registry.
    #[must_use]
    pub fn with_public_limits(mut self, limits: Limits) -> Self {
        self.public = self.public.with_limits(limits);
        self
    }

    /// Makes both registries in the store. It does no harm to make them again.
    ///
    /// # Errors
    /// What the store answers.
    pub fn create_registries(&self, call: &Call) -> Result<(), EngineFailure> {
        for registry in [&self.private, &self.public] {
            registry.engine().create_registry(registry.name(), call)?;
        }
        Ok(())
    }

    /// Which registries these are and where clients reach them.
    pub fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// The engine's handle on one of the two registries, with its quotas.
    pub fn registry(&self, scope: Scope) -> &Registry {
        match scope {
            Scope::Private => &self.private,
            Scope::Public => &self.public,
        }
    }

    pub(crate) fn key(&self) -> &TokenKey {
        &self.key
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// How long the operation that `target` names may keep a thread.
    pub fn cost(target: Option<&str>) -> Cost {
        wire::find(target).map_or(Cost::Point, |(service, operation)| operations::cost(Scope::of(service), operation))
    }

    /// Answers a request. Whatever is wrong with it, there is an answer.
    pub fn respond(&self, request: Request<'_>, call: &Call) -> Response {
        let request_id = request.request_id;
        match self.answer(request, call) {
            Ok(body) => Response::succeeded(body, request_id),
            Err(failure) => Response::failed(&failure, request_id),
        }
    }

    fn answer(&self, request: Request<'_>, call: &Call) -> Result<Vec<u8>, Failure> {
        let accepted = wire::accept(request)?;
        let scope = Scope::of(accepted.service);
        operations::run(&Context { ecr: self, scope, operation: accepted.operation, call }, accepted.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_be_shared_between_threads() {
        fn shared<T: Send + Sync + Clone + 'static>() {}
        shared::<Ecr>();
    }

    #[test]
    fn what_waits_is_told_from_what_does_not() {
        let private = |operation: &str| Ecr::cost(Some(&format!("AmazonEC2ContainerRegistry_V20150921.{operation}")));
        for operation in ["UploadLayerPart", "PutImage", "BatchGetImage", "CreateRepository"] {
            assert_eq!(private(operation), Cost::Blocking, "{operation}");
        }
        for operation in ["ListImages", "GetAuthorizationToken", "StartImageScan", "Nonsense"] {
            assert_eq!(private(operation), Cost::Point, "{operation}");
        }
        assert_eq!(Ecr::cost(None), Cost::Point);
    }
}
