//! Where the socket is, who may use it, and how a path that is too long for a socket is got at.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The socket's name in the data directory.
pub const SOCKET: &str = "control.sock";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8;

/// Makes the socket of the data directory `dir` and listens on it. The caller has the store open, so a socket that is there
/// already is of a server that is gone.
///
/// # Errors
/// What the system says; and where something else than a socket bears the name.
pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SOCKET);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else bears the socket's name")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let directory = open_directory(dir)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address(dir, &directory)?)?;
    // Nobody can connect before it listens, so nobody was let in by other permissions.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Removes the socket of a server that ends.
pub fn remove(dir: &Path) {
    // A socket that stays is taken for what it is by the next server.
    let _ = std::fs::remove_file(dir.join(SOCKET));
}

/// Connects to the server that has the store in `dir` open.
///
/// # Errors
/// What the system says: `NotFound` or `ConnectionRefused` where no server listens.
pub fn connect(dir: &Path) -> io::Result<UnixStream> {
    let directory = open_directory(dir)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address(dir, &directory)?)?;
    Ok(UnixStream::from(socket))
}

/// Whether the peer of a connection is the owner of this process, or the superuser.
///
/// # Errors
/// What the system says.
pub fn is_owner(stream: &UnixStream) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.uid == rustix::process::geteuid() || peer.uid.is_root())
}

fn open_directory(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, dir, flags, Mode::empty())?)
}

/// The socket's address. A path may be longer than an address holds (108 bytes); then the way goes through the open
/// directory.
fn address(dir: &Path, directory: &OwnedFd) -> io::Result<SocketAddrUnix> {
    if let Ok(address) = SocketAddrUnix::new(dir.join(SOCKET)) {
        return Ok(address);
    }
    let through: PathBuf = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into();
    Ok(SocketAddrUnix::new(through)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_works_where_the_path_is_long() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["short".to_owned(), "a-very-long-name-".repeat(12)] {
            let data = dir.path().join(name);
            std::fs::create_dir(&data).unwrap();
            assert_eq!(connect(&data).unwrap_err().kind(), io::ErrorKind::NotFound);
            let listener = listen(&data).unwrap();
            let mode = std::fs::metadata(data.join(SOCKET)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let client = connect(&data).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert!(is_owner(&server).unwrap() && is_owner(&client).unwrap());
            drop(listener);
            // What a killed server left stands in nobody's way.
            assert_eq!(connect(&data).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            drop(listen(&data).unwrap());
            remove(&data);
            std::fs::write(data.join(SOCKET), "precious").unwrap();
            assert_eq!(listen(&data).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(data.join(SOCKET)).unwrap(), b"precious");
        }
    }
}
