//! Cuts the power at every call that changes the medium, and compares what is left with the model.
//!
//! After a cut the store must open, hold everything that was acknowledged, hold the operation that was cut whole or not at
//! all, and go on from there: the client that never saw an answer asks again under the same operation id and is told what
//! it would have been told. What is exempt from durability may be lost: an upload session without bytes, and pull times.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary as _, Unstructured};

use layerhold::call::Call;
use layerhold::error::Failure;

use crate::engine::{TestEngine, memory_on};
use crate::fs::SimFileSystem;
use crate::model::{Answer, Model, RepositoryState};
use crate::operation::Script;
use crate::operation::request::{RegistryRequest, RepositoryRequest, Request};
use crate::perform::{perform, state};
use crate::runner::{Disagreement, Ended, Runner};

/// How far a campaign goes at each cut.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// States that one cut leaves and that are opened.
    pub states: usize,
    /// Cuts inside the recovery of one of these states.
    pub recovery_cuts: u64,
}

/// How much was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// Places at which the power was cut.
    pub cuts: u64,
    /// States that were opened and compared, those after a cut recovery among them.
    pub states: u64,
    /// How many of them held the operation that was cut.
    pub whole: u64,
    /// Recoveries that were cut themselves.
    pub recoveries: u64,
}

impl std::ops::AddAssign for Cuts {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.states += other.states;
        self.whole += other.whole;
        self.recoveries += other.recoveries;
    }
}

/// Runs `script` once for each call that changes the medium, and cuts the power at that call.
pub fn cut_everywhere(script: &Script, budget: Budget) -> Result<Cuts, Disagreement> {
    let fs = SimFileSystem::new(1);
    let mut whole = Runner::new(memory_on(fs.clone()), script.small_limits);
    let making = fs.mutating_calls();
    whole.run(script)?;
    let mut done = Cuts::default();
    for cut in 1..=fs.mutating_calls() - making {
        done += cut_at(script, cut, budget)?;
    }
    Ok(done)
}

/// Runs `script` and cuts the power at the `cut`-th call that changes the medium, counted from when the store was made.
/// Without so many calls it is cut after the last.
pub fn cut_at(script: &Script, cut: u64, budget: Budget) -> Result<Cuts, Disagreement> {
    let fs = SimFileSystem::new(1);
    let mut runner = Runner::new(memory_on(fs.clone()), script.small_limits);
    fs.crash_at(fs.mutating_calls() + cut);
    let in_flight = run_until_cut(&mut runner, script, &fs)?;
    let scene = Scene::new(runner, in_flight, cut);
    let mut done = Cuts { cuts: 1, ..Cuts::default() };
    for (number, left) in fs.crash_states(budget.states).enumerate() {
        let copy = left.crash(crate::fs::CrashPolicy::KeepAll);
        let before = left.mutating_calls();
        done += scene.check(left.clone(), number)?;
        if number == 0 {
            let recovery_calls = left.mutating_calls() - before;
            done += scene.check_cut_recoveries(&copy, recovery_calls.min(budget.recovery_cuts), number)?;
        }
    }
    Ok(done)
}

