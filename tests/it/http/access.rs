//! Who may do what: tokens, their operations and agents, foreign pages, rates, and TLS.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use caxton_router::serve::NewToken;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::receive::begin_stream;
use super::socket::{open, read_frame};
use super::{Client, Served};
use crate::common::{PATIENCE, bounded};
use crate::edge::wait_until;

/// Writes a file of tokens, each with these agents and operations. Returns the secrets.
pub(super) fn tokens(file: &Path, entries: &[(&str, &str, &str)]) -> Vec<String> {
    let mut text = String::new();
    let mut secrets = Vec::new();
    for (name, agents, operations) in entries {
        let token = NewToken::random().expect("there are random bytes");
        let hash = &token.hash;
        let _ = write!(
            text,
            "[[token]]\nname = '{name}'\nhash = '{hash}'\nagents = [{agents}]\noperations = [{operations}]\n"
        );
        secrets.push(token.secret);
    }
    std::fs::write(file, text).expect("it can be written");
    secrets
}

fn with_tokens(entries: &[(&str, &str, &str)]) -> (tempfile::TempDir, Served, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tokens.toml");
    let secrets = tokens(&file, entries);
    let served = Served::with(|config| config.doors.tokens = file.into());
    (directory, served, secrets)
}

#[test]
pub fn a_token_is_required_and_permits_its_operations_as_its_agents() {
    bounded(|| {
        let (_directory, served, secrets) = with_tokens(&[
            ("billing", "'billing', 'bill-*'", "'send', 'receive'"),
            ("rival", "'billing'", "'receive'"),
            ("watcher", "", "'observe'"),
            ("operator", "", "'operate'"),
            ("sender", "", "'send'"),
        ]);
        served.register_echo("echo");
        let mut nobody = served.client();
        let refused = nobody.get("/v1/agents");
        refused.problem(401, "token-missing");
        assert_eq!(refused.header("www-authenticate"), Some("bearer realm=\"caxton\""));
        served.client().with_token("cxt_00").get("/v1/agents").problem(401, "token-unknown");
        nobody.get("/metrics").problem(401, "token-missing");
        for open in ["/livez", "/readyz", "/healthz", "/openapi.json"] {
            assert_eq!(nobody.get(open).status, 200, "{open}");
        }
        let mut clients = secrets.iter().map(|secret| served.client().with_token(secret));
        let mut next = || clients.next().expect("there is another token");
        let (mut billing, mut rival, mut watcher, mut operator, mut sender) = (next(), next(), next(), next(), next());
        billing.json("PUT", "/v1/agents/billing", &json!({})).expect(201);
        billing.json("PUT", "/v1/agents/other", &json!({})).problem(403, "foreign-agent");
        billing.get("/v1/agents/billing").expect(200);
        billing.get("/v1/agents/echo").problem(403, "operation-not-permitted");
        billing.get("/v1/agents").problem(403, "operation-not-permitted");
        billing.get("/metrics").problem(403, "operation-not-permitted");
        let message = |sender: &str| json!({"performative": "inform", "sender": sender, "receiver": ["echo"]});
        billing.post("/v1/messages", &message("billing")).expect(202);
        billing.post("/v1/messages", &message("echo")).problem(403, "foreign-sender");
        rival.post("/v1/messages", &message("billing")).problem(403, "operation-not-permitted");
        rival.get("/v1/agents/billing/messages").problem(409, "taken");
        rival.request("DELETE", "/v1/agents/billing", "", "").problem(403, "operation-not-permitted");
        watcher.get("/v1/agents").expect(200);
        watcher.get("/v1/agents/echo").expect(200);
        assert_eq!(watcher.get("/metrics").status, 200);
        watcher.request("POST", "/v1/agents/echo/suspend", "", "").problem(403, "operation-not-permitted");
        let question = json!({
            "performative": "request", "sender": "billing", "receiver": ["echo"], "protocol": "fipa-request",
            "conversation-id": "c-1",
        });
        let asked = json!({"performative": "inform", "receiver": ["billing"], "conversation-id": "c-1"});
        billing.post("/v1/messages", &question).expect(202);
        let own = billing.post("/v1/route", &asked).expect(200);
        assert!(own["receivers"][0]["mailbox_messages"].is_u64() && own["conversation"]["open"] == true, "{own}");
        let foreign = json!({"performative": "inform", "receiver": ["echo"]});
        assert!(billing.post("/v1/route", &foreign).expect(200)["receivers"][0]["mailbox_messages"].is_null());
        let seen = sender.post("/v1/route", &asked).expect(200);
        assert!(seen["receivers"][0]["mailbox_messages"].is_null() && seen["conversation"]["open"] == false, "{seen}");
        assert!(watcher.post("/v1/route", &foreign).expect(200)["receivers"][0]["mailbox_messages"].is_u64());
        operator.request("POST", "/v1/agents/echo/suspend", "", "").expect(200);
        operator.request("DELETE", "/v1/agents/billing", "", "").expect(204);
        served.stop();
    });
}

