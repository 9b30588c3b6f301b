//! Damages one file of a store on RocksDB after the other, and asks the store everything.
//!
//! Whatever a medium does to a file, an answer is right or an error that says damage: never something else, never silence
//! about what was acknowledged. A store that is refused is left as it was, until somebody chooses what to do about it: where
//! that is to restore it, everything acknowledged is there again. Damage to one blob harms that blob alone, and
//! pushing it again heals it; damage to what the store can do without harms nothing. A child does the asking, so that damage
//! which ends a process, or keeps it busy for ever, is noticed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use layerhold::call::Call;
use layerhold::digest::Digest;
use layerhold::error::{ErrorKind, Failure};
use layerhold::name::{Principal, RegistryName};
use layerhold::recovery::{self, Choice, Examination, RecoveryError};
use layerhold::registry::Registry;
use layerhold::store::StorageError;

use crate::engine::{REGISTRY, TestEngine, options, rocks, rocks_left};
use crate::fs::Rng;
use crate::model::{Answer, Model, Now, Refusal};
use crate::operation::request::{Expected, RepositoryRequest, Request};
use crate::operation::{ExpectedDigest, Operation, Script, pool};
use crate::perform::{Handles, perform};
use crate::runner::{Runner, shorten};
use crate::technique::Outcome;

use super::child::{self, say};
use super::class::Class;
use super::{Place, copy_tree, story};

/// Operations behind a store that is damaged.
const OPERATIONS: usize = 120;

/// A store that does not answer for so long never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// One in so many stores that still open is opened and asked a second time.
const AGAIN: u64 = 4;

/// Damages a store `count` times, each time from a fresh copy. The seed decides the store and the damage.
///
/// With `lie` opening fails each time and does not say that it is for damage, which must be found.
///
/// # Errors
/// Where no child could be started.
pub fn spoil(place: &Place, seed: u64, count: u64, lie: bool) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let directory = place.directory().map_err(|e| e.to_string())?;
    let mut next = 0;
    while next < count {
        let (from, until) = (next.to_string(), count.to_string());
        let manner = if lie { "lying" } else { "honest" };
        let arguments = ["damage-rocks", &seed.to_string(), &from, &until, manner];
        let mut started = child::start(place, &arguments, &directory.path).map_err(|e| e.to_string())?;
        let mut begun = None;
        for line in started.lines.by_ref() {
            let line = line.map_err(|e| e.to_string())?;
            let (what, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match what {
                "damage" => begun = Some(rest.to_owned()),
                "ended" => {
                    next += 1;
                    begun = None;
                    outcome.count("mutations", 1);
                    rest.split(", ").for_each(|name| outcome.count(name, 1));
                }
                _ => outcome.violation(rest.replace('\t', "\n")),
            }
        }
        let status = started.end().map_err(|e| e.to_string())?;
        if let Some(damage) = begun {
            outcome.violation(format!("{damage}: the process ended status={status}"));
            next += 1;
        } else if !status.success() {
            return Err(format!("the child ended by itself status={status}"));
        }
    }
    Ok(outcome)
}

/// A store, what it was some time before, and what it must answer.
struct Template {
    files: Vec<PathBuf>,
    store: PathBuf,
    older: PathBuf,
    questions: Vec<(Request, Answer)>,
    contents: Vec<Arc<[u8]>>,
    handles: Handles,
    wall_ms: u64,
    lie: bool,
}

