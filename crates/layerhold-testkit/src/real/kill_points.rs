//! Kills a process at every system call that changes the medium, one process for each call.
//!
//! A child makes the requests of a workload, with a filter of the kernel's that stops each mutating call of each of its
//! threads before it does anything. At the call that its number says the process is killed there. What is left must hold
//! what was acknowledged, and the request that was cut whole or not at all.
//!
//! Threads make the order of calls differ between runs, but not their being counted: the sweep goes on until no process
//! lives to see the call that it was to die at.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::{TestEngine, rocks, rocks_left};
use crate::operation::Script;
use crate::runner::Runner;

use super::child::{self, Started};
use super::story::{self, Story};
use super::sys::Calls;
use super::workloads::{self, Part, Workload};
use super::{Found, Place, copy_tree};

/// So many calls are one unit of work.
const WINDOW: u64 = 8;

/// The sweep of a workload ends when so many processes one after the other did not live to see their call.
const MISSES: u64 = 3;

/// All kill points of all workloads.
#[derive(Debug)]
pub struct KillPoints {
    place: Place,
    workloads: Vec<(Workload, OnceLock<Result<Told, String>>)>,
}

/// What is known of a workload before it is killed.
#[derive(Debug)]
struct Told {
    story: Story,
    /// How many mutating calls there were when nobody killed it.
    calls: u64,
    /// The store that its counted process begins with.
    template: Option<super::Directory>,
}

/// How a child ended.
enum End {
    /// It was killed when so many requests were acknowledged.
    Killed { acknowledged: usize },
    /// It came to its end after so many mutating calls.
    Lived { calls: u64 },
}

impl KillPoints {
    /// The technique, with children from `place`.
    pub fn new(place: Place) -> Self {
        let workloads = workloads::all().into_iter().map(|workload| (workload, OnceLock::new())).collect();
        Self { place, workloads }
    }

    /// How many units it takes to kill every workload everywhere.
    ///
    /// # Errors
    /// A workload that goes wrong without being killed.
    pub fn units(&self) -> Result<u64, String> {
        let mut windows = 0;
        for number in 0..self.workloads.len() {
            let (_, told) = self.told(number)?;
            windows = windows.max(windows_of(told.calls));
        }
        Ok(windows * self.workloads.len() as u64)
    }

    /// Kills one workload at each call of one window.
    ///
    /// # Errors
    /// Where no child could be started or no store be copied.
    pub fn unit(&self, number: u64) -> Result<Found, String> {
        let count = self.workloads.len() as u64;
        let (workload, told) = self.told(usize::try_from(number % count).unwrap_or(0))?;
        let (window, windows) = (number / count, windows_of(told.calls));
        let mut found = Found::default();
        if window >= windows {
            return Ok(found);
        }
        // The last window goes on for as long as there are calls.
        let last = if window + 1 == windows { u64::MAX } else { (window + 1) * WINDOW };
        let mut misses = 0;
        for at in window * WINDOW + 1..=last {
            let directory = self.place.directory().map_err(|e| e.to_string())?;
            let store = directory.join("store");
            match self.live(workload, told, at, &store)? {
                End::Lived { .. } => {
                    misses += 1;
                    if window + 1 == windows && misses >= MISSES {
                        found.count("workloads swept to the end", 1);
                        break;
                    }
                }
                End::Killed { acknowledged } => {
                    misses = 0;
                    found.count("kill points", 1);
                    let checked = match workload.part {
                        Part::Making => check_making(&store),
                        _ => check(&told.story, acknowledged, &store, at),
                    };
                    match checked {
                        Ok(true) => found.count("requests found whole", 1),
                        Ok(false) => {}
                        Err(wrong) => found.violations.push(format!("{} killed at call {at}: {wrong}", workload.name)),
                    }
                }
            }
        }
        Ok(found)
    }

    fn told(&self, number: usize) -> Result<(&Workload, &Told), String> {
        let (workload, told) = self.workloads.get(number).ok_or("no such workload")?;
        let told = told.get_or_init(|| self.tell(workload)).as_ref();
        told.map(|told| (workload, told)).map_err(|wrong| format!("{}, killed nowhere: {wrong}", workload.name))
    }

    fn tell(&self, workload: &Workload) -> Result<Told, String> {
        let directory = self.place.directory().map_err(|e| e.to_string())?;
        let story = Story::tell(rocks(&directory.join("told")), &workload.script()).map_err(|wrong| wrong.report)?;
        let template = match workload.part {
            Part::Recovery => {
                let mut started = child::start(&self.place, &["kill-point", workload.name, "setup"], &directory.join("store"))
                    .map_err(|e| e.to_string())?;
                match end(&mut started)? {
                    End::Killed { acknowledged } if acknowledged == story.requests() => {}
                    _ => return Err("the setup did not come to its end".to_owned()),
                }
                Some(directory)
            }
            _ => None,
        };
        let mut told = Told { story, calls: 0, template };
        let unharmed = self.place.directory().map_err(|e| e.to_string())?;
        match self.live(workload, &told, u64::MAX, &unharmed.join("store"))? {
            End::Lived { calls } => told.calls = calls,
            End::Killed { .. } => return Err("it died although nobody killed it".to_owned()),
        }
        Ok(told)
    }

