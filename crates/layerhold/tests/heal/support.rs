//! What the cases share: an engine over files and rows that can be harmed behind its back.

use std::path::PathBuf;
use std::sync::Arc;

use layerhold::change::{Event, RepositoryEvent};
use layerhold::format::keys::{self, RegistryId};
use layerhold::format::values::{BlobRow, Placement, Row};
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::store::{Batch, Durability, Location, LockMode, Member, MetadataStore};
use layerhold::{
    BlobStatus, Call, Components, Digest, Engine, Expected, Options, RegistryName, Repository, RepositoryName,
    RepositorySettings, Stores,
};
use layerhold_testkit::engine::{ManualClock, SeededEntropy};
use layerhold_testkit::fs::{FailingFileSystem, SimFileSystem};
use layerhold_testkit::operation::pool::noise;

use super::odd::{Odd, Told};
use super::shaky::Shaky;

/// The one registry of a store has this id.
pub(crate) const REGISTRY: RegistryId = RegistryId(1);

/// A group of the length that the tests use, so that blobs of several groups stay short.
pub(crate) const GROUP: usize = 4_096;

pub(crate) struct Rig {
    pub(crate) fs: SimFileSystem,
    pub(crate) odd: Odd,
    pub(crate) failing: FailingFileSystem,
    pub(crate) table: MemTable,
    pub(crate) metadata: Arc<Shaky>,
    pub(crate) engine: Engine,
    pub(crate) clock: ManualClock,
    entropy: Arc<SeededEntropy>,
    options: Options,
    /// How often it was opened over what a power cut left.
    pub(crate) life: u64,
}

pub(crate) fn call() -> Call {
    Call::anonymous()
}

pub(crate) fn options() -> Options {
    Options::default()
        .with_memory_bytes(8 << 20)
        .with_inline_blob_bytes_max(1_000)
        .with_group_len(layerhold::blob::fingerprint::GroupLen::new(4_096).unwrap())
        .with_journal_segment_bytes(256 << 10)
        .with_lock_wait_ms(5_000)
}

fn journaled() -> JournaledOptions {
    JournaledOptions::default()
        .with_segment_bytes(256 << 10)
        .with_lock_wait_ms(5_000)
        .with_guard_checks(true)
        .with_unguarded(|key| !keys::is_guard(key))
}

