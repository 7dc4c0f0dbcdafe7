//! HTTP beside the shards: what it serves, what it refuses, and when it begins and ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use caxton_router::Router;
use caxton_router::agent::{Decision, FailedAttempt, FailureHandler};
use caxton_router::config::{Config, ListenAddress, Preset};
use caxton_router::error::StartError;

use crate::common::{PATIENCE, bounded, hold_up, shutdown, start, start_with};

/// Serves metrics and health at a port that is free.
pub fn listening(config: &mut Config) {
    config.metrics.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
}

pub fn address_of(router: &Router) -> SocketAddr {
    router.metrics_address().expect("it listens")
}

/// Sends this and returns everything that comes back, until the connection is closed.
pub fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The other side may have read enough before everything is written.
    let _ = stream.write_all(request);
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Requests a document. Returns its status, its head and its body.
pub fn get_as(address: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    try_get_as(address, path, headers).expect("it responds")
}

/// Requests a document on a connection of its own; an error if there is no response.
pub fn try_get_as(address: SocketAddr, path: &str, headers: &str) -> std::io::Result<(u16, String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    let response = exchange(address, request.as_bytes())?;
    if response.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response:?}"));
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Ok((status, head.to_ascii_lowercase(), body.to_owned()))
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = get_as(address, path, "");
    (status, body)
}

/// Tries until the condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "it does not come true that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_serves_what_it_should_and_nothing_else() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        for path in ["/metrics", "/metrics/internal", "/livez", "/readyz", "/healthz", "/healthz/slow"] {
            let (status, head, body) = get_as(address, path, "");
            assert_eq!(status, 200, "{path}: {body}");
            assert!(head.contains("cache-control: no-store") && head.contains("connection: close"), "{head}");
        }
        assert_eq!(get(address, "/").0, 404);
        let response =
            exchange(address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        assert!(response.starts_with("HTTP/1.1 405"), "{response}");
        assert!(get_as(address, "/metrics", "").1.contains("application/openmetrics-text; version=1.0.0"));
        assert!(get_as(address, "/metrics", "Accept: text/plain\r\n").1.contains("text/plain; version=0.0.4"));
        shutdown(&router);
    });
}

#[test]
fn a_router_without_the_setting_listens_nowhere() {
    bounded(|| {
        let router = start(1);
        assert_eq!(router.metrics_address(), None);
        assert!(router.metrics().ends_with("# EOF\n"));
        shutdown(&router);
    });
}

#[test]
fn the_port_is_free_again_once_the_router_has_stopped() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        shutdown(&router);
        assert_eq!(router.metrics_address(), None);
        assert!(TcpStream::connect(address).is_err(), "something listens there");
        let again = start_with(1, |config| config.metrics.listen = address.into());
        assert_eq!(again.metrics_address(), Some(address));
        shutdown(&again);
    });
}

#[test]
fn a_dropped_router_stops_to_listen() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        drop(router);
        assert!(TcpStream::connect(address).is_err(), "something listens there");
    });
}

#[test]
fn an_address_in_use_is_an_error_that_says_what_to_do_and_starts_nothing() {
    bounded(|| {
        let taken = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = taken.local_addr().expect("it has one");
        let mut config = Config::preset(Preset::Testing);
        config.metrics.listen = address.into();
        let error = Router::builder().config(config).start().expect_err("the port is taken");
        assert!(matches!(error, StartError::Listen(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("metrics.listen: {address} cannot be listened on: ")), "{text}");
        assert!(text.contains("another program has this port"), "{text}");
        let elsewhere: ListenAddress = "192.0.2.1:9464".parse().expect("it is an address");
        let mut config = Config::preset(Preset::Testing);
        config.metrics.listen = elsewhere;
        let error = Router::builder().config(config).start().expect_err("this host has another address").to_string();
        assert!(error.contains("this host has no such address"), "{error}");
    });
}

#[test]
fn large_and_malformed_requests_are_refused() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        let large = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(1 << 20));
        let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(1_000));
        for request in [large.as_bytes(), many.as_bytes(), b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"nonsense\r\n\r\n"]
        {
            // The connection may also be reset, because not everything is read.
            let response = exchange(address, request).unwrap_or_default();
            assert!(!response.starts_with("HTTP/1.1 200"), "{response}");
        }
        assert_eq!(get(address, "/livez").0, 200);
        shutdown(&router);
    });
}

/// Returns the value of a metric.
fn figure(router: &Router, series: &str) -> u64 {
    let text = router.metrics();
    let line = text.lines().find(|line| line.starts_with(&format!("{series} "))).expect("it is there");
    line[series.len() + 1..].parse().expect("it is a number")
}

/// Returns how many connections were made that no client has closed: on a busy machine some are idle for too long already.
fn connections_made(router: &Router) -> u64 {
    let is_counted = |series: &str| {
        series.starts_with("caxton_edge_connections ")
            || series.starts_with("caxton_edge_connections_refused_total ")
            || series.starts_with("caxton_edge_connections_closed_total{")
    };
    let text = router.metrics();
    let values = text.lines().filter(|line| is_counted(line)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<u64>().expect("it is a number")).sum()
}

const CLOSED_FOR_ROOM: &str = "caxton_edge_connections_closed_total{reason=\"room\"}";

