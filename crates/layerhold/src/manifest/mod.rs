//! Manifests: documents kept byte for byte.

pub mod document;
pub mod json;
