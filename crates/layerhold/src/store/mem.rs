//! A table in memory, for tests, fuzzing and simulation.
//!
//! It is at least as strict as the real one: a view sees one moment and nothing later, and what was not flushed is
//! lost in [`MemTable::crashed`]. Rows have several versions while views need them, so a view costs nothing to take
//! and writers never wait for one.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::batch::Write;
use super::table::Table;
use super::{Batch, Direction, KeyRange, StorageError, View, Visit};

/// Rows that a scan takes out of the map at a time, so that its visitor runs without the map's lock.
const SCAN_ROWS: usize = 64;

type Key = Arc<[u8]>;
type Value = Arc<[u8]>;

/// An ordered map in memory; a handle, cheap to clone, whose clones are the same table.
#[derive(Clone, Default)]
pub struct MemTable {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    // How many views read at each version. Changed while `state` is held in any way, except when a view goes.
    views: Mutex<BTreeMap<u64, usize>>,
}

/// Invariants: `Row::older` ascends and ends before `Row::newest`; a row whose newest version is an absence exists
/// only while `garbage` names it; `undo` holds one entry for each `apply` since the last flush.
#[derive(Default)]
struct State {
    rows: BTreeMap<Key, Row>,
    version: u64,
    sequence: u64,
    // Rows with a version that was replaced, by the version that replaced it.
    garbage: VecDeque<(u64, Key)>,
    undo: Vec<Undo>,
}

struct Row {
    newest: Version,
    older: Vec<Version>,
}

struct Version {
    since: u64,
    value: Option<Value>,
}

/// What one `apply` replaced.
struct Undo {
    sequence: u64,
    rows: Vec<(Key, Option<Value>)>,
}

impl MemTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table as a power cut leaves it: what was flushed and nothing else.
    pub fn crashed(&self) -> Self {
        self.crashed_after(0)
    }

    /// The table as a power cut may leave it when the first `kept` of the writes since the last flush had reached the
    /// medium by themselves, as an LSM tree may flush more than it was asked to.
    pub fn crashed_after(&self, kept: usize) -> Self {
        let state = self.shared.state.read();
        let mut rows: BTreeMap<&Key, Option<&Value>> =
            state.rows.iter().map(|(key, row)| (key, row.newest.value.as_ref())).collect();
        let mut sequence = state.sequence;
        for undo in state.undo.iter().skip(kept).rev() {
            sequence = undo.sequence;
            for (key, value) in undo.rows.iter().rev() {
                rows.insert(key, value.as_ref());
            }
        }
        let rows = rows
            .into_iter()
            .filter_map(|(key, value)| {
                let newest = Version { since: 0, value: Some(Arc::clone(value?)) };
                Some((Arc::clone(key), Row { newest, older: Vec::new() }))
            })
            .collect();
        let state = State { rows, sequence, ..State::default() };
        Self { shared: Arc::new(Shared { state: RwLock::new(state), views: Mutex::default() }) }
    }

    /// How many calls of [`Table::apply`] a power cut may take back.
    pub fn unflushed(&self) -> usize {
        self.shared.state.read().undo.len()
    }

    /// How many versions of rows are kept, absences among them. Without views it is the number of rows.
    pub fn versions(&self) -> usize {
        self.shared.state.read().rows.values().map(|row| 1 + row.older.len()).sum()
    }
}

impl Table for MemTable {
    fn view(&self) -> Result<Box<dyn View + '_>, StorageError> {
        let state = self.shared.state.read();
        let version = state.version;
        *self.shared.views.lock().entry(version).or_default() += 1;
        Ok(Box::new(MemView { shared: &self.shared, version }))
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let state = self.shared.state.read();
        Ok(keys
            .iter()
            .map(|key| state.rows.get(*key).and_then(|row| Some(row.newest.value.as_ref()?.to_vec())))
            .collect())
    }

    fn apply(&self, batches: &[&Batch], sequence: Option<u64>) -> Result<(), StorageError> {
        let mut state = self.shared.state.write();
        let oldest_view = self.shared.views.lock().keys().next().copied();
        state.collect(oldest_view);
        let version = state.version + 1;
        state.version = version;
        let mut replaced = Vec::with_capacity(batches.iter().map(|batch| batch.len()).sum());
        for write in batches.iter().flat_map(|batch| batch.iter()) {
            let (key, value) = match write {
                Write::Put { key, value } => (key, Some(Value::from(value))),
                Write::Delete { key } => (key, None),
            };
            let (key, old) = state.set(key, value, version, oldest_view.is_some());
            replaced.push((key, old));
        }
        let undo = Undo { sequence: state.sequence, rows: replaced };
        state.undo.push(undo);
        if let Some(sequence) = sequence {
            state.sequence = sequence;
        }
        Ok(())
    }

    fn applied_sequence(&self) -> Result<u64, StorageError> {
        Ok(self.shared.state.read().sequence)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.shared.state.write().undo = Vec::new();
        Ok(())
    }
}

