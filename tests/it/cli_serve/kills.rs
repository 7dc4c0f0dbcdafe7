//! A daemon that is killed under load, again and again: no durable message that a door has acknowledged is lost.
//!
//! `CAXTON_DOOR_KILLS` is the number of kills for each door; three by default.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Daemon;
use crate::common::{PATIENCE, bounded};
use crate::edge::wait_until;

/// Number of clients that send at the same time.
const SENDERS: usize = 4;

/// What has become of the messages, each of which has a content of its own.
#[derive(Default)]
struct Messages {
    acknowledged: Mutex<BTreeSet<String>>,
    received: Mutex<BTreeSet<String>>,
}

impl Messages {
    fn insert(set: &Mutex<BTreeSet<String>>, content: String) {
        set.lock().unwrap_or_else(PoisonError::into_inner).insert(content);
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn missing(&self) -> Vec<String> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.difference(&received).cloned().collect()
    }
}

/// How messages are sent and received through a door, until the connection breaks.
struct Door {
    option: &'static str,
    line: &'static str,
    send: fn(SocketAddr, &str, &Messages) -> io::Result<()>,
    receive: fn(SocketAddr, &Messages) -> io::Result<()>,
}

fn kills() -> usize {
    std::env::var("CAXTON_DOOR_KILLS").map_or(3, |count| count.parse().expect("a number"))
}

fn kill_under_load(door: &Door) {
    let data = tempfile::tempdir().expect("a directory");
    let messages = Messages::default();
    for round in 0..=kills() {
        let mut daemon = Daemon::start(data.path(), &[door.option, "0"]);
        let address = daemon.line(door.line).trim_end_matches('/').parse().expect("an address");
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| (door.receive)(address, &messages));
            if round == kills() {
                wait_until("what was acknowledged has arrived", || {
                    messages.missing().is_empty() || receiving.is_finished()
                });
            } else {
                let messages = &messages;
                for sender in 0..SENDERS {
                    scope.spawn(move || (door.send)(address, &format!("{round}-{sender}"), messages));
                }
                // Each kill comes at another moment of what the clients do.
                let enough = messages.acknowledged() + 40 + 7 * round;
                wait_until("enough messages were acknowledged", || messages.acknowledged() >= enough);
            }
            daemon.send(Signal::KILL);
            let error = receiving.join().expect("the receiver does not panic").expect_err("the connection ends");
            let is_end = matches!(
                error.kind(),
                ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionRefused
            );
            assert!(is_end, "{error}");
        });
    }
    let missing = messages.missing();
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged messages are lost: {missing:?}",
        missing.len(),
        messages.acknowledged()
    );
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Reads a line without its end.
fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

/// Carries out a request. Returns its status and its document.
fn request(stream: &mut BufReader<TcpStream>, method: &str, path: &str, body: &Value) -> io::Result<(String, Value)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let status = line(stream)?;
    let mut length = 0;
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(bytes) = header.strip_prefix("content-length: ") {
            length = bytes.parse().map_err(|_| ErrorKind::InvalidData)?;
        }
    }
    let mut document = vec![0; length];
    stream.read_exact(&mut document)?;
    Ok((status, serde_json::from_slice(&document).unwrap_or_default()))
}

fn send_over_http(address: SocketAddr, prefix: &str, messages: &Messages) -> io::Result<()> {
    let mut stream = connect(address)?;
    for number in 0.. {
        let content = format!("{prefix}-{number}");
        let message = json!({
            "performative": "inform", "receiver": ["clerk"], "content": content, "X-caxton-reliability": "durable",
        });
        let (status, document) = request(&mut stream, "POST", "/v1/messages", &message)?;
        match document["reason"].as_str() {
            None if status.contains(" 202 ") => Messages::insert(&messages.acknowledged, content),
            // The receiver is not there yet, or is behind.
            Some("unknown-receiver" | "receiver-full" | "mailbox-full") => {}
            _ => panic!("{status}: {document}"),
        }
    }
    Ok(())
}

