//! The engine: an open store, and what concerns all of its registries.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::blob::judging::Judging;
use crate::blob::open::OpenBlobs;
use crate::call::{Call, OperationId};
use crate::change::{Change, ChangeRow, Event};
use crate::clock::Components;
use crate::error::Failure;
use crate::format::FORMAT_VERSION;
use crate::format::codec::Encoder;
use crate::format::keys::{self, RegistryId};
use crate::format::values::{ClockRow, IdentityRow, NextIdsRow, OperationRow, Row};
use crate::maintain::Queues;
use crate::name::{Principal, RegistryName};
use crate::options::Options;
use crate::page::Page;
use crate::registry::Registry;
use crate::room::Room;
use crate::scrub::Scrub;
use crate::store::{
    Batch, BlobStore, CommitError, Direction, Durability, KeyRange, Location, LockMode, Member, MetadataStore,
    StorageError, View,
};
use crate::time::EngineTime;
use crate::txn::committer::Committer;
use crate::txn::{Attempt, Commit, Decision, Outcome, Stop, Transactor, no_limit};
use crate::upload::open::{OpenSessions, UploadMemory};
use crate::upload::writers::Writers;

/// Why a store cannot be created or opened.
pub type OpenError = StorageError;

/// The two stores under an engine.
#[derive(Clone)]
pub struct Stores {
    /// Rows. The engine locks the rows of [`keys::is_guard`] and lets others follow them, so a
    /// [`Journaled`](crate::store::journaled::Journaled) that checks guards (it does in builds with debug assertions) is
    /// made with [`with_unguarded`](crate::store::journaled::JournaledOptions::with_unguarded)`(|key| !keys::is_guard(key))`.
    pub metadata: Arc<dyn MetadataStore>,
    /// Bytes of large blobs.
    pub blobs: Arc<dyn BlobStore>,
}

/// An open store. Cheap to clone, `Send + Sync`, holds no lock between calls; every call blocks until it is done.
///
/// The engine starts no runtime and opens no socket. Whoever opened it calls [`Engine::maintain`] now and then: without it
/// nothing is lost, but upload sessions never expire and files of replaced blobs may stay. It spawns threads only through the
/// [`Spawner`](crate::clock::Spawner) that it was given: one beside each large upload, to hash while bytes are written.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) txn: Transactor,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) options: Options,
    pub(crate) components: Components,
    pub(crate) open_blobs: OpenBlobs,
    pub(crate) writers: Writers,
    pub(crate) open_sessions: OpenSessions,
    pub(crate) upload_memory: UploadMemory,
    pub(crate) download_key: [u8; 32],
    pub(crate) judging: Judging,
    /// Locations that could not be read, and of which rows say so.
    pub(crate) suspects: Mutex<HashSet<Location>>,
    pub(crate) scrub: Scrub,
    pub(crate) queues: Queues,
    registries: RwLock<HashMap<RegistryName, RegistryId>>,
    closed: AtomicBool,
    /// Monotonic times of the last failed syncs of files; too many of them stop all writing.
    failed_syncs: Mutex<FailedSyncs>,
    pub(crate) access: Access,
}

/// How a store was found and opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opening {
    /// Everything that was ever acknowledged is there, and nothing else was begun.
    Clean,
    /// Everything that was ever acknowledged is there. A commit that was begun and never acknowledged was given up.
    TailDropped,
    /// It is open for reads alone and shows what can be proved.
    ReadOnly,
}

impl Access {
    /// Of stores that are no directory: nobody else knows of them, and nobody can tell how much room there is.
    fn unlimited() -> Self {
        Self { opening: Opening::Clean, room: Room::unlimited(), warnings: Vec::new(), exclusion: None }
    }
}

/// How the engine may use its store.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) opening: Opening,
    pub(crate) room: Room,
    /// What speaks against the medium and is not forbidden, in words.
    pub(crate) warnings: Vec<String>,
    /// Whatever keeps other processes out, for as long as the engine lives.
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) exclusion: Option<Box<dyn std::fmt::Debug + Send + Sync>>,
}

