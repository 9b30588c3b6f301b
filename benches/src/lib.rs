//! Workloads and yardsticks shared by the criterion targets, and the comparison of the two.
//!
//! Each target measures the engine beside a yardstick in the same run, by turns, because the speed of a disk drifts by
//! more than what is to be seen. docs/benchmarks.md says what each yardstick is and what came out.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench measures with the machine's own clock and threads, and a failure ends it"
)]

pub mod compare;
pub mod content;
pub mod image;
pub mod pipeline;
pub mod raw;
pub mod recorder;
pub mod store;
pub mod took;

/// Whether the targets are only to be tried out: without `--bench`, or with `--test`, as criterion sees it.
#[must_use]
pub fn quick() -> bool {
    let mut arguments = std::env::args();
    let mut bench = false;
    !arguments.all(|argument| {
        bench |= argument == "--bench";
        argument != "--test"
    }) || !bench
}
