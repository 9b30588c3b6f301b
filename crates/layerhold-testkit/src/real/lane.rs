//! One thread of a process that is going to be killed, and what its parent knows of it.
//!
//! Both sides draw the same requests from the same numbers. The child says when one was answered, and a hash of the answer;
//! the parent asks the model and compares. What the child's successor needs to go on is small and travels as JSON.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arbitrary::{Arbitrary as _, Unstructured};
use layerhold::call::{Call, OperationId};
use layerhold::digest::{Algorithm, Digest};
use layerhold::name::RepositoryName;
use layerhold::registry::Registry;
use layerhold::upload::UploadId;
use serde::{Deserialize, Serialize};

use crate::fs::Rng;
use crate::model::{Answer, Limits, Model, Now, Refusal, RepositoryState, Terms};
use crate::operation::request::{Past, RepositoryRequest, Request, UploadPast};
use crate::operation::{Operation, pool};
use crate::perform::{Handles, perform, state};

use super::child::say;
use super::story::without_pull_times;

/// So many of the latest download tokens are still asked for.
const TOKENS: usize = 8;

/// What a child is told of a lane.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LaneOrders {
    /// Requests so far, so that no operation id is used twice.
    requests: u64,
    /// Digests of blobs that may be there.
    known: Vec<String>,
    /// How many uploads were ever begun, and those that are open.
    uploads: u64,
    open: Vec<OpenUpload>,
    /// Download tokens so far, and those that are still of interest.
    grants: u64,
    tokens: Vec<(u64, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenUpload {
    number: u64,
    id: [u8; 16],
    repository: u8,
    caller: u8,
    sha512: bool,
    content: u8,
    offset: u64,
}

/// What a child says of an answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acknowledged {
    answer: u64,
    upload: Option<(u64, [u8; 16])>,
    token: Option<(u64, String)>,
}

/// What a child finds in a lane's registry.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenInLane {
    repositories: u64,
    uploads: BTreeMap<u64, u64>,
}

/// The requests of one generation of a lane, drawn as they are needed.
struct Requests {
    operations: std::vec::IntoIter<Operation>,
    waiting: VecDeque<Request>,
}

impl Requests {
    fn new(seed: u64, generation: u64, lane: u64, count: usize) -> Self {
        let mut rng = Rng::new(seed ^ generation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (lane << 56));
        let mut operations = Vec::new();
        if generation == 0 {
            operations.push(Operation::CreateRepository { repository: 0, mutability: 0, sparse: false });
            operations.push(Operation::CreateRepository { repository: 1, mutability: 2, sparse: true });
        }
        while operations.len() < count {
            let bytes = pool::noise(rng.next(), 32);
            match Operation::arbitrary(&mut Unstructured::new(&bytes)) {
                // What concerns the whole engine would concern the other lanes.
                Ok(Operation::Repeat | Operation::AdvanceClock { .. } | Operation::Maintain) => {}
                Ok(Operation::Reopen { .. }) | Err(_) => {}
                // Pull times may be lost, so none is made.
                Ok(Operation::GetManifest { repository, image, .. }) => {
                    operations.push(Operation::GetManifest { repository, image, pull: false });
                }
                Ok(operation) => operations.push(operation),
            }
        }
        Self { operations: operations.into_iter(), waiting: VecDeque::new() }
    }

    fn next(&mut self, past: &mut Past) -> Option<Request> {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return Some(request);
            }
            self.waiting.extend(self.operations.next()?.requests(past));
        }
    }
}

/// The child's side.
pub(super) struct Worker {
    lane: u64,
    registry: Registry,
    handles: Handles,
    past: Past,
    orders: LaneOrders,
}

impl Worker {
    pub(super) fn new(lane: u64, registry: Registry, orders: LaneOrders) -> Self {
        let mut handles = Handles::default();
        for upload in &orders.open {
            handles.know_upload(upload.number, UploadId(upload.id));
        }
        for (number, token) in &orders.tokens {
            handles.know_download(*number, token.clone());
        }
        Self { lane, registry, handles, past: past(&orders), orders }
    }

    /// Everything that can be seen, as a hash; the text itself for whoever has to find out why it is another one.
    pub(super) fn look(&mut self) -> Result<(SeenInLane, String), String> {
        let known = self.orders.known.iter().map(|text| Digest::parse(text).map_err(|e| e.to_string()));
        let known = known.collect::<Result<BTreeSet<_>, _>>()?;
        let text = text(&state(&self.registry, &known).map_err(|failure| format!("{failure:?}"))?)?;
        let mut uploads = BTreeMap::new();
        for upload in &self.orders.open {
            let request =
                RepositoryRequest::UploadStatus { session: upload.number, caller: pool::principal(upload.caller) };
            let request = Request::Repository(pool::repository(upload.repository), request);
            let found = perform(&self.registry, &mut self.handles, &request, &Call::anonymous());
            if let Answer::Session { offset, .. } = found.map_err(|failure| format!("{failure:?}"))? {
                uploads.insert(upload.number, offset);
            }
        }
        Ok((SeenInLane { repositories: hash(&text), uploads }, text))
    }

