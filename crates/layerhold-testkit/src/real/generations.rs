//! Kills a process at random, again and again, and always goes on with the store that it left.
//!
//! A child opens the store, says what it finds there, and works with several threads until it is killed: two that make
//! random requests in a registry of their own each, two that push ever more blobs and tags into one that they share, one
//! that maintains. Its parent knows what was acknowledged, and holds what the next child finds against that. The model says
//! what the random requests answer; of what was pushed a sample is read back in each generation, and all of it now and then
//! and at the end, when a last child reads and does nothing else. Where all is read, the engine also checks itself.
//!
//! The seed decides what is asked and about when the kill comes, not between which two instructions it falls.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use layerhold::ErrorKind;
use layerhold::call::Call;
use layerhold::check::Level;
use layerhold::digest::{Algorithm, Digest};
use layerhold::engine::Engine;
use layerhold::manifest::{ManifestRead, PutManifest};
use layerhold::name::{Reference, RegistryName, RepositoryName, Tag};
use layerhold::registry::Registry;
use layerhold::repository::{Repository, RepositorySettings};
use layerhold::upload::{CompleteUpload, Expected, PartRange};
use serde::{Deserialize, Serialize};

use crate::engine::{TestEngine, rocks, rocks_left};
use crate::fs::Rng;
use crate::model::Now;
use crate::operation::pool;
use crate::sound::sound;
use crate::technique::Outcome;

use super::Place;
use super::child::{self, say};
use super::lane::{Acknowledged, Lane, LaneOrders, SeenInLane, Worker};

/// How many threads make random requests, and how many push.
const LANES: u64 = 2;
const PUSHERS: u64 = 2;

/// Requests of a lane and pushes of a pusher in a generation, if nothing comes between; and where the store is closed after
/// them, so that some are killed before, some while and some after it is.
const WORK: (usize, u64) = (400, 60);
const WORK_BEFORE_CLOSE: (usize, u64) = (40, 4);

/// So many blobs are read back in each generation, and all of them after so many generations.
const SAMPLE: usize = 24;
const ALL_EVERY: u64 = 50;

/// The longest time that a child works before it is killed, in microseconds, and the longest from its start where the kill
/// is to come while it opens the store.
const WORK_US: u64 = 40_000;
const OPENING_US: u64 = 30_000;

/// What a child is told.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    seed: u64,
    generation: u64,
    wall_ms: u64,
    /// Close the store when the work is done; otherwise wait for the kill.
    close: bool,
    requests: usize,
    pushes: u64,
    /// Acknowledge before the work is done, to show that this is noticed.
    lie: bool,
    lanes: Vec<LaneOrders>,
    /// Blobs and tags to read back, and whether those are all there are.
    blobs: Vec<String>,
    tags: Vec<(String, String)>,
    all: bool,
}

/// What a pusher says it did.
#[derive(Debug, Serialize, Deserialize)]
enum Pushed {
    Blob(String),
    Tag(String, String),
}

/// What the parent knows.
struct Life<'a> {
    place: &'a Place,
    store: super::Directory,
    seed: u64,
    rng: Rng,
    lanes: Vec<Lane>,
    blobs: BTreeMap<String, ()>,
    tags: BTreeMap<String, String>,
    wall_ms: u64,
    now: Now,
    sequence: u64,
    lie: bool,
    outcome: Outcome,
}

/// Kills `generations` children that work on one store, one after the other, and reads everything at the end.
///
/// With `lie` the children acknowledge before they act, which must be found.
///
/// # Errors
/// Where no child could be started or no store be made.
pub fn live(place: &Place, seed: u64, generations: u64, lie: bool) -> Result<Outcome, String> {
    let store = place.directory().map_err(|e| e.to_string())?;
    let test = rocks(&store.join("store"));
    test.engine().close().map_err(|failure| failure.to_string())?;
    drop(test);
    let mut life = Life {
        place,
        store,
        seed,
        rng: Rng::new(seed),
        lanes: (0..LANES).map(Lane::new).collect(),
        blobs: BTreeMap::new(),
        tags: BTreeMap::new(),
        wall_ms: 1_780_000_000_000,
        now: Now::default(),
        sequence: 0,
        lie,
        outcome: Outcome::default(),
    };
    for generation in 0..=generations {
        if let Err(wrong) = life.generation(generation, generation == generations) {
            // Nothing that a later generation finds would be news.
            life.outcome.violation(format!("generation {generation}: {wrong}"));
            break;
        }
    }
    Ok(life.outcome)
}

/// How far a child came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Opening,
    Working,
    Idle,
}

