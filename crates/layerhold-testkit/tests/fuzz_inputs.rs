//! Goal: what a fuzzer found once, and what it starts from, stays answered.
//!
//! Method: every file below `fuzz/corpus/` and `fuzz/artifacts/` goes through its target's body.

#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

#[path = "../../../fuzz/src/lib.rs"]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a fuzz target's way of failing is to panic; the fuzz workspace has its own lints"
)]
mod targets;

fn replay(target: &str, body: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut seeds = 0;
    for kind in ["corpus", "artifacts"] {
        for path in files(&fuzz.join(kind).join(target)) {
            let bytes = std::fs::read(&path).expect("a readable file");
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&bytes)));
            assert!(outcome.is_ok(), "{}", path.display());
            seeds += usize::from(kind == "corpus");
        }
    }
    assert!(seeds > 0, "{target} has no seeds");
}

/// The files of a directory, in the order of their names; none where there is no such directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

#[test]
fn grammar() {
    replay("grammar", targets::grammar);
}

#[test]
fn manifest() {
    replay("manifest", targets::manifest);
}

#[test]
fn ecr() {
    replay("ecr", targets::ecr);
}

#[test]
fn oci() {
    replay("oci", targets::oci);
}

#[test]
fn uploads() {
    replay("uploads", targets::uploads);
}

#[test]
fn operations() {
    replay("operations", targets::operations);
}

#[test]
fn crash() {
    replay("crash", targets::crash);
}
