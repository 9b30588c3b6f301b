//! Every state that a power cut can leave of a whole engine over the simulated disk, and every state that a cut in the
//! recovery of those can leave.
//!
//! A workload runs once. Before each call that changes the medium the disk is copied (a copy shares all bytes); the
//! states that a cut at that call can leave are opened one after the other, and each opening is itself watched in the same
//! way. A state is opened once: disk and table together have a hash. What a recovery led to is compared with the reference
//! model once for each distinct result, because what an engine answers follows from its rows and its blob files.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::Hasher as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::error::ErrorKind;
use layerhold::name::RegistryName;
use layerhold::store::mem::MemTable;
use layerhold::store::table::Table as _;
use layerhold::store::{Direction, KeyRange};

use crate::engine::{REGISTRY, SharedTable, TestEngine, current};
use crate::fs::{SimFileSystem, mix};
use crate::judge::{Found, Judge, Wrong};
use crate::operation::Operation;
use crate::operation::request::{RegistryRequest, Request};
use crate::runner::{Disagreement, Ended, Runner};
use crate::sound::sound;
use crate::technique::Outcome;
use crate::trouble::Trouble;

/// How much of what a cut can leave is opened.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// States of one cut in the workload.
    pub states: usize,
    /// States of one cut in the recovery of one of these.
    pub states_in_recovery: usize,
    /// Of so many of the states of a cut recovery, the recovery of one is cut again, at each of its calls.
    pub third_one_in: u64,
}

/// Journal segments of a store whose states are enumerated, in bytes: short, so that they open fast and are changed often.
const SEGMENT_BYTES: u64 = 12 << 10;

/// With more pending changes than this not every subset of them is opened, but all prefixes, all but one, one alone, and at
/// least so many random ones.
const EXHAUSTIVE_PENDING: usize = 12;
const RANDOM_STATES: usize = 64;

/// States that are enough for all of these. There are four shapes of each change, one of them with a torn page, and each
/// fourth choice is a random one until they are all made.
fn enough(pending: usize) -> usize {
    2 + (4 * pending).div_ceil(3) * 4 + RANDOM_STATES
}

/// States of a cut at the third depth.
const STATES_AT_THIRD: usize = 6;

/// A new engine on a disk that can be watched, with the model beside it.
///
/// # Panics
/// When the store cannot be made.
pub fn new_runner(seed: u64) -> Runner {
    let fs = SimFileSystem::new(seed);
    let test = TestEngine::try_memory_with(fs.clone(), SEGMENT_BYTES).expect("an engine on an empty disk");
    // What a store leaves unsynced when it is made is on the disk before long; `cut_the_making` has it otherwise.
    fs.settle();
    Runner::new(test, false)
}

/// Makes a store and opens what cuts at each call of that can leave: no store yet, or one that opens for good.
pub fn cut_the_making(seed: u64, bounds: Bounds) -> Outcome {
    let mut explorer = Explorer::new(seed, bounds);
    let (fs, table, moments) = (SimFileSystem::new(seed), SharedTable::default(), Moments::default());
    watch(&fs, &table, &moments);
    let made = TestEngine::make(fs.clone(), Arc::new(fs.clone()), Arc::clone(&table), SEGMENT_BYTES);
    fs.watch(None);
    drop(made.expect("an engine on an empty disk"));
    let last = Moment::now(&fs, &current(&table));
    let mut scene = Scene { judge: None, trouble: None, compared: HashMap::new(), salt: 0 };
    let cuts = take(&moments).into_iter().map(|moment| (moment, false)).chain([(last, true)]);
    for (number, (moment, made)) in cuts.enumerate() {
        explorer.outcome.count("cuts", 1);
        let demand = Demand { found: Found::EITHER, sequence: 0, made };
        if let Err(Wrong { found, expected }) = explorer.explore(&mut scene, &moment, demand, 1) {
            let at = format!("power cut before mutating call {} of the making of a store", number + 1);
            explorer.outcome.violation(format!("{at}\nfound {found}\nexpected {expected}"));
            break;
        }
    }
    explorer.into_outcome()
}

