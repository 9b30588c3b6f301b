//! Fingerprints: BLAKE3 trees by which any range of stored bytes can be verified without the rest.
//!
//! Content is cut into groups of one length, the last one shorter. A group's **value** is the chaining value of its subtree
//! in the BLAKE3 tree of the whole content, so the values of all groups give the root, and the root is the plain BLAKE3
//! hash of the content. Where there is only one group its value is the root itself: BLAKE3 finishes the root differently
//! from every other node, so that the value of an only group can stand for nothing larger. Empty content has no groups.
//!
//! Invariants:
//! - A group is a whole subtree: its length is a power of two of BLAKE3's chunks, and it starts at a multiple of itself.
//! - The tree merges a completed subtree only once it is known that more groups follow, because the last merge of all is
//!   the root and is finished differently.
//! - A value is handed out only when it is final. That of the first group is final when a byte behind it is seen, or at the
//!   end; that of any other as soon as the group is full.
//!
//! The fingerprint guards bytes at rest. It is not an identity and clients never see it.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// The value of a group, 32 bytes.
pub type ChainingValue = [u8; blake3::OUT_LEN];

/// The BLAKE3 hash of whole content, 32 bytes.
pub type Root = [u8; blake3::OUT_LEN];

/// The group length of new blobs. To be measured against ranges of other sizes; old blobs keep theirs.
pub const GROUP_LEN_DEFAULT: GroupLen = GroupLen(65_536);

/// Largest group length in bytes. A reader holds one group in memory, so the bytes on disk must not choose more.
pub const GROUP_LEN_MAX: u32 = 1 << 20;

/// How long a group is, in bytes: a power of two from 1 KiB (one BLAKE3 chunk) to [`GROUP_LEN_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupLen(u32);

impl GroupLen {
    /// Checks a length in bytes.
    ///
    /// # Errors
    /// [`InvalidGroupLen`].
    pub const fn new(bytes: u32) -> Result<Self, InvalidGroupLen> {
        if bytes.is_power_of_two() && bytes >= blake3::CHUNK_LEN as u32 && bytes <= GROUP_LEN_MAX {
            Ok(Self(bytes))
        } else {
            Err(InvalidGroupLen { bytes })
        }
    }

    /// The length in bytes, as it is stored.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The length in bytes, for offsets.
    pub const fn as_u64(self) -> u64 {
        self.0 as u64
    }

    /// The length in bytes, for buffers.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// How many groups content of `len` bytes has; none if it is empty.
    pub const fn group_count(self, len: u64) -> u64 {
        len.div_ceil(self.as_u64())
    }

    /// Which group the byte at `offset` is in, from 0.
    pub const fn group_of(self, offset: u64) -> u64 {
        offset / self.as_u64()
    }
}

impl Default for GroupLen {
    fn default() -> Self {
        GROUP_LEN_DEFAULT
    }
}

/// A number that is no group length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("group length is not a power of two from 1024 to 1048576 bytes={bytes}")]
pub struct InvalidGroupLen {
    /// The length asked for.
    pub bytes: u32,
}

/// Values of groups that follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupRun {
    /// Index of the first group, from 0. Also right when there is no value: the next group that will have one.
    pub first: u64,
    /// One value for each group.
    pub values: Vec<ChainingValue>,
}

/// The fingerprint of whole content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The BLAKE3 hash of the content.
    pub root: Root,
    /// The group length that it was made with.
    pub group_len: GroupLen,
    /// Bytes of content.
    pub len: u64,
    /// Groups of content: [`GroupLen::group_count`] of `len`.
    pub group_count: u64,
    /// The value of the last group, taken earlier or not; the root where there is at most one group.
    pub last_group: ChainingValue,
    /// The values that were not taken before the end, the last group's included unless it was full and taken.
    pub remaining: GroupRun,
}

/// The upper part of a tree whose leaves are groups: what the groups so far have in common, in O(log n) values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Tree {
    count: u64,
    /// Subtrees from the left, each larger than the next, the last two perhaps of one size: merging waits.
    stack: Vec<ChainingValue>,
}

