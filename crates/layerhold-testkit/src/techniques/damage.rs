//! Damage to every kind of file of a store in memory.

use crate::fs::Rng;
use crate::harm::{End, Rest};
use crate::technique::{Outcome, Technique, Unit};
use crate::workloads::workloads;

/// Mutations of one unit.
const MUTATIONS: u64 = 250;

pub(super) struct Damage;

impl Technique for Damage {
    fn name(&self) -> &'static str {
        "damage"
    }

    fn about(&self) -> &'static str {
        "flips, zeros, garbage, cuts, deletions, swaps and older copies of every kind of file: right, or an error that says so"
    }

    fn units(&self, _: u64) -> Option<u64> {
        None
    }

    fn units_brief(&self) -> u64 {
        36
    }

    fn unit(&self, unit: &Unit) -> Outcome {
        let workloads = workloads();
        let (name, operations) = &workloads[(unit.number % workloads.len() as u64) as usize];
        let end = End::ALL[((unit.number / workloads.len() as u64) % End::ALL.len() as u64) as usize];
        let rest = Rest::new(name, operations, end);
        let mut rng = Rng::new(unit.mixed());
        let mut outcome = Outcome::default();
        for _ in 0..MUTATIONS {
            let mutation = rest.draw(&mut rng);
            match rest.judge(&mutation, &mut rng) {
                Ok(None) => {}
                Ok(Some(ending)) => {
                    outcome.count("mutations", 1);
                    outcome.count(ending.name(), 1);
                    let class = Rest::class(&mutation);
                    outcome.count(&format!("{class}: {:?}, {}", mutation.kind, ending.name()), 1);
                }
                Err(wrong) => {
                    outcome.count("mutations", 1);
                    outcome.violation(wrong);
                }
            }
        }
        outcome
    }
}
