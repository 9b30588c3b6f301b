//! Goal: damage to stored bytes is never served, never spreads, is written down, and goes away by pushing again.
//!
//! Method: an engine over memory whose files, rows and failing calls are in the test's hand is harmed in every way that a
//! medium can, read along every path, healed, reopened, and cut off at every call that changes the medium.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod concurrency;
mod crash;
mod files;
mod manifest;
mod odd;
mod rows;
mod scrub;
mod shaky;
mod snapshot;
mod support;
mod unwritten;
mod upload;
mod window;