/// The child's life.
pub(super) fn live(seed: u64, from: u64, until: u64, lie: bool, directory: &Path) -> Result<(), String> {
    let template = Template { lie, ..Template::make(seed, directory)? };
    let work = directory.join("work");
    // Panics are told as violations; their text is in them.
    std::panic::set_hook(Box::new(|_| ()));
    std::thread::Builder::new().name("patience".to_owned()).spawn(lose_patience).map_err(|e| e.to_string())?;
    for number in from..until {
        ASKED.fetch_add(1, Ordering::Relaxed);
        let _ = std::fs::remove_dir_all(&work);
        copy_tree(&template.store, &work).map_err(|e| e.to_string())?;
        let mut rng = Rng::new(seed ^ (number + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let damage = Damage::draw(&template, &mut rng);
        let damage = damage.and_then(|damage| damage.do_to(&work, &template).map(|()| damage));
        let damage = damage.map_err(|e| format!("damage {number}: {e}"))?;
        say(&format!("damage number={number} {damage}"));
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| template.ask(&work, &damage, &mut rng)));
        let ended = asked.unwrap_or_else(|panic| Err(crate::campaign::panic_text(&*panic)));
        match ended {
            Ok(how) => say(&format!("ended file: {}, damage: {}, {how}", damage.class, damage.kind)),
            Err(wrong) => {
                let wrong = shorten(&format!("damage number={number} {damage}: {wrong}")).replace('\n', "\t");
                say(&format!("wrong {wrong}"));
                say("ended found wrong");
            }
        }
    }
    let _ = std::fs::remove_dir_all(directory);
    Ok(())
}

/// How many stores were asked so far.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Ends the process once a store has been asked for too long.
fn lose_patience() {
    loop {
        let before = ASKED.load(Ordering::Relaxed);
        std::thread::sleep(PATIENCE);
        if ASKED.load(Ordering::Relaxed) == before {
            child::die();
        }
    }
}

impl Template {
    fn make(seed: u64, directory: &Path) -> Result<Self, String> {
        let (making, store, older) = (directory.join("making"), directory.join("store"), directory.join("older"));
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir_all(directory).map_err(|e| e.to_string())?;
        let mut rng = Rng::new(seed);
        let mut runner = Runner::new(rocks(&making), false);
        let script = script(&mut rng);
        let (first, second) = script.operations.split_at(script.operations.len() * 2 / 3);
        let play = |runner: &mut Runner, operations: &[Operation]| {
            let script = Script { small_limits: false, operations: operations.to_vec() };
            story::play(runner, &script, |_, _, _, _| ()).map_err(|wrong| wrong.report)
        };
        // Nothing is written while nobody asks, so a copy is what a kill leaves.
        play(&mut runner, first)?;
        copy_tree(&making, &older).map_err(|e| e.to_string())?;
        play(&mut runner, second)?;
        let closed = rng.below(2) == 0;
        let (now, handles, mut model) = (runner.now(), runner.handles(), runner.model.clone());
        if closed {
            runner.test.engine().close().map_err(|failure| failure.to_string())?;
            drop(runner);
        }
        copy_tree(&making, &store).map_err(|e| e.to_string())?;
        let questions = questions(&mut model, now);
        let contents = (0..pool::CONTENT_COUNT).map(|number| Arc::clone(&pool::content(number).bytes)).collect();
        let mut files = Vec::new();
        list(&store, Path::new(""), &mut files).map_err(|e| e.to_string())?;
        files.sort();
        Ok(Self { files, store, older, questions, contents, handles, wall_ms: now.wall_ms, lie: false })
    }

    /// Opens the damaged store and asks it everything. Says how it went, or what must not be.
    fn ask(&self, work: &Path, damage: &Damage, rng: &mut Rng) -> Result<String, String> {
        let test = match self.open(work, damage, 0)? {
            Ok(test) => test,
            Err(refused) => {
                let chosen = self.choose(work, damage)?;
                return Ok(format!("refused when opened, {chosen}, refused as: {refused}"));
            }
        };
        let registry = registry_of(&test)?;
        let harmed = self.ask_all(&registry, damage)?;
        if damage.class == Class::Blob {
            self.heal(&registry, &harmed)?;
        }
        let how = match (harmed.answers, damage.class) {
            (0, _) => "answered everything",
            (_, Class::Blob) => "refused by one blob, healed by a push",
            _ => "refused by some answers",
        };
        drop((registry, test));
        if rng.below(AGAIN) == 0
            && let Ok(test) = self.open(work, damage, 1)?
        {
            self.ask_all(&registry_of(&test)?, damage)?;
        }
        Ok(how.to_owned())
    }