fn receive_over_http(address: SocketAddr, messages: &Messages) -> io::Result<()> {
    let mut stream = connect(address)?;
    let options = json!({"acknowledged": true, "persistent": true});
    request(&mut stream, "PUT", "/v1/agents/clerk", &options)?;
    loop {
        let path = "/v1/agents/clerk/messages?wait_ms=1000&max=16";
        let (status, document) = request(&mut stream, "GET", path, &Value::Null)?;
        let Some(deliveries) = document["messages"].as_array() else { panic!("{status}: {document}") };
        let ids: Vec<&Value> = deliveries.iter().map(|delivery| &delivery["id"]).collect();
        for delivery in deliveries {
            Messages::insert(
                &messages.received,
                delivery["message"]["content"].as_str().unwrap_or_default().to_owned(),
            );
        }
        if !ids.is_empty() {
            let (status, document) = request(&mut stream, "POST", "/v1/agents/clerk/ack", &json!({ "ids": ids }))?;
            assert!(status.contains(" 200 "), "{status}: {document}");
        }
    }
}

#[test]
fn nothing_that_the_http_door_has_acknowledged_is_lost() {
    bounded(|| {
        kill_under_load(&Door {
            option: "--http",
            line: "http: http://",
            send: send_over_http,
            receive: receive_over_http,
        });
    });
}

/// Connects to the NATS door. What it says first is left out.
fn connect_to_nats(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let mut stream = connect(address)?;
    line(&mut stream)?;
    stream.get_mut().write_all(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n")?;
    Ok(stream)
}

/// Returns the headers and the payload of the next message.
fn next(stream: &mut BufReader<TcpStream>) -> io::Result<(String, String)> {
    loop {
        let line = line(stream)?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().map_err(|_| io::Error::from(ErrorKind::InvalidData));
        let headers = match words[0] {
            "MSG" => 0,
            "HMSG" => number(words[words.len() - 2])?,
            "PING" => {
                stream.get_mut().write_all(b"PONG\r\n")?;
                continue;
            }
            _ => panic!("{line}"),
        };
        let mut bytes = vec![0; number(words[words.len() - 1])? + 2];
        stream.read_exact(&mut bytes)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Ok((text(&bytes[..headers]), text(&bytes[headers..bytes.len() - 2])));
    }
}

fn send_over_nats(address: SocketAddr, prefix: &str, messages: &Messages) -> io::Result<()> {
    let mut stream = connect_to_nats(address)?;
    stream.get_mut().write_all(b"SUB _INBOX.acks 1\r\n")?;
    let headers = "NATS/1.0\r\nCaxton-Performative: inform\r\nCaxton-Reliability: durable\r\n\r\n";
    for number in 0.. {
        let content = format!("{prefix}-{number}");
        let (head, total) = (headers.len(), headers.len() + content.len());
        let message = format!("HPUB agent.clerk _INBOX.acks {head} {total}\r\n{headers}{content}\r\n");
        stream.get_mut().write_all(message.as_bytes())?;
        let (headers, payload) = next(&mut stream)?;
        if payload.contains("\"stream\":\"caxton\"") {
            Messages::insert(&messages.acknowledged, content);
        } else {
            // The receiver is not there yet, or is behind.
            let reasons = ["unknown-receiver", "receiver-full", "mailbox-full"];
            assert!(reasons.iter().any(|reason| headers.contains(reason)), "{headers}{payload}");
        }
    }
    Ok(())
}

fn receive_over_nats(address: SocketAddr, messages: &Messages) -> io::Result<()> {
    let mut stream = connect_to_nats(address)?;
    stream.get_mut().write_all(b"SUB agent.clerk 1\r\n")?;
    loop {
        let (_, payload) = next(&mut stream)?;
        Messages::insert(&messages.received, payload);
    }
}

#[test]
fn nothing_that_the_nats_door_has_acknowledged_is_lost() {
    bounded(|| {
        kill_under_load(&Door {
            option: "--nats",
            line: "nats: nats://",
            send: send_over_nats,
            receive: receive_over_nats,
        });
    });
}
