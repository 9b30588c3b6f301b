//! Goal: a check of a store of any size holds no list of it.
//!
//! Method: an allocator that remembers its peak; a store of 100,000 rows on RocksDB; what a check adds to what the open store
//! has. `LAYERHOLD_CHECK_IMAGES` asks for a larger one, and the speed is printed.

#![cfg(feature = "rocksdb")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use layerhold::check::{CheckOptions, Finding, Level, Outcome};
use layerhold::{
    Call, Digest, Engine, Expected, MediaType, Options, PutManifest, RegistryName, Repository, RepositoryName,
    RepositorySettings, Tag,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What a check may hold beside the open store: pages of rows, sums of facts, buffers of one file.
const HELD_BYTES_MAX: usize = 24 << 20;

fn blob(repository: &Repository, bytes: &[u8]) -> Digest {
    repository.put_blob(bytes, &Expected::Computed, &Call::anonymous()).unwrap().digest
}

/// Images of 8 shared layers and a config of their own, each with a tag.
fn fill(engine: &Engine, images: u32) {
    let call = Call::anonymous();
    let registry = RegistryName::parse("test").unwrap();
    engine.create_registry(&registry, &call).unwrap();
    let mut limits = layerhold::Limits::default();
    limits.images = u64::MAX;
    let registry = engine.registry(&registry).with_limits(limits);
    let names: Vec<_> = (0..4).map(|n| RepositoryName::parse(&format!("team/app{n}")).unwrap()).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let (registry, call) = (&registry, &call);
            scope.spawn(move || {
                registry.create_repository(name, &RepositorySettings::default(), call).unwrap();
                let repository = registry.repository(name);
                let layer = |digest: &Digest| {
                    format!(r#"{{"mediaType":"{}","digest":"{digest}","size":9}}"#, MediaType::OCI_LAYER)
                };
                let layers: Vec<_> = (0..8).map(|n| layer(&blob(&repository, format!("layer {n:3}").as_bytes()))).collect();
                for image in 0..images / 4 {
                    let config = blob(&repository, format!("{name}{image:8}").as_bytes());
                    let document = format!(
                        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":21}},"layers":[{}]}}"#,
                        MediaType::OCI_MANIFEST,
                        MediaType::OCI_CONFIG,
                        layers.join(","),
                    );
                    let tag = Tag::parse(&format!("v{image}")).unwrap();
                    repository.put_manifest(&PutManifest::new(document).with_tag(tag), call).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_check_holds_no_list_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().with_memory_bytes(32 << 20);
    let engine = Engine::create(dir.path().join("store"), options).unwrap();
    fill(&engine, number("LAYERHOLD_CHECK_IMAGES", 4_000));
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let mut findings: Vec<(Finding, Outcome)> = Vec::new();
    let started = started();
    let report = engine.check(&CheckOptions::default().with_level(Level::Files), &mut findings).unwrap();
    let took = started.elapsed();
    let held = ALLOCATOR.peak_usage() - before;
    let per_second = report.rows as f64 / took.as_secs_f64();
    println!("rows={} took={took:?} rows_per_s={per_second:.0} held_bytes={held}", report.rows);
    assert!(report.is_clean(), "{findings:#?}");
    assert!(report.rows > 80_000, "{}", report.rows);
    assert!(held < HELD_BYTES_MAX, "a check held {held} bytes");
}

/// The time now: what is printed is for people.
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn started() -> std::time::Instant {
    std::time::Instant::now()
}

/// A number from the environment: a test has no other arguments.
#[expect(clippy::disallowed_methods, reason = "this is how a longer run is asked for")]
fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
