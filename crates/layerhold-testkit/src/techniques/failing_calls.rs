//! Every call that a workload makes of its files fails, in every way.

use crate::faults::{Phase, Ran, run};
use crate::fs::{Failure, Fault, Repeat};
use crate::technique::{Outcome, Record, Technique, Unit};
use crate::workloads::workloads;

/// The calls of one workload are shared by so many units.
const SLICES: u64 = 16;

const PHASES: [Phase; 5] = [Phase::Work, Phase::Recovery, Phase::Making, Phase::Restore, Phase::RestoreAgain];

pub(super) struct FailingCalls;

impl Technique for FailingCalls {
    fn name(&self) -> &'static str {
        "failing-calls"
    }

    fn about(&self) -> &'static str {
        "every file-system call of 12 workloads, of opening or restoring what they left and of making a store fails: EIO, ENOSPC, EINTR, EROFS, short, zero, a sync that loses; once and sticky"
    }

    fn units(&self, _: u64) -> Option<u64> {
        Some(workloads().len() as u64 * PHASES.len() as u64 * SLICES)
    }

    fn units_brief(&self) -> u64 {
        12
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let workloads = workloads();
        let count = workloads.len() as u64;
        // Neighbouring units are of different workloads, so that a short look meets all.
        let (name, operations) = &workloads[(unit.number % count) as usize];
        let phase = PHASES[((unit.number / count) % PHASES.len() as u64) as usize];
        let slice = unit.number / count / PHASES.len() as u64;
        let mut outcome = Outcome::default();
        for failure in Failure::ALL.into_iter().chain([Failure::LostSync]) {
            for repeat in [Repeat::Once, Repeat::Sticky, Repeat::StickyKind] {
                let mut nth = 1 + slice;
                loop {
                    let ran = run(name, operations, Fault { call: None, nth, failure, repeat }, phase);
                    let met = ran.reached;
                    note(&mut outcome, ran);
                    if !met {
                        break;
                    }
                    nth += SLICES;
                }
            }
        }
        outcome
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let seen = record.counts.keys().filter_map(|name| name.strip_prefix("made: "));
        seen.filter(|site| !record.counts.contains_key(&format!("failed: {site}")))
            .map(|site| format!("this call was made and never failed: {site}"))
            .collect()
    }
}

fn note(outcome: &mut Outcome, ran: Ran) {
    outcome.count("runs", 1);
    outcome.count("faults met", u64::from(ran.fired));
    outcome.count("requests failed", ran.failed);
    outcome.count("outcomes unknown", ran.unknown);
    for (site, failed) in ran.sites {
        outcome.count(&format!("made: {site}"), 1);
        if failed > 0 {
            outcome.count(&format!("failed: {site}"), failed);
        }
    }
    ran.violations.into_iter().for_each(|what| outcome.violation(what));
}