/// Reads one response from a connection that stays open. Returns its head and its body.
fn read_response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the head goes on");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("it is text").to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.expect("the body has a length")];
    stream.read_exact(&mut body).expect("the body arrives");
    (head, body)
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    bounded(|| {
        let router = start_with(1, listening);
        let mut stream = TcpStream::connect(address_of(&router)).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
        for path in ["/livez", "/metrics", "/nothing", "/readyz"] {
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
            let (head, body) = read_response(&mut stream);
            assert_eq!(head.starts_with("http/1.1 200"), path != "/nothing", "{head}");
            assert!(path != "/metrics" || body.ends_with(b"# EOF\n"));
        }
        // Two at once come back in order.
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            .expect("it reads");
        assert!(read_response(&mut stream).0.starts_with("http/1.1 200"));
        assert!(read_response(&mut stream).0.starts_with("http/1.1 404"));
        assert_eq!(figure(&router, "caxton_edge_requests_total"), 6);
        assert_eq!(figure(&router, "caxton_edge_connections"), 1);
        shutdown(&router);
    });
}

#[test]
fn connections_that_do_nothing_are_bounded_and_end() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        let idle: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(address).ok()).collect();
        let mut slow = idle.last().expect("one is connected").try_clone().expect("it can be");
        let _ = slow.write_all(b"GET /metr");
        wait_until("the oldest are closed for the newest", || figure(&router, CLOSED_FOR_ROOM) > 0);
        assert!(figure(&router, "caxton_edge_connections") <= 64);
        let degraded = router.health().component("edge").expect("there is one").why().map(str::to_owned);
        assert!(degraded.is_some_and(|why| why.contains("too many")));
        wait_until("all of them are over", || figure(&router, "caxton_edge_connections") == 0);
        assert!(figure(&router, "caxton_edge_connections_closed_total{reason=\"slow\"}") <= 1);
        assert_eq!(get(address, "/readyz").0, 200);
        drop(idle);
        shutdown(&router);
    });
}

#[test]
fn peers_that_send_nothing_half_or_take_nothing_keep_nobody_from_being_served() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        let connect = |number: usize| {
            let mut stream = TcpStream::connect(address).expect("it accepts");
            match number % 4 {
                0 => {}
                1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").expect("it reads"),
                2 => {
                    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
                    read_response(&mut stream);
                }
                _ => {
                    // More responses than fit on the way back; none is read.
                    stream.set_nonblocking(true).expect("it can be");
                    let requests = b"GET /metrics/internal HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
                    let _ = stream.write(&requests);
                }
            }
            stream
        };
        let held: Vec<TcpStream> = (0..64).map(connect).collect();
        wait_until("they are connected", || connections_made(&router) >= 64);
        for _ in 0..20 {
            let (status, body) = get(address, "/metrics");
            assert!(status == 200 && body.ends_with("# EOF\n"), "{status}");
        }
        assert!(figure(&router, "caxton_edge_connections") <= 64);
        drop(held);
        shutdown(&router);
    });
}

#[test]
fn a_scrape_does_not_wait_for_a_blocked_shard() {
    bounded(|| {
        let router = start_with(2, listening);
        let barrier = hold_up(&router, 1);
        let (status, text) = get(address_of(&router), "/metrics");
        assert!(status == 200 && text.ends_with("# EOF\n"));
        barrier.open();
        shutdown(&router);
    });
}

#[test]
fn while_it_starts_and_stops_it_says_so() {
    bounded(|| {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
        let (starts, started) = flume::bounded::<()>(0);
        let mut config = Config::preset(Preset::Testing);
        config.metrics.listen = port.into();
        // The first shard waits in its start.
        let builder = Router::builder().config(config).shards(1.try_into().expect("it is legal"));
        let builder = builder.failure_handler(move |_| {
            let _ = started.recv();
            PassOn
        });
        let starting = std::thread::spawn(move || builder.start().expect("it starts"));
        let response = |path| try_get_as(port, path, "").ok().map(|(status, _, body)| (status, body));
        wait_until("it responds", || response("/readyz").is_some());
        let (status, body) = response("/readyz").expect("it responds");
        assert!(status == 503 && body.contains("starting"), "{status} {body}");
        let (status, body) = response("/livez").expect("it responds");
        assert!(status == 200 && body.contains("starting"), "{status} {body}");
        let health: serde_json::Value =
            serde_json::from_str(&response("/healthz").expect("it responds").1).expect("it is JSON");
        assert_eq!((&health["phase"], &health["ready"]), (&"starting".into(), &false.into()));
        drop(starts);
        let router = starting.join().expect("it starts");
        wait_until("it is ready", || response("/readyz").is_some_and(|(status, _)| status == 200));
        // A handler that does not return keeps it from stopping for a while.
        let barrier = hold_up(&router, 0);
        let other = router.clone();
        let stop = std::thread::spawn(move || other.shutdown(Duration::ZERO).expect("this is no shard's thread"));
        let mut said = Vec::new();
        while let Some((status, body)) = response("/readyz") {
            if status != 200 {
                said.push((status, body));
            }
        }
        assert!(said.iter().all(|(status, _)| *status == 503), "{said:?}");
        assert!(said.iter().any(|(_, body)| body.contains("stopped")), "{said:?}");
        barrier.open();
        stop.join().expect("it stops");
    });
}

/// A failure handler that does nothing of its own.
struct PassOn;

impl FailureHandler for PassOn {
    fn decide(&mut self, failure: &FailedAttempt<'_>) -> Decision {
        failure.by_default()
    }
}
