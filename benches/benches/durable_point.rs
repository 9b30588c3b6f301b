//! What a durable commit costs, by where its commit point is (docs/decisions/0001-journal-as-commit-point.md).
//!
//! Each commit writes 14 rows, 1.5 KB in all, and returns once they survive a power cut and can be read. Compared at
//! 1, 8 and 32 threads, on the disk that holds cargo's target directory:
//!
//! - `raw`: RocksDB alone, one synced batch a commit from each thread; the yardstick. It notices no loss.
//! - `watermark`: one committer over RocksDB's log, then a sector of its own that says how far the log goes.
//! - `journal`: one committer over [`Journaled`], RocksDB's log off.
//!
//! Both committers take what is waiting as one group and let the next group in as early as they can.
//!
//! The speed of a disk drifts by more than the stores differ. So the ratios are taken first, in rounds in which each
//! store has its turn; criterion's figures, one store after the other, follow.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::real::RealFileSystem;
use layerhold::store::rocks::{RocksOptions, RocksTable};
use layerhold::store::{Batch, Durability, Member, MetadataStore, Milestone};
use rocksdb::{BlockBasedOptions, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

const ROWS: u64 = 14;
const KEY_BYTES: usize = 48;
const VALUE_BYTES: usize = 60;

/// Something that makes rows durable; `commit` is called by many threads.
trait Store: Send + Sync {
    fn commit(&self, number: u64);
}

/// The rows of commit `number`, spread over the key space as digests are.
fn rows(number: u64) -> impl Iterator<Item = ([u8; KEY_BYTES], [u8; VALUE_BYTES])> {
    (0..ROWS).map(move |row| {
        let mut state = number * ROWS + row + 1;
        let mut fill = |bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(8) {
                state = (state ^ (state >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
                chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
            }
        };
        let (mut key, mut value) = ([0; KEY_BYTES], [0; VALUE_BYTES]);
        fill(&mut key);
        fill(&mut value);
        key[0] = 1 + row as u8;
        (key, value)
    })
}

/// RocksDB with its log, otherwise set as the engine sets it.
fn rocksdb(path: &Path) -> DB {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(16 << 20);
    options.set_max_write_buffer_number(6);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_zero_slowdown_writes_trigger(40);
    options.set_level_zero_stop_writes_trigger(64);
    options.set_max_background_jobs(2);
    DB::open(&options, path).unwrap()
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::new();
    options.set_sync(true);
    options
}

struct Raw {
    db: DB,
    options: WriteOptions,
}

impl Store for Raw {
    fn commit(&self, number: u64) {
        let mut batch = WriteBatch::default();
        rows(number).for_each(|(key, value)| batch.put(key, value));
        self.db.write_opt(batch, &self.options).unwrap();
    }
}

/// Gathers what waits into groups. The first waiter leads; `run` calls `next` when the following group may start.
struct Committer<M> {
    queue: Mutex<Queue<M>>,
}

struct Queue<M> {
    waiting: Vec<(M, Arc<Slot>)>,
    led: bool,
    sequence: u64,
}

#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
    changed: Condvar,
}

#[derive(Default, PartialEq)]
enum SlotState {
    #[default]
    Waiting,
    Leads,
    Done,
}

impl Slot {
    fn set(&self, state: SlotState) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_one();
    }
}

impl<M> Committer<M> {
    fn new() -> Self {
        Self { queue: Mutex::new(Queue { waiting: Vec::new(), led: false, sequence: 0 }) }
    }

    fn submit(&self, member: M, run: impl FnOnce(Vec<M>, u64, &mut dyn FnMut())) {
        let slot = Arc::new(Slot::default());
        let leads = {
            let mut queue = self.queue.lock().unwrap();
            queue.waiting.push((member, slot.clone()));
            !std::mem::replace(&mut queue.led, true)
        };
        if !leads {
            let mut state = slot.state.lock().unwrap();
            while *state == SlotState::Waiting {
                state = slot.changed.wait(state).unwrap();
            }
            if *state == SlotState::Done {
                return;
            }
        }
        let (group, sequence) = {
            let mut queue = self.queue.lock().unwrap();
            let group = std::mem::take(&mut queue.waiting);
            queue.sequence += group.len() as u64;
            (group, queue.sequence)
        };
        let (members, slots): (Vec<M>, Vec<_>) = group.into_iter().unzip();
        run(members, sequence, &mut || {
            let mut queue = self.queue.lock().unwrap();
            match queue.waiting.first() {
                Some((_, next)) => next.set(SlotState::Leads),
                None => queue.led = false,
            }
        });
        slots.iter().for_each(|slot| slot.set(SlotState::Done));
    }
}

struct Watermark {
    db: DB,
    options: WriteOptions,
    mark: Mutex<File>,
    committer: Committer<u64>,
}

