//! Ten thousand connections that send nothing, half of something, or a byte now and then, while two clients work.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Client, PATIENCE, times as new_times};
use super::server::Server;
use crate::figures::Figures;

/// Number of connections that get nothing done.
const CONNECTIONS: usize = 10_000;
/// What they send over HTTP and as clients of NATS, before they send a byte at a time.
const OVER_HTTP: [&[u8]; 3] = [
    b"",
    b"GET /v1/ag",
    b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
];
const OVER_NATS: [&[u8]; 3] = [b"", b"CONNECT {\"ver", b"CONNECT {}\r\nPUB agent.x 1000000\r\nabc"];
/// The time between two requests of a client that works.
const PAUSE: Duration = Duration::from_millis(20);

fn text(error: impl Display) -> String {
    error.to_string()
}

/// The time of each request of two clients that work, one of each door.
pub fn connections(server: &Server, time: Duration) -> Result<Figures, String> {
    let http = server.http.ok_or("the server has no HTTP")?;
    let is_over = AtomicBool::new(false);
    let (over_http, over_nats) = std::thread::scope(|scope| {
        let working_http = scope.spawn(|| work(&is_over, || get(http)));
        let working_nats = scope.spawn(|| {
            let mut client = Client::connect(server.nats).map_err(text)?;
            client.subscribe("agent.working", 1).map_err(text)?;
            work(&is_over, || {
                client.write(b"PUB agent.working 1\r\nx\r\n").map_err(text)?;
                while client.receive(|_| {}).map_err(text)? == 0 {}
                Ok(())
            })
        });
        let held = hold(http, server.nats, time);
        is_over.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Histogram<u64>, String>>| {
            thread.join().map_err(|_| "a client panicked".to_owned())?
        };
        let times = (join(working_http), join(working_nats));
        held?;
        Ok::<_, String>((times.0?, times.1?))
    })?;
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    Ok(vec![
        ("HTTP p50 ms", milliseconds(over_http.value_at_quantile(0.5))),
        ("HTTP max ms", milliseconds(over_http.max())),
        ("NATS p50 ms", milliseconds(over_nats.value_at_quantile(0.5))),
        ("NATS max ms", milliseconds(over_nats.max())),
    ])
}

/// Opens all connections, and has some of them send a byte every second.
fn hold(http: SocketAddr, nats: SocketAddr, time: Duration) -> Result<(), String> {
    let mut held = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let kind = number / 2 % OVER_HTTP.len();
        let (address, begin) = if number % 2 == 0 { (http, OVER_HTTP[kind]) } else { (nats, OVER_NATS[kind]) };
        let mut stream = TcpStream::connect(address).map_err(|error| format!("connection {number}: {error}"))?;
        // The server may have closed it already, to make room for others.
        let _ = stream.write_all(begin);
        held.push(stream);
    }
    let began = Instant::now();
    while began.elapsed() < time {
        for stream in held.iter_mut().step_by(7) {
            let _ = stream.write_all(b"x");
        }
        std::thread::sleep(Duration::from_secs(1).min(time.saturating_sub(began.elapsed())));
    }
    Ok(())
}

/// Makes requests until it is over, and returns how long each took.
fn work(is_over: &AtomicBool, mut request: impl FnMut() -> Result<(), String>) -> Result<Histogram<u64>, String> {
    let mut times = new_times().map_err(text)?;
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        request()?;
        times.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}

/// Requests the figures on a connection of its own.
fn get(address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let request = format!("GET /v1/stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut response = String::new();
    stream.read_to_string(&mut response).map_err(text)?;
    if response.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(response) }
}