/// What a mutation needs of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// That it takes mutations, and that there is room on the medium.
    Room,
    /// That it takes mutations: this one takes something away.
    Writing,
}

/// So many failed syncs within so long make the store read-only until it is reopened.
const FAILED_SYNCS_MAX: usize = 3;
const FAILED_SYNCS_MS: u64 = 60_000;

#[derive(Default)]
struct FailedSyncs {
    at_ms: Vec<u64>,
    stopped: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes a store over `stores`, which must be new. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] where the metadata store already holds a store.
    pub fn create_with(stores: Stores, options: Options, components: Components) -> Result<Self, OpenError> {
        Self::create_exclusively(stores, options, components, Access::unlimited())
    }

    /// Opens the store in `stores`; never creates one.
    ///
    /// # Errors
    /// [`StorageError::NotAStore`], [`StorageError::UnknownFormat`].
    pub fn open_with(stores: Stores, options: Options, components: Components) -> Result<Self, OpenError> {
        Self::open_exclusively(stores, options, components, Access::unlimited())
    }

    pub(crate) fn create_exclusively(
        stores: Stores,
        options: Options,
        components: Components,
        access: Access,
    ) -> Result<Self, OpenError> {
        if stores.metadata.view()?.get(&keys::meta::identity())?.is_some() {
            return Err(StorageError::NotEmpty { path: std::path::PathBuf::new() });
        }
        let last_sequence = initialise(stores.metadata.as_ref(), &components)?;
        Self::start(stores, last_sequence, options, components, access)
    }

    pub(crate) fn open_exclusively(
        stores: Stores,
        options: Options,
        components: Components,
        access: Access,
    ) -> Result<Self, OpenError> {
        let last_sequence = stores.metadata.recovered_sequence();
        Self::start(stores, last_sequence, options, components, access)
    }

    fn start(
        stores: Stores,
        last_sequence: u64,
        options: Options,
        components: Components,
        access: Access,
    ) -> Result<Self, OpenError> {
        let Stores { metadata, blobs } = stores;
        let (clock_row, download_key) = {
            let rows = metadata.view()?.get_many(&[
                &keys::meta::identity(),
                &keys::meta::clock(),
                &keys::meta::download_key(),
            ])?;
            let [identity, clock, download_key] = <[_; 3]>::try_from(rows).map_err(|_| rows_missing())?;
            let identity = identity.ok_or_else(|| StorageError::NotAStore {
                path: std::path::PathBuf::new(),
                reason: "the metadata holds no identity row".to_owned(),
            })?;
            let identity = IdentityRow::decode(&identity)?;
            if identity.format_version != FORMAT_VERSION {
                return Err(StorageError::UnknownFormat { found: identity.format_version, supported: FORMAT_VERSION });
            }
            if metadata.store_id().is_some_and(|id| id != identity.store_id) {
                return Err(StorageError::corrupt("the table belongs to another store"));
            }
            let clock = ClockRow::decode(&clock.ok_or_else(rows_missing)?)?;
            let download_key = download_key.ok_or_else(rows_missing)?;
            (clock, <[u8; 32]>::try_from(download_key).map_err(|_| rows_missing())?)
        };
        let time = EngineTime::resume(clock_row, components.clock.as_ref(), options.closed_time_ms_max);
        let txn = Transactor {
            committer: Committer::new(
                Arc::clone(&metadata),
                last_sequence,
                Arc::clone(&components.clock),
                time,
                options.lock_wait_ms,
            ),
            store: metadata,
            entropy: Arc::clone(&components.entropy),
            in_doubt: Mutex::default(),
        };
        let upload_memory = UploadMemory::new(&options);
        let inner = Inner {
            txn,
            blobs,
            options,
            components,
            open_blobs: OpenBlobs::default(),
            writers: Writers::default(),
            open_sessions: OpenSessions::default(),
            upload_memory,
            download_key,
            judging: Judging::default(),
            suspects: Mutex::default(),
            scrub: Scrub::default(),
            queues: Queues::default(),
            registries: RwLock::default(),
            closed: AtomicBool::new(false),
            failed_syncs: Mutex::default(),
            access,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a registry; `false` where it exists already. Durable when it returns.
    pub fn create_registry(&self, name: &RegistryName, call: &Call) -> Result<bool, Failure> {
        let inner = &self.inner;
        let name_key = keys::registry_name(name);
        let ids_key = keys::meta::next_ids();
        let mut arguments = Encoder::bare();
        arguments.str("create registry").str(name.as_str());
        inner.run(Needs::Room, call, &mut arguments, no_limit::<Failure>, |attempt| {
            // Under an operation id it may be there because this very call made it.
            if call.operation_id.is_none() && attempt.view()?.get(&name_key)?.is_some() {
                return Ok(Decision::Unchanged(false));
            }
            let locks =
                attempt.lock::<Failure>(&[(&name_key, LockMode::Exclusive), (&ids_key, LockMode::Exclusive)])?;
            if value(&locks, 0).is_some() {
                return Ok(Decision::Unchanged(false));
            }
            let mut ids = NextIdsRow::decode_optional(value(&locks, 1))?.unwrap_or_default();
            let id = ids.registry;
            ids.registry.0 += 1;
            let mut commit = Commit::new(locks, Event::RegistryCreated { registry: name.clone() }, true);
            commit.batch.put(&name_key, &id.0.to_be_bytes());
            commit.batch.put(&ids_key, &ids.encode());
            Ok::<_, Stop<Failure>>(commit.decided())
        })
    }

    /// A handle on a registry. It does not look whether the registry exists; the operations do.
    #[must_use]
    pub fn registry(&self, name: &RegistryName) -> Registry {
        Registry::new(self.clone(), name.clone())
    }

    /// The registries whose names sort after `after`, in byte order of their names, at most `limit` of them.
    pub fn registries(&self, after: Option<&RegistryName>, limit: u32) -> Result<Page<RegistryName>, Failure> {
        let view = self.inner.txn.store.view()?;
        let mut range = keys::registry_names();
        if let Some(after) = after {
            range = keys::after(range, &keys::registry_name(after));
        }
        let token = |last: &RegistryName| last.as_str().as_bytes().to_vec();
        let page = Page::of_rows(view.as_ref(), &range, limit as usize, token, |key, _| {
            keys::registry_name_of(key)
                .and_then(|name| RegistryName::parse(name).ok())
                .ok_or_else(|| StorageError::corrupt("registry name row: malformed key"))
        })?;
        Ok(page)
    }

    /// A secret of this store for a host's own use, such as sealing page tokens: 32 bytes that stay the same for as long
    /// as the store exists, differ for every `purpose`, and tell nothing of one another.
    #[must_use]
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("layerhold 2026-11-21 key of a store for its host");
        hasher.update(&self.inner.download_key).update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// How the store was found when it was opened.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.inner.access.opening
    }

    /// What speaks against the medium that the store lives on, in words for whoever runs it; empty where nothing does.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.access.warnings
    }

    /// The sequence of the last change that was acknowledged.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.inner.txn.committer.acknowledged_sequence()
    }

    /// Engine time in milliseconds: the time in which expiries are counted.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.txn.committer.now_ms()
    }

    /// At most `limit` changes after the sequence `after`, in order. Changes older than the option
    /// [`change_keep_ms`](Options::change_keep_ms) may be gone: sequences have no gaps but the one that an accepted loss leaves
    /// before its [`Event::Recovered`], so if the first one is any other and not `after + 1`, those between are.
    pub fn changes(&self, after: u64, limit: u32) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        let mut failed = None;
        let view = self.inner.txn.store.view()?;
        view.scan(&keys::changes(after.saturating_add(1)), Direction::Forward, &mut |key, value| {
            if changes.len() >= limit as usize {
                return ControlFlow::Break(());
            }
            match (keys::sequence_of(key), ChangeRow::decode(value)) {
                (Some(sequence), Ok(row)) => {
                    changes.push(row.at(sequence));
                    ControlFlow::Continue(())
                }
                (_, row) => {
                    failed = row.err().or_else(|| Some(StorageError::corrupt("change row: malformed key")));
                    ControlFlow::Break(())
                }
            }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(changes),
        }
    }

    /// Ends the engine's use of the store: what was not yet synced is, and later mutations are refused by every clone
    /// of this handle. Dropping the last clone without closing loses nothing that was acknowledged.
    pub fn close(&self) -> Result<(), Failure> {
        if !self.inner.closed.swap(true, Ordering::AcqRel) && self.opening() != Opening::ReadOnly {
            let Transactor { store, committer, .. } = &self.inner.txn;
            // Groups record the time; without this row, what expired since the last one would live again.
            let now = ClockRow { engine_ms: committer.now_ms(), wall_ms: committer.wall_ms() };
            let mut batch = Batch::new();
            batch.put(&keys::meta::clock(), &now.encode());
            committer.submit_relaxed(store.lock_and_get(&[])?, batch)?;
            store.close()?;
        }
        Ok(())
    }
}

