//! What a medium can do to files behind a store's back. Every harm is durable when the function returns, so that it is
//! still there after a crash.

use std::io;
use std::path::{Path, PathBuf};

use layerhold::store::fs::{EntryKind, File, FileSystem, OpenMode};

/// All files below the root, in order of their paths.
///
/// # Errors
/// Those of the file system, here and below.
pub fn files(fs: &dyn FileSystem) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(directory) = todo.pop() {
        for entry in fs.list(&directory)? {
            let path = directory.join(entry.name);
            match entry.kind {
                EntryKind::File => found.push(path),
                EntryKind::Directory => todo.push(path),
                EntryKind::Other => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of a file.
pub fn read(fs: &dyn FileSystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn change(fs: &dyn FileSystem, path: &Path, harm: impl FnOnce(&dyn File) -> io::Result<()>) -> io::Result<()> {
    let file = fs.open(path, OpenMode::ReadWrite)?;
    harm(file.as_ref())?;
    file.sync_data()
}

/// Turns one bit over, the lowest bit of the first byte being bit 0. `UnexpectedEof` behind the end.
pub fn flip_bit(fs: &dyn FileSystem, path: &Path, bit: u64) -> io::Result<()> {
    change(fs, path, |file| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, bit / 8)?;
        file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8)
    })
}

/// Writes `bytes` over what is at `offset`.
pub fn overwrite(fs: &dyn FileSystem, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    change(fs, path, |file| file.write_all_at(bytes, offset))
}

/// Writes zeros over `len` bytes at `offset`.
pub fn zero(fs: &dyn FileSystem, path: &Path, offset: u64, len: usize) -> io::Result<()> {
    overwrite(fs, path, offset, &vec![0; len])
}

/// Adds `bytes` behind the end.
pub fn append(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> io::Result<()> {
    change(fs, path, |file| file.write_all_at(bytes, file.len()?))
}

/// Cuts a file to `len` bytes.
pub fn truncate(fs: &dyn FileSystem, path: &Path, len: u64) -> io::Result<()> {
    change(fs, path, |file| file.set_len(len))
}

/// Deletes a file.
pub fn delete(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    fs.remove_file(path)?;
    fs.sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// Lets two files change their contents, lengths included.
pub fn swap(fs: &dyn FileSystem, one: &Path, other: &Path) -> io::Result<()> {
    let (first, second) = (read(fs, one)?, read(fs, other)?);
    for (path, bytes) in [(one, second), (other, first)] {
        change(fs, path, |file| {
            file.set_len(bytes.len() as u64)?;
            file.write_all_at(&bytes, 0)
        })?;
    }
    Ok(())
}
