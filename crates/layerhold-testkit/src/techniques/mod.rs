//! The techniques there are. Each is a file; a new one is added to [`all`] and to the table of docs/testing.md.

#[cfg(all(feature = "rocksdb", target_os = "linux"))]
use crate::real::blocks::KINDS;
use crate::technique::Technique;

mod blob_files;
#[cfg(all(feature = "rocksdb", target_os = "linux"))]
mod blocks;
mod damage;
mod disk_states;
mod failing_calls;
mod journal;
#[cfg(all(feature = "rocksdb", target_os = "linux"))]
mod kills;
mod model;
mod planted;
mod scripts_cut;

/// Every technique, in the order in which they are listed.
pub fn all() -> &'static [&'static dyn Technique] {
    &[
        &model::Model,
        #[cfg(feature = "rocksdb")]
        &model::ModelOnRocks,
        &disk_states::DiskStates,
        &failing_calls::FailingCalls,
        &damage::Damage,
        &scripts_cut::ScriptsCut,
        &journal::Journal,
        &blob_files::BlobFiles,
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &kills::KillPoints,
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &kills::KillGenerations,
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &kills::DamageRocks,
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &kills::FailingSyscalls,
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &kills::Mounts,
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &blocks::Blocks(KINDS[0]),
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &blocks::Blocks(KINDS[1]),
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &blocks::Blocks(KINDS[2]),
        #[cfg(all(feature = "rocksdb", target_os = "linux"))]
        &blocks::Blocks(KINDS[3]),
        &planted::Planted,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::technique::Budget;
    use crate::technique::run::{Job, run};

    #[test]
    fn names_are_told_apart_and_fit_a_command_line() {
        let mut names: Vec<_> = all().iter().map(|technique| technique.name()).collect();
        names.iter().for_each(|name| {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}")
        });
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }

    /// The gate runs a short look of each through the command; here it is one unit, twice, for purity. Those that cannot be
    /// repeated start processes, which only the command can do: `tests/real.rs`.
    #[test]
    fn a_unit_is_a_pure_function_of_seed_and_number() {
        for technique in all().iter().filter(|technique| technique.repeatable() && technique.units_brief() > 0) {
            let look = || run(*technique, &Job::new(3, Budget::Units(1))).unwrap();
            let (one, other) = (look(), look());
            assert_eq!(one.violations, 0, "{}: {:?}", technique.name(), one.found);
            assert_eq!((one.counts, one.states), (other.counts, other.states), "{}", technique.name());
        }
    }
}
