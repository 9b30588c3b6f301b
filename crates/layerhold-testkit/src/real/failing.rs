//! Fails system calls of an engine on RocksDB and real files, in one process for each failure.
//!
//! A child makes the requests of a workload, or opens what a killed one left, or makes a store, with a filter of the kernel's
//! that stops its calls about files before they do anything (see `sys`). At first one lets all of them go and says which there
//! were, by call and class of file. Then each of these sites fails in every way in which the call may: at its first call, and
//! at one that the seed draws; once, or from then on, a call that changes the medium together with all others that do and may
//! fail so. What must hold is what `faults` demands over memory: an error of a kind that fits, certainly failed is absent, reads go on, no
//! file is synced again after its sync failed, and opened again everything acknowledged is there. And no process dies of it.
//!
//! Some calls are made only because another one failed: what cannot be renamed is removed. Such a site fails behind that
//! failure, in the same process; a third failure behind two is not tried.

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
use super::sys::{self, Held, Verdict, Which};
use super::workloads::{self, Part};

/// The sites of one workload are shared by so many units.
pub const SLICES: u64 = 8;

/// No child lives nearly so many seconds: one that does spins, or waits for what does not come.
const LIFE_SECONDS: u64 = 60;

/// A call that not every run comes by is tried so often.
const TRIES: u64 = 3;

/// A site none of whose calls has failed yet is tried so often: some are met in one run of ten, as the threads will.
const TRIES_FIRST: u64 = 20;

/// So many faults there are in one run at most. A call that is made only behind two is a gap.
const FAULTS: usize = 2;

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

/// The words of a fault: call, class, number, error and repetition.
const WORDS: usize = 5;

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

impl Fault {
    /// It in the words of a child's arguments.
    fn words(&self) -> [String; WORDS] {
        let Self { site: (call, class), nth, error: (_, error), sticky } = self;
        let repeat = if *sticky { "sticky" } else { "once" };
        [call.clone(), class.to_string(), nth.to_string(), (*error).to_owned(), repeat.to_owned()]
    }

    fn of_words(words: &[&str; WORDS]) -> Result<Self, String> {
        let [call, class, nth, error, repeat] = words;
        Ok(Self {
            site: ((*call).to_owned(), Class::named(class).ok_or("no such class")?),
            nth: nth.parse().map_err(|_| "no number")?,
            error: *ERRORS.iter().find(|(_, name)| name == error).ok_or("no such error")?,
            sticky: *repeat == "sticky",
        })
    }

    /// Whether an error of this kind may follow from it.
    fn explains(&self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::NoSpace => self.error == ENOSPC,
            // What fails once may be explained as a medium that is busy.
            ErrorKind::Unavailable => self.error == EMFILE || !self.sticky,
            ErrorKind::Internal => ![ENOSPC, EMFILE].contains(&self.error),
            // After an outcome that is unknown, or after three failed syncs, or on a medium that is read-only.
            ErrorKind::Indeterminate | ErrorKind::ReadOnly => true,
            _ => false,
        }
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
    let in_slice = move |(call, class): &Site| {
        let text = format!("{call} {class}");
        text.bytes().fold(0, |hash: u64, byte| crate::fs::mix(hash ^ u64::from(byte))) % SLICES == slice
    };
    let mut scene = Failing { place, sweep, rng: Rng::new(seed), outcome: Outcome::default(), met: Vec::new() };
    if let Some(wrong) = scene.run(&[])?.wrong {
        return Err(format!("{name}, nothing fails: {wrong}"));
    }
    // Every slice meets these, and each leaves the others theirs. What comes up later no other slice need meet.
    let mut known: BTreeSet<Site> = scene.met.iter().map(|met| met.site.clone()).collect();
    let mut waiting: Vec<Met> = scene.met.drain(..).filter(|met| in_slice(&met.site)).collect();
    while let Some(met) = waiting.pop() {
        scene.site(&met)?;
        waiting.extend(scene.met.drain(..).filter(|met| met.behind.len() < FAULTS && known.insert(met.site.clone())));
    }
    Ok(scene.outcome)
}

struct Failing<'a> {
    place: &'a Place,
    sweep: Sweep<'a>,
    rng: Rng,
    outcome: Outcome,
    /// What was met since somebody looked, once for every run that met it.
    met: Vec<Met>,
}

/// A site that a run came by.
#[derive(Debug)]
struct Met {
    site: Site,
    /// What had failed before these calls.
    behind: Vec<Fault>,
    calls: u64,
}

/// What a child came to.
#[derive(Debug, Default)]
struct Ran {
    /// So many of its faults were met.
    fired: usize,
    wrong: Option<String>,
}

