//! Goal: a check finds every kind of damage and nothing else; a repair mends what can be proved and breaks nothing.
//!
//! Method: damage is done to rows and files behind the engine's back, one kind at a time and at random, and findings,
//! remedies and what a second check says are compared with what they must be.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod crash;
mod errors;
mod kinds;
mod live;
mod loss;
mod medium;
mod random;
mod scene;
