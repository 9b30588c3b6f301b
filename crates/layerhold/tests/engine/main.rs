//! The engine by noun, through its public API alone: what a host relies on, told one case at a time.
//!
//! The reference model (`tests/model.rs`) holds the rules over random sequences; here stand the cases that a reader wants to
//! see, and those that need threads, clocks or handles that live on.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod blob;
mod listing;
mod manifest;
mod repository;
mod support;
mod tag;
mod upload;