    /// Does what an operator can do about a store that is refused. A restored one has everything that was acknowledged.
    fn choose(&self, work: &Path, damage: &Damage) -> Result<&'static str, String> {
        let by = Principal::parse("operator").map_err(|e| e.to_string())?;
        let mut examination = recovery::examine(work, &options()).map_err(|e| format!("is not examined: {e:?}"))?;
        let opened = |examination: &Examination, opening| {
            let test = rocks_left(work, self.wall_ms, opening);
            test.map_err(|e| format!("does not open after a choice: {e:?} of {examination:?}"))
        };
        let failed = |examination: &Examination, e| format!("a choice is not carried out: {e:?} of {examination:?}");
        if examination.choices.contains(&Choice::Restore) {
            match recovery::restore(work, &options(), &by) {
                Ok(_) => {
                    let asked = self.ask_all(&registry_of(&opened(&examination, 2)?)?, damage);
                    return asked.map(|_| "restored").map_err(|wrong| format!("restored: {wrong}"));
                }
                // Of two files one was mended, and the other one only then found damaged.
                Err(RecoveryError::NotPossible { examination: more }) if damage.classes.len() > 1 => {
                    examination = *more
                }
                Err(error) => return Err(failed(&examination, error)),
            }
        }
        if examination.choices.is_empty() {
            return Err(format!("is refused, and there is nothing to choose: {examination:?}"));
        }
        let accepted = recovery::accept_loss(work, &options(), &by, examination.agreed());
        let accepted = accepted.map_err(|e| failed(&examination, e))?;
        let found = opened(&examination, 3)?.engine().sequence();
        match found == accepted.sequence {
            true => Ok("loss accepted"),
            false => Err(format!("sequence {found} after a loss was accepted: {accepted:?}")),
        }
    }

    /// The store, or the name of the refusal, if the damage is a reason for it and nothing was changed.
    fn open(&self, work: &Path, damage: &Damage, opening: u64) -> Result<Result<TestEngine, &'static str>, String> {
        let before = state(work).map_err(|e| e.to_string())?;
        let error = match rocks_left(work, self.wall_ms, opening) {
            _ if self.lie => StorageError::Table { operation: "open the table", message: "a lie".to_owned() },
            Ok(test) => return Ok(Ok(test)),
            Err(error) => error,
        };
        let refused = damage.refusal(&error).ok_or_else(|| format!("is refused so: {error:?}"))?;
        let after = state(work).map_err(|e| e.to_string())?;
        let changed = before.iter().find(|(path, file)| after.get(*path) != Some(*file)).map(|(path, _)| path);
        match changed.or_else(|| after.keys().find(|path| !before.contains_key(*path))) {
            Some(path) => Err(format!("{} changed when the store was refused: {error:?}", path.display())),
            None => Ok(Err(refused)),
        }
    }

    fn ask_all(&self, registry: &Registry, damage: &Damage) -> Result<Harmed, String> {
        let mut harmed = Harmed { answers: 0, digests: BTreeSet::new() };
        let mut handles = self.handles.clone();
        for (request, expected) in &self.questions {
            let answer = perform(registry, &mut handles, request, &Call::anonymous());
            match answer {
                Ok(answer) if answer == *expected => {}
                answer if says_damage(&answer) => {
                    harmed.answers += 1;
                    if let Request::Repository(_, RepositoryRequest::ReadBlob { digest, .. }) = request {
                        harmed.digests.insert(*digest);
                    } else if damage.class == Class::Blob {
                        return Err(format!("{request:?} fails where a blob's file is damaged: {answer:?}"));
                    }
                    if !damage.classes.iter().any(|class| class.is_read_when_asked()) {
                        return Err(format!("{request:?} fails for damage that opening had to find: {answer:?}"));
                    }
                }
                Err(failure) => return Err(format!("{request:?} fails, and not for damage: {failure:?}")),
                // What a kill may lose: a session without bytes.
                Ok(Answer::Refused(Refusal::UploadNotFound))
                    if matches!(expected, Answer::Session { offset: 0, .. }) => {}
                Ok(answer) => return Err(format!("{request:?}\n answered {answer:?}\n expected {expected:?}")),
            }
        }
        // Two digests by two algorithms are two blobs, each with a file of its own.
        if damage.class == Class::Blob && harmed.digests.len() > damage.classes.len() {
            return Err(format!("damage to {} files harms {:?}", damage.classes.len(), harmed.digests));
        }
        Ok(harmed)
    }

    /// Pushes what cannot be read once more, after which it can.
    fn heal(&self, registry: &Registry, harmed: &Harmed) -> Result<(), String> {
        let mut handles = self.handles.clone();
        for (request, expected) in &self.questions {
            let Request::Repository(name, RepositoryRequest::ReadBlob { digest, .. }) = request else { continue };
            if !matches!(expected, Answer::Bytes(_)) {
                continue;
            }
            let content = self.contents.iter().find(|bytes| Digest::of(digest.algorithm(), bytes) == *digest);
            let Some(content) = content.filter(|_| harmed.digests.contains(digest)) else { continue };
            let put = RepositoryRequest::PutBlob { bytes: Arc::clone(content), expected: Expected::Digest(*digest) };
            let put = perform(registry, &mut handles, &Request::Repository(name.clone(), put), &Call::anonymous());
            if !matches!(put, Ok(Answer::Completed { .. })) {
                return Err(format!("a push does not heal {digest}: {put:?}"));
            }
            let answer = perform(registry, &mut handles, request, &Call::anonymous());
            if answer.as_ref().ok() != Some(expected) {
                return Err(format!("{digest} after it was pushed again: {answer:?}"));
            }
        }
        Ok(())
    }
}

