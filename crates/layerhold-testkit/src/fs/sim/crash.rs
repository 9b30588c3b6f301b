//! What a power cut leaves: any part of what was visible and not durable.

use std::collections::HashSet;
use std::sync::Arc;

use super::SimFileSystem;
use super::tree::{DirectoryNode, FileChange, FileNode, Id, Node, ROOT, Tree};
use crate::fs::rng::{Rng, mix};

/// Which of the changes that no sync covered a power cut keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPolicy {
    /// None of them.
    DropUnsynced,
    /// All of them, as after a kill of the process alone.
    KeepAll,
    /// The first so many, in the order in which they were made.
    Prefix(usize),
    /// Any of them, in any mixture, pages also by single sectors; the seed says which.
    Random(u64),
}

/// Up to this many pending changes every subset is tried.
const EXHAUSTIVE: usize = 12;

/// After so many random choices without a new state, there is nothing more to find.
const FRUITLESS: u32 = 64;

const LOST: u8 = 0;
const KEPT: u8 = u8::MAX;

/// A file system at the moment of the cut, with its pending changes in order.
pub(super) struct Cut {
    tree: Tree,
    pending: Vec<Change>,
    /// The nodes that are not the same before and after the cut, with the places of their changes in `pending`.
    unsettled: Vec<(Id, Vec<usize>)>,
}

struct Change {
    number: u64,
    /// The place of the change without which this one cannot be.
    needs: Option<usize>,
    is_page: bool,
}

impl Cut {
    pub(super) fn new(tree: Tree) -> Self {
        let mut found = Vec::new();
        let mut unsettled = Vec::new();
        // A change of a file that no crash leaves a name for makes no difference to any state.
        for id in tree.within_reach() {
            let (count, lossy) = match tree.node(id) {
                Node::File(file) => {
                    let is_page = |change: &FileChange| matches!(change, FileChange::Page(..));
                    found.extend(file.pending.iter().map(|p| (p.number, id, None, is_page(&p.change))));
                    (file.pending.len(), file.lossy)
                }
                Node::Directory(directory) => {
                    found.extend(directory.pending.iter().map(|p| (p.number, id, p.change.needs, false)));
                    (directory.pending.len(), directory.lossy)
                }
            };
            if count > 0 || lossy {
                unsettled.push((id, Vec::with_capacity(count)));
            }
        }
        found.sort_unstable_by_key(|(number, ..)| *number);
        let mut pending: Vec<Change> = Vec::with_capacity(found.len());
        for (place, (number, id, needs, is_page)) in found.into_iter().enumerate() {
            let owner = unsettled.binary_search_by_key(&id, |(id, _)| *id).expect("it has a pending change");
            unsettled[owner].1.push(place);
            // What it needs is durable already where it is no longer pending.
            let needs = needs.and_then(|needs| pending.binary_search_by_key(&needs, |change| change.number).ok());
            pending.push(Change { number, needs, is_page });
        }
        Self { tree, pending, unsettled }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The fate of each change under `policy`, as the sectors that are kept.
    pub(super) fn fates(&self, policy: CrashPolicy) -> Vec<u8> {
        let count = self.pending.len();
        match policy {
            CrashPolicy::DropUnsynced => vec![LOST; count],
            CrashPolicy::KeepAll => vec![KEPT; count],
            CrashPolicy::Prefix(kept) => (0..count).map(|place| if place < kept { KEPT } else { LOST }).collect(),
            CrashPolicy::Random(seed) => self.random(&mut Rng::new(seed)),
        }
    }

    fn random(&self, rng: &mut Rng) -> Vec<u8> {
        let mut fates = vec![LOST; self.pending.len()];
        // Disks rarely toss a coin for each page: mostly a file is nearly written or hardly.
        let tear = rng.below(2) == 0;
        for (_, places) in &self.unsettled {
            let keep_of_8 = [0, 1, 4, 7, 8][rng.below(5) as usize];
            for &place in places {
                fates[place] = match rng.below(8) < keep_of_8 {
                    true if tear && self.pending[place].is_page && rng.below(4) == 0 => match rng.below(2) {
                        0 => rng.next() as u8,
                        _ => leading_sectors(rng),
                    },
                    true => KEPT,
                    false => LOST,
                };
            }
        }
        fates
    }

    /// The file system that these fates leave, and a hash of everything in it.
    pub(super) fn state(&self, mut fates: Vec<u8>) -> (Tree, u64) {
        for place in 0..fates.len() {
            if self.pending[place].needs.is_some_and(|needs| fates[needs] == LOST) {
                fates[place] = LOST;
            }
        }
        let mut nodes = self.tree.nodes.clone();
        for (id, places) in &self.unsettled {
            nodes[*id] = Some(match self.tree.node(*id) {
                Node::File(file) => {
                    let mut content = file.durable.clone();
                    for (place, pending) in places.iter().zip(&file.pending) {
                        if fates[*place] != LOST {
                            pending.change.apply(&mut content, fates[*place]);
                        }
                    }
                    Node::File(Arc::new(FileNode::settled(content)))
                }
                Node::Directory(directory) => {
                    let mut names = Arc::clone(&directory.durable);
                    for (place, pending) in places.iter().zip(&directory.pending) {
                        if fates[*place] != LOST {
                            pending.change.apply(Arc::make_mut(&mut names));
                        }
                    }
                    Node::Directory(Arc::new(DirectoryNode::settled(names)))
                }
            });
        }
        let mut named = vec![false; nodes.len()];
        let hash = hash(&nodes, ROOT, &mut named);
        for (node, named) in nodes.iter_mut().zip(named) {
            if !named {
                *node = None;
            }
        }
        (Tree::settled(nodes), hash)
    }
}

/// A hash of all that can be found below a node, by name; notes what was found.
pub(super) fn hash(nodes: &[Option<Node>], id: Id, named: &mut [bool]) -> u64 {
    named[id] = true;
    match nodes[id].as_ref().expect("a name leads to a node") {
        Node::File(file) if file.only_a_lock => 1,
        Node::File(file) => file.visible.hash(),
        Node::Directory(directory) => {
            let mut sum = 1;
            for (name, id) in directory.visible.iter() {
                let name = name.bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte)));
                sum = mix(sum ^ name).wrapping_add(hash(nodes, *id, named));
            }
            mix(sum)
        }
    }
}

