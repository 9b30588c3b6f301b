//! Suites that hold every implementation of a storage trait to its words. Each panics where the contract is broken.

pub mod blobs;
pub mod counting;
pub mod fs;
pub mod metadata;