impl Life<'_> {
    /// One child; the last one is not killed, and only reads.
    fn generation(&mut self, generation: u64, last: bool) -> Result<(), String> {
        let all = last || generation % ALL_EVERY == ALL_EVERY - 1;
        // Mostly a second or two; now and then long enough for uploads to expire.
        self.wall_ms += if self.rng.below(30) == 0 { 1_500_000 } else { 1_000 + self.rng.below(1_000) };
        let close = last || self.rng.below(8) == 0;
        let (requests, pushes) = match close {
            _ if last => (0, 0),
            true => WORK_BEFORE_CLOSE,
            false => WORK,
        };
        let orders = Orders {
            seed: self.seed,
            generation,
            wall_ms: self.wall_ms,
            close,
            requests,
            pushes,
            lie: self.lie,
            lanes: self.lanes.iter_mut().map(Lane::orders).collect(),
            blobs: some(&self.blobs, &mut self.rng, all).into_iter().map(|(digest, ())| digest).collect(),
            tags: some(&self.tags, &mut self.rng, all),
            all,
        };
        let path = self.store.join("orders");
        std::fs::write(&path, serde_json::to_vec(&orders).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        let path = path.to_string_lossy().into_owned();
        let started = child::start(self.place, &["kill-generations", &path], &self.store.join("store"));
        let mut started = started.map_err(|e| e.to_string())?;
        let early = !all && self.rng.below(5) == 0;
        if early {
            started.kill_after(Duration::from_micros(self.rng.below(OPENING_US)))?;
        }
        let delay = Duration::from_micros(self.rng.below(WORK_US));
        let mut wrong = None;
        let mut came = Came::Opening;
        while let Some(line) = started.lines.next() {
            let line = line.map_err(|e| e.to_string())?;
            if let Err(error) = self.heard(&line, &orders) {
                wrong.get_or_insert(error);
                break;
            }
            if line.starts_with("verified ") {
                came = Came::Working;
                if !early && !last {
                    started.kill_after(delay)?;
                }
            }
            if line == "idle" {
                came = Came::Idle;
            }
        }
        let status = started.end().map_err(|e| e.to_string())?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if !child::was_killed(status) && !status.success() {
            return Err(format!("the child ended by itself status={status}"));
        }
        let now = self.now;
        self.lanes.iter_mut().for_each(|lane| lane.ended(now));
        if last {
            if came == Came::Opening || child::was_killed(status) {
                return Err(format!("the last child did not read everything status={status}"));
            }
            self.outcome.count("stores", 1);
            self.outcome.count("blobs pushed, each read back at the end", self.blobs.len() as u64);
            self.outcome.count("tags put, each read back at the end", self.tags.len() as u64);
        } else if child::was_killed(status) {
            self.outcome.count("kills", 1);
            self.outcome.count("kills while the store was opened", u64::from(came == Came::Opening));
            self.outcome.count("kills while nobody worked", u64::from(came == Came::Idle));
        } else {
            self.outcome.count("orderly closes", 1);
        }
        Ok(())
    }

    fn heard(&mut self, line: &str, orders: &Orders) -> Result<(), String> {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let in_lane = |rest: &str| {
            let (lane, json) = rest.split_once(' ').unwrap_or((rest, ""));
            lane.parse::<usize>().map(|lane| (lane, json.to_owned())).map_err(|e| e.to_string())
        };
        match what {
            "opened" => {
                let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
                let [engine_ms, sequence] = numbers[..] else { return Err(format!("not understood: {line}")) };
                if sequence < self.sequence {
                    return Err(format!("sequence {sequence} after {} was acknowledged", self.sequence));
                }
                self.sequence = sequence;
                self.now = Now { wall_ms: self.wall_ms, engine_ms };
            }
            "seen" => {
                let (lane, json) = in_lane(rest)?;
                let seen: SeenInLane = serde_json::from_str(&json).map_err(|e| e.to_string())?;
                let now = self.now;
                self.lane(lane)?.seen(&seen, now)?;
            }
            "verified" => {
                let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
                let [blobs, tags] = numbers[..] else { return Err(format!("not understood: {line}")) };
                let asked = (orders.blobs.len() as u64, orders.tags.len() as u64);
                if (blobs, tags) != asked {
                    return Err(format!("read {blobs} blobs and {tags} tags, and was asked for {asked:?}"));
                }
                self.outcome.count("blobs read back", blobs);
                self.outcome.count("tags read back", tags);
                self.outcome.count("checks of the engine's own", u64::from(orders.all));
                let Orders { seed, generation, requests, .. } = *orders;
                self.lanes.iter_mut().for_each(|lane| lane.begin(seed, generation, requests));
            }
            "early" => self.lane(in_lane(rest)?.0)?.told_early(),
            "answered" => {
                let (lane, json) = in_lane(rest)?;
                let told: Acknowledged = serde_json::from_str(&json).map_err(|e| e.to_string())?;
                let now = self.now;
                self.lane(lane)?.answered(told, now)?;
                self.outcome.count("answers", 1);
            }
            "pushed" => match serde_json::from_str(rest).map_err(|e| e.to_string())? {
                Pushed::Blob(digest) => drop(self.blobs.insert(digest, ())),
                Pushed::Tag(tag, digest) => drop(self.tags.insert(tag, digest)),
            },
            "idle" => {}
            "wrong" => return Err(rest.replace('\t', "\n")),
            _ => return Err(format!("not understood: {line}")),
        }
        Ok(())
    }

    fn lane(&mut self, lane: usize) -> Result<&mut Lane, String> {
        self.lanes.get_mut(lane).ok_or_else(|| format!("no such lane: {lane}"))
    }
}

