//! A store in a directory: what lies where, how it is told from anything else, and the decision to open it.
//!
//! ```text
//! FORMAT    what this is: magic, format version, store id; called FORMAT.new until the store is made
//! LOCK      who has it open
//! RECOVERY  a choice of an operator that is under way (docs/format.md, "When a store does not open")
//! journal/  the commit log (docs/format-journal.md)
//! table/    rows, in RocksDB
//! blobs/    large blobs, a file each
//! ballast   room that is given up when there is no other
//! aside-1/  what a choice of an operator took out of use
//! ```
//!
//! Opening judges first and changes afterwards: FORMAT, table and journal are read, the table without a chance to change
//! its files, and only a store that is whole is opened for writing. RocksDB removes files that its MANIFEST does not
//! name, so that a damaged one would otherwise cost what is still there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Components;
use crate::engine::{Access, Engine, OpenError, Opening, Stores};
use crate::format::codec::{Decoder, Encoder};
use crate::format::values::{IdentityRow, Row};
use crate::format::{FORMAT_VERSION, keys};
use crate::options::Options;
use crate::recovery::{self, plan};
use crate::room::{BALLAST, Room};
use crate::store::fs::{self, EntryKind, FileSystem, LockHeld, OpenMode, Suitability};
use crate::store::home::{self, TableHome};
use crate::store::journal::{self, StoreId};
use crate::store::journaled::{DecidedJournal, Journaled, JournaledOptions};
use crate::store::local::{self, LocalBlobStore};
use crate::store::readonly::ReadOnly;
use crate::store::table::Table;
use crate::store::{Batch, StorageError};

const FORMAT: &str = "FORMAT";
/// What FORMAT is called until everything else is there.
const FORMAT_NEW: &str = "FORMAT.new";
/// What it is called while a recovery writes it again.
const FORMAT_AGAIN: &str = "FORMAT.again";
const LOCK: &str = "LOCK";
const MAGIC: &[u8; 8] = b"LHSTORE\n";
const FORMAT_LEN: usize = 32;

/// Where a store is, or will be: a file system, and the table that lives on it.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) table: Arc<dyn TableHome>,
    path: PathBuf,
}

impl Place {
    /// The root of `fs`, with `table` as the home of the table of the same store.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>, table: Arc<dyn TableHome>) -> Self {
        let path = fs.native_root().map(Path::to_owned).unwrap_or_default();
        Self { fs, table, path }
    }

    fn not_a_store(&self, reason: &str) -> StorageError {
        StorageError::NotAStore { path: self.path.clone(), reason: reason.to_owned() }
    }
}

impl Engine {
    /// Makes a store in a place where nothing is, and opens it. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] where anything is there already; [`StorageError::Io`], [`StorageError::NoSpace`].
    pub fn create_in(place: &Place, options: Options, components: Components) -> Result<Self, OpenError> {
        let fs = &place.fs;
        if !fs.list(Path::new("")).map_err(|e| StorageError::io("list directory", &place.path, e))?.is_empty() {
            return Err(StorageError::NotEmpty { path: place.path.clone() });
        }
        let mut warnings = suitable(place, &options)?;
        let room = Room::before_open(fs, &options)?;
        let mut store_id = [0; 16];
        components.entropy.fill(&mut store_id);
        // The first file of all: whatever else is found without it, or without the name that it gets at the end, belonged
        // to a store that was whole.
        write_format(&**fs, Path::new(FORMAT_NEW), store_id)?;
        let lock = lock(place)?;
        warnings.extend(probe(place, &options, Path::new(FORMAT_NEW))?);
        let table = place.table.create()?;
        let journaled = Journaled::create(Arc::clone(fs), table, store_id, journal_options(&options, &components))?;
        let blobs = LocalBlobStore::create(Arc::clone(fs))?;
        let stores = Stores { metadata: Arc::new(journaled), blobs: Arc::new(blobs) };
        room.keep_ballast();
        let access = Access { opening: Opening::Clean, room, warnings, exclusion: Some(lock) };
        let engine = Self::create_exclusively(stores, options, components, access)?;
        let named = fs.rename_noreplace(Path::new(FORMAT_NEW), Path::new(FORMAT));
        named.and_then(|()| fs.sync_dir(Path::new(""))).map_err(|e| StorageError::io("write", FORMAT, e))?;
        Ok(engine)
    }

