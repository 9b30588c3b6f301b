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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_the_system_will_not_map_is_left_to_plain_reads() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let map = populated(file.as_file(), 100, 9_000).unwrap();
        assert!(map.len() == 9_000 && map.iter().all(|byte| *byte == 7));
        // A descriptor that cannot be read from stands for every file system without maps.
        let unreadable = File::options().write(true).open(file.path()).unwrap();
        assert!(populated(&unreadable, 0, 10).is_none());
        // Pages behind the end can be mapped and not read in: touched, they would be a signal.
        assert!(populated(file.as_file(), 0, 1 << 20).is_none());
    }
}
