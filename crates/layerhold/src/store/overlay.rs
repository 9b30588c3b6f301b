//! Rows in memory over a table that is only read.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Deref};

use super::batch::Write;
use super::{Batch, Direction, KeyRange, StorageError, View, Visit};

/// A key, and its value or that it was deleted.
type Row<'a> = (&'a Vec<u8>, &'a Option<Vec<u8>>);

/// What groups put and deleted that the table below does not hold, or does not hold yet.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Overlay {
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for write in batch {
            match write {
                Write::Put { key, value } => self.rows.insert(key.to_vec(), Some(value.to_vec())),
                Write::Delete { key } => self.rows.insert(key.to_vec(), None),
            };
        }
    }
}

impl AsRef<Self> for Overlay {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A view of `below` with the rows of `overlay` over it.
pub(crate) fn over<'a, O>(overlay: O, below: Box<dyn View + 'a>) -> Box<dyn View + 'a>
where
    O: Deref<Target: AsRef<Overlay>> + 'a,
{
    Box::new(Over { overlay, below })
}

struct Over<'a, O> {
    overlay: O,
    below: Box<dyn View + 'a>,
}

impl<O: Deref<Target: AsRef<Overlay>>> View for Over<'_, O> {
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let above = &self.overlay.as_ref().rows;
        let missing: Vec<&[u8]> = keys.iter().copied().filter(|key| !above.contains_key(*key)).collect();
        let mut below = self.below.get_many(&missing)?.into_iter();
        Ok(keys
            .iter()
            .map(|key| match above.get(*key) {
                Some(value) => value.clone(),
                None => below.next().flatten(),
            })
            .collect())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let bounds = (Bound::Included(range.start.as_slice()), Bound::Excluded(range.end.as_slice()));
        let rows = self.overlay.as_ref().rows.range::<[u8], _>(bounds);
        let mut over: Box<dyn Iterator<Item = Row<'_>>> = match direction {
            Direction::Forward => Box::new(rows),
            Direction::Backward => Box::new(rows.rev()),
        };
        let comes_first = |one: &[u8], other: &[u8]| match direction {
            Direction::Forward => one < other,
            Direction::Backward => one > other,
        };
        let mut next = over.next();
        let mut ended = false;
        self.below.scan(range, direction, &mut |key, value| {
            while let Some((above, row)) = next
                && comes_first(above, key)
            {
                next = over.next();
                if row.as_ref().is_some_and(|row| visit(above, row).is_break()) {
                    ended = true;
                    return ControlFlow::Break(());
                }
            }
            let shown = match next {
                Some((above, row)) if above == key => {
                    next = over.next();
                    row.as_deref()
                }
                _ => Some(value),
            };
            let flow = shown.map_or(ControlFlow::Continue(()), |value| visit(key, value));
            ended |= flow.is_break();
            flow
        })?;
        while !ended && let Some((key, row)) = next {
            next = over.next();
            ended = row.as_ref().is_some_and(|row| visit(key, row).is_break());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mem::MemTable;
    use crate::store::table::Table;

    fn rows(view: &dyn View, direction: Direction, limit: usize) -> Vec<(u8, u8)> {
        let mut rows = Vec::new();
        let all = KeyRange { start: vec![1], end: vec![9] };
        view.scan(&all, direction, &mut |key, value| {
            rows.push((key[0], value[0]));
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
        rows
    }

    #[test]
    fn rows_above_hide_those_below_in_both_directions_and_wherever_a_scan_ends() {
        // Each key is absent, put or deleted above, and absent or put below.
        for case in 0..6_u32.pow(4) {
            let (table, mut overlay) = (MemTable::new(), Overlay::default());
            let (mut below, mut above, mut expected) = (Batch::new(), Batch::new(), Vec::new());
            for key in 0..4_u8 {
                let state = case / 6_u32.pow(u32::from(key)) % 6;
                let name = [2 * key + 1];
                if state % 2 == 1 {
                    below.put(&name, &[1]);
                }
                match state / 2 {
                    1 => above.put(&name, &[2]),
                    2 => above.delete(&name),
                    _ => {}
                }
                let shown = match state {
                    1 => Some(1),
                    2 | 3 => Some(2),
                    _ => None,
                };
                expected.extend(shown.map(|value| (name[0], value)));
            }
            table.apply(&[&below], None).unwrap();
            overlay.apply(&above);
            let view = over(&overlay, table.view().unwrap());
            for limit in 1..=5 {
                let forward = rows(view.as_ref(), Direction::Forward, limit);
                assert_eq!(forward, expected[..limit.min(expected.len())], "case {case}");
                let backward: Vec<_> = expected.iter().rev().copied().take(limit).collect();
                assert_eq!(rows(view.as_ref(), Direction::Backward, limit), backward, "case {case}");
            }
            let found = view.get_many(&[&[1], &[3], &[5], &[7], &[8]]).unwrap();
            let found: Vec<_> = found.into_iter().zip([1, 3, 5, 7, 8]).filter_map(|(v, k)| Some((k, v?[0]))).collect();
            assert_eq!(found, expected);
        }
    }
}
