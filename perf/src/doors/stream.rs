//! Server-sent events, and outside agents that have nothing to do.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::client::{Client, PATIENCE};
use super::server::Server;
use crate::figures::Figures;

/// Size of a message's content, in bytes.
const CONTENT_BYTES: usize = 200;
/// Number of messages that the publisher writes at once.
const BATCH: usize = 64;
/// Numbers of agents without work, each on a connection of its own.
const IDLE: [(usize, &str); 2] = [(1_000, "MiB of 1,000 agents"), (10_000, "MiB of 10,000 agents")];
/// What each event begins with.
const EVENT: &[u8] = b"data: {";

fn text(error: impl Display) -> String {
    error.to_string()
}

/// A response of server-sent events.
struct Events(TcpStream);

impl Events {
    /// Registers an agent that makes its senders wait when its mailbox is full, and begins to read what it is sent.
    fn open(address: SocketAddr, agent: &str) -> Result<Self, String> {
        let options = r#"{"overflow":"back-pressure"}"#;
        let register = format!(
            "PUT /v1/agents/{agent} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{options}",
            options.len()
        );
        let mut registering = connect(address)?;
        registering.write_all(register.as_bytes()).map_err(text)?;
        let mut response = String::new();
        registering.read_to_string(&mut response).map_err(text)?;
        if !response.starts_with("HTTP/1.1 201") {
            return Err(response);
        }
        let mut stream = connect(address)?;
        let read = format!("GET /v1/agents/{agent}/stream HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(read.as_bytes()).map_err(text)?;
        // The first piece says that it is attached.
        let (mut read, mut part) = (Vec::new(), [0; 1024]);
        while !read.windows(2).any(|end| end == b"\n\n") {
            match stream.read(&mut part).map_err(text)? {
                0 => return Err(String::from_utf8_lossy(&read).into_owned()),
                count => read.extend_from_slice(&part[..count]),
            }
        }
        Ok(Self(stream))
    }

    /// Reads until this many events have arrived. Returns how much was read, in bytes.
    fn count(&mut self, wanted: &AtomicU64) -> Result<u64, String> {
        let mut part = vec![0; 256 << 10];
        // The end of one read may be the beginning of an event that the next one continues.
        let (mut kept, mut seen, mut bytes) = (0, 0, 0);
        while seen < wanted.load(Ordering::Acquire) {
            let count = self.0.read(&mut part[kept..]).map_err(|error| format!("{seen} events arrived: {error}"))?;
            if count == 0 {
                return Err(format!("{seen} events arrived, then the stream ended"));
            }
            bytes += count as u64;
            let there = kept + count;
            seen += beginnings(&part[..there]);
            kept = (EVENT.len() - 1).min(there);
            part.copy_within(there - kept..there, 0);
        }
        Ok(bytes)
    }
}

/// Returns how many events begin here.
fn beginnings(text: &[u8]) -> u64 {
    // Each is a line of its own, so that only the beginnings of lines have to be compared.
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| line.starts_with(EVENT)).count() as u64
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    Ok(stream)
}

/// One subscriber to a busy agent: its publisher never waits for it but by the server's back-pressure.
pub fn events(server: &Server, time: Duration) -> Result<Figures, String> {
    let address = server.http.ok_or("the server has no HTTP")?;
    let mut events = Events::open(address, "busy")?;
    let mut publisher = Client::connect(server.nats).map_err(text)?;
    let mut message = format!("PUB agent.busy {CONTENT_BYTES}\r\n").into_bytes();
    message.extend(std::iter::repeat_n(b'x', CONTENT_BYTES));
    message.extend_from_slice(b"\r\n");
    let batch = message.repeat(BATCH);
    let wanted = Arc::new(AtomicU64::new(u64::MAX));
    let total = Arc::clone(&wanted);
    let publish = move || -> Result<u64, String> {
        let (began, mut sent) = (Instant::now(), 0);
        while began.elapsed() < time {
            publisher.write(&batch).map_err(text)?;
            sent += BATCH as u64;
        }
        // The last one is sent when the reader knows that it is, so that it does not wait for another.
        total.store(sent + 1, Ordering::Release);
        publisher.write(&message).map_err(text)?;
        // The connection stays open until the server has read all of it.
        publisher.subscribe("agent.end", 1).map_err(text)?;
        Ok(sent + 1)
    };
    let (cpu, began) = (server.cpu_time()?, Instant::now());
    let publishing = std::thread::spawn(publish);
    let bytes = events.count(&wanted)?;
    let sent = publishing.join().map_err(|_| "the publisher panicked".to_owned())??;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_time()?.saturating_sub(cpu));
    Ok(vec![
        ("events per second", sent as f64 / seconds),
        ("MB per second", bytes as f64 / seconds / 1e6),
        ("CPU ns per event", cpu.as_nanos() as f64 / sent as f64),
    ])
}

/// The memory of agents that are connected as clients of NATS and get nothing.
pub fn idle_nats(server: &Server, _time: Duration) -> Result<Figures, String> {
    idle(server, |number| {
        let mut client = Client::connect(server.nats).map_err(text)?;
        client.subscribe(&format!("agent.idle-{number}"), 1).map_err(text)?;
        Ok(client)
    })
}

/// The same of agents with a stream of server-sent events.
pub fn idle_http(server: &Server, _time: Duration) -> Result<Figures, String> {
    let address = server.http.ok_or("the server has no HTTP")?;
    idle(server, |number| Events::open(address, &format!("idle-{number}")))
}

fn idle<C>(server: &Server, connect: impl Fn(usize) -> Result<C, String>) -> Result<Figures, String> {
    let before = server.memory_bytes()?;
    let (mut clients, mut figures) = (Vec::new(), Vec::new());
    for (count, name) in IDLE {
        while clients.len() < count {
            clients.push(connect(clients.len()).map_err(|error| format!("agent {}: {error}", clients.len()))?);
        }
        figures.push((name, server.memory_bytes()?.saturating_sub(before) as f64 / f64::from(1 << 20)));
    }
    Ok(figures)
}

/// Lets this program, and the servers that it starts, open as many files as they may.
pub fn raise_open_files() -> Result<(), String> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(text)
}