/// Whether an answer is an error that says that stored bytes are damaged.
fn says_damage(answer: &Result<Answer, Failure>) -> bool {
    match answer {
        Ok(Answer::Refused(Refusal::Unexpected(text))) => text.to_lowercase().starts_with("corrupt"),
        Ok(_) => false,
        Err(failure) => failure.kind() == ErrorKind::Corrupt,
    }
}

/// Every file with what tells of a change: its bytes, and when it was last written.
type State = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

/// All files but the lock, whose contents say who looked last.
fn state(store: &Path) -> std::io::Result<State> {
    let mut files = Vec::new();
    list(store, Path::new(""), &mut files)?;
    let files = files.into_iter().filter(|path| Class::of(path) != Class::Lock);
    let read = files.map(|path| {
        let written = std::fs::metadata(store.join(&path))?.modified()?;
        Ok((path.clone(), (std::fs::read(store.join(path))?, written)))
    });
    read.collect()
}

/// The registry, without a look whether it is there: the look may fail.
fn registry_of(test: &TestEngine) -> Result<Registry, String> {
    Ok(test.engine().registry(&RegistryName::parse(REGISTRY).map_err(|e| e.to_string())?))
}

/// What could not be answered.
struct Harmed {
    answers: u64,
    digests: BTreeSet<Digest>,
}

/// So many small pushes fill so many segments of the journal that the first ones are taken back.
const PUSHES_BEFORE: usize = 400;

/// Pushes and everything else, in every other store behind so many that the journal no longer begins with the first change; closed and opened twice on the way so that the table has several files.
fn script(rng: &mut Rng) -> Script {
    let mut operations = vec![
        Operation::CreateRepository { repository: 0, mutability: 0, sparse: false },
        Operation::CreateRepository { repository: 1, mutability: 2, sparse: true },
    ];
    if rng.below(2) == 0 {
        let push = Operation::PutBlob { repository: 0, content: 4, expected: ExpectedDigest::Right };
        operations.extend(std::iter::repeat_n(push, PUSHES_BEFORE));
        operations.push(Operation::Maintain);
    }
    let end = operations.len() + OPERATIONS;
    let number = |rng: &mut Rng, below: u8| u8::try_from(rng.below(below.into())).unwrap_or(0);
    while operations.len() < end {
        if (end - operations.len()) % 50 == 25 {
            operations.push(Operation::Reopen { close: true });
        }
        let operation = match rng.below(3) {
            0 => Operation::PutBlob {
                repository: number(rng, 2),
                content: number(rng, pool::CONTENT_COUNT),
                expected: ExpectedDigest::Right,
            },
            1 => Operation::PushImage {
                repository: 0,
                document: number(rng, 12),
                tag: Some(number(rng, pool::TAG_COUNT)),
            },
            _ => Operation::from_bytes(&pool::noise(rng.next(), 32)),
        };
        match operation {
            Operation::Reopen { .. } | Operation::AdvanceClock { .. } | Operation::GrantDownload { .. } => {}
            // Pull times may be lost, so none is made.
            Operation::GetManifest { repository, image, .. } => {
                operations.push(Operation::GetManifest { repository, image, pull: false });
            }
            operation => operations.push(operation),
        }
    }
    Script { small_limits: false, operations }
}

