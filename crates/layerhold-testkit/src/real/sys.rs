//! System calls that no safe crate offers: filters over a process's own system calls, loop devices, mounts of its own.
//!
//! The only file of the test kit with `unsafe`. A filter is the kernel's: it judges a call by its number and the low words
//! of its arguments, before the call does anything.
#![expect(unsafe_code, reason = "seccomp filters, loop devices and unshare are in libc alone")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Calls that change what is on the medium, whatever their arguments are.
const MUTATING: &[libc::c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
];

/// Calls that write to the descriptor in their first argument.
const WRITING: &[libc::c_long] = &[libc::SYS_write, libc::SYS_writev];

/// Standard input, output and error: what a process says to its parent is no change of the medium.
const LAST_STANDARD_DESCRIPTOR: u32 = 2;

// Where `struct seccomp_data` holds the number and the low words of the arguments, on a little-endian machine.
const NUMBER: u32 = 0;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_1: u32 = 24;
const ARGUMENT_2: u32 = 32;

/// The mutating system calls of this process from here on, each of which waits until [`Calls::next`] let it go.
#[derive(Debug)]
pub(super) struct Calls {
    listener: OwnedFd,
}

impl Calls {
    /// Holds every later mutating call of every thread of this process. It cannot be undone.
    ///
    /// # Errors
    /// Where the system has no such filters or this process may not set one.
    pub(super) fn hold() -> io::Result<Self> {
        let mut program = Program::default();
        for number in MUTATING {
            program.when(*number, &[program.give(libc::SECCOMP_RET_USER_NOTIF)]);
        }
        for number in WRITING {
            let to_parent = jump(libc::BPF_JGT, LAST_STANDARD_DESCRIPTOR, 0, 1);
            let body = [load(ARGUMENT_0), to_parent, program.give(libc::SECCOMP_RET_USER_NOTIF), program.allow()];
            program.when(*number, &body);
        }
        let opening: &[(libc::c_long, u32)] = &[
            (libc::SYS_openat, ARGUMENT_2),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_open, ARGUMENT_1),
        ];
        for (number, flags) in opening {
            let making = u32::try_from(libc::O_CREAT | libc::O_TRUNC).unwrap_or(u32::MAX);
            let makes = jump(libc::BPF_JSET, making, 0, 1);
            let body = [load(*flags), makes, program.give(libc::SECCOMP_RET_USER_NOTIF), program.allow()];
            program.when(*number, &body);
        }
        // All threads, those that run already among them; TSYNC together with a listener needs the other error style.
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        let listener = program.install(flags)?;
        // SAFETY: with NEW_LISTENER a successful call gives a descriptor that nobody else has.
        Ok(Self { listener: unsafe { OwnedFd::from_raw_fd(listener) } })
    }

    /// Waits for the next call, asks `decide`, and lets the call go. `decide` may end the process instead: then the call
    /// never happened.
    pub(super) fn next(&self, decide: impl FnOnce()) -> io::Result<()> {
        // SAFETY: the kernel wants the structure zeroed, and zeros are a valid value of each of its fields.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut call)?;
        decide();
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(0);
        let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) {
            // The thread that waited was interrupted by a signal and calls again.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: `argument` is the structure that both requests above are declared with, borrowed for the call.
            match checked(
                unsafe { libc::ioctl(self.listener.as_raw_fd(), request, std::ptr::from_mut(argument)) }.into(),
            ) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A sync that can be made to do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// `fsync`, by which the engine syncs directories.
    Directories,
    /// `fdatasync`, by which it syncs its own files.
    Files,
}

/// From here on this thread, and every thread that it starts, is told that such syncs succeed, and nothing is synced.
pub(super) fn pretend(sync: Sync) -> io::Result<()> {
    let mut program = Program::default();
    let number = match sync {
        Sync::Directories => libc::SYS_fsync,
        Sync::Files => libc::SYS_fdatasync,
    };
    // The error number 0 is no error: the call is left out and its result is 0.
    program.when(number, &[program.give(libc::SECCOMP_RET_ERRNO)]);
    program.install(0).map(drop)
}

/// Makes the file `backing` the contents of the loop device `device`.
pub(super) fn attach(device: BorrowedFd<'_>, backing: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a descriptor as a number; both are open for the length of the call.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, backing.as_raw_fd()) }.into()).map(drop)
}

/// Takes the contents away from the loop device `device`.
pub(super) fn detach(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a number that it does not look at.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD, 0) }.into()).map(drop)
}

/// The number of a loop device that is free now.
pub(super) fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<i64> {
    // SAFETY: the request takes nothing.
    checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())
}

// linux/loop.h
const LOOP_SET_FD: libc::Ioctl = 0x4c00;
const LOOP_CLR_FD: libc::Ioctl = 0x4c01;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;

/// From here on this process has a list of mounts of its own.
pub(super) fn leave_mounts() -> io::Result<()> {
    // SAFETY: the call takes a number, and no memory or descriptor is shared less than before.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into()).map(drop)
}

/// A filter as it grows: it looks at the number, runs the first body that is for it, and else lets the call through.
#[derive(Default)]
struct Program {
    instructions: Vec<libc::sock_filter>,
}

impl Program {
    fn give(&self, verdict: u32) -> libc::sock_filter {
        statement(libc::BPF_RET | libc::BPF_K, verdict)
    }

    fn allow(&self) -> libc::sock_filter {
        self.give(libc::SECCOMP_RET_ALLOW)
    }

    /// Runs `body`, which ends with a verdict, for calls of this number.
    fn when(&mut self, number: libc::c_long, body: &[libc::sock_filter]) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        self.instructions.extend([load(NUMBER), jump(libc::BPF_JEQ, number, 0, skip)]);
        self.instructions.extend(body);
    }

    fn install(mut self, flags: libc::c_ulong) -> io::Result<i32> {
        self.instructions.push(self.allow());
        let len = u16::try_from(self.instructions.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len, filter: self.instructions.as_mut_ptr() };
        // SAFETY: the first call takes numbers. The second reads `program` and the instructions that it points to, which
        // live until it returned, and copies them.
        let result = unsafe {
            checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
        };
        checked(result).and_then(|descriptor| i32::try_from(descriptor).map_err(io::Error::other))
    }
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k }
}

fn jump(condition: u32, k: u32, when_true: u8, when_false: u8) -> libc::sock_filter {
    let code = u16::try_from(libc::BPF_JMP | condition | libc::BPF_K).unwrap_or(0);
    libc::sock_filter { code, jt: when_true, jf: when_false, k }
}

fn checked(result: libc::c_long) -> io::Result<i64> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
