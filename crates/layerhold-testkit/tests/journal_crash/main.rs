//! The journal under power cuts, kills, failing calls and damage: what was acknowledged is there, or an error says
//! that it is not.
//!
//! Each test runs a small workload on a simulated file system, ends it in some way, opens what is left, and compares
//! the rows with the states that the workload went through. Sequence numbers name the states: nothing between two
//! groups is ever legal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test panics where something is wrong"
)]

mod crash;
mod damage;
mod faults;
