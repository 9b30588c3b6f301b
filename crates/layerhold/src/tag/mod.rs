//! Tags: names for manifests, and the rules that move them.

pub mod rules;
