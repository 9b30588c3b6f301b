//! Time, randomness and threads, as values that are passed in.
//!
//! Nothing else in the engine asks the machine for them, so that a test can hold all three in its hand.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A source of time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since some fixed point of this process; never decreases.
    fn monotonic_ms(&self) -> u64;

    /// Milliseconds since 1970-01-01 UTC, for display; may jump.
    fn wall_ms(&self) -> u64;
}

/// A source of random bytes that nobody can guess.
pub trait Entropy: Send + Sync + Debug {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// A way to run work beside the caller.
pub trait Spawner: Send + Sync + Debug {
    /// Runs `job` on another thread. An error means that it did not and will not run.
    ///
    /// A job lasts as long as the upload that it hashes for, so it must not wait behind another one: a pool whose threads
    /// are all taken answers an error, and then the caller hashes by itself.
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// The machine's own clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter")]
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the adapter")]
    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The operating system's random bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::expect_used, reason = "a Linux without getrandom cannot run the engine safely")]
    fn fill(&self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let n = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())
                .or_else(|e| if e == rustix::io::Errno::INTR { Ok(0) } else { Err(e) })
                .expect("the system has no random bytes");
            bytes = bytes.get_mut(n..).unwrap_or_default();
        }
    }
}

/// One operating-system thread for each job.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadSpawner;

impl Spawner for ThreadSpawner {
    fn spawn(&self, name: &str, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(job).map(|_| ())
    }
}

/// Clock, randomness and threads together, cheap to clone.
#[derive(Debug, Clone)]
pub struct Components {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids and keys come from.
    pub entropy: Arc<dyn Entropy>,
    /// Where work beside the caller runs; without it everything is slower and still right.
    pub spawner: Option<Arc<dyn Spawner>>,
}

impl Default for Components {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            spawner: Some(Arc::new(ThreadSpawner)),
        }
    }
}
