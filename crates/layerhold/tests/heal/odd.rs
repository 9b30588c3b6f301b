//! A file system that is odd about one file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use layerhold_testkit::fs::{self, Call, OddFileSystem};

/// What is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// It cannot be opened: an error number.
    Refused(i32),
    /// Of the reads that cover this byte, the one after so many gives it with one bit turned over.
    FlippedOnce(u64, u32),
}

/// A file system that does what it was told of one file.
pub(crate) type Odd = OddFileSystem<Told>;

/// The one oddity there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Option<(PathBuf, Oddity)>>>);

impl Told {
    pub(crate) fn tell(&self, told: Option<(PathBuf, Oddity)>) {
        *self.0.lock().unwrap() = told;
    }

    /// Whether the oddity has not shown yet, where it shows once.
    pub(crate) fn is_told(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

impl fs::Oddity for Told {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        match &*self.0.lock().unwrap() {
            Some((odd, Oddity::Refused(number))) if call == Call::Open && odd == path => {
                Err(io::Error::from_raw_os_error(*number))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, path: &Path, offset: u64, bytes: &mut [u8]) {
        let mut told = self.0.lock().unwrap();
        if let Some((odd, Oddity::FlippedOnce(at, after))) = &mut *told
            && odd == path
            && (offset..offset + bytes.len() as u64).contains(at)
        {
            if *after > 0 {
                *after -= 1;
            } else {
                bytes[usize::try_from(*at - offset).unwrap()] ^= 4;
                *told = None;
            }
        }
    }
}
