//! The cluster that a router belongs to.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use caxton_shards::domain::{DomainError, NodeId};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::value::{Setting, entries};
use super::{ClusterConfig, Config, ConfigError};

/// Maximum length of a cluster's name, in bytes: it is part of every subject.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// Maximum number of NATS servers that a router of a cluster is given.
pub const NATS_SERVERS_MAX: usize = 32;
/// Minimum size of the secret in `cluster.key_file`, in bytes.
pub const CLUSTER_KEY_BYTES_MIN: usize = 32;
/// Maximum size of the secret in `cluster.key_file`, in bytes.
pub const CLUSTER_KEY_BYTES_MAX: usize = 4_096;

/// Maximum length of the address of one server, in bytes.
const SERVER_BYTES_MAX: usize = 255;
/// Maximum size of a file with credentials, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 64 << 10;

/// The optional name of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterName(Option<String>);

impl ClusterName {
    /// Describes the accepted names.
    const ALLOWED: &str = "a word of up to 64 letters of ASCII, digits, - and _";

    /// Returns the name, if there is one.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Setting for ClusterName {
    fn read(text: &str) -> Result<Self, DomainError> {
        const { assert!(CLUSTER_NAME_BYTES_MAX == 64, "the text says so") };
        let name = text.trim();
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.len() > CLUSTER_NAME_BYTES_MAX || !name.bytes().all(is_legal) {
            return Err(DomainError::not_allowed("cluster name", text, Self::ALLOWED));
        }
        Ok(Self((!name.is_empty()).then(|| name.to_owned())))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.as_str().unwrap_or_default())
    }
}

/// The addresses of the NATS servers of a cluster; none means no cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatsServers(Vec<String>);

impl NatsServers {
    /// Returns the URLs, in the order of the setting.
    pub fn urls(&self) -> &[String] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Setting for NatsServers {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "up to 32 URLs such as \"nats://10.0.0.1:4222\" or \"tls://nats.example\" with commas between \
                               them, without users and passwords, for which there is cluster.credentials, or nothing";
        const { assert!(NATS_SERVERS_MAX == 32, "the text says so") };
        // There may be a password before an @. Errors must not show it.
        let shown = if text.contains('@') { "<hidden>" } else { text };
        let refuse = || DomainError::not_allowed("NATS servers", shown, ALLOWED);
        let servers: Vec<_> = entries(text).collect();
        let is_list = servers.len() <= NATS_SERVERS_MAX && servers.is_empty() == text.trim().is_empty();
        if !is_list || !servers.iter().all(|server| is_server(server)) {
            return Err(refuse());
        }
        Ok(Self(servers.into_iter().map(str::to_owned).collect()))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0.join(", "))
    }
}

/// Whether a text is the URL of a server: a scheme, a host, and perhaps a port.
fn is_server(text: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_graphic() && !matches!(character, '"' | '\\' | '@' | '#' | '?');
    let Some(rest) = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://")) else { return false };
    let Ok(authority) = rest.parse::<http::uri::Authority>() else { return false };
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port =
        |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let has_legal_port = port.is_some_and(|port| port.is_empty() || is_port(port));
    text.len() <= SERVER_BYTES_MAX && text.chars().all(is_plain) && !authority.host().is_empty() && has_legal_port
}

impl ClusterConfig {
    /// Whether the router belongs to a cluster.
    pub fn is_enabled(&self) -> bool {
        !self.nats.is_empty()
    }

    /// Reads the secret that membership packets are sealed with, if the settings name one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the secret is too short or too long.
    pub(crate) fn secret(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        const KEY: &str = "cluster.key_file";
        let Some(path) = self.key_file.path() else { return Ok(None) };
        let secret = read(KEY, path, CLUSTER_KEY_BYTES_MAX)?;
        if secret.len() < CLUSTER_KEY_BYTES_MIN {
            let problem = format!("it has {} bytes: expected at least {CLUSTER_KEY_BYTES_MIN}", secret.len());
            return Err(unusable(KEY, path, problem));
        }
        Ok(Some(secret))
    }