/// Everything that can be asked without changing anything, with the model's answers. Blobs are read last.
fn questions(model: &mut Model, now: Now) -> Vec<(Request, Answer)> {
    use RepositoryRequest as On;
    let mut requests = Vec::new();
    let repositories = || (0..pool::REPOSITORY_COUNT).map(pool::repository);
    for name in repositories() {
        let mut ask = |request| requests.push(Request::Repository(name.clone(), request));
        ask(On::Describe);
        ask(On::ListTags { limit: 100 });
        ask(On::ListImages { tagged: None, limit: 100 });
        ask(On::DescribeImages { tagged: None, limit: 100 });
        for tag in pool::all_tags() {
            ask(On::GetManifest { reference: tag.clone().into(), pull: false });
            ask(On::TagHistory { tag, limit: 100 });
        }
        for document in 0..pool::document_count() {
            let digest = pool::document_digest(document);
            ask(On::GetManifest { reference: digest.into(), pull: false });
            ask(On::ListReferrers { subject: digest, artifact_types: Vec::new(), limit: 100 });
        }
    }
    for number in model.open_uploads().into_keys().collect::<Vec<_>>() {
        if let Some((name, caller)) = model.upload_owner(number, now) {
            requests.push(Request::Repository(name, On::UploadStatus { session: number, caller }));
        }
    }
    for name in repositories() {
        for digest in pool::all_blob_digests() {
            requests.push(Request::Repository(name.clone(), On::CheckBlobs { digests: vec![digest] }));
        }
    }
    for name in repositories() {
        for digest in pool::all_blob_digests() {
            requests.push(Request::Repository(name.clone(), On::ReadBlob { digest, offset: 0, len: u64::MAX }));
        }
    }
    let answered = requests.into_iter().map(|request| {
        let answer = model.answer(&request, now);
        (request, answer)
    });
    answered.collect()
}

/// What happens to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Flip { bit: u64 },
    Zero { at: u64, len: u64 },
    Garbage { at: u64, len: u64, seed: u64 },
    Truncate { len: u64 },
    Append { len: u64, seed: u64 },
    Delete,
    Swap { other: PathBuf },
    Older,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flip { .. } => "flip",
            Self::Zero { .. } => "zeros",
            Self::Garbage { .. } => "garbage",
            Self::Truncate { .. } => "truncation",
            Self::Append { .. } => "append",
            Self::Delete => "deletion",
            Self::Swap { .. } => "swap",
            Self::Older => "older copy",
        })
    }
}

#[derive(Debug)]
struct Damage {
    path: PathBuf,
    class: Class,
    kind: Kind,
    /// The classes of the files that it is done to, one for each.
    classes: Vec<Class>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "path={} kind={:?}", self.path.display(), self.kind)
    }
}

