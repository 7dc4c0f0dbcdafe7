//! The HTTP API: what each operation does, whom it serves, and what it refuses.

mod access;
mod agents;
mod clients;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cluster")]
mod document;
mod messages;
mod operate;
mod receive;
mod socket;
mod unix;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};

use caxton_router::config::Config;
use caxton_router::serve::Doors;
use caxton_router::stats::Report;
use caxton_router::{Agent, Router};
use serde_json::Value;

use crate::common::{PATIENCE, echo, shutdown, start_with};

/// A router with an open HTTP door.
struct Served {
    router: Router,
    doors: Doors,
    address: SocketAddr,
}

impl Served {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let router = start_with(2, |config| {
            config.set("http.listen", "0", "this test").expect("it is legal");
            change(config);
        });
        let doors = Doors::open(&router).expect("the doors open");
        let address = doors.http_address().expect("HTTP is served");
        Self { router, doors, address }
    }

    fn client(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
        Client::on(stream)
    }

    fn register<A: Agent + 'static>(&self, name: &str, factory: impl FnMut() -> A + Send + 'static) {
        self.router.blocking().register(name, factory).expect("the agent is registered");
    }

    fn register_echo(&self, name: &str) {
        self.register(name, echo);
    }

    /// Closes the doors and stops the router, which has to drain and to account for everything.
    fn stop(self) -> Report {
        self.doors.close();
        shutdown(&self.router)
    }
}

/// The requests of all tests so far: method, path and status.
static OCCURRED: Mutex<BTreeSet<(String, String, u16)>> = Mutex::new(BTreeSet::new());

/// A connection to the API.
struct Client<S: Read + Write> {
    stream: BufReader<S>,
    headers: String,
    /// Method and path of the last request.
    last: (String, String),
}

/// A response.
#[derive(Debug)]
struct Response {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the body of a response with this status.
    fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks that it is a problem.
    fn problem(&self, status: u16, reason: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!((&problem["reason"], &problem["status"]), (&reason.into(), &status.into()), "{problem}");
        assert_eq!(problem["type"], format!("urn:caxton:reason:{reason}"));
        for member in ["title", "detail", "effect"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl<S: Read + Write> Client<S> {
    fn on(stream: S) -> Self {
        let headers = "Host: localhost\r\n".to_owned();
        Self { stream: BufReader::new(stream), headers, last: (String::new(), String::new()) }
    }

    /// Sends this token from now on.
    fn with_token(mut self, token: &str) -> Self {
        self.headers += &["Authorization: Bearer ", token, "\r\n"].concat();
        self
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let own = &self.headers;
        self.last = (method.to_owned(), path.split('?').next().unwrap_or_default().to_owned());
        let head = format!("{method} {path} HTTP/1.1\r\n{own}{headers}Content-Length: {}\r\n\r\n", body.len());
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        // It may refuse before it has read everything.
        let _ = self.stream.get_mut().write_all(&request);
    }

    fn read_head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).expect("the head goes on");
            assert!(read > 0, "the connection ended: {head:?}");
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        let (method, path) = self.last.clone();
        OCCURRED.lock().unwrap_or_else(PoisonError::into_inner).insert((method, path, status));
        (status, head.to_ascii_lowercase())
    }

    fn read(&mut self) -> Response {
        let (status, head) = self.read_head();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let mut body = vec![0; if status == 204 { 0 } else { length.expect("the body has a length") }];
        self.stream.read_exact(&mut body).expect("the body arrives");
        Response { status, head, body }
    }

    fn request(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        self.send(method, path, headers, body.as_bytes());
        self.read()
    }

    fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "", "")
    }

    /// Requests something with a body in JSON.
    fn json(&mut self, method: &str, path: &str, body: &Value) -> Response {
        self.request(method, path, "Content-Type: application/json\r\n", &body.to_string())
    }

    fn post(&mut self, path: &str, body: &Value) -> Response {
        self.json("POST", path, body)
    }

    /// Reads the next chunk of a response without length.
    fn chunk(&mut self) -> String {
        let mut length = String::new();
        self.stream.read_line(&mut length).expect("the chunk begins");
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or_else(|_| panic!("{length:?}"));
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).expect("the chunk arrives");
        String::from_utf8(chunk).expect("it is text").trim_end_matches("\r\n").to_owned()
    }
}
