//! What the two services' models say: operations, shapes, constraints, exceptions, and the Rust types for them.
//!
//! `codegen/generate.py` writes these files; a check runs it again and compares.

pub mod private;
pub mod public;
pub mod types;