impl Damage {
    /// The name of the refusal, if this damage is a reason to open the store with it.
    fn refusal(&self, error: &StorageError) -> Option<&'static str> {
        let is = |class| self.classes.contains(&class);
        match error {
            _ if self.class == Class::Blob || self.classes.iter().all(|class| class.is_needless()) => None,
            StorageError::Corrupt { .. } => Some("damage"),
            // What FORMAT holds is in other files as well.
            StorageError::AcknowledgedDataLoss { .. } if self.classes != [Class::Format] => Some("loss"),
            StorageError::NotAStore { .. } | StorageError::UnknownFormat { .. } if is(Class::Format) => {
                Some("no store of this version")
            }
            _ => None,
        }
    }

    /// Classes of files by their weight, and each kind of damage that changes the file.
    fn draw(template: &Template, rng: &mut Rng) -> std::io::Result<Self> {
        let mut classes: Vec<Class> = Vec::new();
        for path in &template.files {
            let class = Class::of(path);
            if !classes.contains(&class) {
                classes.extend((0..class.weight()).map(|_| class));
            }
        }
        let among = |rng: &mut Rng, count: usize| usize::try_from(rng.below(count.max(1) as u64)).unwrap_or(0);
        loop {
            let class = classes[among(rng, classes.len())];
            let of_class: Vec<&PathBuf> = template.files.iter().filter(|path| Class::of(path) == class).collect();
            let path = of_class[among(rng, of_class.len())].clone();
            let bytes = std::fs::read(template.store.join(&path))?;
            let len = bytes.len() as u64;
            // Mostly where something is written: journal files are full of zeros.
            let at = rng.below(len.max(1));
            let written = bytes.iter().skip(usize::try_from(at).unwrap_or(0)).position(|byte| *byte != 0);
            let at = if rng.below(4) == 0 { at } else { written.map_or(at, |ahead| at + ahead as u64) };
            let kind = match rng.below(8) {
                0 | 1 if len > 0 => Kind::Flip { bit: at * 8 + rng.below(8) },
                2 if len > 0 => {
                    let sector = rng.below(2) == 0;
                    let at = if sector { at / 512 * 512 } else { at };
                    Kind::Zero { at, len: (if sector { 512 } else { 1 + rng.below(4_096) }).min(len - at) }
                }
                3 if len > 0 => Kind::Garbage { at, len: (1 + rng.below(512)).min(len - at), seed: rng.next() },
                4 if len > 0 => Kind::Truncate { len: [0, len - 1, at, at / 512 * 512][among(rng, 4)] },
                5 => Kind::Append { len: 1 + rng.below(600), seed: rng.next() },
                6 => {
                    let same = rng.below(4) > 0;
                    let others = template.files.iter().filter(|other| {
                        **other != path
                            && if same { Class::of(other) == class } else { Class::of(other) != Class::Blob }
                    });
                    let others: Vec<&PathBuf> = others.collect();
                    match others.is_empty() || class == Class::Blob && !same {
                        true => Kind::Delete,
                        false => Kind::Swap { other: others[among(rng, others.len())].clone() },
                    }
                }
                7 if rng.below(2) == 0 => Kind::Older,
                _ => Kind::Delete,
            };
            let classes = match &kind {
                Kind::Swap { other } => vec![class, Class::of(other)],
                _ => vec![class],
            };
            let damage = Self { path, class, kind, classes };
            if damage.changes(&bytes, template)? {
                return Ok(damage);
            }
        }
    }

    /// Whether the file is another one afterwards.
    fn changes(&self, bytes: &[u8], template: &Template) -> std::io::Result<bool> {
        Ok(match &self.kind {
            Kind::Swap { other } => std::fs::read(template.store.join(other))? != bytes,
            Kind::Older => {
                template.older.join(&self.path).exists() && std::fs::read(template.older.join(&self.path))? != bytes
            }
            Kind::Delete => true,
            _ => self.damaged(bytes) != bytes,
        })
    }

    fn damaged(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        match self.kind {
            Kind::Flip { bit } => bytes[index(bit / 8)] ^= 1 << (bit % 8),
            Kind::Zero { at, len } => bytes[index(at)..index(at + len)].fill(0),
            Kind::Garbage { at, len, seed } => {
                bytes[index(at)..index(at + len)].copy_from_slice(&pool::noise(seed, index(len)));
            }
            Kind::Truncate { len } => bytes.truncate(index(len)),
            Kind::Append { len, seed } => bytes.extend(pool::noise(seed, index(len))),
            Kind::Delete | Kind::Swap { .. } | Kind::Older => {}
        }
        bytes
    }

    fn do_to(&self, work: &Path, template: &Template) -> std::io::Result<()> {
        let path = work.join(&self.path);
        match &self.kind {
            Kind::Delete => std::fs::remove_file(path),
            Kind::Older => std::fs::copy(template.older.join(&self.path), path).map(drop),
            Kind::Swap { other } => {
                let other = work.join(other);
                let (one, two) = (std::fs::read(&path)?, std::fs::read(&other)?);
                std::fs::write(path, two)?;
                std::fs::write(other, one)
            }
            _ => {
                let bytes = std::fs::read(&path)?;
                std::fs::write(&path, self.damaged(&bytes))
            }
        }
    }
}

fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
