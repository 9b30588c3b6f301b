//! Stores on media that are really mounted, in each of the states that an environment can bring them to: full, without inodes,
//! read-only from the start or all of a sudden, held by another process, of a kind that does not last, or under a limit of
//! memory that ends the process.
//!
//! Each case is a child with mounts of its own, which end with it. What it says about where it could not be tried is a gap and
//! no success.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::digest::Digest;
use layerhold::engine::Engine;
use layerhold::error::ErrorKind;
use layerhold::name::{RegistryName, RepositoryName};
use layerhold::options::Options;
use layerhold::repository::Repository;
use layerhold::upload::{self, Expected};
use layerhold::{StorageError, recovery};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::operation::pool;
use crate::sound::sound;
use crate::technique::Outcome;
use crate::witness::{Witness, small_options};

use super::child::{self, say};
use super::loops::Loop;
use super::{Place, own_mounts};

/// Who goes on for so long with nothing to show for it waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of the file systems in memory, and of those on a loop device.
const MEMORY_BYTES: u64 = 24 << 20;
const DISK_BYTES: u64 = 64 << 20;

/// What the engine keeps free where it keeps something free.
const FREE: u64 = 2 << 20;
const BALLAST: u64 = 1 << 20;

/// One state of the environment.
struct Case {
    name: &'static str,
    run: fn(&Bench) -> Result<Ran, String>,
}

/// How a case ended, if nothing was wrong.
enum Ran {
    Done,
    /// What the machine lacks for it.
    NotHere(String),
}

const CASES: &[Case] = &[
    Case { name: "full, with room kept free", run: full_with_room_kept_free },
    Case { name: "full to the last byte", run: full_to_the_last_byte },
    Case { name: "no inodes", run: no_inodes },
    Case { name: "read-only from the start", run: read_only_from_the_start },
    Case { name: "read-only all of a sudden", run: read_only_all_of_a_sudden },
    Case { name: "held by another process", run: held_by_another_process },
    Case { name: "of a kind that does not last", run: of_a_kind_that_does_not_last },
    Case { name: "no memory", run: no_memory },
];

/// How many cases there are.
#[must_use]
pub fn cases() -> u64 {
    CASES.len() as u64
}

/// The names of the cases.
pub fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case| case.name)
}

/// What counts a case that was tried to its end.
#[must_use]
pub fn counted(name: &str) -> String {
    format!("case: {name}")
}

/// Tries the case with this number, from 0.
///
/// # Errors
/// Where no child could be started.
pub fn try_case(place: &Place, number: u64) -> Result<Outcome, String> {
    let case = usize::try_from(number).ok().and_then(|number| CASES.get(number)).ok_or("no such case")?;
    let directory = place.directory().map_err(|e| e.to_string())?;
    let mut started = child::start(place, &["mounts", case.name], &directory.path).map_err(|e| e.to_string())?;
    let mut outcome = Outcome::default();
    for line in started.lines.by_ref() {
        let line = line.map_err(|e| e.to_string())?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("count", what) => outcome.count(what, 1),
            ("done", _) => {
                outcome.count("cases", 1);
                outcome.count(&counted(case.name), 1);
            }
            ("lacks", what) => {
                eprintln!("mounts, {}: NOT RUN, not available here: {what}", case.name);
                outcome.count(&format!("not run: {}: {what}", case.name), 1);
            }
            (_, wrong) => outcome.violation(format!("{}: {}", case.name, wrong.replace('\t', "\n"))),
        }
    }
    let status = started.process.wait().map_err(|e| e.to_string())?;
    if !status.success() && outcome.violations.is_empty() {
        outcome.violation(format!("{}: the process died status={status}", case.name));
    }
    Ok(outcome)
}

/// The child's life.
pub(super) fn live(name: &str, directory: &Path) -> Result<(), String> {
    // Not a case: the process that another one holds a store with, or runs out of memory with.
    match name {
        "hold" => return hold(directory),
        "eat" => return eat(directory),
        _ => {}
    }
    let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
    std::thread::Builder::new()
        .name("patience".to_owned())
        .spawn(|| {
            std::thread::sleep(PATIENCE);
            say(&format!("wrong it goes on for more than {PATIENCE:?}"));
            std::process::exit(1);
        })
        .map_err(|e| e.to_string())?;
    if !rustix::process::geteuid().is_root() {
        say("lacks root");
        return Ok(());
    }
    own_mounts().map_err(|e| format!("no mounts of its own error={e}"))?;
    let bench = Bench { at: directory.join("mounted"), directory: directory.to_owned() };
    fs::create_dir(&bench.at).map_err(|e| e.to_string())?;
    match (case.run)(&bench)? {
        Ran::Done => say("done"),
        Ran::NotHere(what) => say(&format!("lacks {what}")),
    }
    Ok(())
}

