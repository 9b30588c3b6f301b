//! Manifests: documents kept byte for byte.

pub mod document;
mod error;
pub mod json;
mod members;
