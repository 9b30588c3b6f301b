//! Whether a store is sound, by the engine's own check: what every campaign asks of what it leaves behind.

use layerhold::check::{CheckOptions, Finding, Level, Outcome, Severity};
use layerhold::engine::Engine;

/// What is wrong with a store, one line for each finding; leftovers of a crash are no fault. `Ok` holds how many rows were
/// read.
pub fn sound(engine: &Engine, level: Level) -> Result<u64, String> {
    let mut findings: Vec<(Finding, Outcome)> = Vec::new();
    let report = engine
        .check(&CheckOptions::default().with_level(level), &mut findings)
        .map_err(|failure| format!("the check failed: {failure:?}"))?;
    let wrong: Vec<_> = findings
        .iter()
        .filter(|(finding, _)| finding.fault.severity() > Severity::Leftover)
        .map(|(finding, _)| finding.to_string())
        .collect();
    if report.is_sound() && wrong.is_empty() { Ok(report.rows) } else { Err(wrong.join("\n")) }
}
