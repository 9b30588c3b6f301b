//! Engines to test: over memory that can lose its power, and over the real store.
//!
//! A [`TestEngine`] holds the clock, the randomness and the medium in its hand. It can close its engine or drop it as a
//! killed process would, cut the power in many ways, and open what is left. Two test engines with the same seed that are
//! asked the same do the same.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use layerhold::call::Call;
use layerhold::clock::{Clock, Components, Entropy};
#[cfg(feature = "rocksdb")]
use layerhold::clock::{Spawner, ThreadSpawner};
use layerhold::directory::Place;
use layerhold::engine::{Engine, OpenError};
use layerhold::error::{ErrorKind, Failure};
use layerhold::name::{Principal, RegistryName};
use layerhold::options::Options;
use layerhold::recovery::{self, RecoveryError};
use layerhold::registry::Registry;
use layerhold::store::StorageError;
use layerhold::store::fs::FileSystem;
use layerhold::store::home::{self, TableHome};
use layerhold::store::mem::MemTable;
use layerhold::store::table::Table;

use crate::fs::{CrashPolicy, SimFileSystem};
use crate::model::Terms;
use crate::operation::pool;

/// The name of the registry that tests use.
pub const REGISTRY: &str = "test";

/// Where the randomness of engines begins that are opened on what another one left.
const ENTROPY_OF_COPIES: u64 = 0x636f_7069_6573;

/// A reserve of room that no test of another matter comes near, and a short ballast: so that both are looked after.
const FREE_BYTES_MIN: u64 = 8 << 10;
const BALLAST_BYTES: u64 = 4 << 10;

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Clone)]
pub struct ManualClock {
    monotonic_ms: Arc<AtomicU64>,
    wall_ms: Arc<AtomicU64>,
}

impl Default for ManualClock {
    fn default() -> Self {
        // Some day in 2026; only the differences matter.
        Self { monotonic_ms: Arc::default(), wall_ms: Arc::new(AtomicU64::new(1_780_000_000_000)) }
    }
}

impl ManualClock {
    /// Lets `ms` pass, on both clocks.
    pub fn advance(&self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets the wall clock alone, as an operator or a time server does.
    pub fn set_wall_ms(&self, ms: u64) {
        self.wall_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::Relaxed)
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }
}

/// Bytes that follow from a seed and the number of calls before.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    calls: AtomicU64,
}

impl SeededEntropy {
    /// A source that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, calls: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        bytes.copy_from_slice(&pool::noise(self.seed ^ (call + 1).wrapping_mul(0x5851_f42d_4c95_7f2d), bytes.len()));
    }
}

/// A place for the table that an engine over memory works with at the moment.
pub type SharedTable = Arc<Mutex<MemTable>>;

/// The home of a table of which a power cut takes what was not flushed, and that has no files: which of its writes had
/// reached the medium by themselves is for the test to say ([`MemTable::crashed_after`]).
#[derive(Debug, Clone)]
struct MemTableHome {
    fs: Arc<dyn FileSystem>,
    table: SharedTable,
}

impl MemTableHome {
    /// Whoever had the table open is gone, and what it had not flushed with it.
    fn left(&self) -> MemTable {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.unflushed() > 0 {
            *table = table.crashed();
        }
        table.clone()
    }
}

impl TableHome for MemTableHome {
    fn create(&self) -> Result<Box<dyn Table>, StorageError> {
        let directory = Path::new(home::DIRECTORY);
        match self.fs.create_dir(directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StorageError::io("create directory", directory, e));
            }
            _ => {}
        }
        self.fs.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync", "", e))?;
        Ok(Box::new(current(&self.table)))
    }

    fn open(&self) -> Result<Box<dyn Table>, StorageError> {
        Ok(Box::new(self.left()))
    }

    fn open_read_only(&self) -> Result<Box<dyn Table>, StorageError> {
        Ok(Box::new(self.left()))
    }

    fn copy_aside(&self, _aside: &Path) -> Result<(), StorageError> {
        Ok(())
    }

    fn set_aside(&self, _aside: &Path) -> Result<(), StorageError> {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = MemTable::new();
        Ok(())
    }
}

