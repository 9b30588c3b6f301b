//! Damage to a store at rest, over the whole engine in memory: afterwards every answer is right, or an error that says so.
//!
//! What one file's damage may cost is bounded: a blob's file that blob, a journal file the opening. A store that does not
//! open is left as it was found. A blob that is found damaged is pushed again and is whole. The two windows that
//! docs/format-journal.md states (the end of the journal after a power cut, before anything else spoke for it) are counted
//! apart, and only if the damage lies where the document says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::digest::Algorithm;
use layerhold::error::{ErrorKind, Failure};
use layerhold::name::RepositoryName;
use layerhold::store::mem::MemTable;

use crate::disk::hash_of;
use crate::engine::TestEngine;
use crate::fs::{CrashPolicy, Rng, SimFileSystem, class_of, damage};
use crate::model::{Answer, Model, Now, Refusal};
use crate::operation::Operation;
use crate::operation::pool;
use crate::operation::request::{Complete, Expected, RegistryRequest, RepositoryRequest, Request};
use crate::perform::{Handles, perform};
use crate::runner::{Ended, Runner};
use crate::sound::sound;

/// Short segments, so that there are several.
const SEGMENT_BYTES: u64 = 16 << 10;

/// Where records begin in a segment, and at which places (docs/format-journal.md).
const RECORDS_START: u64 = 4_096;
const RECORD_ALIGNMENT: u64 = 8;

/// How the store came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Closed in order.
    Closed,
    /// Its process was killed.
    Killed,
    /// The power was cut, and what no sync covered is gone.
    Cut,
}

impl End {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Killed, Self::Cut];
}

/// What is done to a file, or to the table's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Kind {
    Flip,
    ZeroedSector,
    ZeroedToTheEnd,
    Garbage,
    Cut,
    Emptied,
    Grown,
    Deleted,
    Swapped,
    OlderCopy,
    OlderTable,
    EmptyTable,
}

impl Kind {
    /// Flips are the most frequent, as on media.
    const DRAWN: [Self; 16] = [
        Self::Flip,
        Self::Flip,
        Self::Flip,
        Self::Flip,
        Self::Flip,
        Self::ZeroedSector,
        Self::ZeroedSector,
        Self::ZeroedToTheEnd,
        Self::Garbage,
        Self::Cut,
        Self::Emptied,
        Self::Grown,
        Self::Deleted,
        Self::Swapped,
        Self::OlderCopy,
        Self::OlderTable,
    ];
}

/// A store at rest, and everything that is known of it.
pub struct Rest {
    name: String,
    end: End,
    runner: Runner,
    fs: SimFileSystem,
    table: MemTable,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// After each request that changed something: the sequence, what was true, the files and the table as they were.
    history: Vec<Past>,
}

struct Past {
    sequence: u64,
    model: Model,
    fs: SimFileSystem,
    table: MemTable,
}

/// One mutation of a store at rest.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// What is done.
    pub kind: Kind,
    /// The file; the other one too, where two are swapped.
    pub files: Vec<PathBuf>,
    /// The bytes that are changed, of the first file.
    pub range: Range<u64>,
    /// Which older state a copy is taken from.
    age: usize,
}

/// How a mutation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Everything is right: the bytes were of no use any more, or were written again.
    Harmless,
    /// The store did not open, and said why.
    Refused,
    /// It opened, and what was damaged was told where it was asked for; all else was right.
    Told,
    /// A window of docs/format-journal.md: the last group alone.
    WindowLastGroup,
    /// The other window: the end of the journal with all that speaks for it.
    WindowEnd,
}

impl Ending {
    /// As reports name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Refused => "refused at open",
            Self::Told => "told where asked for",
            Self::WindowLastGroup => "in the stated window (last group)",
            Self::WindowEnd => "in the stated window (end of the journal)",
        }
    }
}

