//! What is written to a client, and what becomes due once its bytes were written.
//!
//! The last stage of a message on its way to a client: the connection appends protocol text and says what is due behind
//! it, each poll writes as much as the socket takes, and the connection takes out and carries out what has become due.
//!
//! - Bytes leave in the order in which they were appended. Only the unwritten rest counts for the connection's limits.
//! - What is due comes out in its order, and never before the socket has taken every byte that was appended before it.
//!   TLS has a buffer of its own: there a byte counts once everything written was flushed.
//! - A client that reads slowly without ever reading everything does not let the buffer grow: the written part is
//!   dropped once it is both a whole buffer and half of what is there.
//! - A buffer without content belongs to the thread, and is shared by its connections.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite as _;

use super::BUFFER_BYTES;
use crate::edge::doors::stream::DoorStream;

/// Maximum capacity of a buffer that the thread keeps, in bytes.
const SPARE_BYTES_MAX: usize = 4 * BUFFER_BYTES;

thread_local! {
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The writing side of a byte stream.
pub(super) trait Writer {
    /// Returns the number of bytes that the socket has taken, those of TLS included.
    fn sent(&self) -> u64;

    /// Whether bytes that were written may not be on their way before they are flushed.
    fn holds_back(&self) -> bool;

    /// Writes the beginning of `bytes`, and returns its length.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what is held back.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Writer for DoorStream {
    fn sent(&self) -> u64 {
        self.sent()
    }

    fn holds_back(&self) -> bool {
        self.is_encrypted()
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(context, bytes)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(context)
    }
}

/// The output of a connection, with what is due once it was written.
pub(super) struct Output<D> {
    buffer: Vec<u8>,
    /// The length of the part of the buffer that was written.
    written: usize,
    needs_flush: bool,
    /// The number of bytes written before the buffer began.
    base: u64,
    /// The number of bytes that the socket has taken.
    flushed: u64,
    /// What is due once the socket has taken so many bytes.
    due: VecDeque<(u64, D)>,
    /// The number of bytes that the socket had taken, those of TLS included, when it was last looked at.
    sent: u64,
    /// Since when the client reads nothing although there is something for it.
    blocked: Option<Instant>,
}

impl<D> Output<D> {
    /// Creates the output of a connection to which `greeting` is written first.
    pub fn new(greeting: Vec<u8>) -> Self {
        Self {
            buffer: greeting,
            written: 0,
            needs_flush: false,
            base: 0,
            flushed: 0,
            due: VecDeque::new(),
            sent: 0,
            blocked: None,
        }
    }

    /// Takes the thread's buffer, unless there is one.
    pub fn borrow_buffer(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.with_borrow_mut(std::mem::take);
        }
    }

    /// Returns an empty buffer to the thread, which keeps the largest one of at most [`SPARE_BYTES_MAX`].
    pub fn return_buffer(&mut self) {
        if self.buffer.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            SPARE.with_borrow_mut(|spare| {
                if buffer.capacity() > spare.capacity() && buffer.capacity() <= SPARE_BYTES_MAX {
                    *spare = buffer;
                }
            });
        }
    }

    /// Returns the buffer to append protocol text to. What is in it stays as it is: its beginning may have been written.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Returns the number of bytes that wait to be written.
    pub fn unwritten_bytes(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Makes `due` come out of [`take_due`](Self::take_due) once everything up to here was written.
    pub fn once_written(&mut self, due: D) {
        self.due.push_back((self.base + self.buffer.len() as u64, due));
    }

    /// Whether something for which `matches` holds waits until it is due.
    pub fn has_due(&self, mut matches: impl FnMut(&D) -> bool) -> bool {
        self.due.iter().any(|(_, due)| matches(due))
    }

    /// Forgets everything for which `matches` holds, in the order in which it would have become due.
    pub fn forget_due(&mut self, mut matches: impl FnMut(&D) -> bool) {
        self.due.retain(|(_, due)| !matches(due));
    }

    /// Removes the next thing that is due, and returns it; `None` if its bytes were not written.
    pub fn take_due(&mut self) -> Option<D> {
        let (end, _) = self.due.front()?;
        if *end > self.flushed {
            return None;
        }
        self.due.pop_front().map(|(_, due)| due)
    }

    /// Returns since when the client reads nothing although there is something for it.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.blocked
    }

    /// Writes as much as `writer` takes. Returns whether that was anything.
    ///
    /// # Errors
    /// The stream is broken or closed. Nothing more becomes due.
    pub fn poll(&mut self, writer: &mut impl Writer, context: &mut Context<'_>) -> io::Result<bool> {
        debug_assert!(self.written <= self.buffer.len(), "callers only append");
        let worked = self.write(writer, context)?;
        let sent = writer.sent();
        if self.is_written() {
            self.blocked = None;
        } else if std::mem::replace(&mut self.sent, sent) != sent || self.blocked.is_none() {
            self.blocked = Some(Instant::now());
        }
        if !writer.holds_back() || !self.needs_flush {
            self.flushed = self.base + self.written as u64;
        }
        Ok(worked)
    }

    /// Writes everything that is left. It can be cancelled: what was written until then is not written again.
    ///
    /// # Errors
    /// The stream is broken or closed.
    pub async fn finish(&mut self, writer: &mut impl Writer) -> io::Result<()> {
        poll_fn(|context| {
            self.poll(writer, context)?;
            if self.is_written() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn is_written(&self) -> bool {
        self.written == self.buffer.len() && !self.needs_flush
    }

    fn write(&mut self, writer: &mut impl Writer, context: &mut Context<'_>) -> io::Result<bool> {
        let mut worked = false;
        while self.written < self.buffer.len() {
            match writer.poll_write(context, &self.buffer[self.written..])? {
                Poll::Pending => {
                    self.forget_written();
                    return Ok(worked);
                }
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(bytes) => self.written += bytes,
            }
            (worked, self.needs_flush) = (true, true);
        }
        self.base += self.written as u64;
        self.buffer.clear();
        self.written = 0;
        if self.needs_flush && writer.poll_flush(context)?.is_ready() {
            self.needs_flush = false;
        }
        Ok(worked)
    }

    /// Removes what was written from the buffer of a client that reads slowly, once it is the larger part: a client that
    /// never reads everything would let the buffer grow without limit.
    fn forget_written(&mut self) {
        if self.written >= BUFFER_BYTES.max(self.buffer.len() / 2) {
            self.base += self.written as u64;
            self.buffer.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A client that takes what there is room for.
    #[derive(Default)]
    struct Client {
        taken: Vec<u8>,
        room: usize,
        holds_back: bool,
        is_stuck: bool,
        is_closed: bool,
    }

    impl Writer for Client {
        fn sent(&self) -> u64 {
            self.taken.len() as u64
        }

        fn holds_back(&self) -> bool {
            self.holds_back
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.is_closed {
                return Poll::Ready(Ok(0));
            }
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.taken.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_stuck { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    fn poll(output: &mut Output<u32>, client: &mut Client) -> bool {
        output.poll(client, &mut Context::from_waker(Waker::noop())).expect("the client is there")
    }

    fn all_due(output: &mut Output<u32>) -> Vec<u32> {
        std::iter::from_fn(|| output.take_due()).collect()
    }

    #[test]
    fn what_is_due_waits_for_the_bytes_before_it() {
        let (mut output, mut client) = (Output::new(b"INFO".to_vec()), Client::default());
        output.once_written(1);
        output.buffer().extend_from_slice(b"MSG");
        output.once_written(2);
        output.once_written(3);
        assert!(!poll(&mut output, &mut client));
        assert_eq!(output.take_due(), None);
        client.room = 6;
        assert!(poll(&mut output, &mut client));
        assert_eq!((all_due(&mut output), output.unwritten_bytes()), (vec![1], 1));
        assert!(output.has_due(|due| *due == 3) && !output.has_due(|due| *due == 1));
        client.room = 1;
        assert!(poll(&mut output, &mut client));
        assert_eq!((all_due(&mut output), output.unwritten_bytes()), (vec![2, 3], 0));
        assert_eq!(client.taken, b"INFOMSG");
    }

    #[test]
    fn without_bytes_before_it_something_is_due_at_once() {
        let mut output = Output::new(Vec::new());
        output.once_written(1);
        assert_eq!(all_due(&mut output), [1]);
    }

    #[test]
    fn what_is_due_waits_until_a_stream_that_holds_back_was_flushed() {
        let mut output = Output::new(b"MSG".to_vec());
        let mut client = Client { room: 10, holds_back: true, is_stuck: true, ..Client::default() };
        output.once_written(1);
        assert!(poll(&mut output, &mut client));
        assert_eq!((all_due(&mut output), client.taken.len()), (vec![], 3));
        assert!(output.blocked_since().is_some());
        client.is_stuck = false;
        poll(&mut output, &mut client);
        assert_eq!((all_due(&mut output), output.blocked_since()), (vec![1], None));
    }

    #[test]
    fn a_client_that_never_reads_everything_does_not_let_the_buffer_grow() {
        let (mut output, mut client) = (Output::new(Vec::new()), Client::default());
        let chunk: Vec<u8> = (0..=250).cycle().take(BUFFER_BYTES / 4).collect();
        output.buffer().extend_from_slice(&chunk);
        for number in 0..100 {
            output.buffer().extend_from_slice(&chunk);
            output.once_written(number);
            client.room = chunk.len();
            poll(&mut output, &mut client);
            assert_eq!(output.unwritten_bytes(), chunk.len());
            assert!(output.buffer().len() <= BUFFER_BYTES + chunk.len(), "{}", output.buffer().len());
            // One chunk behind, also across what was dropped.
            assert_eq!(all_due(&mut output), if number == 0 { vec![] } else { vec![number - 1] });
        }
        assert_eq!(client.taken, chunk.repeat(100));
    }

    #[test]
    fn a_client_is_blocked_from_its_last_byte_on() {
        let (mut output, mut client) = (Output::new(b"INFO".to_vec()), Client::default());
        assert_eq!(output.blocked_since(), None);
        poll(&mut output, &mut client);
        let first = output.blocked_since().expect("it reads nothing");
        while Instant::now() <= first {}
        poll(&mut output, &mut client);
        assert_eq!(output.blocked_since(), Some(first));
        client.room = 1;
        poll(&mut output, &mut client);
        assert!(output.blocked_since().is_some_and(|since| since > first));
        client.room = 10;
        poll(&mut output, &mut client);
        assert_eq!(output.blocked_since(), None);
    }

    #[test]
    fn a_closed_stream_is_an_error_and_nothing_is_due() {
        let mut output = Output::new(b"MSG".to_vec());
        let mut client = Client { is_closed: true, ..Client::default() };
        output.once_written(1);
        let error = output.poll(&mut client, &mut Context::from_waker(Waker::noop())).expect_err("it is closed");
        assert_eq!((error.kind(), all_due(&mut output)), (io::ErrorKind::WriteZero, vec![]));
    }

    #[test]
    fn finishing_writes_only_what_is_left() {
        let mut output = Output::new(b"INFO".to_vec());
        let mut client = Client { room: 2, ..Client::default() };
        output.once_written(1);
        poll(&mut output, &mut client);
        let mut context = Context::from_waker(Waker::noop());
        client.room = 1;
        assert!(Box::pin(output.finish(&mut client)).as_mut().poll(&mut context).is_pending());
        assert_eq!(output.take_due(), None);
        client.room = 10;
        assert!(Box::pin(output.finish(&mut client)).as_mut().poll(&mut context).is_ready());
        assert_eq!((client.taken.as_slice(), all_due(&mut output)), (b"INFO".as_slice(), vec![1]));
    }

    #[test]
    fn an_empty_buffer_is_shared_unless_it_is_too_large() {
        let (mut output, mut other) = (Output::<u32>::new(Vec::new()), Output::<u32>::new(Vec::new()));
        output.buffer().reserve_exact(BUFFER_BYTES);
        let place = output.buffer().as_ptr();
        output.return_buffer();
        assert_eq!(output.buffer().capacity(), 0);
        other.borrow_buffer();
        assert_eq!(other.buffer().as_ptr(), place);
        // With something in it, it stays.
        other.buffer().push(0);
        other.return_buffer();
        assert_eq!(other.buffer().as_ptr(), place);
        output.buffer().reserve_exact(SPARE_BYTES_MAX + 1);
        output.return_buffer();
        output.borrow_buffer();
        assert_eq!(output.buffer().capacity(), 0);
    }
}
