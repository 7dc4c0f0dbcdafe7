//! The options that say which router is meant.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::client::{Access, Address, Client};
use super::contexts::{Context, Contexts};

/// Where a router on this host serves its API, if nothing else is said.
const USUAL_URL: &str = "http://127.0.0.1:7411";
/// Maximum length of a file with a token, in bytes.
const TOKEN_BYTES_MAX: usize = 4 << 10;

/// The options for a running router.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The running router")]
pub struct Remote {
    /// Where it serves its HTTP API: a URL, or a Unix socket such as `unix:/run/caxton/caxton.sock`; by default as in the
    /// default context, or else `http://127.0.0.1:7411`
    #[arg(long, value_name = "URL")]
    url: Option<Address>,
    /// A file with the token to use
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file with the certificates to trust, instead of those of this host
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The context to use: [context.NAME] with url, `token_file` and certificate in ~/.config/caxton/contexts.toml
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Seconds to wait for a connection, and for a response to a request that is done at once
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_patience)]
    connect_timeout: Duration,
}

fn parse_patience(text: &str) -> Result<Duration, String> {
    super::parse_seconds(text, 0.1..=3_600.0)
}

impl Remote {
    /// Whether an option names a router.
    pub fn is_named(&self) -> bool {
        self.url.is_some() || self.context.is_some() || self.token_file.is_some() || self.certificate.is_some()
    }

    /// Returns a client of the router.
    ///
    /// # Errors
    ///
    /// The context, or a file, cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        self.access().and_then(|access| Client::new(access, self.connect_timeout)).map_err(Failure::Unusable)
    }

    fn access(&self) -> Result<Access, String> {
        let context = self.context()?;
        let token_file = self.token_file.as_ref().or(context.token_file.as_ref());
        let address = match self.url.clone().or(context.url) {
            Some(address) => address,
            None => USUAL_URL.parse()?,
        };
        Ok(Access {
            address,
            token: token_file.map(|file| read_token(file)).transpose()?,
            certificate: self.certificate.clone().or(context.certificate),
            client_certificate: context.client_certificate,
            client_key: context.client_key,
        })
    }

    /// Returns the context. That of another router has no say where a URL is given: its token would go astray.
    fn context(&self) -> Result<Context, String> {
        match (&self.context, &self.url) {
            (None, Some(_)) => Ok(Context::default()),
            (None, None) => Contexts::read()?.default_context(),
            (Some(name), _) => Contexts::read()?.named(name),
        }
    }
}

/// Reads a token: the only word of the file.
fn read_token(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("the token: {}: {error}", file.display()))?;
    let token = text.trim();
    let is_token = |letter: char| letter.is_ascii_graphic();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.chars().all(is_token) {
        return Err(format!("the token: {}: expected one word, as `caxton token` prints it", file.display()));
    }
    Ok(token.to_owned())
}
