//! Every operation that has a body, through the wire, over an engine in memory: what it answers, and every error that its
//! page names.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod deletion;
mod documents;
mod harness;
mod images;
mod layers;
mod listings;
mod registries;
mod repositories;
