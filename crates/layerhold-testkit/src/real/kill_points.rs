//! Kills a process at every system call that changes the medium, one process for each call.
//!
//! A child makes the requests of a workload, with a filter of the kernel's that stops each mutating call of each of its
//! threads before it does anything. At the call that its number says the process is killed there. What is left must hold
//! what was acknowledged, and the request that was cut whole or not at all.
//!
//! Threads make the order of calls differ between runs, but not their being counted: the sweep goes on until no process
//! lives to see the call that it was to die at.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use layerhold::check::Level;

use crate::engine::{rocks, rocks_left};
use crate::operation::Script;
use crate::runner::Runner;
use crate::sound::sound;
use crate::technique::Outcome;

use super::child;
use super::story::{self, Story};
use super::sys::Calls;
use super::workloads::{self, Part, Workload};
use super::{Place, copy_tree};

/// The sweep of a workload ends when so many processes one after the other did not live to see their call.
const MISSES: u64 = 3;

/// A workload, what it does when nobody kills it, and the store that its counted process begins with.
struct Sweep<'a> {
    place: &'a Place,
    workload: Workload,
    story: Story,
    template: Option<super::Directory>,
    lie: bool,
}

/// How a child ended.
enum End {
    /// It was killed when so many requests were acknowledged.
    Killed { acknowledged: usize },
    /// It came to its end after so many mutating calls.
    Lived { calls: u64 },
}

/// How many workloads there are.
pub fn workloads() -> u64 {
    workloads::all().len() as u64
}

/// Kills the workload with this number, from 0, at each of its calls.
///
/// With `lie` the children acknowledge before they act, which must be found.
///
/// # Errors
/// Where no child could be started, no store be copied, or the workload goes wrong without being killed.
pub fn sweep(place: &Place, number: u64, lie: bool) -> Result<Outcome, String> {
    let workload = usize::try_from(number).ok().and_then(|number| workloads::all().into_iter().nth(number));
    let workload = workload.ok_or("no such workload")?;
    let name = workload.name;
    let sweep = Sweep::new(place, workload, lie).map_err(|wrong| format!("{name}, killed nowhere: {wrong}"))?;
    let mut outcome = Outcome::default();
    let mut misses = 0;
    for at in 1.. {
        let directory = place.directory().map_err(|e| e.to_string())?;
        let store = directory.join("store");
        match sweep.live(at, &store)? {
            End::Lived { calls } => {
                misses += 1;
                if misses >= MISSES {
                    outcome.count(&format!("calls: {name}"), calls);
                    break;
                }
            }
            End::Killed { acknowledged } => {
                misses = 0;
                outcome.count("kill points", 1);
                let checked = match sweep.workload.part {
                    Part::Making => check_making(&store),
                    _ => check(&sweep.story, acknowledged, &store, at),
                };
                match checked {
                    Ok(true) => outcome.count("cut requests found whole", 1),
                    Ok(false) => {}
                    Err(wrong) => outcome.violation(format!("{name}, killed at call {at}: {wrong}")),
                }
            }
        }
    }
    outcome.count("workloads swept to the end", 1);
    Ok(outcome)
}

impl<'a> Sweep<'a> {
    fn new(place: &'a Place, workload: Workload, lie: bool) -> Result<Self, String> {
        let directory = place.directory().map_err(|e| e.to_string())?;
        let story = Story::tell(rocks(&directory.join("told")), &workload.script()).map_err(|wrong| wrong.report)?;
        let template = match workload.part {
            Part::Recovery => {
                let store = directory.join("store");
                match end(place, &["kill-points", workload.name, "setup"], &store)? {
                    End::Killed { acknowledged } if acknowledged == story.requests() => {}
                    _ => return Err("the setup did not come to its end".to_owned()),
                }
                Some(directory)
            }
            _ => None,
        };
        Ok(Self { place, workload, story, template, lie })
    }

    /// Runs a child that dies at its `at`-th mutating call.
    fn live(&self, at: u64, store: &Path) -> Result<End, String> {
        if let Some(template) = &self.template {
            copy_tree(&template.join("store"), store).map_err(|e| e.to_string())?;
        }
        let (at, manner) = (at.to_string(), if self.lie { "lying" } else { "honest" });
        match end(self.place, &["kill-points", self.workload.name, &at, manner], store)? {
            // It acknowledged nothing itself: all that its predecessor did is behind it.
            End::Killed { .. } if self.workload.part == Part::Recovery => {
                Ok(End::Killed { acknowledged: self.story.requests() })
            }
            end => Ok(end),
        }
    }
}

/// Starts a child and listens until it is gone.
fn end(place: &Place, arguments: &[&str], store: &Path) -> Result<End, String> {
    let mut started = child::start(place, arguments, store).map_err(|e| e.to_string())?;
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
        Ok(test) => sound(test.engine(), Level::Bytes).map(|_| true),
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
pub(super) fn live(workload: &str, at: &str, lie: bool, store: &Path) -> Result<(), String> {
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
            if lie {
                child::say("acknowledged");
            }
            play(&mut runner, &counted)?;
        }
        Part::Recovery => {
            die_at(at)?;
            drop(rocks_left(store, WALL_MS, 0).map_err(|error| format!("does not open: {error:?}"))?);
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
        while calls
            .next(|| {
                if CALLS.fetch_add(1, Ordering::SeqCst) + 1 == at {
                    child::die()
                }
            })
            .is_ok()
        {}
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map(drop).map_err(|e| e.to_string())
}
