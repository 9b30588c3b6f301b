//! The adapter over an engine in memory: requests in, responses out, every route with its good and bad cases.

mod blob;
mod create;
mod fixture;
mod listing;
mod manifest;
mod prefix;
mod secrecy;
mod upload;
