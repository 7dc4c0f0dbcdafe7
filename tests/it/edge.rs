//! HTTP beside the shards: what it serves, what it refuses, and when it begins and ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use caxton_router::Router;
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
fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
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
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let response = exchange(address, request.as_bytes()).expect("it responds");
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response:?}"));
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    (status, head.to_ascii_lowercase(), body.to_owned())
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
        for path in ["/metrics", "/metrics/internal", "/livez", "/readyz", "/healthz"] {
            let (status, head, body) = get_as(address, path, "");
            assert_eq!(status, 200, "{path}: {body}");
            assert!(head.contains("cache-control: no-store") && head.contains("connection: close"), "{head}");
        }
        assert_eq!(get(address, "/").0, 404);
        let response = exchange(address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
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

#[test]
fn connections_that_do_nothing_are_bounded_and_end() {
    bounded(|| {
        let router = start_with(1, listening);
        let address = address_of(&router);
        let idle: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(address).ok()).collect();
        let mut slow = idle.first().expect("one is connected").try_clone().expect("it can be");
        let _ = slow.write_all(b"GET /metr");
        // Those beyond the limit are closed at once; the others after a few seconds, so that there is room again.
        let figure = |name: &str| {
            let text = router.metrics();
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect("it is there");
            line[name.len() + 1..].parse::<u64>().expect("it is a number")
        };
        wait_until("some are refused", || figure("caxton_edge_connections_refused_total") > 0);
        assert!(figure("caxton_edge_connections") <= 64);
        let degraded = router.health().component("edge").expect("there is one").why().map(str::to_owned);
        assert!(degraded.is_some_and(|why| why.contains("too many")));
        wait_until("all of them are over", || figure("caxton_edge_connections") == 0);
        assert_eq!(get(address, "/readyz").0, 200);
        drop(idle);
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
