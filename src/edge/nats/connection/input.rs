//! What a client says: it is read in pieces, and carried out in order.
//!
//! Whole operations are carried out where they were read, in the thread's buffer; only an unfinished one is kept. An
//! operation that has to wait stays in the input, and is tried again when what it waits for has happened.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead as _, ReadBuf};

use super::{AUTHORIZATION_VIOLATION, BUFFER_BYTES, Connection, End, Performed, Subscription, end_of};
use crate::edge::doors::Operation as Right;
use crate::edge::doors::rates::TooFast;
use crate::edge::doors::stream::DoorStream;
use crate::edge::nats::options::ClientOptions;
use crate::edge::nats::protocol::{self, Operation, ProtocolError};

/// Bytes of output behind which a client is not read.
const UNREAD_BYTES_MAX: usize = 256 << 10;
/// Maximum number of messages that wait to be acknowledged.
const ACKS_MAX: usize = 4_096;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Reads into `buffer`, and returns the number of bytes; zero at the end of the stream.
fn read_from(stream: &mut DoorStream, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    let polled = Pin::new(stream).poll_read(context, &mut buffer);
    polled.map_ok(|()| buffer.filled().len())
}

impl Connection {
    /// Whether the client may publish a message now. Otherwise nothing more is carried out until it may.
    fn is_in_time(&mut self) -> bool {
        if self.is_counted || !self.door.context.published.are_limited() {
            return true;
        }
        let Some(identity) = &self.identity else { return true };
        match self.door.context.published.take(identity.name(), Instant::now()) {
            Ok(()) => self.is_counted = true,
            Err(TooFast { wait, .. }) => self.slowed = Some(Box::pin(tokio::time::sleep(wait))),
        }
        self.is_counted
    }

    /// Whether the client's next operations can be carried out.
    pub(super) fn takes_input(&self) -> bool {
        self.step.is_none()
            && self.blocked.is_none()
            && self.slowed.is_none()
            && self.acks < ACKS_MAX
            && self.output.unwritten_bytes() < UNREAD_BYTES_MAX
    }

    /// Reads once, and carries out what was read.
    pub(super) fn poll_input(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if !self.takes_input() {
            return Ok(false);
        }
        if std::mem::take(&mut self.input_is_due) {
            let mut input = std::mem::take(&mut self.input);
            let done = self.carry_out(&input, context)?;
            input.drain(..done);
            self.input = input;
            return Ok(true);
        }
        let read = if self.input.len() > BUFFER_BYTES / 2 {
            self.read_more(context)?
        } else {
            INPUT.with_borrow_mut(|buffer| self.read_into(buffer, context))?
        };
        if read {
            self.heard = Instant::now();
            self.pinged = false;
        }
        Ok(read)
    }

    /// Reads behind the unfinished operation, which is copied to the front of the buffer.
    fn read_into(&mut self, buffer: &mut [u8], context: &mut Context<'_>) -> Result<bool, End> {
        let begin = self.input.len();
        let Poll::Ready(read) = read_from(&mut self.stream, context, &mut buffer[begin..]) else { return Ok(false) };
        let end = match read {
            Ok(0) | Err(_) => return Err(End::Gone),
            Ok(bytes) => begin + bytes,
        };
        buffer[..begin].copy_from_slice(&self.input);
        self.may_send = self.identity.as_ref().is_some_and(|identity| identity.may(Right::Send));
        let done = self.carry_out(&buffer[..end], context)?;
        self.input.clear();
        if done < end {
            self.input.reserve(self.parser.wanted().min(self.door.payload_max() + BUFFER_BYTES).max(end - done));
            self.input.extend_from_slice(&buffer[done..end]);
        } else if self.input.capacity() > BUFFER_BYTES {
            self.input = Vec::new();
        }
        Ok(true)
    }

    /// Reads more of a large message.
    fn read_more(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let begin = self.input.len();
        let more = self.parser.wanted().saturating_sub(begin).clamp(BUFFER_BYTES, 4 * BUFFER_BYTES);
        self.input.resize(begin + more, 0);
        let read = read_from(&mut self.stream, context, &mut self.input[begin..]);
        let end = match read {
            Poll::Pending => begin,
            Poll::Ready(Ok(0) | Err(_)) => return Err(End::Gone),
            Poll::Ready(Ok(bytes)) => begin + bytes,
        };
        self.input.truncate(end);
        self.input_is_due = end > begin;
        Ok(self.input_is_due)
    }

    /// Carries out operations, and returns how many bytes they are. The rest has to wait, or is not complete.
    fn carry_out(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Result<usize, End> {
        let mut done = 0;
        while self.takes_input() {
            let Some((operation, length)) = self.parser.next(&bytes[done..]).map_err(End::Protocol)? else { break };
            if self.perform(operation, context)? == Performed::Later {
                break;
            }
            done += length;
        }
        // What is left may be complete, but then something is awaited whose end makes it due.
        self.input_is_due = !self.takes_input();
        self.hand_over(context)?;
        Ok(done)
    }

    fn perform(&mut self, operation: Operation<'_>, context: &mut Context<'_>) -> Result<Performed, End> {
        if self.identity.is_none() && !matches!(operation, Operation::Connect(_)) {
            return Err(End::Refused(AUTHORIZATION_VIOLATION));
        }
        if matches!(operation, Operation::Subscribe { .. } | Operation::Unsubscribe { .. }) {
            // What was published before is sent first, as an agent that may be given up now.
            self.hand_over(context)?;
            if self.step.is_some() {
                return Ok(Performed::Later);
            }
        }
        match operation {
            Operation::Publish(publication) => {
                if !self.is_in_time() {
                    return Ok(Performed::Later);
                }
                let performed = self.publish(&publication, context)?;
                if performed == Performed::Done {
                    self.is_counted = false;
                    self.published.count(publication.payload.len() + publication.headers.len());
                }
                return Ok(performed);
            }
            Operation::Connect(json) => self.connect(json)?,
            Operation::Subscribe { subject, queue, sid } => self.subscribe(&Subscription::new(subject, sid, queue)),
            Operation::Unsubscribe { sid, after } => self.unsubscribe(sid, after),
            Operation::Ping => {
                protocol::put_pong(self.output.buffer());
                return Ok(Performed::Done);
            }
            Operation::Pong | Operation::Ok => return Ok(Performed::Done),
            Operation::Error(_) => return Err(End::Gone),
        }
        self.acknowledge();
        Ok(Performed::Done)
    }

    /// Acknowledges an operation, if the client wants that.
    pub(super) fn acknowledge(&mut self) {
        if self.options.verbose {
            protocol::put_ok(self.output.buffer());
        }
    }

    fn connect(&mut self, json: &[u8]) -> Result<(), End> {
        let Some(mut options) = ClientOptions::read(json) else {
            return Err(End::Protocol(ProtocolError::UnknownOperation));
        };
        let token = options.take_token();
        let identity = self.context().access().identify(token.as_deref());
        let identity = identity.map_err(|_| End::Refused(AUTHORIZATION_VIOLATION))?;
        // Agents that are registered already are those of the former identity.
        if self.identity.as_ref().is_some_and(|former| former.name() != identity.name()) {
            return Err(End::Refused(AUTHORIZATION_VIOLATION));
        }
        self.identity_ended = end_of(Some(Arc::clone(&identity)));
        self.identity = Some(identity);
        self.may_send = self.identity.as_ref().is_some_and(|identity| identity.may(Right::Send));
        self.options = options;
        Ok(())
    }
}
