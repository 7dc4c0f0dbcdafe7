//! Connections over a Unix socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use rustix::net::sockopt::{Timeout as SocketTimeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// Connects to one socket, whatever the URL says.
#[derive(Debug)]
pub(super) struct SocketConnector(pub PathBuf);

impl Connector for SocketConnector {
    type Out = SocketStream;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<SocketStream>, ureq::Error> {
        let within = details.timeout.not_zero().map(|within| *within);
        let stream = Arc::new(open(&self.0, within).map_err(|error| refused(error, details.timeout))?);
        let handle: Arc<dyn ShutdownHandle> = Arc::new(Shutdown(Arc::clone(&stream)));
        (details.register_shutdown)(Arc::downgrade(&handle))?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(SocketStream { stream, buffers: LazyBuffers::new(input, output), _handle: handle }))
    }
}

/// Connects, within a time if there is one: the queue of a socket may be full.
fn open(path: &std::path::Path, within: Option<Duration>) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, SocketTimeout::Send, within)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

fn refused(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

/// A connection.
pub(super) struct SocketStream {
    stream: Arc<UnixStream>,
    buffers: LazyBuffers,
    /// The client keeps only a weak reference.
    _handle: Arc<dyn ShutdownHandle>,
}

impl fmt::Debug for SocketStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(formatter)
    }
}

struct Shutdown(Arc<UnixStream>);

impl ShutdownHandle for Shutdown {
    fn shutdown(&self) {
        // An error means that it is closed already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Transport for SocketStream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|within| *within))?;
        let output = &self.buffers.output()[..amount];
        (&*self.stream).write_all(output).map_err(|error| refused(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|within| *within))?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match (&*self.stream).read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| refused(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // What comes without a request, such as the end, makes the connection useless for another one.
        let probe = || {
            self.stream.set_nonblocking(true)?;
            let read = (&*self.stream).read(&mut [0]);
            self.stream.set_nonblocking(false)?;
            read
        };
        probe().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// Looks up no names: the connector knows the socket.
#[derive(Debug)]
pub(super) struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        Ok(addresses)
    }
}