/// Runs operations and explores what cuts can leave of those that are asked for.
pub struct Explorer {
    runner: Runner,
    bounds: Bounds,
    moments: Moments,
    /// States that were opened in this workload, with what they were held to, and the least depth at which they were: deeper
    /// down fewer recoveries are cut.
    opened: HashMap<u64, u8>,
    outcome: Outcome,
}

/// The disk before one call, and what the table may hold if it is cut there.
struct Moment {
    fs: SimFileSystem,
    tables: Vec<(MemTable, u64)>,
}

type Moments = Arc<Mutex<Vec<Moment>>>;

/// What is known of the place that is explored.
struct Scene<'a> {
    /// Who knows what must be there; nobody where nothing was acknowledged.
    judge: Option<&'a Judge>,
    /// What had befallen the store.
    trouble: Option<Trouble>,
    /// What recoveries led to and was compared, by a hash of rows and blob files.
    compared: HashMap<u64, Result<Found, Arc<Wrong>>>,
    salt: u64,
}

/// What a state must show: which of the two, and up to which sequence; whether it must be a store at all.
#[derive(Clone, Copy)]
struct Demand {
    found: Found,
    sequence: u64,
    made: bool,
}

impl Moment {
    fn now(fs: &SimFileSystem, table: &MemTable) -> Self {
        let writes = table.unflushed();
        let mut tables: Vec<(MemTable, u64)> = Vec::with_capacity(3);
        // The table lost everything, nothing, or some of what was not flushed.
        for kept in [0, writes, writes / 2] {
            let table = table.crashed_after(kept);
            let hash = hash_of(&table);
            if tables.iter().all(|(_, other)| *other != hash) {
                tables.push((table, hash));
            }
        }
        Self { fs: fs.copy(), tables }
    }
}

fn watch(fs: &SimFileSystem, table: &SharedTable, moments: &Moments) {
    let (table, moments) = (Arc::clone(table), Arc::clone(moments));
    fs.watch(Some(Box::new(move |fs| {
        let moment = Moment::now(fs, &current(&table));
        moments.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
    })));
}