    /// Runs a child that dies at its `at`-th mutating call.
    fn live(&self, workload: &Workload, told: &Told, at: u64, store: &Path) -> Result<End, String> {
        if let Some(template) = &told.template {
            copy_tree(&template.join("store"), store).map_err(|e| e.to_string())?;
        }
        let at = at.to_string();
        let started = child::start(&self.place, &["kill-point", workload.name, &at], store);
        match end(&mut started.map_err(|e| e.to_string())?)? {
            // It acknowledged nothing itself: all that its predecessor did is behind it.
            End::Killed { .. } if workload.part == Part::Recovery => {
                Ok(End::Killed { acknowledged: told.story.requests() })
            }
            end => Ok(end),
        }
    }
}

fn windows_of(calls: u64) -> u64 {
    calls.div_ceil(WINDOW).max(1)
}

/// Listens until the child is gone.
fn end(started: &mut Started) -> Result<End, String> {
    let (mut acknowledged, mut calls) = (0, None);
    for line in started.lines.by_ref() {
        let line = line.map_err(|e| e.to_string())?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("acknowledged", _) => acknowledged += 1,
            ("calls", number) => calls = number.parse().ok(),
            (_, wrong) => return Err(wrong.replace('\t', "\n")),
        }
    }
    let status = started.process.wait().map_err(|e| e.to_string())?;
    match (calls, status.success()) {
        (Some(calls), true) => Ok(End::Lived { calls }),
        (None, false) if child::was_killed(status) => Ok(End::Killed { acknowledged }),
        _ => Err(format!("the child ended by itself status={status}")),
    }
}

/// Opens what is left and holds it against the story; then once more, because a store must also outlive that.
fn check(story: &Story, acknowledged: usize, store: &Path, at: u64) -> Result<bool, String> {
    let open = |opening| {
        let test = rocks_left(store, story.wall_ms(acknowledged), 2 * at + opening);
        test.map_err(|error| format!("acknowledged={acknowledged}, does not open: {error:?}"))
    };
    let whole = story.check(&open(0)?, acknowledged)?;
    drop(open(1)?);
    Ok(whole)
}

/// What a process leaves that died while it made a store is a store, or is refused in words and can be made again.
fn check_making(store: &Path) -> Result<bool, String> {
    match rocks_left(store, 0, 1) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == layerhold::ErrorKind::NotFound => {
            if store.exists() {
                std::fs::remove_dir_all(store).map_err(|e| e.to_string())?;
            }
            drop(rocks(store));
            Ok(false)
        }
        Err(error) => Err(format!("an unfinished store is not told as one: {error:?}")),
    }
}

/// The child's life: the setup, then what is counted, up to the call at which it dies.
pub(super) fn live(workload: &str, at: &str, store: &Path) -> Result<(), String> {
    let workload = workloads::all().into_iter().find(|known| known.name == workload).ok_or("no such workload")?;
    let [setup, counted] = workload.halves();
    if at == "setup" {
        play(&mut Runner::new(rocks(store), false), &setup)?;
        child::die();
    }
    let at = at.parse().map_err(|_| "no number")?;
    match workload.part {
        Part::Requests => {
            let mut runner = Runner::new(rocks(store), false);
            play(&mut runner, &setup)?;
            die_at(at)?;
            play(&mut runner, &counted)?;
        }
        Part::Recovery => {
            die_at(at)?;
            let test: TestEngine = rocks_left(store, WALL_MS, 0).map_err(|error| format!("does not open: {error:?}"))?;
            drop(test);
        }
        Part::Making => {
            die_at(at)?;
            drop(rocks(store));
        }
    }
    child::say(&format!("calls {}", CALLS.load(Ordering::SeqCst)));
    Ok(())
}

/// What the wall clock of every test engine says at first; no workload moves it.
const WALL_MS: u64 = 1_780_000_000_000;

fn play(runner: &mut Runner, script: &Script) -> Result<(), String> {
    story::play(runner, script, |_, _, _, _| child::say("acknowledged")).map_err(|wrong| wrong.report)
}

/// The mutating calls of this process since [`die_at`].
static CALLS: AtomicU64 = AtomicU64::new(0);

/// From here on this process counts its mutating calls, and dies at the one with this number.
fn die_at(at: u64) -> Result<(), String> {
    let calls = Calls::hold().map_err(|e| format!("system calls cannot be held error={e}"))?;
    let watch = move || {
        // The listener fails once there is nobody left to listen to.
        while calls.next(|| if CALLS.fetch_add(1, Ordering::SeqCst) + 1 == at { child::die() }).is_ok() {}
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map(drop).map_err(|e| e.to_string())
}
