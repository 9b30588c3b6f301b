//! Carrying a choice out. Every step may be cut off and is done again from the start.
//!
//! The table comes first: everything that can be brought back, and then the event, flushed. The old journal is there
//! until that is durable, so a table that was cut off is filled again. The new journal begins behind it.

use std::path::{Path, PathBuf};

use super::plan::{self, Plan, Rebuild, Step};
use super::{Choice, Recovered};
use crate::call::OperationId;
use crate::change::{ChangeRow, Event};
use crate::clock::Components;
use crate::directory::{self, Place};
use crate::format::values::{ClockRow, IdentityRow, NextIdsRow, OperationRow, Row};
use crate::format::{FORMAT_VERSION, keys};
use crate::options::Options;
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
    let aside = PathBuf::from(&plan.aside);
    fs::make_dir(&*place.fs, &aside).map_err(|e| StorageError::io("create directory", &aside, e))?;
    if !is_filled(place, plan, rebuild) {
        fill(place, components, plan, rebuild, &aside)?;
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

/// Whether the table holds everything and the event, durably: what a table that is only read holds was flushed.
fn is_filled(place: &Place, plan: &Plan, rebuild: &Rebuild) -> bool {
    let found = place.table.open_read_only().and_then(|table| {
        let operation = table.view()?.get(&keys::operation(&plan.operation_id))?;
        Ok(operation.is_some() && table.applied_sequence()? == rebuild.sequence)
    });
    found.unwrap_or(false)
}

fn fill(
    place: &Place,
    components: &Components,
    plan: &Plan,
    rebuild: &Rebuild,
    aside: &Path,
) -> Result<(), StorageError> {
    let table = if rebuild.new_table {
        place.table.set_aside(aside)?;
        place.table.create()?
    } else {
        // Opening it for writing may remove files that it does not know any more.
        place.table.copy_aside(aside)?;
        place.table.open()?
    };
    let applied = table.applied_sequence()?;
    let survey = journal::survey(&place.fs, &rebuild.store_id, applied)?;
    survey.replay(&mut |batch: Batch, sequence| table.apply(&[&batch], Some(sequence)))?;
    if table.applied_sequence()? != rebuild.recovered {
        return Err(StorageError::corrupt("the store changes while it is recovered"));
    }
    let batch = last_change(&*table, components, plan, rebuild)?;
    table.apply(&[&batch], Some(rebuild.sequence))?;
    table.flush()
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
        ids.registry.0 = ids.registry.0.saturating_add(REGISTRIES_SKIPPED);
        ids.repository.0 = ids.repository.0.saturating_add(REPOSITORIES_SKIPPED);
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
