//! A repository: the scope of blobs, manifests and tags.

use std::collections::BTreeMap;

use crate::call::Call;
use crate::change::{Event, RepositoryEvent, Setting};
use crate::engine::{Inner, Needs, value};
use crate::error::{ErrorKind, Failure, RepositoryNotFound, storage_into};
use crate::format::codec::Encoder;
use crate::format::keys::{self, Scope};
use crate::format::values::{RepositoryRow, Row, UsageRow};
use crate::name::RepositoryName;
use crate::registry::{Registry, attribute_bytes, repository_id};
use crate::store::{LockMode, StorageError, View};
use crate::tag::rules::TagMutability;
use crate::txn::{Attempt, Commit, Decision, Stop, no_limit};

pub use crate::format::values::RepositorySettings;
pub use crate::registry::{CreateError, DeleteError, DeleteMode};

/// A handle on a repository: cheap to clone, and valid whether or not the repository exists.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) registry: Registry,
    pub(crate) name: RepositoryName,
}

/// A repository as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryDetail {
    /// Its name.
    pub name: RepositoryName,
    /// Its id, unique in the store and never used again.
    pub id: u64,
    /// Wall time of creation, in milliseconds since 1970.
    pub created_ms: u64,
    /// What an operator set.
    pub settings: RepositorySettings,
    /// What it holds, exactly.
    pub usage: RepositoryUsage,
    pub(crate) scope: Scope,
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepositoryUsage {
    /// Manifests.
    pub images: u64,
    /// Tags.
    pub tags: u64,
    /// Blobs that can be read through it.
    pub blobs: u64,
    /// Their length in bytes, each counted once.
    pub logical_bytes: u64,
}

/// Why a repository, or something in it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

/// Why settings were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The repository does not exist.
    #[error(transparent)]
    RepositoryNotFound(#[from] RepositoryNotFound),
    /// The host's data on the repository is too large.
    #[error("repository attributes too large size={size} limit={limit}")]
    AttributesTooLarge {
        /// Their length in bytes, names included.
        size: u64,
        /// [`Limits::attribute_bytes`](crate::Limits::attribute_bytes).
        limit: u64,
    },
    /// See [`Failure`].
    #[error(transparent)]
    Storage(#[from] Failure),
}

storage_into!(ReadError, UpdateError);

impl ReadError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) => ErrorKind::NotFound,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl UpdateError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepositoryNotFound(_) => ErrorKind::NotFound,
            Self::AttributesTooLarge { .. } => ErrorKind::Invalid,
            Self::Storage(failure) => failure.kind(),
        }
    }
}

impl Repository {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// The registry that owns it.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Settings and usage, as of one moment.
    pub fn describe(&self) -> Result<RepositoryDetail, ReadError> {
        let view = self.inner().txn.store.view()?;
        let scope = self.find(view.as_ref())?.ok_or_else(|| self.not_found())?;
        Ok(RepositoryDetail::read(view.as_ref(), scope)?)
    }

    /// Says which tags may move from now on; tags that are there are not looked at. Durable when it returns.
    pub fn put_tag_mutability(&self, mutability: &TagMutability, call: &Call) -> Result<RepositoryDetail, UpdateError> {
        let setting = Setting::TagMutability(mutability.clone());
        self.update("put tag mutability", call, &setting, |settings| settings.tag_mutability = mutability.clone())
    }

    /// Says whether manifests may reference what the repository does not hold. Durable when it returns.
    pub fn put_sparse_images(&self, sparse: bool, call: &Call) -> Result<RepositoryDetail, UpdateError> {
        let setting = Setting::SparseImages(sparse);
        self.update("put sparse images", call, &setting, |settings| settings.sparse_images = sparse)
    }

    /// Replaces the host's own data on the repository. Durable when it returns.
    pub fn put_attributes(
        &self,
        attributes: &BTreeMap<String, Vec<u8>>,
        call: &Call,
    ) -> Result<RepositoryDetail, UpdateError> {
        let setting = Setting::Attributes(attributes.keys().cloned().collect());
        self.update("put attributes", call, &setting, |settings| settings.attributes = attributes.clone())
    }

