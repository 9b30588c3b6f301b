//! A registry: the owner of repositories, and the domain within which equal blobs are stored once.

use crate::call::Call;
use crate::change::{Event, RepositoryEvent};
use crate::engine::{Engine, Needs, value};
use crate::error::{ErrorKind, Failure, RepositoryNotFound, storage_into};
use crate::format::codec::{Decoder, Encoder};
use crate::format::keys::{self, RegistryId, RepositoryId, Scope};
use crate::format::parsed::Key;
use crate::format::values::{NextIdsRow, RepositoryRow, RepositorySettings, Row, UsageRow};
use crate::name::{RegistryName, RepositoryName};
use crate::options::Limits;
use crate::page::Page;
use crate::repository::{ReadError, Repository, RepositoryDetail, RepositoryUsage};
use crate::store::{Direction, LockMode, StorageError, View};
use crate::txn::committer::Delta;
use crate::txn::{Commit, Outcome, Stop, no_limit};

/// The name that leads to a registry, which never changes; `None` where its row is lost. There are few registries, and only
/// damage is told by its name.
pub(crate) fn registry_name(view: &dyn View, registry: RegistryId) -> Result<Option<RegistryName>, StorageError> {
    let mut found = None;
    view.scan(&keys::registry_names(), Direction::Forward, &mut |key, value| {
        if value == registry.0.to_be_bytes() {
            found = keys::registry_name_of(key).and_then(|name| RegistryName::parse(name).ok());
        }
        if found.is_some() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

/// A handle on a registry: cheap to clone, and valid whether or not the registry exists.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(crate) engine: Engine,
    pub(crate) name: RegistryName,
    pub(crate) limits: Limits,
}

/// What deleting a repository does when it still holds manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// It is refused.
    IfEmpty,
    /// They go with it.
    Force,
}

/// Why a repository was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The registry does not exist.
    #[error("registry does not exist registry={registry}")]
    RegistryNotFound {
        /// The registry.
        registry: RegistryName,
    },
    /// The name is taken.
    #[error("repository already exists repository={repository}")]
    AlreadyExists {
        /// The name.
        repository: RepositoryName,
    },
    /// The registry holds as many repositories as it may.
    #[error("too many repositories limit={limit}")]
    LimitExceeded {
        /// [`Limits::repositories`].
        limit: u64,
    },
    /// The host's data on the repository is too large.
    #[error("repository attributes too large size={size} limit={limit}")]
    AttributesTooLarge {
        /// Their length in bytes, names included.
        size: u64,
        /// [`Limits::attribute_bytes`].
        limit: u64,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why a repository was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// It does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// It holds manifests.
    #[error("repository still holds images repository={repository} images={images}")]
    NotEmpty {
        /// Its name.
        repository: RepositoryName,
        /// How many manifests it holds.
        images: u64,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(CreateError, DeleteError);

impl CreateError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RegistryNotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::LimitExceeded { .. } => ErrorKind::LimitExceeded,
            Self::AttributesTooLarge { .. } => ErrorKind::Invalid,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl DeleteError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) => ErrorKind::NotFound,
            Self::NotEmpty { .. } => ErrorKind::Conflict,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl Registry {
    pub(crate) fn new(engine: Engine, name: RegistryName) -> Self {
        Self { engine, name, limits: Limits::default() }
    }

    /// The same handle with other quotas for the calls made through it.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RegistryName {
        &self.name
    }

    /// The quotas that this handle applies.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The engine that it belongs to.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A handle on a repository. It does not look whether the repository exists; the operations do.
    #[must_use]
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository { registry: self.clone(), name: name.clone() }
    }

    /// Makes a repository. Durable when it returns.
    pub fn create_repository(
        &self,
        name: &RepositoryName,
        settings: &RepositorySettings,
        call: &Call,
    ) -> Result<RepositoryDetail, CreateError> {
        let inner = &self.engine.inner;
        let size = attribute_bytes(settings);
        if size > self.limits.attribute_bytes {
            return Err(CreateError::AttributesTooLarge { size, limit: self.limits.attribute_bytes });
        }
        let registry = self.id()?.ok_or_else(|| CreateError::RegistryNotFound { registry: self.name.clone() })?;
        let name_key = keys::repository_name(registry, name);
        let ids_key = keys::meta::next_ids();
        let mut arguments = self.arguments("create repository", name);
        settings.encode(&mut arguments);
        let limit = self.limits.repositories;
        let over = |limit| Some(CreateError::LimitExceeded { limit });
        inner.run(Needs::Room, call, &mut arguments, over, |attempt| {
            let next = attempt.view()?.get(&ids_key)?;
            let mut ids = NextIdsRow::decode_optional(next.as_deref())?.unwrap_or_default();
            let scope = Scope { registry, repository: ids.repository };
            let row_key = keys::repository(scope);
            let locks = attempt.lock(&[
                (&ids_key, LockMode::Exclusive),
                (&name_key, LockMode::Exclusive),
                (&row_key, LockMode::Exclusive),
            ])?;
            if value(&locks, 1).is_some() {
                return Err(Stop::Refused(CreateError::AlreadyExists { repository: name.clone() }));
            }
            if value(&locks, 0) != next.as_deref() {
                return Err(Stop::Again);
            }
            ids.repository.0 += 1;
            let row = RepositoryRow {
                name: name.clone(),
                created_wall_ms: attempt.wall_ms(),
                settings: settings.clone(),
                dead_since_ms: None,
            };
            let detail = RepositoryDetail::new(scope, row.clone(), UsageRow::default());
            let mut commit = Commit::new(locks, self.event(name, RepositoryEvent::Created), detail);
            commit.batch.put(&name_key, &scope.repository.0.to_be_bytes());
            commit.batch.put(&row_key, &row.encode());
            commit.batch.put(&ids_key, &ids.encode());
            commit.deltas.push(Delta {
                key: keys::registry_usage(registry),
                add: [1, 0, 0, 0],
                cap: Some((0, limit)),
                anew: false,
            });
            Ok(commit.decided())
        })
    }

    /// Whether a repository of this name could be made now: for a host that has reasons of its own to refuse one, and reports
    /// the engine's first. Nothing is reserved.
    pub fn judge_create(&self, name: &RepositoryName) -> Result<(), CreateError> {
        let registry = self.id()?.ok_or_else(|| CreateError::RegistryNotFound { registry: self.name.clone() })?;
        let view = self.engine.inner.txn.store.view()?;
        let (name_key, usage_key) = (keys::repository_name(registry, name), keys::registry_usage(registry));
        let [taken, usage] = <[_; 2]>::try_from(view.get_many(&[&name_key, &usage_key])?).unwrap_or_default();
        if taken.is_some() {
            return Err(CreateError::AlreadyExists { repository: name.clone() });
        }
        let UsageRow([repositories, ..]) = UsageRow::decode_optional(usage.as_deref())?.unwrap_or_default();
        let limit = self.limits.repositories;
        if repositories < limit { Ok(()) } else { Err(CreateError::LimitExceeded { limit }) }
    }

    /// Deletes a repository in one small transaction: its name is free at once and nothing in it can be read any more.
    /// Its rows go later. Durable when it returns; the answer is the repository as it was.
    pub fn delete_repository(
        &self,
        name: &RepositoryName,
        mode: DeleteMode,
        call: &Call,
    ) -> Result<RepositoryDetail, DeleteError> {
        let inner = &self.engine.inner;
        let mut arguments = self.arguments("delete repository", name);
        arguments.bool(mode == DeleteMode::Force);
        inner.run(Needs::Writing, call, &mut arguments, no_limit, |attempt| {
            let scope = {
                let view = attempt.view()?;
                self.repository(name).find(view.as_ref())?
            };
            let Some(scope) = scope else {
                // The operation may have been done already under this id.
                attempt.lock::<DeleteError>(&[])?;
                return Err(Stop::Refused(self.repository(name).not_found().into()));
            };
            let name_key = keys::repository_name(scope.registry, name);
            let row_key = keys::repository(scope);
            let locks = attempt.lock(&[(&name_key, LockMode::Exclusive), (&row_key, LockMode::Exclusive)])?;
            if value(&locks, 0) != Some(&scope.repository.0.to_be_bytes()[..]) {
                return Err(Stop::Again);
            }
            let mut row = RepositoryRow::decode(value(&locks, 1).unwrap_or_default())?;
            // Exact, because every writer in the repository holds its row shared until its counts are applied.
            let usage = attempt.view()?.get(&keys::repository_usage(scope))?;
            let usage = UsageRow::decode_optional(usage.as_deref())?.unwrap_or_default();
            let detail = RepositoryDetail::new(scope, row.clone(), usage);
            if mode == DeleteMode::IfEmpty && detail.usage.images > 0 {
                let images = detail.usage.images;
                return Err(Stop::Refused(DeleteError::NotEmpty { repository: name.clone(), images }));
            }
            row.dead_since_ms = Some(attempt.now_ms());
            let mut commit = Commit::new(locks, self.event(name, RepositoryEvent::Deleted), detail);
            commit.batch.delete(&name_key);
            commit.batch.put(&row_key, &row.encode());
            commit.batch.put(&keys::dead_repository(scope), &attempt.now_ms().to_be_bytes());
            commit.add(keys::registry_usage(scope.registry), [-1, 0, 0, 0]);
            Ok(commit.decided())
        })
    }

    /// One repository with its settings and usage.
    pub fn describe_repository(&self, name: &RepositoryName) -> Result<RepositoryDetail, ReadError> {
        self.repository(name).describe()
    }

    /// The repositories whose names sort after `after`, in byte order of their names.
    pub fn list_repositories(
        &self,
        after: Option<&RepositoryName>,
        limit: u32,
    ) -> Result<Page<RepositoryDetail>, ReadError> {
        let Some(registry) = self.id()? else { return Ok(Page { items: Vec::new(), next: None }) };
        let view = self.engine.inner.txn.store.view()?;
        let token = |last: &RepositoryDetail| last.name.as_str().as_bytes().to_vec();
        self.repository_rows(view.as_ref(), registry, after, limit, token, |_, value| {
            RepositoryDetail::read(view.as_ref(), Scope { registry, repository: repository_id(value)? })
        })
    }

    /// The names alone, in the same order: one scan, whatever the host keeps with its repositories.
    pub fn list_repository_names(
        &self,
        after: Option<&RepositoryName>,
        limit: u32,
    ) -> Result<Page<RepositoryName>, ReadError> {
        let Some(registry) = self.id()? else { return Ok(Page { items: Vec::new(), next: None }) };
        let view = self.engine.inner.txn.store.view()?;
        let token = |last: &RepositoryName| last.as_str().as_bytes().to_vec();
        self.repository_rows(view.as_ref(), registry, after, limit, token, |key, _| match Key::parse(key) {
            Some(Key::RepositoryName(_, name)) => Ok(name),
            _ => Err(StorageError::corrupt("repository name row: malformed key")),
        })
    }

    /// A page of what name rows behind `after` say.
    fn repository_rows<T>(
        &self,
        view: &dyn View,
        registry: RegistryId,
        after: Option<&RepositoryName>,
        limit: u32,
        token: impl FnOnce(&T) -> Vec<u8>,
        read: impl FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
    ) -> Result<Page<T>, ReadError> {
        let mut range = keys::repository_names(registry);
        if let Some(after) = after {
            range = keys::after(range, &keys::repository_name(registry, after));
        }
        let limit = limit.min(self.limits.page_items) as usize;
        Ok(Page::of_rows(view, &range, limit, token, read)?)
    }

    pub(crate) fn id(&self) -> Result<Option<RegistryId>, StorageError> {
        let view = self.engine.inner.txn.store.view()?;
        self.engine.inner.registry_id(&self.name, |key| view.get(key))
    }

    /// The beginning of an operation's arguments: what it is, and where.
    pub(crate) fn arguments(&self, operation: &str, repository: &RepositoryName) -> Encoder {
        let mut arguments = Encoder::bare();
        arguments.str(operation).str(self.name.as_str()).str(repository.as_str());
        arguments
    }

    pub(crate) fn event(&self, repository: &RepositoryName, event: RepositoryEvent) -> Event {
        Event::Repository { registry: self.name.clone(), repository: repository.clone(), event }
    }
}

