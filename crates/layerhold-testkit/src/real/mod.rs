//! Techniques over the real stack: RocksDB, real files, a real kernel, and processes that are really killed.
//!
//! What dies is a child: the same program, started with `child`, the technique's name and what to do. It says on its standard output
//! what was acknowledged, and its parent holds what is left against that.
//!
//! A unit of work is a function of a seed and a number, as far as real threads and real time allow: where a process is
//! killed at a moment of the clock, the seed decides what it does and roughly when it dies, not between which two
//! instructions.

pub mod blocks;
pub(crate) mod child;
mod class;
pub mod damage;
pub mod failing;
pub mod generations;
pub mod kill_points;
mod lane;
mod loops;
pub mod mounts;
mod story;
mod sys;
mod workloads;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::technique::Unit;

/// Where children come from and where stores are made.
#[derive(Debug, Clone)]
pub struct Place {
    /// The program whose children are killed: the command of this test kit.
    pub program: PathBuf,
    /// A directory for stores. A process that is killed leaves what the page cache holds, so it may be in memory.
    pub scratch: PathBuf,
}

impl Place {
    /// Children of this program, which must be the command; stores in the directory of `unit`.
    ///
    /// # Errors
    /// Where the system does not say what runs.
    pub fn of(unit: &Unit) -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, scratch: unit.scratch() })
    }

    /// A directory of its own below the scratch, which goes when the value does.
    fn directory(&self) -> io::Result<Directory> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("layerhold-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = self.scratch.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Directory { path })
    }
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in a scratch directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// What this process mounts from here on is seen by it alone, and ends with it.
fn own_mounts() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    sys::leave_mounts()?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Copies the files below `from` to `to`, which must not exist.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
