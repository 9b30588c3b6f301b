//! Rows of a blob made anew from its file, once the file's bytes were proved to have the digest.

use crate::blob::fingerprint::GroupLen;
use crate::blob::outboard::{Computed, Right, TakeValues, Written, fold_stored};
use crate::call::Call;
use crate::format::keys;
use crate::format::values::{BlobRow, BlobState, Placement, Row};
use crate::store::local::FOOTER_LEN;

use super::case::{Leads, Rebuild};
use super::examination::{Examination, event};
use super::finding::Fault;
use super::judge::Stored;
use super::medium::of_one_file;
use super::walk::{Halt, look};

/// How rebuilding ended.
pub(super) enum Rebuilt {
    Done,
    /// The bytes do not have the digest.
    NotProved,
    /// The medium does not give the bytes.
    Unreadable,
    /// The rows say what the bytes give already.
    RowsRight,
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
    let _turn = inner.judging.take_turn(location);
    let _pin = inner.open_blobs.pin(location);
    match of_one_file(inner.blobs.len(location))? {
        Ok(found) if found == Some(size.saturating_add(FOOTER_LEN)) => {}
        Ok(_) => return Ok(Rebuilt::NotProved),
        Err(_) => return Ok(Rebuilt::Unreadable),
    }
    // The value of an only group is the root, and has no row.
    let count = groups.group_count(size);
    let mut values = Computed::default();
    let hashed = exam.hash_file(digest, location, size, groups, &mut |_, run| {
        values.extend(if count > 1 { run } else { &[] });
        Ok(())
    })?;
    let Ok(hashed) = hashed else { return Ok(Rebuilt::Unreadable) };
    if hashed.digest != digest {
        return Ok(Rebuilt::NotProved);
    }
    if leads == Leads::There && are_right(exam, rebuild, count, hashed.root)? {
        return Ok(Rebuilt::RowsRight);
    }
    let next_row = |now: Option<&[u8]>, removal: Option<&[u8]>, now_ms: u64| {
        Ok(match now.map(BlobRow::decode) {
            Some(Ok(row))
                if row.placement == Placement::File(location)
                    && leads == Leads::There
                    && row.state != BlobState::Condemned =>
            {
                let right = BlobRow { state: BlobState::Live, root: hashed.root, ..row };
                let generation = row.generation.wrapping_add(u32::from(right != row));
                Some(BlobRow { generation, ..right })
            }
            Some(Ok(row))
                if leads == Leads::Elsewhere(row.placement)
                    && removal.is_none()
                    && matches!(inner.stored(inner.txn.store.view()?.as_ref(), &digest, &row)?, Stored::Gone) =>
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
                    verified_ms: now_ms,
                    ..row
                })
            }
            // Its loss took nothing from the counters, so nothing is added to them.
            None | Some(Err(_)) if leads == Leads::Nowhere && removal.is_none() => Some(BlobRow {
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
            }),
            _ => None,
        })
    };
    let right = Right { registry, digest, location, values: &values };
    let by = Call::by(call.principal.clone());
    let written = inner.write_outboard(&right, &next_row, &by, &event(fault), |take: TakeValues<'_, Halt>| {
        // An error of the medium leaves values out, which is found.
        exam.hash_file(digest, location, size, groups, &mut |_, run| take(run)).map(drop)
    })?;
    Ok(match written {
        Written::Done => Rebuilt::Done,
        Written::Differed => Rebuilt::NotProved,
        Written::Changed => Rebuilt::Changed,
    })
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
    let groups = fold_stored(view.as_ref(), rebuild.location)?;
    Ok(row_is_right && groups.is_ok_and(|fold| (fold.count(), fold.value()) == expected))
}
