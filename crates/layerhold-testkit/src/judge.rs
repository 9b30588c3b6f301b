//! What may be found once an engine was cut off in the middle of a request.
//!
//! Everything that was acknowledged must be there, and the request that was cut whole or not at all. Then the client that
//! never saw an answer asks again under the same operation id and is told what it would have been told. What is exempt
//! from durability may be lost: an upload session without bytes, and pull times.

use std::collections::{BTreeMap, BTreeSet};

use layerhold::call::Call;
use layerhold::digest::Digest;
#[cfg(all(feature = "rocksdb", target_os = "linux"))]
use layerhold::error::Failure;
use layerhold::name::{Principal, RepositoryName};
use layerhold::options::Limits;

use crate::engine::TestEngine;
use crate::model::{Answer, Model, RepositoryState};
use crate::operation::pool::Content;
use crate::operation::request::{RepositoryRequest, Request};
use crate::perform::{Handles, Unread, perform, state_with};
use crate::runner::Runner;

/// What can be seen of a store: repositories, and the durable length of each upload.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    repositories: BTreeMap<RepositoryName, RepositoryState>,
    uploads: BTreeMap<u64, u64>,
}

/// What was true when an engine was cut off.
#[derive(Debug)]
pub struct Judge {
    before: Seen,
    /// The same with the request that was cut, and its answer.
    after: Option<(Seen, Answer)>,
    in_flight: Option<(Request, Call)>,
    sequence: u64,
    handles: Handles,
    limits: Limits,
    /// Whose each upload is, and through which repository it is asked for.
    owners: BTreeMap<u64, (RepositoryName, Principal)>,
    blobs_known: BTreeSet<Digest>,
    /// The content of a blob that may be found damaged.
    spoiled: Option<&'static Content>,
}

/// What is wrong with a store.
#[derive(Debug)]
pub struct Wrong {
    /// What was found.
    pub found: String,
    /// What was demanded.
    pub expected: String,
}

/// Which of the two states that may be found was found; both where the request that was cut shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Everything acknowledged, without the request that was cut.
    pub before: bool,
    /// With it.
    pub after: bool,
}

impl Found {
    /// Either will do.
    pub const EITHER: Self = Self { before: true, after: true };

    /// Whether this is found where `self` is demanded.
    pub fn admits(self, found: Self) -> bool {
        (self.before && found.before) || (self.after && found.after)
    }
}

impl Judge {
    /// With what `runner` knows, and the request that was cut if one was.
    pub fn new(runner: &Runner, in_flight: Option<(Request, Call)>) -> Self {
        let (before, now) = (&runner.model, runner.now());
        let after = in_flight.as_ref().map(|(request, _)| {
            let mut after = before.clone();
            let answer = after.answer(request, now);
            (after, answer)
        });
        let models: Vec<&Model> = after.iter().map(|(after, _)| after).chain([before]).collect();
        let owner = |number| models.iter().rev().find_map(|model| model.upload_owner(number, now));
        let owners = runner.uploads_begun().filter_map(|number| Some((number, owner(number)?))).collect();
        let states: Vec<Seen> = models.iter().map(|model| Seen::of(model, runner)).collect();
        let repositories = states.iter().flat_map(|seen| seen.repositories.values());
        let blobs_known = repositories.flat_map(|repository| repository.blobs.keys().copied()).collect();
        let mut states = states.into_iter().rev();
        Self {
            before: states.next().expect("the state before"),
            after: after.and_then(|(_, answer)| Some((states.next()?, answer))),
            in_flight,
            sequence: runner.acknowledged_sequence(),
            handles: runner.handles(),
            limits: runner.registry_limits(),
            owners,
            blobs_known,
            spoiled: None,
        }
    }

    /// Says nothing of some uploads.
    pub fn leave_out(&mut self, uploads: &[u64]) {
        self.owners.retain(|number, _| !uploads.contains(number));
        for seen in self.after.iter_mut().map(|(after, _)| after).chain([&mut self.before]) {
            seen.uploads.retain(|number, _| !uploads.contains(number));
        }
    }

    /// Takes the damage of one blob for what it should be.
    pub(crate) fn expect_spoiled(&mut self, content: Option<&'static Content>) {
        self.spoiled = content;
    }

    /// Takes over the upload ids and download tokens that the runner has got since.
    pub fn learn(&mut self, runner: &Runner) {
        self.handles = runner.handles();
    }

    /// The request that was cut.
    pub fn in_flight(&self) -> Option<&Request> {
        self.in_flight.as_ref().map(|(request, _)| request)
    }

    /// The sequence of the last change that was acknowledged.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Looks at everything in an engine that was opened on what is left.
    pub fn look(&self, test: &TestEngine) -> Result<Found, Wrong> {
        self.look_with(test, self.spoiled)
    }