impl Store for Watermark {
    fn commit(&self, number: u64) {
        self.committer.submit(number, |members, sequence, next| {
            let mut batch = WriteBatch::default();
            members.iter().flat_map(|number| rows(*number)).for_each(|(key, value)| batch.put(key, value));
            batch.put(b"\0sequence", sequence.to_be_bytes());
            self.db.write_opt(batch, &self.options).unwrap();
            next();
            let mark = self.mark.lock().unwrap();
            mark.write_all_at(&[sequence as u8; 512], (sequence % 2) * 4096).unwrap();
            mark.sync_data().unwrap();
        });
    }
}

struct OwnJournal {
    store: Journaled<RocksTable>,
    committer: Committer<Member>,
}

impl Store for OwnJournal {
    fn commit(&self, number: u64) {
        let mut batch = Batch::new();
        rows(number).for_each(|(key, value)| batch.put(&key, &value));
        let member = Member::new(self.store.lock_and_get(&[]).unwrap(), batch);
        self.committer.submit(member, |group, sequence, next| {
            let reached = &mut |milestone| match milestone {
                Milestone::Committed => {}
                Milestone::Next => next(),
            };
            self.store.commit(&group, sequence, Durability::Synced, reached).unwrap();
        });
    }
}

fn raw(path: &Path) -> Box<dyn Store> {
    Box::new(Raw { db: rocksdb(path), options: synced() })
}

fn watermark(path: &Path) -> Box<dyn Store> {
    let mark = File::create_new(path.join("mark")).unwrap();
    mark.write_all_at(&[0; 8192], 0).unwrap();
    mark.sync_all().unwrap();
    let db = rocksdb(&path.join("table"));
    Box::new(Watermark { db, options: synced(), mark: Mutex::new(mark), committer: Committer::new() })
}

fn journal(path: &Path) -> Box<dyn Store> {
    let table = RocksTable::create(&path.join("table"), RocksOptions::default()).unwrap();
    let fs = Arc::new(RealFileSystem::new(path.to_owned()).unwrap());
    // As most rows of the engine: nobody locks them, so none is kept for the next who does.
    let options = JournaledOptions::default().with_guard_checks(false).with_unguarded(|_| true);
    let store = Journaled::create(fs, table, *b"a store to bench", options).unwrap();
    Box::new(OwnJournal { store, committer: Committer::new() })
}

/// The time that `threads` need for `commits` commits in all.
fn run(store: &dyn Store, threads: u64, commits: u64, numbers: &AtomicU64) -> Duration {
    let left = AtomicU64::new(commits);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    store.commit(numbers.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    start.elapsed()
}

type Open = fn(&Path) -> Box<dyn Store>;

const STORES: [(&str, Open); 3] = [("raw", raw), ("watermark", watermark), ("journal", journal)];
const THREADS: [u64; 3] = [1, 8, 32];
const ROUNDS: usize = 15;
const TURN: Duration = Duration::from_millis(400);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Commits a second of each store in the same round, and their median ratio to `raw` over all rounds.
fn ratios() {
    println!("threads store      commits/s  of raw (median of {ROUNDS} rounds, lower and upper quarter)");
    for threads in THREADS {
        let directories = STORES.map(|_| directory());
        let mut stores = Vec::new();
        for ((_, open), directory) in STORES.iter().zip(&directories) {
            stores.push((open(directory.path()), AtomicU64::new(0)));
        }
        let mut rates = vec![Vec::new(); STORES.len()];
        for round in 0..=ROUNDS {
            for ((store, numbers), rates) in stores.iter().zip(&mut rates) {
                let before = numbers.load(Ordering::Relaxed);
                let took = run_for(&**store, threads, numbers);
                let commits = numbers.load(Ordering::Relaxed) - before;
                // The first round warms up.
                if round > 0 {
                    rates.push(commits as f64 / took.as_secs_f64());
                }
            }
        }
        for ((name, _), own) in STORES.iter().zip(&rates) {
            let mut ratios: Vec<f64> = own.iter().zip(&rates[0]).map(|(own, raw)| own / raw).collect();
            ratios.sort_by(f64::total_cmp);
            let (lower, upper) = (ratios[ROUNDS / 4], ratios[ROUNDS - 1 - ROUNDS / 4]);
            let (rate, ratio) = (median(own.clone()), median(ratios));
            println!("{threads:7} {name:10} {rate:9.0}  {ratio:6.2} ({lower:.2} to {upper:.2})");
        }
    }
}

/// Lets `threads` commit for a turn.
fn run_for(store: &dyn Store, threads: u64, numbers: &AtomicU64) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while start.elapsed() < TURN {
                    store.commit(numbers.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    start.elapsed()
}

fn durable_point(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable_point");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1));
    for threads in THREADS {
        for (name, open) in STORES {
            let directory = directory();
            let store = open(directory.path());
            let numbers = AtomicU64::new(0);
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|commits| run(&*store, threads, commits, &numbers));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, durable_point);

fn main() {
    // `cargo test --benches` asks only whether a bench runs at all.
    if !std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        ratios();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
