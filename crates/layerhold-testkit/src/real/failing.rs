//! Fails system calls of an engine on RocksDB and real files, in one process for each failure.
//!
//! A child makes the requests of a workload, or opens what a killed one left, or makes a store, with a filter of the kernel's
//! that stops its calls about files before they do anything (see `sys`). At first one lets all of them go and says which there
//! were, by call and class of file. Then each of these sites fails in every way in which the call may: at its first call, and
//! at one that the seed draws; once, or from then on, a call that changes the medium together with all others that do and may
//! fail so. What must hold is what `faults` demands over memory: an error of a kind that fits, certainly failed is absent, reads go on, no
//! file is synced again after its sync failed, and opened again everything acknowledged is there. And no process dies of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::clock::{Components, ThreadSpawner};
use layerhold::engine::Engine;
use layerhold::error::{ErrorKind, Failure};

use crate::engine::{ManualClock, SeededEntropy, TestEngine, options, rocks, rocks_left};
use crate::fs::Rng;
use crate::judge::{Found, Judge, Wrong};
use crate::operation::Script;
use crate::operation::request::{RegistryRequest, Request};
use crate::runner::{Ended, Runner, shorten};
use crate::sound::sound;
use crate::technique::Outcome;

use super::Place;
use super::child::{self, say};
use super::class::Class;
use super::kill_points::{Sweep, WALL_MS, check, check_making, workload_named};
use super::sys::{Calls, Held, Verdict, Which};
use super::workloads::{self, Part};

/// The sites of one workload are shared by so many units.
pub const SLICES: u64 = 8;

/// No child lives nearly as long: one that does spins, or waits for what does not come.
const LIFE: Duration = Duration::from_secs(60);

/// A site that only some runs come by is tried so often.
const TRIES: u64 = 3;

/// Where a call is made: which one, about a file of which class.
type Site = (String, Class);

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    site: Site,
    /// The number of the call at that site, from 1.
    nth: u64,
    error: Errno,
    sticky: bool,
}

/// An error number with its name in the manuals.
type Errno = (i32, &'static str);

const EIO: Errno = (libc::EIO, "EIO");
const ENOSPC: Errno = (libc::ENOSPC, "ENOSPC");
const EROFS: Errno = (libc::EROFS, "EROFS");
const EINTR: Errno = (libc::EINTR, "EINTR");
const EMFILE: Errno = (libc::EMFILE, "EMFILE");
const ERRORS: [Errno; 5] = [EIO, ENOSPC, EROFS, EINTR, EMFILE];

/// The errors that a call may answer, by its manual. Those that a call on a descriptor meets are among them where a file system
/// of the kernel's answers them although the manual does not say so.
fn legal(call: &str) -> &'static [Errno] {
    match call {
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => &[EIO, ENOSPC, EROFS, EINTR],
        "fallocate" | "fsync" | "fdatasync" | "syncfs" => &[EIO, ENOSPC, EROFS, EINTR],
        "openat" | "open" | "openat2" | "creat" => &[EIO, ENOSPC, EROFS, EINTR, EMFILE],
        "open to read" => &[EIO, EINTR, EMFILE],
        "ftruncate" | "truncate" => &[EIO, EROFS, EINTR],
        "sync_file_range" | "msync" | "copy_file_range" | "sendfile" | "splice" => &[EIO, ENOSPC],
        "read" | "pread64" | "preadv" => &[EIO, EINTR],
        "unlink" | "unlinkat" | "rmdir" | "fchmod" | "fchmodat" | "fchown" | "utimensat" => &[EIO, EROFS],
        _ if call.starts_with("rename") || call.starts_with("link") || call.starts_with("mk") => &[EIO, ENOSPC, EROFS],
        _ => &[EIO],
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { site: (call, class), nth, error: (_, error), sticky } = self;
        write!(f, "{error} {} call {nth} of {call}, {class}", if *sticky { "from" } else { "at" })
    }
}

