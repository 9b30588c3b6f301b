//! Making the next segment's file while the present one fills, so that no commit waits for it.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Journal;
use super::segment::Spare;
use crate::clock::Spawner;
use crate::store::fs::FileSystem;

/// Makes spare files on another thread, one at a time. Its end waits for the file that is being made: nobody else may
/// find the store free before.
#[derive(Debug)]
pub(in crate::store) struct Ahead {
    spawner: Option<Arc<dyn Spawner>>,
    state: Arc<Running>,
}

#[derive(Debug, Default)]
struct Running {
    busy: Mutex<bool>,
    changed: Condvar,
}

/// Says that nothing is being made any more when it goes, however that comes.
struct Ends(Arc<Running>);

impl Ahead {
    pub(in crate::store) fn new(spawner: Option<Arc<dyn Spawner>>) -> Self {
        Self { spawner, state: Arc::default() }
    }

    /// Whether there is a thread to be had.
    pub(in crate::store) fn is_possible(&self) -> bool {
        self.spawner.is_some()
    }

    /// Makes the file `path` for a segment of `journal`. Without success the commit that needs it makes one by itself.
    pub(in crate::store) fn make(
        &self,
        fs: &Arc<dyn FileSystem>,
        journal: &Arc<Mutex<Journal>>,
        path: PathBuf,
        len: u64,
    ) {
        *self.state.busy.lock() = true;
        let ends = Ends(Arc::clone(&self.state));
        let (fs, taker) = (Arc::clone(fs), Arc::clone(journal));
        let job = move || {
            let made = Spare::create(&fs, path, len).ok();
            let surplus = taker.lock().spare_made(made);
            // A spare file that stays is removed when the store is opened.
            if let Some(spare) = surplus {
                drop(spare.remove(&*fs));
            }
            drop((taker, fs));
            drop(ends);
        };
        let spawned =
            self.spawner.as_ref().is_some_and(|spawner| spawner.spawn("layerhold-journal", Box::new(job)).is_ok());
        if !spawned {
            journal.lock().spare_made(None);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let mut busy = self.state.busy.lock();
        while *busy {
            self.state.changed.wait(&mut busy);
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        *self.0.busy.lock() = false;
        self.0.changed.notify_all();
    }
}