impl std::fmt::Debug for MemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state.read();
        f.debug_struct("MemTable")
            .field("rows", &state.rows.len())
            .field("sequence", &state.sequence)
            .field("unflushed", &state.undo.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// Makes `value` the newest one of `key` and answers the key as the map has it, with the value it replaced.
    fn set(&mut self, key: &[u8], value: Option<Value>, version: u64, keep_old: bool) -> (Key, Option<Value>) {
        let Some((stored, _)) = self.rows.get_key_value(key) else {
            let stored = Key::from(key);
            if value.is_some() {
                let row = Row { newest: Version { since: version, value }, older: Vec::new() };
                self.rows.insert(Arc::clone(&stored), row);
            }
            return (stored, None);
        };
        let stored = Arc::clone(stored);
        let Some(row) = self.rows.get_mut(key) else { return (stored, None) };
        let gone = value.is_none();
        let old = std::mem::replace(&mut row.newest, Version { since: version, value });
        let before = old.value.clone();
        // Two writes of a key in one `apply` have the same version: no view can see the first one.
        if keep_old && old.since < version {
            row.older.push(old);
            self.garbage.push_back((version, Arc::clone(&stored)));
        } else if gone && row.older.is_empty() {
            self.rows.remove(key);
        }
        (stored, before)
    }

    /// Drops every version that no view from `oldest_view` on can see.
    fn collect(&mut self, oldest_view: Option<u64>) {
        let oldest = oldest_view.unwrap_or(u64::MAX);
        while self.garbage.front().is_some_and(|(replaced_at, _)| *replaced_at <= oldest) {
            let Some((_, key)) = self.garbage.pop_front() else { return };
            let Some(row) = self.rows.get_mut(&key) else { continue };
            // A version is seen until the next one begins.
            let needed_from = if row.newest.since <= oldest {
                row.older.len()
            } else {
                row.older.iter().rposition(|version| version.since <= oldest).unwrap_or(0)
            };
            row.older.drain(..needed_from);
            if row.older.is_empty() && row.newest.value.is_none() {
                self.rows.remove(&key);
            }
        }
    }
}

impl Row {
    fn at(&self, version: u64) -> Option<&Value> {
        if self.newest.since <= version {
            return self.newest.value.as_ref();
        }
        self.older.iter().rev().find(|older| older.since <= version)?.value.as_ref()
    }
}

/// The table as it was after one `apply`.
struct MemView<'a> {
    shared: &'a Shared,
    version: u64,
}

impl View for MemView<'_> {
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let state = self.shared.state.read();
        Ok(keys.iter().map(|key| state.rows.get(*key).and_then(|row| Some(row.at(self.version)?.to_vec()))).collect())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        let mut from = Bound::Included(Key::from(range.start.as_slice()));
        let mut to = Bound::Excluded(Key::from(range.end.as_slice()));
        if range.start >= range.end {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(SCAN_ROWS);
        loop {
            {
                let state = self.shared.state.read();
                let present = |(key, row): (&Key, &Row)| Some((Arc::clone(key), Arc::clone(row.at(self.version)?)));
                let run = state.rows.range((from.clone(), to.clone()));
                match direction {
                    Direction::Forward => rows.extend(run.filter_map(present).take(SCAN_ROWS)),
                    Direction::Backward => rows.extend(run.rev().filter_map(present).take(SCAN_ROWS)),
                }
            }
            let last = rows.len() < SCAN_ROWS;
            for (key, value) in &rows {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            let Some((key, _)) = rows.pop() else { return Ok(()) };
            if last {
                return Ok(());
            }
            match direction {
                Direction::Forward => from = Bound::Excluded(key),
                Direction::Backward => to = Bound::Excluded(key),
            }
            rows.clear();
        }
    }
}