impl Inner {
    /// The id of a registry; ids never change and registries are never deleted, so they are remembered.
    pub(crate) fn registry_id(
        &self,
        name: &RegistryName,
        get: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, StorageError>,
    ) -> Result<Option<RegistryId>, StorageError> {
        if let Some(id) = self.registries.read().get(name) {
            return Ok(Some(*id));
        }
        let Some(bytes) = get(&keys::registry_name(name))? else { return Ok(None) };
        let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| StorageError::corrupt("registry name row: malformed"))?;
        let id = RegistryId(u32::from_be_bytes(bytes));
        self.registries.write().insert(name.clone(), id);
        Ok(Some(id))
    }

    /// Runs a caller's mutation as [`Transactor::run`] does, if the store takes what it `needs`. A call that was carried out
    /// before under its operation id is told that outcome even where nothing new is taken.
    pub(crate) fn run<T, E>(
        &self,
        needs: Needs,
        call: &Call,
        arguments: &mut Encoder,
        over_limit: impl Fn(u64) -> Option<E>,
        body: impl FnMut(&Attempt<'_>) -> Result<Decision<T>, Stop<E>>,
    ) -> Result<T, E>
    where
        T: Outcome,
        E: From<Failure>,
    {
        let accepted = match needs {
            Needs::Room => self.check_room(),
            Needs::Writing => self.check_writable(),
        };
        match accepted {
            Ok(()) => self.txn.run(call, arguments, over_limit, body),
            Err(refused) => Ok(self.txn.replayed(call, arguments)?.ok_or(Failure::Storage(refused))?),
        }
    }

    /// Whether mutations are accepted that need room. What takes something away asks [`Inner::check_writable`] alone: it
    /// must go on when the medium is full.
    pub(crate) fn check_room(&self) -> Result<(), StorageError> {
        // Before anything else, so that a full medium that poisoned the store has room when it is opened again.
        let admitted = self.access.room.admit();
        self.check_accepting()?;
        admitted
    }

    /// Whether mutations are accepted at all.
    pub(crate) fn check_writable(&self) -> Result<(), StorageError> {
        // First here as well, for the same reason.
        self.access.room.relieve();
        self.check_accepting()
    }

    fn check_accepting(&self) -> Result<(), StorageError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::Closed);
        }
        if self.access.opening == Opening::ReadOnly {
            return Err(StorageError::ReadOnly { reason: "it was opened for reading alone".to_owned() });
        }
        self.txn.committer.check_certain()?;
        if self.failed_syncs.lock().stopped {
            let reason = format!("{FAILED_SYNCS_MAX} syncs of files failed within {FAILED_SYNCS_MS} ms");
            return Err(StorageError::ReadOnly { reason });
        }
        Ok(())
    }

    /// Remembers that a sync of a file or of its directory failed, if that is what an error says for the first time.
    /// Sessions are lost; three such syncs within a minute are the medium's fault.
    pub(crate) fn note_failed_sync(&self, error: &StorageError) {
        if !error.is_first_report_of_failed_sync() {
            return;
        }
        let now_ms = self.components.clock.monotonic_ms();
        let mut syncs = self.failed_syncs.lock();
        syncs.at_ms.retain(|at_ms| now_ms.saturating_sub(*at_ms) < FAILED_SYNCS_MS);
        syncs.at_ms.push(now_ms);
        syncs.stopped |= syncs.at_ms.len() >= FAILED_SYNCS_MAX;
    }
}

