//! Rows that were read or written lately, kept for whoever asks for them next.
//!
//! Every put of an image reads and locks its base layers, and those of a busy repository are always the same few; its own
//! layers were pushed just before. What is kept is what the table holds, but for the moment in which a writer, who holds the
//! row's lock, has changed the table and not yet this. A reader's row is put in only where nothing was written since before
//! it was read.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

use super::hashed::Hashed;

/// Locks of their own, so that readers of different rows seldom meet.
const SHARDS: usize = 16;

/// What a kept row costs besides its bytes, about.
const ROW_BYTES: usize = 96;

/// Rows by key, within a budget; those that nobody asked for since they were last looked at go first.
pub(super) struct RowCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes: usize,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    /// By the hash of their keys. Of two keys with one hash one is kept.
    rows: HashMap<u64, Row, Hashed>,
    /// All hashes of `rows`, each once, in the order in which they are looked at.
    order: VecDeque<u64>,
    bytes: usize,
    /// Counts the writes that were followed.
    writes: u64,
}

struct Row {
    key: Box<[u8]>,
    /// `None` where the table has no such row.
    value: Option<Vec<u8>>,
    asked_for: bool,
}

/// What is known of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// What the table holds: nothing where it has no such row.
    Row(Option<Vec<u8>>),
    /// Nothing. Whoever reads the table now may have the row kept.
    Unknown(Since),
}

/// A moment before a row was read: which writes had been followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since(u64);

impl RowCache {
    /// Keeps rows of about `bytes` together.
    pub(super) fn new(bytes: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shard_bytes: bytes / SHARDS, hasher: RandomState::new() }
    }

    fn place(&self, key: &[u8]) -> (&Mutex<Shard>, u64) {
        let hash = self.hasher.hash_one(key);
        // The upper bits choose the shard, the map inside uses the lower ones.
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
        (&self.shards[(hash >> 48) as usize % SHARDS], hash)
    }

    /// What the table holds under `key`, if that is known here.
    pub(super) fn get(&self, key: &[u8]) -> Known {
        let (shard, hash) = self.place(key);
        let mut shard = shard.lock();
        match shard.rows.get_mut(&hash) {
            Some(row) if *row.key == *key => {
                row.asked_for = true;
                Known::Row(row.value.clone())
            }
            _ => Known::Unknown(Since(shard.writes)),
        }
    }

    /// Keeps a row that was read from the table after `since`, or its absence, unless something was written since: that may
    /// have been this row, and the table may have been read before it. Who looks before he locks asks for a new row twice.
    pub(super) fn keep(&self, key: &[u8], value: Option<&[u8]>, since: Since) {
        let (shard, hash) = self.place(key);
        let mut shard = shard.lock();
        if Since(shard.writes) == since && !shard.rows.contains_key(&hash) {
            shard.insert(hash, key, value, self.shard_bytes);
        }
    }

    /// Follows a write that the table has taken.
    pub(super) fn follow(&self, key: &[u8], value: Option<&[u8]>) {
        let (shard, hash) = self.place(key);
        let mut shard = shard.lock();
        shard.writes += 1;
        match (shard.rows.get_mut(&hash), value) {
            (Some(row), _) if *row.key == *key => {
                let before = row.value.as_ref().map_or(0, Vec::len);
                row.value = value.map(<[u8]>::to_vec);
                shard.bytes = shard.bytes + value.map_or(0, <[u8]>::len) - before;
                shard.shrink(self.shard_bytes);
            }
            (_, Some(_)) => shard.insert(hash, key, value, self.shard_bytes),
            (_, None) => {}
        }
    }

    /// Keeps nothing any more.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            *shard = Shard { writes: shard.writes + 1, ..Shard::default() };
        }
    }
}

impl Shard {
    fn insert(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>, bytes_max: usize) {
        let bytes = row_bytes(key, value);
        // One large row is not worth all the others.
        if bytes > bytes_max / 8 {
            return;
        }
        let row = Row { key: key.into(), value: value.map(<[u8]>::to_vec), asked_for: false };
        self.bytes += bytes;
        match self.rows.insert(hash, row) {
            Some(other) => self.bytes -= other.bytes(),
            None => self.order.push_back(hash),
        }
        self.shrink(bytes_max);
    }

    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(hash) = self.order.pop_front() else { return };
            match self.rows.get_mut(&hash) {
                Some(row) if row.asked_for => {
                    row.asked_for = false;
                    self.order.push_back(hash);
                }
                _ => self.bytes -= self.rows.remove(&hash).map_or(0, |row| row.bytes()),
            }
        }
    }
}