/// Everything that was acknowledged, or a sample of it at random.
fn some<T: Clone>(known: &BTreeMap<String, T>, rng: &mut Rng, all: bool) -> Vec<(String, T)> {
    let known: Vec<(String, T)> = known.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if all || known.is_empty() {
        return known;
    }
    let number = |rng: &mut Rng| usize::try_from(rng.below(known.len() as u64)).unwrap_or(0);
    (0..SAMPLE).filter_map(|_| known.get(number(rng)).cloned()).collect()
}

/// The child's life.
pub(super) fn work(orders: &Path, store: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(orders).map_err(|e| e.to_string())?;
    let orders: Orders = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let test = rocks_left(store, orders.wall_ms, orders.seed.wrapping_add(orders.generation).wrapping_add(1));
    let test = test.map_err(|error| format!("does not open: {error:?}"))?;
    let engine = test.engine().clone();
    say(&format!("opened {} {}", engine.now_ms(), engine.sequence()));
    let shared = registry(&engine, "shared")?;
    let shared = repository(&shared)?;
    let mut workers = Vec::new();
    for (lane, orders) in (0..).zip(orders.lanes) {
        let mut worker = Worker::new(lane, registry(&engine, &format!("lane-{lane}"))?, orders);
        let (seen, text) = worker.look()?;
        // Whoever reads of a difference needs to know what was there.
        std::fs::write(store.with_file_name(format!("seen-{lane}")), text).map_err(|e| e.to_string())?;
        say(&format!("seen {lane} {}", serde_json::to_string(&seen).map_err(|e| e.to_string())?));
        workers.push(worker);
    }
    let (blobs, tags) = read_back(&shared, &orders.blobs, &orders.tags)?;
    if orders.all {
        sound(&engine, Level::Bytes).map_err(|wrong| format!("the store is not sound: {wrong}"))?;
    }
    say(&format!("verified {blobs} {tags}"));

    let Orders { seed, generation, requests, pushes, lie, .. } = orders;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<(), String> {
        let workers =
            workers.into_iter().map(|worker| scope.spawn(move || worker.work(seed, generation, requests, lie)));
        let mut busy: Vec<_> = workers.collect();
        for pusher in 0..PUSHERS {
            let shared = &shared;
            busy.push(scope.spawn(move || push(shared, seed, generation, (pusher, pushes))));
        }
        let maintainer = scope.spawn(|| maintain(&test, &done));
        let ended: Result<Vec<()>, String> = busy.into_iter().map(|thread| thread.join().map_err(panicked)?).collect();
        done.store(true, Ordering::Relaxed);
        maintainer.join().map_err(panicked)??;
        ended.map(drop)
    })?;
    if orders.close {
        engine.close().map_err(|failure| failure.to_string())?;
        return Ok(());
    }
    // Open until the kill comes.
    say("idle");
    loop {
        std::thread::park();
    }
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

fn registry(engine: &Engine, name: &str) -> Result<Registry, String> {
    let name = RegistryName::parse(name).map_err(|e| e.to_string())?;
    engine.create_registry(&name, &Call::anonymous()).map_err(|failure| failure.to_string())?;
    Ok(engine.registry(&name))
}

fn repository(registry: &Registry) -> Result<Repository, String> {
    let name = RepositoryName::parse("app").map_err(|e| e.to_string())?;
    match registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous()) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(registry.repository(&name))
}

