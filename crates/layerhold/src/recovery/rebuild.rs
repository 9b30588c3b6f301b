//! Carrying a choice out. Every step may be cut off and is done again from the start.
//!
//! The table comes first: everything that can be brought back, and then the event, flushed. The old journal is there
//! until that is durable, so a table that was cut off is filled again. The new journal begins behind it. Which of the two a
//! choice that was cut off has reached decides what may be touched: a filled table is the only copy once the journal is new.

use std::path::Path;

use super::plan::{self, Plan, Rebuild, Step};
use super::{Choice, Recovered};
use crate::call::OperationId;
use crate::change::{ChangeRow, Event};
use crate::clock::Components;
use crate::directory::{self, Place};
use crate::format::FORMAT_VERSION;
use crate::format::keys::{self, RegistryId, RepositoryId};
use crate::format::values::{ClockRow, IdentityRow, NextIdsRow, OperationRow, Row};
use crate::options::Options;
use crate::store::journal::Survey;
use crate::store::table::Table;
use crate::store::{Batch, StorageError, fs, journal, local};

/// Ids that a lost change may have given: so many of each are left out.
const REGISTRIES_SKIPPED: u32 = 1 << 16;
const REPOSITORIES_SKIPPED: u64 = 1 << 24;

pub(super) fn carry_out(
    place: &Place,
    options: &Options,
    components: &Components,
    plan: &Plan,
) -> Result<Recovered, StorageError> {
    let Step::Rebuild(rebuild) = &plan.step else {
        return Err(StorageError::corrupt("the plan of a recovery ends before it begins"));
    };
    let table = readable_table(place, rebuild)?;
    let reached = Reached::by(place, plan, rebuild, table.as_deref())?;
    drop(table);
    let aside = plan.aside();
    fs::make_dir(&*place.fs, &aside).map_err(|e| StorageError::io("create directory", &aside, e))?;
    match reached {
        Reached::Table => {}
        Reached::Nothing { applied, survey } => {
            fill(place, components, plan, rebuild, &aside, applied, &survey)?;
        }
        Reached::Elsewhere => return Err(changed()),
    }
    let Rebuild { store_id, segment, sequence, .. } = rebuild;
    journal::renew(&place.fs, store_id, *segment, *sequence, options.journal_segment_bytes, &aside)?;
    directory::rewrite_format(&*place.fs, *store_id, &aside)?;
    let blobs = Path::new(local::DIRECTORY);
    fs::make_dir(&*place.fs, blobs).map_err(|e| StorageError::io("create directory", blobs, e))?;
    plan::remove(&*place.fs)?;
    Ok(Recovered {
        choice: plan.choice,
        sequence: *sequence,
        expected: rebuild.expected,
        recovered: rebuild.recovered,
        aside,
    })
}

/// How far a choice was carried out.
pub(super) enum Reached {
    /// The table holds everything and the event, durably: what a table that is only read holds was flushed.
    Table,
    /// What the choice starts from is as it was: this much in the table that it goes on with, and the journal.
    Nothing { applied: u64, survey: Survey },
    /// Neither. What was planned is not what this store needs.
    Elsewhere,
}

impl Reached {
    /// Looks, with `table` open for reads where it can be read and is this store's.
    pub(super) fn by(
        place: &Place,
        plan: &Plan,
        rebuild: &Rebuild,
        table: Option<&dyn Table>,
    ) -> Result<Self, StorageError> {
        let found = match table {
            Some(table) => {
                let applied = table.applied_sequence()?;
                if applied == rebuild.sequence && table.view()?.get(&keys::operation(&plan.operation_id))?.is_some() {
                    return Ok(Self::Table);
                }
                applied
            }
            None if rebuild.new_table => 0,
            None => return Ok(Self::Elsewhere),
        };
        let survey = journal::survey(&place.fs, &rebuild.store_id, found)?;
        // Files may have gone since, or come back.
        let as_planned = |survey: &Survey| {
            survey.recovered == rebuild.recovered
                && survey.next_number == rebuild.segment
                && survey.proven < rebuild.sequence
        };
        if !as_planned(&survey) {
            return Ok(Self::Elsewhere);
        }
        if !rebuild.new_table || found == 0 {
            return Ok(Self::Nothing { applied: found, survey });
        }
        // A new table that was cut off may hold a part already; it is made once more.
        let survey = journal::survey(&place.fs, &rebuild.store_id, 0)?;
        Ok(if as_planned(&survey) { Self::Nothing { applied: 0, survey } } else { Self::Elsewhere })
    }
}

