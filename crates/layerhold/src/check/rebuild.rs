//! Rows of a blob made anew from its file, once the file's bytes were proved to have the digest.

use crate::blob::fingerprint::{ChainingValue, GroupLen};
use crate::call::Call;
use crate::engine::{collect, value};
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::keys;
use crate::format::values::{BlobRow, BlobState, GroupsRow, Placement, Row};
use crate::store::local::FOOTER_LEN;
use crate::store::{Batch, Direction, LockMode};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::case::{Leads, Rebuild};
use super::examination::{Examination, event};
use super::finding::Fault;
use super::judge::{Stored, fold_groups};
use super::medium::of_one_file;
use super::walk::{Halt, look};

/// The most chaining values that are held in memory: 32 MiB, those of a blob of 64 GiB in groups of the default length.
const GROUPS_MAX: u64 = 1 << 20;

/// Chaining values in a row.
const GROUPS_IN_A_ROW: usize = 1_024;

/// How rebuilding ended.
pub(super) enum Rebuilt {
    Done,
    /// The bytes do not have the digest.
    NotProved,
    /// The medium does not give the bytes.
    Unreadable,
    /// The rows say what the bytes give already.
    RowsRight,
    TooLarge,
    /// The blob is another one since.
    Changed,
}

pub(super) fn rebuild(
    exam: &mut Examination<'_>,
    rebuild: &Rebuild,
    fault: &Fault,
    call: &Call,
) -> Result<Rebuilt, Halt> {
    let Rebuild { registry, digest, location, size, group_len, row: leads } = *rebuild;
    let inner = exam.inner;
    let Ok(groups) = GroupLen::new(group_len) else { return Ok(Rebuilt::NotProved) };
    let count = groups.group_count(size);
    if count > GROUPS_MAX {
        return Ok(Rebuilt::TooLarge);
    }
    let _pin = inner.open_blobs.pin(location);
    match of_one_file(inner.blobs.len(location))? {
        Ok(found) if found == Some(size.saturating_add(FOOTER_LEN)) => {}
        Ok(_) => return Ok(Rebuilt::NotProved),
        Err(_) => return Ok(Rebuilt::Unreadable),
    }
    let mut values: Vec<ChainingValue> = Vec::new();
    let hashed = exam.hash_file(digest, location, size, groups, &mut |_, run| {
        values.extend_from_slice(run);
        Ok(())
    })?;
    let Ok(hashed) = hashed else { return Ok(Rebuilt::Unreadable) };
    if hashed.digest != digest {
        return Ok(Rebuilt::NotProved);
    }
    if leads == Leads::There && are_right(exam, rebuild, count, hashed.root)? {
        return Ok(Rebuilt::RowsRight);
    }
    let mut rows = Batch::new();
    {
        let view = inner.txn.store.view()?;
        let range = keys::all_groups(location);
        let stored = collect(view.as_ref(), &range, Direction::Forward, usize::MAX, |key, _| Ok(key.to_vec()))?;
        stored.iter().for_each(|key| rows.delete(key));
    }
    if count > 1 {
        for (first, run) in (0u32..).step_by(GROUPS_IN_A_ROW).zip(values.chunks(GROUPS_IN_A_ROW)) {
            rows.put(&keys::groups(location, first), &GroupsRow(run.to_vec()).encode(location, first));
        }
    }
    let blob_key = keys::blob(registry, &digest);
    let removal_key = keys::removal(location);
    let done =
        inner.txn.run(&Call::by(call.principal.clone()), &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            let locks =
                attempt.lock::<Failure>(&[(&blob_key, LockMode::Exclusive), (&removal_key, LockMode::Exclusive)])?;
            let stored = value(&locks, 0).map(BlobRow::decode);
            let row = match stored {
                Some(Ok(row))
                    if row.placement == Placement::File(location)
                        && leads == Leads::There
                        && row.state != BlobState::Condemned =>
                {
                    let right = BlobRow { state: BlobState::Live, root: hashed.root, ..row };
                    let generation = row.generation.wrapping_add(u32::from(right != row));
                    (right != row).then_some(BlobRow { generation, ..right })
                }
                Some(Ok(row))
                    if leads == Leads::Elsewhere(row.placement)
                        && value(&locks, 1).is_none()
                        && matches!(inner.stored(attempt.view()?.as_ref(), &digest, &row)?, Stored::Gone) =>
                {
                    // What it leads to until now is nobody's then, or another's, and judged by itself.
                    Some(BlobRow {
                        state: BlobState::Live,
                        generation: row.generation.wrapping_add(1),
                        size,
                        stored_size: size,
                        group_len,
                        root: hashed.root,
                        placement: Placement::File(location),
                        verified_ms: attempt.now_ms(),
                        ..row
                    })
                }
                None | Some(Err(_)) if leads == Leads::Nowhere && value(&locks, 1).is_none() => {
                    // Its loss took nothing from the counters, so nothing is added to them.
                    let now_ms = attempt.now_ms();
                    Some(BlobRow {
                        state: BlobState::Live,
                        generation: 1,
                        size,
                        stored_size: size,
                        codec: 0,
                        key_id: 0,
                        key_version: 0,
                        group_len,
                        root: hashed.root,
                        placement: Placement::File(location),
                        lease_until_ms: now_ms.saturating_add(inner.options.lease_ms),
                        verified_ms: now_ms,
                    })
                }
                _ => return Ok(Decision::Unchanged(false)),
            };
            let mut commit = Commit::new(locks, event(fault), true);
            commit.batch = rows.clone();
            if let Some(row) = row {
                commit.batch.put(&blob_key, &row.encode());
            }
            Ok::<Decision<bool>, Stop<Failure>>(commit.decided())
        })?;
    Ok(if done { Rebuilt::Done } else { Rebuilt::Changed })
}

/// Whether the rows of a blob that is served say what its bytes gave.
fn are_right(exam: &Examination<'_>, rebuild: &Rebuild, count: u64, root: [u8; 32]) -> Result<bool, Halt> {
    let view = exam.inner.txn.store.view()?;
    let row = look::<BlobRow>(view.as_ref(), &keys::blob(rebuild.registry, &rebuild.digest))?.there();
    let row_is_right = row.is_some_and(|row| {
        row.state == BlobState::Live && row.root == root && row.placement == Placement::File(rebuild.location)
    });
    // The value of an only group is the root, and has no row.
    let expected = if count > 1 { (count, Some(root)) } else { (0, None) };
    let groups = fold_groups(view.as_ref(), rebuild.location)?;
    Ok(row_is_right && groups.is_ok_and(|fold| (fold.count(), fold.value()) == expected))
}
