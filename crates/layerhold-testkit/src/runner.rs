//! Runs operations on an engine and on the model side by side, and compares what they say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use layerhold::call::{Call, OperationId};
use layerhold::check::Level;
use layerhold::clock::Clock;
use layerhold::digest::Digest;
use layerhold::engine::Engine;
use layerhold::error::Failure;
use layerhold::options::Limits as EngineLimits;
use layerhold::registry::Registry;

use crate::engine::TestEngine;
use crate::model::{Answer, Limits, Model, Now, Terms};
use crate::operation::request::{Past, RegistryRequest, RepositoryRequest, Request};
use crate::operation::{Operation, Script};
use crate::perform::{Handles, perform};
use crate::sound::sound;

/// An engine and the model that says what it must answer.
pub struct Runner {
    /// The engine under test.
    pub test: TestEngine,
    /// What it must answer.
    pub model: Model,
    limits: EngineLimits,
    past: Past,
    handles: Handles,
    latest: Option<Change>,
    requests: u64,
    own_operation_ids: bool,
    acknowledged: u64,
    engine_ms: u64,
    trace: Vec<String>,
}

/// A change that was made under an operation id, so that it can be asked for again.
struct Change {
    request: Request,
    call: Call,
    answer: Answer,
}

/// How a request ended.
#[derive(Debug)]
pub enum Ended {
    /// Engine and model said the same.
    Agreed(Answer),
    /// The storage under the engine failed; the model was not asked.
    Failed {
        /// What was asked.
        request: Request,
        /// By whom, and under which operation id.
        call: Call,
        /// What the engine said.
        failure: Failure,
    },
}

/// Engine and model disagree.
#[derive(Debug)]
pub struct Disagreement {
    /// What was asked, what each said, and what was asked before.
    pub report: String,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.report)
    }
}

impl Runner {
    /// Both sides, empty.
    pub fn new(test: TestEngine, small_limits: bool) -> Self {
        let limits = if small_limits { Limits::small() } else { Limits::ecr_private() };
        test.registry();
        Self {
            test,
            model: Model::new(limits, Terms::TEST),
            limits: engine_limits(limits),
            past: Past::default(),
            handles: Handles::default(),
            latest: None,
            requests: 0,
            own_operation_ids: !small_limits,
            acknowledged: 0,
            engine_ms: 0,
            trace: Vec::new(),
        }
    }

    /// Runs a whole script; the number of requests.
    pub fn run(&mut self, script: &Script) -> Result<u64, Disagreement> {
        for operation in &script.operations {
            if let Some(Ended::Failed { request, failure, .. }) = self.step(operation)?.pop() {
                return Err(self.disagreement(&request, &format!("failure: {failure:?}"), "no failure"));
            }
        }
        self.compare_states()?;
        self.check_soundness(Level::Bytes)?;
        Ok(self.requests)
    }

    /// Lets the engine prove the invariants of its rows and files.
    pub fn check_soundness(&self, level: Level) -> Result<(), Disagreement> {
        match sound(self.test.engine(), level) {
            Ok(_) => Ok(()),
            Err(wrong) => {
                let request = Request::Registry(RegistryRequest::Maintain);
                Err(self.disagreement(&request, &format!("the check finds\n{wrong}"), "a sound store"))
            }
        }
    }

    /// How many requests were made so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Runs one operation, up to the first request that fails for its storage.
    pub fn step(&mut self, operation: &Operation) -> Result<Vec<Ended>, Disagreement> {
        let mut ended = Vec::new();
        for request in self.requests_of(operation) {
            let end = self.request(&request)?;
            let failed = matches!(end, Ended::Failed { .. });
            ended.push(end);
            if failed {
                break;
            }
        }
        Ok(ended)
    }

    /// What `operation` stands for now. Each request is to be made before the next operation is asked about.
    pub fn requests_of(&mut self, operation: &Operation) -> Vec<Request> {
        operation.requests(&mut self.past)
    }

