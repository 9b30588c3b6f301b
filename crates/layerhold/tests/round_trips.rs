//! How often an operation asks its metadata store: a store across a network pays for each time.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::sync::Arc;

use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::{
    Call, Components, Engine, Expected, Options, PutManifest, RegistryName, Repository, RepositoryName,
    RepositorySettings, Stores, Tag,
};
use layerhold_testkit::contract::counting::CountingMetadataStore;
use layerhold_testkit::fs::SimFileSystem;

type Counting = CountingMetadataStore<Journaled<MemTable>>;

fn counted_repository() -> (Arc<Counting>, Repository) {
    let fs: Arc<dyn FileSystem> = Arc::new(SimFileSystem::new(1));
    let options = JournaledOptions::default().with_segment_bytes(1 << 20).with_guard_checks(false);
    let journaled = Journaled::create(Arc::clone(&fs), MemTable::new(), [1; 16], options).unwrap();
    let metadata = Arc::new(CountingMetadataStore::new(Arc::new(journaled)));
    let blobs = Arc::new(LocalBlobStore::create(fs).unwrap());
    let stores = Stores { metadata: Arc::clone(&metadata) as _, blobs };
    let engine = Engine::create_with(stores, Options::default(), Components::default()).unwrap();
    let name = RegistryName::parse("counted").unwrap();
    engine.create_registry(&name, &Call::anonymous()).unwrap();
    let registry = engine.registry(&name);
    let name = RepositoryName::parse("app").unwrap();
    registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous()).unwrap();
    (metadata, registry.repository(&name))
}

fn image(repository: &Repository, number: u32, layers: u32) -> PutManifest {
    let call = Call::anonymous();
    let layer = |n: u32| {
        let put = repository.put_blob(format!("layer {n}").as_bytes(), &Expected::Computed, &call).unwrap();
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}"#,
            put.digest, put.size
        )
    };
    let config = repository.put_blob(format!("config {number}").as_bytes(), &Expected::Computed, &call).unwrap();
    let layers: Vec<_> = (0..layers).map(|n| layer(if n == 0 { number } else { 1_000 + n })).collect();
    PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
        config.digest,
        config.size,
        layers.join(",")
    ))
}

#[test]
fn putting_an_image_takes_four_round_trips_whatever_it_references() {
    let (metadata, repository) = counted_repository();
    let call = Call::anonymous();
    let moving = Tag::parse("latest").unwrap();
    // The first commit that touches a counter after opening reads it once.
    let first = image(&repository, 0, 2).with_tag(moving.clone());
    repository.put_manifest(&first, &call).unwrap();
    for (number, layers) in [(1, 1), (2, 13), (3, 100)] {
        let put = image(&repository, number, layers).with_tag(moving.clone());
        metadata.take();
        let result = repository.put_manifest(&put, &call).unwrap();
        let trips = metadata.take();
        assert!(result.created);
        assert!(trips.total() <= 4, "{layers} layers: {trips:?}");
        assert_eq!((trips.locks, trips.commits), (1, 1), "{layers} layers: {trips:?}");
    }
}

#[test]
fn an_availability_check_with_fresh_leases_only_reads_twice() {
    let (metadata, repository) = counted_repository();
    let call = Call::anonymous();
    let digests: Vec<_> = (0..100u32)
        .map(|n| repository.put_blob(&n.to_be_bytes(), &Expected::Computed, &call).unwrap().digest)
        .collect();
    metadata.take();
    assert_eq!(repository.check_blobs(&digests).unwrap().len(), 100);
    let trips = metadata.take();
    assert_eq!((trips.reads, trips.total()), (2, 2), "{trips:?}");
}