/// Fails the sites of one workload that are in this slice.
///
/// # Errors
/// Where no child could be started, or the workload goes wrong without a failure.
pub fn fail(place: &Place, number: u64, slice: u64, seed: u64) -> Result<Outcome, String> {
    let workload = usize::try_from(number).ok().and_then(|number| workloads::all().into_iter().nth(number));
    let workload = workload.ok_or("no such workload")?;
    let name = workload.name;
    let sweep = Sweep::new(place, workload, false).map_err(|wrong| format!("{name}, nothing fails: {wrong}"))?;
    let mut scene = Failing { place, sweep, outcome: Outcome::default(), waiting: Vec::new(), known: BTreeSet::new() };
    let first = scene.run(None)?;
    if let Some(wrong) = first.wrong {
        return Err(format!("{name}, nothing fails: {wrong}"));
    }
    let mut rng = Rng::new(seed);
    let in_slice = |(call, class): &Site| {
        let text = format!("{call} {class}");
        text.bytes().fold(0, |hash: u64, byte| crate::fs::mix(hash ^ u64::from(byte))) % SLICES == slice
    };
    while let Some((site, made)) = scene.waiting.pop() {
        if in_slice(&site) {
            for error in legal(&site.0) {
                // An interruption that never ends is no error of a call: it would be made again for ever.
                for sticky in [false, true].into_iter().filter(|sticky| !sticky || *error != EINTR) {
                    let drawn = 1 + rng.below(made.max(1));
                    for nth in BTreeSet::from([1, drawn]) {
                        scene.one(&Fault { site: site.clone(), nth, error: *error, sticky })?;
                    }
                }
            }
        }
    }
    Ok(scene.outcome)
}

struct Failing<'a> {
    place: &'a Place,
    sweep: Sweep<'a>,
    outcome: Outcome,
    /// Sites that were met and not yet failed, with how many calls there were.
    waiting: Vec<(Site, u64)>,
    known: BTreeSet<Site>,
}

/// What a child came to.
#[derive(Debug, Default)]
struct Ran {
    fired: u64,
    wrong: Option<String>,
}

impl Failing<'_> {
    fn one(&mut self, fault: &Fault) -> Result<(), String> {
        for _ in 0..TRIES {
            let ran = self.run(Some(fault))?;
            self.outcome.count("runs", 1);
            self.outcome.count("faults met", u64::from(ran.fired > 0));
            if let Some(wrong) = ran.wrong {
                self.outcome.violation(format!("{}, {fault}: {wrong}", self.sweep.workload.name));
            }
            if ran.fired > 0 {
                let (call, class) = &fault.site;
                self.outcome.count(&format!("failed: {call}, {class}"), 1);
                break;
            }
        }
        Ok(())
    }

    fn run(&mut self, fault: Option<&Fault>) -> Result<Ran, String> {
        let directory = self.place.directory().map_err(|e| e.to_string())?;
        let store = directory.join("store");
        self.sweep.prepare(&store)?;
        let mut arguments = vec!["failing-syscalls".to_owned(), self.sweep.workload.name.to_owned()];
        if let Some(Fault { site: (call, class), nth, error, sticky }) = fault {
            let repeat = if *sticky { "sticky" } else { "once" };
            arguments.extend([call, &class.to_string(), &nth.to_string(), error.1, repeat].map(str::to_owned));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut started = child::start(self.place, &arguments, &store).map_err(|e| e.to_string())?;
        let mut ran = Ran::default();
        for line in started.lines.by_ref() {
            let line = line.map_err(|e| e.to_string())?;
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["made", call, class, count] => {
                    let class = Class::named(class).ok_or_else(|| line.clone())?;
                    self.made((call.to_owned(), class), count.parse().map_err(|_| line.clone())?);
                }
                ["count", name] => self.outcome.count(name, 1),
                ["fired", times] => ran.fired = times.parse().map_err(|_| line.clone())?,
                _ => ran.wrong = Some(line.strip_prefix("wrong ").unwrap_or(&line).replace('\t', "\n")),
            }
        }
        let status = started.process.wait().map_err(|e| e.to_string())?;
        if std::os::unix::process::ExitStatusExt::signal(&status).is_some() {
            ran.wrong.get_or_insert(format!("the process died status={status}"));
            ran.fired = ran.fired.max(1);
        }
        if ran.wrong.is_none() {
            let checked = match self.sweep.workload.part {
                Part::Requests => Ok(false),
                Part::Making => check_making(&store),
                Part::Recovery => check(&self.sweep.story, self.sweep.story.requests(), &store, 2),
            };
            ran.wrong = checked.err();
        }
        Ok(ran)
    }

    fn made(&mut self, site: Site, count: u64) {
        let (call, class) = &site;
        self.outcome.count(&format!("made: {call}, {class}"), count);
        if self.known.insert(site.clone()) {
            self.waiting.push((site, count));
        }
    }
}

/// What the supervisor of a child's calls knows.
#[derive(Debug, Default)]
struct State {
    root: PathBuf,
    fault: Option<Fault>,
    armed: bool,
    made: BTreeMap<Site, u64>,
    fired: u64,
    failed_syncs: BTreeSet<PathBuf>,
    synced_again: BTreeSet<PathBuf>,
}

/// The supervisor, in a thread of its own.
#[derive(Debug, Clone)]
struct Supervisor(Arc<Mutex<State>>);