/// A torn page, written from its front: some sectors and not all.
fn leading_sectors(rng: &mut Rng) -> u8 {
    (1 << (1 + rng.below(7))) - 1
}

/// The distinct states that one power cut can leave; given by [`SimFileSystem::crash_states`].
pub struct CrashStates {
    cut: Cut,
    rng: Rng,
    seen: HashSet<u64>,
    left: usize,
    /// How many choices were made, and how many of them were structured.
    made: u64,
    structured: u64,
    /// Where the walk over the structured choices begins.
    start: u64,
    fruitless: u32,
}

impl std::fmt::Debug for CrashStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashStates").field("pending", &self.cut.pending()).field("left", &self.left).finish()
    }
}

impl CrashStates {
    pub(super) fn new(cut: Cut, seed: u64, limit: usize) -> Self {
        let mut rng = Rng::new(seed);
        let start = rng.next();
        Self { cut, rng, seen: HashSet::new(), left: limit, made: 0, structured: 0, start, fruitless: 0 }
    }

    /// How many changes were pending at the cut.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.cut.pending()
    }

    /// The next choice; `None` where all were made.
    fn choose(&mut self) -> Option<Vec<u8>> {
        let count = self.cut.pending();
        let made = self.made;
        self.made += 1;
        match made {
            0 => return Some(self.cut.fates(CrashPolicy::DropUnsynced)),
            1 => return Some(self.cut.fates(CrashPolicy::KeepAll)),
            _ => {}
        }
        if count <= EXHAUSTIVE {
            // Each subset whole, then each with its last page torn.
            let subsets = 1 << count;
            let at = made - 2;
            let mask = walk(at % subsets, self.start, subsets);
            let mut fates: Vec<u8> =
                (0..count).map(|place| if mask & (1 << place) != 0 { KEPT } else { LOST }).collect();
            return match at / subsets {
                0 => Some(fates),
                1 => {
                    self.tear_last(&mut fates);
                    Some(fates)
                }
                _ => None,
            };
        }
        // Each fourth choice is a random one, so that a small limit still sees mixtures.
        let structured_left = self.structured < 4 * count as u64;
        if self.fruitless >= FRUITLESS && !structured_left {
            return None;
        }
        if made.is_multiple_of(4) || !structured_left {
            return Some(self.cut.random(&mut self.rng));
        }
        let shape = walk(self.structured, self.start, 4 * count as u64) as usize;
        self.structured += 1;
        let place = shape / 4;
        let keep: fn(usize, usize) -> bool = match shape % 4 {
            0 | 1 => |at, place| at <= place,
            2 => |at, place| at != place,
            _ => |at, place| at == place,
        };
        let mut fates: Vec<u8> = (0..count).map(|at| if keep(at, place) { KEPT } else { LOST }).collect();
        if shape % 4 == 1 {
            self.tear_last(&mut fates);
        }
        Some(fates)
    }

    fn tear_last(&mut self, fates: &mut [u8]) {
        let pages = self.cut.pending.iter().zip(fates.iter_mut());
        if let Some((_, fate)) = pages.rev().find(|(change, fate)| change.is_page && **fate == KEPT) {
            *fate = leading_sectors(&mut self.rng);
        }
    }
}

/// The place of step `at` on a walk that visits each number below `bound` once.
fn walk(at: u64, start: u64, bound: u64) -> u64 {
    // A prime far above any bound, so that its multiples meet every remainder.
    const STRIDE: u128 = 2_305_843_009_213_693_951;
    ((u128::from(at) * STRIDE + u128::from(start)) % u128::from(bound)) as u64
}

impl Iterator for CrashStates {
    type Item = SimFileSystem;

    fn next(&mut self) -> Option<SimFileSystem> {
        while self.left > 0 {
            let fates = self.choose()?;
            let (tree, hash) = self.cut.state(fates);
            if self.seen.insert(hash) {
                self.left -= 1;
                self.fruitless = 0;
                return Some(SimFileSystem::found(tree, self.rng.next()));
            }
            self.fruitless += 1;
        }
        None
    }
}
