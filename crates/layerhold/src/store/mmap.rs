//! Mapped files.
//!
//! The safety argument of this file is one sentence: a file that is mapped is immutable and is never shortened while
//! the map lives. [`File::map`](super::fs::File::map) asks it of its callers, who map published blobs alone; those are
//! written once, under a name that no client chooses, in a directory that only the store's user may enter.
#![expect(unsafe_code, reason = "memory maps")]

use std::fs::File;

use memmap2::{Advice, Mmap, MmapOptions};

/// Maps `len` bytes at `offset`, which lie inside the file, with every page read in.
///
/// `None` where the system will not map or will not populate: an old kernel, a file system without maps, a bad sector.
/// The caller then reads plainly, and the plain read says what is wrong. A page that the system takes back later and
/// cannot read again is still a signal; populating makes the first touch safe, not every later one.
pub(super) fn populated(file: &File, offset: u64, len: usize) -> Option<Mmap> {
    // SAFETY: the bytes behind the map change for nobody: see the head of this file.
    let map = unsafe { MmapOptions::new().offset(offset).len(len).map(file) }.ok()?;
    map.advise(Advice::PopulateRead).ok()?;
    Some(map)
}