/// The id in a repository-name row.
pub(crate) fn repository_id(value: &[u8]) -> Result<RepositoryId, StorageError> {
    let bytes = value.try_into().map_err(|_| StorageError::corrupt("repository name row: malformed"))?;
    Ok(RepositoryId(u64::from_be_bytes(bytes)))
}

pub(crate) fn attribute_bytes(settings: &RepositorySettings) -> u64 {
    settings.attributes.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

impl Outcome for RepositoryDetail {
    fn encode(&self, encoder: &mut Encoder) {
        let RepositoryUsage { images, tags, blobs, logical_bytes } = self.usage;
        encoder.u32(self.scope.registry.0).u64(self.id).u64(images).u64(tags).u64(blobs).u64(logical_bytes);
        let row = RepositoryRow {
            name: self.name.clone(),
            created_wall_ms: self.created_ms,
            settings: self.settings.clone(),
            dead_since_ms: None,
        };
        encoder.bytes(&row.encode());
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, StorageError> {
        let scope = Scope { registry: RegistryId(decoder.u32()?), repository: RepositoryId(decoder.u64()?) };
        let usage = UsageRow([decoder.u64()?, decoder.u64()?, decoder.u64()?, decoder.u64()?]);
        Ok(Self::new(scope, RepositoryRow::decode(decoder.bytes()?)?, usage))
    }
}
