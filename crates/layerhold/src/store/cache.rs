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
    /// The key and, behind it, the value.
    bytes: Vec<u8>,
    key_len: usize,
    /// Whether the table has such a row.
    present: bool,
    asked_for: bool,
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

    /// Tells what the table holds under `key`, nothing where it has no such row, if that is known here. An error where it
    /// is not: whoever reads the table after it may have the row kept.
    pub(super) fn get<R>(&self, key: &[u8], known: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, Since> {
        let (shard, hash) = self.place(key);
        let mut shard = shard.lock();
        match shard.rows.get_mut(&hash) {
            Some(row) if row.key() == key => {
                // A row that everybody asks for is not written to each time: that would take it from the other core.
                if !row.asked_for {
                    row.asked_for = true;
                }
                Ok(known(row.value()))
            }
            _ => Err(Since(shard.writes)),
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
            (Some(row), _) if row.key() == key => {
                let before = row.bytes.len();
                row.set(value);
                let after = row.bytes.len();
                shard.bytes = shard.bytes + after - before;
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
        let mut row = Row {
            bytes: Vec::with_capacity(key.len() + value.map_or(0, <[u8]>::len)),
            key_len: key.len(),
            present: false,
            asked_for: false,
        };
        row.bytes.extend_from_slice(key);
        row.set(value);
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
    fn key(&self) -> &[u8] {
        self.bytes.get(..self.key_len).unwrap_or_default()
    }

    fn value(&self) -> Option<&[u8]> {
        self.bytes.get(self.key_len..).filter(|_| self.present)
    }

    fn set(&mut self, value: Option<&[u8]>) {
        self.bytes.truncate(self.key_len);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        // What is counted is what is used.
        self.bytes.shrink_to(2 * self.bytes.len());
        self.present = value.is_some();
    }

    fn bytes(&self) -> usize {
        row_bytes(self.key(), self.value())
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

    fn row(value: &[u8]) -> Result<Option<Vec<u8>>, Since> {
        Ok(Some(value.to_vec()))
    }

    fn get(cache: &RowCache, key: &[u8]) -> Result<Option<Vec<u8>>, Since> {
        cache.get(key, |value| value.map(<[u8]>::to_vec))
    }

    /// The moment, where nothing is known of the row.
    fn since(cache: &RowCache, key: &[u8]) -> Option<Since> {
        get(cache, key).err()
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
        assert_eq!(get(&cache, b"a"), Ok(None), "the table was seen to have no such row");
        cache.follow(b"a", Some(b"1"));
        cache.follow(b"b", Some(b"written, never read"));
        assert_eq!(get(&cache, b"b"), row(b"written, never read"));
        assert_eq!(get(&cache, b"a"), row(b"1"));
        cache.follow(b"a", Some(b"22"));
        assert_eq!(get(&cache, b"a"), row(b"22"));
        cache.follow(b"a", None);
        assert_eq!(get(&cache, b"a"), Ok(None), "the table has no such row any more");
        cache.follow(b"a", Some(b"3"));
        assert_eq!(get(&cache, b"a"), row(b"3"));
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
        assert_eq!(get(&cache, b"a"), row(b"1"));
    }

    #[test]
    fn of_two_keys_with_one_hash_the_later_is_kept() {
        let mut shard = Shard::default();
        shard.insert(7, b"a", Some(b"1"), 1 << 20);
        shard.insert(7, b"bb", Some(b"2"), 1 << 20);
        assert_eq!((shard.rows.len(), shard.order.len(), shard.bytes), (1, 1, ROW_BYTES + 3));
        assert_eq!(shard.rows[&7].key(), b"bb");
    }

    #[test]
    fn the_budget_holds_and_rows_that_are_asked_for_stay() {
        const BYTES: usize = SHARDS * 4_000;
        let cache = RowCache::new(BYTES);
        read(&cache, b"hot", &[7; 20]);
        for number in 0..100_000 {
            read(&cache, &key(number), &[0; 20]);
            assert_eq!(get(&cache, b"hot"), row(&[7; 20]), "after {number} others");
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
