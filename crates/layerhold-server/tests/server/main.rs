//! The program itself: started as a process over a store in a temporary directory, spoken to over sockets.

#![expect(clippy::disallowed_methods, reason = "a test may look at the clock and be told its seed")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod check;
mod client;
mod damage;
mod differential;
mod harness;
mod kill;
mod limits;
mod push_pull;
mod startup;