/// What the engine stands on.
enum Medium {
    Memory {
        fs: SimFileSystem,
        /// What the engine is given: `fs`, or something that stands between the two.
        files: Arc<dyn FileSystem>,
        /// The table as it was opened last. Shared, so that whoever watches the file system finds it while an engine opens.
        table: SharedTable,
    },
    #[cfg(feature = "rocksdb")]
    Directory(std::path::PathBuf),
}

/// An engine with everything around it in the test's hand.
pub struct TestEngine {
    engine: Option<Engine>,
    medium: Medium,
    clock: ManualClock,
    entropy: Arc<SeededEntropy>,
    segment_bytes: u64,
}

/// A new engine in memory, over the simulated file system and a table that loses what was not flushed. The registry
/// [`REGISTRY`] is not made yet.
pub fn memory() -> TestEngine {
    memory_on(SimFileSystem::new(1))
}

/// The same over a file system of the caller's, which must be empty.
///
/// # Panics
/// When the store cannot be made.
pub fn memory_on(fs: SimFileSystem) -> TestEngine {
    TestEngine::try_memory(fs).expect("an engine over an empty file system")
}

/// A new engine over RocksDB and real files in `dir`, which must be empty. [`REGISTRY`] is not made yet.
///
/// # Panics
/// When the store cannot be made.
#[cfg(feature = "rocksdb")]
pub fn rocks(dir: &Path) -> TestEngine {
    let (clock, entropy) = (ManualClock::default(), Arc::new(SeededEntropy::new(2)));
    let engine =
        Engine::create_at(dir, options(), threaded(&clock, &entropy)).expect("an engine in an empty directory");
    let (medium, segment_bytes) = (Medium::Directory(dir.to_owned()), options().journal_segment_bytes);
    TestEngine { engine: Some(engine), medium, clock, entropy, segment_bytes }
}

/// The store that an engine of [`rocks`] left in `dir`, opened as another process does after that one was killed, when the
/// wall clock says `wall_ms`. `opening` is different for each opening, so that no id is drawn twice.
///
/// # Errors
/// What opening answers.
#[cfg(feature = "rocksdb")]
pub fn rocks_left(dir: &Path, wall_ms: u64, opening: u64) -> Result<TestEngine, OpenError> {
    let (clock, entropy) = (ManualClock::default(), Arc::new(SeededEntropy::new(opening.wrapping_add(1) << 20)));
    clock.set_wall_ms(wall_ms);
    let (medium, segment_bytes) = (Medium::Directory(dir.to_owned()), options().journal_segment_bytes);
    let mut left = TestEngine { engine: None, medium, clock, entropy, segment_bytes };
    left.open()?;
    Ok(left)
}

/// The settings of every test engine: both kinds of blobs, short terms, a journal that is changed often.
pub fn options() -> Options {
    Options::default()
        .with_memory_bytes(8 << 20)
        .with_inline_blob_bytes_max(pool::INLINE_BYTES_MAX)
        .with_upload_idle_ms(Terms::TEST.upload_idle_ms)
        .with_journal_segment_bytes(256 << 10)
        .with_lock_wait_ms(2_000)
        .with_free_bytes_min(0)
        .with_ballast_bytes(0)
}