/// Where a case has its mounts and files.
struct Bench {
    directory: PathBuf,
    /// Where it mounts.
    at: PathBuf,
}

impl Bench {
    fn store(&self) -> PathBuf {
        self.at.join("store")
    }

    fn memory(&self, options: &str) -> Result<(), String> {
        let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
        mount("layerhold", &self.at, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .map_err(|e| format!("tmpfs does not mount error={e}"))
    }

    fn resize(&self, options: &str) -> Result<(), String> {
        mount_remount(&self.at, MountFlags::empty(), options).map_err(|e| format!("tmpfs does not grow error={e}"))
    }

    /// An ext4 file system in a file, not mounted yet; `None` where nothing makes one.
    fn disk(&self) -> Result<Option<PathBuf>, String> {
        let image = self.directory.join("disk");
        File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).map_err(|e| e.to_string())?;
        match Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.to_string()),
            Ok(made) if made.status.success() => Ok(Some(image)),
            Ok(made) => Err(format!("mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr))),
        }
    }

    /// Mounts a disk, and gives the name of its device.
    fn mount_disk(&self, image: &Path, flags: MountFlags, options: &str) -> Result<String, String> {
        let mounted = || -> io::Result<String> {
            let file = File::options().read(true).write(true).open(image)?;
            let device = Loop::of(&file)?;
            let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
            let mounted = mount(&device.path, &self.at, "ext4", flags, Some(options.as_c_str()));
            // While it is mounted this only says that the device is to let go with the mount.
            device.detach()?;
            mounted?;
            Ok(device.path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        mounted().map_err(|e| format!("ext4 does not mount error={e}"))
    }

    /// Waits for background threads that still have a file open.
    fn unmount(&self) -> Result<(), String> {
        for _ in 0..200 {
            match unmount(&self.at, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(5)),
                ended => return ended.map_err(|e| format!("does not unmount error={e}")),
            }
        }
        Err("does not unmount".to_owned())
    }

    /// Takes all but `left` bytes of what is free.
    fn fill(&self, left: u64) -> Result<(), String> {
        let fill = || -> io::Result<()> {
            let stat = rustix::fs::statvfs(&self.at)?;
            let free = stat.f_bavail * stat.f_frsize;
            let file = File::options().create(true).append(false).write(true).truncate(false).open(self.filler())?;
            let mut at = file.metadata()?.len();
            let end = at + free.saturating_sub(left);
            let zeros = vec![0; 64 << 10];
            while at < end {
                let part = zeros.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                match file.write_at(zeros.get(..part).unwrap_or_default(), at) {
                    Err(e) if e.kind() == io::ErrorKind::StorageFull && left == 0 => return Ok(()),
                    written => at += written? as u64,
                }
            }
            Ok(())
        };
        fill().map_err(|e| format!("the medium cannot be filled error={e}"))
    }

    fn filler(&self) -> PathBuf {
        self.at.join("others")
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn repository(engine: &Engine) -> Result<Repository, String> {
    let registry = engine.registry(&RegistryName::parse("witness").map_err(text)?);
    Ok(registry.repository(&RepositoryName::parse("app").map_err(text)?))
}

/// A new store with some images in it.
fn begun(store: &Path, options: &Options, images: u64) -> Result<(Engine, Witness), String> {
    let engine = Engine::create(store, options.clone()).map_err(|e| format!("no store is made: {e:?}"))?;
    let mut witness = Witness::begin(&engine).map_err(text)?;
    witness.work(&engine, images).map_err(text)?;
    Ok((engine, witness))
}

/// Everything acknowledged is there, and nothing is damaged.
fn whole(witness: &Witness, engine: &Engine, when: &str) -> Result<(), String> {
    // What was tried and not acknowledged may be there: the sequence is the store's.
    let found = witness.check(engine, engine.sequence()).map_err(|wrong| format!("{when}: {wrong}"))?;
    if found.damaged > 0 || engine.sequence() < witness.sequence {
        return Err(format!("{when}: {found:?} sequence={} acknowledged={}", engine.sequence(), witness.sequence));
    }
    Ok(())
}

fn whole_and_sound(witness: &Witness, engine: &Engine, when: &str) -> Result<(), String> {
    whole(witness, engine, when)?;
    sound(engine, Level::Bytes).map(drop).map_err(|wrong| format!("{when}: not sound: {wrong}"))
}

/// An error is of one of these kinds.
fn is_one_of(kind: ErrorKind, kinds: &[ErrorKind], what: &dyn std::fmt::Debug) -> Result<(), String> {
    if kinds.contains(&kind) { Ok(()) } else { Err(format!("{kind:?} where {kinds:?} was to be: {what:?}")) }
}

fn opens(store: &Path, options: &Options, when: &str) -> Result<Engine, String> {
    Engine::open(store, options.clone()).map_err(|e| format!("{when}: does not open: {e:?}"))
}

/// Opens, or says that there is no room.
fn opens_or_has_no_space(store: &Path, options: &Options) -> Result<Option<Engine>, String> {
    match Engine::open(store, options.clone()) {
        Ok(engine) => Ok(Some(engine)),
        Err(error) => {
            is_one_of(error.kind(), &[ErrorKind::NoSpace], &error)?;
            say("count openings refused for lack of room");
            Ok(None)
        }
    }
}

/// Blobs that were pushed one by one, large and small, until there was no room.
#[derive(Default)]
struct Pushed {
    blobs: Vec<(Digest, Vec<u8>)>,
    tried: u64,
}

impl Pushed {
    /// Pushes a blob of `len` bytes, and remembers it if that was acknowledged.
    fn push(&mut self, app: &Repository, len: usize) -> Result<(), upload::CompleteError> {
        self.tried += 1;
        let bytes = pool::noise(self.tried.wrapping_mul(0x9e37_79b9), len);
        let digest = app.put_blob(&bytes, &Expected::Computed, &Call::anonymous())?.digest;
        self.blobs.push((digest, bytes));
        Ok(())
    }

    /// Everything acknowledged reads back.
    fn check(&self, engine: &Engine, when: &str) -> Result<(), String> {
        let app = repository(engine)?;
        for (digest, bytes) in &self.blobs {
            let reader = app.blob(digest).map_err(|e| format!("{when}: {digest}: {e:?}"))?;
            let (mut found, mut at) = (vec![0; bytes.len()], 0);
            while at < found.len() {
                match reader.read_at(at as u64, &mut found[at..]).map_err(|e| format!("{when}: {digest}: {e:?}"))? {
                    0 => return Err(format!("{when}: {digest} ends at {at}")),
                    read => at += read,
                }
            }
            if found != *bytes {
                return Err(format!("{when}: {digest}: other bytes"));
            }
        }
        Ok(())
    }
}

/// What is asked of a medium on which others have left no room: reads go on, and a deletion finds the room that was kept.
fn full_with_room_kept_free(bench: &Bench) -> Result<Ran, String> {
    bench.memory(&format!("size={MEMORY_BYTES}"))?;
    let options = small_options().with_free_bytes_min(FREE).with_ballast_bytes(BALLAST);
    let (engine, mut witness) = begun(&bench.store(), &options, 40)?;
    let app = repository(&engine)?;
    let (mut kept, mut given_up) = (Pushed::default(), Pushed::default());
    for len in [100, 9_000].into_iter().cycle().take(40) {
        given_up.push(&app, len).map_err(text)?;
    }
    bench.fill(FREE + (512 << 10))?;
    kept.tried = 1_000;
    let refused = loop {
        match kept.push(&app, 20_000) {
            Ok(()) if kept.tried > 10_000 => return Err("the medium never was full".to_owned()),
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    is_one_of(refused.kind(), &[ErrorKind::NoSpace], &refused)?;
    // Others take the rest.
    bench.fill(0)?;
    whole(&witness, &engine, "full")?;
    kept.check(&engine, "full")?;
    for (digest, _) in &given_up.blobs {
        let deleted = app.delete_blob(digest, &Call::anonymous());
        deleted.map_err(|e| format!("a deletion on a full medium: {e:?}"))?;
    }
    engine.maintain().map_err(|e| format!("maintenance on a full medium: {e:?}"))?;
    kept.check(&engine, "after deletions")?;
    drop((app, engine));
    for when in ["opened where it is full", "opened where it is full once more"] {
        bench.fill(0)?;
        if let Some(engine) = opens_or_has_no_space(&bench.store(), &options)? {
            whole(&witness, &engine, when)?;
        }
    }
    bench.resize(&format!("size={}", 2 * MEMORY_BYTES))?;
    let engine = opens(&bench.store(), &options, "grown")?;
    kept.check(&engine, "grown")?;
    whole_and_sound(&witness, &engine, "grown")?;
    witness.work(&engine, 3).map_err(|e| format!("grown: {e:?}"))?;
    Ok(Ran::Done)
}

/// RocksDB and the journal meet the end of the medium themselves, wherever they are then.
fn full_to_the_last_byte(bench: &Bench) -> Result<Ran, String> {
    for left in [0, 40, 90, 150, 300, 500, 900, 1_500].map(|kib: u64| kib << 10) {
        let when = |what: &str| format!("{what}, {left} bytes left");
        bench.memory(&format!("size={MEMORY_BYTES}"))?;
        let (engine, witness) = begun(&bench.store(), &small_options(), 40)?;
        let app = repository(&engine)?;
        bench.fill(left)?;
        let (mut kept, mut failed) = (Pushed { tried: left, ..Pushed::default() }, 0);
        for len in [100, 9_000, 3_000, 100_000].into_iter().cycle().take(2_000) {
            if let Err(error) = kept.push(&app, len) {
                is_one_of(error.kind(), OUT_OF_ROOM, &error).map_err(|wrong| when(&wrong))?;
                failed += 1;
            }
            // The table is flushed, into what is left.
            if failed > 0
                && let Err(error) = engine.maintain()
            {
                is_one_of(error.kind(), OUT_OF_ROOM, &error).map_err(|wrong| when(&wrong))?;
            }
            if failed > 20 {
                break;
            }
        }
        if failed == 0 {
            return Err(when("the medium never was full"));
        }
        bench.fill(0)?;
        whole(&witness, &engine, &when("full"))?;
        kept.check(&engine, &when("full"))?;
        drop((app, engine));
        for _ in 0..2 {
            if let Some(engine) = opens_or_has_no_space(&bench.store(), &small_options())? {
                whole(&witness, &engine, &when("opened where it is full"))?;
                kept.check(&engine, &when("opened where it is full"))?;
            }
            bench.fill(0)?;
        }
        bench.resize(&format!("size={}", 2 * MEMORY_BYTES))?;
        let engine = opens(&bench.store(), &small_options(), &when("grown"))?;
        kept.check(&engine, &when("grown"))?;
        whole_and_sound(&witness, &engine, &when("grown"))?;
        let mut witness = witness;
        witness.work(&engine, 3).map_err(|e| when(&format!("grown: {e:?}")))?;
        drop(engine);
        bench.unmount()?;
        say("count media filled to the last byte");
    }
    Ok(Ran::Done)
}

/// What a medium without room may be told as. After a failed write of the journal or the table, reads alone go on.
const OUT_OF_ROOM: &[ErrorKind] = &[ErrorKind::NoSpace, ErrorKind::ReadOnly, ErrorKind::Indeterminate];

/// There are bytes, and no more files.
fn no_inodes(bench: &Bench) -> Result<Ran, String> {
    const INODES: u64 = 2_500;
    // With this many the engine has its own files to make room with.
    const OWN: u64 = 30;
    for left in [0, 1, 2, 3, 5, 8, 13, 40, 100, 300] {
        let when = |what: &str| format!("{what}, {left} inodes left");
        bench.memory(&format!("size={},nr_inodes={INODES}", 8 * MEMORY_BYTES))?;
        let options = small_options().with_free_bytes_min(FREE).with_ballast_bytes(BALLAST);
        let (engine, witness) = begun(&bench.store(), &options, 20)?;
        let app = repository(&engine)?;
        let mut given_up = Pushed::default();
        for len in [100, 9_000].into_iter().cycle().take(20) {
            given_up.push(&app, len).map_err(text)?;
        }
        let others = bench.at.join("many");
        fs::create_dir(&others).map_err(text)?;
        let mut number = 0;
        let mut take = |left: u64| -> Result<(), String> {
            while rustix::fs::statvfs(&bench.at).map_err(text)?.f_favail > left {
                number += 1;
                File::create(others.join(number.to_string())).map_err(text)?;
            }
            Ok(())
        };
        take(left)?;
        let (mut kept, mut failed) = (Pushed { tried: 100_000, ..Pushed::default() }, 0);
        for len in [9_000, 100, 3_000].into_iter().cycle().take(2_000) {
            if let Err(error) = kept.push(&app, len) {
                is_one_of(error.kind(), &[ErrorKind::NoSpace], &error).map_err(|wrong| when(&wrong))?;
                failed += 1;
                if failed > 20 {
                    break;
                }
            }
        }
        if failed == 0 {
            return Err(when("there never was a lack of inodes"));
        }
        // Where others take the last ones as well, there may be none to make room with.
        let half = given_up.blobs.len() / 2;
        for (number, (digest, _)) in given_up.blobs.iter().enumerate() {
            if number == half {
                take(0)?;
            }
            if let Err(error) = app.delete_blob(digest, &Call::anonymous()) {
                let allowed = if number < half && left >= OWN { &[] } else { OUT_OF_ROOM };
                is_one_of(error.kind(), allowed, &error).map_err(|wrong| when(&format!("a deletion: {wrong}")))?;
            }
        }
        if let Err(error) = engine.maintain() {
            is_one_of(error.kind(), OUT_OF_ROOM, &error).map_err(|wrong| when(&format!("maintenance: {wrong}")))?;
        }
        whole(&witness, &engine, &when("no inodes"))?;
        kept.check(&engine, &when("no inodes"))?;
        drop((app, engine));
        take(0)?;
        if let Some(engine) = opens_or_has_no_space(&bench.store(), &options)? {
            whole(&witness, &engine, &when("opened without inodes"))?;
        }
        fs::remove_dir_all(&others).map_err(text)?;
        let engine = opens(&bench.store(), &options, &when("with inodes again"))?;
        kept.check(&engine, &when("with inodes again"))?;
        whole_and_sound(&witness, &engine, &when("with inodes again"))?;
        drop(engine);
        bench.unmount()?;
        say("count media without inodes");
    }
    Ok(Ran::Done)
}

fn read_only_from_the_start(bench: &Bench) -> Result<Ran, String> {
    let Some(image) = bench.disk()? else { return Ok(Ran::NotHere("mkfs.ext4".to_owned())) };
    bench.mount_disk(&image, MountFlags::empty(), "")?;
    let (engine, witness) = begun(&bench.store(), &small_options(), 12)?;
    // As a kill leaves it, so that there is something to bring back.
    let killed = bench.at.join("killed");
    super::copy_tree(&bench.store(), &killed).map_err(text)?;
    engine.close().map_err(text)?;
    drop(engine);
    bench.unmount()?;
    bench.mount_disk(&image, MountFlags::RDONLY, "")?;
    for store in [bench.store(), killed] {
        match Engine::open(&store, small_options()) {
            Err(error) => is_one_of(error.kind(), &[ErrorKind::ReadOnly], &error)?,
            Ok(_) => return Err("opens for writing on a medium that is read-only".to_owned()),
        }
        let examination = recovery::examine(&store, &small_options()).map_err(text)?;
        if !examination.is_sound() {
            return Err(format!("a sound store on a medium that is read-only: {examination:?}"));
        }
        let shown = Engine::open_read_only(&store, small_options()).map_err(text)?;
        whole_and_sound(&witness, &shown, "shown")?;
    }
    bench.unmount()?;
    bench.mount_disk(&image, MountFlags::empty(), "")?;
    whole_and_sound(&witness, &opens(&bench.store(), &small_options(), "writable again")?, "writable again")?;
    bench.unmount()?;
    Ok(Ran::Done)
}

fn read_only_all_of_a_sudden(bench: &Bench) -> Result<Ran, String> {
    let Some(image) = bench.disk()? else { return Ok(Ran::NotHere("mkfs.ext4".to_owned())) };
    let device = bench.mount_disk(&image, MountFlags::empty(), "errors=remount-ro")?;
    let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
    let (engine, witness) = begun(&bench.store(), &small_options(), 12)?;
    let app = repository(&engine)?;
    let mut kept = Pushed::default();
    for len in [100, 9_000, 100_000] {
        kept.push(&app, len).map_err(text)?;
    }
    if let Err(error) = fs::write(&trigger, "layerhold") {
        return Ok(Ran::NotHere(format!("trigger_fs_error of ext4: {error}")));
    }
    let mut refused = 0;
    for len in [100, 9_000, 100_000].into_iter().cycle().take(12) {
        if let Err(error) = kept.push(&app, len) {
            is_one_of(error.kind(), &[ErrorKind::ReadOnly, ErrorKind::Indeterminate], &error)?;
            refused += 1;
        }
    }
    if refused < 9 {
        return Err(format!("{refused} of 12 pushes were refused on a medium that is read-only"));
    }
    if let Err(error) = engine.maintain() {
        is_one_of(error.kind(), &[ErrorKind::ReadOnly], &error)?;
    }
    whole(&witness, &engine, "read-only")?;
    kept.check(&engine, "read-only")?;
    drop((app, engine));
    match Engine::open(bench.store(), small_options()) {
        Err(error) => is_one_of(error.kind(), &[ErrorKind::ReadOnly], &error)?,
        Ok(_) => return Err("opens for writing on a medium that is read-only".to_owned()),
    }
    bench.unmount()?;
    bench.mount_disk(&image, MountFlags::empty(), "")?;
    let engine = opens(&bench.store(), &small_options(), "writable again")?;
    kept.check(&engine, "writable again")?;
    whole_and_sound(&witness, &engine, "writable again")?;
    drop(engine);
    bench.unmount()?;
    Ok(Ran::Done)
}

/// Starts this program as the other process of a case, and waits for its first line.
fn other(what: &str, store: &Path) -> Result<child::Started, String> {
    let place = Place { program: std::env::current_exe().map_err(text)?, scratch: PathBuf::new() };
    child::start(&place, &["mounts", what], store).map_err(text)
}

fn held_by_another_process(bench: &Bench) -> Result<Ran, String> {
    bench.memory(&format!("size={MEMORY_BYTES}"))?;
    let (engine, witness) = begun(&bench.store(), &small_options(), 5)?;
    drop(engine);
    for _ in 0..5 {
        let mut holder = other("hold", &bench.store())?;
        if holder.lines.next().transpose().map_err(text)?.as_deref() != Some("held") {
            return Err("the other process does not open the store".to_owned());
        }
        let named = format!("process {}", holder.process.id());
        let options = small_options();
        let refused =
            [Engine::open(bench.store(), options.clone()), Engine::open_read_only(bench.store(), options.clone())];
        for opened in
            refused
                .map(|opened| opened.map(drop))
                .into_iter()
                .chain([recovery::examine(&bench.store(), &options).map(drop)])
        {
            match opened {
                Err(StorageError::Locked { holder }) if holder.contains(&named) => {}
                other => return Err(format!("a store that {named} holds: {other:?}")),
            }
        }
        holder.process.kill().map_err(text)?;
        holder.process.wait().map_err(text)?;
        whole_and_sound(&witness, &opens(&bench.store(), &options, "after the holder was killed")?, "afterwards")?;
    }
    Ok(Ran::Done)
}

/// The process that holds a store until it is killed.
fn hold(store: &Path) -> Result<(), String> {
    let _engine = opens(store, &small_options(), "held")?;
    say("held");
    loop {
        std::thread::park();
    }
}

fn of_a_kind_that_does_not_last(bench: &Bench) -> Result<Ran, String> {
    bench.memory(&format!("size={MEMORY_BYTES}"))?;
    let warned = |store: &Path, of: &str| -> Result<(), String> {
        let (engine, witness) = begun(store, &small_options(), 5)?;
        let made = engine.warnings().to_vec();
        drop(engine);
        let engine = opens(store, &small_options(), of)?;
        for warnings in [made.as_slice(), engine.warnings()] {
            if !warnings.iter().any(|warning| warning.contains(of)) {
                return Err(format!("no word of {of}: {warnings:?}"));
            }
        }
        whole_and_sound(&witness, &engine, of)
    };
    warned(&bench.store(), "tmpfs")?;
    let parts = ["lower", "upper", "work", "merged"].map(|part| bench.at.join(part));
    parts.iter().try_for_each(fs::create_dir).map_err(text)?;
    let [lower, upper, work, merged] = parts.each_ref().map(|path| path.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let options = std::ffi::CString::new(options).map_err(text)?;
    let merged = PathBuf::from(merged.to_string());
    match mount("layerhold", &merged, "overlay", MountFlags::empty(), Some(options.as_c_str())) {
        Err(rustix::io::Errno::NODEV) => return Ok(Ran::NotHere("overlay in the kernel".to_owned())),
        mounted => mounted.map_err(|e| format!("overlayfs does not mount error={e}"))?,
    }
    warned(&merged.join("store"), "overlayfs")?;
    Ok(Ran::Done)
}

/// A group of processes with a limit of memory; it goes with the value.
struct Group {
    path: PathBuf,
}

impl Group {
    /// `None` where this process may make none.
    fn new(bytes: u64) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
        let limits = ["memory.limit_in_bytes", "memory.max"];
        roots.into_iter().find_map(|root| {
            let group = Self { path: root.join(format!("layerhold-{}", std::process::id())) };
            fs::create_dir(&group.path).ok()?;
            let limited = limits.into_iter().any(|limit| {
                group.path.join(limit).exists() && fs::write(group.path.join(limit), bytes.to_string()).is_ok()
            });
            limited.then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            // It stays for as long as a process of it is not quite gone.
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn no_memory(bench: &Bench) -> Result<Ran, String> {
    let Some(image) = bench.disk()? else { return Ok(Ran::NotHere("mkfs.ext4".to_owned())) };
    bench.mount_disk(&image, MountFlags::empty(), "")?;
    let (engine, witness) = begun(&bench.store(), &small_options(), 5)?;
    drop(engine);
    let Some(group) = Group::new(48 << 20) else {
        return Ok(Ran::NotHere("a group with a limit of memory".to_owned()));
    };
    let mut acknowledged = Pushed::default();
    for number in 0..5 {
        // It waits for a word of ours until it is in the group.
        let mut eater = other("eat", &bench.store())?;
        fs::write(group.path.join("cgroup.procs"), eater.process.id().to_string()).map_err(text)?;
        fs::write(bench.at.join("go"), number.to_string()).map_err(text)?;
        let mut blobs = Vec::new();
        for line in eater.lines.by_ref() {
            let line = line.map_err(text)?;
            let Some((digest, seed)) = line.strip_prefix("pushed ").and_then(|rest| rest.split_once(' ')) else {
                return Err(line);
            };
            let seed = seed.parse().map_err(|_| line.clone())?;
            blobs.push((Digest::parse(digest).map_err(text)?, pool::noise(seed, EATEN_LEN)));
        }
        let status = eater.process.wait().map_err(text)?;
        if !child::was_killed(status) {
            return Err(format!("the process was not killed for its memory status={status}"));
        }
        if blobs.is_empty() {
            return Err("the process died before it pushed anything".to_owned());
        }
        acknowledged.blobs.extend(blobs);
        fs::remove_file(bench.at.join("go")).map_err(text)?;
        let engine = opens(&bench.store(), &small_options(), "after a kill for memory")?;
        acknowledged.check(&engine, "after a kill for memory")?;
        whole_and_sound(&witness, &engine, "after a kill for memory")?;
        say("count processes killed for their memory");
    }
    drop(group);
    bench.unmount()?;
    Ok(Ran::Done)
}

const EATEN_LEN: usize = 20_000;

/// The process that pushes and takes ever more memory until it is killed for it.
fn eat(store: &Path) -> Result<(), String> {
    let go = store.with_file_name("go");
    let number: u64 = loop {
        match fs::read_to_string(&go).ok().and_then(|number| number.parse().ok()) {
            Some(number) => break number,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let engine = opens(store, &small_options(), "eating")?;
    let app = repository(&engine)?;
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for push in 0.. {
        let seed = (number + 1) << 32 | push;
        let bytes = pool::noise(seed, EATEN_LEN);
        let digest = app.put_blob(&bytes, &Expected::Computed, &Call::anonymous()).map_err(text)?.digest;
        say(&format!("pushed {digest} {seed}"));
        // Not zeros, which would be one page.
        eaten.push(pool::noise(seed, 300_000));
    }
    drop(eaten);
    Ok(())
}
