//! The adapter over an engine in memory: requests in, responses out, every route with its good and bad cases.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests too, and a panic is how they tell"
)]

mod blob;
mod create;
mod fixture;
mod listing;
mod manifest;
mod prefix;
mod secrecy;
mod sessions;
mod upload;
