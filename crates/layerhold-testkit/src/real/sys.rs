//! System calls that no safe crate offers: filters over a process's own system calls, loop devices, mounts of its own.
//!
//! The only file of the test kit with `unsafe`. A filter is the kernel's: it judges a call by its number and the low words
//! of its arguments, before the call does anything.
#![expect(unsafe_code, reason = "seccomp filters, loop devices, unshare and another thread's memory are in libc alone")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::class::Class;

/// A system call that can be held, and where its arguments name a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    number: libc::c_long,
    name: &'static str,
    named: Named,
    when: When,
}

/// Which arguments of a call name the file that it is about; of two files it is the one that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// The descriptor in this argument.
    Descriptor(usize),
    /// The path in this argument, from the directory of the descriptor before it.
    At(usize),
    /// The path in this argument.
    Path(usize),
    Nothing,
}

/// Which calls of a number are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Every one: each changes what is on the medium.
    Always,
    /// Where the descriptor in the first argument is none of the standard ones: what a process says to its parent is no
    /// change of the medium.
    Writing,
    /// Where the flags in this argument make or cut a file; the others if all calls are held.
    Making(usize),
    /// Where the request in the second argument shares blocks between files.
    Cloning,
    /// Where all calls are held: it only reads.
    Reading,
}

const fn known(number: libc::c_long, name: &'static str, named: Named, when: When) -> Known {
    Known { number, name, named, when }
}

/// Everything that can be held. What nobody here calls today is in it to be noticed when somebody does.
const KNOWN: &[Known] = &[
    known(libc::SYS_write, "write", Named::Descriptor(0), When::Writing),
    known(libc::SYS_writev, "writev", Named::Descriptor(0), When::Writing),
    known(libc::SYS_pwrite64, "pwrite64", Named::Descriptor(0), When::Always),
    known(libc::SYS_pwritev, "pwritev", Named::Descriptor(0), When::Always),
    known(libc::SYS_pwritev2, "pwritev2", Named::Descriptor(0), When::Always),
    known(libc::SYS_ftruncate, "ftruncate", Named::Descriptor(0), When::Always),
    known(libc::SYS_truncate, "truncate", Named::Path(0), When::Always),
    known(libc::SYS_fallocate, "fallocate", Named::Descriptor(0), When::Always),
    known(libc::SYS_fsync, "fsync", Named::Descriptor(0), When::Always),
    known(libc::SYS_fdatasync, "fdatasync", Named::Descriptor(0), When::Always),
    known(libc::SYS_sync_file_range, "sync_file_range", Named::Descriptor(0), When::Always),
    known(libc::SYS_syncfs, "syncfs", Named::Descriptor(0), When::Always),
    known(libc::SYS_msync, "msync", Named::Nothing, When::Always),
    known(libc::SYS_copy_file_range, "copy_file_range", Named::Descriptor(2), When::Always),
    known(libc::SYS_sendfile, "sendfile", Named::Descriptor(0), When::Always),
    known(libc::SYS_splice, "splice", Named::Descriptor(2), When::Always),
    known(libc::SYS_ioctl, "ioctl", Named::Descriptor(0), When::Cloning),
    known(libc::SYS_io_uring_enter, "io_uring_enter", Named::Nothing, When::Always),
    known(libc::SYS_openat, "openat", Named::At(1), When::Making(2)),
    known(libc::SYS_openat2, "openat2", Named::At(1), When::Always),
    known(libc::SYS_renameat, "renameat", Named::At(3), When::Always),
    known(libc::SYS_renameat2, "renameat2", Named::At(3), When::Always),
    known(libc::SYS_unlinkat, "unlinkat", Named::At(1), When::Always),
    known(libc::SYS_mkdirat, "mkdirat", Named::At(1), When::Always),
    known(libc::SYS_mknodat, "mknodat", Named::At(1), When::Always),
    known(libc::SYS_linkat, "linkat", Named::At(3), When::Always),
    known(libc::SYS_symlinkat, "symlinkat", Named::At(2), When::Always),
    known(libc::SYS_fchmod, "fchmod", Named::Descriptor(0), When::Always),
    known(libc::SYS_fchmodat, "fchmodat", Named::At(1), When::Always),
    known(libc::SYS_fchmodat2, "fchmodat2", Named::At(1), When::Always),
    known(libc::SYS_fchown, "fchown", Named::Descriptor(0), When::Always),
    known(libc::SYS_fchownat, "fchownat", Named::At(1), When::Always),
    known(libc::SYS_utimensat, "utimensat", Named::At(1), When::Always),
    known(libc::SYS_fsetxattr, "fsetxattr", Named::Descriptor(0), When::Always),
    known(libc::SYS_setxattr, "setxattr", Named::Path(0), When::Always),
    known(libc::SYS_read, "read", Named::Descriptor(0), When::Reading),
    known(libc::SYS_pread64, "pread64", Named::Descriptor(0), When::Reading),
    known(libc::SYS_preadv, "preadv", Named::Descriptor(0), When::Reading),
    known(libc::SYS_getdents64, "getdents64", Named::Descriptor(0), When::Reading),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_open, "open", Named::Path(0), When::Making(1)),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_creat, "creat", Named::Path(0), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_rename, "rename", Named::Path(1), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_unlink, "unlink", Named::Path(0), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_mkdir, "mkdir", Named::Path(0), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_rmdir, "rmdir", Named::Path(0), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_mknod, "mknod", Named::Path(0), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_link, "link", Named::Path(1), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_symlink, "symlink", Named::Path(1), When::Always),
    #[cfg(target_arch = "x86_64")]
    known(libc::SYS_chmod, "chmod", Named::Path(0), When::Always),
];