impl Rest {
    /// Runs a workload and brings the store to rest.
    ///
    /// # Panics
    /// Where the workload fails by itself.
    pub fn new(name: &str, operations: &[Operation], end: End) -> Self {
        let sim = SimFileSystem::new(1);
        let test = TestEngine::try_memory_with(sim.clone(), SEGMENT_BYTES).expect("an engine on an empty disk");
        let mut runner = Runner::new(test, false);
        let mut history = Vec::new();
        let past = |runner: &Runner| Past {
            sequence: runner.test.engine().sequence(),
            model: runner.model.clone(),
            fs: runner.test.fs().expect("memory").copy(),
            table: runner.test.table().expect("memory").crashed_after(usize::MAX),
        };
        history.push(past(&runner));
        for operation in operations {
            for request in runner.requests_of(operation) {
                match runner.request(&request) {
                    Ok(Ended::Agreed(_)) => {}
                    other => panic!("{name}: {other:?}"),
                }
                if history.last().is_some_and(|last| last.sequence != runner.test.engine().sequence()) {
                    history.push(past(&runner));
                } else {
                    // What takes no sequence is part of the state that the sequence names.
                    *history.last_mut().expect("the first") = past(&runner);
                }
            }
        }
        let table = runner.test.table().expect("memory");
        let (fs, table) = match end {
            End::Closed => {
                runner.test.engine().close().expect("a store that closes");
                (sim.crash(CrashPolicy::DropUnsynced), table.crashed_after(usize::MAX))
            }
            End::Killed => (sim.kill(), table.crashed_after(0)),
            End::Cut => (sim.crash(CrashPolicy::DropUnsynced), table.crashed_after(0)),
        };
        let paths = damage::files(&fs).expect("memory").into_iter();
        let files = paths.map(|path| (path.clone(), damage::read(&fs, &path).expect("memory"))).collect();
        Self { name: name.to_owned(), end, runner, fs, table, files, history }
    }