/// The request that the cut interrupted, if it was interrupted and not only followed by the cut.
fn run_until_cut(
    runner: &mut Runner,
    script: &Script,
    fs: &SimFileSystem,
) -> Result<Option<(Request, Call)>, Disagreement> {
    for operation in &script.operations {
        match runner.step(operation)?.pop() {
            Some(Ended::Failed { request, call, .. }) if fs.crashed() => return Ok(Some((request, call))),
            Some(Ended::Failed { request, failure, .. }) => {
                return Err(runner.disagreement(&request, &format!("{failure:?}"), "no failure before the cut"));
            }
            _ if fs.crashed() => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// What was true when the power was cut.
struct Scene {
    runner: Runner,
    in_flight: Option<(Request, Call)>,
    /// What may be found: everything acknowledged, without the operation that was cut and with it.
    before: Model,
    after: Option<(Model, Answer)>,
    sequence: u64,
    cut: u64,
}

/// What can be seen of a store: repositories, and the durable length of each upload.
type Seen = (BTreeMap<layerhold::name::RepositoryName, RepositoryState>, BTreeMap<u64, u64>);

impl Scene {
    fn new(runner: Runner, in_flight: Option<(Request, Call)>, cut: u64) -> Self {
        let before = runner.model.clone();
        let now = runner.now();
        let after = in_flight.as_ref().map(|(request, _)| {
            let mut after = before.clone();
            let answer = after.answer(request, now);
            (after, answer)
        });
        let sequence = runner.acknowledged_sequence();
        Self { runner, in_flight, before, after, sequence, cut }
    }

    /// Opens what is left and compares it.
    fn check(&self, left: SimFileSystem, number: usize) -> Result<Cuts, Disagreement> {
        // The table may have flushed nothing, everything or something by itself.
        let kept = [0, usize::MAX, number / 3, 2 * number][number % 4];
        let test = match self.runner.test.on_what_is_left(left, kept) {
            Ok(test) => test,
            Err(error) => return Err(self.wrong(number, &format!("does not open: {error:?}"), "opens")),
        };
        let found = self.look(&test).map_err(|failure| self.wrong(number, &format!("{failure:?}"), "can be read"))?;
        if test.engine().sequence() < self.sequence {
            let sequence = format!("sequence {}", test.engine().sequence());
            return Err(self.wrong(number, &sequence, &format!("at least {}", self.sequence)));
        }
        let is_before = self.agrees(&found, &self.before);
        let is_after = self.after.as_ref().is_some_and(|(after, _)| self.agrees(&found, after));
        if !is_before && !is_after {
            let expected = seen(&self.before);
            let after = self.after.as_ref().map(|(after, _)| seen(after));
            return Err(self.wrong(number, &format!("{found:?}"), &format!("{expected:?}\n     or: {after:?}")));
        }
        self.ask_again(&test, number)?;
        Ok(Cuts { states: 1, whole: u64::from(is_after), ..Cuts::default() })
    }

    /// Cuts the recovery of `left` at each of its calls, and then opens what that leaves.
    fn check_cut_recoveries(&self, left: &SimFileSystem, calls: u64, number: usize) -> Result<Cuts, Disagreement> {
        let mut done = Cuts::default();
        for call in 1..=calls {
            let again = left.crash(crate::fs::CrashPolicy::KeepAll);
            again.crash_at(again.mutating_calls() + call);
            if self.runner.test.on_what_is_left(again.clone(), 0).is_err() && !again.crashed() {
                return Err(self.wrong(number, "recovery fails without a cut", "opens"));
            }
            done.recoveries += 1;
            for left in again.crash_states(2) {
                done += self.check(left, number)?;
            }
        }
        Ok(done)
    }

    /// The client asks once more under the same operation id, and then everything must be as if it had asked once.
    fn ask_again(&self, test: &TestEngine, number: usize) -> Result<(), Disagreement> {
        let (Some((request, call)), Some((after, answer))) = (&self.in_flight, &self.after) else { return Ok(()) };
        let Request::Repository(_, repository_request) = request else { return Ok(()) };
        if call.operation_id.is_none() || !self.can_be_asked_again(repository_request, answer) {
            return Ok(());
        }
        let registry = test.registry().with_limits(self.runner.registry_limits());
        let mut handles = self.runner.handles();
        match perform(&registry, &mut handles, request, call) {
            Ok(again) if again == *answer => {}
            again => return Err(self.wrong(number, &format!("{again:?} when asked again"), &format!("{answer:?}"))),
        }
        let found = self.look(test).map_err(|failure| self.wrong(number, &format!("{failure:?}"), "can be read"))?;
        match self.agrees(&found, after) {
            true => Ok(()),
            false => Err(self.wrong(number, &format!("{found:?} when asked again"), &format!("{:?}", seen(after)))),
        }
    }

    /// Whether a second call under the same operation id is told what the first one would have been. Reads and refusals have
    /// no outcome to keep; a streamed body is gone with the process, and a session without bytes may be.
    fn can_be_asked_again(&self, request: &RepositoryRequest, answer: &Answer) -> bool {
        use RepositoryRequest as On;
        let changes = match request {
            On::Create { .. } | On::Delete { .. } | On::PutTagMutability { .. } | On::PutAttributes { .. } => true,
            On::MountBlob { .. } | On::DeleteBlob { .. } | On::DeleteImage { .. } | On::Untag { .. } => true,
            On::PutManifest(_) | On::PutBlob { .. } => true,
            On::AppendPart { session, .. } | On::CancelUpload { session, .. } | On::CompleteUpload { session, .. } => {
                self.before.open_uploads().get(session).is_some_and(|offset| *offset > 0)
            }
            _ => false,
        };
        changes && !matches!(answer, Answer::Refused(_))
    }

    /// Everything that can be seen, without pull times, which may be lost.
    fn look(&self, test: &TestEngine) -> Result<Seen, Failure> {
        let registry = test.registry().with_limits(self.runner.registry_limits());
        let models = [Some(&self.before), self.after.as_ref().map(|(after, _)| after)];
        let states: Vec<_> = models.into_iter().flatten().map(Model::state).collect();
        let repositories = states.iter().flat_map(BTreeMap::values);
        let known = repositories.flat_map(|repository| repository.blobs.keys().copied()).collect();
        let mut uploads = BTreeMap::new();
        let mut handles = self.runner.handles();
        for number in self.runner.uploads_begun() {
            let owner = models.into_iter().flatten().find_map(|model| model.upload_owner(number, self.runner.now()));
            let Some((name, caller)) = owner else { continue };
            let request = Request::Repository(name, RepositoryRequest::UploadStatus { session: number, caller });
            if let Answer::Session { offset, .. } = perform(&registry, &mut handles, &request, &Call::anonymous())? {
                uploads.insert(number, offset);
            }
        }
        Ok((without_pull_times(state(&registry, &known)?), uploads))
    }

    fn agrees(&self, found: &Seen, model: &Model) -> bool {
        let (repositories, uploads) = seen(model);
        let alive = |number: &u64| model.upload_owner(*number, self.runner.now()).is_some();
        let expected: BTreeMap<u64, u64> = uploads.into_iter().filter(|(number, _)| alive(number)).collect();
        let as_expected = |(number, offset): (&u64, &u64)| match found.1.get(number) {
            Some(found) => found == offset,
            None => *offset == 0,
        };
        found.0 == repositories
            && expected.iter().all(as_expected)
            && found.1.keys().all(|number| expected.contains_key(number))
    }

    fn wrong(&self, number: usize, found: &str, expected: &str) -> Disagreement {
        let request = match &self.in_flight {
            Some((request, _)) => request.clone(),
            None => Request::Registry(RegistryRequest::Maintain),
        };
        let mut wrong = self.runner.disagreement(&request, found, expected);
        wrong.report = format!("power cut at mutating call {}, state {number}: {}", self.cut, wrong.report);
        wrong
    }
}

fn seen(model: &Model) -> Seen {
    (without_pull_times(model.state()), model.open_uploads())
}

fn without_pull_times(
    mut states: BTreeMap<layerhold::name::RepositoryName, RepositoryState>,
) -> BTreeMap<layerhold::name::RepositoryName, RepositoryState> {
    for image in states.values_mut().flat_map(|repository| &mut repository.images) {
        image.last_pull_ms = None;
    }
    states
}

/// Cuts the power everywhere in each of `count` short random scripts.
pub fn random_scripts(seed: u64, count: u64, budget: Budget) -> Result<Cuts, Disagreement> {
    let mut done = Cuts::default();
    for number in 0..count {
        done += random_script(seed, number, budget)?;
    }
    Ok(done)
}

/// Cuts the power everywhere in the short random script with this number.
pub fn random_script(seed: u64, number: u64, budget: Budget) -> Result<Cuts, Disagreement> {
    let bytes = crate::operation::pool::noise(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)), 400);
    let script = Script::arbitrary_take_rest(Unstructured::new(&bytes)).expect("enough bytes");
    cut_everywhere(&script, budget).map_err(|mut wrong| {
        wrong.report = format!("script {number}: {}\n{}", wrong.report, crate::campaign::to_json(&script));
        wrong
    })
}
