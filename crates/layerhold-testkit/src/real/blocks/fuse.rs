//! Disks as files of a FUSE file system of this process, for the kernel to make loop devices of.
//!
//! The protocol is linux/fuse.h; only what a loop device asks for is answered. One thread serves, so what the kernel asks
//! for at once happens in one order, which is the one that a disk remembers.
#![expect(clippy::host_endian_bytes, reason = "the kernel speaks in the byte order of its machine")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::disk::Disk;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const HEADER_IN: usize = 40;
const WRITE_IN: usize = 40;
const WRITE_MAX: usize = 1 << 20;
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;
const ROOT: u64 = 1;

/// The disks by node number less two; each has a node of its own, so that the kernel never takes one's pages for another's.
type Disks = Arc<Mutex<Vec<Option<Arc<Disk>>>>>;

/// The mounted file system.
#[derive(Debug)]
pub(super) struct Mounted {
    at: PathBuf,
    disks: Disks,
}

impl Mounted {
    /// Mounts an empty file system at the directory `at`.
    ///
    /// # Errors
    /// Where there is no FUSE, or this process may not mount.
    pub(super) fn at(at: &Path) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).map_err(io::Error::other)?;
        mount("layerhold", at, "fuse", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
        let disks = Disks::default();
        let server = Server { device, disks: Arc::clone(&disks) };
        std::thread::Builder::new().name("disks".to_owned()).spawn(move || server.serve())?;
        Ok(Self { at: at.to_owned(), disks })
    }

    /// Shows `disk` as a file, and gives the file.
    pub(super) fn show(&self, disk: Arc<Disk>) -> io::Result<File> {
        let number = {
            let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
            disks.push(Some(disk));
            disks.len() - 1
        };
        OpenOptions::new().read(true).write(true).open(self.at.join(number.to_string()))
    }

    /// Forgets all disks that were shown.
    pub(super) fn forget(&self) {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).fill(None);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The process that mounted has a view of its own, so nothing is left of it anyway.
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

struct Server {
    device: File,
    disks: Disks,
}

impl Server {
    fn serve(mut self) {
        let mut request = vec![0; WRITE_MAX + 2 * 4_096];
        loop {
            match self.device.read(&mut request) {
                Ok(len) => {
                    let answer = self.answer(&request[..len]);
                    // A request that was given up meanwhile wants no answer.
                    if let Some(answer) = answer {
                        let _ = self.device.write(&answer);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                // Unmounted.
                Err(_) => return,
            }
        }
    }

    fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        let header = request.get(..HEADER_IN)?;
        let (opcode, unique, node) = (u32_at(header, 4), u64_at(header, 8), u64_at(header, 16));
        let body = &request[HEADER_IN..];
        let answer = match opcode {
            FORGET | BATCH_FORGET | INTERRUPT | DESTROY => return None,
            INIT => Ok(init(body)),
            LOOKUP => self.lookup(body),
            GETATTR | SETATTR => self.attributes(node).map(|attributes| [&[0; 16][..], &attributes].concat()),
            OPEN => Ok(vec![0; 16]),
            READ => self.disk(node).map(|disk| {
                let (offset, len) = (u64_at(body, 8), u64::from(u32_at(body, 16)));
                let len = len.min(disk.len.saturating_sub(offset));
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                disk.read(offset, &mut bytes);
                bytes
            }),
            WRITE => self.disk(node).map(|disk| {
                let (offset, len) = (u64_at(body, 8), u32_at(body, 16));
                disk.write(offset, &body[WRITE_IN..WRITE_IN + len as usize]);
                [len.to_ne_bytes(), [0; 4]].concat()
            }),
            FSYNC => self.disk(node).map(|disk| {
                disk.flush();
                Vec::new()
            }),
            FLUSH | RELEASE => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let len = u32::try_from(16 + body.len()).unwrap_or(0);
        Some([&len.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), &body].concat())
    }

    fn lookup(&self, name: &[u8]) -> Result<Vec<u8>, i32> {
        let name = name.split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
        let node = name.and_then(|name| name.parse::<u64>().ok()).ok_or(libc::ENOENT)? + ROOT + 1;
        let attributes = self.attributes(node)?;
        Ok([&node.to_ne_bytes()[..], &[0; 32], &attributes].concat())
    }

    fn attributes(&self, node: u64) -> Result<Vec<u8>, i32> {
        let (len, mode) = match node {
            ROOT => (0, libc::S_IFDIR | 0o700),
            node => (self.disk(node)?.len, libc::S_IFREG | 0o600),
        };
        let numbers = [node, len, len / 512, 0, 0, 0].map(u64::to_ne_bytes).concat();
        let rest = [0, 0, 0, mode, 1, 0, 0, 0, 4_096, 0].map(u32::to_ne_bytes).concat();
        Ok([numbers, rest].concat())
    }

    fn disk(&self, node: u64) -> Result<Arc<Disk>, i32> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let index = node.checked_sub(ROOT + 1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| disks.get(index)?.clone()).ok_or(libc::ENOENT)
    }
}

fn init(body: &[u8]) -> Vec<u8> {
    let (major, minor, readahead, flags) = (u32_at(body, 0), u32_at(body, 4), u32_at(body, 8), u32_at(body, 12));
    let flags = flags & (BIG_WRITES | MAX_PAGES);
    let mut answer = [major, minor.min(31), readahead, flags].map(u32::to_ne_bytes).concat();
    answer.extend([16_u16, 12].map(u16::to_ne_bytes).concat());
    answer.extend([u32::try_from(WRITE_MAX).unwrap_or(0), 1].map(u32::to_ne_bytes).concat());
    answer.extend([256_u16, 0].map(u16::to_ne_bytes).concat());
    answer.resize(64, 0);
    answer
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
