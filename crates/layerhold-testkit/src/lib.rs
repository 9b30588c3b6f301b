//! Reference model, generators, faulty file systems and contract suites for layerhold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "only tests call this crate, and a panic is how it tells them"
)]

pub mod contract;
pub mod fs;
