//! The outboard of a blob: the chaining values that rows hold for its location. Folding what is stored, and writing what was
//! computed anew in its place, in memory that does not grow with the blob.

use std::ops::ControlFlow;

use crate::call::Call;
use crate::change::Event;
use crate::digest::Digest;
use crate::engine::{Inner, collect, value};
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::keys::{self, RegistryId};
use crate::format::values::{BlobRow, GroupsRow, Row};
use crate::store::{Batch, Direction, Location, LockMode, StorageError, View};
use crate::txn::{Commit, Decision, Stop, no_limit};

use super::fingerprint::{ChainingValue, GroupFold};

/// Chaining values of a row that is written anew.
const ROW_VALUES: usize = 2_048;

/// Those of one commit, and the most that are held: 2 MiB, the values of 4 GiB in groups of the default length.
const RUN_VALUES: usize = 64 << 10;

/// Folds the chaining values stored for a location; in words why that cannot be done.
pub(crate) fn fold_stored(view: &dyn View, location: Location) -> Result<Result<GroupFold, String>, StorageError> {
    let mut fold = Ok(GroupFold::default());
    view.scan(&keys::all_groups(location), Direction::Forward, &mut |key, value| {
        fold = match (&mut fold, keys::first_group_of(key)) {
            (Ok(fold), Some(first)) if u64::from(first) == fold.count() => {
                match GroupsRow::decode(value, location, first) {
                    Ok(GroupsRow(values)) => {
                        values.into_iter().for_each(|value| fold.push(value));
                        return ControlFlow::Continue(());
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            (Ok(fold), _) => Err(format!("groups do not follow one another from={}", fold.count())),
            (Err(what), _) => Err(std::mem::take(what)),
        };
        ControlFlow::Break(())
    })?;
    Ok(fold)
}

/// Chaining values that were computed from bytes, in order. More than one commit takes are not kept: of each run of that many
/// it is known what it hashes to, so that they can be computed a second time and be the same.
#[derive(Debug, Default)]
pub(crate) struct Computed {
    last: Vec<ChainingValue>,
    runs: Vec<blake3::Hash>,
}

impl Computed {
    pub(crate) fn extend(&mut self, values: &[ChainingValue]) {
        for value in values {
            if self.last.len() == RUN_VALUES {
                self.runs.push(hash(&self.last));
                self.last.clear();
            }
            self.last.push(*value);
        }
    }

    /// All of them, where they are no more than one commit takes.
    pub(crate) fn whole(self) -> Option<Vec<ChainingValue>> {
        self.runs.is_empty().then_some(self.last)
    }

    /// Whether `values` are the ones of run `number`.
    fn is_run(&self, number: usize, values: &[ChainingValue]) -> bool {
        self.runs.get(number).map_or(values == self.last, |run| *run == hash(values))
    }
}

fn hash(values: &[ChainingValue]) -> blake3::Hash {
    blake3::hash(values.as_flattened())
}

/// A blob whose bytes have its digest, and what follows for its rows.
pub(crate) struct Right<'a> {
    pub(crate) registry: RegistryId,
    pub(crate) digest: Digest,
    pub(crate) location: Location,
    pub(crate) values: &'a Computed,
}

/// How writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Done,
    /// The blob is another one since.
    Changed,
    /// A second reading gave other values than the first.
    Differed,
}

/// What the blob's row is to be once all values are there, from what it and the removal row of the location are under their locks, at an engine time;
/// `None` where the blob is another one since.
pub(crate) type NextRow<'a> = &'a dyn Fn(Option<&[u8]>, Option<&[u8]>, u64) -> Result<Option<BlobRow>, StorageError>;

/// Takes chaining values in order.
pub(crate) type TakeValues<'a, E> = &'a mut dyn FnMut(&[ChainingValue]) -> Result<(), E>;

impl Inner {
    /// Writes the chaining values and the row of a blob, in the name of `call` and with `event`. Durable when it returns.
    ///
    /// Values of large blobs go in several commits, each with the event. Each by itself leaves values that are right, and a
    /// row that was not reached is found missing again. `compute` gives all values once more, where they are more than are
    /// held; none is written that differs from the first time.
    pub(crate) fn write_outboard<E: From<Failure>>(
        &self,
        right: &Right<'_>,
        next_row: NextRow<'_>,
        call: &Call,
        event: &Event,
        compute: impl FnOnce(TakeValues<'_, E>) -> Result<(), E>,
    ) -> Result<Written, E> {
        let computed = right.values;
        if computed.runs.is_empty() {
            return Ok(self.write_run(right, next_row, call, event, (0, true, &computed.last))?);
        }
        let (mut run, mut number, mut written) = (Vec::new(), 0, Written::Done);
        let write = |number: usize, is_last: bool, run: &[ChainingValue]| -> Result<Written, E> {
            if !computed.is_run(number, run) {
                return Ok(Written::Differed);
            }
            Ok(self.write_run(right, next_row, call, event, (number * RUN_VALUES, is_last, run))?)
        };
        compute(&mut |values| {
            for value in values {
                if run.len() == RUN_VALUES && written == Written::Done {
                    written = write(number, false, &run)?;
                    number += 1;
                    run.clear();
                }
                if written == Written::Done {
                    run.push(*value);
                }
            }
            Ok(())
        })?;
        match written {
            Written::Done if number == computed.runs.len() => write(number, true, &run),
            Written::Done => Ok(Written::Differed),
            ended => Ok(ended),
        }
    }

    /// Writes one run of values, which begins at a group; the last one takes away whatever lies behind, too.
    fn write_run(
        &self,
        right: &Right<'_>,
        next_row: NextRow<'_>,
        call: &Call,
        event: &Event,
        (first, is_last, run): (usize, bool, &[ChainingValue]),
    ) -> Result<Written, Failure> {
        let Right { registry, digest, location, .. } = *right;
        let (key, removal_key) = (keys::blob(registry, &digest), keys::removal(location));
        let end = (!is_last).then_some(first + run.len());
        let done = self.txn.run(call, &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            let locks = attempt.lock::<Failure>(&[(&key, LockMode::Exclusive), (&removal_key, LockMode::Exclusive)])?;
            let view = attempt.view()?;
            // Who writes a removal does not lock it, so a view tells whether there is one.
            let removal = view.get(&removal_key)?;
            let Some(row) = next_row(value(&locks, 0), removal.as_deref(), attempt.now_ms())? else {
                return Ok(Decision::Unchanged(false));
            };
            let old = rows_from(view.as_ref(), location, first, end)?;
            let mut commit = Commit::new(locks, event.clone(), true);
            old.iter().for_each(|key| commit.batch.delete(key));
            put_values(&mut commit.batch, location, first, run);
            if is_last {
                commit.batch.put(&key, &row.encode());
            }
            Ok::<Decision<bool>, Stop<Failure>>(commit.decided())
        })?;
        Ok(if done { Written::Done } else { Written::Changed })
    }
}

/// Keys of the rows that begin at a group from `first` to `end`, or wherever behind it.
fn rows_from(
    view: &dyn View,
    location: Location,
    first: usize,
    end: Option<usize>,
) -> Result<Vec<Vec<u8>>, StorageError> {
    let mut range = keys::all_groups(location);
    let bound = |group: usize| u32::try_from(group).ok().map(|group| keys::groups(location, group));
    range.start = bound(first).map_or(range.start, Into::into);
    range.end = end.and_then(bound).map_or(range.end, Into::into);
    collect(view, &range, Direction::Forward, usize::MAX, |key, _| Ok(key.to_vec()))
}

fn put_values(batch: &mut Batch, location: Location, first: usize, values: &[ChainingValue]) {
    for (number, run) in values.chunks(ROW_VALUES).enumerate() {
        let first = u32::try_from(first + number * ROW_VALUES).unwrap_or(u32::MAX);
        batch.put(&keys::groups(location, first), &GroupsRow(run.to_vec()).encode(location, first));
    }
}
