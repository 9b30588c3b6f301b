//! What a script does, request by request, and what may be found where it was cut off.
//!
//! The tale is told once, by an engine and the model side by side. Afterwards any copy of the store that was cut off after
//! some acknowledged request can be held against it: it must hold everything acknowledged, the request that was cut whole
//! or not at all, and it must go on from there.

use std::collections::BTreeMap;

use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::name::RepositoryName;
use layerhold::options::Limits;

use crate::engine::{REGISTRY, TestEngine};
use crate::model::{Answer, Model, Now, RepositoryState};
use crate::operation::Script;
use crate::operation::request::{RepositoryRequest, Request};
use crate::perform::{Handles, perform, state};
use crate::runner::{Disagreement, Ended, Runner, shorten};
use crate::sound::sound;

/// One request, and what was true around it.
#[derive(Debug, Clone)]
struct Step {
    request: Request,
    call: Call,
    answer: Answer,
    /// The model when it had been answered.
    after: Model,
    /// The sequence that the engine had acknowledged by then.
    sequence: u64,
    now: Now,
}

/// A script that was run to its end.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    beginning: Model,
    beginning_now: Now,
    steps: Vec<Step>,
    handles: Handles,
    uploads: std::ops::Range<u64>,
    limits: Limits,
}

/// What can be seen of a store: repositories, and the durable length of each upload.
type Seen = (BTreeMap<RepositoryName, RepositoryState>, BTreeMap<u64, u64>);

/// Makes the requests of `script`, and calls `acknowledged` after each with their number so far.
///
/// # Errors
/// Where engine and model disagree, or the storage failed.
pub(crate) fn play(
    runner: &mut Runner,
    script: &Script,
    mut acknowledged: impl FnMut(&Runner, &Request, &Call, &Answer),
) -> Result<(), Disagreement> {
    for operation in &script.operations {
        for request in runner.requests_of(operation) {
            let call = runner.next_call();
            match runner.request(&request)? {
                Ended::Agreed(answer) => acknowledged(runner, &request, &call, &answer),
                Ended::Failed { request, failure, .. } => {
                    return Err(runner.disagreement(&request, &format!("failure: {failure:?}"), "no failure"));
                }
            }
        }
    }
    Ok(())
}

impl Story {
    /// Runs `script` on a new engine and notes everything.
    pub(crate) fn tell(test: TestEngine, script: &Script) -> Result<Self, Disagreement> {
        Self::tell_watched(test, script, |_| ()).map(|(story, _)| story)
    }

    /// The same, calling `watch` with the number of requests that are acknowledged so far, from 0; the engine is given back as it
    /// stands at the end.
    pub(crate) fn tell_watched(
        test: TestEngine,
        script: &Script,
        mut watch: impl FnMut(usize),
    ) -> Result<(Self, TestEngine), Disagreement> {
        let mut runner = Runner::new(test, script.small_limits);
        let (beginning, beginning_now) = (runner.model.clone(), runner.now());
        let mut steps = Vec::new();
        watch(0);
        play(&mut runner, script, |runner, request, call, answer| {
            steps.push(Step {
                request: request.clone(),
                call: call.clone(),
                answer: answer.clone(),
                after: runner.model.clone(),
                sequence: runner.acknowledged_sequence(),
                now: runner.now(),
            });
            watch(steps.len());
        })?;
        let (handles, uploads, limits) = (runner.handles(), runner.uploads_begun(), runner.registry_limits());
        Ok((Self { beginning, beginning_now, steps, handles, uploads, limits }, runner.test))
    }

    /// How many requests there are.
    pub(crate) fn requests(&self) -> usize {
        self.steps.len()
    }

    /// What the wall clock said when `acknowledged` requests were answered.
    pub(crate) fn wall_ms(&self, acknowledged: usize) -> u64 {
        self.before(acknowledged).1.wall_ms
    }