    /// Opens the store in a place; never makes one.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_in(place: &Place, options: Options, components: Components) -> Result<Self, OpenError> {
        Parts::look(place)?.is_store(place)?;
        let mut warnings = suitable(place, &options)?;
        let lock = lock(place)?;
        warnings.extend(probe(place, &options, Path::new(FORMAT))?);
        let Judged { journal, table, .. } = judge(place, OpenMode::ReadWrite)?;
        let opening = if journal.tail_dropped() { Opening::TailDropped } else { Opening::Clean };
        drop(table);
        // A process that was killed may have left FORMAT with a name that a power cut takes back, or RECOVERY with an end that
        // it takes back: then a store that has acknowledged more since would be none, or would be recovered once more.
        place.fs.sync_dir(Path::new("")).map_err(|e| StorageError::io("sync directory", &place.path, e))?;
        let room = Room::before_open(&place.fs, &options)?;
        let table = place.table.open()?;
        let journaled = Journaled::open_decided(journal, table, journal_options(&options, &components))?;
        let blobs = LocalBlobStore::open(Arc::clone(&place.fs))?;
        let stores = Stores { metadata: Arc::new(journaled), blobs: Arc::new(blobs) };
        let access = Access { opening, room, warnings, exclusion: Some(lock) };
        Self::open_exclusively(stores, options, components, access)
    }

    /// Opens the store in a place for reads alone, damaged or not, and changes nothing there.
    ///
    /// # Errors
    /// As [`Engine::open_read_only`].
    pub fn open_read_only_in(place: &Place, options: Options, components: Components) -> Result<Self, OpenError> {
        let lock = lock_shared(place)?;
        let recovery::Shown { table, applied, survey, store_id } = recovery::Facts::gather(place)?.shown()?;
        let mut shown = ReadOnly::new(table, applied, store_id);
        if let Some(survey) = survey {
            survey.replay(&mut |batch: Batch, sequence| {
                shown.add(&batch, sequence);
                Ok(())
            })?;
        }
        let blobs = LocalBlobStore::open_read_only(Arc::clone(&place.fs));
        let stores = Stores { metadata: Arc::new(shown), blobs: Arc::new(blobs) };
        let (room, warnings) = (Room::unlimited(), Vec::new());
        let access = Access { opening: Opening::ReadOnly, room, warnings, exclusion: lock };
        Self::open_exclusively(stores, options, components, access)
    }
}

/// Refuses a medium on which the engine cannot keep its promises; what else there is to say of it.
fn suitable(place: &Place, options: &Options) -> Result<Vec<String>, StorageError> {
    let Suitability { refused, warning } = place.fs.suitability();
    match refused {
        Some(reason) if !options.any_medium => Err(StorageError::Unsuitable { path: place.path.clone(), reason }),
        refused => Ok(refused.into_iter().chain(warning).collect()),
    }
}

/// Tries what no system call tells: whether the lock that is held keeps others out, and whether `known`, which is there, is
/// also found under a name in lower case.
fn probe(place: &Place, options: &Options, known: &Path) -> Result<Option<String>, StorageError> {
    let mut said = None;
    if place.fs.lock_shared(Path::new(LOCK)).is_ok() {
        let reason = "locks keep nobody out".to_owned();
        if !options.any_medium {
            return Err(StorageError::Unsuitable { path: place.path.clone(), reason });
        }
        said = Some(reason);
    }
    let lower = known.to_string_lossy().to_lowercase();
    let io = |e| StorageError::io("look for", known, e);
    if fs::exists(&*place.fs, known).map_err(io)? && fs::exists(&*place.fs, Path::new(&lower)).map_err(io)? {
        said.get_or_insert_with(|| "names are the same in upper and lower case".to_owned());
    }
    Ok(said)
}

/// What is found in the directory of a store, by name.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    names: Vec<(String, EntryKind)>,
}

impl Parts {
    pub(crate) fn look(place: &Place) -> Result<Self, StorageError> {
        let entries = place.fs.list(Path::new("")).map_err(|e| StorageError::io("list directory", &place.path, e))?;
        Ok(Self { names: entries.into_iter().map(|entry| (entry.name, entry.kind)).collect() })
    }

    fn kind(&self, name: &str) -> Option<EntryKind> {
        self.names.iter().find(|(found, _)| found == name).map(|(_, kind)| *kind)
    }

    /// Whether a store is here, or was and has left at least one of its files.
    ///
    /// # Errors
    /// [`StorageError::NotAStore`] with the reason.
    pub(crate) fn is_store(&self, place: &Place) -> Result<(), StorageError> {
        if self.kind(FORMAT).is_none() && self.kind(plan::PATH).is_none() && self.kind(FORMAT_NEW).is_some() {
            return Err(place.not_a_store("its making was interrupted: remove it and make it again"));
        }
        let parts = [plan::PATH, journal::DIRECTORY, home::DIRECTORY, local::DIRECTORY, BALLAST];
        if parts.iter().any(|part| self.kind(part).is_some()) {
            return Ok(());
        }
        match read_format(&*place.fs)? {
            FormatFile::Foreign => Err(place.not_a_store("its FORMAT file is another program's")),
            FormatFile::Missing if self.kind(LOCK).is_some() && self.is_lock_ours(place) => Ok(()),
            FormatFile::Missing => Err(place.not_a_store("it has no FORMAT file, nor anything else of a store")),
            FormatFile::Whole(_) | FormatFile::Damaged(_) | FormatFile::OtherVersion(_) => Ok(()),
        }
    }

