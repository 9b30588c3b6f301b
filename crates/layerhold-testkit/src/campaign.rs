//! Many random scripts from one seed; the one that fails is made short and told so that it can be kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::operation::Script;
use crate::operation::generate::scripts;

/// The longest script of a campaign.
const OPERATIONS_MAX: usize = 200;

/// How many shorter scripts are tried once one has failed.
const SHRINK_STEPS: u32 = 3_000;

/// How much a campaign did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Scripts.
    pub scripts: u64,
    /// Operations in them.
    pub operations: u64,
    /// Requests that these stood for.
    pub requests: u64,
}

/// Runs the scripts of `seed`, one after the other, until there were `operations` operations.
///
/// `run` runs one script from a fresh start and says how many requests there were, or what went wrong; a panic counts as
/// going wrong.
///
/// # Panics
/// At the first script that goes wrong, with the shortest script found that still does, and with what to do about it.
pub fn campaign<E: std::fmt::Display>(seed: u64, operations: u64, run: impl Fn(&Script) -> Result<u64, E>) -> Done {
    let mut done = Done::default();
    while done.operations < operations {
        match one(seed, done.scripts, &run) {
            Ok(more) => {
                done.scripts += more.scripts;
                done.operations += more.operations;
                done.requests += more.requests;
            }
            Err(report) => panic!("{report}"),
        }
    }
    done
}

/// Draws the script with this number and runs it; if it goes wrong, the shortest script found that still does is in the
/// error, with what to do about it.
pub fn one<E: std::fmt::Display>(
    seed: u64,
    number: u64,
    run: impl Fn(&Script) -> Result<u64, E>,
) -> Result<Done, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let attempt = |script: &Script| -> Result<u64, String> {
        match catch_unwind(AssertUnwindSafe(|| run(script))) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(panic) => Err(panic_text(&*panic)),
        }
    };
    let strategy = scripts(OPERATIONS_MAX);
    let mut tree = strategy.new_tree(&mut runner).expect("scripts have no filters that could give up");
    let script = tree.current();
    match attempt(&script) {
        Ok(requests) => Ok(Done { scripts: 1, operations: script.operations.len() as u64, requests }),
        Err(error) => {
            let (script, error) = shrink(&mut tree, script, error, attempt);
            let script = to_json(&script);
            Err(format!(
                "script {number} of seed {seed} failed: {error}\nthe shortest script that fails, for a file in \
                 tests/regressions/:\n{script}\n"
            ))
        }
    }
}

/// Runs every saved script below `directory`; how many there were.
///
/// # Panics
/// At the first that goes wrong, with its file's name.
pub fn replay<E: std::fmt::Display>(directory: &Path, run: impl Fn(&Script) -> Result<u64, E>) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("a directory of saved scripts") {
        let path = entry.expect("a directory entry").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let script = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if let Err(error) = run(&script) {
                panic!("{}: {error}", path.display());
            }
            count += 1;
        }
    }
    count
}

/// A script as it is saved: one operation on each line.
pub fn to_json(script: &Script) -> String {
    let line = |operation| format!("    {}", serde_json::to_string(operation).expect("an operation is JSON"));
    let lines: Vec<_> = script.operations.iter().map(line).collect();
    format!("{{\n  \"small_limits\": {},\n  \"operations\": [\n{}\n  ]\n}}", script.small_limits, lines.join(",\n"))
}

fn shrink(
    tree: &mut impl ValueTree<Value = Script>,
    mut script: Script,
    mut error: String,
    attempt: impl Fn(&Script) -> Result<u64, String>,
) -> (Script, String) {
    for _ in 0..SHRINK_STEPS {
        if !tree.simplify() {
            break;
        }
        loop {
            let shorter = tree.current();
            match attempt(&shorter) {
                Err(another) => {
                    (script, error) = (shorter, another);
                    break;
                }
                Ok(_) if tree.complicate() => {}
                Ok(_) => return (script, error),
            }
        }
    }
    (script, error)
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}