impl Row {
    fn bytes(&self) -> usize {
        row_bytes(&self.key, self.value.as_deref())
    }
}

fn row_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    ROW_BYTES + key.len() + value.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    fn row(value: &[u8]) -> Known {
        Known::Row(Some(value.to_vec()))
    }

    /// The moment, where nothing is known of the row.
    fn since(cache: &RowCache, key: &[u8]) -> Option<Since> {
        match cache.get(key) {
            Known::Row(_) => None,
            Known::Unknown(since) => Some(since),
        }
    }

    fn read(cache: &RowCache, key: &[u8], value: &[u8]) {
        if let Some(since) = since(cache, key) {
            cache.keep(key, Some(value), since);
        }
    }

    #[test]
    fn a_row_follows_every_write() {
        let cache = RowCache::new(1 << 20);
        since(&cache, b"a").expect("nothing is known yet");
        cache.follow(b"a", None);
        let first = since(&cache, b"a").expect("a row that was removed is not worth its place");
        cache.keep(b"a", None, first);
        assert_eq!(cache.get(b"a"), Known::Row(None), "the table was seen to have no such row");
        cache.follow(b"a", Some(b"1"));
        cache.follow(b"b", Some(b"written, never read"));
        assert_eq!(cache.get(b"b"), row(b"written, never read"));
        assert_eq!(cache.get(b"a"), row(b"1"));
        cache.follow(b"a", Some(b"22"));
        assert_eq!(cache.get(b"a"), row(b"22"));
        cache.follow(b"a", None);
        assert_eq!(cache.get(b"a"), Known::Row(None), "the table has no such row any more");
        cache.follow(b"a", Some(b"3"));
        assert_eq!(cache.get(b"a"), row(b"3"));
        cache.clear();
        since(&cache, b"a").expect("nothing is known any more");
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept() {
        let cache = RowCache::new(1 << 20);
        let read = since(&cache, b"a").unwrap();
        cache.follow(b"a", None);
        cache.keep(b"a", Some(b"removed since"), read);
        let read = since(&cache, b"a").expect("a removed row came back");
        cache.clear();
        cache.keep(b"a", Some(b"read before a write that failed"), read);
        let read = since(&cache, b"a").expect("nothing is certain of what was read before");
        cache.keep(b"a", Some(b"1"), read);
        assert_eq!(cache.get(b"a"), row(b"1"));
    }

    #[test]
    fn of_two_keys_with_one_hash_the_later_is_kept() {
        let mut shard = Shard::default();
        shard.insert(7, b"a", Some(b"1"), 1 << 20);
        shard.insert(7, b"bb", Some(b"2"), 1 << 20);
        assert_eq!((shard.rows.len(), shard.order.len(), shard.bytes), (1, 1, ROW_BYTES + 3));
        assert_eq!(*shard.rows[&7].key, *b"bb");
    }

    #[test]
    fn the_budget_holds_and_rows_that_are_asked_for_stay() {
        const BYTES: usize = SHARDS * 4_000;
        let cache = RowCache::new(BYTES);
        read(&cache, b"hot", &[7; 20]);
        for number in 0..100_000 {
            read(&cache, &key(number), &[0; 20]);
            assert_eq!(cache.get(b"hot"), row(&[7; 20]), "after {number} others");
        }
        let used = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            assert_eq!(shard.rows.len(), shard.order.len());
            let bytes: usize = shard.rows.values().map(Row::bytes).sum();
            assert_eq!(bytes, shard.bytes);
            bytes
        };
        let used: usize = cache.shards.iter().map(used).sum();
        assert!((BYTES / 2..=BYTES).contains(&used), "{used} bytes");
        read(&cache, b"large", &[0; 1_000]);
        assert!(since(&cache, b"large").is_some(), "one row is kept in the place of many");
        for number in 0..100_000 {
            cache.follow(&key(number), Some(&[0; 1_000]));
            cache.follow(&key(number), None);
        }
        assert!(cache.shards.iter().all(|shard| shard.lock().bytes <= 4_000));
    }
}
