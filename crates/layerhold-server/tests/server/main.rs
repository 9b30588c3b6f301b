//! The program itself: started as a process over a store in a temporary directory, spoken to over sockets.

mod client;
mod differential;
mod harness;
mod kill;
mod limits;
mod push_pull;
mod startup;
