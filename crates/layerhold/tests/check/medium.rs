//! What the medium does to one file: it does not give it, or gives it out of a cache.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use layerhold::check::{CheckOptions, Finding, Level, Outcome};
use layerhold::format::keys;
use layerhold::store::Location;
use layerhold_testkit::engine::TestEngine;
use layerhold_testkit::fs::{Call, OddFileSystem, Oddity, SimFileSystem};

use crate::scene::{Scene, bytes, names};

/// Refuses one kind of call on one file, and knows what it was asked to forget.
#[derive(Debug, Clone, Default)]
struct Medium(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    broken: Option<(Call, PathBuf, i32)>,
    /// Bytes of each file that were to be forgotten.
    forgotten: BTreeMap<PathBuf, u64>,
}

impl Medium {
    /// A scene, and the medium that it is on.
    fn scene() -> (Scene, Self) {
        let below = SimFileSystem::new(1);
        let medium = Self::default();
        let files = Arc::new(OddFileSystem::over(&below, medium.clone()));
        let test = TestEngine::try_memory_through(below, files, 256 << 10).unwrap();
        (Scene::on(test), medium)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn break_file(&self, call: Call, location: Location, errno: i32) {
        self.state().broken = Some((call, Scene::path(location), errno));
    }
}

impl Oddity for Medium {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        match &self.state().broken {
            Some((kind, broken, errno)) if *kind == call && broken == path => Err(io::Error::from_raw_os_error(*errno)),
            _ => Ok(()),
        }
    }

    fn forget(&self, path: &Path, len: u64) {
        *self.state().forgotten.entry(path.to_owned()).or_default() += len;
    }
}

const EIO: i32 = 5;
const EROFS: i32 = 30;
const EMFILE: i32 = 24;

#[test]
fn a_file_that_the_medium_does_not_give_is_a_finding_and_the_others_are_looked_at() {
    for level in [Level::Files, Level::Bytes] {
        for (kind, errno) in
            [(Call::Open, EIO), (Call::Len, EIO), (Call::FileLen, EIO), (Call::Read, EIO), (Call::Open, EROFS)]
        {
            let (scene, medium) = Medium::scene();
            let stray = Location([5; 16]);
            crate::kinds::write(scene.fs(), stray, &bytes(500, 9));
            scene.remove_file(scene.location(&scene.thin));
            let session = scene.upload_row(&scene.large_upload).location;
            let story = format!("{level:?} {kind:?} {errno}");
            for broken in [scene.location(&scene.layer), stray, session] {
                medium.break_file(kind, broken, errno);
                let (_, findings) = scene.check(level);
                let expected: &[&str] = if broken == stray {
                    &["file-missing", "other-file-unreadable"]
                } else if broken != session {
                    &["file-missing", "file-unreadable", "orphan-file"]
                } else if kind == Call::FileLen {
                    &["file-missing", "orphan-file", "other-file-unreadable"]
                } else {
                    // Of a session's file nothing but the length is asked.
                    &["file-missing", "orphan-file"]
                };
                assert_eq!(names(&findings), expected, "{story}: {findings:#?}");
            }
            // A repair goes on, too, and takes nothing from what it could not look at.
            medium.break_file(kind, scene.location(&scene.layer), errno);
            let (_, outcomes) = scene.repair(level);
            let mended: Vec<_> = outcomes.iter().map(|(finding, _)| finding.fault.name()).collect();
            assert!(mended.contains(&"orphan-file") && mended.contains(&"file-missing"), "{story}: {outcomes:#?}");
            medium.state().broken = None;
            assert_eq!(scene.names(level), ["blob-quarantined"], "{story}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_listed_and_a_process_without_descriptors_end_the_check() {
    let (scene, medium) = Medium::scene();
    let layer = scene.location(&scene.layer);
    let check = |level| {
        let mut all: Vec<(Finding, Outcome)> = Vec::new();
        scene.test.engine().check(&CheckOptions::default().with_level(level), &mut all)
    };
    medium.break_file(Call::Open, layer, EMFILE);
    assert!(check(Level::Files).is_err());
    medium.state().broken = Some((Call::List, Scene::path(layer).parent().unwrap().to_owned(), EIO));
    assert!(check(Level::Files).is_err());
    assert!(check(Level::Metadata).is_ok());
}

#[test]
fn bytes_are_read_from_the_medium_and_not_out_of_a_cache() {
    let (mut scene, medium) = Medium::scene();
    let files = [(scene.location(&scene.layer), 200_000), (scene.location(&scene.thin), 20_000)];
    let forgotten = || {
        let state = std::mem::take(&mut *medium.state());
        files.map(|(location, _)| state.forgotten.get(&Scene::path(location)).copied().unwrap_or_default())
    };
    forgotten();
    assert_eq!(scene.names(Level::Bytes), [] as [&str; 0]);
    assert_eq!(forgotten(), files.map(|(_, len)| len));
    // And for what a repair writes anew out of them.
    scene.delete(&keys::groups(files[0].0, 0));
    forgotten();
    scene.repair(Level::Metadata);
    assert_eq!(forgotten(), [200_000, 0]);
}