    /// Under which name and operation id the next request is going to be made.
    pub fn next_call(&self) -> Call {
        // In every script either the caller or the engine draws the operation ids.
        match self.own_operation_ids {
            false => Call::anonymous(),
            true => Call::anonymous().with_operation_id(OperationId(u128::from(self.requests + 1).to_be_bytes())),
        }
    }

    /// Makes one request of both sides.
    pub fn request(&mut self, request: &Request) -> Result<Ended, Disagreement> {
        let call = self.next_call();
        self.request_by(request, call)
    }

    /// Makes a request that failed once more, as the same call.
    pub fn ask_again(&mut self, request: &Request, call: &Call) -> Result<Ended, Disagreement> {
        self.request_by(request, call.clone())
    }

    fn request_by(&mut self, request: &Request, call: Call) -> Result<Ended, Disagreement> {
        self.requests += 1;
        self.trace.push(format!("{request:?}"));
        let to_the_whole = match request {
            Request::Registry(RegistryRequest::Repeat) => return self.repeat(),
            Request::Registry(RegistryRequest::AdvanceClock { ms }) => {
                self.test.clock().advance(*ms);
                // Operation ids are forgotten after their term.
                self.latest = None;
                Ok(())
            }
            Request::Registry(RegistryRequest::Maintain) => self.test.engine().maintain().map(drop),
            Request::Registry(RegistryRequest::Reopen { close }) => self.reopen(request, *close)?,
            _ => Ok(()),
        };
        if let Err(failure) = to_the_whole {
            return Ok(Ended::Failed { request: request.clone(), call, failure });
        }
        let before = self.test.engine().sequence();
        let answer = match perform(&self.registry(), &mut self.handles, request, &call) {
            Ok(answer) => answer,
            Err(failure) => return Ok(Ended::Failed { request: request.clone(), call, failure }),
        };
        self.acknowledged = self.test.engine().sequence();
        let changed = self.acknowledged != before;
        let now = self.now();
        self.engine_ms = now.engine_ms;
        let expected = self.model.answer(request, now);
        if !agree(&answer, &expected) {
            return Err(self.disagreement(request, &format!("{answer:?}"), &format!("{expected:?}")));
        }
        if changed && never_changes(&answer) && is_one_change(request) {
            return Err(self.disagreement(request, "a change in the log", "no change"));
        }
        self.past.note(request, &answer);
        if changed {
            let refused = matches!(answer, Answer::Refused(_));
            let repeatable = call.operation_id.is_some() && !refused && is_one_change(request);
            self.latest = repeatable.then(|| Change { request: request.clone(), call, answer: answer.clone() });
        }
        Ok(Ended::Agreed(answer))
    }

    /// The same call with the same operation id: the first answer again, and nothing happens twice.
    fn repeat(&mut self) -> Result<Ended, Disagreement> {
        let Some(Change { request, call, answer }) = &self.latest else { return Ok(Ended::Agreed(Answer::Done)) };
        let before = self.test.engine().sequence();
        let again = match perform(&self.registry(), &mut self.handles, request, call) {
            Ok(again) => again,
            Err(failure) => {
                return Ok(Ended::Failed { request: request.clone(), call: call.clone(), failure });
            }
        };
        if again != *answer || self.test.engine().sequence() != before {
            let (request, answer) = (request.clone(), answer.clone());
            return Err(self.disagreement(
                &request,
                &format!("{again:?} when repeated"),
                &format!("{answer:?}, as before"),
            ));
        }
        Ok(Ended::Agreed(again))
    }

    fn reopen(&mut self, request: &Request, close: bool) -> Result<Result<(), Failure>, Disagreement> {
        let (sequence, time_ms) = (self.test.engine().sequence(), self.test.engine().now_ms());
        let opened = if close { self.test.reopen() } else { self.test.kill().map_err(Failure::from) };
        if opened.is_err() {
            return Ok(opened);
        }
        if self.test.engine().sequence() != sequence {
            let found = self.test.engine().sequence();
            return Err(self.disagreement(request, &format!("sequence {found}"), &format!("sequence {sequence}")));
        }
        if close && self.test.engine().now_ms() < time_ms {
            let found = self.test.engine().now_ms();
            return Err(self.disagreement(request, &format!("engine time {found}"), &format!("at least {time_ms}")));
        }
        if !close {
            self.forget_what_was_never_durable()?;
        }
        Ok(Ok(()))
    }