/// Reads what was acknowledged; it must be there and right. How many blobs and tags were.
fn read_back(shared: &Repository, blobs: &[String], tags: &[(String, String)]) -> Result<(u64, u64), String> {
    let mut read_back = (0, 0);
    for text in blobs {
        let digest = Digest::parse(text).map_err(|e| e.to_string())?;
        let reader = shared.blob(&digest).map_err(|error| format!("blob {digest}: {error:?}"))?;
        let mut bytes = vec![0; usize::try_from(reader.size()).map_err(|e| e.to_string())?];
        let mut at = 0;
        while at < bytes.len() {
            let read = reader.read_at(at as u64, bytes.get_mut(at..).unwrap_or_default());
            match read.map_err(|error| format!("blob {digest}: {error:?}"))? {
                0 => return Err(format!("blob {digest} ends at {at}")),
                n => at += n,
            }
        }
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Err(format!("blob {digest}: other bytes"));
        }
        read_back.0 += 1;
    }
    for (tag, digest) in tags {
        let tag = Tag::parse(tag).map_err(|e| e.to_string())?;
        let manifest = shared.manifest(&Reference::Tag(tag.clone()), ManifestRead::Peek);
        let manifest = manifest.map_err(|error| format!("tag {tag}: {error:?}"))?;
        if manifest.digest.to_string() != *digest || Digest::sha256(&manifest.bytes).to_string() != *digest {
            return Err(format!("tag {tag} leads to {} and not to {digest}", manifest.digest));
        }
        read_back.1 += 1;
    }
    Ok(read_back)
}

/// Pushes blobs, and now and then an image of the last of them, and says so. Some of the blobs both pushers push.
fn push(shared: &Repository, seed: u64, generation: u64, (pusher, pushes): (u64, u64)) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ generation.rotate_left(32) ^ ((pusher + 1) << 20));
    let mut pushed: Vec<(Digest, u64)> = Vec::new();
    for number in 0..pushes {
        let own = if rng.below(4) == 0 { 0 } else { pusher + 1 };
        let content = crate::fs::mix(seed ^ generation.wrapping_mul(1_000_003) ^ (number << 8) ^ own);
        let len = match content % 8 {
            0..4 => 50 + content % 4_000,
            4..7 => 4_097 + content % 60_000,
            _ => 100_000 + content % 200_000,
        };
        let bytes = pool::noise(content, usize::try_from(len).unwrap_or(0));
        let digest = push_blob(shared, bytes, rng.below(3)).map_err(|error| format!("push: {error}"))?;
        say_pushed(&Pushed::Blob(digest.to_string()))?;
        pushed.push((digest, len));
        if rng.below(4) == 0 {
            let (document, tag) = (document(&pushed), format!("g{generation}-{pusher}-{number}"));
            let tag = Tag::parse(&tag).map_err(|e| e.to_string())?;
            let put = PutManifest::new(document.as_str()).with_tag(tag.clone());
            let put = shared.put_manifest(&put, &Call::anonymous()).map_err(|error| format!("put: {error:?}"))?;
            say_pushed(&Pushed::Tag(tag.to_string(), put.digest.to_string()))?;
            pushed.clear();
        }
    }
    Ok(())
}

fn say_pushed(pushed: &Pushed) -> Result<(), String> {
    say(&format!("pushed {}", serde_json::to_string(pushed).map_err(|e| e.to_string())?));
    Ok(())
}

/// In one call, as a stream, or in two parts.
fn push_blob(shared: &Repository, bytes: Vec<u8>, way: u64) -> Result<Digest, String> {
    let call = Call::anonymous();
    if way == 0 {
        let completed = shared.put_blob(&bytes, &Expected::Computed, &call).map_err(|error| format!("{error:?}"))?;
        return Ok(completed.digest);
    }
    let upload = shared.begin_upload(Algorithm::Sha256, &call).map_err(|error| format!("{error:?}"))?;
    let complete = CompleteUpload::expecting(Expected::Digest(Digest::sha256(&bytes)));
    if way == 1 {
        let mut writer = shared.upload_writer(&upload, None, &call).map_err(|error| format!("{error:?}"))?;
        writer.write_owned(bytes).map_err(|error| format!("{error:?}"))?;
        return writer.complete(&complete).map(|completed| completed.digest).map_err(|error| format!("{error:?}"));
    }
    let second = bytes.get(bytes.len() / 2..).unwrap_or_default().to_vec();
    let mut first = bytes;
    first.truncate(first.len() / 2);
    let mut at = 0;
    for part in [first, second] {
        let range = PartRange { first_byte: at, len: part.len() as u64 };
        at += part.len() as u64;
        shared.append_part(&upload, range, part, &call).map_err(|error| format!("{error:?}"))?;
    }
    let completed = shared.complete_upload(&upload, &complete, &call).map_err(|error| format!("{error:?}"))?;
    Ok(completed.digest)
}

fn document(blobs: &[(Digest, u64)]) -> String {
    let descriptor = |(digest, size): &(Digest, u64)| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<String> = blobs.iter().map(descriptor).collect();
    let config = layers.first().cloned().unwrap_or_default().replace("layer.v1.tar", "config.v1+json");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    )
}

fn maintain(test: &TestEngine, done: &AtomicBool) -> Result<(), String> {
    while !done.load(Ordering::Relaxed) {
        test.engine().maintain().map_err(|failure| format!("maintain: {failure:?}"))?;
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}
