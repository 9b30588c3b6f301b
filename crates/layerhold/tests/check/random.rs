//! Rows changed at random: a check never panics, a repair never takes away what could be read, and comes to an end.

use std::collections::BTreeMap;

use layerhold::check::{Level, Severity};
use layerhold::manifest::ManifestRead;
use layerhold::store::Batch;
use layerhold::{Digest, Reference, Tag};

use crate::scene::{Scene, bytes, tag};

const SEED: u64 = 20_261_121;

/// Draws numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bytes = bytes(8, self.0);
        (u64::from_le_bytes(bytes.try_into().unwrap()) % limit as u64) as usize
    }
}

/// What clients can get out of a store.
#[derive(Debug, Default, PartialEq, Eq)]
struct Readable {
    tags: BTreeMap<Tag, Digest>,
    manifests: Vec<Digest>,
    blobs: Vec<Digest>,
}

fn readable(scene: &Scene) -> Readable {
    let app = scene.app_handle();
    let mut readable = Readable::default();
    for name in ["v1", "v2", "all"] {
        if let Ok(found) = app.manifest(&Reference::Tag(tag(name)), ManifestRead::Pull) {
            readable.tags.insert(tag(name), found.digest);
        }
    }
    for digest in [scene.image, scene.index, scene.signature] {
        if app.manifest(&Reference::Digest(digest), ManifestRead::Pull).is_ok() {
            readable.manifests.push(digest);
        }
    }
    for digest in [scene.config, scene.layer, scene.thin] {
        let mut all = vec![0; 200_000];
        if app.blob(&digest).is_ok_and(|reader| reader.read_at(0, &mut all).is_ok()) {
            readable.blobs.push(digest);
        }
    }
    readable
}

/// Deletes, flips and swaps some rows.
fn damage(scene: &mut Scene, draw: &mut Draw) -> Vec<String> {
    let rows: Vec<_> = scene.rows().into_iter().filter(|(key, _)| key[0] != 1).collect();
    let mut batch = Batch::new();
    let mut done = Vec::new();
    for _ in 0..=draw.below(3) {
        let (key, value) = &rows[draw.below(rows.len())];
        let how = draw.below(4);
        done.push(format!("{how} {}", key.escape_ascii()));
        match how {
            0 => batch.delete(key),
            1 if !value.is_empty() => {
                let mut flipped = value.clone();
                let bit = draw.below(value.len() * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
                batch.put(key, &flipped);
            }
            2 => {
                let (_, other) = &rows[draw.below(rows.len())];
                batch.put(key, other);
            }
            _ => {
                let mut twin = key.clone();
                let at = 1 + draw.below(key.len() - 1);
                twin[at] ^= 1 << draw.below(8);
                batch.put(&twin, value);
            }
        }
    }
    scene.plant(&batch);
    done
}

fn run(seed: u64) {
    let mut draw = Draw(seed);
    let mut scene = Scene::new();
    let done = damage(&mut scene, &mut draw);
    let before = readable(&scene);
    let lost = |findings: &[layerhold::check::Finding]| {
        findings.iter().filter(|finding| finding.fault.severity() >= Severity::Wrong).count()
    };
    let (_, found) = scene.check(Level::Bytes);
    let (report, outcomes) = scene.repair(Level::Bytes);
    let (_, left) = scene.check(Level::Bytes);
    let story = format!("seed {seed}: {done:?}\nfound {found:#?}\noutcomes {outcomes:#?}\nleft {left:#?}");
    assert!(lost(&left) <= lost(&found), "{story}");
    assert_eq!(report.is_sound(), lost(&left) == 0, "{story}");
    let after = readable(&scene);
    for (tag, digest) in &before.tags {
        // A tag that pointed elsewhere by damage alone may be put right.
        let right = match tag.as_str() {
            "all" => scene.index,
            _ => scene.image,
        };
        if *digest == right {
            assert_eq!(after.tags.get(tag), Some(digest), "{story}");
        }
    }
    assert!(before.manifests.iter().all(|digest| after.manifests.contains(digest)), "{story}");
    assert!(before.blobs.iter().all(|digest| after.blobs.contains(digest)), "{story}");
    let (again, _) = scene.repair(Level::Bytes);
    assert_eq!(again.mended, 0, "{story}");
}

#[test]
fn rows_changed_at_random() {
    let seed = number("LAYERHOLD_SEED", SEED);
    for number in 0..number("LAYERHOLD_CHECK_RUNS", 400) {
        run(seed.wrapping_add(number));
    }
}

/// A number from the environment: a test has no other arguments.
#[expect(clippy::disallowed_methods, reason = "this is how a longer run, or a failed one, is asked for")]
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