    /// A mutation that follows from `rng`.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Mutation {
        let mut pick = |bound: usize| rng.below(bound.max(1) as u64) as usize;
        let kind = Kind::DRAWN[pick(Kind::DRAWN.len())];
        let age = pick(self.history.len());
        // Each class of files as often as the others, then each file of it.
        let classes: BTreeSet<&str> = self.files.iter().map(|(path, _)| class_of(path)).collect();
        let class = classes.iter().nth(pick(classes.len())).copied().unwrap_or_default();
        let of_class: Vec<_> = self.files.iter().filter(|(path, _)| class_of(path) == class).collect();
        let (path, bytes) = of_class[pick(of_class.len())];
        let other = &self.files[pick(self.files.len())].0;
        let used = used(bytes);
        let len = bytes.len() as u64;
        // Heads and ends are where the structure is.
        let at = match pick(4) {
            0 => pick(64.min(len as usize)) as u64,
            1 => used.saturating_sub(1 + pick(200.min(used as usize)) as u64),
            2 => pick(len as usize) as u64,
            _ => pick(used as usize) as u64,
        };
        let at = at.min(len.saturating_sub(1));
        let (kind, range) = match kind {
            Kind::Flip => (kind, at..(at + 1).min(len)),
            Kind::ZeroedSector => (kind, at / 512 * 512..(at / 512 * 512 + 512).min(len)),
            Kind::ZeroedToTheEnd => (kind, at..len),
            Kind::Garbage => (kind, at..(at + 1 + pick(100) as u64).min(len)),
            Kind::Cut => (kind, at..len),
            Kind::Grown => (kind, len..len + 1 + pick(700) as u64),
            Kind::OlderTable if pick(4) == 0 => (Kind::EmptyTable, 0..0),
            Kind::OlderTable | Kind::EmptyTable => (Kind::OlderTable, 0..0),
            Kind::Emptied | Kind::Deleted | Kind::Swapped | Kind::OlderCopy => (kind, 0..len),
        };
        let files = match kind {
            Kind::Swapped => vec![path.clone(), other.clone()],
            Kind::OlderTable | Kind::EmptyTable => Vec::new(),
            _ => vec![path.clone()],
        };
        Mutation { kind, files, range, age }
    }

    /// The kind of file that a mutation is about.
    #[must_use]
    pub fn class(mutation: &Mutation) -> &'static str {
        mutation.files.first().map_or("table", |path| class_of(path))
    }

    /// Carries a mutation out on a copy and looks at what is left. `None` where it changed nothing.
    pub(crate) fn judge(&self, mutation: &Mutation, rng: &mut Rng) -> Result<Option<Ending>, String> {
        let (fs, mut table) = (self.fs.kill(), self.table.crashed());
        let before = fs.fingerprint();
        match mutation.kind {
            Kind::OlderTable | Kind::EmptyTable => {
                let found = hash_of(&table);
                table = match mutation.kind {
                    Kind::OlderTable => self.history[mutation.age].table.crashed(),
                    _ => MemTable::new(),
                };
                if hash_of(&table) == found {
                    return Ok(None);
                }
            }
            _ => {
                self.harm(&fs, mutation, rng).map_err(|error| format!("cannot harm: {error}"))?;
                if fs.fingerprint() == before {
                    return Ok(None);
                }
            }
        }
        let wrong = |what: String| format!("{}, {:?}, {mutation:?}: {what}", self.name, self.end);
        let harmed = but_the_lock(&fs);
        match self.runner.test.on(fs.clone(), Arc::new(Mutex::new(table))) {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => {
                if but_the_lock(&fs) != harmed {
                    return Err(wrong(format!("a store that was refused was changed: {error}")));
                }
                Ok(Some(Ending::Refused))
            }
            // Nothing at all is left of what was committed since the store was made.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let acknowledged = self.history.last().map_or(0, |last| last.sequence);
                self.window(mutation, 0, acknowledged).map_err(wrong)?;
                Ok(Some(Ending::Refused))
            }
            Err(error) => Err(wrong(format!("does not open: {error:?}"))),
            Ok(test) => self.look(&test, mutation).map(Some).map_err(wrong),
        }
    }

    fn harm(&self, fs: &SimFileSystem, mutation: &Mutation, rng: &mut Rng) -> std::io::Result<()> {
        let Some(path) = mutation.files.first() else { return Ok(()) };
        let Range { start, end } = mutation.range;
        let len = usize::try_from(end - start).map_err(std::io::Error::other)?;
        match mutation.kind {
            Kind::Flip if len == 0 => Ok(()),
            Kind::Flip => damage::flip_bit(fs, path, start * 8 + rng.below(8)),
            Kind::ZeroedSector | Kind::ZeroedToTheEnd => damage::zero(fs, path, start, len),
            Kind::Garbage => damage::overwrite(fs, path, start, &pool::noise(rng.next(), len)),
            Kind::Cut => damage::truncate(fs, path, start),
            Kind::Emptied => damage::truncate(fs, path, 0),
            Kind::Grown => damage::append(fs, path, &pool::noise(rng.next(), len)),
            Kind::Deleted => damage::delete(fs, path),
            Kind::Swapped => damage::swap(fs, path, mutation.files.last().unwrap_or(path)),
            Kind::OlderCopy => match damage::read(&self.history[mutation.age].fs, path) {
                Ok(older) => {
                    damage::truncate(fs, path, older.len() as u64)?;
                    damage::overwrite(fs, path, 0, &older)
                }
                Err(_) => Ok(()),
            },
            Kind::OlderTable | Kind::EmptyTable => Ok(()),
        }
    }

    /// Asks everything, twice where something is damaged: the damage is told again, and pushing the bytes heals it.
    fn look(&self, test: &TestEngine, mutation: &Mutation) -> Result<Ending, String> {
        let sequence = test.engine().sequence();
        let acknowledged = self.history.last().map_or(0, |last| last.sequence);
        let (model, ending) = if sequence == acknowledged || self.is_close(sequence, acknowledged) {
            (&self.runner.model, Ending::Harmless)
        } else {
            // Before the first of these there was a store without a registry, which asking makes.
            let known = |past: &&Past| past.sequence == sequence || past.sequence == self.history[0].sequence;
            let Some(past) = self.history.iter().rev().find(known) else {
                return Err(format!("opens with sequence {sequence}, acknowledged {acknowledged}"));
            };
            (&past.model, self.window(mutation, sequence, acknowledged)?)
        };
        let told = self.ask_everything(test, model)?;
        // A file's damage is nobody else's: as many blobs as files may be hit, and only by damage to files of blobs.
        let files_hit = mutation.files.iter().filter(|path| class_of(path) == "blob").count();
        if told.is_empty() {
            // What is damaged of a blob's file and was not asked for is for the check to find.
            if files_hit == 0 {
                is_sound(test)?;
            }
            return Ok(ending);
        }
        let blobs_hit: BTreeSet<_> = told.iter().map(|(_, digest)| digest).collect();
        if blobs_hit.len() > files_hit {
            return Err(format!("{} blobs are damaged by the damage of {files_hit} files: {told:?}", blobs_hit.len()));
        }
        if self.heal(test, &told)? {
            is_sound(test)?;
        }
        Ok(if ending == Ending::Harmless { Ending::Told } else { ending })
    }

    /// Closing and maintaining may have committed what no request asked for.
    fn is_close(&self, sequence: u64, acknowledged: u64) -> bool {
        sequence > acknowledged && self.end == End::Closed
    }

    /// Proves that a loss which nothing told of lies in a window of docs/format-journal.md.
    fn window(&self, mutation: &Mutation, found: u64, acknowledged: u64) -> Result<Ending, String> {
        let lost = format!("sequence {found} is found and {acknowledged} was acknowledged");
        // Seal and mark are there after a kill, and are synced by a close.
        if self.end != End::Cut {
            return Err(format!("{lost}, and the power was not cut"));
        }
        let [path] = &mutation.files[..] else { return Err(format!("{lost}, and no single file was damaged")) };
        let newest = self.files.iter().map(|(path, _)| path).rfind(|path| class_of(path) == "journal segment");
        if newest != Some(path) {
            return Err(format!("{lost}, and another file than the newest segment was damaged"));
        }
        // Where the seal behind each group ends, that is where the next record begins.
        let end_of = |sequence: u64| {
            let past = self.history.iter().find(|past| past.sequence == sequence);
            let bytes = past.and_then(|past| damage::read(&past.fs, path).ok()).unwrap_or_default();
            used(&bytes).next_multiple_of(RECORD_ALIGNMENT).max(RECORDS_START)
        };
        let range = &mutation.range;
        let behind: Vec<u64> = self.history.iter().map(|past| past.sequence).filter(|s| *s > found).collect();
        let [first_lost, .., last] = behind[..] else {
            let now = self.files.iter().find(|(other, _)| other == path).map_or(0, |(_, bytes)| used(bytes));
            let touches_the_last = range.end > end_of(found) && range.start < now;
            let lies = || format!("{lost}, and the damage does not touch it: it begins at {}", end_of(found));
            return if touches_the_last { Ok(Ending::WindowLastGroup) } else { Err(lies()) };
        };
        // What says that the first lost group was durable begins with the seal behind it and ends with the header of the
        // last group. Damage that leaves any of it would have been told.
        let before_last = behind.iter().rev().nth(1).copied().unwrap_or(first_lost);
        let touches_the_first = range.end > end_of(found) && range.start < end_of(first_lost);
        let touches_the_last = range.end > end_of(before_last);
        if touches_the_first && touches_the_last {
            return Ok(Ending::WindowEnd);
        }
        let (begins, ends) = (end_of(first_lost), end_of(before_last));
        Err(format!("{lost} ({last}), and the damage leaves some of what speaks for it: from {begins} to {ends}"))
    }

    fn now(&self) -> Now {
        self.runner.now()
    }

    /// Every question that can be asked, with the model's answer beside it; what was answered with damage.
    fn ask_everything(
        &self,
        test: &TestEngine,
        model: &Model,
    ) -> Result<Vec<(RepositoryName, layerhold::digest::Digest)>, String> {
        use RepositoryRequest as On;
        let registry = test.registry().with_limits(self.runner.registry_limits());
        let mut handles = self.runner.handles();
        let mut model = model.clone();
        let mut told = Vec::new();
        let states = model.state();
        let mut requests = vec![Request::Registry(RegistryRequest::ListRepositories { limit: 2 })];
        for (name, state) in &states {
            let mut on = |request| requests.push(Request::Repository(name.clone(), request));
            on(On::ListTags { limit: 3 });
            on(On::DescribeImages { tagged: None, limit: 2 });
            for digest in state.manifests.keys() {
                on(On::GetManifest { reference: (*digest).into(), pull: false });
                on(On::ListReferrers { subject: *digest, artifact_types: Vec::new(), limit: 2 });
            }
            for tag in pool::all_tags() {
                on(On::GetManifest { reference: tag.clone().into(), pull: false });
                on(On::TagHistory { tag, limit: 3 });
            }
            for digest in pool::all_blob_digests().chain(state.blobs.keys().copied()) {
                on(On::ReadBlob { digest, offset: 0, len: u64::MAX });
                on(On::ReadBlob { digest, offset: 1_000, len: 5_000 });
            }
        }
        for number in self.runner.uploads_begun() {
            let Some((name, caller)) = model.upload_owner(number, self.now()) else { continue };
            requests.push(Request::Repository(name, On::UploadStatus { session: number, caller }));
        }
        for request in &requests {
            let expected = model.answer(request, self.now());
            match ask(&registry, &mut handles, request) {
                Asked::Said(answer) if without_pull_times(answer.clone()) == without_pull_times(expected.clone()) => {}
                Asked::Said(Answer::Refused(Refusal::UploadNotFound)) if was_empty(&expected) => {}
                Asked::Damaged => match request {
                    Request::Repository(name, On::ReadBlob { digest, .. }) => told.push((name.clone(), *digest)),
                    _ => return Err(format!("{request:?} says damage")),
                },
                Asked::Said(answer) => {
                    return Err(format!("SILENT {request:?}\n found {answer:?}\n expected {expected:?}"));
                }
                Asked::Failed(failure) => return Err(format!("{request:?} fails: {failure:?}")),
            }
        }
        self.complete_uploads(&registry, &mut handles, &mut model)?;
        Ok(told)
    }

    /// Uploads whose bytes may be damaged are completed: what is read afterwards is right, or told.
    fn complete_uploads(
        &self,
        registry: &layerhold::registry::Registry,
        handles: &mut Handles,
        model: &mut Model,
    ) -> Result<(), String> {
        use RepositoryRequest as On;
        for (session, offset) in model.open_uploads() {
            let Some((name, caller)) = model.upload_owner(session, self.now()) else { continue };
            let complete = Complete { expected: Expected::Computed, part_bytes_min: None, refuse_empty: false };
            let request = Request::Repository(name.clone(), On::CompleteUpload { session, caller, complete });
            let Answer::Completed { digest, size, .. } = model.answer(&request, self.now()) else { continue };
            match ask(registry, handles, &request) {
                Asked::Said(Answer::Completed { digest: found, size: len, .. }) if (found, len) == (digest, size) => {
                    let read = Request::Repository(name, On::ReadBlob { digest, offset: 0, len: u64::MAX });
                    let expected = model.answer(&read, self.now());
                    match ask(registry, handles, &read) {
                        Asked::Damaged => {}
                        Asked::Said(answer) if answer == expected => {}
                        Asked::Said(answer) => return Err(format!("SILENT {read:?} after completing: {answer:?}")),
                        Asked::Failed(failure) => return Err(format!("{read:?} after completing: {failure:?}")),
                    }
                }
                Asked::Damaged | Asked::Said(Answer::Refused(Refusal::UploadDigestMismatch { .. })) => {}
                Asked::Said(Answer::Refused(Refusal::UploadNotFound)) if offset == 0 => {}
                Asked::Said(answer) => return Err(format!("SILENT {request:?}: {answer:?}")),
                Asked::Failed(failure) => return Err(format!("{request:?}: {failure:?}")),
            }
        }
        Ok(())
    }

    /// Pushes what was damaged again; then it is right. Whether all of it could be.
    fn heal(&self, test: &TestEngine, told: &[(RepositoryName, layerhold::digest::Digest)]) -> Result<bool, String> {
        let registry = test.registry().with_limits(self.runner.registry_limits());
        let mut handles = self.runner.handles();
        let bytes_of: BTreeMap<_, _> = (0..pool::CONTENT_COUNT)
            .flat_map(|number| {
                let content = pool::content(number);
                [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| (content.digest(algorithm), &content.bytes))
            })
            .collect();
        // One push heals a digest in all repositories, so all of them are asked before.
        for (name, digest) in told {
            // A push that were told it is there would not send the bytes that heal it.
            let check = Request::Repository(name.clone(), RepositoryRequest::CheckBlobs { digests: vec![*digest] });
            match ask(&registry, &mut handles, &check) {
                Asked::Said(Answer::Blobs(found)) if found == [None] => {}
                Asked::Said(answer) => return Err(format!("damaged, and there for a push: {answer:?}")),
                Asked::Damaged => return Err(format!("damaged, and not absent to a push: {check:?}")),
                Asked::Failed(failure) => return Err(format!("damaged, and cannot be checked: {failure:?}")),
            }
        }
        let mut all = true;
        for (name, digest) in told {
            let Some(bytes) = bytes_of.get(digest) else {
                all = false;
                continue;
            };
            let put = RepositoryRequest::PutBlob { bytes: Arc::clone(bytes), expected: Expected::Digest(*digest) };
            let read = RepositoryRequest::ReadBlob { digest: *digest, offset: 0, len: u64::MAX };
            for request in [put, read].map(|request| Request::Repository(name.clone(), request)) {
                match ask(&registry, &mut handles, &request) {
                    Asked::Said(Answer::Completed { .. }) => {}
                    Asked::Said(Answer::Bytes(found)) if found == bytes[..] => {}
                    Asked::Said(answer) => return Err(format!("pushed again: {answer:?}")),
                    Asked::Damaged => return Err(format!("still damaged after it was pushed again: {request:?}")),
                    Asked::Failed(failure) => return Err(format!("pushed again: {failure:?}")),
                }
            }
        }
        Ok(all)
    }
}