    /// Makes the requests of a generation and says of each that it was answered. With `early` it says so before it asks, as
    /// no engine may.
    pub(super) fn work(mut self, seed: u64, generation: u64, count: usize, early: bool) -> Result<(), String> {
        let mut requests = Requests::new(seed, generation, self.lane, count);
        while let Some(request) = requests.next(&mut self.past) {
            self.orders.requests += 1;
            if early {
                say(&format!("early {}", self.lane));
            }
            let call = Call::anonymous().with_operation_id(operation_id(self.lane, self.orders.requests));
            let answer = perform(&self.registry, &mut self.handles, &request, &call)
                .map_err(|failure| format!("lane {} {request:?}: {failure:?}", self.lane))?;
            let mut told = Acknowledged { answer: hash(&comparable(&answer)), upload: None, token: None };
            match &request {
                Request::Repository(_, RepositoryRequest::BeginUpload { session, .. }) => {
                    told.upload = self.handles.upload_id(*session).map(|id| (*session, id.0));
                }
                Request::Repository(_, RepositoryRequest::GrantDownload { grant, .. }) => {
                    told.token = self.handles.download_token(*grant).map(|token| (*grant, token.to_owned()));
                }
                _ => {}
            }
            let told = serde_json::to_string(&told).map_err(|e| e.to_string())?;
            say(&format!("answered {} {told}", self.lane));
            self.past.note(&request, &answer);
        }
        Ok(())
    }
}

/// The parent's side.
pub(super) struct Lane {
    lane: u64,
    model: Model,
    past: Past,
    uploads: BTreeMap<u64, [u8; 16]>,
    tokens: BTreeMap<u64, String>,
    requests_made: u64,
    requests: Option<Requests>,
    /// The request that may have been cut, and the model had it not been.
    cut: Option<Box<(Request, Model)>>,
    /// Answers that were told before they were given, by a child that was told to lie.
    early: u64,
}

impl Lane {
    pub(super) fn new(lane: u64) -> Self {
        Self {
            lane,
            model: Model::new(Limits::ecr_private(), Terms::TEST),
            past: Past::default(),
            uploads: BTreeMap::new(),
            tokens: BTreeMap::new(),
            requests_made: 0,
            requests: None,
            cut: None,
            early: 0,
        }
    }

    /// What the next child is to know. Nothing of what it said before counts as unsaid after this.
    pub(super) fn orders(&mut self) -> LaneOrders {
        let models = [Some(&self.model), self.cut.as_ref().map(|cut| &cut.1)];
        let known: BTreeSet<_> = models.iter().flatten().flat_map(|model| blobs(model)).collect();
        let mut alive: BTreeMap<u64, u64> = models.iter().flatten().flat_map(|model| model.open_uploads()).collect();
        alive.extend(self.model.open_uploads());
        let open = alive.iter().filter_map(|(number, offset)| {
            let upload = self.past.uploads.get(usize::try_from(*number).ok()?)?;
            Some(OpenUpload {
                number: *number,
                id: *self.uploads.get(number)?,
                repository: upload.repository,
                caller: upload.caller,
                sha512: upload.algorithm == Algorithm::Sha512,
                content: upload.content,
                offset: *offset,
            })
        });
        let orders = LaneOrders {
            requests: self.requests_made,
            known: known.iter().map(Digest::to_string).collect(),
            uploads: self.past.uploads.len() as u64,
            open: open.collect(),
            grants: self.past.grants,
            tokens: self.tokens.iter().rev().take(TOKENS).map(|(number, token)| (*number, token.clone())).collect(),
        };
        // Both sides go on from what is written there and nothing else.
        self.past = past(&orders);
        self.uploads = orders.open.iter().map(|upload| (upload.number, upload.id)).collect();
        self.tokens = orders.tokens.iter().cloned().collect();
        orders
    }

    /// Takes in what a child found before it did anything.
    ///
    /// # Errors
    /// Where that is neither what was acknowledged nor that with the request that was cut.
    pub(super) fn seen(&mut self, seen: &SeenInLane, now: Now) -> Result<(), String> {
        let after = self.cut.take();
        let is_before = agrees(seen, &self.model, now);
        match after {
            _ if is_before => {}
            Some(after) if agrees(seen, &after.1, now) => {
                self.model = after.1;
            }
            after => {
                let after = after.map(|after| (after.0, text(&after.1.state())));
                let expected = text(&self.model.state())?;
                let uploads = self.model.open_uploads();
                return Err(format!(
                    "lane {} found={seen:?}\n expected: {expected} {uploads:?}\n or: {after:?}",
                    self.lane
                ));
            }
        }
        for number in self.model.open_uploads().into_keys().collect::<Vec<_>>() {
            if self.model.upload_owner(number, now).is_some() && !seen.uploads.contains_key(&number) {
                self.model.forget_upload(number);
            }
        }
        Ok(())
    }

