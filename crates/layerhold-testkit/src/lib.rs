//! Reference model, generators, faulty file systems and contract suites for layerhold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "only tests call this crate, and a panic is how it tells them"
)]

pub mod blob_lives;
pub mod campaign;
pub mod contract;
pub mod crash;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod file_table;
pub mod fs;
pub mod harm;
pub mod journal;
pub mod judge;
pub mod model;
pub mod operation;
pub mod perform;
#[cfg(all(feature = "rocksdb", target_os = "linux"))]
pub mod real;
pub mod runner;
pub mod sound;
pub mod technique;
pub mod techniques;
pub mod trouble;
pub mod witness;
pub mod workloads;