fn is_sound(test: &TestEngine) -> Result<(), String> {
    sound(test.engine(), Level::Bytes).map(drop).map_err(|found| format!("the check finds\n{found}"))
}

/// A hash of everything but the lock file, whose contents say who looked last.
fn but_the_lock(fs: &SimFileSystem) -> u64 {
    let others = fs.kill();
    // Where there is none, there is nothing to leave out.
    let _ = damage::delete(&others, Path::new("LOCK"));
    others.fingerprint()
}

/// Pull times are exempt from durability.
fn without_pull_times(mut answer: Answer) -> Answer {
    if let Answer::ImageDetails(images) = &mut answer {
        images.iter_mut().for_each(|image| image.last_pull_ms = None);
    }
    answer
}

/// A session without bytes is exempt from durability.
fn was_empty(expected: &Answer) -> bool {
    matches!(expected, Answer::Session { offset: 0, .. })
}

enum Asked {
    Said(Answer),
    /// An error of the kind that says that stored bytes are damaged.
    Damaged,
    Failed(Failure),
}

fn ask(registry: &layerhold::registry::Registry, handles: &mut Handles, request: &Request) -> Asked {
    match perform(registry, handles, request, &Call::anonymous()) {
        Ok(Answer::Refused(Refusal::Unexpected(text))) if text.to_lowercase().starts_with("corrupt") => Asked::Damaged,
        Ok(answer) => Asked::Said(answer),
        Err(failure) if failure.kind() == ErrorKind::Corrupt => Asked::Damaged,
        Err(failure) => Asked::Failed(failure),
    }
}

/// Bytes up to the last one that is not zero.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1)
}