const LAST_STANDARD_DESCRIPTOR: u32 = 2;

// linux/fs.h: FICLONE and FICLONERANGE.
const CLONES: [u32; 2] = [0x4004_9409, 0x4020_940d];

// Where `struct seccomp_data` holds the number and the low words of the arguments, on a little-endian machine.
const NUMBER: u32 = 0;
const ARGUMENTS: u32 = 16;

fn argument(number: usize) -> u32 {
    ARGUMENTS + 8 * u32::try_from(number).unwrap_or(0)
}

/// Which calls are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that change what is on the medium.
    Mutating,
    /// And those that open and read.
    All,
}

/// The system calls of this process from here on, each of which waits until [`Calls::next`] decided about it.
#[derive(Debug)]
pub(super) struct Calls {
    listener: OwnedFd,
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct Held {
    known: &'static Known,
    arguments: [u64; 6],
}

/// What becomes of a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made.
    Go,
    /// It is not made, and answers this error number.
    Fail(i32),
}

impl Calls {
    /// Holds every later call of every thread of this process. It cannot be undone. Whoever decides about them must make
    /// none of them.
    ///
    /// # Errors
    /// Where the system has no such filters or this process may not set one.
    pub(super) fn hold(which: Which) -> io::Result<Self> {
        let mut program = Program::default();
        let hold = program.give(libc::SECCOMP_RET_USER_NOTIF);
        let allow = program.allow();
        for Known { number, when, .. } in KNOWN {
            let to_others = [load(argument(0)), jump(libc::BPF_JGT, LAST_STANDARD_DESCRIPTOR, 0, 1), hold, allow];
            match when {
                When::Always => program.when(*number, &[hold]),
                When::Reading if which == Which::Mutating => {}
                When::Reading | When::Writing => program.when(*number, &to_others),
                When::Making(_) if which == Which::All => program.when(*number, &[hold]),
                When::Making(flags) => {
                    // A temporary file without a name is made as well.
                    let making = libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);
                    let making = jump(libc::BPF_JSET, u32::try_from(making).unwrap_or(u32::MAX), 0, 1);
                    program.when(*number, &[load(argument(*flags)), making, hold, allow]);
                }
                When::Cloning => {
                    let [one, other] = CLONES.map(|request| jump(libc::BPF_JEQ, request, 0, 1));
                    program.when(*number, &[load(argument(1)), one, hold, other, hold, allow]);
                }
            }
        }
        // All threads, those that run already among them; TSYNC together with a listener needs the other error style.
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        let listener = program.install(flags)?;
        // SAFETY: with NEW_LISTENER a successful call gives a descriptor that nobody else has.
        Ok(Self { listener: unsafe { OwnedFd::from_raw_fd(listener) } })
    }

    /// Waits for the next call, asks `decide`, and does what that says. `decide` may end the process instead: then the call
    /// never happened.
    pub(super) fn next(&self, decide: impl FnOnce(&Held) -> Verdict) -> io::Result<()> {
        // SAFETY: the kernel wants the structure zeroed, and zeros are a valid value of each of its fields.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut call)?;
        let known = KNOWN.iter().find(|known| known.number == libc::c_long::from(call.data.nr));
        let known =
            known.ok_or_else(|| io::Error::other(format!("a call that nobody holds number={}", call.data.nr)))?;
        let verdict = decide(&Held { known, arguments: call.data.args });
        let go = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(0);
        let (error, flags) = match verdict {
            Verdict::Go => (0, go),
            Verdict::Fail(number) => (-number, 0),
        };
        let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
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

impl Held {
    /// Its name in the manuals; of an opening that makes nothing, another one.
    pub(super) fn name(&self) -> &'static str {
        if matches!(self.known.when, When::Making(_)) && self.is_read() { "open to read" } else { self.known.name }
    }

    /// The class of the file that it is about, in the store at `root`.
    pub(super) fn class_below(&self, root: &Path) -> Class {
        let path = self.path();
        path.as_deref().and_then(|path| path.strip_prefix(root).ok()).map_or(Class::Other, Class::of)
    }

    /// Whether it only reads.
    pub(super) fn is_read(&self) -> bool {
        match self.known.when {
            When::Reading => true,
            When::Making(flags) => {
                let making = (libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE) & !libc::O_DIRECTORY;
                self.argument(flags) & u64::try_from(making).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The file that it is about; `None` where nobody can say.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self.known.named {
            Named::Nothing => None,
            Named::Descriptor(place) => of_descriptor(self.argument(place)),
            Named::Path(place) => text_at(self.argument(place)),
            Named::At(place) => {
                let path = text_at(self.argument(place))?;
                match path.is_absolute() {
                    true => Some(path),
                    false => Some(of_descriptor(self.argument(place - 1))?.join(path)),
                }
            }
        }
    }

    fn argument(&self, place: usize) -> u64 {
        self.arguments.get(place).copied().unwrap_or(0)
    }
}

/// What a descriptor of this process is open on.
fn of_descriptor(number: u64) -> Option<PathBuf> {
    let number = u32::try_from(number & 0xffff_ffff).ok()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    // What the system says of a file that has no name any more.
    Some(path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or_else(|| path.clone(), PathBuf::from))
}

/// The path that a thread of this process, which waits, has at this address.
fn text_at(address: u64) -> Option<PathBuf> {
    const PAGE: u64 = 4_096;
    let mut bytes = Vec::new();
    while bytes.len() < libc::PATH_MAX as usize {
        let from = address + bytes.len() as u64;
        let mut part = vec![0_u8; usize::try_from(PAGE - from % PAGE).ok()?];
        let local = libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() };
        let remote = libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(usize::try_from(from).ok()?),
            iov_len: part.len(),
        };
        // SAFETY: the kernel writes at most `part.len()` bytes to `part`, which lives until it returned, and reads the
        // other side itself: an address where nothing is, is an error of the call.
        let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
        part.truncate(usize::try_from(read).ok()?);
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            bytes.extend(part.get(..end)?);
            return Some(OsString::from_vec(bytes).into());
        }
        bytes.extend(part);
    }
    None
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