/// The value of the row that was locked as number `index`.
pub(crate) fn value(locks: &crate::store::LockSet, index: usize) -> Option<&[u8]> {
    locks.values().get(index)
}

/// The rows of a range, in order, decoded by `read`, at most `limit` of them.
pub(crate) fn collect<T>(
    view: &dyn View,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
    mut read: impl FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    collect_some(view, range, direction, limit, |key, value| read(key, value).map(Some))
}

/// The same without the rows of which `read` makes nothing.
pub(crate) fn collect_some<T>(
    view: &dyn View,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
    mut read: impl FnMut(&[u8], &[u8]) -> Result<Option<T>, StorageError>,
) -> Result<Vec<T>, StorageError> {
    let mut items = Vec::new();
    let mut failed = None;
    if limit > 0 {
        view.scan(range, direction, &mut |key, value| match read(key, value) {
            Ok(item) => {
                items.extend(item);
                if items.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
    }
    failed.map_or(Ok(items), Err)
}

/// Writes the rows that make a metadata store ours, as its first change; gives that change's sequence.
fn initialise(metadata: &dyn MetadataStore, components: &Components) -> Result<u64, StorageError> {
    const FIRST: u64 = 1;
    let (mut store_id, mut operation_id, mut download_key) = ([0; 16], [0; 16], [0; 32]);
    components.entropy.fill(&mut store_id);
    components.entropy.fill(&mut operation_id);
    components.entropy.fill(&mut download_key);
    // One number for everything that is the store's, so that its parts prove of one another whose they are.
    let store_id = metadata.store_id().unwrap_or(store_id);
    let operation_id = OperationId(operation_id);
    let wall_ms = components.clock.wall_ms();
    let identity = IdentityRow { store_id, format_version: FORMAT_VERSION, created_wall_ms: wall_ms };
    let change = ChangeRow {
        operation_id,
        engine_ms: 0,
        wall_ms,
        principal: Principal::anonymous(),
        event: Event::StoreCreated,
    };
    let operation = OperationRow { sequence: FIRST, arguments: [0; 32], result: Vec::new() };
    let operation_key = keys::operation(&operation_id.0);
    let locks = metadata.lock_and_get(&[(&operation_key, LockMode::Exclusive)])?;
    let mut batch = Batch::new();
    batch.put(&keys::meta::identity(), &identity.encode());
    batch.put(&keys::meta::clock(), &ClockRow { engine_ms: 0, wall_ms }.encode());
    batch.put(&keys::meta::download_key(), &download_key);
    batch.put(&keys::change(FIRST), &change.encode());
    batch.put(&operation_key, &operation.encode());
    metadata.commit(&[Member::new(locks, batch)], FIRST, Durability::Synced, &mut |_| {}).map_err(
        |error| match error {
            CommitError::Failed(error) | CommitError::Unknown(error) => error,
            CommitError::Conflict => StorageError::Unavailable { what: "the first commit", waited_ms: 0 },
        },
    )?;
    Ok(FIRST)
}

fn rows_missing() -> StorageError {
    StorageError::corrupt("a row that every store has is missing or malformed (clock, download key)")
}