    fn update(
        &self,
        operation: &str,
        call: &Call,
        setting: &Setting,
        change: impl Fn(&mut RepositorySettings),
    ) -> Result<RepositoryDetail, UpdateError> {
        let inner = self.inner();
        let mut arguments = self.arguments(operation);
        let mut changed = RepositorySettings::default();
        change(&mut changed);
        let size = attribute_bytes(&changed);
        let limit = self.registry.limits.attribute_bytes;
        if size > limit {
            return Err(UpdateError::AttributesTooLarge { size, limit });
        }
        changed.encode(&mut arguments);
        inner.run(Needs::Room, call, &mut arguments, no_limit, |attempt| {
            let scope = self.find_or_refuse(attempt)?;
            let key = keys::repository(scope);
            let locks = attempt.lock(&[(&key, LockMode::Exclusive)])?;
            let mut row = live_row(value(&locks, 0))?.ok_or(Stop::Again)?;
            change(&mut row.settings);
            let usage = attempt.view()?.get(&keys::repository_usage(scope))?;
            let usage = UsageRow::decode_optional(usage.as_deref())?.unwrap_or_default();
            let detail = RepositoryDetail::new(scope, row.clone(), usage);
            let event = self.event(RepositoryEvent::SettingChanged { setting: setting.clone() });
            let mut commit = Commit::new(locks, event, detail);
            commit.batch.put(&key, &row.encode());
            Ok::<Decision<_>, Stop<UpdateError>>(commit.decided())
        })
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.registry.engine.inner
    }

    /// The repository's ids, if it exists.
    pub(crate) fn find(&self, view: &dyn View) -> Result<Option<Scope>, StorageError> {
        self.find_by(|key| view.get(key))
    }

    /// The same, cheaper, for those who look at the repository's row under a lock before they rest on what is found. That
    /// nothing is found is certain.
    pub(crate) fn peek(&self) -> Result<Option<Scope>, StorageError> {
        let store = &self.inner().txn.store;
        match self.find_by(|key| Ok(store.peek(&[key])?.get(0).map(<[u8]>::to_vec)))? {
            Some(scope) => Ok(Some(scope)),
            None => self.find(store.view()?.as_ref()),
        }
    }

    fn find_by(
        &self,
        get: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, StorageError>,
    ) -> Result<Option<Scope>, StorageError> {
        let Some(registry) = self.inner().registry_id(&self.registry.name, &get)? else { return Ok(None) };
        let Some(id) = get(&keys::repository_name(registry, &self.name))? else { return Ok(None) };
        Ok(Some(Scope { registry, repository: repository_id(&id)? }))
    }

    /// The same inside a transaction. Where the repository does not exist, an outcome under the same operation id goes
    /// first: the repository may be gone since.
    pub(crate) fn find_or_refuse<E: From<RepositoryNotFound>>(&self, attempt: &Attempt<'_>) -> Result<Scope, Stop<E>> {
        let found = {
            let view = attempt.view()?;
            self.find(view.as_ref())?
        };
        match found {
            Some(scope) => Ok(scope),
            None => {
                attempt.lock::<E>(&[])?;
                Err(Stop::Refused(self.not_found().into()))
            }
        }
    }

    pub(crate) fn not_found(&self) -> RepositoryNotFound {
        RepositoryNotFound { registry: self.registry.name.clone(), repository: self.name.clone() }
    }

    pub(crate) fn arguments(&self, operation: &str) -> Encoder {
        self.registry.arguments(operation, &self.name)
    }

    pub(crate) fn event(&self, event: RepositoryEvent) -> Event {
        self.registry.event(&self.name, event)
    }
}

/// A repository row that is there and not dead. A repository can die between the look at its name and the lock on its
/// row; whoever finds it so starts again and then finds the name gone.
pub(crate) fn live_row(row: Option<&[u8]>) -> Result<Option<RepositoryRow>, StorageError> {
    Ok(RepositoryRow::decode_optional(row)?.filter(|row| row.dead_since_ms.is_none()))
}

impl RepositoryDetail {
    pub(crate) fn new(scope: Scope, row: RepositoryRow, usage: UsageRow) -> Self {
        let UsageRow([images, tags, blobs, logical_bytes]) = usage;
        Self {
            name: row.name,
            id: scope.repository.0,
            created_ms: row.created_wall_ms,
            settings: row.settings,
            usage: RepositoryUsage { images, tags, blobs, logical_bytes },
            scope,
        }
    }

    pub(crate) fn read(view: &dyn View, scope: Scope) -> Result<Self, StorageError> {
        let rows = view.get_many(&[&keys::repository(scope), &keys::repository_usage(scope)])?;
        let mut rows = rows.into_iter();
        let row = rows.next().flatten().ok_or_else(|| StorageError::corrupt("a repository's name has no row"))?;
        let usage = UsageRow::decode_optional(rows.next().flatten().as_deref())?.unwrap_or_default();
        Ok(Self::new(scope, RepositoryRow::decode(&row)?, usage))
    }
}
