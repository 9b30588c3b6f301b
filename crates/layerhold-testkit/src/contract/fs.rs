//! What every file system must do, apart from surviving crashes.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use layerhold::store::fs::{Entry, EntryKind, File, FileSystem, LockHeld, OpenMode};

/// Holds `fs`, whose root is empty, to the contract.
///
/// # Panics
/// Where it breaks it.
pub fn check(fs: Arc<dyn FileSystem>) {
    let fs = fs.as_ref();
    files_are_made_once(fs);
    bytes_come_back(fs);
    lengths_change(fs);
    handles_outlive_names(fs);
    renames_replace_only_when_asked(fs);
    directories_nest(fs);
    ranges_are_mapped(fs);
    many_threads_share_a_handle(fs);
    locks_exclude(fs);
    syncs_succeed(fs);
    paths_stay_inside(fs);
    let space = fs.space().unwrap();
    assert!(space.available <= space.total);
}

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

fn file_of(fs: &dyn FileSystem, name: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = fs.create_new(path(name)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn contents(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn contents_at(fs: &dyn FileSystem, name: &str) -> Vec<u8> {
    contents(fs.open(path(name), OpenMode::Read).unwrap().as_ref())
}

fn files_are_made_once(fs: &dyn FileSystem) {
    assert_eq!(kind(fs.open(path("once"), OpenMode::Read)), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs.open(path("once"), OpenMode::ReadWrite)), Some(ErrorKind::NotFound), "opening makes nothing");
    assert_eq!(kind(fs.file_len(path("once"))), Some(ErrorKind::NotFound));
    let made = file_of(fs, "once", b"first");
    assert_eq!(kind(fs.create_new(path("once"))), Some(ErrorKind::AlreadyExists));
    assert_eq!(contents(made.as_ref()), b"first", "the refused call left the file alone");
    assert_eq!(kind(fs.create_new(path("nowhere/once"))), Some(ErrorKind::NotFound));
    let opened = fs.open(path("once"), OpenMode::ReadWrite).unwrap();
    opened.write_all_at(b"F", 0).unwrap();
    assert_eq!(contents(made.as_ref()), b"First", "handles see one another's writes");
    assert!(fs.open(path("once"), OpenMode::Read).unwrap().write_all_at(b"x", 0).is_err(), "opened for reading alone");
    assert_eq!(fs.file_len(path("once")).unwrap(), 5);
    fs.remove_file(path("once")).unwrap();
}

fn bytes_come_back(fs: &dyn FileSystem) {
    let file = fs.create_new(path("bytes")).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    assert_eq!(file.read_at(&mut [0; 4], 0).unwrap(), 0);
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    assert!(contents(file.as_ref()) == bytes);
    // Overwriting across pages leaves what lies around it.
    file.write_all_at(&[255; 5000], 4000).unwrap();
    let mut expected = bytes;
    expected[4000..9000].fill(255);
    assert!(contents(file.as_ref()) == expected);
    let mut tail = [0; 8];
    file.read_exact_at(&mut tail, 99_992).unwrap();
    assert_eq!(tail, expected[99_992..]);
    assert_eq!(kind(file.read_exact_at(&mut tail, 99_993)), Some(ErrorKind::UnexpectedEof));
    assert_eq!(file.read_at(&mut tail, 1 << 40).unwrap(), 0);
    // A write behind the end leaves zeros between.
    file.write_all_at(b"end", 120_000).unwrap();
    expected.resize(120_000, 0);
    expected.extend_from_slice(b"end");
    assert!(contents(file.as_ref()) == expected);
    file.write_all_at(&[], 500_000).unwrap();
    assert_eq!(file.len().unwrap(), 120_003, "writing nothing changes nothing");
    fs.remove_file(path("bytes")).unwrap();
}

fn lengths_change(fs: &dyn FileSystem) {
    let file = file_of(fs, "length", &[9; 10_000]);
    file.set_len(5000).unwrap();
    assert_eq!(file.len().unwrap(), 5000);
    file.set_len(9000).unwrap();
    let mut expected = vec![9; 5000];
    expected.resize(9000, 0);
    assert!(contents(file.as_ref()) == expected, "what was cut off does not come back");
    file.set_len(0).unwrap();
    assert_eq!(fs.file_len(path("length")).unwrap(), 0);
    fs.remove_file(path("length")).unwrap();
}

fn handles_outlive_names(fs: &dyn FileSystem) {
    let file = file_of(fs, "gone", b"still here");
    fs.remove_file(path("gone")).unwrap();
    assert_eq!(kind(fs.remove_file(path("gone"))), Some(ErrorKind::NotFound));
    assert_eq!(contents(file.as_ref()), b"still here");
    let other = file_of(fs, "gone", b"another");
    assert_eq!(contents(file.as_ref()), b"still here");
    assert_eq!(contents(other.as_ref()), b"another");
    fs.remove_file(path("gone")).unwrap();
}

fn renames_replace_only_when_asked(fs: &dyn FileSystem) {
    file_of(fs, "a", b"a");
    file_of(fs, "b", b"b");
    assert_eq!(kind(fs.rename_noreplace(path("a"), path("b"))), Some(ErrorKind::AlreadyExists));
    assert_eq!((contents_at(fs, "a"), contents_at(fs, "b")), (b"a".to_vec(), b"b".to_vec()));
    fs.rename_noreplace(path("a"), path("c")).unwrap();
    assert_eq!(kind(fs.file_len(path("a"))), Some(ErrorKind::NotFound));
    assert_eq!(contents_at(fs, "c"), b"a");
    assert_eq!(kind(fs.rename_noreplace(path("a"), path("d"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs.rename_replace(path("a"), path("b"))), Some(ErrorKind::NotFound));
    let replaced = fs.open(path("b"), OpenMode::Read).unwrap();
    fs.rename_replace(path("c"), path("b")).unwrap();
    assert_eq!(contents_at(fs, "b"), b"a");
    assert_eq!(contents(replaced.as_ref()), b"b", "a handle keeps what it opened");
    fs.rename_replace(path("b"), path("b")).unwrap();
    assert_eq!(contents_at(fs, "b"), b"a");
    fs.create_dir(path("into")).unwrap();
    fs.rename_noreplace(path("b"), path("into/b")).unwrap();
    assert_eq!(contents_at(fs, "into/b"), b"a");
    fs.remove_file(path("into/b")).unwrap();
}

fn directories_nest(fs: &dyn FileSystem) {
    assert_eq!(kind(fs.list(path("top"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs.create_dir(path("top/below"))), Some(ErrorKind::NotFound));
    fs.create_dir(path("top")).unwrap();
    assert_eq!(kind(fs.create_dir(path("top"))), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(fs.create_new(path("top"))), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(fs.create_dir(path(""))), Some(ErrorKind::AlreadyExists), "the root exists");
    assert!(fs.list(path("top")).unwrap().is_empty());
    fs.create_dir(path("top/below")).unwrap();
    file_of(fs, "top/file", b"1");
    file_of(fs, "top/below/file", b"2");
    assert_eq!(contents_at(fs, "top/below/file"), b"2");
    let mut entries = fs.list(path("top")).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let expected = [
        Entry { name: "below".into(), kind: EntryKind::Directory },
        Entry { name: "file".into(), kind: EntryKind::File },
    ];
    assert_eq!(entries, expected);
    assert!(fs.list(path("")).unwrap().iter().any(|entry| entry.name == "top"));
    assert_eq!(kind(fs.list(path("top/file"))), Some(ErrorKind::NotADirectory));
    assert_eq!(kind(fs.sync_dir(path("top/file"))), Some(ErrorKind::NotADirectory));
    assert_eq!(kind(fs.create_new(path("top/file/x"))), Some(ErrorKind::NotADirectory));
    assert_eq!(kind(fs.file_len(path("top"))), Some(ErrorKind::IsADirectory));
    assert!(fs.remove_file(path("top/below")).is_err());
    fs.remove_file(path("top/below/file")).unwrap();
}

fn ranges_are_mapped(fs: &dyn FileSystem) {
    let bytes: Vec<u8> = (0..20_000_u32).map(|i| (i % 241) as u8).collect();
    let file = file_of(fs, "mapped", &bytes);
    for (offset, len) in [(0, 20_000), (0, 1), (4096, 4096), (4097, 9000), (19_999, 1), (20_000, 0), (7, 0)] {
        assert!(**file.map(offset, len).unwrap() == bytes[offset as usize..][..len], "offset={offset} len={len}");
    }
    for (offset, len) in [(0, 20_001), (20_000, 1), (30_000, 5), (u64::MAX, 1)] {
        assert!(file.map(offset, len).is_err(), "offset={offset} len={len}");
    }
    let map = fs.open(path("mapped"), OpenMode::Read).unwrap().map(1, 2).unwrap();
    fs.remove_file(path("mapped")).unwrap();
    assert_eq!(**map, [1, 2], "a map outlives its handle and the file's name");
}

fn many_threads_share_a_handle(fs: &dyn FileSystem) {
    let file = fs.create_new(path("shared")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let file = file.as_ref();
            scope.spawn(move || {
                for block in 0..50 {
                    file.write_all_at(&[thread + 1; 1000], (block * 4 + u64::from(thread)) * 1000).unwrap();
                }
            });
        }
    });
    let bytes = contents(file.as_ref());
    assert_eq!(bytes.len(), 200_000);
    assert!(bytes.chunks(1000).enumerate().all(|(i, block)| block.iter().all(|&byte| byte == (i % 4) as u8 + 1)));
    fs.remove_file(path("shared")).unwrap();
}

fn locks_exclude(fs: &dyn FileSystem) {
    let first = fs.lock(path("lock"), "holder one, with a long name").unwrap();
    let refused = fs.lock(path("lock"), "holder two").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert_eq!(LockHeld::of(&refused).unwrap().holder, "holder one, with a long name");
    assert_eq!(contents_at(fs, "lock"), b"holder one, with a long name", "the refused call left the file alone");
    let other = fs.lock(path("other-lock"), "").unwrap();
    drop(first);
    let again = fs.lock(path("lock"), "holder two").unwrap();
    assert_eq!(contents_at(fs, "lock"), b"holder two");
    assert_eq!(kind(fs.lock(path("other-lock"), "")), Some(ErrorKind::WouldBlock));
    drop((again, other));
    assert_eq!(contents_at(fs, "lock"), b"holder two", "the file stays when the lock goes");
}

fn syncs_succeed(fs: &dyn FileSystem) {
    let file = file_of(fs, "synced", &[1; 100_000]);
    file.start_writeback(0, 65_536).unwrap();
    file.sync_data().unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(path("")).unwrap();
    fs.create_dir(path("synced-directory")).unwrap();
    fs.sync_dir(path("synced-directory")).unwrap();
    assert_eq!(kind(fs.sync_dir(path("no-directory"))), Some(ErrorKind::NotFound));
    fs.remove_file(path("synced")).unwrap();
}

fn paths_stay_inside(fs: &dyn FileSystem) {
    for outside in ["/etc/passwd", "../outside", "top/../../outside", "/"] {
        assert!(fs.open(path(outside), OpenMode::Read).is_err(), "{outside}");
        assert_eq!(kind(fs.create_new(path(outside))), Some(ErrorKind::InvalidInput), "{outside}");
    }
}
