//! Every implementation obeys its trait.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use layerhold::store::fs::{FileSystem, OpenMode};
use layerhold::store::local::LocalBlobStore;
use layerhold::store::real::RealFileSystem;
use layerhold::store::{BlobStore, Location, StorageError};
use layerhold_testkit::contract;
use layerhold_testkit::fs::{FailingFileSystem, SimFileSystem};

fn real() -> (tempfile::TempDir, Arc<RealFileSystem>) {
    let directory = tempfile::tempdir().unwrap();
    let fs = RealFileSystem::new(directory.path().to_owned()).unwrap();
    (directory, Arc::new(fs))
}

#[test]
fn the_real_file_system_obeys() {
    let (_directory, fs) = real();
    contract::fs::check(fs);
}

#[test]
fn the_simulated_file_system_obeys() {
    contract::fs::check(Arc::new(SimFileSystem::new(1)));
}

#[test]
fn the_failing_file_system_obeys_while_nothing_fails() {
    contract::fs::check(Arc::new(FailingFileSystem::new(Arc::new(SimFileSystem::new(1)))));
}

#[test]
fn local_blobs_on_real_files_obey() {
    let directory = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    contract::blobs::check(|| {
        number.set(number.get() + 1);
        let root = directory.path().join(number.get().to_string());
        std::fs::create_dir(&root).unwrap();
        Arc::new(LocalBlobStore::create(Arc::new(RealFileSystem::new(root).unwrap())).unwrap())
    });
}

#[test]
fn local_blobs_on_simulated_files_obey() {
    contract::blobs::check(|| Arc::new(LocalBlobStore::create(Arc::new(SimFileSystem::new(1))).unwrap()));
}

#[test]
fn a_root_must_be_a_directory() {
    let (directory, fs) = real();
    fs.create_new(Path::new("file")).unwrap();
    for missing in ["file", "nothing"] {
        assert!(RealFileSystem::new(directory.path().join(missing)).is_err(), "{missing}");
    }
    assert_eq!(fs.native_root(), Some(directory.path()));
}

#[test]
fn nobody_else_may_read_what_is_stored() {
    let (directory, fs) = real();
    let blobs = LocalBlobStore::create(fs.clone()).unwrap();
    blobs.stage(Location([3; 16])).unwrap();
    fs.lock(Path::new("lock"), "me").unwrap();
    let mode = |path: &str| std::fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("blobs"), 0o700);
    assert_eq!(mode("blobs/03"), 0o700);
    assert_eq!(mode("blobs/03/03030303030303030303030303030303"), 0o600);
    assert_eq!(mode("lock"), 0o600);
}

#[test]
fn foreign_names_are_listed_and_overlooked() {
    let (directory, fs) = real();
    let blobs = LocalBlobStore::create(fs.clone()).unwrap();
    blobs.stage(Location([3; 16])).unwrap();
    for name in ["blobs/03/lost+found", "blobs/3", "blobs/README", "blobs/03/04030303030303030303030303030303"] {
        std::fs::write(directory.path().join(name), b"x").unwrap();
    }
    std::fs::create_dir(directory.path().join("blobs/zz")).unwrap();
    std::fs::create_dir(directory.path().join("blobs/03/03030303030303030303030303030304")).unwrap();
    symlink("nowhere", directory.path().join("blobs/03/03030303030303030303030303030305")).unwrap();
    let unreadable = std::os::unix::ffi::OsStringExt::from_vec(b"not text \xff".to_vec());
    std::fs::write(directory.path().join("blobs/03").join::<std::ffi::OsString>(unreadable), b"x").unwrap();
    assert_eq!(fs.list(Path::new("blobs/03")).unwrap().len(), 6);
    let mut found = Vec::new();
    blobs
        .list(&mut |location| {
            found.push(location);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, [Location([3; 16])]);
}

#[test]
fn a_store_without_its_directory_is_none() {
    let fs = Arc::new(SimFileSystem::new(1));
    assert!(matches!(LocalBlobStore::open(fs.clone()), Err(StorageError::Corrupt { .. })));
    LocalBlobStore::create(fs.clone()).unwrap();
    LocalBlobStore::create(fs.clone()).unwrap();
    LocalBlobStore::open(fs).unwrap();
}

#[test]
fn a_map_of_a_shortened_file_is_an_error_and_not_a_signal() {
    let (_directory, fs) = real();
    let file = fs.create_new(Path::new("file")).unwrap();
    file.write_all_at(&[1; 20_000], 0).unwrap();
    let reader = fs.open(Path::new("file"), OpenMode::Read).unwrap();
    file.set_len(4096).unwrap();
    assert!(reader.map(0, 20_000).is_err());
    assert!(reader.map(4096, 4096).is_err());
    assert_eq!(reader.map(0, 4096).unwrap().len(), 4096);
}

#[test]
fn the_suitability_of_this_machine_is_a_sentence_or_nothing() {
    let (_directory, fs) = real();
    if let Some(reason) = fs.suitability().warning {
        // Some machines keep their temporary files in memory or over another file system, which the check says.
        assert!(reason.contains("restart") || reason.contains("overlayfs"), "{reason}");
    }
}
