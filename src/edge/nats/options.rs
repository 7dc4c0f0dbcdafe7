//! What server and client tell each other about themselves: `INFO` and `CONNECT`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The version of nats-server whose protocol this is, for clients that ask for features by version.
const COMPATIBLE_VERSION: &str = concat!("2.10.0-caxton.", env!("CARGO_PKG_VERSION"));

/// What a client says about itself. What it leaves out is as nats-server takes it.
#[allow(clippy::struct_excessive_bools)] // The protocol's own.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct ClientOptions {
    /// Whether each operation is acknowledged with `+OK`.
    pub verbose: bool,
    /// Whether it receives what it has sent itself.
    pub echo: bool,
    /// Whether it understands headers.
    pub headers: bool,
    /// Whether it wants to be told that nobody receives a request.
    pub no_responders: bool,
    pub auth_token: Option<String>,
    pub user: Option<String>,
    pub pass: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            verbose: true,
            echo: true,
            headers: false,
            no_responders: false,
            auth_token: None,
            user: None,
            pass: None,
        }
    }
}

impl ClientOptions {
    /// Reads the JSON of `CONNECT`.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Takes the token: the client's own, or the password, or the user's name if there is no password.
    pub fn take_token(&mut self) -> Option<String> {
        let (user, pass) = (self.user.take(), self.pass.take());
        self.auth_token.take().or(pass).or(user).filter(|token| !token.is_empty())
    }
}

#[allow(clippy::struct_excessive_bools)] // The protocol's own.
#[derive(Serialize)]
struct Info<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    host: String,
    port: u16,
    headers: bool,
    max_payload: usize,
    client_id: u32,
    client_ip: String,
    auth_required: bool,
    tls_required: bool,
    ldm: bool,
}

/// What the server says about itself to one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerInfo<'a> {
    pub id: &'a str,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub number: u32,
    pub payload_max: usize,
    pub auth_required: bool,
    pub tls_required: bool,
    /// Whether the server is about to close its connections.
    pub leaves: bool,
}

impl ServerInfo<'_> {
    /// Returns the JSON of `INFO`.
    pub fn to_json(self) -> String {
        let info = Info {
            server_id: self.id,
            server_name: "caxton",
            version: COMPATIBLE_VERSION,
            proto: 1,
            host: self.local.ip().to_string(),
            port: self.local.port(),
            headers: true,
            max_payload: self.payload_max,
            client_id: self.number,
            client_ip: self.peer.ip().to_string(),
            auth_required: self.auth_required,
            tls_required: self.tls_required,
            ldm: self.leaves,
        };
        serde_json::to_string(&info).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_leaves_out_is_as_in_nats() {
        let options = ClientOptions::read(b"{\"verbose\":false,\"lang\":\"x\",\"headers\":true}").expect("it is valid");
        assert!(!options.verbose && options.echo && options.headers && !options.no_responders);
        assert!(ClientOptions::read(b"").is_none() && ClientOptions::read(b"{\"echo\":1}").is_none());
    }

    #[test]
    fn the_token_comes_from_where_clients_put_it() {
        for (json, expected) in [
            ("{\"auth_token\":\"t\",\"user\":\"u\",\"pass\":\"p\"}", Some("t")),
            ("{\"user\":\"u\",\"pass\":\"p\"}", Some("p")),
            ("{\"user\":\"u\"}", Some("u")),
            ("{\"user\":\"\"}", None),
            ("{}", None),
        ] {
            let mut options = ClientOptions::read(json.as_bytes()).expect(json);
            assert_eq!(options.take_token().as_deref(), expected, "{json}");
            assert_eq!((options.auth_token, options.pass), (None, None), "no secret stays");
        }
    }
}