/// The store's table, where it can be read. An error where nobody can tell: what cannot be read for once may be whole.
fn readable_table(place: &Place, rebuild: &Rebuild) -> Result<Option<Box<dyn Table>>, StorageError> {
    let found = directory::readable_table(place)
        .and_then(|table| directory::check_identity(&*table, &rebuild.store_id).map(|()| table));
    match found {
        Ok(table) => Ok(Some(table)),
        Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn changed() -> StorageError {
    StorageError::corrupt("the store changes while it is recovered")
}

fn fill(
    place: &Place,
    components: &Components,
    plan: &Plan,
    rebuild: &Rebuild,
    aside: &Path,
    applied: u64,
    survey: &Survey,
) -> Result<(), StorageError> {
    let table = if rebuild.new_table {
        place.table.set_aside(aside)?;
        place.table.create()?
    } else {
        // Opening it for writing may remove files that it does not know any more.
        place.table.copy_aside(aside)?;
        place.table.open()?
    };
    if table.applied_sequence()? != applied {
        return Err(changed());
    }
    survey.replay(&mut |batch: Batch, sequence| table.apply(&[&batch], Some(sequence)))?;
    if table.applied_sequence()? != rebuild.recovered {
        return Err(changed());
    }
    let batch = last_change(&*table, components, plan, rebuild)?;
    table.apply(&[&batch], Some(rebuild.sequence))?;
    table.flush()
}

/// The next ids of a store of which nothing is left that says which it gave.
fn unheard_of(plan: &Plan, rebuild: &Rebuild) -> NextIdsRow {
    // Registries are few and their ids short: less than one a second, and never so many between two losses.
    let seconds = plan.wall_ms / 1000;
    let registry = plan.aside.saturating_mul(u64::from(REGISTRIES_SKIPPED)).saturating_add(seconds);
    let registry = u32::try_from(registry).unwrap_or(u32::MAX - REGISTRIES_SKIPPED);
    // Each repository took a sequence, so its id is below that.
    NextIdsRow { registry: RegistryId(registry), repository: RepositoryId(rebuild.sequence) }
}

/// The event, and what must hold from it on.
fn last_change(
    table: &dyn Table,
    components: &Components,
    plan: &Plan,
    rebuild: &Rebuild,
) -> Result<Batch, StorageError> {
    let view = table.view()?;
    let mut batch = Batch::new();
    let clock = ClockRow::decode_optional(view.get(&keys::meta::clock())?.as_deref())?;
    let clock = clock.unwrap_or(ClockRow { engine_ms: 0, wall_ms: plan.wall_ms });
    if directory::identity(table)?.is_none() {
        // Nothing of the metadata is left: the store begins anew under its own id.
        let identity =
            IdentityRow { store_id: rebuild.store_id, format_version: FORMAT_VERSION, created_wall_ms: plan.wall_ms };
        let mut download_key = [0; 32];
        components.entropy.fill(&mut download_key);
        batch.put(&keys::meta::identity(), &identity.encode());
        batch.put(&keys::meta::clock(), &clock.encode());
        batch.put(&keys::meta::download_key(), &download_key);
    }
    if plan.choice == Choice::AcceptLoss {
        let mut ids = NextIdsRow::decode_optional(view.get(&keys::meta::next_ids())?.as_deref())?.unwrap_or_default();
        if rebuild.expected.is_some() {
            ids.registry.0 = ids.registry.0.saturating_add(REGISTRIES_SKIPPED);
            ids.repository.0 = ids.repository.0.saturating_add(REPOSITORIES_SKIPPED);
        } else {
            ids = unheard_of(plan, rebuild);
        }
        batch.put(&keys::meta::next_ids(), &ids.encode());
    }
    let Rebuild { expected, recovered, sequence, .. } = *rebuild;
    let change = ChangeRow {
        operation_id: OperationId(plan.operation_id),
        engine_ms: clock.engine_ms,
        wall_ms: plan.wall_ms,
        principal: plan.by.clone(),
        event: Event::Recovered { choice: plan.choice, expected, recovered },
    };
    let operation = OperationRow { sequence, arguments: [0; 32], result: Vec::new() };
    batch.put(&keys::change(sequence), &change.encode());
    batch.put(&keys::operation(&plan.operation_id), &operation.encode());
    Ok(batch)
}
