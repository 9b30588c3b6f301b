//! Files as block devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use super::sys;

/// A loop device.
pub(super) struct Loop {
    pub(super) path: PathBuf,
    device: File,
}

impl Loop {
    /// The next free one, with `file` as its contents.
    ///
    /// # Errors
    /// Where there is none, or this process may not have it.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..200 {
            let number = sys::free_loop_device(control.as_fd())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new().read(true).write(true).open(&path)?;
            match sys::attach(device.as_fd(), file.as_fd()) {
                // Another process was quicker.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
                ended => return ended.map(|()| Self { path, device }),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Lets the file go, once nothing uses the device any more.
    pub(super) fn detach(&self) -> io::Result<()> {
        sys::detach(self.device.as_fd())
    }
}
