//! A client of the HTTP API: requests, problems, and streams of events.

mod address;
mod events;
mod socket;
mod tls;

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{Method, Request, StatusCode};

pub use self::address::Address;
pub use self::events::{EventStream, ServerEvent};
use self::socket::{NoNames, SocketConnector};
use self::tls::tls;
use super::Failure;

/// Maximum length of a response, in bytes.
const RESPONSE_BYTES_MAX: u64 = 256 << 20;
/// How long a stream may say nothing. The router says something every 15 s at least.
const STREAM_SILENCE_MAX: Duration = Duration::from_secs(45);
/// The media type of JSON.
pub const JSON: &str = "application/json";
/// The media type of messages in the string form.
pub const ACL: &str = "text/x-fipa-acl";

/// How a router is reached.
#[derive(Debug)]
pub struct Access {
    pub address: Address,
    pub token: Option<String>,
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// A client of one router.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    address: Address,
    /// The header for the token.
    authorization: Option<String>,
    patience: Duration,
}

/// Why a request was not fulfilled.
#[derive(Debug)]
pub enum Trouble {
    /// There was no response, or none of this API.
    Unreachable(String),
    /// The router has said what is wrong.
    Problem(Problem),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(complaint) => formatter.write_str(complaint),
            Self::Problem(problem) => problem.fmt(formatter),
        }
    }
}

/// A problem document (RFC 9457) of the router.
#[derive(Debug, Deserialize)]
pub struct Problem {
    pub status: u16,
    pub reason: String,
    detail: String,
    #[serde(default)]
    effect: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason, self.detail)?;
        match self.reason.as_str() {
            "token-missing" => formatter.write_str(": name its file with --token-file or in the context")?,
            "token-unknown" | "token-expired" => formatter.write_str(": `caxton token` creates another one")?,
            _ => {}
        }
        match self.effect.as_str() {
            "possible" => formatter.write_str("; it may have been done, or may still be done"),
            "failed" => formatter.write_str("; it was accepted and has failed: see `caxton dlq ls`"),
            _ => Ok(()),
        }
    }
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub body: Vec<u8>,
    address: Address,
}

impl Response {
    /// Returns the document.
    ///
    /// # Errors
    ///
    /// It is no JSON.
    pub fn json(&self) -> Result<Value, Trouble> {
        let foreign = |error| Trouble::Unreachable(foreign(&self.address, &format!("no JSON: {error}")));
        serde_json::from_slice(&self.body).map_err(foreign)
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Creates a client, which connects at its first request.
    ///
    /// # Errors
    ///
    /// A certificate cannot be used, or the token would be sent for everybody to read.
    pub fn new(access: Access, patience: Duration) -> Result<Self, String> {
        let address = access.address.clone();
        if access.token.is_some() && !address.is_secure() && !address.is_here() {
            return Err(format!("{address}: a token is sent to another host by https only"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("caxton/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(patience));
        if address.is_secure() {
            config = config.tls_config(tls(&access)?);
        }
        let authorization = access.token.map(|token| format!("Bearer {token}"));
        let agent = match &address {
            Address::Url { .. } => config.build().new_agent(),
            Address::Socket(path) => Agent::with_parts(config.build(), SocketConnector(path.clone()), NoNames),
        };
        Ok(Self { agent, address, authorization, patience })
    }

    /// Returns where the router is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Begins a request.
    pub fn request(&self, method: Method, path: &[&str]) -> Call<'_> {
        let path = path.iter().flat_map(|segment| ["/".to_owned(), encoded(segment)]).collect();
        Call {
            client: self,
            method,
            target: path,
            accept: JSON,
            key: None,
            body: None,
            within: self.patience,
            reads_unavailable: false,
        }
    }

    /// Begins a request that changes nothing.
    pub fn get(&self, path: &[&str]) -> Call<'_> {
        self.request(Method::GET, path)
    }

    /// Begins a request that changes something.
    pub fn post(&self, path: &[&str]) -> Call<'_> {
        self.request(Method::POST, path)
    }

    fn unreachable(&self, error: &ureq::Error) -> Trouble {
        let error = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => "no response in time".to_owned(),
            other => other.to_string(),
        };
        let check = "is `caxton serve` running, and is this its address? --url or --context names another one";
        Trouble::Unreachable(format!("{}: no router responds: {error}: {check}", self.address))
    }
}

/// A request that is being put together.
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    /// Path and query.
    target: String,
    accept: &'static str,
    key: Option<&'a str>,
    body: Option<(&'static str, Vec<u8>)>,
    within: Duration,
    /// Whether a document with the status 503 is a response too.
    reads_unavailable: bool,
}

impl<'a> Call<'a> {
    /// Adds a parameter.
    pub fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let _ = write!(self.target, "{separator}{name}={}", encoded(&value.to_string()));
        self
    }

