//! One failing call in a workload over the whole engine, or in the recovery of what a workload left.
//!
//! What must hold then:
//! - A request that meets the failure succeeds as if nothing had happened, or fails as storage fails: with a kind that fits
//!   the failure, never with an answer about the registry, never with damage that nobody did.
//! - Certainly failed means absent: the client asks again, and is served or told that the store takes no more writes. An
//!   unknown outcome is the last change that is acknowledged before the store is opened again.
//! - Reads show what was acknowledged, all along.
//! - A file whose sync failed is not synced again.
//! - Opened again, in whatever way the machine ended, everything acknowledged is there; a request of unknown outcome is
//!   there whole or not at all, and asking again under its operation id gives the answer that it would have had.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::engine::OpenError;
use layerhold::error::{ErrorKind, Failure as EngineFailure};
use layerhold::name::RegistryName;
use layerhold::recovery::RecoveryError;
use layerhold::store::fs::FileSystem as _;

use crate::engine::{REGISTRY, TestEngine, current};
use crate::fs::{Call as FsCall, CrashPolicy, FailingFileSystem, Failure, Fault, Repeat, SimFileSystem, Site};
use crate::judge::{Found, Judge};
use crate::model::{Answer, Refusal};
use crate::operation::Operation;
use crate::operation::request::{RegistryRequest, RepositoryRequest, Request, StreamFinish};
use crate::perform::perform;
use crate::runner::{Ended, Runner};
use crate::sound::sound;

/// Short segments, so that the calls of changing them are made.
const SEGMENT_BYTES: u64 = 16 << 10;

/// No run makes nearly as many calls: one that does spins.
const CALLS_MAX: u64 = 200_000;

/// What one run with one fault came to.
#[derive(Debug, Default)]
pub struct Ran {
    /// Whether there were as many calls as the fault waits for.
    pub reached: bool,
    /// Whether a call failed.
    pub fired: bool,
    /// Where calls were made, and how often one failed there.
    pub sites: BTreeMap<Site, u64>,
    /// Requests that failed, by outcome.
    pub failed: u64,
    /// Requests whose outcome was unknown.
    pub unknown: u64,
    /// What is wrong.
    pub violations: Vec<String>,
}

/// When the fault is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// While the workload runs.
    Work,
    /// While what it left is opened after a kill.
    Recovery,
    /// While what it left, without its file FORMAT, is restored.
    Restore,
    /// While such a restore, which was cut off before it took its plan away, is made again.
    RestoreAgain,
    /// While the store is made.
    Making,
}

struct Scene {
    what: String,
    sim: SimFileSystem,
    failing: FailingFileSystem,
    runner: Runner,
    fault: Fault,
    ran: Ran,
    /// The request whose outcome is unknown.
    unknown: Option<(Request, Call)>,
    /// Uploads of which it is not said what a failure leaves of them in this process.
    in_doubt: Vec<u64>,
    /// Uploads of which nothing is said at the end: a failed sync ended them, and where even their end could not be
    /// committed they are there again; or a body of two commits failed between the two.
    lost: Vec<u64>,
}

/// Runs `operations` with one fault.
///
/// # Panics
/// When the store cannot be made.
pub fn run(name: &str, operations: &[Operation], fault: Fault, phase: Phase) -> Ran {
    let sim = SimFileSystem::new(fault.nth);
    let failing = FailingFileSystem::over(&sim);
    let what = format!("{name}, {phase:?}, {fault:?}");
    if phase == Phase::Making {
        failing.arm(fault);
    }
    let made = TestEngine::try_memory_through(sim.clone(), Arc::new(failing.clone()), SEGMENT_BYTES);
    if phase == Phase::Making {
        failing.disarm();
    }
    let test = match made {
        Ok(test) => test,
        Err(error) => return not_made(&what, &error, fault, &failing),
    };
    let test = match registry_made(test, fault, &failing) {
        Ok(test) => test,
        Err(wrong) => return Ran { violations: vec![format!("{what}: {wrong}")], ..Ran::default() },
    };
    let runner = Runner::new(test, false);
    let mut scene = Scene {
        what,
        sim,
        failing,
        runner,
        fault,
        ran: Ran::default(),
        unknown: None,
        in_doubt: Vec::new(),
        lost: Vec::new(),
    };
    if phase == Phase::Work {
        scene.failing.arm(fault);
    }
    let went = scene.work(operations);
    let went = went.and_then(|()| match phase {
        Phase::Recovery => scene.recover(),
        Phase::Restore => scene.restore(),
        Phase::RestoreAgain => scene.restore_again(),
        Phase::Work | Phase::Making => Ok(()),
    });
    if let Err(wrong) = went.and_then(|()| scene.judge_all()) {
        let text = format!("{}: {wrong}", scene.what);
        scene.ran.violations.push(text);
    }
    for path in scene.failing.synced_again() {
        let text = format!("{}: a file was synced after a failed sync path={}", scene.what, path.display());
        scene.ran.violations.push(text);
    }
    scene.ran.sites = scene.failing.sites();
    scene.ran.reached = scene.failing.reached();
    scene.ran.fired = scene.failing.fired() > 0;
    scene.ran
}

