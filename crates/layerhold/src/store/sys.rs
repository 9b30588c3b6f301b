//! System calls that no safe crate offers.
#![expect(unsafe_code, reason = "sync_file_range and signal are in libc alone")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks the kernel to start writing the dirty pages of a range out, without waiting for them.
///
/// A file system that does not know the call is no error: this is a hint. The error state of the file is left for the
/// sync that follows, because the two flags that wait, and with them the ones that consume errors, are not set.
///
/// # Errors
/// What the system says where pages could not even be handed to the device.
pub(super) fn start_writeback(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the call takes numbers alone, so no memory of this process can be touched by it, and `file` is borrowed
    // for its whole length, so the descriptor is open and is the caller's.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ESPIPE | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

/// Whether an error says that the medium, or the file system's own data on it, could not be read: not that the process
/// lacks something, and not that it asked for something wrong.
pub(super) fn medium_failed(error: &io::Error) -> bool {
    const MEDIUM: [i32; 7] =
        [libc::EIO, libc::EUCLEAN, libc::EBADMSG, libc::ENODATA, libc::EREMOTEIO, libc::EILSEQ, libc::ENXIO];
    error.raw_os_error().is_some_and(|number| MEDIUM.contains(&number))
}

/// Ignores SIGXFSZ.
///
/// # Errors
/// What the system says.
pub(super) fn ignore_file_size_signal() -> io::Result<()> {
    // SAFETY: the call takes a number and a constant that stands for "ignored": no handler of ours is ever run.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