/// The table as it is now.
pub fn current(table: &SharedTable) -> MemTable {
    table.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Without threads, so that the calls of a run come in one order.
fn components(clock: &ManualClock, entropy: &Arc<SeededEntropy>) -> Components {
    let (clock, entropy) = (Arc::new(clock.clone()), Arc::clone(entropy));
    Components { clock, entropy, spawner: None }
}

/// With threads, as a host has them: over real files no order is promised anyway.
#[cfg(feature = "rocksdb")]
fn threaded(clock: &ManualClock, entropy: &Arc<SeededEntropy>) -> Components {
    let spawner: Arc<dyn Spawner> = Arc::new(ThreadSpawner);
    Components { spawner: Some(spawner), ..components(clock, entropy) }
}

fn place(files: &Arc<dyn FileSystem>, table: &SharedTable) -> Place {
    let home = MemTableHome { fs: Arc::clone(files), table: Arc::clone(table) };
    Place::new(Arc::clone(files), Arc::new(home))
}

/// Those of an engine over memory.
fn memory_options(segment_bytes: u64) -> Options {
    options()
        .with_journal_segment_bytes(segment_bytes)
        .with_free_bytes_min(FREE_BYTES_MIN)
        .with_ballast_bytes(BALLAST_BYTES)
        .with_check_guards(true)
}

impl TestEngine {
    /// A new engine over `fs`; fails where the file system does.
    pub fn try_memory(fs: SimFileSystem) -> Result<Self, OpenError> {
        Self::try_memory_with(fs, options().journal_segment_bytes)
    }

    /// The same with journal segments of another length: short ones open fast and are changed often.
    pub fn try_memory_with(fs: SimFileSystem, segment_bytes: u64) -> Result<Self, OpenError> {
        let files = Arc::new(fs.clone());
        Self::try_memory_through(fs, files, segment_bytes)
    }

    /// The same with `files` between the engine and `fs`.
    pub fn try_memory_through(
        fs: SimFileSystem,
        files: Arc<dyn FileSystem>,
        segment_bytes: u64,
    ) -> Result<Self, OpenError> {
        Self::make(fs, files, SharedTable::default(), segment_bytes)
    }

    /// The same with a place for the table, which whoever watches `fs` shares while the store is made.
    pub(crate) fn make(
        fs: SimFileSystem,
        files: Arc<dyn FileSystem>,
        table: SharedTable,
        segment_bytes: u64,
    ) -> Result<Self, OpenError> {
        let (clock, entropy) = (ManualClock::default(), Arc::new(SeededEntropy::new(1)));
        let options = memory_options(segment_bytes);
        let engine = Engine::create_in(&place(&files, &table), options, components(&clock, &entropy))?;
        Ok(Self { engine: Some(engine), medium: Medium::Memory { fs, files, table }, clock, entropy, segment_bytes })
    }

    /// The engine. Panics between a failed opening and the next.
    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the engine is open")
    }

    /// The engine, unless the last opening failed.
    pub fn opened(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// The registry that tests use; made if it does not exist.
    pub fn registry(&self) -> Registry {
        let name = RegistryName::parse(REGISTRY).expect("a legal name");
        // Looked for first: an engine that takes no more writes still reads. Where that fails too, `Judge` says so.
        if self.engine().registries(None, u32::MAX).is_ok_and(|page| !page.items.contains(&name)) {
            self.engine().create_registry(&name, &Call::anonymous()).expect("a registry");
        }
        self.engine().registry(&name)
    }

    /// The clock that the engine looks at.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The simulated file system, where there is one.
    pub fn fs(&self) -> Option<&SimFileSystem> {
        match &self.medium {
            Medium::Memory { fs, .. } => Some(fs),
            #[cfg(feature = "rocksdb")]
            Medium::Directory(_) => None,
        }
    }

    /// The table in memory, where there is one: for looking at rows, and for doing things to them that no engine does.
    pub fn table(&self) -> Option<MemTable> {
        self.shared_table().map(current)
    }

    /// The place of that table, which another one takes whenever the store is opened again.
    pub fn shared_table(&self) -> Option<&SharedTable> {
        match &self.medium {
            Medium::Memory { table, .. } => Some(table),
            #[cfg(feature = "rocksdb")]
            Medium::Directory(_) => None,
        }
    }

    /// Drops the engine as it stands and opens the store again: what the system's page cache held is still there, what
    /// the process held is not.
    pub fn kill(&mut self) -> Result<(), OpenError> {
        self.end();
        self.open()
    }

    fn end(&mut self) {
        drop(self.engine.take());
        // Handles of a killed process that a test still has hold no lock.
        if let Some(fs) = self.fs() {
            fs.end_process();
        }
    }

    /// Ends the engine as a kill does, and lets an operator bring the store back from a second copy. It is not open then.
    ///
    /// # Errors
    /// Those of [`recovery::restore_in`].
    ///
    /// # Panics
    /// Over real files.
    pub fn restore(&mut self) -> Result<(), RecoveryError> {
        self.end();
        let place = match &self.medium {
            Medium::Memory { files, table, .. } => place(files, table),
            #[cfg(feature = "rocksdb")]
            Medium::Directory(_) => panic!("only a store in memory is restored"),
        };
        let options = memory_options(self.segment_bytes);
        let by = Principal::parse("operator").expect("a legal name");
        recovery::restore_in(&place, &options, &components(&self.clock, &self.entropy), &by).map(drop)
    }

    /// Closes the engine and opens the store again.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        self.engine().close()?;
        match &self.medium {
            // As RocksDB does when it is closed, and not when its process is killed.
            Medium::Memory { table, .. } => current(table).flush().expect("memory"),
            #[cfg(feature = "rocksdb")]
            Medium::Directory(_) => {}
        }
        Ok(self.kill()?)
    }

    /// What is left after a power cut, opened: another engine, this one stays as it is.
    ///
    /// `kept` is how many unflushed writes of the metadata table reached the medium by themselves; the journal has to make
    /// good for the others.
    ///
    /// # Panics
    /// Over real files: nobody can cut their power here.
    pub fn after_power_cut(&self, policy: CrashPolicy, kept: usize) -> Result<Self, OpenError> {
        match &self.medium {
            Medium::Memory { fs, .. } => self.on_what_is_left(fs.crash(policy), kept),
            #[cfg(feature = "rocksdb")]
            Medium::Directory(_) => panic!("only the simulated file system can lose its power"),
        }
    }

    /// The same for a file system that a power cut left.
    pub fn on_what_is_left(&self, fs: SimFileSystem, kept: usize) -> Result<Self, OpenError> {
        let table = match &self.medium {
            Medium::Memory { table, .. } => current(table).crashed_after(kept),
            #[cfg(feature = "rocksdb")]
            Medium::Directory(_) => panic!("only the simulated file system can lose its power"),
        };
        self.on(fs, Arc::new(Mutex::new(table)))
    }

    /// Another engine, opened on these files and this table, at the same time. What it draws at random is told apart from
    /// what this one draws.
    pub fn on(&self, fs: SimFileSystem, table: SharedTable) -> Result<Self, OpenError> {
        let mut left = self.beside(fs, table);
        left.open()?;
        Ok(left)
    }

    /// The same, restored by an operator where it does not open for damage.
    pub(crate) fn on_restored(&self, fs: SimFileSystem, table: SharedTable) -> Result<Self, OpenError> {
        let mut left = self.beside(fs, table);
        match left.open() {
            Err(error) if error.kind() == ErrorKind::Corrupt => match left.restore() {
                Ok(()) => left.open()?,
                Err(RecoveryError::Storage(error)) => return Err(error),
                Err(_) => return Err(error),
            },
            opened => opened?,
        }
        Ok(left)
    }

    fn beside(&self, fs: SimFileSystem, table: SharedTable) -> Self {
        let medium = Medium::Memory { files: Arc::new(fs.clone()), fs, table };
        let (clock, entropy) = (ManualClock::default(), Arc::new(SeededEntropy::new(ENTROPY_OF_COPIES)));
        clock.wall_ms.store(self.clock.wall_ms(), Ordering::Relaxed);
        clock.monotonic_ms.store(self.clock.monotonic_ms(), Ordering::Relaxed);
        Self { engine: None, medium, clock, entropy, segment_bytes: self.segment_bytes }
    }

    fn open(&mut self) -> Result<(), OpenError> {
        let components = components(&self.clock, &self.entropy);
        self.engine = Some(match &mut self.medium {
            Medium::Memory { files, table, .. } => {
                Engine::open_in(&place(files, table), memory_options(self.segment_bytes), components)?
            }
            #[cfg(feature = "rocksdb")]
            Medium::Directory(dir) => Engine::open_at(dir, options(), threaded(&self.clock, &self.entropy))?,
        });
        Ok(())
    }
}