/// What is left of a store that could not be made holds nothing that was acknowledged.
fn not_made(what: &str, error: &OpenError, fault: Fault, failing: &FailingFileSystem) -> Ran {
    let mut ran = Ran {
        reached: failing.reached(),
        fired: failing.fired() > 0,
        sites: failing.sites(),
        failed: 1,
        ..Ran::default()
    };
    if !ran.fired || !fits(error.kind(), fault.failure, failing, false) {
        ran.violations.push(format!("{what}: a store is not made: {error:?}"));
    }
    ran
}

/// A store whose making met a failure may be made and take no change: opened again it does.
fn registry_made(mut test: TestEngine, fault: Fault, failing: &FailingFileSystem) -> Result<TestEngine, String> {
    let name = RegistryName::parse(REGISTRY).map_err(|error| error.to_string())?;
    match test.engine().create_registry(&name, &Call::anonymous()) {
        Ok(_) => Ok(test),
        Err(failure) if fits(failure.kind(), fault.failure, failing, false) => {
            test.kill().map_err(|error| format!("a new store does not open: {error:?}"))?;
            Ok(test)
        }
        Err(failure) => Err(format!("{:?} is no answer to this failure: {failure:?}", failure.kind())),
    }
}

impl Scene {
    /// Runs the workload to its end or to where no engine is open any more.
    fn work(&mut self, operations: &[Operation]) -> Result<(), String> {
        for operation in operations {
            for request in self.runner.requests_of(operation) {
                if request.session().is_some_and(|session| self.in_doubt.contains(&session)) {
                    continue;
                }
                if matches!(request, Request::Registry(RegistryRequest::Reopen { .. })) {
                    // What was in doubt is decided by opening; that is judged at the end, so the workload stops before it.
                    if self.unknown.is_some() {
                        return Ok(());
                    }
                    self.failing.forget_failed_syncs();
                }
                self.ask(&request)?;
                if self.runner.test.opened().is_none() {
                    return Ok(());
                }
                if self.failing.all_calls() > CALLS_MAX {
                    return Err("goes on calling".to_owned());
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, request: &Request) -> Result<(), String> {
        let sequence = self.runner.test.engine().sequence();
        match self.runner.request(request) {
            Err(wrong) => Err(wrong.to_string()),
            Ok(Ended::Agreed(_)) if self.unknown.is_some() && self.runner.test.engine().sequence() != sequence => {
                Err(format!("a change was acknowledged after an outcome that is unknown: {request:?}"))
            }
            Ok(Ended::Agreed(_)) => Ok(()),
            Ok(Ended::Failed { request, call, failure }) => self.failed(request, call, &failure),
        }
    }

    fn fits(&self, kind: ErrorKind) -> bool {
        fits(kind, self.fault.failure, &self.failing, self.unknown.is_some())
    }

    fn failed(&mut self, request: Request, call: Call, failure: &EngineFailure) -> Result<(), String> {
        self.ran.failed += 1;
        let kind = failure.kind();
        if !self.fits(kind) && !speaks_of_an_earlier_one(failure) {
            return Err(format!("{kind:?} is no answer to this failure: {failure:?} of {request:?}"));
        }
        if self.failing.fired() == 0 {
            return Err(format!("failed without a failing call: {failure:?} of {request:?}"));
        }
        if matches!(failure, EngineFailure::OutcomeUnknown { .. }) {
            self.ran.unknown += 1;
            if self.unknown.is_some() {
                return Err("a second outcome is unknown before the store was opened again".to_owned());
            }
            let session = request.session();
            self.in_doubt.extend(session);
            if is_body_that_commits_twice(&request) {
                self.lost.extend(session);
            }
            self.unknown = Some((request, call));
            return Ok(());
        }
        if self.runner.test.opened().is_none() {
            return Ok(());
        }
        // Certainly absent: the client asks again. A session may have lost the bytes that it had not acknowledged, and its
        // place in this process; whoever streams begins again from what is durable.
        let session = request.session();
        if let (Some(session), true) = (session, is_body_that_commits_twice(&request)) {
            self.in_doubt.push(session);
            self.lost.push(session);
            return Ok(());
        }
        // A failed sync costs the session, as the file behind it may have lost anything; where its end could not be
        // committed for certain, it may be there again.
        let sync = matches!(failure, EngineFailure::Storage(error) if error.is_failed_sync());
        if sync {
            self.lost.extend(session);
        }
        if let Some(session) = session
            && self.session_is_gone(session)?
        {
            self.runner.model.forget_upload(session);
            self.in_doubt.push(session);
            return if sync { Ok(()) } else { Err(format!("a session went without a failed sync: {failure:?}")) };
        }
        if matches!(request, Request::Registry(RegistryRequest::Reopen { .. })) {
            self.failing.forget_failed_syncs();
        }
        match self.runner.ask_again(&request, &call) {
            Ok(Ended::Failed { failure: EngineFailure::OutcomeUnknown { .. }, .. }) if self.unknown.is_none() => {
                self.ran.unknown += 1;
                self.in_doubt.extend(session);
                self.unknown = Some((request, call));
                Ok(())
            }
            Ok(Ended::Failed { failure, .. }) if !self.fits(failure.kind()) && !speaks_of_an_earlier_one(&failure) => {
                Err(format!("{:?} is no answer to this failure: {failure:?} of {request:?}", failure.kind()))
            }
            Ok(Ended::Failed { .. }) => {
                self.in_doubt.extend(session);
                Ok(())
            }
            Ok(Ended::Agreed(_)) => Ok(()),
            Err(wrong) => Err(format!("asked again after {failure:?}: {wrong}")),
        }
    }

    /// Whether the engine knows nothing of an upload that the model knows.
    fn session_is_gone(&self, session: u64) -> Result<bool, String> {
        let Some((name, caller)) = self.runner.model.upload_owner(session, self.runner.now()) else { return Ok(false) };
        let request = Request::Repository(name, RepositoryRequest::UploadStatus { session, caller });
        match perform(&self.runner.registry(), &mut self.runner.handles(), &request, &Call::anonymous()) {
            Ok(answer) => Ok(answer == Answer::Refused(Refusal::UploadNotFound)),
            Err(failure) if self.fits(failure.kind()) => Ok(false),
            Err(failure) => Err(format!("status of an upload after a failure: {failure:?}")),
        }
    }

    /// Opens what the workload left with the fault in the way, until it opens.
    fn recover(&mut self) -> Result<(), String> {
        self.failing.forget_failed_syncs();
        self.failing.arm(self.fault);
        // Wherever the fault hits, the next opening finds what this one left.
        let opened = self.runner.test.kill();
        self.failing.disarm();
        self.failing.forget_failed_syncs();
        match opened {
            Err(error) if !self.fits(error.kind()) => {
                return Err(format!("{:?} is no answer to this failure: {error:?} of opening", error.kind()));
            }
            Err(_) if self.failing.fired() == 0 => return Err("does not open, without a failing call".to_owned()),
            Err(_) => self.runner.test.kill().map_err(|error| format!("does not open again: {error:?}"))?,
            Ok(()) => {}
        }
        Ok(())
    }

    /// Takes FORMAT away and lets an operator bring the store back with the fault in the way, until it is back.
    fn restore(&mut self) -> Result<(), String> {
        self.take_format()?;
        self.restore_with_the_fault()
    }

    /// The same for a restore that begins again, because the first one could not take its plan away.
    fn restore_again(&mut self) -> Result<(), String> {
        self.take_format()?;
        let plan_stays = Fault { call: Some(FsCall::RemoveFile), nth: 1, failure: Failure::Eio, repeat: Repeat::Once };
        self.failing.arm(plan_stays);
        let cut_off = self.runner.test.restore();
        self.failing.disarm();
        if cut_off.is_ok() {
            return Err("is restored, though its plan was not taken away".to_owned());
        }
        self.restore_with_the_fault()
    }

    fn take_format(&self) -> Result<(), String> {
        let taken = self.sim.remove_file(Path::new("FORMAT")).and_then(|()| self.sim.sync_dir(Path::new("")));
        taken.map_err(|error| format!("FORMAT is not taken away: {error}"))
    }

    fn restore_with_the_fault(&mut self) -> Result<(), String> {
        self.failing.forget_failed_syncs();
        self.failing.arm(self.fault);
        let restored = self.runner.test.restore();
        self.failing.disarm();
        self.failing.forget_failed_syncs();
        match restored {
            Ok(()) => {}
            Err(error) if self.failing.fired() == 0 || !self.fits(error.kind()) => {
                return Err(format!("{:?} is no answer to this failure: {error:?} of restoring", error.kind()));
            }
            Err(_) => match self.runner.test.restore() {
                Ok(()) | Err(RecoveryError::Sound) => {}
                Err(error) => return Err(format!("is not restored again: {error:?}")),
            },
        }
        self.runner.test.kill().map_err(|error| format!("restored, does not open: {error:?}"))
    }

    /// Looks at the engine as it stands, and at what every way of ending leaves.
    fn judge_all(&mut self) -> Result<(), String> {
        self.failing.disarm();
        let kinds = |wrong: crate::judge::Wrong| format!("found {}\nexpected {}", wrong.found, wrong.expected);
        if self.runner.test.opened().is_some() {
            let mut judge = Judge::new(&self.runner, None);
            judge.leave_out(&self.lost);
            judge.look(&self.runner.test).map_err(|wrong| format!("as it stands: {}", kinds(wrong)))?;
            is_sound(&self.runner.test).map_err(|wrong| format!("as it stands: {wrong}"))?;
        }
        let demanded = match self.unknown {
            Some(_) => Found::EITHER,
            None => Found { before: true, after: false },
        };
        let mut judge = Judge::new(&self.runner, self.unknown.clone());
        judge.leave_out(&self.lost);
        let Some(table) = self.runner.test.table() else { return Ok(()) };
        let ends = [
            ("killed", self.sim.kill()),
            ("cut, all kept", self.sim.crash(CrashPolicy::KeepAll)),
            ("cut, nothing kept", self.sim.crash(CrashPolicy::DropUnsynced)),
            ("cut, some kept", self.sim.crash(CrashPolicy::Random(self.fault.nth))),
        ];
        for (number, (end, fs)) in ends.into_iter().enumerate() {
            let kept = table.crashed_after([0, usize::MAX][number % 2]);
            let shared = Arc::new(Mutex::new(kept));
            let test = self.runner.test.on(fs.clone(), Arc::clone(&shared));
            let test = test.map_err(|error| format!("{end}: does not open: {error:?}"))?;
            let found = judge.look(&test).map_err(|wrong| format!("{end}: {}", kinds(wrong)))?;
            if !demanded.admits(found) {
                return Err(format!("{end}: a change that certainly failed is there"));
            }
            is_sound(&test).map_err(|wrong| format!("{end}: {wrong}"))?;
            // What was shown may be relied on: a power cut now takes nothing of it.
            let table = Arc::new(Mutex::new(current(&shared).crashed()));
            let again = self.runner.test.on(fs.crash(CrashPolicy::DropUnsynced), table);
            let again = again.map_err(|error| format!("{end}, opened, cut: does not open: {error:?}"))?;
            let shown = judge.look(&again).map_err(|wrong| format!("{end}, opened, cut: {}", kinds(wrong)))?;
            if !found.admits(shown) {
                return Err(format!("{end}: what was shown is gone after a power cut"));
            }
            is_sound(&again).map_err(|wrong| format!("{end}, opened, cut: {wrong}"))?;
            judge.ask_again(&test).map_err(|wrong| format!("{end}: {}", kinds(wrong)))?;
            is_sound(&test).map_err(|wrong| format!("{end}, asked again: {wrong}"))?;
        }
        Ok(())
    }
}

fn is_sound(test: &TestEngine) -> Result<(), String> {
    sound(test.engine(), Level::Bytes).map(drop).map_err(|found| format!("the check finds\n{found}"))
}

/// So many failed syncs end all writing.
const FAILED_SYNCS_MAX: u64 = 3;

/// Whether the journal could not be changed as it had to be: it is opened again before it takes more.
fn has_failed_in_the_journal(failing: &FailingFileSystem) -> bool {
    use crate::fs::Call;
    let changes =
        [Call::CreateNew, Call::RemoveFile, Call::Rename, Call::SyncDir, Call::Write, Call::SetLen, Call::SyncData];
    let failed = |(site, failed): (&Site, &u64)| {
        *failed > 0 && site.class.starts_with("journal") && changes.contains(&site.call)
    };
    failing.sites().iter().any(failed)
}

/// Whether an error of this kind may follow from this failure of calls.
fn fits(kind: ErrorKind, failure: Failure, failing: &FailingFileSystem, unknown: bool) -> bool {
    match kind {
        ErrorKind::NoSpace => failure == Failure::Enospc,
        ErrorKind::Internal => failure != Failure::Enospc,
        // The journal may or may not hold what it was to write.
        ErrorKind::Indeterminate => failing.fired() > 0,
        ErrorKind::ReadOnly => {
            failure == Failure::Erofs
                || unknown
                || failing.syncs_failed() >= FAILED_SYNCS_MAX
                || has_failed_in_the_journal(failing)
        }
        _ => false,
    }
}

/// What a failure left behind may be told in other words than the failure itself.
fn speaks_of_an_earlier_one(failure: &EngineFailure) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(failure);
    while let Some(error) = next {
        if error.to_string().contains("earlier") {
            return true;
        }
        next = error.source();
    }
    false
}

/// One request that is several changes: how many of them were made is not told.
fn is_body_that_commits_twice(request: &Request) -> bool {
    let Request::Repository(_, RepositoryRequest::StreamUpload { end, .. }) = request else { return false };
    matches!(end, StreamFinish::CommitAndDrop)
}
