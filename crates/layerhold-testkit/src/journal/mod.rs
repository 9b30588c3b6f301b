//! Workloads on a journaled store whose every state is known, the check of what a reopened store holds, and random lives
//! of one store through many power cuts.

pub mod lives;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::mem::MemTable;
use layerhold::store::{
    Batch, CommitError, Direction, Durability, KeyRange, Member, MetadataStore, Milestone, StorageError,
};

/// The store under test.
pub type Store = Journaled<MemTable>;
/// All rows of a store.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The id of every store here.
pub const STORE_ID: [u8; 16] = *b"crashed on paper";

/// The settings of every store here.
pub fn options() -> JournaledOptions {
    // The smallest segments, so that a few groups fill one.
    JournaledOptions::default().with_segment_bytes(8 << 10).with_full_segments_max(1).with_guard_checks(false)
}

/// Opens what is there.
pub fn open(fs: &(impl FileSystem + Clone + 'static), table: &MemTable) -> Result<Store, StorageError> {
    Journaled::open(Arc::new(fs.clone()), table.clone(), STORE_ID, options())
}

/// Makes a new store.
pub fn create(fs: &(impl FileSystem + Clone + 'static), table: &MemTable) -> Result<Store, StorageError> {
    Journaled::create(Arc::new(fs.clone()), table.clone(), STORE_ID, options())
}

/// One step of a workload.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A synced group of so many members with values of so many bytes.
    Group {
        /// How many.
        members: u64,
        /// How long.
        value_bytes: usize,
    },
    /// A group that is not synced.
    Relaxed,
    /// [`MetadataStore::maintain`].
    Maintain,
}

/// The workloads, by name.
pub fn workloads() -> Vec<(&'static str, Vec<Step>)> {
    let small = Step::Group { members: 1, value_bytes: 20 };
    let group = |members, value_bytes| Step::Group { members, value_bytes };
    vec![
        ("single groups", vec![small; 6]),
        ("maintained", vec![small, Step::Maintain, small, small, Step::Maintain, small]),
        ("filling segments", vec![group(2, 700), small, group(3, 900), group(1, 1_500), small, group(2, 800), small]),
        ("filling, maintained", [group(2, 900), Step::Maintain, small, group(1, 1_800), Step::Maintain].repeat(4)),
        ("larger than a segment", vec![small, group(4, 3_000), small, group(1, 9_000), Step::Maintain, small]),
        (
            "relaxed between",
            vec![small, Step::Relaxed, group(2, 300), Step::Relaxed, Step::Maintain, small, Step::Relaxed],
        ),
    ]
}

/// What a run of a workload came to.
#[derive(Debug, Default, Clone)]
pub struct Run {
    /// Rows after the group with this last sequence number; 0 is the empty store. Without relaxed rows.
    pub states: BTreeMap<u64, Rows>,
    /// The last sequence number that was acknowledged.
    pub acknowledged: u64,
    /// That of a group whose outcome is unknown.
    pub unknown: Option<u64>,
    relaxed: u64,
}

impl Run {
    /// Before anything was done.
    pub fn new() -> Self {
        Self { states: BTreeMap::from([(0, Rows::new())]), ..Self::default() }
    }

    /// Goes on from a store that was found in the state after `recovered`.
    pub fn resumed(&self, recovered: u64) -> Self {
        let rows = self.states[&recovered].clone();
        Self {
            states: BTreeMap::from([(recovered, rows)]),
            acknowledged: recovered,
            unknown: None,
            relaxed: self.relaxed,
        }
    }

    /// Runs `steps` until one fails, and says with what. `generation` makes values differ from those of other runs.
    pub fn drive(&mut self, store: &Store, steps: &[Step], generation: u8) -> Result<(), CommitError> {
        for step in steps {
            match *step {
                Step::Group { members, value_bytes } => self.group(store, members, value_bytes, generation)?,
                Step::Relaxed => self.relaxed(store)?,
                Step::Maintain => store.maintain().map_err(CommitError::Failed)?,
            }
        }
        Ok(())
    }

    /// Commits one synced group and notes what came of it.
    pub fn group(
        &mut self,
        store: &Store,
        members: u64,
        value_bytes: usize,
        generation: u8,
    ) -> Result<(), CommitError> {
        let first = self.acknowledged + 1;
        let last = self.acknowledged + members;
        let mut rows = self.states[&self.acknowledged].clone();
        let mut group = Vec::new();
        for sequence in first..=last {
            let mut batch = Batch::new();
            let mut put = |key: Vec<u8>, value: Vec<u8>| {
                batch.put(&key, &value);
                rows.insert(key, value);
            };
            put(format!("own/{sequence:04}").into_bytes(), vec![generation; value_bytes]);
            put(b"last".to_vec(), [&[generation], sequence.to_be_bytes().as_slice()].concat());
            put(format!("ring/{}", sequence % 5).into_bytes(), sequence.to_be_bytes().to_vec());
            if sequence > 6 {
                let gone = format!("own/{:04}", sequence - 6).into_bytes();
                batch.delete(&gone);
                rows.remove(&gone);
            }
            group.push(Member::new(store.lock_and_get(&[]).unwrap(), batch));
        }
        let mut milestones = Vec::new();
        let outcome = store.commit(&group, last, Durability::Synced, &mut |milestone| milestones.push(milestone));
        let expected: &[_] = if outcome.is_ok() { &[Milestone::Committed, Milestone::Next] } else { &[] };
        assert_eq!(milestones, expected, "{outcome:?}");
        // A group that certainly failed leaves no state behind.
        match &outcome {
            Ok(()) => self.acknowledged = last,
            Err(CommitError::Unknown(_)) => self.unknown = Some(last),
            Err(_) => return outcome,
        }
        self.states.insert(last, rows);
        outcome
    }

    fn relaxed(&mut self, store: &Store) -> Result<(), CommitError> {
        self.relaxed += 1;
        let mut batch = Batch::new();
        for half in ["a", "b"] {
            batch.put(format!("relaxed/{}/{half}", self.relaxed).as_bytes(), b"");
        }
        let group = [Member::new(store.lock_and_get(&[]).unwrap(), batch)];
        store.commit(&group, 0, Durability::Relaxed, &mut |_| ())
    }

    /// Asserts that `store` is in one of the states that this run may leave, and answers its sequence number.
    #[track_caller]
    pub fn check(&self, store: &Store, what: &str) -> u64 {
        let recovered = store.recovered_sequence();
        assert!(
            recovered == self.acknowledged || (Some(recovered) == self.unknown && recovered > self.acknowledged),
            "{what}: recovered {recovered}, acknowledged {}, unknown {:?}",
            self.acknowledged,
            self.unknown
        );
        let (rows, relaxed) = rows(store);
        assert!(rows == self.states[&recovered], "{what}: rows are not those after group {recovered}");
        for key in relaxed.keys() {
            let mut other = key.clone();
            let half = other.last_mut().unwrap();
            *half = if *half == b'a' { b'b' } else { b'a' };
            assert!(relaxed.contains_key(&other), "{what}: half of a relaxed group");
        }
        recovered
    }
}

/// All rows, the relaxed ones apart.
pub fn rows(store: &Store) -> (Rows, Rows) {
    let mut found = Rows::new();
    let all = KeyRange { start: Vec::new(), end: vec![0xff] };
    store
        .view()
        .unwrap()
        .scan(&all, Direction::Forward, &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    found.into_iter().partition(|(key, _)| !key.starts_with(b"relaxed/"))
}
