//! The layerhold registry server and its command line.
//!
//! One port speaks both protocols: `POST /` is an ECR operation, `/v2/` is OCI distribution, `/download/` serves the URLs
//! that `GetDownloadUrlForLayer` gives out, `/healthz` says that the server answers. The adapter crates decide what each
//! request means; this crate owns what they leave open: sockets, time limits, memory limits, threads, logs, settings.
//!
//! A request's way: [`listen`] accepts a connection and speaks HTTP on it, [`connection`] keeps its time limits, [`app`]
//! picks the protocol, the registry and the thread. Bodies come in through [`arrival`], whole within a [`budget`]
//! ([`collect`]) or as a stream ([`upload`]); blobs go out through [`download`] in pooled [`buffers`]. What an operator asks
//! of a running server comes in through [`control`], which is no listener; [`command`] has those verbs.

pub mod answer;
pub mod app;
pub mod arrival;
pub mod body;
pub mod budget;
pub mod buffers;
pub mod cli;
pub mod collect;
pub mod command;
pub mod config;
pub mod connection;
pub mod control;
pub mod download;
mod download_url;
mod ecr;
pub mod host;
mod inspect;
pub mod listen;
pub mod log;
mod oci;
pub mod request_id;
pub mod serve;
pub mod store;
pub mod upload;

/// An error and everything that led to it, on one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
