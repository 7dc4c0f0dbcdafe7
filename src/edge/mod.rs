//! The edge: one thread that serves HTTP, off the shards.
//!
//! It runs axum on tokio. What it serves are [routes](routes) over the state that the router's threads share; nothing
//! here runs on a shard, and no request waits for one for longer than a few milliseconds.
//!
//! Everything is bounded: connections, the size and number of headers, and the time of a connection, which serves one
//! request. A peer that is slow, or one that opens many connections, holds up others for no longer than that.

pub(crate) mod routes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// Maximum number of open connections. Further ones are closed at once.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// Time limit for the headers of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Time limit of a connection.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);
/// Maximum size of what is read of a request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Maximum number of headers of a request.
const HEADERS_MAX: usize = 64;
/// Delay before accepting again after that failed, for example because no file descriptor is free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The address for metrics and health cannot be listened on. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen: {address} cannot be listened on: {error}; {}", advice(.error))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The error of the operating system.
    #[source]
    pub error: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port: choose another one, or 0 for one that is free",
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: use 127.0.0.1, or 0.0.0.0 for all of its own"
        }
        io::ErrorKind::PermissionDenied => "this process may not use this port: choose one from 1024 up",
        _ => "choose another address",
    }
}

/// The figures of the edge.
#[derive(Debug, Default)]
pub(crate) struct EdgeFigures {
    /// Open connections.
    pub connections: AtomicU64,
    /// Connections that were closed at once because there were too many.
    pub refused: AtomicU64,
    /// Requests that were read.
    pub requests: AtomicU64,
}

/// Listens on an address. Connections wait until the edge [starts](Edge::start).
///
/// # Errors
///
/// The address cannot be used.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| ListenError { address, error })
}

/// The thread that serves HTTP. Dropping it ends the thread without waiting for it.
#[derive(Debug)]
pub(crate) struct Edge {
    address: SocketAddr,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Edge {
    /// Starts serving these routes. `tick` is called at this interval, on the same thread.
    ///
    /// # Errors
    ///
    /// The thread, or its epoll, cannot be created.
    pub fn start(
        listener: TcpListener,
        routes: axum::Router,
        figures: Arc<EdgeFigures>,
        (every, tick): (Duration, impl FnMut() + Send + 'static),
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            tokio::spawn(repeat(every, tick));
            futures_lite::future::or(accept(listener, routes, figures), async {
                // The sender is dropped.
                let _ = stopped.await;
            })
            .await;
        };
        let thread =
            std::thread::Builder::new().name("caxton-edge".to_owned()).spawn(move || runtime.block_on(serve))?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the thread and waits for it. What is being served is cut off.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn repeat(every: Duration, mut tick: impl FnMut()) {
    loop {
        tick();
        tokio::time::sleep(every).await;
    }
}

/// Accepts connections, as long as there is room for them.
async fn accept(listener: TcpListener, routes: axum::Router, figures: Arc<EdgeFigures>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            figures.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (routes, figures) = (routes.clone(), Arc::clone(&figures));
        tokio::spawn(async move {
            figures.connections.fetch_add(1, Ordering::Relaxed);
            // A peer that breaks off, or is too slow, concerns nobody else.
            let _ = tokio::time::timeout(CONNECTION_WITHIN, serve(stream, routes)).await;
            figures.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

/// Serves one request.
async fn serve(stream: TcpStream, routes: axum::Router) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(REQUEST_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await
}