impl Tree {
    /// How many subtrees stand on the stack after `count` groups.
    fn height(count: u64) -> usize {
        // Before the last push everything that was complete was merged: one subtree for each bit of the number of groups.
        count.checked_sub(1).map_or(0, |before| before.count_ones() as usize + 1)
    }

    fn push(&mut self, value: ChainingValue) {
        let merged = self.count.count_ones() as usize;
        while self.stack.len() > merged
            && let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop())
        {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        self.stack.push(value);
        self.count += 1;
    }

    /// The root of at least two groups. `None` for fewer: the value of an only group does not give it.
    fn root(&self) -> Option<Root> {
        let (first, rest) = self.stack.split_first()?;
        let (last, between) = rest.split_last()?;
        let right = between.iter().rfold(*last, |right, left| merge_subtrees_non_root(left, &right, Mode::Hash));
        Some(merge_subtrees_root(first, &right, Mode::Hash).into())
    }
}

/// Folds the values of groups as they come, in O(log n) memory, for comparing them with a root or with a frontier.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupFold {
    tree: Tree,
}

impl GroupFold {
    /// The value of the next group.
    pub(crate) fn push(&mut self, value: ChainingValue) {
        self.tree.push(value);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.tree.count
    }

    /// The root that they lead to if no more follow; of a single group its value.
    pub(crate) fn value(&self) -> Option<ChainingValue> {
        self.tree.root().filter(|_| self.tree.count > 1).or_else(|| self.tree.stack.last().copied())
    }
}

/// Computes a fingerprint from bytes as they come.
///
/// Memory is a few kilobytes and 32 bytes for each group whose value was not taken: call
/// [`FingerprintHasher::take_groups`] now and then. Long slices are fastest; nothing is copied.
#[derive(Clone)]
pub struct FingerprintHasher {
    group_len: GroupLen,
    /// The groups that are full.
    tree: Tree,
    /// The group that is not, and how many bytes it has.
    partial: blake3::Hasher,
    partial_len: usize,
    /// The root, if the content ends with its first group. Its value is final only when this is decided.
    only_root: Option<Root>,
    ready: GroupRun,
}

impl FingerprintHasher {
    /// A hasher that has seen nothing yet.
    pub fn new(group_len: GroupLen) -> Self {
        Self {
            group_len,
            tree: Tree::default(),
            partial: blake3::Hasher::new(),
            partial_len: 0,
            only_root: None,
            ready: GroupRun::default(),
        }
    }

    /// The group length that it was made with.
    pub const fn group_len(&self) -> GroupLen {
        self.group_len
    }

    /// Bytes taken in so far, those before a [`FingerprintHasher::restore`] included.
    pub const fn len(&self) -> u64 {
        self.tree.count * self.group_len.as_u64() + self.partial_len as u64
    }