pub(crate) fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::on(SimFileSystem::new(1), options)
    }

    pub(crate) fn on(fs: SimFileSystem, options: Options) -> Self {
        let odd = Odd::over(&fs, Told::default());
        let failing = FailingFileSystem::new(Arc::new(odd.clone()));
        let shared: Arc<dyn FileSystem> = Arc::new(failing.clone());
        let table = MemTable::new();
        let journaled = Journaled::create(Arc::clone(&shared), table.clone(), [1; 16], journaled()).unwrap();
        let metadata = Arc::new(Shaky::new(journaled));
        let blobs = Arc::new(LocalBlobStore::create(shared).unwrap());
        let stores = Stores { metadata: Arc::clone(&metadata) as _, blobs };
        let (clock, entropy) = (ManualClock::default(), Arc::new(SeededEntropy::new(1)));
        let components = components(&clock, &entropy);
        let engine = Engine::create_with(stores, options.clone(), components).unwrap();
        let rig = Self { fs, odd, failing, table, metadata, engine, clock, entropy, options, life: 0 };
        let registry = RegistryName::parse("test").unwrap();
        rig.engine.create_registry(&registry, &call()).unwrap();
        for repository in ["app", "other"] {
            let registry = rig.engine.registry(&registry);
            registry.create_repository(&name(repository), &RepositorySettings::default(), &call()).unwrap();
        }
        rig
    }

    /// The store opened again over what a kill of the process leaves.
    pub(crate) fn killed(self) -> Self {
        let Self { fs, table, clock, entropy, options, engine, metadata, .. } = self;
        drop((engine, metadata));
        let crashed = table.crashed();
        Self::open(fs, crashed, clock, entropy, options)
    }

    /// The store opened over a file system that a power cut left, beside this one.
    pub(crate) fn over(&self, fs: SimFileSystem) -> Self {
        // No location is drawn twice.
        let life = self.life + 1;
        let entropy = Arc::new(SeededEntropy::new(6 + life));
        Self { life, ..Self::open(fs, self.table.crashed(), self.clock.clone(), entropy, self.options.clone()) }
    }

    fn open(
        fs: SimFileSystem,
        table: MemTable,
        clock: ManualClock,
        entropy: Arc<SeededEntropy>,
        options: Options,
    ) -> Self {
        let odd = Odd::over(&fs, Told::default());
        let failing = FailingFileSystem::new(Arc::new(odd.clone()));
        let shared: Arc<dyn FileSystem> = Arc::new(failing.clone());
        let journaled = Journaled::open(Arc::clone(&shared), table.clone(), [1; 16], journaled()).unwrap();
        let metadata = Arc::new(Shaky::new(journaled));
        let blobs = Arc::new(LocalBlobStore::open(shared).unwrap());
        let stores = Stores { metadata: Arc::clone(&metadata) as _, blobs };
        let engine = Engine::open_with(stores, options.clone(), components(&clock, &entropy)).unwrap();
        Self { fs, odd, failing, table, metadata, engine, clock, entropy, options, life: 0 }
    }

    pub(crate) fn repository(&self, text: &str) -> Repository {
        self.engine.registry(&RegistryName::parse("test").unwrap()).repository(&name(text))
    }

    pub(crate) fn app(&self) -> Repository {
        self.repository("app")
    }

    pub(crate) fn push(&self, bytes: &[u8]) -> Digest {
        self.app().put_blob(bytes, &Expected::Computed, &call()).unwrap().digest
    }

    /// A blob of several groups, its digest and its bytes.
    pub(crate) fn pushed(&self, seed: u64) -> (Digest, Vec<u8>) {
        let bytes = noise(seed, 5 * GROUP + 77);
        (self.push(&bytes), bytes)
    }

    pub(crate) fn row(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.metadata.view().unwrap().get(key).unwrap()
    }

    /// Changes a row behind the engine's back.
    pub(crate) fn set_row(&self, key: &[u8], value: Option<&[u8]>) {
        let locks = self.metadata.lock_and_get(&[(key, LockMode::Exclusive)]).unwrap();
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
        self.metadata.commit(&[Member::new(locks, batch)], 0, Durability::Relaxed, &mut |_| {}).unwrap();
    }

    pub(crate) fn blob_row(&self, digest: &Digest) -> BlobRow {
        BlobRow::decode(&self.row(&keys::blob(REGISTRY, digest)).unwrap()).unwrap()
    }

    pub(crate) fn location(&self, digest: &Digest) -> Location {
        match self.blob_row(digest).placement {
            Placement::Inline(location) | Placement::File(location) => location,
        }
    }

    /// The file of a blob that is not inline.
    pub(crate) fn file(&self, digest: &Digest) -> PathBuf {
        let location = self.location(digest).to_string();
        PathBuf::from(format!("blobs/{}/{location}", &location[..2]))
    }

    pub(crate) fn exists(&self, file: &std::path::Path) -> bool {
        self.fs.file_len(file).is_ok()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.engine.changes(0, u32::MAX).unwrap().into_iter().map(|change| change.event).collect()
    }

    /// What the change log says of damage and healing, in words.
    pub(crate) fn incidents(&self) -> Vec<String> {
        let incident = |event: Event| match event {
            Event::BlobQuarantined { damage, .. } => Some(format!("blob quarantined: {damage}")),
            Event::BlobRebuilt { .. } => Some("blob rebuilt".to_owned()),
            Event::DamageFound { what } => Some(what),
            Event::Repository { event, .. } => match event {
                RepositoryEvent::BlobHealed { .. } => Some("blob healed".to_owned()),
                RepositoryEvent::ManifestQuarantined { .. } => Some("manifest quarantined".to_owned()),
                RepositoryEvent::ManifestHealed { .. } => Some("manifest healed".to_owned()),
                RepositoryEvent::UploadDamaged { .. } => Some("upload damaged".to_owned()),
                _ => None,
            },
            _ => None,
        };
        self.events().into_iter().filter_map(incident).collect()
    }

    /// Whether a push is told that it need not send the blob.
    pub(crate) fn is_present(&self, digest: &Digest) -> bool {
        matches!(self.app().check_blobs(&[*digest]).unwrap()[0], BlobStatus::Present { .. })
    }
}

fn components(clock: &ManualClock, entropy: &Arc<SeededEntropy>) -> Components {
    Components { clock: Arc::new(clock.clone()), entropy: Arc::clone(entropy) as _, spawner: None }
}

/// All bytes of a blob.
pub(crate) fn read(repository: &Repository, digest: &Digest) -> Vec<u8> {
    let reader = repository.blob(digest).unwrap();
    let mut bytes = vec![0; usize::try_from(reader.size()).unwrap()];
    assert_eq!(reader.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}