    /// The same, and no damage is expected any more.
    pub(crate) fn look_again(&self, test: &TestEngine) -> Result<Found, Wrong> {
        self.look_with(test, None)
    }

    /// The same where reads may fail: the failure, if one did.
    #[cfg(all(feature = "rocksdb", target_os = "linux"))]
    pub(crate) fn look_unless_it_fails(&self, test: &TestEngine) -> Result<Result<Found, Failure>, Wrong> {
        match self.read(test, None) {
            Err(Unread::Failed(failure)) => Ok(Err(failure)),
            read => self.judge(test, &read.map_err(unreadable)?).map(Ok),
        }
    }

    fn look_with(&self, test: &TestEngine, spoiled: Option<&Content>) -> Result<Found, Wrong> {
        self.judge(test, &self.seen(test, spoiled)?)
    }

    fn judge(&self, test: &TestEngine, found: &Seen) -> Result<Found, Wrong> {
        if test.engine().sequence() < self.sequence {
            let found = format!("sequence {}", test.engine().sequence());
            return Err(Wrong { found, expected: format!("at least {}", self.sequence) });
        }
        let before = found.agrees(&self.before);
        let after = match &self.after {
            Some((after, _)) => found.agrees(after),
            None => before,
        };
        if !before && !after {
            let expected = format!("{:?}\n     or: {:?}", self.before, self.after);
            return Err(Wrong { found: format!("{found:?}"), expected });
        }
        Ok(Found { before, after })
    }

    /// The client asks once more under the same operation id, and then everything must be as if it had asked once.
    pub fn ask_again(&self, test: &TestEngine) -> Result<(), Wrong> {
        let (Some((request, call)), Some((after, answer))) = (&self.in_flight, &self.after) else { return Ok(()) };
        let Request::Repository(_, repository_request) = request else { return Ok(()) };
        if call.operation_id.is_none() || !self.can_be_asked_again(repository_request, answer) {
            return Ok(());
        }
        let registry = test.registry().with_limits(self.limits.clone());
        let mut handles = self.handles.clone();
        match perform(&registry, &mut handles, request, call) {
            Ok(again) if again == *answer => {}
            again => {
                return Err(Wrong { found: format!("{again:?} when asked again"), expected: format!("{answer:?}") });
            }
        }
        let found = self.seen(test, None)?;
        match found.agrees(after) {
            true => Ok(()),
            false => Err(Wrong { found: format!("{found:?} when asked again"), expected: format!("{after:?}") }),
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
                self.before.uploads.get(session).is_some_and(|offset| *offset > 0)
            }
            _ => false,
        };
        changes && !matches!(answer, Answer::Refused(_))
    }

    fn seen(&self, test: &TestEngine, spoiled: Option<&Content>) -> Result<Seen, Wrong> {
        self.read(test, spoiled).map_err(unreadable)
    }

    /// Everything that can be seen, without pull times, which may be lost.
    fn read(&self, test: &TestEngine, spoiled: Option<&Content>) -> Result<Seen, Unread> {
        // `registry` is silent where this fails.
        test.engine().registries(None, u32::MAX)?;
        let registry = test.registry().with_limits(self.limits.clone());
        let mut uploads = BTreeMap::new();
        let mut handles = self.handles.clone();
        for (number, (name, caller)) in &self.owners {
            let status = RepositoryRequest::UploadStatus { session: *number, caller: caller.clone() };
            let request = Request::Repository(name.clone(), status);
            if let Answer::Session { offset, .. } = perform(&registry, &mut handles, &request, &Call::anonymous())? {
                uploads.insert(*number, offset);
            }
        }
        let mut repositories = state_with(&registry, &self.blobs_known, spoiled)?;
        forget_pull_times(&mut repositories);
        Ok(Seen { repositories, uploads })
    }
}

impl Seen {
    fn of(model: &Model, runner: &Runner) -> Self {
        let mut repositories = model.state();
        forget_pull_times(&mut repositories);
        let mut uploads = model.open_uploads();
        uploads.retain(|number, _| model.upload_owner(*number, runner.now()).is_some());
        Self { repositories, uploads }
    }

    fn agrees(&self, expected: &Self) -> bool {
        let as_expected = |(number, offset): (&u64, &u64)| match self.uploads.get(number) {
            Some(found) => found == offset,
            None => *offset == 0,
        };
        self.repositories == expected.repositories
            && expected.uploads.iter().all(as_expected)
            && self.uploads.keys().all(|number| expected.uploads.contains_key(number))
    }
}

fn unreadable(unread: Unread) -> Wrong {
    Wrong { found: format!("{unread:?}"), expected: "can be read".to_owned() }
}

fn forget_pull_times(states: &mut BTreeMap<RepositoryName, RepositoryState>) {
    for image in states.values_mut().flat_map(|repository| &mut repository.images) {
        image.last_pull_ms = None;
    }
}
