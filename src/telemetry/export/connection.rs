//! A connection to a collector: HTTP/1.1 over a socket of the executor.

use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::Task;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::ReadBufCursor;
use rustls::ClientConfig;

use super::helper::Helper;
use super::tls::TlsStream;

/// Time limit for connecting to one address. The whole attempt has a limit of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of a host's addresses that are tried.
const ADDRESSES_MAX: usize = 4;
/// Time for which a host's addresses are remembered.
const ADDRESSES_KEPT: Duration = Duration::from_mins(1);
/// Bytes passed on at a time.
const CHUNK_BYTES: usize = 8 << 10;

/// Runs a future, or gives it up: `None` after this time.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    or(async { Some(future.await) }, async {
        Timer::new(limit).await;
        None
    })
    .await
}

/// The other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Origin {
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        if self.host.contains(':') {
            write!(formatter, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// An open connection, which takes one request at a time.
pub(super) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    /// Reads and writes; cancelled when dropped.
    _driver: Task<()>,
}

impl Connection {
    /// Whether another request can be sent, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Sends a request. An error says whether any of it was written.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        if let Err(error) = self.requests.ready().await {
            return Err(SendError { error, is_written: false });
        }
        self.requests.try_send_request(request).await.map_err(|error| {
            // What was not begun comes back.
            let is_written = error.message().is_none();
            SendError { error: error.into_error(), is_written }
        })
    }
}

/// A request that got no response.
pub(super) struct SendError {
    pub error: hyper::Error,
    /// Whether it may have arrived.
    pub is_written: bool,
}

/// Opens connections, and remembers the addresses of names.
pub(super) struct Connector {
    tls: Option<Arc<ClientConfig>>,
    helper: Helper,
    known: Vec<Known>,
}

struct Known {
    origin: Origin,
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl Connector {
    /// Creates a connector; `tls` is required for secure origins.
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls, helper: Helper::default(), known: Vec::new() }
    }

    pub async fn connect(&mut self, origin: &Origin) -> io::Result<Connection> {
        let addresses = self.addresses(origin).await?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let connecting = async { TcpStream::connect(address).await.map_err(io::Error::from) };
            match within(CONNECT_TIMEOUT, connecting).await {
                Some(Ok(stream)) => return self.open(origin, stream).await,
                Some(Err(error)) => last = error,
                None => {
                    let text = format!("{address} does not accept a connection");
                    last = io::Error::new(io::ErrorKind::TimedOut, text);
                }
            }
        }
        // They may be out of date.
        self.known.retain(|known| known.origin != *origin);
        Err(last)
    }

    async fn open(&self, origin: &Origin, stream: TcpStream) -> io::Result<Connection> {
        let _ = stream.set_nodelay(true);
        match &self.tls {
            Some(tls) if origin.secure => {
                handshake(TlsStream::connect(Arc::clone(tls), &origin.host, stream).await?).await
            }
            None if origin.secure => Err(io::Error::other("there are no certificates for https")),
            _ => handshake(stream).await,
        }
    }

    /// Returns a host's addresses; a name is resolved on another thread, because that blocks.
    async fn addresses(&mut self, origin: &Origin) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = origin.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, origin.port)]);
        }
        let now = Instant::now();
        self.known.retain(|known| known.until > now);
        if let Some(known) = self.known.iter().find(|known| known.origin == *origin) {
            return Ok(known.addresses.clone());
        }
        let name = (origin.host.clone(), origin.port);
        let resolved = self.helper.call(move || name.to_socket_addrs().map(Iterator::collect)).await?;
        let mut addresses: Vec<SocketAddr> = resolved?;
        addresses.truncate(ADDRESSES_MAX);
        self.known.push(Known { origin: origin.clone(), addresses: addresses.clone(), until: now + ADDRESSES_KEPT });
        Ok(addresses)
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S) -> io::Result<Connection> {
    let (requests, driver) = http1::handshake(Io(stream)).await.map_err(io::Error::other)?;
    let driver = glommio::spawn_local(async {
        // The request in progress gets the error.
        let _ = driver.await;
    });
    Ok(Connection { requests, _driver: driver })
}

/// A stream of the executor as hyper takes it.
struct Io<S>(S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK_BYTES];
        let limit = buffer.remaining().min(chunk.len());
        let count = ready!(Pin::new(&mut self.0).poll_read(context, &mut chunk[..limit]))?;
        buffer.put_slice(&chunk[..count]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}
