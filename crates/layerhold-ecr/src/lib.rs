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
//! ```
//! use std::sync::Arc;
//!
//! use layerhold::Call;
//! use layerhold::clock::SystemClock;
//! use layerhold_ecr::Ecr;
//! use layerhold_ecr::registry::{ExternalUrl, RegistryConfig};
//! use layerhold_ecr::token::TokenKey;
//! use layerhold_ecr::wire::Request;
//!
//! let store = layerhold_testkit::engine::memory();
//! let url = ExternalUrl::parse("http://127.0.0.1:5000")?;
//! let config = RegistryConfig::new("000000000000", "us-east-1", "local", url.clone(), url)?;
//! let ecr = Ecr::new(store.engine(), config, TokenKey::new([7; 32]), Arc::new(SystemClock::default()))?;
//! ecr.create_registries(&Call::anonymous())?;
//!
//! let request = Request {
//!     target: Some("AmazonEC2ContainerRegistry_V20150921.CreateRepository"),
//!     content_type: Some("application/x-amz-json-1.1"),
//!     body: br#"{"repositoryName": "team/app"}"#.to_vec(),
//!     request_id: "6f0f5c2e",
//! };
//! let response = ecr.respond(request, &Call::anonymous());
//! assert_eq!(response.status, 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
