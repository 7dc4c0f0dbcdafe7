//! The loads of HTTP clients, on connections that are kept.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Client, PATIENCE, times as new_times};
use super::server::Server;
use crate::figures::Figures;

/// Number of connections that send.
const CONNECTIONS: usize = 32;
/// Number of threads that serve them.
const THREADS: usize = 2;
/// Sends per second of the paced load.
const SENDS_PER_SECOND: u32 = 5_000;
/// Size of a message's content, in bytes.
const CONTENT_BYTES: usize = 200;

fn text(error: impl Display) -> String {
    error.to_string()
}

fn request(address: SocketAddr) -> Vec<u8> {
    let content = "x".repeat(CONTENT_BYTES);
    let body = serde_json::json!({
        "performative": "inform",
        "receiver": ["sink"],
        "content": content,
    });
    let body = body.to_string();
    format!(
        "POST /v1/messages HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection that sends one message after the other.
struct Sender {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Sender {
    fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        Ok(Self { stream, read: Vec::new() })
    }

    fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).map_err(text)
    }

    /// Waits for one response.
    fn await_response(&mut self) -> Result<(), String> {
        let mut part = [0; 4096];
        loop {
            if let Some(head) = self.read.windows(4).position(|end| end == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.read[..head]).to_ascii_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or_default();
                if self.read.len() >= head + 4 + length {
                    let is_well = text.starts_with("http/1.1 20");
                    let response = String::from_utf8_lossy(&self.read[..head + 4 + length]).into_owned();
                    self.read.drain(..head + 4 + length);
                    return if is_well { Ok(()) } else { Err(response) };
                }
            }
            let count = self.stream.read(&mut part).map_err(text)?;
            if count == 0 {
                return Err("the server closed the connection".to_owned());
            }
            self.read.extend_from_slice(&part[..count]);
        }
    }
}

/// Registers the receiver, which takes what arrives until the client is dropped.
fn with_receiver(
    server: &Server,
    load: impl FnOnce(SocketAddr) -> Result<(Figures, u64), String>,
) -> Result<Figures, String> {
    let address = server.http.ok_or("the server has no HTTP")?;
    let mut receiver = Client::connect(server.nats).map_err(text)?;
    receiver.subscribe("agent.sink", 1).map_err(text)?;
    let (end, ended) = std::sync::mpsc::channel::<u64>();
    let taking = std::thread::spawn(move || -> Result<(), String> {
        let (mut taken, mut wanted) = (0, None);
        loop {
            wanted = wanted.or_else(|| ended.try_recv().ok());
            if wanted.is_some_and(|wanted| taken >= wanted) {
                return Ok(());
            }
            taken += receiver.receive(|_| {}).map_err(|error| format!("{taken} messages arrived: {error}"))? as u64;
        }
    });
    let (figures, sent) = load(address)?;
    // One more wakes the receiver, which takes it too: nothing is left behind.
    let _ = end.send(sent + 1);
    let mut last = Sender::connect(address)?;
    last.send(&request(address))?;
    last.await_response()?;
    taking.join().map_err(|_| "the receiver panicked".to_owned())??;
    Ok(figures)
}

/// Each connection sends as soon as its last message was accepted.
pub fn throughput(server: &Server, time: Duration) -> Result<Figures, String> {
    with_receiver(server, |address| {
        let (cpu, began) = (server.cpu_time()?, Instant::now());
        let serve = move || -> Result<u64, String> {
            let request = request(address);
            let mut senders =
                (0..CONNECTIONS / THREADS).map(|_| Sender::connect(address)).collect::<Result<Vec<_>, _>>()?;
            let mut sent = 0;
            while began.elapsed() < time {
                for sender in &mut senders {
                    sender.send(&request)?;
                }
                for sender in &mut senders {
                    sender.await_response()?;
                    sent += 1;
                }
            }
            Ok(sent)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| std::thread::spawn(serve)).collect();
        let mut sent = 0;
        for thread in threads {
            sent += thread.join().map_err(|_| "a sender panicked".to_owned())??;
        }
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_time()?.saturating_sub(cpu));
        let figures =
            vec![("sends per second", sent as f64 / seconds), ("CPU ns per send", cpu.as_nanos() as f64 / sent as f64)];
        Ok((figures, sent))
    })
}

/// Sends at a fixed rate, and the time from when each was due until it was accepted.
pub fn latency(server: &Server, time: Duration) -> Result<Figures, String> {
    with_receiver(server, |address| {
        let began = Instant::now();
        // Each connection has its share of the rate, evenly spread.
        let interval = Duration::from_secs(1) * u32::try_from(CONNECTIONS).unwrap_or(1) / SENDS_PER_SECOND;
        let serve = move |connection: usize| -> Result<Histogram<u64>, String> {
            let request = request(address);
            let mut sender = Sender::connect(address)?;
            let mut times = new_times().map_err(text)?;
            let mut due =
                began + interval * u32::try_from(connection).unwrap_or(0) / u32::try_from(CONNECTIONS).unwrap_or(1);
            while due.duration_since(began) < time {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                sender.send(&request)?;
                sender.await_response()?;
                let taken = Instant::now().saturating_duration_since(due).as_nanos();
                times.saturating_record(u64::try_from(taken).unwrap_or(u64::MAX));
                due += interval;
            }
            Ok(times)
        };
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|connection| std::thread::spawn(move || serve(connection))).collect();
        let mut times = new_times().map_err(text)?;
        for thread in threads {
            times.add(thread.join().map_err(|_| "a sender panicked".to_owned())??).map_err(text)?;
        }
        let figures = vec![
            ("p50 us", times.value_at_quantile(0.5) as f64 / 1e3),
            ("p99 us", times.value_at_quantile(0.99) as f64 / 1e3),
        ];
        Ok((figures, times.len()))
    })
}