impl Failing<'_> {
    /// Fails one site in every way, unless no run comes by it again.
    fn site(&mut self, met: &Met) -> Result<(), String> {
        let mut tries = TRIES_FIRST;
        for error in legal(&met.site.0) {
            // An interruption that never ends is no error of a call: it would be made again for ever.
            for sticky in [false, true].into_iter().filter(|sticky| !sticky || *error != EINTR) {
                for nth in self.calls_of(met) {
                    let fault = Fault { site: met.site.clone(), nth, error: *error, sticky };
                    let fired = self.one(&[met.behind.as_slice(), &[fault]].concat(), tries)?;
                    if !fired && tries == TRIES_FIRST {
                        self.outcome.count("sites not met again", 1);
                        return Ok(());
                    }
                    tries = TRIES;
                }
            }
        }
        Ok(())
    }

    /// Which calls of a site fail: the first, and one that is drawn. Behind another failure it is the first alone.
    fn calls_of(&mut self, met: &Met) -> BTreeSet<u64> {
        let drawn = 1 + self.rng.below(met.calls.max(1));
        if met.behind.is_empty() { BTreeSet::from([1, drawn]) } else { BTreeSet::from([1]) }
    }

    /// Whether the last of these faults was met, or something was wrong before.
    fn one(&mut self, plan: &[Fault], tries: u64) -> Result<bool, String> {
        for _ in 0..tries {
            let ran = self.run(plan)?;
            self.outcome.count("runs", 1);
            self.outcome.count("runs with a second fault", u64::from(plan.len() > 1));
            self.outcome.count("faults met", ran.fired as u64);
            if let Some(wrong) = ran.wrong {
                let plan = plan.iter().map(Fault::to_string).collect::<Vec<_>>().join(", then ");
                self.outcome.violation(format!("{}, {plan}: {wrong}", self.sweep.workload.name));
                return Ok(true);
            }
            if ran.fired == plan.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn run(&mut self, plan: &[Fault]) -> Result<Ran, String> {
        let directory = self.place.directory().map_err(|e| e.to_string())?;
        let store = directory.join("store");
        self.sweep.prepare(&store)?;
        let words = plan.iter().flat_map(Fault::words);
        let arguments: Vec<String> =
            ["failing-syscalls", self.sweep.workload.name].map(str::to_owned).into_iter().chain(words).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut started = child::start(self.place, &arguments, &store).map_err(|e| e.to_string())?;
        let mut ran = Ran::default();
        for line in started.lines.by_ref() {
            let line = line.map_err(|e| e.to_string())?;
            let number = |text: &str| text.parse::<u64>().map_err(|_| line.clone());
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["site", call, class, before, failed, after] => {
                    let class = Class::named(class).ok_or_else(|| line.clone())?;
                    self.calls((call.to_owned(), class), [number(before)?, number(failed)?, number(after)?], plan);
                }
                ["count", name] => self.outcome.count(name, 1),
                ["fired", faults] => ran.fired = faults.parse().map_err(|_| line.clone())?,
                _ => ran.wrong = Some(line.strip_prefix("wrong ").unwrap_or(&line).replace('\t', "\n")),
            }
        }
        let status = started.process.wait().map_err(|e| e.to_string())?;
        // One that panics is not killed by a signal, and says nothing either.
        if !status.success() && ran.wrong.is_none() {
            ran.wrong = Some(format!("the process died status={status}"));
            ran.fired = plan.len();
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

    /// Takes down the calls at one site: let go before the whole of `plan` had failed, failed, let go since.
    fn calls(&mut self, site: Site, [before, failed, after]: [u64; 3], plan: &[Fault]) {
        let (call, class) = &site;
        self.outcome.count(&format!("made: {call}, {class}"), before + failed + after);
        if failed > 0 {
            self.outcome.count(&format!("failed: {call}, {class}"), failed);
        }
        match plan {
            // Whoever was there before something failed did not need it.
            [_] if before > 0 => self.met.push(Met { site, behind: Vec::new(), calls: before }),
            // Of two failures nobody can tell which of them the others needed.
            _ if after > 0 => self.met.push(Met { site, behind: plan.to_vec(), calls: after }),
            _ => {}
        }
    }
}

/// What the supervisor of a child's calls knows.
#[derive(Debug, Default)]
struct State {
    root: PathBuf,
    aims: Vec<Aim>,
    armed: bool,
    calls: BTreeMap<Site, Calls>,
    failed_syncs: BTreeSet<PathBuf>,
    synced_again: BTreeSet<PathBuf>,
}

/// A fault, and how it fares. One behind another waits until that one was met.
#[derive(Debug)]
struct Aim {
    fault: Fault,
    /// The calls at its site since it waits no more.
    seen: u64,
    fired: u64,
}

impl Aim {
    fn all(plan: Vec<Fault>) -> Vec<Self> {
        plan.into_iter().map(|fault| Self { fault, seen: 0, fired: 0 }).collect()
    }
}

/// The calls at one site: let go before every fault was met, failed, let go since then.
#[derive(Debug, Default)]
struct Calls {
    before: u64,
    failed: u64,
    after: u64,
}

/// The supervisor, in a thread of its own.
#[derive(Debug, Clone)]
struct Supervisor(Arc<Mutex<State>>);

impl Supervisor {
    /// Holds the calls of this process about files below `root`, and lets them all go until it is armed.
    fn new(root: &Path, plan: Vec<Fault>) -> Result<Self, String> {
        let root = std::path::absolute(root).map_err(|e| e.to_string())?;
        let state = Arc::new(Mutex::new(State { root, aims: Aim::all(plan), ..State::default() }));
        let supervisor = Self(Arc::clone(&state));
        let calls = sys::Calls::hold(Which::All).map_err(|e| format!("system calls cannot be held error={e}"))?;
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
        let syncs = matches!(held.name(), "fsync" | "fdatasync");
        if syncs && class.is_written_by_the_engine() && self.failed_syncs.contains(&path) {
            self.synced_again.insert(path.clone());
        }
        let all_met = self.aims.iter().all(|aim| aim.fired > 0);
        let error = self.error_at(&site, held.is_read());
        let calls = self.calls.entry(site).or_default();
        let Some((number, _)) = error else {
            *(if all_met { &mut calls.after } else { &mut calls.before }) += 1;
            return Verdict::Go;
        };
        calls.failed += 1;
        if syncs {
            self.failed_syncs.insert(path);
        }
        Verdict::Fail(number)
    }

    /// The error by which this call fails, if one of the faults wants it to.
    fn error_at(&mut self, site: &Site, reads: bool) -> Option<Errno> {
        for aim in &mut self.aims {
            let here = aim.fault.site == *site;
            aim.seen += u64::from(here);
            let here = here && (aim.seen == aim.fault.nth || aim.fault.sticky && aim.seen > aim.fault.nth);
            // A medium without room still removes, and a process without descriptors still writes.
            let with_it = aim.fault.sticky && aim.fired > 0 && !is_read(&aim.fault.site.0) && !reads;
            if here || with_it && legal(&site.0).contains(&aim.fault.error) {
                aim.fired += 1;
                return Some(aim.fault.error);
            }
            if aim.fired == 0 {
                return None;
            }
        }
        None
    }

    /// How many of the faults were met.
    fn fired(&self) -> usize {
        self.aims.iter().filter(|aim| aim.fired > 0).count()
    }
}

/// Whether a call of this name only reads.
fn is_read(call: &str) -> bool {
    matches!(call, "open to read" | "read" | "pread64" | "preadv" | "getdents64")
}

/// The child's life. `words` are its faults, each behind the one before.
pub(super) fn live(workload: &str, words: &[&str], store: &Path) -> Result<(), String> {
    let workload = workload_named(workload)?;
    let (faults, []) = words.as_chunks() else { return Err("a fault is five words".to_owned()) };
    let plan = faults.iter().map(Fault::of_words).collect::<Result<Vec<_>, _>>()?;
    std::thread::Builder::new()
        .name("limit".to_owned())
        .spawn(|| {
            // Second by second, for a process that is stopped for a while does not live then.
            (0..LIFE_SECONDS).for_each(|_| std::thread::sleep(Duration::from_secs(1)));
            say(&format!("wrong it goes on for more than {LIFE_SECONDS} s"));
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
    let reads_fail = plan.iter().any(|fault| is_read(&fault.site.0));
    let supervisor = Supervisor::new(store, plan)?;
    let mut victim = Victim { supervisor, reads_fail, store: store.to_owned(), unknown: None, lost: Vec::new() };
    let lived = match (runner, workload.part) {
        (Some(runner), _) => victim.work(runner, &counted),
        (None, Part::Making) => victim.make(),
        (None, _) => victim.open(),
    };
    let state = victim.supervisor.state();
    for ((call, class), Calls { before, failed, after }) in &state.calls {
        say(&format!("site\t{call}\t{class}\t{before}\t{failed}\t{after}"));
    }
    say(&format!("fired\t{}", state.fired()));
    if let Some(path) = state.synced_again.first() {
        return Err(format!("a file was synced after a failed sync path={}", path.display()));
    }
    lived
}

/// The engine whose calls fail.
struct Victim {
    supervisor: Supervisor,
    /// Whether one of the faults is of a call that only reads.
    reads_fail: bool,
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
        self.supervisor.state().fired() > 0
    }

    /// Whether an error of this kind may follow from what failed.
    fn fits(&self, kind: ErrorKind) -> Result<(), String> {
        let state = self.supervisor.state();
        let mut fired = state.aims.iter().filter(|aim| aim.fired > 0).peekable();
        if fired.peek().is_none() {
            return Err("it fails without a failing call".to_owned());
        }
        if fired.any(|aim| aim.fault.explains(kind)) {
            return Ok(());
        }
        Err(format!("{kind:?} is no answer to this failure"))
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
        let mut judge = Judge::new(&runner, self.unknown.clone());
        judge.leave_out(&self.lost);
        if runner.test.opened().is_some() {
            if self.reads_fail {
                self.look_while_reads_fail(&judge, &runner.test)?;
            }
            // What fails when something is changed is in nobody's way who reads.
            judge.look(&runner.test).map_err(|wrong| told("as it stands", wrong))?;
        }
        // The engine goes while calls still fail, and whatever an opening meets then, the next one finds what it left.
        self.arm(true);
        if let Err(error) = runner.test.kill() {
            say("count\topenings failed");
            self.fits(error.kind()).map_err(|wrong| format!("{wrong}: {error:?} of opening again"))?;
        }
        self.arm(false);
        runner.test.kill().map_err(|error| format!("does not open again: {error:?}"))?;
        let found = judge.look(&runner.test).map_err(|wrong| told("opened again", wrong))?;
        let demanded = if self.unknown.is_some() { Found::EITHER } else { Found { before: true, after: false } };
        if !demanded.admits(found) {
            return Err("a change that certainly failed is there".to_owned());
        }
        judge.ask_again(&runner.test).map_err(|wrong| format!("{}\n expected: {}", wrong.found, wrong.expected))?;
        sound(runner.test.engine(), Level::Bytes).map(drop).map_err(|wrong| format!("the store is not sound: {wrong}"))
    }

    /// Looks while reads may fail, and leaves them in peace then.
    fn look_while_reads_fail(&self, judge: &Judge, test: &TestEngine) -> Result<(), String> {
        let looked = judge.look_unless_it_fails(test).map_err(|wrong| told("as reads fail", wrong))?;
        self.arm(false);
        if let Err(failure) = looked {
            say("count\tlooks failed");
            self.fits(failure.kind()).map_err(|wrong| format!("{wrong}: {failure:?} of looking"))?;
        }
        Ok(())
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

fn told(when: &str, Wrong { found, expected }: Wrong) -> String {
    shorten(&format!("{when}\n found: {found}\n expected: {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(call: &str, class: Class, nth: u64, error: Errno, sticky: bool) -> Fault {
        Fault { site: (call.to_owned(), class), nth, error, sticky }
    }

    /// What calls answer one after the other, none of which only reads.
    fn answers<const N: usize>(plan: &[Fault], calls: [(&str, Class); N]) -> [Option<Errno>; N] {
        let mut state = State { aims: Aim::all(plan.to_vec()), ..State::default() };
        calls.map(|(call, class)| state.error_at(&(call.to_owned(), class), false))
    }

    #[test]
    fn a_fault_behind_another_waits_until_that_one_is_met() {
        let plan = [fault("rename", Class::Current, 2, EIO, false), fault("unlink", Class::Current, 1, EROFS, false)];
        let (rename, unlink) = (("rename", Class::Current), ("unlink", Class::Current));
        let calls = [unlink, rename, unlink, rename, ("unlink", Class::Sst), unlink, unlink, rename];
        assert_eq!(answers(&plan, calls), [None, None, None, Some(EIO), None, Some(EROFS), None, None]);
    }

    #[test]
    fn a_sticky_fault_takes_with_it_what_may_fail_so_and_leaves_the_rest_to_the_next() {
        let plan = [fault("write", Class::Sst, 1, ENOSPC, true), fault("unlink", Class::Sst, 1, EIO, true)];
        let (write, unlink, sync) = (("write", Class::Sst), ("unlink", Class::Sst), ("fsync", Class::TableDirectory));
        let calls = [sync, write, sync, write, unlink, unlink, ("rename", Class::Current)];
        let [full, broken] = [Some(ENOSPC), Some(EIO)];
        assert_eq!(answers(&plan, calls), [None, full, full, full, broken, broken, full]);
    }

    #[test]
    fn a_fault_is_what_its_words_say() {
        let told = fault("open to read", Class::TableBlob, 7, EMFILE, true);
        let words = told.words();
        assert_eq!(Fault::of_words(&words.each_ref().map(String::as_str)), Ok(told));
    }
}