impl Supervisor {
    /// Holds the calls of this process about files below `root`, and lets them all go until it is armed.
    fn new(root: &Path, fault: Option<Fault>) -> Result<Self, String> {
        let root = std::path::absolute(root).map_err(|e| e.to_string())?;
        let state = Arc::new(Mutex::new(State { root, fault, ..State::default() }));
        let supervisor = Self(Arc::clone(&state));
        let calls = Calls::hold(Which::All).map_err(|e| format!("system calls cannot be held error={e}"))?;
        let watch = move || while calls.next(|held| lock(&state).decide(held)).is_ok() {};
        std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map_err(|e| e.to_string())?;
        Ok(supervisor)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn decide(&mut self, held: &Held) -> Verdict {
        if !self.armed {
            return Verdict::Go;
        }
        let path = held.path();
        let below = path.as_ref().and_then(|path| path.strip_prefix(&self.root).ok());
        let class = match (&path, below) {
            (_, Some(below)) => Class::of(below),
            (None, _) => Class::Other,
            (Some(_), None) => return Verdict::Go,
        };
        let path = path.unwrap_or_default();
        let site = (held.name().to_owned(), class);
        let count = self.made.entry(site.clone()).or_default();
        *count += 1;
        let syncs = matches!(held.name(), "fsync" | "fdatasync");
        if syncs && class.is_written_by_the_engine() && self.failed_syncs.contains(&path) {
            self.synced_again.insert(path.clone());
        }
        let Some(fault) = &self.fault else { return Verdict::Go };
        let here = fault.site == site && (*count == fault.nth || fault.sticky && *count > fault.nth);
        // A medium without room still removes, and a process without descriptors still writes.
        let with_it = fault.sticky && self.fired > 0 && !is_read(&fault.site.0) && !held.is_read();
        let with_it = with_it && legal(held.name()).contains(&fault.error);
        if !here && !with_it {
            return Verdict::Go;
        }
        self.fired += 1;
        if syncs {
            self.failed_syncs.insert(path);
        }
        Verdict::Fail(fault.error.0)
    }
}

/// Whether a call of this name only reads.
fn is_read(call: &str) -> bool {
    matches!(call, "open to read" | "read" | "pread64" | "preadv" | "getdents64")
}

/// The child's life. `fault` is its site, number, error and repetition, or nothing.
pub(super) fn live(workload: &str, fault: &[&str], store: &Path) -> Result<(), String> {
    let workload = workload_named(workload)?;
    let fault = match fault {
        [] => None,
        [call, class, nth, error, repeat] => Some(Fault {
            site: ((*call).to_owned(), Class::named(class).ok_or("no such class")?),
            nth: nth.parse().map_err(|_| "no number")?,
            error: *ERRORS.iter().find(|(_, name)| name == error).ok_or("no such error")?,
            sticky: *repeat == "sticky",
        }),
        _ => return Err("a fault is five words".to_owned()),
    };
    std::thread::Builder::new()
        .name("limit".to_owned())
        .spawn(|| {
            std::thread::sleep(LIFE);
            say(&format!("wrong it goes on for more than {LIFE:?}"));
            std::process::exit(1);
        })
        .map_err(|e| e.to_string())?;
    let [setup, counted] = workload.halves();
    let mut runner = None;
    if workload.part == Part::Requests {
        let mut setting_up = Runner::new(rocks(store), false);
        super::story::play(&mut setting_up, &setup, |_, _, _, _| ()).map_err(|wrong| wrong.report)?;
        runner = Some(setting_up);
    }
    let supervisor = Supervisor::new(store, fault.clone())?;
    let mut victim = Victim { supervisor, fault, store: store.to_owned(), unknown: None, lost: Vec::new() };
    let lived = match (runner, workload.part) {
        (Some(runner), _) => victim.work(runner, &counted),
        (None, Part::Making) => victim.make(),
        (None, _) => victim.open(),
    };
    let state = victim.supervisor.state();
    for ((call, class), count) in &state.made {
        say(&format!("made\t{call}\t{class}\t{count}"));
    }
    say(&format!("fired\t{}", state.fired));
    if let Some(path) = state.synced_again.first() {
        return Err(format!("a file was synced after a failed sync path={}", path.display()));
    }
    lived
}

/// The engine whose calls fail.
struct Victim {
    supervisor: Supervisor,
    fault: Option<Fault>,
    store: PathBuf,
    /// The request whose outcome is unknown.
    unknown: Option<(Request, Call)>,
    /// Uploads of which nothing is said after a failure: it may have ended them.
    lost: Vec<u64>,
}

impl Victim {
    fn arm(&self, armed: bool) {
        let mut state = self.supervisor.state();
        state.armed = armed;
        // Whoever opens the store again has no file that failed.
        state.failed_syncs.clear();
    }

    fn fired(&self) -> bool {
        self.supervisor.state().fired > 0
    }

