//! Crash states of a simulated disk over the whole engine: every short workload, then random longer ones.

use crate::disk::{Bounds, Explorer, Letter, cut_the_making, letters};
use crate::fs::mix;
use crate::operation::{Operation, pool};
use crate::technique::{Outcome, Record, Technique, Unit};
use crate::trouble::Trouble;

/// Workloads of up to this many letters are all run.
const EXHAUSTIVE_LETTERS: u32 = 3;

/// What is opened at the cuts of those.
const EXHAUSTIVE: Bounds = Bounds { states: usize::MAX, states_in_recovery: usize::MAX, third_one_in: 16 };

/// And of longer ones, which are cut everywhere.
const SAMPLED: Bounds = Bounds { states: 24, states_in_recovery: 8, third_one_in: 16 };

pub(super) struct DiskStates;

/// Short workloads that were cut, and those whose last letter finds nothing to do: no upload to append to.
const SHORT: &str = "short workloads";
const IDLE: &str = "short workloads with nothing to do at their end";

/// How many workloads of one to [`EXHAUSTIVE_LETTERS`] letters there are.
fn exhaustive_units(letters: u64) -> u64 {
    (1..=EXHAUSTIVE_LETTERS).map(|length| letters.pow(length)).sum()
}

/// The letters of a unit behind the first, which is the making of a store: one letter, then all pairs, then all triples;
/// behind those random ones, some of them single operations of any kind.
fn workload(unit: &Unit) -> (Vec<Letter>, bool) {
    let letters = letters();
    let count = letters.len() as u64;
    let letter = |number: u64| letters[(number % count) as usize].1.clone();
    let mut number = unit.number - 1;
    for length in 1..=EXHAUSTIVE_LETTERS {
        if number < count.pow(length) {
            return ((0..length).rev().map(|place| letter(number / count.pow(place))).collect(), true);
        }
        number -= count.pow(length);
    }
    let mut state = unit.mixed();
    let mut next = || {
        state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
        state
    };
    let random = |draw: u64| match draw % 16 {
        // Every cut in it leaves many states, so not all short workloads can have it.
        1 => Letter::Befalls(Trouble::LostFormat),
        0 | 4 | 8 | 12 => match Operation::from_bytes(&pool::noise(draw, 16)) {
            // Time that passes would have to be told to every state that is opened; other techniques let it pass.
            Operation::AdvanceClock { .. } => Letter::Asked(vec![Operation::Maintain]),
            operation => Letter::Asked(vec![operation]),
        },
        _ => letter(draw / 16),
    };
    let length = 4 + next() % 7;
    ((0..length).map(|_| random(next())).collect(), false)
}

impl Technique for DiskStates {
    fn name(&self) -> &'static str {
        "disk-states"
    }

    fn about(&self) -> &'static str {
        "all states that power cuts can leave of a simulated disk, recoveries cut too: all workloads of up to 3 steps, then random ones"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        40
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        if unit.number == 0 {
            return cut_the_making(1, EXHAUSTIVE);
        }
        let (letters, exhaustive) = workload(unit);
        let mut explorer = Explorer::new(1, if exhaustive { EXHAUSTIVE } else { SAMPLED });
        let mut run = || {
            explorer.run(&[Operation::CreateRepository { repository: 0, mutability: 0, sparse: false }])?;
            // Cuts before the last letter are those of a shorter workload.
            let cut_from = if exhaustive { letters.len() - 1 } else { 0 };
            let mut asked = false;
            for (place, letter) in letters.iter().enumerate() {
                let cut = place >= cut_from;
                asked |= explorer.step(letter, cut)? && cut;
            }
            Ok(asked)
        };
        let ended: Result<bool, crate::runner::Disagreement> = run();
        let mut outcome = explorer.into_outcome();
        outcome.count(
            match (exhaustive, &ended) {
                (true, Ok(false)) => IDLE,
                (true, _) => SHORT,
                (false, _) => "random workloads",
            },
            1,
        );
        if let Err(wrong) = ended {
            outcome.violation(wrong.to_string());
        }
        outcome
    }

    fn gaps(&self, record: &Record) -> Vec<String> {
        let all = exhaustive_units(letters().len() as u64);
        let done: u64 = [SHORT, IDLE].iter().filter_map(|name| record.counts.get(*name)).sum();
        if done < all { vec![format!("{done} of {all} workloads of up to 3 steps were run")] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_workload_is_one_unit() {
        let count = letters().len() as u64;
        let seen: std::collections::BTreeSet<String> = (1..=exhaustive_units(count))
            .map(|number| format!("{:?}", workload(&Unit::new(1, number, std::path::Path::new("")))))
            .collect();
        assert_eq!(seen.len() as u64, exhaustive_units(count));
        assert!(workload(&Unit::new(1, exhaustive_units(count), std::path::Path::new(""))).1);
        assert!(!workload(&Unit::new(1, exhaustive_units(count) + 1, std::path::Path::new(""))).1);
    }
}
