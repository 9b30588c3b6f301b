//! How long something took, and how busy it kept the processor.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What was measured of one piece of work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// From the beginning to the end.
    pub wall: Duration,
    /// Processor time of all threads of the process together.
    pub processor: Duration,
    /// Processor time of the thread that had most of it; zero where nobody asked.
    pub busiest: Duration,
}

/// Runs until it is asked what it shows.
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    processor: Duration,
    thread: Duration,
}

impl Stopwatch {
    /// Starts now, for the calling thread.
    #[must_use]
    pub fn start() -> Self {
        Self { processor: clock(ClockId::ProcessCPUTime), thread: thread_time(), start: Instant::now() }
    }

    /// What passed since the start; the calling thread counts as the busiest.
    #[must_use]
    pub fn stop(&self) -> Took {
        let wall = self.start.elapsed();
        Took { wall, processor: clock(ClockId::ProcessCPUTime) - self.processor, busiest: thread_time() - self.thread }
    }
}

impl Took {
    /// Of work that is all done by the calling thread, or waited for by it.
    pub fn by(work: impl FnOnce()) -> Self {
        let stopwatch = Stopwatch::start();
        work();
        stopwatch.stop()
    }

    /// Of `threads` threads that start at the same moment; each is told its number and answers the processor time of
    /// its busiest thread, itself or one that it started.
    pub fn together(threads: usize, work: impl Fn(usize) -> Duration + Sync) -> Self {
        let (barrier, work) = (Barrier::new(threads + 1), &work);
        thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|number| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        work(number)
                    })
                })
                .collect();
            let stopwatch = Stopwatch::start();
            barrier.wait();
            let busiest = handles.into_iter().map(|handle| handle.join().unwrap()).max().unwrap_or_default();
            Took { busiest, ..stopwatch.stop() }
        })
    }

    /// The sum of both; of the busiest threads the sum, too, as if they were the same.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            processor: self.processor + other.processor,
            busiest: self.busiest + other.busiest,
        }
    }

    /// What kept it from being faster: the processor where one thread, or all cores, had nothing to wait for.
    #[must_use]
    pub fn limit(&self) -> &'static str {
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        let wall = self.wall.as_secs_f64();
        let busy = self.busiest.as_secs_f64() >= 0.85 * wall || self.processor.as_secs_f64() >= 0.85 * cores * wall;
        if busy { "processor" } else { "disk" }
    }

    /// How many cores it kept busy.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.processor.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Waits until the process has nothing left to do, so that what earlier work left to RocksDB's own threads is not counted
/// as part of the next one.
pub fn settle() {
    const LOOK: Duration = Duration::from_millis(10);
    let patience = Instant::now();
    let mut idle = 0;
    while idle < 2 && patience.elapsed() < Duration::from_secs(30) {
        let before = clock(ClockId::ProcessCPUTime);
        thread::sleep(LOOK);
        idle = if clock(ClockId::ProcessCPUTime) - before < LOOK / 20 { idle + 1 } else { 0 };
    }
}

/// Processor time of the calling thread so far.
#[must_use]
pub fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
