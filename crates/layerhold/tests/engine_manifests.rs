//! Manifests where the roles of one digest meet, and where their stored bytes are damaged.
#![expect(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::sync::Arc;

use layerhold::format::keys::{self, RegistryId, RepositoryId, Scope};
use layerhold::manifest::{DeleteError, ReadError};
use layerhold::store::Batch;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::store::table::Table as _;
use layerhold::{
    Call, Components, Digest, Engine, Expected, ImageId, ManifestRead, Options, PutManifest, Reference, RegistryName,
    Repository, RepositoryName, RepositorySettings, Stores, Tag, TagFilter,
};
use layerhold_testkit::fs::SimFileSystem;

/// A repository that takes sparse images, and the table below it. It is the first of the first registry.
fn repository() -> (MemTable, Repository) {
    let fs: Arc<dyn FileSystem> = Arc::new(SimFileSystem::new(1));
    let table = MemTable::new();
    let options = JournaledOptions::default().with_unguarded(|key| !keys::is_guard(key));
    let metadata = Arc::new(Journaled::create(Arc::clone(&fs), table.clone(), [1; 16], options).unwrap());
    let stores = Stores { metadata, blobs: Arc::new(LocalBlobStore::create(fs).unwrap()) };
    let engine = Engine::create_with(stores, Options::default(), Components::default()).unwrap();
    let name = RegistryName::parse("test").unwrap();
    engine.create_registry(&name, &Call::anonymous()).unwrap();
    let registry = engine.registry(&name);
    let name = RepositoryName::parse("app").unwrap();
    let settings = RepositorySettings { sparse_images: true, ..RepositorySettings::default() };
    registry.create_repository(&name, &settings, &Call::anonymous()).unwrap();
    (table, registry.repository(&name))
}

const SCOPE: Scope = Scope { registry: RegistryId(1), repository: RepositoryId(1) };

fn image(number: u32, layer: &Digest) -> PutManifest {
    let config = Digest::sha256(&number.to_be_bytes());
    PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":4}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":1}}]}}"#
    ))
}

fn index(child: &Digest) -> PutManifest {
    PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{child}","size":1}}]}}"#
    ))
}

#[test]
fn a_digest_that_is_a_layer_to_many_and_a_manifest_to_one_is_kept_for_that_one() {
    let (_, repository) = repository();
    let call = Call::anonymous();
    let child = image(0, &Digest::sha256(b"a layer"));
    let digest = repository.put_manifest(&child, &call).unwrap().digest;
    // Its bytes are a blob as well, and a layer of many images.
    repository.put_blob(&child.bytes, &Expected::Digest(digest), &call).unwrap();
    let images: Vec<_> = (1..=60).map(|n| repository.put_manifest(&image(n, &digest), &call).unwrap().digest).collect();
    let index = repository.put_manifest(&index(&digest), &call).unwrap().digest;
    match repository.delete_manifest(&digest, &call).unwrap_err() {
        DeleteError::ReferencedBy { manifests, .. } => assert_eq!(manifests, [index]),
        other => panic!("{other}"),
    }
    assert!(repository.delete_blob(&digest, &call).is_err(), "images reference the blob");
    images.iter().for_each(|image| drop(repository.delete_manifest(image, &call).unwrap()));
    repository.delete_blob(&digest, &call).expect("the index references the manifest, not the blob");
    assert!(repository.delete_manifest(&digest, &call).is_err());
    repository.delete_manifest(&index, &call).unwrap();
    repository.delete_manifest(&digest, &call).unwrap();
}

#[test]
fn putting_a_damaged_manifest_again_heals_it() {
    let (table, repository) = repository();
    let call = Call::anonymous();
    let put = image(0, &Digest::sha256(b"a layer")).with_tag(Tag::parse("v1").unwrap());
    let digest = repository.put_manifest(&put, &call).unwrap().digest;
    let read = || repository.manifest(&Reference::Digest(digest), ManifestRead::Peek);
    let changed = |batch: Batch| table.apply(&[&batch], None).unwrap();
    let key = keys::manifest_bytes(SCOPE, &digest);
    let (mut damage, mut loss) = (Batch::new(), Batch::new());
    damage.put(&key, b"not the document");
    loss.delete(&key);
    for batch in [damage, loss] {
        changed(batch);
        assert!(matches!(read(), Err(ReadError::Corrupt { .. })));
        let again = repository.put_manifest(&put, &call).unwrap();
        assert!(again.healed && !again.created && !again.changed_nothing());
        assert_eq!(read().unwrap().bytes, put.bytes);
    }
    let sequence = repository.registry().engine().sequence();
    repository.put_manifest(&put, &call).unwrap();
    assert_eq!(repository.registry().engine().sequence(), sequence, "an intact one is not written again");
}

#[test]
fn a_page_of_images_ends_where_their_tags_are_too_many() {
    let (_, repository) = repository();
    let call = Call::anonymous();
    for n in 0..6 {
        let tags = (0..4).map(|tag| Tag::parse(&format!("t{n}-{tag}")).unwrap());
        let put = tags.fold(image(n, &Digest::sha256(b"a layer")), PutManifest::with_tag);
        repository.put_manifest(&put, &call).unwrap();
    }
    let mut limits = repository.registry().limits().clone();
    limits.page_rows = 7;
    let small = repository.registry().clone().with_limits(limits).repository(repository.name());
    let (mut digests, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = small.describe_images(TagFilter::Tagged, after.as_deref(), 100).unwrap();
        assert!(page.items.len() <= 2);
        digests.extend(page.items.into_iter().map(|image| image.digest));
        (after, pages) = (page.next, pages + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let whole = repository.describe_images(TagFilter::Any, None, 100).unwrap();
    assert_eq!(digests, whole.items.iter().map(|image| image.digest).collect::<Vec<_>>());
    assert!(digests.iter().all(|digest| repository.describe_image(&ImageId::Digest(*digest)).unwrap().tags.len() == 4));
}
