//! The edge: one thread that serves HTTP, off the shards.
//!
//! It runs axum on tokio. What it serves are [routes](routes) over the state that the router's threads share; nothing
//! here runs on a shard, and no request waits for one for longer than a few milliseconds.
//!
//! Everything is bounded by [`EdgeLimits`]: connections, the size and number of headers, and the time of a request. A
//! connection serves one request after the other, and may wait in between. When there is no room for another one, the
//! one that has waited longest is closed, whether it has sent nothing, half a request, or does not take its response. So
//! peers that are slow, or open many connections, hold up no others.

mod connection;
#[cfg(feature = "serve")]
mod dashboard;
#[cfg(feature = "serve")]
pub(crate) mod doors;
#[cfg(feature = "serve")]
mod http;
#[cfg(feature = "serve")]
mod nats;
pub(crate) mod routes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use self::connection::{Connection, Place, WatchedStream};

pub(crate) use self::connection::CloseReason;
#[cfg(feature = "serve")]
pub(crate) use self::connection::Connection as OpenConnection;
#[cfg(feature = "serve")]
pub(crate) use self::nats::{ByReason, NatsFigures, Traffic};

/// Number of connections that wait to be accepted, as far as the kernel allows. What comes beyond that comes again, which takes
/// a second.
pub(crate) const BACKLOG: i32 = 4_096;
/// Delay before accepting again after that failed, for example because no file descriptor is free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Time that a connection has for its next request even if there is no room for others.
const WAITS_MIN: Duration = Duration::from_millis(100);

/// The limits of the edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EdgeLimits {
    /// Maximum number of open connections.
    pub connections: usize,
    /// Time limit for the head of a request, from its first byte; for the first one, from the beginning of the connection.
    pub head_within: Duration,
    /// Time limit for handling a request, from the end of its head.
    pub request_within: Duration,
    /// Time limit for sending a response and waiting for the next request.
    pub idle_within: Duration,
    /// Maximum size of the head of a request, and of what is buffered of its body, in bytes.
    pub head_bytes: usize,
    /// Maximum number of headers of a request.
    pub headers: usize,
}

impl EdgeLimits {
    /// The limits for metrics and health. Scrapers that come once a minute keep their connection.
    pub const DEFAULT: Self = Self {
        connections: 64,
        head_within: Duration::from_secs(5),
        request_within: Duration::from_secs(10),
        idle_within: Duration::from_secs(75),
        head_bytes: 16 << 10,
        headers: 64,
    };
}

/// An address cannot be listened on. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {address} cannot be listened on: {error}; {}", advice(.error))]
pub struct ListenError {
    /// The setting.
    pub setting: &'static str,
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
    /// Connections that were closed at once because there was no room for them.
    pub refused: AtomicU64,
    /// Connections that the edge closed later, by [`CloseReason`].
    pub closed: [AtomicU64; CloseReason::COUNT],
    /// Requests that were read.
    pub requests: AtomicU64,
}