#[test]
fn what_is_open_ends_with_its_token_before_anything_else_is_sent() {
    bounded(|| {
        let (directory, served, secrets) = with_tokens(&[("ann", "'ann'", "'receive', 'observe'")]);
        let client = || served.client().with_token(&secrets[0]);
        client().json("PUT", "/v1/agents/ann", &json!({})).expect(201);
        let (mut stream, mut events, mut poll) = (client(), client(), client());
        begin_stream(&mut stream, "/v1/agents/ann/stream");
        events.send("GET", "/v1/events", "", b"");
        assert_eq!((events.read_head().0, events.chunk().as_str()), (200, ": subscribed\n\n"));
        let mut socket = open(client(), "/v1/agents/ann/ws");
        poll.send("GET", "/v1/agents/ann/messages?wait_ms=60000", "", b"");
        wait_until("all are there", || client().get("/v1/agents/ann").expect(200)["outside"]["clients"] == 3);
        std::fs::write(directory.path().join("tokens.toml"), "").expect("it can be written");
        served.doors.reload(served.router.config()).expect("the file is right");
        for mut stream in [stream, events] {
            assert_eq!(stream.chunk(), "event: end\ndata: token-expired\n\n");
            assert_eq!(stream.chunk(), "");
        }
        assert_eq!(read_frame(&mut socket).expect("it is told").0, 8, "the WebSocket is closed");
        poll.read().problem(401, "token-expired");
        client().get("/v1/agents").problem(401, "token-unknown");
        served.stop();
    });
}

#[test]
pub fn without_tokens_no_page_of_another_origin_is_served() {
    bounded(|| {
        let served = Served::start();
        let request = |headers: &str| {
            let mut client = served.client();
            client.headers = headers.to_owned();
            client.get("/v1/agents")
        };
        for own in [
            "Host: localhost:7411\r\n",
            "Host: 127.0.0.1\r\n",
            "Host: [::1]:80\r\n",
            "Host: localhost:80\r\nOrigin: http://localhost:80\r\nSec-Fetch-Site: same-origin\r\n",
        ] {
            request(own).expect(200);
        }
        for host in ["Host: example.org\r\n", "Host: 10.0.0.1\r\n", "Host: localhost.example.org:7411\r\n"] {
            request(host).problem(403, "foreign-host");
        }
        for path in ["/metrics", "/metrics/internal", "/healthz/slow", "/v1/agents"] {
            let mut client = served.client();
            client.headers = "Host: example.org\r\n".to_owned();
            client.get(path).problem(403, "foreign-host");
            assert_eq!(served.client().get(path).status, 200, "{path}");
        }
        for origin in [
            "Origin: http://example.org",
            "Origin: null",
            "Origin: http://localhost:3000",
            "Sec-Fetch-Site: cross-site",
        ] {
            request(&format!("Host: localhost:80\r\n{origin}\r\n")).problem(403, "foreign-origin");
        }
        served.stop();
    });
}

#[test]
pub fn what_is_not_served_is_a_problem_too() {
    bounded(|| {
        let served = Served::start();
        let mut client = served.client();
        client.get("/v1/nothing").problem(404, "unknown-path");
        client.get("/nothing").problem(404, "unknown-path");
        let refused = client.request("DELETE", "/v1/messages", "", "");
        refused.problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), Some("post"));
        client.request("POST", "/livez", "", "").problem(405, "method-not-allowed");
        // What only shows something is served without its body too.
        for path in ["/livez", "/metrics"] {
            let mut head = served.client();
            head.send("HEAD", path, "", b"");
            assert_eq!(head.read_head().0, 200, "{path}");
        }
        served.stop();
    });
}

#[test]
pub fn requests_beyond_the_rate_are_refused() {
    bounded(|| {
        let served =
            Served::with(|config| config.set("doors.requests_per_second", "5", "this test").expect("it is legal"));
        let mut client = served.client();
        let refused = (0..1_000).map(|_| client.get("/v1/agents")).find(|response| response.status != 200);
        let refused = refused.expect("there is a limit");
        refused.problem(429, "too-many-requests");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(client.get("/livez").status, 200, "health is not limited");
        served.stop();
    });
}

/// Connects with TLS.
fn connect(served: &Served, certificate: &rcgen::Certificate) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("it is a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("it is a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("it begins");
    let stream = TcpStream::connect(served.address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
    Client::on(StreamOwned::new(connection, stream))
}

#[test]
pub fn with_a_certificate_everything_is_encrypted() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).expect("it can be written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("it can be written");
        let served = Served::with(|config| {
            config.doors.certificate = certificate.into();
            config.doors.key = key.into();
        });
        served.register_echo("echo");
        let mut client = connect(&served, &made.cert);
        let request = json!({"performative": "request", "receiver": ["echo"], "content": "tea?"});
        for _ in 0..2 {
            assert_eq!(client.post("/v1/messages?wait=reply", &request).expect(200)["content"], "tea?");
        }
        let mut plain = TcpStream::connect(served.address).expect("it accepts");
        let _ = plain.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut heard = Vec::new();
        let _ = std::io::Read::read_to_end(&mut plain, &mut heard);
        assert!(!heard.starts_with(b"HTTP/1.1"), "{heard:?}");
        served.stop();
    });
}
