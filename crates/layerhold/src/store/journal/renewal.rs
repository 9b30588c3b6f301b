//! A new journal in the place of one that is of no more use, when an operator chose so.
//!
//! What the old one held is in the table, durably, before this begins. Every step may be cut off and is done again from
//! the start: old files have gone aside or are still there, the new ones are there whole or not at all.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::mark::{self, Mark};
use super::segment::{self, Segment, Spare};
use super::{DIRECTORY, StoreId, is_absent, usable_segment_bytes};
use crate::store::StorageError;
use crate::store::fs::{FileSystem, OpenMode};

/// What the new mark is called until it is whole.
const MARK_MADE: &str = "journal/spare-mark";

/// Makes the journal that begins with the segment `number` behind `sequence`, and moves everything that was there before
/// into the existing directory `aside`.
pub(crate) fn renew(
    fs: &Arc<dyn FileSystem>,
    store_id: &StoreId,
    number: u64,
    sequence: u64,
    segment_bytes: u64,
    aside: &Path,
) -> Result<(), StorageError> {
    let directory = Path::new(DIRECTORY);
    match fs.create_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(StorageError::io("create", directory, e)),
        _ => {}
    }
    sync_dir(&**fs, Path::new(""))?;
    let (mut numbers, spares) = segment::list(&**fs)?;
    for spare in spares {
        fs.remove_file(&spare).map_err(|e| StorageError::io("remove", spare, e))?;
    }
    // An old one bears the new one's number where it was not there when the number was chosen.
    let first_sequence = sequence.saturating_add(1);
    let is_made = numbers.contains(&number) && is_segment(&**fs, store_id, number, first_sequence)?;
    if is_made {
        numbers.retain(|old| *old != number);
    }
    for old in &numbers {
        let name = segment::segment_path(*old);
        set_aside(&**fs, &name, aside)?;
    }
    let made = Path::new(MARK_MADE);
    Mark::create_at(&**fs, made, store_id, sequence)?;
    // The names of the old files are safe in the other directory before the new ones are made.
    sync_dir(&**fs, aside)?;
    let is_new = Mark::statements(&**fs)? == [(*store_id, sequence); 2];
    if is_new {
        fs.remove_file(made).map_err(|e| StorageError::io("remove", made, e))?;
    } else {
        set_aside(&**fs, &mark::path(), aside)?;
        sync_dir(&**fs, aside)?;
        fs.rename_noreplace(made, &mark::path()).map_err(|e| StorageError::io("rename", made, e))?;
    }
    if !is_made {
        let spare = Spare::create(fs, segment::spare_path(0), usable_segment_bytes(segment_bytes))?;
        // A segment that bears this number has its whole header: the name comes last.
        spare.activate(&**fs, store_id, number, first_sequence)?;
    }
    sync_dir(&**fs, directory)
}

fn is_segment(fs: &dyn FileSystem, store_id: &StoreId, number: u64, first_sequence: u64) -> Result<bool, StorageError> {
    match Segment::open(fs, store_id, number, OpenMode::Read) {
        Ok(found) => Ok(found.header.first_sequence == first_sequence),
        Err(StorageError::Corrupt { .. } | StorageError::UnknownFormat { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves a file into `aside`. Where a crash left it under both names, the old one goes.
fn set_aside(fs: &dyn FileSystem, path: &Path, aside: &Path) -> Result<(), StorageError> {
    let Some(name) = path.file_name() else { return Ok(()) };
    match fs.rename_noreplace(path, &aside.join(name)) {
        Ok(()) => Ok(()),
        Err(e) if is_absent(&e) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs.remove_file(path).map_err(|e| StorageError::io("remove", path, e))
        }
        Err(e) => Err(StorageError::io("set aside", path, e)),
    }
}

fn sync_dir(fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    fs.sync_dir(path).map_err(|e| StorageError::io("sync", path, e))
}