    /// Whether nothing was taken in.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in the next bytes; how they are cut into calls makes no difference to the result.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.only_root.take().is_some() {
                // More follows the first group, so its chaining value is what counts.
                self.ready.values.extend(self.tree.stack.last());
            }
            let room = self.group_len.as_usize() - self.partial_len;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.partial.update(now);
            self.partial_len += now.len();
            if self.partial_len == self.group_len.as_usize() {
                self.complete_group();
            }
            bytes = rest;
        }
    }

    fn complete_group(&mut self) {
        let value = self.partial.finalize_non_root();
        if self.tree.count == 0 {
            self.only_root = Some(self.partial.finalize().into());
        } else {
            self.ready.values.push(value);
        }
        self.tree.push(value);
        self.partial = hasher_at(self.tree.count * self.group_len.as_u64());
        self.partial_len = 0;
    }

    /// The value that the group which is not full would have if the content ended here and were not this group alone;
    /// `None` where the last group is full. It tells later whether bytes read back are the ones that were taken in:
    /// [`group_value`] of them gives the same.
    pub fn tail_value(&self) -> Option<ChainingValue> {
        (self.partial_len > 0).then(|| self.partial.finalize_non_root())
    }

    /// Hands out the values that became final since the last call, in order and each once.
    pub fn take_groups(&mut self) -> GroupRun {
        let first = self.ready.first + self.ready.values.len() as u64;
        std::mem::replace(&mut self.ready, GroupRun { first, values: Vec::new() })
    }

    /// The fingerprint of everything taken in.
    pub fn finish(mut self) -> Fingerprint {
        let len = self.len();
        let group_count = self.group_len.group_count(len);
        let (root, last_group) = if self.tree.count == 0 || self.only_root.is_some() {
            let root = self.only_root.unwrap_or_else(|| self.partial.finalize().into());
            if group_count > 0 {
                self.ready.values.push(root);
            }
            (root, root)
        } else {
            if self.partial_len > 0 {
                let value = self.partial.finalize_non_root();
                self.tree.push(value);
                self.ready.values.push(value);
            }
            // Two groups at least, so there are a root and a last value, which the tree has not merged yet.
            (self.tree.root().unwrap_or_default(), self.tree.stack.last().copied().unwrap_or_default())
        };
        Fingerprint { root, group_len: self.group_len, len, group_count, last_group, remaining: self.ready }
    }

    /// The state at this offset as bytes that [`FingerprintHasher::restore`] takes up again.
    ///
    /// Values that are final must have been taken ([`FingerprintHasher::take_groups`]) and be kept beside the frontier: the
    /// restored hasher goes on with the next one.
    ///
    /// Shape: one byte frontier version (1); u32 group length; u64 offset; the root of the only group if the offset is
    /// exactly one group; then the subtrees of the full groups from the left, as many as the offset implies. Integers are
    /// big-endian. At most 2 KiB. The partial group is not in it, nor is a checksum: whoever stores the bytes guards them.
    pub fn save_frontier(&self) -> Vec<u8> {
        debug_assert!(self.ready.values.is_empty(), "values of groups would be lost");
        let mut saved = vec![FRONTIER_VERSION];
        saved.extend_from_slice(&self.group_len.get().to_be_bytes());
        saved.extend_from_slice(&self.len().to_be_bytes());
        for value in self.only_root.iter().chain(&self.tree.stack) {
            saved.extend_from_slice(value);
        }
        saved
    }

    /// The hasher that [`FingerprintHasher::save_frontier`] described.
    ///
    /// `tail` is the content of the group that was not full, from its beginning to the saved offset; empty where the offset
    /// is a multiple of the group length. [`Frontier::parse`] tells how long it must be and where it starts.
    ///
    /// # Errors
    /// [`InvalidFrontier`] if the bytes are of another version or damaged, or `tail` has another length. The fingerprint
    /// can then still be had by hashing the content from its beginning.
    pub fn restore(frontier: &[u8], tail: &[u8]) -> Result<Self, InvalidFrontier> {
        let frontier = Frontier::parse(frontier)?;
        if tail.len() != frontier.tail_len() {
            return Err(InvalidFrontier::TailLength { expected: frontier.tail_len(), found: tail.len() });
        }
        let Frontier { group_len, tree, only_root, .. } = frontier;
        let first = if only_root.is_some() { 0 } else { tree.count };
        let mut hasher = Self {
            group_len,
            partial: hasher_at(tree.count * group_len.as_u64()),
            partial_len: 0,
            tree,
            only_root,
            ready: GroupRun { first, values: Vec::new() },
        };
        hasher.update(tail);
        Ok(hasher)
    }
}

impl fmt::Debug for FingerprintHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The partial hasher holds bytes of the content, which do not belong in a log.
        f.debug_struct("FingerprintHasher")
            .field("group_len", &self.group_len)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

fn hasher_at(offset: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher
}

const FRONTIER_VERSION: u8 = 1;

/// What the bytes of [`FingerprintHasher::save_frontier`] say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    group_len: GroupLen,
    offset: u64,
    tree: Tree,
    only_root: Option<Root>,
}