    /// A child that was given [`Self::orders`] begins a generation.
    pub(super) fn begin(&mut self, seed: u64, generation: u64, count: usize) {
        self.requests = Some(Requests::new(seed, generation, self.lane, count));
        self.early = 0;
    }

    /// A child said that the next request was answered.
    pub(super) fn answered(&mut self, told: Acknowledged, now: Now) -> Result<(), String> {
        let requests = self.requests.as_mut().ok_or("an answer before anything was asked")?;
        let request = requests.next(&mut self.past).ok_or("more answers than requests")?;
        self.requests_made += 1;
        let answer = self.model.answer(&request, now);
        if hash(&comparable(&answer)) != told.answer {
            return Err(format!(
                "lane {} request {request:?}: the model answers {answer:?}, the engine not",
                self.lane
            ));
        }
        self.past.note(&request, &answer);
        self.uploads.extend(told.upload);
        self.tokens.extend(told.token);
        self.early = self.early.saturating_sub(1);
        Ok(())
    }

    /// A child that lies said that the next request was answered before it asked.
    pub(super) fn told_early(&mut self) {
        self.early += 1;
    }

    /// The child is gone.
    pub(super) fn ended(&mut self, now: Now) {
        let Some(mut requests) = self.requests.take() else { return };
        if let Some(request) = requests.next(&mut self.past) {
            self.requests_made += 1;
            let mut after = self.model.clone();
            after.answer(&request, now);
            if self.early > 0 {
                self.model = after;
            } else {
                self.cut = Some(Box::new((request, after)));
            }
        }
    }
}

fn operation_id(lane: u64, request: u64) -> OperationId {
    OperationId(((u128::from(lane) + 1) << 64 | u128::from(request)).to_be_bytes())
}

/// The past that both sides go on from: of uploads that have ended only their number is left.
fn past(orders: &LaneOrders) -> Past {
    let ended = UploadPast {
        repository: 0,
        caller: 0,
        algorithm: Algorithm::Sha256,
        content: 0,
        parts: Vec::new(),
        ended: true,
    };
    let mut uploads = vec![ended; usize::try_from(orders.uploads).unwrap_or(0)];
    for open in &orders.open {
        let Some(upload) = usize::try_from(open.number).ok().and_then(|number| uploads.get_mut(number)) else {
            continue;
        };
        let algorithm = if open.sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        // One part of no length, so that the next one begins where the session stands.
        let parts = vec![(open.offset, std::sync::Arc::default())];
        let (repository, caller, content) = (open.repository, open.caller, open.content);
        *upload = UploadPast { repository, caller, algorithm, content, parts, ended: false };
    }
    Past { uploads, grants: orders.grants }
}

fn agrees(seen: &SeenInLane, model: &Model, now: Now) -> bool {
    let alive = |number: &u64| model.upload_owner(*number, now).is_some();
    let expected: BTreeMap<u64, u64> = model.open_uploads().into_iter().filter(|(number, _)| alive(number)).collect();
    // A session without bytes may be gone.
    let as_expected =
        |(number, offset): (&u64, &u64)| seen.uploads.get(number).map_or(*offset == 0, |found| found == offset);
    text(&model.state()).is_ok_and(|text| hash(&text) == seen.repositories)
        && expected.iter().all(as_expected)
        && seen.uploads.keys().all(|number| expected.contains_key(number))
}

fn blobs(model: &Model) -> Vec<Digest> {
    model.state().into_values().flat_map(|repository| repository.blobs.into_keys()).collect()
}

/// What can be seen of a registry, in one text: bytes by their digest.
fn text(states: &BTreeMap<RepositoryName, RepositoryState>) -> Result<String, String> {
    let states = without_pull_times(states.clone());
    let mut text = String::new();
    for (name, RepositoryState { facts, tags, images, manifests, blobs, history }) in &states {
        for (digest, bytes) in manifests.iter().chain(blobs) {
            let found = Digest::of(digest.algorithm(), bytes);
            if found != *digest {
                return Err(format!("{name}: bytes of another digest asked={digest} found={found}"));
            }
        }
        let (manifests, blobs): (Vec<_>, Vec<_>) = (manifests.keys().collect(), blobs.keys().collect());
        text.push_str(&format!("{name} {facts:?} {tags:?} {images:?} {manifests:?} {blobs:?} {history:?}\n"));
    }
    Ok(text)
}

/// The answer in words that both sides find alike: of what stands in the way the engine names some.
fn comparable(answer: &Answer) -> String {
    match answer {
        Answer::Refused(Refusal::BlobReferenced { .. }) => "blob referenced".to_owned(),
        Answer::Refused(Refusal::ReferencedBy { .. }) => "referenced by".to_owned(),
        answer => format!("{answer:?}"),
    }
}

fn hash(text: &str) -> u64 {
    let digest = Digest::sha256(text.as_bytes()).to_string();
    digest.get(7..23).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}