    fn check_credentials(&self) -> Result<(), ConfigError> {
        const KEY: &str = "cluster.credentials";
        let Some(path) = self.credentials.path() else { return Ok(()) };
        let text = read(KEY, path, CREDENTIALS_BYTES_MAX)?;
        let has = |mark: &str| String::from_utf8_lossy(&text).contains(mark);
        if has("BEGIN NATS USER JWT") && has("BEGIN USER NKEY SEED") {
            return Ok(());
        }
        Err(unusable(KEY, path, "expected a .creds file of NATS, with the JWT and the seed of a user".to_owned()))
    }

    fn check_ca(&self) -> Result<(), ConfigError> {
        const KEY: &str = "cluster.ca";
        let Some(path) = self.ca.path() else { return Ok(()) };
        let unusable = |problem: String| unusable(KEY, path, problem);
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
        let mut count = 0;
        for certificate in certificates {
            certificate.map_err(|error| unusable(error.to_string()))?;
            count += 1;
        }
        if count > 0 { Ok(()) } else { Err(unusable("expected certificates in PEM, and it has none".to_owned())) }
    }
}

impl Config {
    /// Returns what is missing or wrong for a router of a cluster; nothing without a cluster.
    pub(super) fn cluster_errors(&self) -> Vec<ConfigError> {
        let cluster = &self.cluster;
        if !cluster.is_enabled() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        if cluster.name.as_str().is_none() {
            let allowed = format!("{}; cluster.nats turns the cluster on, which needs a name", ClusterName::ALLOWED);
            errors.push(self.refused("cluster.name", DomainError::not_allowed("cluster name", "", allowed)));
        }
        if self.router.node == NodeId::default() {
            let allowed = "1 to 65535 in a cluster, another number for each of its routers";
            errors.push(self.refused("router.node", DomainError::not_allowed("node id", "0", allowed)));
        }
        let files = [cluster.check_credentials(), cluster.check_ca(), cluster.secret().map(drop)];
        errors.extend(files.into_iter().filter_map(Result::err));
        errors
    }

    fn refused(&self, key: &'static str, source: DomainError) -> ConfigError {
        ConfigError::BadValue { origin: self.origin(key).unwrap_or(super::Origin::Default), key, source }
    }
}

/// Reads a file of at most so many bytes.
fn read(key: &'static str, path: &Path, bytes_max: usize) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unusable(key, path, error.to_string()))?;
    let read = file.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| unusable(key, path, error.to_string()))?;
    if bytes.len() > bytes_max {
        return Err(unusable(key, path, format!("it is too large: the limit is {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn unusable(key: &'static str, path: &Path, problem: String) -> ConfigError {
    ConfigError::UnusableFile { key, path: PathBuf::from(path), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word() {
        for text in ["plant", "Plant-2_a", ""] {
            let name = ClusterName::read(text).expect(text);
            assert_eq!(ClusterName::read(name.show().trim_matches('"')), Ok(name));
        }
        for text in ["a.b", "a b", "a*", "größe", &"x".repeat(65)] {
            let error = ClusterName::read(text).expect_err(text).to_string();
            assert!(error.contains("a word of up to 64"), "{error}");
        }
    }

    #[test]
    fn servers_read_back_and_others_are_refused() {
        let servers = NatsServers::read("nats://127.0.0.1:4222 , tls://nats.example,nats://[::1]:4222").expect("three");
        assert_eq!(servers.urls(), ["nats://127.0.0.1:4222", "tls://nats.example", "nats://[::1]:4222"]);
        assert_eq!(NatsServers::read(servers.show().trim_matches('"')), Ok(servers));
        assert!(NatsServers::read(" ").is_ok_and(|none| none.is_empty()));
        let many = vec!["nats://a"; NATS_SERVERS_MAX + 1].join(",");
        for text in [",", "127.0.0.1:4222", "http://a", "nats://", "nats://a/b", "nats://a:0", "nats://a:70000", &many]
        {
            let error = NatsServers::read(text).expect_err(text).to_string();
            assert!(error.contains("nats://10.0.0.1:4222"), "{error}");
        }
        let error = NatsServers::read("nats://ann:hush@host").expect_err("it has a password").to_string();
        assert!(!error.contains("hush") && error.contains("cluster.credentials"), "{error}");
    }
}