    /// A kill or a power cut may take what is exempt from durability: an upload session that was begun and took no bytes,
    /// and pull times. The model follows the engine there.
    pub fn forget_what_was_never_durable(&mut self) -> Result<(), Disagreement> {
        let registry = self.registry();
        let now = self.now();
        for (number, offset) in self.model.open_uploads() {
            let Some((name, caller)) = self.model.upload_owner(number, now) else { continue };
            let request = RepositoryRequest::UploadStatus { session: number, caller };
            let request = Request::Repository(name, request);
            let found = perform(&registry, &mut self.handles, &request, &Call::anonymous());
            if offset == 0 && found.is_ok_and(|answer| matches!(answer, Answer::Refused(_))) {
                self.model.forget_upload(number);
            }
        }
        let mut later = None;
        for (name, state) in self.model.state() {
            for image in state.images.iter().filter(|image| image.last_pull_ms.is_some()) {
                let found = self.handles.last_pull_ms(&registry.repository(&name), &image.digest);
                if found > image.last_pull_ms {
                    later = Some((name.clone(), image.digest, found));
                }
                self.model.set_last_pull(&name, &image.digest, found);
            }
        }
        match later {
            Some(later) => {
                let request = Request::Registry(RegistryRequest::Reopen { close: false });
                Err(self.disagreement(&request, &format!("a later pull time {later:?}"), "an earlier one or none"))
            }
            None => Ok(()),
        }
    }

    /// The upload ids and download tokens so far.
    pub fn handles(&self) -> Handles {
        self.handles.clone()
    }

    /// The numbers of all uploads that were begun.
    pub fn uploads_begun(&self) -> std::ops::Range<u64> {
        0..self.past.uploads.len() as u64
    }

    /// The limits of the script.
    pub fn registry_limits(&self) -> EngineLimits {
        self.limits.clone()
    }

    /// What was done beside the requests is acknowledged as well.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = self.test.engine().sequence();
        self.engine_ms = self.now().engine_ms;
    }

    /// The sequence of the last change that an answer acknowledged.
    pub fn acknowledged_sequence(&self) -> u64 {
        self.acknowledged
    }

    /// Compares everything that can be seen.
    pub fn compare_states(&mut self) -> Result<(), Disagreement> {
        let expected = self.model.state();
        let blobs_known = expected.values().flat_map(|state| state.blobs.keys().copied()).collect();
        let found = crate::perform::state(&self.registry(), &blobs_known).map_err(|failure| {
            self.disagreement(
                &Request::Registry(RegistryRequest::Maintain),
                &format!("failure: {failure:?}"),
                "a state",
            )
        })?;
        if found == expected {
            return Ok(());
        }
        let request = Request::Registry(RegistryRequest::ListRepositories { limit: 1_000 });
        let (found, expected) = difference(&found, &expected);
        Err(self.disagreement(&request, &found, &expected))
    }

    /// The registry, with the limits of the script.
    pub fn registry(&self) -> Registry {
        self.test.registry().with_limits(self.limits.clone())
    }

    /// The two times that the engine goes by.
    pub fn now(&self) -> Now {
        // Where an opening was cut off there is no engine to ask, and no time has passed since.
        let engine_ms = self.test.opened().map_or(self.engine_ms, Engine::now_ms);
        Now { wall_ms: self.test.clock().wall_ms(), engine_ms }
    }

    /// A report of what was asked so far, with what each side says now.
    pub fn disagreement(&self, request: &Request, engine: &str, model: &str) -> Disagreement {
        let mut report = String::from("the engine and the model disagree\n");
        for (number, line) in self.trace.iter().enumerate() {
            let _ = writeln!(report, "{number:4} {}", shorten(line));
        }
        let _ = write!(
            report,
            "request: {}\n engine: {}\n  model: {}",
            shorten(&format!("{request:?}")),
            shorten(engine),
            shorten(model)
        );
        Disagreement { report }
    }
}

