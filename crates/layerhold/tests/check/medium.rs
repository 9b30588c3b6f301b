//! What the medium does to one file: it does not give it, or gives it out of a cache.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use layerhold::check::{CheckOptions, Finding, Level, Outcome};
use layerhold::format::keys;
use layerhold::store::Location;
use layerhold::store::fs::{Entry, File, FileSystem, OpenMode, Space};
use layerhold_testkit::engine::TestEngine;
use layerhold_testkit::fs::{Call, SimFileSystem};

use crate::scene::{Scene, bytes, names};

/// A file system that refuses one kind of call on one file, and knows what it was asked to forget.
#[derive(Debug, Clone)]
struct Medium {
    inner: SimFileSystem,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    broken: Option<(Call, PathBuf, i32)>,
    /// Bytes of each file that were to be forgotten.
    forgotten: BTreeMap<PathBuf, u64>,
}

#[derive(Debug)]
struct MediumFile {
    medium: Medium,
    inner: Box<dyn File>,
    path: PathBuf,
}

impl Medium {
    /// A scene, and the medium that it is on.
    fn scene() -> (Scene, Self) {
        let inner = SimFileSystem::new(1);
        let medium = Self { inner: inner.clone(), state: Arc::default() };
        let test = TestEngine::try_memory_through(inner, Arc::new(medium.clone()), 256 << 10).unwrap();
        (Scene::on(test), medium)
    }

    fn break_file(&self, call: Call, location: Location, errno: i32) {
        self.state.lock().unwrap().broken = Some((call, Scene::path(location), errno));
    }

    fn mend(&self) {
        self.state.lock().unwrap().broken = None;
    }

    fn pass(&self, call: Call, path: &Path) -> io::Result<()> {
        match &self.state.lock().unwrap().broken {
            Some((kind, broken, errno)) if *kind == call && broken == path => Err(io::Error::from_raw_os_error(*errno)),
            _ => Ok(()),
        }
    }

    fn wrap(&self, inner: Box<dyn File>, path: &Path) -> Box<dyn File> {
        Box::new(MediumFile { medium: self.clone(), inner, path: path.to_owned() })
    }
}

impl FileSystem for Medium {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.inner.create_new(path).map(|file| self.wrap(file, path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.pass(Call::Open, path)?;
        self.inner.open(path, mode).map(|file| self.wrap(file, path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_noreplace(from, to)
    }

    fn rename_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename_replace(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.pass(Call::List, path)?;
        self.inner.list(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.pass(Call::FileLen, path)?;
        self.inner.file_len(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.inner.space()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.inner.lock(path, holder)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.inner.lock_shared(path)
    }
}

impl File for MediumFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.medium.pass(Call::Read, &self.path)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.medium.pass(Call::Len, &self.path)?;
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.start_writeback(offset, len)
    }

    fn forget(&self, _offset: u64, len: u64) {
        *self.medium.state.lock().unwrap().forgotten.entry(self.path.clone()).or_default() += len;
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        self.inner.map(offset, len)
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
            medium.mend();
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
    medium.state.lock().unwrap().broken = Some((Call::List, Scene::path(layer).parent().unwrap().to_owned(), EIO));
    assert!(check(Level::Files).is_err());
    assert!(check(Level::Metadata).is_ok());
}

#[test]
fn bytes_are_read_from_the_medium_and_not_out_of_a_cache() {
    let (mut scene, medium) = Medium::scene();
    let files = [(scene.location(&scene.layer), 200_000), (scene.location(&scene.thin), 20_000)];
    let forgotten = || {
        let state = std::mem::take(&mut *medium.state.lock().unwrap());
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
