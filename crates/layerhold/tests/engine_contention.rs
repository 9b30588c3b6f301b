//! Many callers that want the same row: each of them gets its turn.
#![allow(clippy::unwrap_used, reason = "a panic is how a test tells what went wrong")]

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use layerhold::format::keys::{self, RegistryId, RepositoryId, Scope};
use layerhold::manifest::ManifestRead;
use layerhold::store::fs::FileSystem;
use layerhold::store::journaled::{Journaled, JournaledOptions};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::mem::MemTable;
use layerhold::store::real::RealFileSystem;
use layerhold::store::{LockMode, MetadataStore};
use layerhold::{
    Call, Components, Digest, Engine, Options, PutManifest, Reference, RegistryName, Repository, RepositoryName,
    RepositorySettings, Stores, Tag,
};

const CALLERS: u32 = 160;
const MOVES: u32 = 6;

fn image(number: u32) -> PutManifest {
    let config = Digest::sha256(&number.to_be_bytes());
    PutManifest::new(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":4}},"layers":[]}}"#
    ))
}

/// On real files, so that commits take their time and callers meet.
fn repository(dir: &Path) -> Repository {
    repository_over(dir).1
}

fn repository_over(dir: &Path) -> (Arc<dyn MetadataStore>, Repository) {
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem::new(dir.to_owned()).unwrap());
    let options = JournaledOptions::default().with_unguarded(|key| !keys::is_guard(key));
    let metadata: Arc<dyn MetadataStore> =
        Arc::new(Journaled::create(Arc::clone(&fs), MemTable::new(), [1; 16], options).unwrap());
    let stores = Stores { metadata: Arc::clone(&metadata), blobs: Arc::new(LocalBlobStore::create(fs).unwrap()) };
    let engine = Engine::create_with(stores, Options::default(), Components::default()).unwrap();
    let registry = RegistryName::parse("busy").unwrap();
    engine.create_registry(&registry, &Call::anonymous()).unwrap();
    let registry = engine.registry(&registry);
    let name = RepositoryName::parse("app").unwrap();
    let settings = RepositorySettings { sparse_images: true, ..RepositorySettings::default() };
    registry.create_repository(&name, &settings, &Call::anonymous()).unwrap();
    (metadata, registry.repository(&name))
}

/// Goal: who changes a manifest holds its row over syncs of others; pulls of it do not wait for that, nor does a thread that
/// may not wait at all.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn a_pull_does_not_wait_for_whoever_changes_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let (metadata, repository) = repository_over(dir.path());
    let put = repository.put_manifest(&image(1), &Call::anonymous()).unwrap();
    let reference = Reference::Digest(put.digest);
    let pulled_ms = || repository.describe_image(&reference.clone().into()).unwrap().last_pull_ms;
    let scope = Scope { registry: RegistryId(1), repository: RepositoryId(repository.describe().unwrap().id) };
    let held = metadata.lock_and_get(&[(&keys::manifest(scope, &put.digest), LockMode::Exclusive)]).unwrap();
    assert!(held.values().get(0).is_some());
    assert_eq!(repository.manifest_at_once(&reference).unwrap(), None, "the pull is to be noted");
    let begin = Instant::now();
    let pulled = repository.manifest(&reference, ManifestRead::Pull).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(pulled_ms(), None, "nobody may write beside the one who holds the row");
    drop(held);
    repository.manifest(&reference, ManifestRead::Pull).unwrap();
    assert!(pulled_ms().is_some());
    assert_eq!(repository.manifest_at_once(&reference).unwrap(), Some(pulled));
}

#[test]
fn a_tag_that_everybody_moves_at_once_is_moved_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(dir.path());
    let latest = Tag::parse("latest").unwrap();
    let start = Barrier::new(CALLERS as usize);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (repository, latest, start) = (&repository, &latest, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..MOVES {
                    let put = image(caller * MOVES + n).with_tag(latest.clone());
                    repository.put_manifest(&put, &Call::anonymous()).unwrap();
                }
            });
        }
    });
    let usage = repository.describe().unwrap().usage;
    assert_eq!((usage.images, usage.tags), (u64::from(CALLERS * MOVES), 1));
    let moves = repository.tag_history(&latest, None, CALLERS * MOVES).unwrap().items;
    assert_eq!(moves.len(), (CALLERS * MOVES) as usize);
    assert!(moves.windows(2).all(|pair| pair[0].to == pair[1].from), "each move begins where the one before ended");
}

#[test]
fn repositories_that_are_made_at_once_are_all_made() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository(dir.path());
    let registry = repository.registry();
    let start = Barrier::new(CALLERS as usize);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let start = &start;
            scope.spawn(move || {
                let name = RepositoryName::parse(&format!("app/{caller}")).unwrap();
                start.wait();
                registry.create_repository(&name, &RepositorySettings::default(), &Call::anonymous()).unwrap();
            });
        }
    });
    let made = registry.list_repositories(None, 1_000).unwrap().items;
    let ids: std::collections::BTreeSet<_> = made.iter().map(|repository| repository.id).collect();
    assert_eq!((made.len(), ids.len()), (CALLERS as usize + 1, CALLERS as usize + 1));
}
