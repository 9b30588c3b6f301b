//! Uploads, resumptions and deletions of blob files in any mixture, over many power cuts of one store: what was
//! acknowledged is there. Everything is drawn from one seed.

use std::sync::Arc;

use crate::fs::{CrashPolicy, SimFileSystem, is_crash};
use layerhold::store::local::{FOOTER_LEN, LocalBlobStore};
use layerhold::store::{BlobStore, Location, StagedBlob, StorageError};

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

/// What is known of one location. Locations are drawn once and never again.
struct Known {
    location: Location,
    synced: u64,
    published: bool,
}

fn bytes(location: Location, from: u64, to: u64) -> Vec<u8> {
    let start = u64::from_le_bytes(location.0[..8].try_into().unwrap());
    (from..to).map(|at| ((start ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn footer() -> Vec<u8> {
    vec![0xee; usize::try_from(FOOTER_LEN).unwrap()]
}

/// Random work until the file system is cut off. What is in `known` afterwards was acknowledged, or was there before.
fn work(fs: &SimFileSystem, rng: &mut Rng, known: &mut Vec<Known>) -> Result<(), StorageError> {
    let store = LocalBlobStore::open(Arc::new(fs.clone()))?;
    let mut open: Vec<(Location, u64, Box<dyn StagedBlob>)> = Vec::new();
    loop {
        let chosen = rng.below(open.len().max(1) as u64) as usize;
        match (rng.below(10), open.get_mut(chosen)) {
            (0, _) | (_, None) => {
                let mut location = Location([0; 16]);
                location.0.iter_mut().for_each(|byte| *byte = rng.below(256) as u8);
                // Few shards, so that some are shared and some are new.
                location.0[0] %= 6;
                open.push((location, 0, store.stage(location)?));
            }
            (1..=4, Some((location, end, staged))) => {
                let to = *end + rng.below(20_000);
                staged.append(*end, &bytes(*location, *end, to))?;
                *end = to;
            }
            (5 | 6, Some((location, end, staged))) => {
                staged.sync()?;
                match known.iter_mut().find(|known| known.location == *location) {
                    Some(known) => known.synced = *end,
                    None => known.push(Known { location: *location, synced: *end, published: false }),
                }
            }
            (7, Some((location, end, staged))) => {
                staged.publish(*end, &footer())?;
                known.retain(|known| known.location != *location);
                known.push(Known { location: *location, synced: *end, published: true });
                open.swap_remove(chosen);
            }
            (8, _) => {
                let waiting = known.iter().filter(|known| !known.published);
                let mut closed = waiting.filter(|known| open.iter().all(|(location, ..)| *location != known.location));
                if let Some(known) = closed.next_back() {
                    let staged = store.resume(known.location, known.synced)?;
                    open.push((known.location, known.synced, staged));
                }
            }
            _ => {
                if !known.is_empty() {
                    let Known { location, .. } = known.swap_remove(rng.below(known.len() as u64) as usize);
                    open.retain(|(other, ..)| *other != location);
                    store.delete(location)?;
                }
            }
        }
    }
}

fn assert_found(fs: &SimFileSystem, known: &[Known]) {
    let store = LocalBlobStore::open(Arc::new(fs.clone())).unwrap();
    for Known { location, synced, published } in known {
        let mut read = vec![0; *synced as usize];
        if *published {
            store.open(*location, *synced).unwrap().read_exact_at(&mut read, 0).unwrap();
        } else {
            store.resume(*location, *synced).unwrap().read_exact_at(&mut read, 0).unwrap();
        }
        assert!(read == bytes(*location, 0, *synced), "other bytes location={location} published={published}");
    }
}

/// Twelve lives of one store; how many states were opened.
///
/// # Panics
/// Where something acknowledged is gone.
pub fn generations(seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let mut states = 0;
    let mut fs = SimFileSystem::new(seed);
    LocalBlobStore::create(Arc::new(fs.clone())).unwrap();
    let mut known = Vec::new();
    for _ in 0..12 {
        fs.crash_at(fs.mutating_calls() + 1 + rng.below(60));
        let ended = work(&fs, &mut rng, &mut known).unwrap_err();
        assert!(is_crash(&ended), "{ended}");
        for state in fs.crash_states(12) {
            states += 1;
            assert_found(&state, &known);
        }
        // Mostly the power goes; now and then the process alone.
        fs = match rng.below(4) {
            0 => fs.kill(),
            1 => fs.crash(CrashPolicy::DropUnsynced),
            _ => fs.crash(CrashPolicy::Random(rng.below(u64::MAX))),
        };
        states += 1;
        assert_found(&fs, &known);
    }
    states
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_mixture_of_work_and_power_cuts_loses_what_was_acknowledged() {
        let mut states = 0;
        for seed in 0..60 {
            let run = std::panic::catch_unwind(|| super::generations(seed));
            states += run.unwrap_or_else(|_| panic!("replay with generations({seed})"));
        }
        println!("states={states}");
        assert!(states > 5000, "states={states}");
    }
}