    /// Whether an error of this kind may follow from what failed.
    fn fits(&self, kind: ErrorKind) -> Result<(), String> {
        let Some(fault) = self.fault.as_ref().filter(|_| self.fired()) else {
            return Err("it fails without a failing call".to_owned());
        };
        let fits = match kind {
            ErrorKind::NoSpace => fault.error == ENOSPC,
            // What fails once may be explained as a medium that is busy.
            ErrorKind::Unavailable => fault.error == EMFILE || !fault.sticky,
            ErrorKind::Internal => ![ENOSPC, EMFILE].contains(&fault.error),
            // After an outcome that is unknown, or after three failed syncs, or on a medium that is read-only.
            ErrorKind::Indeterminate | ErrorKind::ReadOnly => true,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{kind:?} is no answer to this failure")) }
    }

    fn make(&self) -> Result<(), String> {
        let components = Components {
            clock: Arc::new(ManualClock::default()),
            entropy: Arc::new(SeededEntropy::new(2)),
            spawner: Some(Arc::new(ThreadSpawner)),
        };
        self.arm(true);
        let made = Engine::create_at(&self.store, options(), components).map(drop);
        self.arm(false);
        match made {
            Err(error) => self.fits(error.kind()).map_err(|wrong| format!("{wrong}: {error:?} of making")),
            Ok(()) => Ok(()),
        }
    }

    fn open(&self) -> Result<(), String> {
        self.arm(true);
        let opened = rocks_left(&self.store, WALL_MS, 0).map(drop);
        self.arm(false);
        if let Err(error) = opened {
            say("count\topenings failed");
            self.fits(error.kind()).map_err(|wrong| format!("{wrong}: {error:?} of opening"))?;
        }
        rocks_left(&self.store, WALL_MS, 1).map(drop).map_err(|error| format!("does not open again: {error:?}"))
    }

    fn work(&mut self, mut runner: Runner, counted: &Script) -> Result<(), String> {
        self.arm(true);
        self.requests(&mut runner, counted)?;
        let look = |judge: &Judge, test: &TestEngine, when: &str| {
            judge.look(test).map_err(|Wrong { found, expected }| {
                shorten(&format!("{when}\n found: {found}\n expected: {expected}"))
            })
        };
        let mut judge = Judge::new(&runner, self.unknown.clone());
        judge.leave_out(&self.lost);
        let reads_fail = self.fault.as_ref().is_some_and(|fault| is_read(&fault.site.0));
        if runner.test.opened().is_some() {
            // What fails when something is changed is in nobody's way who reads.
            if reads_fail {
                self.arm(false);
            }
            look(&judge, &runner.test, "as it stands")?;
        }
        // The engine goes while calls still fail, and whatever an opening meets then, the next one finds what it left.
        self.supervisor.state().failed_syncs.clear();
        if let Err(error) = runner.test.kill() {
            say("count\topenings failed");
            self.fits(error.kind()).map_err(|wrong| format!("{wrong}: {error:?} of opening again"))?;
        }
        self.arm(false);
        runner.test.kill().map_err(|error| format!("does not open again: {error:?}"))?;
        let found = look(&judge, &runner.test, "opened again")?;
        let demanded = if self.unknown.is_some() { Found::EITHER } else { Found { before: true, after: false } };
        if !demanded.admits(found) {
            return Err("a change that certainly failed is there".to_owned());
        }
        judge.ask_again(&runner.test).map_err(|wrong| format!("{}\n expected: {}", wrong.found, wrong.expected))?;
        sound(runner.test.engine(), Level::Bytes).map(drop).map_err(|wrong| format!("the store is not sound: {wrong}"))
    }

    /// Makes the requests of `counted`, up to one whose outcome is unknown or to where no engine is open any more.
    fn requests(&mut self, runner: &mut Runner, counted: &Script) -> Result<(), String> {
        for operation in &counted.operations {
            for request in runner.requests_of(operation) {
                let session = request.session();
                if session.is_some_and(|session| self.lost.contains(&session)) {
                    continue;
                }
                let (call, failure) = match runner.request(&request).map_err(|wrong| wrong.report)? {
                    Ended::Agreed(_) => continue,
                    Ended::Failed { call, failure, .. } => (call, failure),
                };
                say("count\trequests failed");
                // What a failure left behind may be told in other words than the failure itself.
                if !(self.fired() && format!("{failure:?}").contains("earlier")) {
                    self.fits(failure.kind()).map_err(|wrong| format!("{wrong}: {failure:?} of {request:?}"))?;
                }
                self.lost.extend(session);
                if matches!(failure, Failure::OutcomeUnknown { .. }) {
                    say("count\toutcomes unknown");
                    self.unknown = Some((request, call));
                    return Ok(());
                }
                if matches!(request, Request::Registry(RegistryRequest::Reopen { .. })) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
