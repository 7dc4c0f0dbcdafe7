//! A client of NATS that costs as little as possible, so that it is the server that is measured: blocking sockets, large
//! reads and writes, and no copy of a payload.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

/// How long a reply may take before a run has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Size of what is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// Returns a histogram of times in nanoseconds, up to a minute.
pub fn times() -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
    /// What of `read` was not taken yet.
    from: usize,
    to: usize,
}

/// What a server sent.
pub struct Delivery<'a> {
    pub subject: &'a [u8],
    pub reply: Option<&'a [u8]>,
    /// The headers, with the empty line behind them; empty without.
    pub headers: &'a [u8],
    pub payload: &'a [u8],
}

impl Client {
    /// Connects, and waits until the server has understood who it is.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream, read: vec![0; READ_BYTES], from: 0, to: 0 };
        client.write(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"perf\",\"version\":\"1\",\"protocol\":1}\r\n",
        )?;
        client.flush_server()?;
        Ok(client)
    }

    /// Returns another handle of the connection, for writing.
    ///
    /// # Errors
    ///
    /// There are too many open files.
    pub fn writer(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Subscribes, and waits until the server has done so.
    ///
    /// # Errors
    ///
    /// The connection is broken, or the server refuses.
    pub fn subscribe(&mut self, subject: &str, number: u32) -> io::Result<()> {
        self.write(format!("SUB {subject} {number}\r\n").as_bytes())?;
        self.flush_server()
    }

    /// Waits until the server has processed everything sent before. Deliveries meanwhile are lost.
    fn flush_server(&mut self) -> io::Result<()> {
        self.write(b"PING\r\n")?;
        let mut has_answered = false;
        while !has_answered {
            self.receive_or(|_| {}, || has_answered = true)?;
        }
        Ok(())
    }

    /// Waits for deliveries, and passes on those that one read brings. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The connection is broken, the server refuses something, or nothing comes in time.
    pub fn receive(&mut self, each: impl FnMut(Delivery<'_>)) -> io::Result<usize> {
        self.receive_or(each, || {})
    }

    fn receive_or(&mut self, mut each: impl FnMut(Delivery<'_>), mut pong: impl FnMut()) -> io::Result<usize> {
        if self.from > 0 {
            self.read.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.read.len() {
            self.read.resize(self.read.len() * 2, 0);
        }
        let count = self.stream.read(&mut self.read[self.to..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.to += count;
        let mut deliveries = 0;
        while let Some(line_bytes) = self.read[self.from..self.to].iter().position(|byte| *byte == b'\n') {
            let line = &self.read[self.from..self.from + line_bytes];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let after = self.from + line_bytes + 1;
            let (has_headers, rest) = match line {
                [b'M', b'S', b'G', b' ', rest @ ..] => (false, rest),
                [b'H', b'M', b'S', b'G', b' ', rest @ ..] => (true, rest),
                b"PING" => {
                    self.stream.write_all(b"PONG\r\n")?;
                    self.from = after;
                    continue;
                }
                b"PONG" => {
                    pong();
                    self.from = after;
                    continue;
                }
                [b'-', ..] => return Err(io::Error::other(String::from_utf8_lossy(line).into_owned())),
                _ => {
                    self.from = after;
                    continue;
                }
            };
            let mut words = [&rest[..0]; 5];
            let mut count = 0;
            for word in rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).take(words.len()) {
                words[count] = word;
                count += 1;
            }
            let sizes = if has_headers { 2 } else { 1 };
            if count < 2 + sizes {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let total = number(words[count - 1]);
            let header_bytes = if has_headers { number(words[count - 2]) } else { 0 };
            if self.to < after + total + 2 {
                break;
            }
            let body = &self.read[after..after + total];
            each(Delivery {
                subject: words[0],
                reply: (count == 3 + sizes).then_some(words[2]),
                headers: &body[..header_bytes],
                payload: &body[header_bytes..],
            });
            deliveries += 1;
            self.from = after + total + 2;
        }
        Ok(deliveries)
    }
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit.wrapping_sub(b'0')))
}
