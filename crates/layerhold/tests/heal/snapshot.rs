//! A part of a store brought back from an older copy: bytes without their rows, and rows without their bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use layerhold::blob::OpenError;
use layerhold::check::{CheckOptions, Level, RepairOptions};
use layerhold::directory::Place;
use layerhold::store::fs::FileSystem;
use layerhold::{
    BlobStatus, Components, Digest, Engine, ErrorKind, Expected, RegistryName, Repository, RepositorySettings,
};
use layerhold_testkit::file_table::FileTableHome;
use layerhold_testkit::fs::{SimFileSystem, damage};
use layerhold_testkit::operation::pool::noise;

use super::support::{GROUP, call, name, options, read};

fn place(fs: &SimFileSystem) -> Place {
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    Place::new(Arc::clone(&shared), Arc::new(FileTableHome::new(shared)))
}

fn open(fs: &SimFileSystem) -> Engine {
    Engine::open_in(&place(fs), options(), Components { spawner: None, ..Components::default() }).unwrap()
}

fn app(engine: &Engine) -> Repository {
    engine.registry(&RegistryName::parse("test").unwrap()).repository(&name("app"))
}

fn content(number: u64) -> Vec<u8> {
    noise(number, 3 * GROUP + 5)
}

fn push(engine: &Engine, number: u64) -> Digest {
    app(engine).put_blob(&content(number), &Expected::Computed, &call()).unwrap().digest
}

/// `onto` with the directory of blobs of `from`.
fn with_blobs_of(onto: &SimFileSystem, from: &SimFileSystem) -> SimFileSystem {
    let mixed = onto.copy();
    let blobs = |fs: &SimFileSystem| {
        damage::files(fs).unwrap().into_iter().filter(|path| path.starts_with("blobs")).collect::<Vec<_>>()
    };
    for path in blobs(&mixed) {
        damage::delete(&mixed, &path).unwrap();
    }
    for path in blobs(from) {
        let shard = path.parent().unwrap();
        drop(mixed.create_dir(shard));
        let file = mixed.create_new(&path).unwrap();
        file.write_all_at(&damage::read(from, &path).unwrap(), 0).unwrap();
        file.sync_data().unwrap();
        mixed.sync_dir(shard).unwrap();
    }
    mixed
}

/// A blob that stays as it is, one that is pushed again (and so moves) between the copies, and one that comes after the first.
/// The store at the time of each copy, closed.
fn copies() -> ([Digest; 3], SimFileSystem, SimFileSystem) {
    let fs = SimFileSystem::new(1);
    let engine = Engine::create_in(&place(&fs), options(), Components { spawner: None, ..Components::default() });
    let engine = engine.unwrap();
    let registry = RegistryName::parse("test").unwrap();
    engine.create_registry(&registry, &call()).unwrap();
    engine.registry(&registry).create_repository(&name("app"), &RepositorySettings::default(), &call()).unwrap();
    let (stays, moves) = (push(&engine, 1), push(&engine, 2));
    engine.close().unwrap();
    drop(engine);
    let older = fs.copy();
    let engine = open(&fs);
    assert_eq!(push(&engine, 2), moves);
    let comes = push(&engine, 3);
    engine.maintain().unwrap();
    engine.close().unwrap();
    drop(engine);
    ([stays, moves, comes], older, fs)
}

fn findings(engine: &Engine) -> BTreeMap<&'static str, u64> {
    engine.check(&CheckOptions::default().with_level(Level::Files), &mut Vec::new()).unwrap().findings
}

fn is_present(engine: &Engine, digest: &Digest) -> bool {
    matches!(app(engine).check_blobs(&[*digest]).unwrap()[0], BlobStatus::Present { .. })
}

fn assert_corrupt(engine: &Engine, digest: &Digest) {
    assert!(matches!(app(engine).blob(digest), Err(OpenError::Corrupt { .. })));
    assert!(!is_present(engine, digest), "a push is told to send it");
}

#[test]
fn blobs_that_are_older_than_the_rows_are_missed_by_name_and_pushed_again() {
    let ([stays, moves, comes], older, newer) = copies();
    let fs = with_blobs_of(&newer, &older);
    let engine = open(&fs);
    // What moved lies at its old place again, which the rows gave up.
    assert_eq!(findings(&engine), BTreeMap::from([("file-missing", 2), ("removal-pending", 1)]));
    assert!(read(&app(&engine), &stays) == content(1));
    assert_corrupt(&engine, &moves);
    assert_corrupt(&engine, &comes);
    assert_eq!(findings(&engine)["blob-quarantined"], 2);
    for (number, digest) in [(2, moves), (3, comes)] {
        assert_eq!(push(&engine, number), digest);
        assert!(is_present(&engine, &digest) && read(&app(&engine), &digest) == content(number));
    }
    engine.maintain().unwrap();
    assert_eq!(findings(&engine), BTreeMap::new());
}

#[test]
fn rows_that_are_older_than_the_blobs_miss_what_moved_and_keep_what_they_never_heard_of() {
    let ([stays, moves, comes], older, newer) = copies();
    let fs = with_blobs_of(&older, &newer);
    let engine = open(&fs);
    assert_eq!(findings(&engine), BTreeMap::from([("file-missing", 1), ("unclaimed-file", 2)]));
    assert!(read(&app(&engine), &stays) == content(1));
    assert_corrupt(&engine, &moves);
    assert_eq!(app(&engine).blob(&comes).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!is_present(&engine, &comes));
    // What moved is found where its file proves to be. The other file may be the only copy of what no row knows, so a
    // repair leaves it.
    engine.repair(&RepairOptions::default().with_level(Level::Files), &call(), &mut Vec::new()).unwrap();
    engine.maintain().unwrap();
    assert!(is_present(&engine, &moves) && read(&app(&engine), &moves) == content(2));
    assert_eq!(findings(&engine), BTreeMap::from([("unclaimed-file", 1)]));
    assert_eq!(damage::files(&fs).unwrap().iter().filter(|path| path.starts_with("blobs")).count(), 3);
    for (number, digest) in [(2, moves), (3, comes)] {
        assert_eq!(push(&engine, number), digest);
        assert!(read(&app(&engine), &digest) == content(number));
    }
    // The file of nobody goes once the other copy was read and proved right.
    engine.repair(&RepairOptions::default().with_level(Level::Bytes), &call(), &mut Vec::new()).unwrap();
    engine.maintain().unwrap();
    assert_eq!(findings(&engine), BTreeMap::new());
}
