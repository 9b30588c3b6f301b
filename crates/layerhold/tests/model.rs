//! Goal: whatever is asked of the engine, it answers as the reference model does, also after reopening and after a kill.
//!
//! Method: random scripts of operations run on both sides, request by request; answers and refusals are compared with all
//! their facts, and at the end everything that can be seen. A script that fails is made short and printed; saved below
//! `tests/regressions/` it is run again by every later test.
//!
//! `LAYERHOLD_MODEL_OPERATIONS` says how many operations each test runs, `LAYERHOLD_SEED` from which seed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::Path;

use layerhold_testkit::campaign::{campaign, replay};
use layerhold_testkit::engine::{self, TestEngine};
use layerhold_testkit::operation::Script;
use layerhold_testkit::runner::{Disagreement, Runner};

const SEED: u64 = 20_260_917;

fn on(test: TestEngine, script: &Script) -> Result<u64, Disagreement> {
    Runner::new(test, script.small_limits).run(script)
}

fn in_memory(script: &Script) -> Result<u64, Disagreement> {
    on(engine::memory(), script)
}

#[cfg(feature = "rocksdb")]
fn on_rocksdb(script: &Script) -> Result<u64, Disagreement> {
    let directory = tempfile::tempdir().expect("a directory");
    on(engine::rocks(directory.path()), script)
}

/// A number from the environment: a test has no other arguments.
#[expect(clippy::disallowed_methods, reason = "this is how a longer run, or a failed one, is asked for")]
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn run(store: &str, operations: u64, run: impl Fn(&Script) -> Result<u64, Disagreement>) {
    let seed = number("LAYERHOLD_SEED", SEED);
    let done = campaign(seed, number("LAYERHOLD_MODEL_OPERATIONS", operations), run);
    println!("store={store} seed={seed} {done:?}");
}

#[test]
fn random_operations_in_memory() {
    run("memory", 15_000, in_memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn random_operations_on_rocksdb() {
    run("rocksdb", 5_000, on_rocksdb);
}

#[test]
fn what_failed_once_in_memory() {
    replay(&regressions(), in_memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn what_failed_once_on_rocksdb() {
    replay(&regressions(), on_rocksdb);
}

fn regressions() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions")
}
