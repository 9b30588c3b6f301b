//! Kills a process at every system call that changes the medium, one process for each call.
//!
//! A child makes the requests of a workload, with a filter of the kernel's that stops each mutating call of each of its
//! threads before it does anything. At the call that its number says the process is killed there. What is left must hold
//! what was acknowledged, and the request that was cut whole or not at all.
//!
//! Threads make the order of calls differ between runs, but not their being counted: the sweep goes on until no process
//! lives to see the call that it was to die at. What the calls are about is told as well, so that one that no process died at
//! is noticed.

use std::collections::BTreeSet;
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
use super::sys::{Calls, Held, Verdict, Which};
use super::workloads::{self, Part, Workload};
use super::{Place, copy_tree};

/// The sweep of a workload ends when so many processes one after the other did not live to see their call.
const MISSES: u64 = 3;

/// So many processes are to die at a call that none of the sweep died at: not every run comes by it.
const TRIES: u64 = 8;

/// A workload, what it does when nobody kills it, and the store that its counted process begins with.
pub(super) struct Sweep<'a> {
    place: &'a Place,
    pub(super) workload: Workload,
    pub(super) story: Story,
    template: Option<super::Directory>,
    lie: bool,
}

/// How a child ended.
enum End {
    /// It was killed when so many requests were acknowledged, at this call if it was one.
    Killed { acknowledged: usize, at: Option<String> },
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
    let mut found = Swept::default();
    let mut misses = 0;
    for at in 1.. {
        match found.live(&sweep, At::Call(at))? {
            Some(calls) => {
                misses += 1;
                if misses >= MISSES {
                    found.outcome.count(&format!("calls: {name}"), calls);
                    break;
                }
            }
            None => misses = 0,
        }
    }
    for site in found.seen.difference(&found.killed).cloned().collect::<Vec<_>>() {
        for _ in 0..TRIES {
            if found.live(&sweep, At::Site(&site))?.is_none() {
                break;
            }
        }
    }
    found.outcome.count("workloads swept to the end", 1);
    Ok(found.outcome)
}

/// Where a process dies.
#[derive(Debug, Clone, Copy)]
enum At<'a> {
    /// At the call with this number, from 1.
    Call(u64),
    /// At its first call of this kind, by name and class of file.
    Site(&'a str),
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(number) => write!(f, "{number}"),
            Self::Site(site) => f.write_str(site),
        }
    }
}

/// What a sweep came to so far.
#[derive(Default)]
struct Swept {
    outcome: Outcome,
    seen: BTreeSet<String>,
    killed: BTreeSet<String>,
}

impl Swept {
    /// Lets one process live, and judges what it left if it was killed; else how many calls it made.
    fn live(&mut self, sweep: &Sweep<'_>, at: At<'_>) -> Result<Option<u64>, String> {
        let directory = sweep.place.directory().map_err(|e| e.to_string())?;
        let store = directory.join("store");
        let (ended, seen) = sweep.live(at, &store)?;
        for site in seen {
            self.outcome.count(&format!("seen: {site}"), 1);
            self.seen.insert(site);
        }
        let (acknowledged, site) = match ended {
            End::Lived { calls } => return Ok(Some(calls)),
            End::Killed { acknowledged, at } => (acknowledged, at),
        };
        self.outcome.count("kill points", 1);
        if let Some(site) = site {
            self.outcome.count(&format!("killed: {site}"), 1);
            self.seen.insert(site.clone());
            self.killed.insert(site);
        }
        let opening = self.outcome.counts.get("kill points").copied().unwrap_or(0);
        let checked = match sweep.workload.part {
            Part::Making => check_making(&store),
            _ => check(&sweep.story, acknowledged, &store, opening),
        };
        match checked {
            Ok(true) => self.outcome.count("cut requests found whole", 1),
            Ok(false) => {}
            Err(wrong) => {
                self.outcome.violation(format!("{}, killed at call {at}: {wrong}", sweep.workload.name));
            }
        }
        Ok(None)
    }
}

impl<'a> Sweep<'a> {
    /// Tells the story of a workload.
    ///
    /// # Errors
    /// Where it goes wrong by itself.
    pub(super) fn new(place: &'a Place, workload: Workload, lie: bool) -> Result<Self, String> {
        let directory = place.directory().map_err(|e| e.to_string())?;
        let story = Story::tell(rocks(&directory.join("told")), &workload.script()).map_err(|wrong| wrong.report)?;
        let template = match workload.part {
            Part::Recovery => {
                let store = directory.join("store");
                match end(place, &["kill-points", workload.name, "setup"], &store)?.0 {
                    End::Killed { acknowledged, .. } if acknowledged == story.requests() => {}
                    _ => return Err("the setup did not come to its end".to_owned()),
                }
                Some(directory)
            }
            _ => None,
        };
        Ok(Self { place, workload, story, template, lie })
    }