/// Listens on an address. Connections wait until the edge [starts](Edge::start).
///
/// # Errors
///
/// The address cannot be used.
pub(crate) fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        // The standard library's queue is of 128 connections.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error| ListenError { setting, address, error })
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
        limits: EdgeLimits,
        (every, tick): (Duration, impl FnMut() + Send + 'static),
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            tokio::spawn(repeat(every, tick));
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            futures_lite::future::or(accept(Plain(listener), routes, figures, move || limits), async {
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

/// Where connections come from, and how each becomes a stream: as it is, or encrypted.
pub(crate) trait Transport: Send + Sync + 'static {
    /// An accepted connection.
    type Accepted: Send + 'static;
    /// The stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at the other end. Requests have it as an extension.
    type Peer: Clone + Send + Sync + 'static;

    /// Accepts a connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Accepted>> + Send;

    /// Returns who is at the other end.
    fn peer(&self, accepted: &Self::Accepted) -> Self::Peer;

    /// Returns the stream. It counts as idle until then, so that a handshake has the time limit of a request's head.
    fn open(&self, accepted: Self::Accepted) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Connections as they are.
struct Plain(tokio::net::TcpListener);

impl Transport for Plain {
    type Accepted = TcpStream;
    type Stream = TcpStream;
    type Peer = ();

    async fn accept(&self) -> io::Result<TcpStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }

    fn peer(&self, _: &TcpStream) {}

    async fn open(&self, accepted: TcpStream) -> io::Result<TcpStream> {
        // Responses are written in one piece.
        let _ = accepted.set_nodelay(true);
        Ok(accepted)
    }
}

/// Accepts connections, and makes room for them. Each has the limits of the moment at which it is accepted.
pub(crate) async fn accept<T: Transport>(
    transport: T,
    routes: axum::Router,
    figures: Arc<EdgeFigures>,
    limits: impl Fn() -> EdgeLimits + Send,
) {
    let transport = Arc::new(transport);
    let mut open = OpenConnections { list: Vec::new(), ended: Arc::default() };
    loop {
        let Ok(accepted) = transport.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let limits = limits();
        if !open.make_room(limits.connections).await {
            figures.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let connection = Arc::new(Connection::new());
        open.list.push(Arc::clone(&connection));
        let (routes, transport, figures) = (routes.clone(), Arc::clone(&transport), Arc::clone(&figures));
        figures.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            connection: Arc::clone(&connection),
            figures: Arc::clone(&figures),
            ended: Arc::clone(&open.ended),
        };
        tokio::spawn(async move {
            let served = async {
                let peer = transport.peer(&accepted);
                // A peer that breaks off, or with which no encryption can be agreed on, concerns nobody else.
                if let Ok(stream) = transport.open(accepted).await {
                    let _ = serve(WatchedStream { stream, place }, peer, routes, limits).await;
                }
                None
            };
            let closed = futures_lite::future::or(served, async { Some(connection.overdue(limits).await) }).await;
            if let Some(reason) = closed {
                figures.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The connections that are open.
struct OpenConnections {
    list: Vec<Arc<Connection>>,
    /// Notified when one has ended.
    ended: Arc<Notify>,
}

impl OpenConnections {
    /// Makes room for another connection: closes the one that has waited longest, once it has had a little time for its
    /// request. Returns false if all of them are being served.
    async fn make_room(&mut self, connections_max: usize) -> bool {
        loop {
            self.list.retain(|connection| !connection.has_ended());
            if self.list.len() < connections_max {
                return true;
            }
            let waiting = self.list.iter().filter_map(|connection| Some((connection.waits_since()?, connection)));
            let Some((since, longest)) = waiting.min_by_key(|(since, _)| *since) else { return false };
            let rest = WAITS_MIN.saturating_sub(since.elapsed());
            if rest.is_zero() {
                longest.close();
            }
            // One that does not end at once is not waited for: meanwhile nobody else would be accepted.
            let within = if rest.is_zero() { WAITS_MIN } else { rest };
            let _ = tokio::time::timeout(within, self.ended.notified()).await;
        }
    }
}

/// Serves the requests of a connection, one after the other.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static, P: Clone + Send + Sync + 'static>(
    stream: WatchedStream<S>,
    peer: P,
    routes: axum::Router,
    limits: EdgeLimits,
) -> hyper::Result<()> {
    let routes = TowerToHyperService::new(routes);
    let connection = Arc::clone(&stream.place.connection);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        connection.begin_request();
        request.extensions_mut().insert(Arc::clone(&connection));
        request.extensions_mut().insert(peer.clone());
        let (response, connection) = (routes.call(request), Arc::clone(&connection));
        async move {
            let response = response.await;
            connection.end_request();
            response
        }
    });
    http1::Builder::new()
        // Connections have time limits of their own.
        .header_read_timeout(None::<Duration>)
        .max_headers(limits.headers)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_does_not_end_holds_up_no_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it can be built");
        runtime.block_on(async {
            let mut open = OpenConnections { list: vec![Arc::new(Connection::new())], ended: Arc::default() };
            let has_room = tokio::time::timeout(Duration::from_mins(1), open.make_room(1)).await;
            assert_eq!(has_room, Ok(false), "nothing else can be closed");
            open.list.push(Arc::new(Connection::new()));
            open.list[1].end();
            assert!(open.make_room(2).await);
        });
    }
}
