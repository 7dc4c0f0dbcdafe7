//! The byte streams of both doors: connections as they are or, with a certificate, encrypted.
//!
//! However a connection ends, its client is told as far as the socket takes that at once: with TLS by `close_notify`, and
//! then by the end of the stream. What has arrived is read before the socket is closed, because the kernel would reset the
//! connection otherwise, and the client might lose what it was told last.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::context::DoorContext;
use super::socket::Peer;
use crate::edge::Transport;

/// Maximum number of bytes that are read and dropped before a socket is closed.
const DROPPED_BYTES_MAX: usize = 256 << 10;
/// Number of bytes that are dropped at a time.
const DROPPED_BYTES: usize = 4 << 10;

/// Accepts connections, and encrypts them if there is a certificate at the moment.
pub(super) struct DoorTransport {
    pub listener: TcpListener,
    pub context: Arc<DoorContext>,
}

impl Transport for DoorTransport {
    type Accepted = TcpStream;
    type Stream = DoorStream;
    type Peer = Peer;

    async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    fn peer(&self, _: &TcpStream) -> Peer {
        Peer::Network
    }

    async fn open(&self, accepted: TcpStream) -> io::Result<DoorStream> {
        // Responses are written in one piece.
        let _ = accepted.set_nodelay(true);
        let tls = self.context.access().tls.clone();
        let stream = DoorStream::new(accepted);
        match tls {
            None => Ok(stream),
            Some(tls) => stream.encrypt(tls).await,
        }
    }
}

/// A client's byte stream.
pub(crate) enum DoorStream {
    Plain(Socket),
    Encrypted(Box<Encrypted>),
}

impl DoorStream {
    pub fn new(stream: TcpStream) -> Self {
        Self::Plain(Socket { stream, sent: 0 })
    }

    /// Shakes hands with the client. A stream that is encrypted already stays as it is.
    ///
    /// # Errors
    ///
    /// No encryption can be agreed on. The client was told why, as far as TLS has a word for it.
    pub async fn encrypt(self, tls: Arc<ServerConfig>) -> io::Result<Self> {
        match self {
            Self::Plain(socket) => {
                let stream = TlsAcceptor::from(tls).accept(socket).await?;
                Ok(Self::Encrypted(Box::new(Encrypted(stream))))
            }
            encrypted @ Self::Encrypted(_) => Ok(encrypted),
        }
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Encrypted(_))
    }

    /// Returns the number of bytes that the socket has taken, those of TLS included.
    pub fn sent(&self) -> u64 {
        match self {
            Self::Plain(socket) => socket.sent,
            Self::Encrypted(stream) => stream.0.get_ref().0.sent,
        }
    }
}

/// An encrypted stream.
pub(crate) struct Encrypted(TlsStream<Socket>);

impl Drop for Encrypted {
    fn drop(&mut self) {
        let (socket, session) = self.0.get_mut();
        session.send_close_notify();
        // Behind what was written before. A socket that does not take it has a client that does not read.
        while session.wants_write() && session.write_tls(&mut Now(&socket.stream)).is_ok_and(|bytes| bytes > 0) {}
    }
}

/// Writes to a socket what it takes at once.
struct Now<'a>(&'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that counts what it takes: TLS has a buffer of its own in between.
pub(crate) struct Socket {
    stream: TcpStream,
    sent: u64,
}

impl Socket {
    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.sent += bytes as u64;
        }
        polled
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.stream, Shutdown::Write);
        let (mut buffer, mut dropped) = ([0; DROPPED_BYTES], 0);
        while dropped < DROPPED_BYTES_MAX
            && let Ok((_, bytes @ 1..)) = rustix::net::recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT)
        {
            dropped += bytes;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(&mut stream.0).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(&mut stream.0).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(&mut stream.0).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(&mut stream.0).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Encrypted(stream) => Pin::new(&mut stream.0).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.0.is_write_vectored(),
        }
    }
}