/// The engine's limits for the model's.
fn engine_limits(limits: Limits) -> EngineLimits {
    let mut engine = EngineLimits::ecr_private();
    engine.repositories = limits.repositories;
    engine.images = limits.images;
    engine.tags_per_image = u32::try_from(limits.tags_per_image).unwrap_or(u32::MAX);
    engine.upload_parts = u32::try_from(limits.upload_parts).unwrap_or(u32::MAX);
    engine.blob_bytes = limits.blob_bytes;
    engine.part_bytes = limits.part_bytes;
    engine
}

/// Whether two answers are the same. Of the manifests that stand in the way of a deletion the engine names some.
fn agree(engine: &Answer, model: &Answer) -> bool {
    use crate::model::Refusal::{BlobReferenced, ReferencedBy};
    let some_of = |some: &[Digest], all: &[Digest]| !some.is_empty() && some.iter().all(|digest| all.contains(digest));
    match (engine, model) {
        (Answer::Refused(BlobReferenced { manifests: some }), Answer::Refused(BlobReferenced { manifests: all }))
        | (Answer::Refused(ReferencedBy { manifests: some }), Answer::Refused(ReferencedBy { manifests: all })) => {
            some_of(some, all)
        }
        _ => engine == model,
    }
}

/// Answers after which the change log must stand where it stood.
fn never_changes(answer: &Answer) -> bool {
    use crate::model::Refusal::UploadDigestMismatch;
    match answer {
        Answer::Refused(refusal) => !matches!(refusal, UploadDigestMismatch { .. }),
        Answer::Blobs(_) | Answer::Bytes(_) | Answer::Manifest { .. } | Answer::Descriptor { .. } | Answer::Tags(_) => {
            true
        }
        Answer::Images(_) | Answer::ImageDetails(_) | Answer::Referrers(_) | Answer::History(_) => true,
        _ => false,
    }
}

/// Whether a request is one change at the most, which an operation id can stand for.
fn is_one_change(request: &Request) -> bool {
    !matches!(request, Request::Repository(_, RepositoryRequest::StreamUpload { .. }))
}

type States = BTreeMap<layerhold::name::RepositoryName, crate::model::RepositoryState>;

/// The first repository that differs, as both sides see it, without the bytes.
fn difference(found: &States, expected: &States) -> (String, String) {
    let names = found.keys().chain(expected.keys());
    let differing = names.into_iter().find(|name| found.get(*name) != expected.get(*name));
    let describe = |states: &States| {
        let Some(state) = differing.and_then(|name| states.get(name)) else { return "no such repository".to_owned() };
        let blobs: Vec<_> = state.blobs.iter().map(|(digest, bytes)| (digest, bytes.len())).collect();
        let manifests: Vec<_> = state.manifests.iter().map(|(digest, bytes)| (digest, bytes.len())).collect();
        format!(
            "{:?}\n tags {:?}\n images {:?}\n blobs {blobs:?}\n manifests {manifests:?}\n history {:?}",
            state.facts, state.tags, state.images, state.history
        )
    };
    (describe(found), describe(expected))
}

/// A line without the long runs of numbers that bytes are printed as.
pub(crate) fn shorten(line: &str) -> String {
    let mut short = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("[") {
        let (before, list) = rest.split_at(at + 1);
        short.push_str(before);
        let numbers = list.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ').unwrap_or(list.len());
        if numbers > 60 {
            let _ = write!(short, "{}.. {} bytes ..", &list[..12], list[..numbers].matches(',').count() + 1);
            rest = &list[numbers..];
        } else {
            rest = list;
        }
    }
    short.push_str(rest);
    short
}
