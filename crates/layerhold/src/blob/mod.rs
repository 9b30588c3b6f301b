//! Blobs: bytes addressed by digest.

pub mod fingerprint;
