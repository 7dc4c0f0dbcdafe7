//! Where a router is.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use caxton_router::config::SOCKET_PATH_BYTES_MAX;
use serde::Deserialize;
use ureq::http::Uri;

/// Where a router serves its API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// A URL without path.
    Url { is_secure: bool, authority: String },
    /// A Unix socket.
    Socket(PathBuf),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a URL such as http://127.0.0.1:7411 or https://caxton.example.org:7411, or a \
                                socket such as unix:/run/caxton/caxton.sock";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            if !path.is_absolute() || path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
                return Err(format!("it is no absolute path of at most {SOCKET_PATH_BYTES_MAX} bytes: {EXPECTED}"));
            }
            return Ok(Self::Socket(path));
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|error| format!("{error}: {EXPECTED}"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(EXPECTED.to_owned()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or(EXPECTED)?.to_string();
        if uri.path().len() > 1 || uri.query().is_some() {
            return Err(format!("it has a path: {EXPECTED}"));
        }
        Ok(Self::Url { is_secure, authority })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { is_secure, authority } => {
                let scheme = if *is_secure { "https" } else { "http" };
                write!(formatter, "{scheme}://{authority}")
            }
            Self::Socket(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Returns what a URL of a request begins with.
    pub(super) fn base(&self) -> String {
        match self {
            Self::Url { .. } => self.to_string(),
            Self::Socket(_) => "http://localhost".to_owned(),
        }
    }

    /// Whether connections are encrypted.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Self::Url { is_secure: true, .. })
    }

    /// Whether it is on this host.
    pub(super) fn is_here(&self) -> bool {
        let Self::Url { authority, .. } = self else { return true };
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_without_path_or_a_socket() {
        let parsed = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(parsed("127.0.0.1:7411"), Ok("http://127.0.0.1:7411".to_owned()));
        assert_eq!(parsed("https://caxton.example.org/"), Ok("https://caxton.example.org".to_owned()));
        for text in
            ["", "ftp://x", "http://", "http://a b", "http://x/v1", "http://ann:secret@x", "unix:run/x", "unix:"]
        {
            assert!(parsed(text).is_err_and(|error| error.contains("http://127.0.0.1:7411")), "{text}");
        }
        for text in ["unix:/run/x", "unix:///run/x"] {
            assert_eq!(parsed(text), Ok("unix:/run/x".to_owned()));
        }
        let is_here = |text: &str| text.parse::<Address>().is_ok_and(|address| address.is_here());
        assert!(is_here("localhost:7411") && is_here("[::1]:7411") && is_here("127.9.9.9") && is_here("unix:/run/x"));
        assert!(!is_here("10.0.0.1:7411") && !is_here("localhost.example.org"));
    }
}