    /// Adds a parameter that may be missing.
    pub fn query_some(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Asks for a response of this media type.
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// Adds an idempotency key.
    pub fn key(self, key: Option<&'a str>) -> Self {
        Self { key, ..self }
    }

    /// Adds a body.
    pub fn body(self, media: &'static str, body: Vec<u8>) -> Self {
        Self { body: Some((media, body)), ..self }
    }

    /// Adds a document as the body.
    pub fn json(self, body: &Value) -> Self {
        self.body(JSON, body.to_string().into_bytes())
    }

    /// Allows the router this time, besides the usual one.
    pub fn waiting(self, time: Duration) -> Self {
        Self { within: self.within + time, ..self }
    }

    /// Takes a document with the status 503 as a response, as that of an unhealthy router.
    pub fn even_if_unavailable(self) -> Self {
        Self { reads_unavailable: true, ..self }
    }

    /// Makes the request.
    ///
    /// # Errors
    ///
    /// The router is not reached, or has refused.
    pub fn send(self) -> Result<Response, Trouble> {
        let (client, within, reads_unavailable) = (self.client, self.within, self.reads_unavailable);
        let mut response = self.run(Some(within))?;
        let body = response.body_mut().with_config().limit(RESPONSE_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| client.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(Response { body, address: client.address.clone() });
        }
        if let Ok(problem) = serde_json::from_slice(&body) {
            return Err(Trouble::Problem(problem));
        }
        if reads_unavailable && response.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(Response { body, address: client.address.clone() });
        }
        let status = response.status().as_u16();
        Err(Trouble::Unreachable(foreign(&client.address, &format!("status {status} without a problem document"))))
    }

    /// Makes the request, and returns the document of the response.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn document(self) -> Result<Value, Trouble> {
        self.send()?.json()
    }

    /// Makes the request, and returns the events of the response.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn stream(self) -> Result<EventStream, Trouble> {
        let client = self.client;
        let mut response = self.accept("text/event-stream").run(None)?;
        if response.status().is_success() {
            return Ok(EventStream::new(response.into_body().into_reader()));
        }
        let body = response.body_mut().read_to_vec().map_err(|error| client.unreachable(&error))?;
        let foreign = |_| Trouble::Unreachable(foreign(&client.address, "no stream of events"));
        Err(serde_json::from_slice(&body).map_or_else(foreign, Trouble::Problem))
    }

    /// Makes the request, within a time if the response has an end.
    fn run(self, within: Option<Duration>) -> Result<ureq::http::Response<ureq::Body>, Trouble> {
        let Self { client, method, target, accept, key, body, .. } = self;
        let (media, body) = body.unzip();
        let mut request = Request::builder().method(method).uri(format!("{}{target}", client.address.base()));
        request = request.header(ACCEPT, accept);
        for (name, value) in [
            (AUTHORIZATION.as_str(), client.authorization.as_deref()),
            (CONTENT_TYPE.as_str(), media),
            ("idempotency-key", key),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(body.unwrap_or_default());
        let request = request.map_err(|error| Trouble::Unreachable(format!("the request cannot be made: {error}")))?;
        let limits = client.agent.configure_request(request).allow_non_standard_methods(true);
        let limits = match within {
            Some(within) => limits.timeout_global(Some(within)),
            None => limits.timeout_recv_response(Some(client.patience)).timeout_per_read(Some(STREAM_SILENCE_MAX)),
        };
        client.agent.run(limits.build()).map_err(|error| client.unreachable(&error))
    }
}

/// Says that something else than this API is there.
fn foreign(address: &Address, what: &str) -> String {
    format!("{address}: this is not a router's HTTP API ({what}): http.listen and http.socket say where that is")
}

/// Encodes a segment of a path or a value of a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_sent_for_everybody_to_read() {
        let access = |url: &str| Access {
            address: url.parse().expect("it is a URL"),
            token: Some("cxt_1".to_owned()),
            certificate: None,
            client_certificate: None,
            client_key: None,
        };
        let refused = |url: &str| Client::new(access(url), Duration::from_secs(1)).err();
        assert!(refused("http://10.0.0.1:7411").is_some_and(|error| error.contains("by https only")));
        assert_eq!(refused("http://127.0.0.1:7411"), None);
        let missing = Access { certificate: Some("/nowhere.pem".into()), ..access("https://10.0.0.1") };
        assert!(Client::new(missing, Duration::from_secs(1)).err().is_some_and(|error| error.contains("/nowhere.pem")));
        let half = Access { client_key: Some("/nowhere.pem".into()), ..access("https://10.0.0.1") };
        assert!(Client::new(half, Duration::from_secs(1)).err().is_some_and(|error| error.contains("go together")));
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(encoded("ann@example.org/ü?#-._~"), "ann%40example.org%2F%C3%BC%3F%23-._~");
    }

    #[test]
    fn a_problem_says_what_happened_and_what_to_do() {
        let problem = |reason: &str, effect: &str| {
            let text = format!(
                r#"{{"status":422,"title":"x","type":"x","detail":"why","reason":"{reason}","effect":"{effect}"}}"#
            );
            serde_json::from_str::<Problem>(&text).expect("it is a problem").to_string()
        };
        assert_eq!(problem("full", "none"), "full: why");
        assert!(problem("token-missing", "none").contains("--token-file"));
        assert!(problem("unknown-receiver", "failed").ends_with("see `caxton dlq ls`"));
        assert!(problem("timed-out", "possible").ends_with("may still be done"));
    }
}