    /// Whether the file LOCK is what is left of a store. Other programs have files of this name.
    fn is_lock_ours(&self, place: &Place) -> bool {
        let mut bytes = [0; HOLDER.len()];
        let file = place.fs.open(Path::new(LOCK), OpenMode::Read);
        let read = file.and_then(|file| file.read_exact_at(&mut bytes, 0));
        self.names.len() == 1 || (read.is_ok() && bytes == HOLDER.as_bytes())
    }

    /// What is missing of the directories that every store has, with the part that it is.
    pub(crate) fn missing(&self) -> Vec<(recovery::Part, String)> {
        let parts = [
            (recovery::Part::Journal, journal::DIRECTORY),
            (recovery::Part::Table, home::DIRECTORY),
            (recovery::Part::Blobs, local::DIRECTORY),
        ];
        let words = |name| match self.kind(name) {
            Some(EntryKind::Directory) => None,
            Some(_) => Some(format!("{name} is not a directory")),
            None => Some(format!("the directory {name} is missing")),
        };
        parts.into_iter().filter_map(|(part, name)| Some((part, words(name)?))).collect()
    }

    /// A number for a directory to set old files aside in, above that of any that is there.
    pub(crate) fn free_aside(&self) -> u64 {
        let used = |number: &u64| self.kind(&plan::aside_name(*number)).is_some();
        (1..).find(|number| !used(number)).unwrap_or(u64::MAX)
    }
}

/// A store that is whole, judged and not yet changed.
pub(crate) struct Judged {
    pub(crate) journal: DecidedJournal,
    /// Open for reads alone.
    pub(crate) table: Box<dyn Table>,
}

/// Judges a store; the first thing that is wrong is the error.
pub(crate) fn judge(place: &Place, mode: OpenMode) -> Result<Judged, StorageError> {
    if plan::is_there(&*place.fs)? {
        return Err(StorageError::corrupt(
            "a recovery of this store was begun and not finished: make the choice again",
        ));
    }
    let store_id = match read_format(&*place.fs)? {
        FormatFile::Whole(id) => id,
        FormatFile::OtherVersion(found) => {
            return Err(StorageError::UnknownFormat { found, supported: FORMAT_VERSION });
        }
        FormatFile::Missing => return Err(StorageError::corrupt("the file FORMAT is missing")),
        FormatFile::Foreign => return Err(StorageError::corrupt("FORMAT file: it does not begin as one")),
        FormatFile::Damaged(what) => return Err(StorageError::corrupt(what)),
    };
    if let Some((_, what)) = Parts::look(place)?.missing().into_iter().next() {
        return Err(StorageError::Corrupt { what });
    }
    let table = readable_table(place)?;
    let applied = table.applied_sequence()?;
    check_identity(&*table, &store_id)?;
    let journal = Journaled::<Box<dyn Table>>::decide(Arc::clone(&place.fs), store_id, applied, mode)?;
    Ok(Judged { journal, table })
}

/// The table, open for reads alone, if it can be read so far that a store can begin with it: what opening reads after the
/// decision must not turn out to be damaged then.
pub(crate) fn readable_table(place: &Place) -> Result<Box<dyn Table>, StorageError> {
    let table = place.table.open_read_only()?;
    table.verify()?;
    let rows = [keys::meta::identity(), keys::meta::clock(), keys::meta::next_ids(), keys::meta::download_key()];
    table.view()?.get_many(&rows.each_ref().map(keys::KeyBytes::as_slice))?;
    Ok(table)
}

/// An error where the table belongs to another store. One that nothing was flushed into may have no identity yet.
pub(crate) fn check_identity(table: &dyn Table, store_id: &StoreId) -> Result<(), StorageError> {
    match identity(table)? {
        Some(row) if row.store_id != *store_id => Err(StorageError::corrupt("the table belongs to another store")),
        None if table.applied_sequence()? > 0 => Err(StorageError::corrupt("the table has no identity row")),
        _ => Ok(()),
    }
}

/// The row that says whose a table is.
pub(crate) fn identity(table: &dyn Table) -> Result<Option<IdentityRow>, StorageError> {
    IdentityRow::decode_optional(table.view()?.get(&keys::meta::identity())?.as_deref())
}

/// What the lock file begins with while one of our processes holds it.
const HOLDER: &str = "layerhold ";

pub(crate) type Exclusion = Box<dyn std::fmt::Debug + Send + Sync>;

