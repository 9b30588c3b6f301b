//! A file system that is odd about one file.

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use layerhold::store::fs::{Entry, File, FileSystem, OpenMode, Space, Suitability};
use layerhold_testkit::fs::SimFileSystem;

/// What is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// It cannot be opened: an error number.
    Refused(i32),
    /// Of the reads that cover this byte, the one after so many gives it with one bit turned over.
    FlippedOnce(u64, u32),
}

/// Passes everything on to a simulated file system, but for what it was told of one file.
#[derive(Debug, Clone)]
pub(crate) struct Odd {
    inner: SimFileSystem,
    told: Told,
}

type Told = Arc<Mutex<Option<(PathBuf, Oddity)>>>;

#[derive(Debug)]
struct OddFile {
    inner: Box<dyn File>,
    path: PathBuf,
    told: Told,
}

impl Odd {
    pub(crate) fn new(inner: SimFileSystem) -> Self {
        Self { inner, told: Told::default() }
    }

    /// Sets the one oddity there is.
    pub(crate) fn tell(&self, told: Option<(PathBuf, Oddity)>) {
        *self.told.lock().unwrap() = told;
    }

    /// Whether the oddity has not shown yet, where it shows once.
    pub(crate) fn is_told(&self) -> bool {
        self.told.lock().unwrap().is_some()
    }

    fn wrap(&self, path: &Path, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(OddFile { inner, path: path.to_owned(), told: Arc::clone(&self.told) })
    }
}

impl FileSystem for Odd {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(self.wrap(path, self.inner.create_new(path)?))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        match &*self.told.lock().unwrap() {
            Some((odd, Oddity::Refused(number))) if odd == path => return Err(io::Error::from_raw_os_error(*number)),
            _ => {}
        }
        Ok(self.wrap(path, self.inner.open(path, mode)?))
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
        self.inner.list(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
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

    fn suitability(&self) -> Suitability {
        self.inner.suitability()
    }
}

impl File for OddFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.inner.read_at(buf, offset)?;
        let mut told = self.told.lock().unwrap();
        if let Some((odd, Oddity::FlippedOnce(at, after))) = &mut *told
            && *odd == self.path
            && (offset..offset + read as u64).contains(at)
        {
            if *after > 0 {
                *after -= 1;
            } else {
                buf[usize::try_from(*at - offset).unwrap()] ^= 4;
                *told = None;
            }
        }
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.start_writeback(offset, len)
    }

    fn forget(&self, offset: u64, len: u64) {
        self.inner.forget(offset, len);
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Box<dyn Deref<Target = [u8]> + Send + Sync>> {
        self.inner.map(offset, len)
    }
}
