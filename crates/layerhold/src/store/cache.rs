//! Rows that were read or written under a lock, kept for whoever locks them next.
//!
//! Every put of an image locks and reads its base layers, and those of a busy repository are always the same few; its own
//! layers were pushed just before. What is kept is what the table holds: a row is put in by a reader that holds its lock,
//! and changed by the writer that holds it exclusively, as soon as the table has the change.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

/// Locks of their own, so that readers of different rows seldom meet.
const SHARDS: usize = 16;

/// What a kept row costs besides its bytes, about.
const ROW_BYTES: usize = 128;

/// Rows by key, within a budget; those that nobody asked for since they were last looked at go first.
pub(super) struct RowCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes: usize,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    rows: HashMap<Arc<[u8]>, Row>,
    /// All keys of `rows`, each once, in the order in which they are looked at.
    order: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

struct Row {
    /// `None` where the table has no such row.
    value: Option<Vec<u8>>,
    asked_for: bool,
}

impl RowCache {
    /// Keeps rows of about `bytes` together.
    pub(super) fn new(bytes: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shard_bytes: bytes / SHARDS, hasher: RandomState::new() }
    }

    fn shard(&self, key: &[u8]) -> Option<&Mutex<Shard>> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).ok()?;
        self.shards.get(hash)
    }

    /// What the table holds under `key`; the outer `None` where that is not known here.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let mut shard = self.shard(key)?.lock();
        let row = shard.rows.get_mut(key)?;
        row.asked_for = true;
        Some(row.value.clone())
    }

    /// Keeps a row that the table holds. The caller holds its lock, so that nobody changes it meanwhile.
    pub(super) fn keep(&self, key: &[u8], value: &[u8]) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock();
        if !shard.rows.contains_key(key) {
            shard.insert(key, value, self.shard_bytes);
        }
    }

    /// Follows a write that the table has taken.
    pub(super) fn follow(&self, key: &[u8], value: Option<&[u8]>) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock();
        match (shard.rows.get_mut(key), value) {
            (Some(row), _) => {
                let before = row.value.as_ref().map_or(0, Vec::len);
                row.value = value.map(<[u8]>::to_vec);
                shard.bytes = shard.bytes + value.map_or(0, <[u8]>::len) - before;
                shard.shrink(self.shard_bytes);
            }
            (None, Some(value)) => shard.insert(key, value, self.shard_bytes),
            (None, None) => {}
        }
    }

    /// Keeps nothing any more.
    pub(super) fn clear(&self) {
        self.shards.iter().for_each(|shard| *shard.lock() = Shard::default());
    }
}

impl Shard {
    fn insert(&mut self, key: &[u8], value: &[u8], bytes_max: usize) {
        let bytes = ROW_BYTES + key.len() + value.len();
        // One large row is not worth all the others.
        if bytes > bytes_max / 8 {
            return;
        }
        let key: Arc<[u8]> = key.into();
        self.rows.insert(Arc::clone(&key), Row { value: Some(value.to_vec()), asked_for: false });
        self.order.push_back(key);
        self.bytes += bytes;
        self.shrink(bytes_max);
    }

    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(key) = self.order.pop_front() else { return };
            match self.rows.get_mut(&key) {
                Some(row) if row.asked_for => {
                    row.asked_for = false;
                    self.order.push_back(key);
                }
                _ => {
                    let value = self.rows.remove(&key).and_then(|row| row.value).map_or(0, |value| value.len());
                    self.bytes -= ROW_BYTES + key.len() + value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    #[test]
    fn a_row_follows_every_write() {
        let cache = RowCache::new(1 << 20);
        assert_eq!(cache.get(b"a"), None, "nothing is known yet");
        cache.follow(b"a", None);
        assert_eq!(cache.get(b"a"), None, "the absence of a row is not worth its place");
        cache.keep(b"a", b"1");
        cache.follow(b"b", Some(b"written, never read"));
        assert_eq!(cache.get(b"b"), Some(Some(b"written, never read".to_vec())));
        assert_eq!(cache.get(b"a"), Some(Some(b"1".to_vec())));
        cache.follow(b"a", Some(b"22"));
        assert_eq!(cache.get(b"a"), Some(Some(b"22".to_vec())));
        cache.follow(b"a", None);
        assert_eq!(cache.get(b"a"), Some(None), "the table has no such row any more");
        cache.follow(b"a", Some(b"3"));
        assert_eq!(cache.get(b"a"), Some(Some(b"3".to_vec())));
        cache.clear();
        assert_eq!(cache.get(b"a"), None);
    }

    #[test]
    fn the_budget_holds_and_rows_that_are_asked_for_stay() {
        const BYTES: usize = SHARDS * 4_000;
        let cache = RowCache::new(BYTES);
        cache.keep(b"hot", &[7; 20]);
        for number in 0..100_000 {
            cache.keep(&key(number), &[0; 20]);
            assert!(cache.get(b"hot").is_some(), "after {number} others");
        }
        let used = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            assert_eq!(shard.rows.len(), shard.order.len());
            let row = |(key, row): (&Arc<[u8]>, &Row)| ROW_BYTES + key.len() + row.value.as_ref().map_or(0, Vec::len);
            let bytes: usize = shard.rows.iter().map(row).sum();
            assert_eq!(bytes, shard.bytes);
            bytes
        };
        let used: usize = cache.shards.iter().map(used).sum();
        assert!((BYTES / 2..=BYTES).contains(&used), "{used} bytes");
        cache.keep(b"large", &[0; 1_000]);
        assert_eq!(cache.get(b"large"), None);
        for number in 0..100_000 {
            cache.follow(&key(number), Some(&[0; 1_000]));
            cache.follow(&key(number), None);
        }
        assert!(cache.shards.iter().all(|shard| shard.lock().bytes <= 4_000));
    }
}