/// Keeps everybody else out.
pub(crate) fn lock(place: &Place) -> Result<Exclusion, StorageError> {
    let held = place.fs.lock(Path::new(LOCK), &format!("{HOLDER}process {}", std::process::id()));
    held.map_err(|e| lock_error(place, e))
}

/// Keeps out whoever would write. Without a lock file nobody writes: opening makes it first.
pub(crate) fn lock_shared(place: &Place) -> Result<Option<Exclusion>, StorageError> {
    match place.fs.lock_shared(Path::new(LOCK)) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(lock_error(place, e)),
    }
}

fn lock_error(place: &Place, error: io::Error) -> StorageError {
    match LockHeld::of(&error) {
        Some(held) => {
            let holder = held.holder.trim().to_owned();
            StorageError::Locked { holder: if holder.is_empty() { "unknown".to_owned() } else { holder } }
        }
        None if matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS)) => {
            StorageError::Unsuitable {
                path: place.path.clone(),
                reason: format!("files cannot be locked error={error}"),
            }
        }
        None => StorageError::io("lock", place.path.join(LOCK), error),
    }
}

/// What the file FORMAT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FormatFile {
    Whole(StoreId),
    OtherVersion(u32),
    Missing,
    Damaged(String),
    /// It does not begin as ours does.
    Foreign,
}

pub(crate) fn read_format(fs: &dyn FileSystem) -> Result<FormatFile, StorageError> {
    let file = match fs.open(Path::new(FORMAT), OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(FormatFile::Missing),
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
            return Ok(FormatFile::Damaged("FORMAT file: it is a directory".to_owned()));
        }
        Err(e) => return Err(StorageError::io("open", FORMAT, e)),
    };
    let mut bytes = [0; FORMAT_LEN];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(FormatFile::Damaged("FORMAT file: it is cut short".to_owned()));
        }
        // A directory opens for reading on Linux and refuses to be read.
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
            return Ok(FormatFile::Damaged("FORMAT file: it is a directory".to_owned()));
        }
        Err(e) => return Err(StorageError::io("read", FORMAT, e)),
    }
    let (body, checksum) = bytes.split_at(FORMAT_LEN - 4);
    let mut decoder = Decoder::bare(body, "FORMAT file");
    let magic: [u8; 8] = decoder.array()?;
    let version = decoder.u32()?;
    let store_id = decoder.array()?;
    // These 32 bytes are laid out alike in every version, so that damage is never taken for another version.
    Ok(match checksum == crc32fast::hash(body).to_be_bytes() {
        _ if magic != *MAGIC => FormatFile::Foreign,
        false => FormatFile::Damaged("FORMAT file: wrong checksum".to_owned()),
        true if version != FORMAT_VERSION => FormatFile::OtherVersion(version),
        true => FormatFile::Whole(store_id),
    })
}

fn write_format(fs: &dyn FileSystem, path: &Path, store_id: StoreId) -> Result<(), StorageError> {
    let mut encoder = Encoder::bare();
    encoder.raw(MAGIC).u32(FORMAT_VERSION).raw(&store_id);
    let mut bytes = encoder.finish();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    let write = || {
        let file = fs.create_new(path)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        fs.sync_dir(Path::new(""))
    };
    write().map_err(|e| StorageError::io("write", path, e))
}

/// Writes FORMAT again, durably; what was there goes into `aside`.
pub(crate) fn rewrite_format(fs: &dyn FileSystem, store_id: StoreId, aside: &Path) -> Result<(), StorageError> {
    if read_format(fs)? == FormatFile::Whole(store_id) {
        return Ok(());
    }
    let (format, again) = (Path::new(FORMAT), Path::new(FORMAT_AGAIN));
    let io = |e| StorageError::io("write", FORMAT, e);
    if fs::exists(fs, format).map_err(io)? {
        fs::copy_file(fs, format, &aside.join(FORMAT)).map_err(io)?;
        fs.sync_dir(aside).map_err(io)?;
    }
    fs::remove_if_there(fs, again).map_err(io)?;
    write_format(fs, again, store_id)?;
    fs.rename_replace(again, format).and_then(|()| fs.sync_dir(Path::new(""))).map_err(io)
}

/// How much of the memory goes to rows that were locked lately; the rest is the table's.
pub(crate) fn row_cache_bytes(options: &Options) -> u64 {
    options.memory_bytes / 16
}

pub(crate) fn journal_options(options: &Options, components: &Components) -> JournaledOptions {
    JournaledOptions::default()
        .with_segment_bytes(options.journal_segment_bytes)
        .with_lock_wait_ms(options.lock_wait_ms)
        .with_clock(Arc::clone(&components.clock))
        .with_spawner(components.spawner.clone())
        .with_guard_checks(options.check_guards)
        .with_row_cache_bytes(usize::try_from(row_cache_bytes(options)).unwrap_or(usize::MAX))
        .with_unguarded(|key| !keys::is_guard(key))
}