impl Frontier {
    /// Reads a frontier.
    ///
    /// # Errors
    /// [`InvalidFrontier`].
    pub fn parse(saved: &[u8]) -> Result<Self, InvalidFrontier> {
        let damaged = InvalidFrontier::Damaged { len: saved.len() };
        let (version, rest) = saved.split_first().ok_or(damaged)?;
        if *version != FRONTIER_VERSION {
            return Err(InvalidFrontier::Version { found: *version, supported: FRONTIER_VERSION });
        }
        let (group_len, rest) = rest.split_first_chunk().ok_or(damaged)?;
        let group_len = GroupLen::new(u32::from_be_bytes(*group_len)).map_err(|_| damaged)?;
        let (offset, rest) = rest.split_first_chunk().ok_or(damaged)?;
        let offset = u64::from_be_bytes(*offset);
        let (mut values, []) = rest.as_chunks() else { return Err(damaged) };
        let mut only_root = None;
        if offset == group_len.as_u64() {
            let (root, others) = values.split_first().ok_or(damaged)?;
            (only_root, values) = (Some(*root), others);
        }
        let count = offset / group_len.as_u64();
        if values.len() != Tree::height(count) {
            return Err(damaged);
        }
        Ok(Self { group_len, offset, tree: Tree { count, stack: values.to_vec() }, only_root })
    }

    /// What the values of the groups that were taken before fold into.
    pub(crate) fn taken(&self) -> GroupFold {
        if self.only_root.is_some() { GroupFold::default() } else { GroupFold { tree: self.tree.clone() } }
    }

    /// The group length.
    pub const fn group_len(&self) -> GroupLen {
        self.group_len
    }

    /// Bytes of content behind the frontier.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the group that was not full starts: the tail lies between here and [`Frontier::offset`].
    pub const fn tail_start(&self) -> u64 {
        self.tree.count * self.group_len.as_u64()
    }

    /// How many bytes of the group that was not full must be read again.
    pub const fn tail_len(&self) -> usize {
        (self.offset % self.group_len.as_u64()) as usize
    }
}

/// A saved frontier that cannot be taken up. Hash the content again from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFrontier {
    /// Written in another form.
    #[error("unknown frontier version found={found} supported={supported}")]
    Version {
        /// The version in the bytes.
        found: u8,
        /// The version of this program.
        supported: u8,
    },
    /// Has a length or contents that no frontier has.
    #[error("frontier is damaged len={len}")]
    Damaged {
        /// Length of the bytes.
        len: usize,
    },
    /// The bytes given for the partial group are not as many as the frontier says.
    #[error("tail of the frontier has the wrong length expected={expected} found={found}")]
    TailLength {
        /// Bytes from the beginning of the group to the offset.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

/// The value of one group, computed from its content. `is_only_group` says whether it is all there is.
///
/// `None` where no such group can be: no bytes unless the content is empty, more bytes than a group has, an only group that
/// is not the first, or an index past every offset.
pub fn group_value(group_len: GroupLen, index: u64, bytes: &[u8], is_only_group: bool) -> Option<ChainingValue> {
    if bytes.len() > group_len.as_usize() {
        return None;
    }
    if is_only_group {
        return (index == 0).then(|| blake3::hash(bytes).into());
    }
    if bytes.is_empty() {
        return None;
    }
    let mut hasher = hasher_at(index.checked_mul(group_len.as_u64())?);
    hasher.update(bytes);
    Some(hasher.finalize_non_root())
}

/// Whether `bytes` are the content of group `index`, whose value is `expected`.
///
/// `is_only_group` says whether the content has no other group; `expected` is the root then. `bytes` are the whole group: a
/// part of one never verifies.
pub fn verify_group(
    group_len: GroupLen,
    index: u64,
    bytes: &[u8],
    expected: &ChainingValue,
    is_only_group: bool,
) -> bool {
    group_value(group_len, index, bytes, is_only_group).is_some_and(|value| value == *expected)
}

/// The root that the values of all groups give for content of `total_len` bytes, or `None` if they are not as many as that
/// content has groups.
pub fn root_from_groups(group_len: GroupLen, values: &[ChainingValue], total_len: u64) -> Option<Root> {
    if group_len.group_count(total_len) != values.len() as u64 {
        return None;
    }
    match values {
        [] => Some(blake3::hash(&[]).into()),
        [only] => Some(*only),
        _ => {
            let mut tree = Tree::default();
            values.iter().for_each(|value| tree.push(*value));
            tree.root()
        }
    }
}

#[cfg(test)]
mod tests;