    /// Holds `test`, which was cut off when `acknowledged` requests were, against the story, and lets the engine check
    /// itself. Says whether the request that was cut is there.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn check(&self, test: &TestEngine, acknowledged: usize) -> Result<bool, String> {
        let whole = self.compare(test, acknowledged)?;
        match sound(test.engine(), Level::Bytes) {
            Ok(_) => Ok(whole),
            Err(wrong) => Err(format!("acknowledged={acknowledged}, the store is not sound: {wrong}")),
        }
    }

    fn compare(&self, test: &TestEngine, acknowledged: usize) -> Result<bool, String> {
        if acknowledged > self.steps.len() {
            return Err(format!("acknowledged={acknowledged} of {} requests", self.steps.len()));
        }
        let (before, now) = self.before(acknowledged);
        let cut = self.steps.get(acknowledged);
        let tell = |found: &str, expected: &str| {
            let request = cut.map(|step| &step.request);
            shorten(&format!(
                "acknowledged={acknowledged} request={request:?}\n  found: {found}\n expected: {expected}"
            ))
        };
        let sequence =
            acknowledged.checked_sub(1).and_then(|last| self.steps.get(last)).map_or(0, |step| step.sequence);
        if test.engine().sequence() < sequence {
            let found = test.engine().sequence();
            return Err(tell(&format!("sequence {found}"), &format!("at least {sequence}")));
        }
        // A store that was cut off before its registry was made holds nothing.
        let registries = test.engine().registries(None, u32::MAX);
        let registries = registries.map_err(|failure| tell(&format!("{failure:?}"), "registries"))?.items;
        if !registries.iter().any(|name| name.as_str() == REGISTRY) {
            return if acknowledged == 0 { Ok(false) } else { Err(tell("no registry", "a registry")) };
        }
        let look = || self.look(test, now, &[before, cut.map_or(before, |step| &step.after)]);
        let found = look().map_err(|failure| tell(&failure, "can be read"))?;
        let whole = cut.is_some_and(|step| self.agrees(&found, &step.after, now));
        if !whole && !self.agrees(&found, before, now) {
            let after = cut.map(|step| seen(&step.after));
            return Err(tell(&format!("{found:?}"), &format!("{:?}\n       or: {after:?}", seen(before))));
        }
        if let Some(step) = cut.filter(|step| self.can_be_asked_again(step, before)) {
            let registry = test.registry().with_limits(self.limits.clone());
            match perform(&registry, &mut self.handles.clone(), &step.request, &step.call) {
                Ok(again) if again == step.answer => {}
                again => return Err(tell(&format!("{again:?} when asked again"), &format!("{:?}", step.answer))),
            }
            let found = look().map_err(|failure| tell(&failure, "can be read"))?;
            if !self.agrees(&found, &step.after, now) {
                return Err(tell(&format!("{found:?} when asked again"), &format!("{:?}", seen(&step.after))));
            }
        }
        Ok(whole)
    }

    fn before(&self, acknowledged: usize) -> (&Model, Now) {
        match acknowledged.checked_sub(1).and_then(|last| self.steps.get(last)) {
            Some(step) => (&step.after, step.now),
            None => (&self.beginning, self.beginning_now),
        }
    }

    /// Whether a second call under the same operation id is told what the first one would have been: reads and refusals have
    /// no outcome to keep, a streamed body is gone with the process, and a session without bytes may be.
    fn can_be_asked_again(&self, step: &Step, before: &Model) -> bool {
        use RepositoryRequest as On;
        let Request::Repository(_, request) = &step.request else { return false };
        let changes = match request {
            On::Create { .. } | On::Delete { .. } | On::PutTagMutability { .. } | On::PutAttributes { .. } => true,
            On::MountBlob { .. } | On::DeleteBlob { .. } | On::DeleteImage { .. } | On::Untag { .. } => true,
            On::PutManifest(_) | On::PutBlob { .. } => true,
            On::AppendPart { session, .. } | On::CancelUpload { session, .. } | On::CompleteUpload { session, .. } => {
                before.open_uploads().get(session).is_some_and(|offset| *offset > 0)
            }
            _ => false,
        };
        changes && step.call.operation_id.is_some() && !matches!(step.answer, Answer::Refused(_))
    }

    /// Everything that can be seen, without pull times, which may be lost.
    fn look(&self, test: &TestEngine, now: Now, expected: &[&Model]) -> Result<Seen, String> {
        let registry = test.registry().with_limits(self.limits.clone());
        let known = expected.iter().flat_map(|model| model.state().into_values());
        let known = known.flat_map(|repository| repository.blobs.into_keys()).collect();
        let mut uploads = BTreeMap::new();
        let mut handles = self.handles.clone();
        for number in self.uploads.clone() {
            let owner = expected.iter().find_map(|model| model.upload_owner(number, now));
            let Some((name, caller)) = owner else { continue };
            let request = Request::Repository(name, RepositoryRequest::UploadStatus { session: number, caller });
            let found = perform(&registry, &mut handles, &request, &Call::anonymous());
            if let Answer::Session { offset, .. } = found.map_err(|failure| format!("{failure:?}"))? {
                uploads.insert(number, offset);
            }
        }
        let repositories = state(&registry, &known).map_err(|failure| format!("{failure:?}"))?;
        Ok((without_pull_times(repositories), uploads))
    }

    fn agrees(&self, found: &Seen, model: &Model, now: Now) -> bool {
        let (repositories, uploads) = seen(model);
        let alive = |number: &u64| model.upload_owner(*number, now).is_some();
        let expected: BTreeMap<u64, u64> = uploads.into_iter().filter(|(number, _)| alive(number)).collect();
        let as_expected = |(number, offset): (&u64, &u64)| match found.1.get(number) {
            Some(found) => found == offset,
            None => *offset == 0,
        };
        found.0 == repositories
            && expected.iter().all(as_expected)
            && found.1.keys().all(|number| expected.contains_key(number))
    }
}

fn seen(model: &Model) -> Seen {
    (without_pull_times(model.state()), model.open_uploads())
}

/// The states, without what a kill may lose.
pub(crate) fn without_pull_times(
    mut states: BTreeMap<RepositoryName, RepositoryState>,
) -> BTreeMap<RepositoryName, RepositoryState> {
    for image in states.values_mut().flat_map(|repository| &mut repository.images) {
        image.last_pull_ms = None;
    }
    states
}
