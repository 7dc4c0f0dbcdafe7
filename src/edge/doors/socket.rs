//! The Unix socket of the HTTP door: its file, and who is at the other end of a connection.
//!
//! Invariants: the file has its permissions before anybody can connect; a file that another process listens on, or that
//! is no socket, is left alone; what is removed at the end is the file that was created.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use tokio::net::UnixStream;

use crate::config::SocketMode;
use crate::edge::{BACKLOG, Transport};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// Somebody who has reached an address.
    Network,
    /// A process of this process's user, or of root, which may do what this process may.
    Owner,
    /// A process of another user.
    OtherUser,
}

/// The file of a socket, removed when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file, to tell it from one that has taken its place.
    identity: (u64, u64),
}

impl SocketFile {
    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (found.dev(), found.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a Unix socket. What an earlier process has left there is removed.
///
/// # Errors
///
/// Another process listens on it, the file is no socket, or it cannot be created.
pub(super) fn listen_on(path: &Path, mode: SocketMode) -> io::Result<(UnixListener, SocketFile)> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let directory = File::open(directory)?;
    // Of two processes that start at the same time, none removes the file of the other.
    flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => in_use(),
        error => error.into(),
    })?;
    remove_abandoned(path)?;
    let socket = new_socket()?;
    // The file gets the permissions of the socket that is bound to it.
    fchmod(&socket, Mode::from_raw_mode(mode.bits()))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile::at(path)?;
    // The mask of the process may have taken away what the mode allows.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode.bits()))?;
    listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), file))
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")
}

/// Removes a socket that nobody listens on.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Ok(_) => match connect(&new_socket()?, &SocketAddrUnix::new(path)?) {
            Err(Errno::CONNREFUSED) => fs::remove_file(path),
            Err(Errno::NOENT) => Ok(()),
            // Its queue may be full.
            Ok(()) | Err(Errno::AGAIN) => Err(in_use()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Accepts the connections of a Unix socket.
pub(super) struct SocketTransport(pub tokio::net::UnixListener);

impl Transport for SocketTransport {
    type Accepted = UnixStream;
    type Stream = UnixStream;
    type Peer = Peer;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }

    fn peer(&self, accepted: &UnixStream) -> Peer {
        let own = rustix::process::geteuid().as_raw();
        match accepted.peer_cred().map(|credentials| credentials.uid()) {
            Ok(user) if user == own || user == 0 => Peer::Owner,
            _ => Peer::OtherUser,
        }
    }

    async fn open(&self, accepted: UnixStream) -> io::Result<UnixStream> {
        Ok(accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_owners_alone_and_is_removed_at_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        for mode in ["0600", "0660", "0666"] {
            let wanted = <SocketMode as crate::config::Setting>::read(mode).expect(mode);
            let (listener, file) = listen_on(&path, wanted).expect("it is free");
            let found = fs::symlink_metadata(&path).expect("it is there");
            assert!(found.file_type().is_socket());
            assert_eq!(found.mode() & 0o777, wanted.bits(), "{mode}");
            drop((listener, file));
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_socket_that_somebody_listens_on_or_another_file_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let (listener, file) = listen_on(&path, SocketMode::OWNER).expect("it is free");
        let error = listen_on(&path, SocketMode::OWNER).expect_err("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // A process that was killed leaves its file.
        std::mem::forget(file);
        drop(listener);
        let (listener, file) = listen_on(&path, SocketMode::OWNER).expect("nobody listens");
        // What has taken its place is not removed.
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "x").expect("it can be written");
        drop((listener, file));
        let error = listen_on(&path, SocketMode::OWNER).expect_err("it is no socket");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("it is there"), b"x");
    }
}
