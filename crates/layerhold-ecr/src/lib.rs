//! Amazon ECR operations, private and public, over the layerhold engine.
//!
//! The crate speaks AWS JSON 1.1 without sockets: [`Ecr::respond`] takes a request's target, content type and body and
//! gives status, headers and body. It translates and decides nothing: what a tag rule, a quota or a digest comes to is
//! the engine's answer, said in the service's words.
//!
//! - [`wire`] reads requests and judges them by the tables, before an operation sees them.
//! - [`generated`] is what the services' models say, and [`shape`] the language it is written in.
//! - [`registry`] knows which registries there are and what they are called.
//! - [`messages`] holds every text, [`failure`] every status, [`token`] the page tokens.
//!
//! docs/ecr.md lists all 85 operations, which of them have a body, and where this registry differs from the real one.

mod ecr;
pub mod failure;
pub mod generated;
pub mod messages;
mod operations;
pub mod registry;
pub mod shape;
pub mod token;
pub mod wire;

pub use ecr::Ecr;
pub use operations::{Cost, is_implemented};
