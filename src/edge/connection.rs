//! What is known of an open connection: whether a request is being handled, and since when the connection waits.
//!
//! The task that serves a connection notes what happens to it; the one that accepts new connections reads that, to close
//! the connection that has waited longest when there is no room for another.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::{EdgeFigures, EdgeLimits};

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    /// It has not sent anything yet.
    Nothing,
    /// It has begun to send the head of a request.
    SendingHead,
    /// A request is being handled.
    Handling,
    /// A response is being sent to it or was sent.
    Idle,
    /// It takes a response that has no end.
    Streaming,
    /// It is being closed, to make room.
    Closing,
}

/// Why the edge closed a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    /// It was idle for long.
    Idle,
    /// A request, or its response, did not come in time.
    Slow,
    /// It waited longest when there was no room for another one.
    Room,
}

impl CloseReason {
    /// The number of reasons.
    pub const COUNT: usize = 3;
    /// All reasons.
    pub const ALL: [Self; Self::COUNT] = [Self::Idle, Self::Slow, Self::Room];

    /// Returns the reason as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Room => "room",
        }
    }
}

/// An open connection.
pub(crate) struct Connection {
    /// What it is doing, and since when; while it is streaming, when it last took something.
    state: Mutex<(Doing, Instant)>,
    ended: AtomicBool,
    /// Notified to close it.
    closing: Notify,
}

impl Connection {
    pub fn new() -> Self {
        let state = Mutex::new((Doing::Nothing, Instant::now()));
        Self { state, ended: AtomicBool::new(false), closing: Notify::new() }
    }

    /// Notes that a request begins to be handled.
    pub fn begin_request(&self) {
        self.turn(Doing::Handling);
    }

    /// Notes that a request is handled. What is left is sending the response.
    pub fn end_request(&self) {
        if self.state().0 != Doing::Streaming {
            self.turn(Doing::Idle);
        }
    }

    /// Notes that the response to the request being handled has no end: the connection stays as long as its peer takes
    /// something within the limit for idle ones.
    #[cfg(feature = "serve")]
    pub fn begin_stream(&self) {
        self.turn(Doing::Streaming);
    }

    /// Notes that such a response has ended after all.
    #[cfg(feature = "serve")]
    pub fn end_stream(&self) {
        self.turn(Doing::Idle);
    }

    /// Notes that the connection is closed.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the connection is closed.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns since when it waits for its peer; none while a request is being handled, or a stream is taken, or if it is
    /// being closed.
    pub fn waits_since(&self) -> Option<Instant> {
        let (doing, since) = self.state();
        (!matches!(doing, Doing::Handling | Doing::Streaming | Doing::Closing)).then_some(since)
    }

    /// Closes it, to make room for another one.
    pub fn close(&self) {
        self.turn(Doing::Closing);
        self.closing.notify_one();
    }

    /// Waits until the connection has to be closed, and returns why.
    pub async fn overdue(&self, limits: EdgeLimits) -> CloseReason {
        let wait = async {
            loop {
                let now = Instant::now();
                let (due, reason) = self.due(limits);
                if now >= due {
                    return reason;
                }
                // What begins from now on is not due before the shortest of the limits is over.
                tokio::time::sleep((due - now).min(limits.shortest())).await;
            }
        };
        futures_lite::future::or(wait, async {
            self.closing.notified().await;
            CloseReason::Room
        })
        .await
    }

    /// Returns when the connection is to be closed unless it does something else by then.
    fn due(&self, limits: EdgeLimits) -> (Instant, CloseReason) {
        let (doing, since) = self.state();
        match doing {
            Doing::Nothing => (since + limits.head_within, CloseReason::Idle),
            Doing::SendingHead => (since + limits.head_within, CloseReason::Slow),
            Doing::Handling => (since + limits.request_within, CloseReason::Slow),
            Doing::Idle => (since + limits.idle_within, CloseReason::Idle),
            Doing::Streaming => (since + limits.idle_within, CloseReason::Slow),
            Doing::Closing => (since, CloseReason::Room),
        }
    }

    /// Notes that something was read.
    fn receive(&self) {
        if matches!(self.state().0, Doing::Nothing | Doing::Idle) {
            self.turn(Doing::SendingHead);
        }
    }

    /// Notes that the peer took something.
    fn send(&self) {
        if self.state().0 == Doing::Streaming {
            self.turn(Doing::Streaming);
        }
    }

    fn state(&self) -> (Doing, Instant) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, doing: Doing) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (doing, Instant::now());
    }
}

impl EdgeLimits {
    fn shortest(self) -> Duration {
        self.head_within.min(self.request_within).min(self.idle_within)
    }
}

/// A connection's place among the open ones. Dropping it frees the place.
pub(super) struct Place {
    pub connection: Arc<Connection>,
    pub figures: Arc<EdgeFigures>,
    /// Notified when a place is free.
    pub ended: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.figures.connections.fetch_sub(1, Ordering::Relaxed);
        self.connection.end();
        self.ended.notify_one();
    }
}

/// The stream of a connection, which notes what is read and written. It holds the connection's place, also after an
/// upgrade.
pub(super) struct WatchedStream<S> {
    pub stream: S,
    pub place: Place,
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.place.connection.receive();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.place.connection.send();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.place.connection.send();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_limit() {
        let limits = EdgeLimits { head_within: Duration::from_secs(1), ..EdgeLimits::DEFAULT };
        let connection = Connection::new();
        let due = || {
            let (due, reason) = connection.due(limits);
            (due - connection.state().1, reason)
        };
        assert_eq!(due(), (limits.head_within, CloseReason::Idle));
        connection.receive();
        let began = connection.waits_since().expect("it waits for the rest of the head");
        connection.receive();
        assert_eq!(connection.waits_since(), Some(began), "a peer that sends byte by byte gains no time");
        assert_eq!(due(), (limits.head_within, CloseReason::Slow));
        connection.begin_request();
        assert_eq!((due(), connection.waits_since()), ((limits.request_within, CloseReason::Slow), None));
        connection.receive();
        assert_eq!(due().0, limits.request_within, "a body does not begin another request");
        connection.end_request();
        assert_eq!(due(), (limits.idle_within, CloseReason::Idle));
        connection.receive();
        assert_eq!(due(), (limits.head_within, CloseReason::Slow));
        connection.close();
        assert_eq!((due(), connection.waits_since()), ((Duration::ZERO, CloseReason::Room), None));
    }

    #[test]
    #[cfg(feature = "serve")]
    fn a_stream_lasts_as_long_as_its_peer_takes_it() {
        let connection = Connection::new();
        connection.begin_request();
        connection.begin_stream();
        connection.end_request();
        let due = |connection: &Connection| connection.due(EdgeLimits::DEFAULT);
        let first = due(&connection);
        assert_eq!((first.1, connection.waits_since()), (CloseReason::Slow, None));
        std::thread::sleep(Duration::from_millis(2));
        connection.receive();
        assert_eq!(due(&connection), first, "what a peer sends does not prove that it takes anything");
        connection.send();
        assert!(due(&connection).0 > first.0);
        connection.end_stream();
        assert!(connection.waits_since().is_some());
    }
}
