//! The address of a listener.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use caxton_shards::domain::DomainError;

use super::value::Setting;

/// An optional address to listen on.
///
/// A port alone is one of the loopback interface; port 0 is one that is free.
///
/// ```
/// use caxton_router::config::ListenAddress;
///
/// assert_eq!("9464".parse::<ListenAddress>()?.to_string(), "127.0.0.1:9464");
/// assert_eq!("[::]:9464".parse::<ListenAddress>()?.to_string(), "[::]:9464");
/// assert_eq!("".parse::<ListenAddress>()?.address(), None);
/// # Ok::<(), caxton_router::domain::DomainError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenAddress(Option<SocketAddr>);

impl ListenAddress {
    /// Returns the address, if there is one.
    pub fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(Some(address))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(formatter))
    }
}

impl FromStr for ListenAddress {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str =
            "a port such as 9464, an address and a port such as 0.0.0.0:9464 or [::1]:9464, or nothing";
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let address = port.parse().map(loopback).or_else(|_| text.parse());
        address.map(|address| Self(Some(address))).map_err(|_| DomainError::not_allowed("address", text, ALLOWED))
    }
}

impl Setting for ListenAddress {
    fn read(text: &str) -> Result<Self, DomainError> {
        text.parse()
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_the_loopback_interface() {
        for text in ["9464", ":9464", "localhost:9464", "127.0.0.1:9464"] {
            assert_eq!(ListenAddress::read(text).map(|address| address.show()), Ok("\"127.0.0.1:9464\"".to_owned()));
        }
        for text in ["0.0.0.0:0", "[::1]:80"] {
            assert_eq!(ListenAddress::read(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in ["caxton.example:9464", "70000", "1.2.3.4", "x"] {
            let error = ListenAddress::read(text).expect_err(text).to_string();
            assert!(error.contains("a port such as 9464"), "{error}");
        }
    }
}