impl Drop for MemView<'_> {
    fn drop(&mut self) {
        let oldest_view = {
            let mut views = self.shared.views.lock();
            if let Some(count) = views.get_mut(&self.version) {
                *count -= 1;
                if *count == 0 {
                    views.remove(&self.version);
                }
            }
            views.keys().next().copied()
        };
        // Only when it costs nothing: the next `apply` collects as well. A view taken since then reads at a version
        // that is at least this one's, so `oldest_view` is still low enough, unless it was the last one.
        if oldest_view.is_some()
            && let Some(mut state) = self.shared.state.try_write()
        {
            state.collect(oldest_view);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    fn batch(writes: &[(&str, Option<&str>)]) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put(key.as_bytes(), value.as_bytes()),
                None => batch.delete(key.as_bytes()),
            }
        }
        batch
    }

    fn dump(view: &dyn View) -> String {
        let range = KeyRange { start: vec![], end: vec![0xff] };
        let mut rows = Vec::new();
        view.scan(&range, Direction::Forward, &mut |key, value| {
            rows.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
        rows.join(" ")
    }

    fn now(table: &MemTable) -> String {
        dump(&*table.view().unwrap())
    }

    #[test]
    fn a_view_keeps_its_moment_and_old_versions_go_with_the_last_view_that_needs_them() {
        let table = MemTable::new();
        table.apply(&[&batch(&[("a", Some("1")), ("b", Some("1"))])], Some(1)).unwrap();
        let first = table.view().unwrap();
        table.apply(&[&batch(&[("a", Some("2")), ("b", None), ("c", Some("2"))])], Some(2)).unwrap();
        let second = table.view().unwrap();
        table.apply(&[&batch(&[("a", None), ("b", Some("3"))])], Some(3)).unwrap();
        assert_eq!(dump(&*first), "a=1 b=1");
        assert_eq!(dump(&*second), "a=2 c=2");
        assert_eq!(now(&table), "b=3 c=2");
        assert_eq!(second.get_many(&[b"b", b"a"]).unwrap(), [None, Some(b"2".to_vec())]);
        drop(first);
        assert_eq!(dump(&*second), "a=2 c=2");
        drop(second);
        table.apply(&[&Batch::new()], None).unwrap();
        assert_eq!(table.versions(), 2);
        assert_eq!(now(&table), "b=3 c=2");
    }

    #[test]
    fn a_crash_takes_back_what_was_not_flushed_in_order() {
        let table = MemTable::new();
        table.apply(&[&batch(&[("a", Some("1"))])], Some(1)).unwrap();
        table.flush().unwrap();
        table.apply(&[&batch(&[("a", Some("2")), ("a", Some("3"))]), &batch(&[("b", Some("3"))])], Some(3)).unwrap();
        table.apply(&[&batch(&[("a", None), ("c", Some("4"))])], None).unwrap();
        assert_eq!(table.unflushed(), 2);
        let states: Vec<_> = (0..3).map(|kept| table.crashed_after(kept)).collect();
        assert_eq!(states.iter().map(now).collect::<Vec<_>>(), ["a=1", "a=3 b=3", "b=3 c=4"]);
        assert_eq!(states.iter().map(|t| t.applied_sequence().unwrap()).collect::<Vec<_>>(), [1, 3, 3]);
        assert_eq!(now(&table.crashed()), "a=1");
        // What is left after a crash is on the medium: a second crash takes nothing more.
        assert_eq!(now(&states[1].crashed()), "a=3 b=3");
    }

    #[test]
    fn scans_longer_than_one_run_meet_every_row_once_in_both_directions() {
        let table = MemTable::new();
        let mut all = Batch::new();
        let keys: Vec<_> = (0..SCAN_ROWS as u32 * 3).map(|i| i.to_be_bytes()).collect();
        keys.iter().for_each(|key| all.put(key, b""));
        table.apply(&[&all], Some(1)).unwrap();
        let view = table.view().unwrap();
        let range = KeyRange { start: vec![], end: vec![0xff] };
        for (direction, expected) in
            [(Direction::Forward, keys.clone()), (Direction::Backward, keys.iter().rev().copied().collect())]
        {
            let mut seen = Vec::new();
            view.scan(&range, direction, &mut |key, _| {
                seen.push(<[u8; 4]>::try_from(key).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(seen, expected);
        }
    }
}
