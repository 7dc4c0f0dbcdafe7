//! A Unix socket to listen on, and who may connect to it.

use std::path::{Path, PathBuf};

use caxton_shards::domain::DomainError;

use super::directory::{read_path, show_path};
use super::value::Setting;

/// Maximum length of the path of a Unix socket, in bytes: what `sun_path` holds besides its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// An optional absolute path of a Unix socket.
///
/// ```
/// use caxton_router::config::SocketPath;
///
/// let path = "/run/caxton/caxton.sock".parse::<SocketPath>()?;
/// assert!(path.path().is_some_and(|path| path.ends_with("caxton.sock")));
/// assert!("caxton.sock".parse::<SocketPath>().is_err());
/// # Ok::<(), caxton_router::domain::DomainError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketPath(Option<PathBuf>);

impl SocketPath {
    /// Returns the path, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl std::str::FromStr for SocketPath {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "an absolute path of at most 107 bytes, or nothing";
        const { assert!(SOCKET_PATH_BYTES_MAX == 107, "the text says so") };
        let path = read_path("socket", text)?;
        let fits = |path: &PathBuf| path.is_absolute() && path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
        if path.as_ref().is_some_and(|path| !fits(path)) {
            return Err(DomainError::not_allowed("socket", text, ALLOWED));
        }
        Ok(Self(path))
    }
}

impl Setting for SocketPath {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        show_path(self.path())
    }
}

/// The permissions of a socket's file: users who may write to it may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// Its owner alone.
    pub const OWNER: Self = Self(0o600);

    /// Returns the bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for SocketMode {
    fn default() -> Self {
        Self::OWNER
    }
}

impl Setting for SocketMode {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "0600 for the owner alone, 0660 for its group too, or 0666 for everybody on this host";
        match text.trim() {
            "0600" | "600" => Ok(Self(0o600)),
            "0660" | "660" => Ok(Self(0o660)),
            "0666" | "666" => Ok(Self(0o666)),
            _ => Err(DomainError::not_allowed("socket mode", text, ALLOWED)),
        }
    }

    fn show(&self) -> String {
        format!("\"{:04o}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_as_short_as_the_kernel_demands() {
        let path = SocketPath::read("/run/caxton.sock").expect("it is legal");
        assert_eq!(path.show(), "\"/run/caxton.sock\"");
        assert_eq!(SocketPath::read("").map(|none| none.path().map(Path::to_owned)), Ok(None));
        assert!(SocketPath::read(&format!("/{}", "x".repeat(106))).is_ok());
        for text in ["caxton.sock", "./x", &format!("/{}", "x".repeat(107)), "/a\"b"] {
            assert!(SocketPath::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_is_one_of_three() {
        for (text, bits) in [("0600", 0o600), ("660", 0o660), ("0666", 0o666)] {
            let mode = SocketMode::read(text).expect(text);
            assert_eq!((mode.bits(), SocketMode::read(mode.show().trim_matches('"'))), (bits, Ok(mode)));
        }
        for text in ["", "0777", "rw", "0060"] {
            assert!(SocketMode::read(text).is_err_and(|error| error.to_string().contains("0600")), "{text}");
        }
    }
}