    /// Puts what the counted process begins with, if anything, where it looks for it.
    ///
    /// # Errors
    /// Those of the files.
    pub(super) fn prepare(&self, store: &Path) -> Result<(), String> {
        match &self.template {
            Some(template) => copy_tree(&template.join("store"), store).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }

    /// Runs a child that dies at one of its mutating calls. Also which calls it made, each once.
    fn live(&self, at: At<'_>, store: &Path) -> Result<(End, Vec<String>), String> {
        self.prepare(store)?;
        let (at, manner) = (at.to_string(), if self.lie { "lying" } else { "honest" });
        let (ended, seen) = end(self.place, &["kill-points", self.workload.name, &at, manner], store)?;
        Ok(match ended {
            // It acknowledged nothing itself: all that its predecessor did is behind it.
            End::Killed { at, .. } if self.workload.part == Part::Recovery => {
                (End::Killed { acknowledged: self.story.requests(), at }, seen)
            }
            ended => (ended, seen),
        })
    }
}

/// Starts a child and listens until it is gone.
fn end(place: &Place, arguments: &[&str], store: &Path) -> Result<(End, Vec<String>), String> {
    let mut started = child::start(place, arguments, store).map_err(|e| e.to_string())?;
    let (mut acknowledged, mut calls, mut at, mut seen) = (0, None, None, Vec::new());
    for line in started.lines.by_ref() {
        let line = line.map_err(|e| e.to_string())?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("acknowledged", _) => acknowledged += 1,
            ("calls", number) => calls = number.parse().ok(),
            ("seen", site) => seen.push(site.to_owned()),
            ("dies", site) => at = Some(site.to_owned()),
            (_, wrong) => return Err(wrong.replace('\t', "\n")),
        }
    }
    let status = started.process.wait().map_err(|e| e.to_string())?;
    match (calls, status.success()) {
        (Some(calls), true) => Ok((End::Lived { calls }, seen)),
        (None, false) if child::was_killed(status) => Ok((End::Killed { acknowledged, at }, seen)),
        _ => Err(format!("the child ended by itself status={status}")),
    }
}

/// Opens what is left and holds it against the story; then once more, because a store must also outlive that.
pub(super) fn check(story: &Story, acknowledged: usize, store: &Path, at: u64) -> Result<bool, String> {
    let open = |opening| {
        let test = rocks_left(store, story.wall_ms(acknowledged), 2 * at + opening);
        test.map_err(|error| format!("acknowledged={acknowledged}, does not open: {error:?}"))
    };
    let whole = story.check(&open(0)?, acknowledged)?;
    drop(open(1)?);
    Ok(whole)
}

/// What a process leaves that died while it made a store is a store, or is refused in words and can be made again.
pub(super) fn check_making(store: &Path) -> Result<bool, String> {
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
    let workload = workload_named(workload)?;
    let [setup, counted] = workload.halves();
    if at == "setup" {
        play(&mut Runner::new(rocks(store), false), &setup)?;
        child::die();
    }
    let at = at.to_owned();
    let die_at = |at| die_at(at, store);
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
pub(super) const WALL_MS: u64 = 1_780_000_000_000;

fn play(runner: &mut Runner, script: &Script) -> Result<(), String> {
    story::play(runner, script, |_, _, _, _| child::say("acknowledged")).map_err(|wrong| wrong.report)
}

/// The workload with this name.
pub(super) fn workload_named(name: &str) -> Result<Workload, String> {
    workloads::all().into_iter().find(|known| known.name == name).ok_or_else(|| format!("no such workload name={name}"))
}

/// The mutating calls of this process since [`die_at`].
static CALLS: AtomicU64 = AtomicU64::new(0);

/// From here on this process counts its mutating calls, and dies at the one with this number, or the first that is this one.
fn die_at(at: String, store: &Path) -> Result<(), String> {
    let calls = Calls::hold(Which::Mutating).map_err(|e| format!("system calls cannot be held error={e}"))?;
    let store = std::path::absolute(store).map_err(|e| e.to_string())?;
    let watch = move || {
        let mut seen = BTreeSet::new();
        let mut decide = |held: &Held| {
            let site = format!("{}, {}", held.name(), held.class_below(&store));
            let number = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
            if at == site || at.parse() == Ok(number) {
                child::say(&format!("dies {site}"));
                child::die();
            }
            if !seen.contains(&site) {
                child::say(&format!("seen {site}"));
                seen.insert(site);
            }
            Verdict::Go
        };
        // The listener fails once there is nobody left to listen to.
        while calls.next(&mut decide).is_ok() {}
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map(drop).map_err(|e| e.to_string())
}