fn take(moments: &Moments) -> Vec<Moment> {
    std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A hash of all rows of a table.
pub(crate) fn hash_of(table: &MemTable) -> u64 {
    let mut hasher = DefaultHasher::new();
    let all = KeyRange { start: Vec::new(), end: vec![0xff; 64] };
    let view = table.view().expect("memory");
    view.scan(&all, Direction::Forward, &mut |key, value| {
        hasher.write_usize(key.len());
        hasher.write(key);
        hasher.write_usize(value.len());
        hasher.write(value);
        ControlFlow::Continue(())
    })
    .expect("memory");
    hasher.write_u64(table.applied_sequence().expect("memory"));
    hasher.finish()
}

impl Explorer {
    /// A new store.
    pub fn new(seed: u64, bounds: Bounds) -> Self {
        let (runner, moments) = (new_runner(seed), Moments::default());
        Self { runner, bounds, moments, opened: HashMap::new(), outcome: Outcome::default() }
    }

    /// What was done, and what was found.
    pub fn into_outcome(mut self) -> Outcome {
        self.outcome.states.sort_unstable();
        self.outcome.states.dedup();
        self.outcome
    }

    /// Runs one step of a workload, with cuts in it or without. Whether there was anything to do.
    pub fn step(&mut self, letter: &Letter, cut: bool) -> Result<bool, Disagreement> {
        match letter {
            Letter::Asked(operations) if cut => self.run_and_cut(operations),
            Letter::Asked(operations) => self.run(operations).map(|()| true),
            Letter::Befalls(trouble) => self.befall(*trouble, cut),
        }
    }

    /// Runs operations without a cut.
    pub fn run(&mut self, operations: &[Operation]) -> Result<(), Disagreement> {
        for operation in operations {
            if let Some(Ended::Failed { request, failure, .. }) = self.runner.step(operation)?.pop() {
                return Err(self.runner.disagreement(&request, &format!("{failure:?}"), "no failure"));
            }
        }
        Ok(())
    }

    /// Runs operations, and opens what cuts at each of their calls and behind the last can leave. Whether there was
    /// anything to ask.
    pub fn run_and_cut(&mut self, operations: &[Operation]) -> Result<bool, Disagreement> {
        let (Some(fs), Some(table)) = (self.runner.test.fs().cloned(), self.runner.test.shared_table().cloned()) else {
            return Ok(false);
        };
        let mut last = None;
        for operation in operations {
            for request in self.runner.requests_of(operation) {
                let call = self.runner.next_call();
                // A request to repeat changes nothing, so nothing of it may be seen.
                let in_flight = matches!(request, Request::Repository(..)).then(|| (request.clone(), call));
                let mut judge = Judge::new(&self.runner, in_flight);
                watch(&fs, &table, &self.moments);
                let ended = self.runner.request(&request);
                fs.watch(None);
                if let Ended::Failed { failure, .. } = ended? {
                    return Err(self.runner.disagreement(&request, &format!("{failure:?}"), "no failure"));
                }
                // An upload that was begun in this very request has got its id only now.
                judge.learn(&self.runner);
                self.explore_all(&judge, &request, None);
                last = Some(request);
            }
        }
        let Some(request) = last else { return Ok(false) };
        self.cut_behind(&request);
        Ok(true)
    }

    /// Lets something befall the store, and the engine do what it does then; with `cut` opens what cuts in that can leave.
    /// Whether there was anything that it could befall.
    pub fn befall(&mut self, trouble: Trouble, cut: bool) -> Result<bool, Disagreement> {
        let (Some(fs), Some(table)) = (self.runner.test.fs().cloned(), self.runner.test.shared_table().cloned()) else {
            return Ok(false);
        };
        if !trouble.harm(&self.runner) {
            return Ok(false);
        }
        let mut judge = Judge::new(&self.runner, None);
        judge.expect_spoiled(trouble.spoils());
        if cut {
            watch(&fs, &table, &self.moments);
        }
        let worked = trouble.work(&mut self.runner);
        fs.watch(None);
        // Only for the report: no request stands for what was done.
        let request = Request::Registry(RegistryRequest::Maintain);
        worked.map_err(|wrong| self.runner.disagreement(&request, &format!("{trouble:?}: {wrong}"), "is made good"))?;
        self.runner.acknowledge();
        if cut {
            self.explore_all(&judge, &request, Some(trouble));
            self.cut_behind(&request);
        }
        Ok(true)
    }

    /// Opens what a cut behind all that was done can leave.
    fn cut_behind(&mut self, request: &Request) {
        let (Some(fs), Some(table)) = (self.runner.test.fs(), self.runner.test.table()) else { return };
        let judge = Judge::new(&self.runner, None);
        let moment = Moment::now(fs, &table);
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
        self.explore_all(&judge, request, None);
    }

    fn explore_all(&mut self, judge: &Judge, request: &Request, trouble: Option<Trouble>) {
        let moments = take(&self.moments);
        let salt = mix(self.outcome.counts.get("cuts").copied().unwrap_or(0) + 1);
        let mut scene = Scene { judge: Some(judge), trouble, compared: HashMap::new(), salt };
        let demand = Demand { found: Found::EITHER, sequence: judge.sequence(), made: true };
        for (number, moment) in moments.iter().enumerate() {
            self.outcome.count("cuts", 1);
            if let Err(wrong) = self.explore(&mut scene, moment, demand, 1) {
                let (found, expected) = (&wrong.found, &wrong.expected);
                let mut report = self.runner.disagreement(request, found, expected).report;
                let of = trouble.map_or_else(|| "the last request".to_owned(), |trouble| format!("{trouble:?}"));
                report = format!("power cut before mutating call {} of {of}: {report}", number + 1);
                self.outcome.violation(report);
                // One violation for each request: the next cuts mostly find the same.
                return;
            }
        }
    }

    /// Opens the states that a cut at `moment` can leave.
    fn explore(&mut self, scene: &mut Scene<'_>, moment: &Moment, demand: Demand, depth: u8) -> Result<(), Wrong> {
        let limit = match depth {
            1 => self.bounds.states,
            2 => self.bounds.states_in_recovery,
            _ => STATES_AT_THIRD,
        };
        let bits = [demand.found.before, demand.found.after, demand.made];
        let bits = bits.iter().fold(demand.sequence, |bits, bit| bits << 1 | u64::from(*bit));
        let demanded = mix(bits);
        let mut left = moment.fs.crash_states(limit);
        if left.pending() > EXHAUSTIVE_PENDING {
            left = moment.fs.crash_states(limit.min(enough(left.pending())));
        }
        for (number, fs) in left.enumerate() {
            let disk = fs.fingerprint();
            // What the disk keeps of everything or of nothing meets every table, other mixtures one table each.
            let tables = match number {
                0 | 1 => &moment.tables[..],
                _ => std::slice::from_ref(&moment.tables[number % moment.tables.len()]),
            };
            for (table, rows) in tables {
                let state = mix(disk ^ rows);
                self.outcome.states.push(state);
                let least = self.opened.entry(state ^ scene.salt ^ demanded).or_insert(u8::MAX);
                if depth < *least {
                    *least = depth;
                    self.open(scene, fs.copy(), table, demand, depth, state).map_err(|mut wrong| {
                        wrong.found = format!("depth {depth}, state {number}: {}", wrong.found);
                        wrong
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Opens one state, compares it, and explores the cuts in its recovery.
    fn open(
        &mut self,
        scene: &mut Scene<'_>,
        fs: SimFileSystem,
        table: &MemTable,
        demand: Demand,
        depth: u8,
        state: u64,
    ) -> Result<(), Wrong> {
        self.outcome.count(
            ["states opened", "states of cut recoveries", "states of twice cut recoveries"][depth as usize - 1],
            1,
        );
        let deeper = match depth {
            1 => true,
            2 => state.is_multiple_of(self.bounds.third_one_in),
            _ => false,
        };
        let shared: SharedTable = Arc::new(Mutex::new(table.crashed()));
        let moments = Moments::default();
        if deeper {
            watch(&fs, &shared, &moments);
        }
        let opened = match scene.trouble {
            Some(Trouble::LostFormat) => self.runner.test.on_restored(fs.clone(), Arc::clone(&shared)),
            _ => self.runner.test.on(fs.clone(), Arc::clone(&shared)),
        };
        fs.watch(None);
        let test = match opened {
            Err(error) if !demand.made && error.kind() == ErrorKind::NotFound => {
                self.outcome.count("no store yet", 1);
                return Ok(());
            }
            opened => opened
                .map_err(|error| Wrong { found: format!("does not open: {error:?}"), expected: "opens".into() })?,
        };
        let demand = Demand { made: true, ..demand };
        let table = current(&shared);
        let sequence = test.engine().sequence();
        if sequence < demand.sequence {
            return Err(Wrong {
                found: format!("sequence {sequence}"),
                expected: format!("at least {}", demand.sequence),
            });
        }
        if deeper {
            // Once it is open, it may be looked at: then a cut takes nothing of it.
            let shown = Moment::now(&fs, &table);
            let found = self.compare(scene, test, &fs, &table)?;
            if !demand.found.admits(found) {
                return Err(shown_before(found));
            }
            for moment in &take(&moments) {
                self.explore(scene, moment, demand, depth + 1)?;
            }
            self.explore(scene, &shown, Demand { found, sequence, ..demand }, depth + 1)
        } else {
            let found = self.compare(scene, test, &fs, &table)?;
            if demand.found.admits(found) { Ok(()) } else { Err(shown_before(found)) }
        }
    }

    /// What an opened store shows. Ends it.
    fn compare(
        &mut self,
        scene: &mut Scene<'_>,
        test: TestEngine,
        fs: &SimFileSystem,
        table: &MemTable,
    ) -> Result<Found, Wrong> {
        let key = mix(hash_of(table) ^ fs.fingerprint_of(Path::new("blobs")));
        let result = match scene.compared.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                self.outcome.count("results compared with the model", 1);
                let runner = &self.runner;
                let judged = match (scene.judge, scene.trouble) {
                    (None, _) => is_sound(&test).and_then(|()| takes_work(&test)).map(|()| Found::EITHER),
                    (Some(judge), None) => judge.look(&test).and_then(|found| {
                        is_sound(&test)?;
                        judge.ask_again(&test).map(|()| found)
                    }),
                    (Some(judge), Some(trouble)) => judge.look(&test).and_then(|found| {
                        let mended = trouble.mend(&test, runner);
                        mended.map_err(|found| Wrong { found, expected: "can be mended".to_owned() })?;
                        judge.look_again(&test).map(|_| found)
                    }),
                };
                unknown.insert(judged.and_then(|found| is_sound(&test).map(|()| found)).map_err(Arc::new))
            }
        };
        match result {
            Ok(found) => Ok(*found),
            Err(wrong) => Err(Wrong { found: wrong.found.clone(), expected: wrong.expected.clone() }),
        }
    }
}

fn is_sound(test: &TestEngine) -> Result<(), Wrong> {
    let checked = sound(test.engine(), Level::Bytes);
    checked
        .map(drop)
        .map_err(|found| Wrong { found: format!("the check finds\n{found}"), expected: "a sound store".into() })
}

/// A new store is empty and can be used.
fn takes_work(test: &TestEngine) -> Result<(), Wrong> {
    let wrong = |found: String| Wrong { found, expected: "a new store that takes work".to_owned() };
    let registries = test.engine().registries(None, 1).map_err(|failure| wrong(format!("{failure:?}")))?;
    if !registries.items.is_empty() {
        return Err(wrong(format!("{registries:?}")));
    }
    let name = RegistryName::parse(REGISTRY).map_err(|error| wrong(error.to_string()))?;
    let made = test.engine().create_registry(&name, &Call::anonymous());
    made.map(drop).map_err(|failure| wrong(format!("{failure:?}")))
}

fn shown_before(found: Found) -> Wrong {
    Wrong { found: format!("{found:?}"), expected: "what the opening before the cut showed".to_owned() }
}

/// One step of a workload.
#[derive(Debug, Clone)]
pub enum Letter {
    /// Requests.
    Asked(Vec<Operation>),
    /// Something that befalls the store, and what is done about it.
    Befalls(Trouble),
}

/// The steps that all short workloads are made of.
pub fn letters() -> Vec<(&'static str, Letter)> {
    use crate::operation::{Declared, ExpectedDigest, Image, Position, Share, StreamEnd, Through};
    let blob = |content| Operation::PutBlob { repository: 0, content, expected: ExpectedDigest::Right };
    let begin = |content| Operation::BeginUpload { repository: 0, content, sha512: false, caller: 0 };
    let part = |share| Operation::AppendPart {
        upload: 0,
        through: Through::Own,
        at: Position::Next,
        share,
        declared: Declared::Right,
    };
    let push = |document| Operation::PushImage { repository: 0, document, tag: Some(0) };
    let complete = Operation::CompleteUpload {
        upload: 0,
        through: Through::Own,
        expected: ExpectedDigest::Right,
        minimum: false,
        refuse_empty: false,
    };
    let stream = Operation::StreamUpload {
        upload: 0,
        through: Through::Own,
        at: None,
        share: Share::Rest,
        end: StreamEnd::Complete,
    };
    let asked = vec![
        ("put a small blob", vec![blob(3)]),
        ("put a large blob", vec![blob(6)]),
        ("begin an upload and append a part", vec![begin(6), part(Share::Half)]),
        ("append the rest", vec![part(Share::Rest)]),
        ("stream a blob", vec![begin(5), stream]),
        ("complete the upload", vec![complete]),
        ("cancel the upload", vec![Operation::CancelUpload { upload: 0, through: Through::Own }]),
        ("push an image", vec![push(0)]),
        ("push another image under the same tag", vec![push(1)]),
        ("untag", vec![Operation::Untag { repository: 0, tag: 0 }]),
        ("delete the image", vec![Operation::DeleteImage { repository: 0, image: Image::Tag(0) }]),
        ("delete the large blob", vec![Operation::DeleteBlob { repository: 0, blob: 6 }]),
        ("make a repository", vec![Operation::CreateRepository { repository: 1, mutability: 1, sparse: false }]),
        ("delete the repository", vec![Operation::DeleteRepository { repository: 0, force: true }]),
        ("maintain", vec![Operation::Maintain]),
        ("be killed and resume", vec![Operation::Reopen { close: false }]),
        ("repeat the last change", vec![Operation::Repeat]),
    ];
    let befalls = [
        ("a blob is damaged, read and pushed again", Trouble::SpoiledBlob),
        ("a back-reference is lost and the store repaired", Trouble::LostBackReference),
        ("scrub a step", Trouble::Scrub),
    ];
    let asked = asked.into_iter().map(|(name, operations)| (name, Letter::Asked(operations)));
    asked.chain(befalls.map(|(name, trouble)| (name, Letter::Befalls(trouble)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_many_changes_all_shapes_are_made() {
        use layerhold::store::fs::FileSystem as _;
        const FILES: usize = 80;
        let fs = SimFileSystem::new(3);
        for number in 0..FILES {
            fs.create_new(Path::new(&format!("{number}"))).unwrap();
        }
        assert_eq!(fs.pending(), FILES);
        let here = |fs: SimFileSystem| -> Vec<bool> {
            (0..FILES).map(|number| fs.file_len(Path::new(&format!("{number}"))).is_ok()).collect()
        };
        let found: std::collections::BTreeSet<_> = fs.crash_states(enough(FILES)).map(here).collect();
        for place in 0..FILES {
            let shapes: [fn(usize, usize) -> bool; 3] =
                [|at, place| at < place, |at, place| at != place, |at, place| at == place];
            for keep in shapes {
                let shape: Vec<_> = (0..FILES).map(|at| keep(at, place)).collect();
                assert!(found.contains(&shape), "{place}");
            }
        }
        assert!(found.len() >= 3 * FILES + RANDOM_STATES, "{}", found.len());
    }

    #[test]
    fn a_state_that_is_met_less_deep_later_has_its_recovery_cut_then() {
        // At the second depth no recovery is cut.
        let bounds = Bounds { states: usize::MAX, states_in_recovery: usize::MAX, third_one_in: u64::MAX };
        let mut explorer = Explorer::new(1, bounds);
        explorer.run(&[Operation::CreateRepository { repository: 0, mutability: 0, sparse: false }]).unwrap();
        let (fs, table) = (explorer.runner.test.fs().unwrap().clone(), explorer.runner.test.table().unwrap());
        let moment = Moment::now(&fs, &table);
        let judge = Judge::new(&explorer.runner, None);
        let mut scene = Scene { judge: Some(&judge), trouble: None, compared: HashMap::new(), salt: 0 };
        let demand = Demand { found: Found::EITHER, sequence: judge.sequence(), made: true };
        let mut opened = |depth| {
            explorer.explore(&mut scene, &moment, demand, depth).unwrap();
            let count = |name| explorer.outcome.counts.get(name).copied().unwrap_or(0);
            (count("states opened"), count("states of cut recoveries"), count("states of twice cut recoveries"))
        };
        let (_, deep, none) = opened(2);
        assert!(deep > 0 && none == 0);
        let (least, deeper, _) = opened(1);
        assert!(least > 0 && deeper > deep, "{least} states, {deeper} of cut recoveries");
        assert_eq!(opened(1), opened(2), "nothing is opened twice");
    }
}
