//! Room on the medium: what needs room stops before there is none, so that what makes room goes on.
//!
//! Two reserves. Below a first mark of free bytes, or of files that can still be made, everything that needs room is refused;
//! what is left serves deletions, which also write: to the journal, and to the table when it is flushed. Should others fill
//! the medium all the same, a ballast file is given up, and is made again once there is plenty.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::options::Options;
use crate::store::StorageError;
use crate::store::fs::{self, FileSystem};

/// Its name below the root of the store.
pub(crate) const BALLAST: &str = "ballast";

/// Files that are left for deletions: segments of the journal, and what the table makes when it is flushed and compacted.
const FILES_MIN: u64 = 256;

/// A store opens with this part of either reserve.
const OPENING: u64 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    medium: Option<Medium>,
}

#[derive(Debug)]
struct Medium {
    fs: Arc<dyn FileSystem>,
    free_bytes_min: u64,
    ballast_bytes: u64,
    /// Whether the ballast is there.
    ballast: Mutex<bool>,
}

impl Room {
    /// Nobody can tell how much there is.
    pub(crate) fn unlimited() -> Self {
        Self { medium: None }
    }

    /// Before anything is opened for writing: gives the ballast up where there is little room.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] where there is too little even so. RocksDB must not meet a full medium while it opens.
    pub(crate) fn before_open(fs: &Arc<dyn FileSystem>, options: &Options) -> Result<Self, StorageError> {
        let io = |e| StorageError::io("look for", BALLAST, e);
        let medium = Medium {
            fs: Arc::clone(fs),
            free_bytes_min: options.free_bytes_min,
            ballast_bytes: options.ballast_bytes,
            ballast: Mutex::new(fs::exists(&**fs, Path::new(BALLAST)).map_err(io)?),
        };
        medium.relieve();
        medium.require(medium.available(), OPENING, "open the store")?;
        Ok(Self { medium: Some(medium) })
    }

    /// Whether something that needs room may begin; gives the ballast up where there is next to none.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`].
    pub(crate) fn admit(&self) -> Result<(), StorageError> {
        self.medium.as_ref().map_or(Ok(()), Medium::admit)
    }

    /// Gives the ballast up where there is next to no room.
    pub(crate) fn relieve(&self) {
        if let Some(medium) = &self.medium {
            medium.relieve();
        }
    }

    /// Makes the ballast where there is none and plenty of room.
    pub(crate) fn keep_ballast(&self) {
        if let Some(medium) = &self.medium {
            medium.keep_ballast();
        }
    }
}

impl Medium {
    /// Free bytes, and files that can still be made. Where the system does not say, the write itself will.
    fn available(&self) -> (u64, u64) {
        self.fs.space().map_or((u64::MAX, u64::MAX), |space| (space.available, space.files))
    }

    /// Every write comes by here, so the system is asked once where there is plenty.
    fn admit(&self) -> Result<(), StorageError> {
        if self.free_bytes_min == 0 {
            return Ok(());
        }
        let available = self.available();
        if available.0 < self.free_bytes_min / OPENING {
            self.relieve();
            return self.require(self.available(), 1, "admit a write");
        }
        self.require(available, 1, "admit a write")
    }

    /// An error where less than `1 / part` of the reserves is free.
    fn require(&self, (bytes, files): (u64, u64), part: u64, operation: &'static str) -> Result<(), StorageError> {
        let bytes_min = self.free_bytes_min / part;
        if bytes_min == 0 {
            return Ok(());
        }
        if bytes >= bytes_min && files >= FILES_MIN / part {
            return Ok(());
        }
        let path = self.fs.native_root().map(Path::to_owned).unwrap_or_default();
        Err(StorageError::NoSpace { operation, path, source: io::ErrorKind::StorageFull.into() })
    }

    fn relieve(&self) {
        let mut there = self.ballast.lock();
        if *there && self.available().0 < self.free_bytes_min / OPENING {
            // Should it not go, the next one tries again.
            *there = fs::remove_if_there(&*self.fs, Path::new(BALLAST)).is_err();
        }
    }

    fn keep_ballast(&self) {
        let mut there = self.ballast.lock();
        let plenty = self.free_bytes_min.saturating_add(self.ballast_bytes.saturating_mul(2));
        if *there || self.ballast_bytes == 0 || self.available().0 < plenty {
            return;
        }
        let path = Path::new(BALLAST);
        let made = self.fs.create_new(path).and_then(|file| file.allocate(self.ballast_bytes));
        // It is a convenience: without it fewer deletions fit on a full medium.
        *there = made.is_ok() || fs::remove_if_there(&*self.fs, path).is_err();
    }
}
