//! One client: what it says is carried out in order, and what its agents receive is written to it.
//!
//! One task serves a connection; each time it is polled it does all that can be done. All messages of one read go into the
//! router together, and all that an inbox holds goes out in one write. The client is not read any further while
//!
//! - its messages find no room in the shard's channel, or too many of those of its next message's sender have not left it
//!   or the sender's [outbox](flow);
//! - it publishes faster than it may;
//! - too many of its messages wait to be acknowledged; or
//! - it does not read what is written to it.
//!
//! In the last case nothing is taken from its agents' inboxes either: their mailboxes' policies apply first. A client
//! that reads nothing for [`SLOW_AFTER`] is disconnected as a slow consumer.
//!
//! Buffers for reading and writing belong to the thread; a connection keeps only what is unfinished. What is written, and
//! what becomes due with that, is in [`output`].

mod deliver;
mod held;
mod input;
mod output;
mod publish;
mod subscribe;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use caxton_shards::api::{RegistrationError, SendErrorKind};
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message, MessageId};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Sleep;

pub(super) use self::held::Arrived;
use self::held::{Due, Holder};
use self::output::Output;
use super::exchanges::Exchanges;
use super::figures::Tally;
use super::heartbeats::Beats;
use super::mapping::Ack;
use super::options::{ClientOptions, ServerInfo};
use super::prompts::{Instance, Verb};
use super::protocol::{self, Parser, ProtocolError};
use super::{Door, Event, HandedOver, Post};
use crate::edge::doors::spin::TellingWaker;
use crate::edge::doors::stream::DoorStream;
use crate::edge::doors::{Attachment, DoorContext, Identity, OutsideError};
use crate::message::is_notice;
use crate::router::Inbox;
use crate::router::error::{BatchError, CallError};
use crate::router::flow::Flow;
use crate::router::inbox::InboxWait;

/// Maximum number of subscriptions of a connection.
const SUBSCRIPTIONS_MAX: usize = 1_024;
/// Size of the buffers for reading and writing, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes of output behind which nothing is taken from inboxes.
const OUTPUT_BYTES_MAX: usize = BUFFER_BYTES;
/// Bytes of output behind which no further copy of a reply is written.
const COPIES_BYTES_MAX: usize = 16 << 20;
/// Maximum length of a reply subject, in bytes.
const REPLY_SUBJECT_BYTES_MAX: usize = 256;
/// Maximum number of messages taken from an inbox at a time.
const TAKEN_MAX: usize = 256;
/// How long questions are remembered for their replies.
const REPLIES_WITHIN: Duration = Duration::from_mins(10);
/// Time for which a client may read nothing of what is written to it.
const SLOW_AFTER: Duration = Duration::from_secs(10);
/// Time for the handshake of TLS, and for a client to say who it is.
const AUTHENTICATED_WITHIN: Duration = Duration::from_secs(5);
/// Rounds after which a busy connection lets others have their turn.
const ROUNDS_MAX: usize = 8;
/// What a client is told that does not say who it is, or is unknown.
const AUTHORIZATION_VIOLATION: &str = "Authorization Violation";
/// What a client is told whose token has expired, or was removed or changed.
const AUTHORIZATION_ENDED: &str = "User Authentication Revoked";
/// What a client is told that does not read what is written to it.
const SLOW_CONSUMER: &str = "Slow Consumer";
/// What a client is told that does not say in time who it is.
const AUTHENTICATION_TIMEOUT: &str = "Authentication Timeout";
/// What a client is told of which nothing was heard for long.
const STALE_CONNECTION: &str = "Stale Connection";
/// What the subjects begin with at which clients await replies.
const INBOX: &[u8] = b"_INBOX.";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Serves one client until it is gone. Returns why that is, as a word.
pub(super) async fn serve(door: Arc<Door>, stream: TcpStream, peer: SocketAddr) -> &'static str {
    let number = door.connections.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & (u32::MAX >> 1);
    let access = door.context.access();
    let addresses = Addresses { local: stream.local_addr().unwrap_or(door.local), peer };
    let mut greeting = Vec::new();
    protocol::put_info(&mut greeting, &info(&door, number, addresses, false));
    let mut stream = DoorStream::new(stream);
    let secured = async {
        let Some(tls) = &access.tls else { return Ok(stream) };
        // The client learns here that it has to encrypt.
        stream.write_all(&std::mem::take(&mut greeting)).await?;
        stream.encrypt(Arc::clone(tls)).await
    };
    // A peer that does not get that far concerns nobody else.
    let Ok(Ok(stream)) = tokio::time::timeout(AUTHENTICATED_WITHIN, secured).await else { return "handshake" };
    drop(access);
    let post = Arc::new(Post::new(&door.figures));
    door.posts().insert(number, Arc::clone(&post));
    let mut connection = Connection::new(door, (number, addresses), stream, greeting, post);
    let end = poll_fn(|context| connection.poll(context)).await;
    connection.take_leave(&end).await;
    end.reason()
}

/// Both ends of a connection.
#[derive(Clone, Copy)]
struct Addresses {
    local: SocketAddr,
    peer: SocketAddr,
}

/// Returns what the server says about itself, and whether it is about to close the connection.
fn info(door: &Door, number: u32, addresses: Addresses, leaves: bool) -> String {
    let access = door.context.access();
    let info = ServerInfo {
        id: &door.id,
        local: addresses.local,
        peer: addresses.peer,
        number,
        payload_max: door.payload_max(),
        auth_required: access.requires_token(),
        tls_required: access.tls.is_some(),
        leaves,
    };
    info.to_json()
}

/// Waits until an identity has ended; without one, for ever.
fn end_of(identity: Option<Arc<Identity>>) -> Boxed<()> {
    Box::pin(async move {
        match identity {
            Some(identity) => identity.ended().await,
            None => std::future::pending().await,
        }
    })
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client has closed it, or it broke.
    Gone,
    /// What the client said is no operation, or too large.
    Protocol(ProtocolError),
    /// The client is told this.
    Refused(&'static str),
    /// The doors are being closed, or the router stops.
    Closing,
}

impl End {
    /// Returns the reason as a word.
    fn reason(&self) -> &'static str {
        match self {
            Self::Gone => "client",
            Self::Closing => "closing",
            Self::Protocol(_) => "protocol-error",
            Self::Refused(SLOW_CONSUMER) => "slow-consumer",
            Self::Refused(AUTHORIZATION_VIOLATION | AUTHORIZATION_ENDED) => "authorization",
            Self::Refused(AUTHENTICATION_TIMEOUT) => "authentication-timeout",
            Self::Refused(STALE_CONNECTION) => "idle",
            Self::Refused(_) => "no-agent",
        }
    }
}

/// An agent of this client.
struct Own {
    id: AgentId,
    name: Arc<str>,
    inbox: Source,
    wait: Option<InboxWait>,
    /// Until the connection that it was taken over from has given back what it had not written.
    handed_over: Option<HandedOver>,
    /// How much of what it sends is on its way.
    flow: Arc<Flow>,
    /// `None` if it is the client's for as long as it has chosen none.
    subscription: Option<Subscription>,
}

enum Source {
    /// With what ends when the agent is deregistered by others.
    Attached(Attachment, Boxed<()>),
    Anonymous(Arc<Inbox>),
}

impl Source {
    fn holder(&self) -> Holder {
        match self {
            Self::Attached(attachment, _) => Holder::Agent(Arc::clone(attachment.agent())),
            Self::Anonymous(inbox) => Holder::Anonymous(Arc::clone(inbox)),
        }
    }

    fn inbox(&self) -> &Inbox {
        match self {
            Self::Attached(attachment, _) => attachment.agent().inbox(),
            Self::Anonymous(inbox) => inbox,
        }
    }
}

/// A subscription of the client.
#[derive(Clone)]
struct Subscription {
    subject: Box<[u8]>,
    sid: Box<[u8]>,
    /// Whether it shares with others of its queue group.
    shares: bool,
    delivered: u64,
    /// The number of messages after which it ends.
    ends_after: Option<u64>,
}

impl Subscription {
    fn new(subject: &[u8], sid: &[u8], queue: Option<&[u8]>) -> Self {
        Self { subject: subject.into(), sid: sid.into(), shares: queue.is_some(), delivered: 0, ends_after: None }
    }

    /// Returns how many messages to take at a time.
    fn wanted(&self) -> usize {
        let rest = self.ends_after.map_or(u64::MAX, |after| after.saturating_sub(self.delivered));
        usize::try_from(rest).unwrap_or(TAKEN_MAX).clamp(1, TAKEN_MAX)
    }

    /// Counts a message, and returns whether the subscription ends with it.
    fn count(&mut self) -> bool {
        self.delivered += 1;
        self.ends_after.is_some_and(|after| self.delivered >= after)
    }
}

/// A message of this client that awaits a reply.
struct Asked {
    /// Its sender, to which replies are addressed.
    sender: AgentId,
    /// The agent that was asked, and is the only one to reply; `None` if the router chose it.
    receiver: Option<AgentId>,
    /// The subject for replies.
    reply: Box<[u8]>,
    ack: Ack,
    at: Instant,
}

impl Asked {
    /// Whether a message to this agent is a reply of the one that was asked, or a notice of the router.
    fn is_answered_by(&self, agent: AgentId, message: &Message) -> bool {
        self.sender == agent
            && (is_notice(message) || self.receiver.is_none_or(|receiver| message.sender() == Some(receiver)))
    }
}

/// A message that was delivered to this client and may be replied to.
#[derive(Clone)]
struct Question {
    message: Message,
    /// Whether it was part of the reply to a prompt.
    to_prompt: bool,
}

/// What the client's next operation has to wait for.
enum Step {
    /// The batch to be handed over.
    HandOver { future: Boxed<Result<(), BatchError>>, sender: AgentId, messages: usize, bytes: usize },
    /// A subscription's agent to be registered.
    Register { future: Boxed<Result<Attachment, OutsideError>>, name: AgentName, wanted: Subscription },
    /// The client's own agent to be registered, as it has chosen none.
    Open { future: Boxed<Result<Inbox, CallError<RegistrationError>>>, name: Arc<str> },
    /// The agents that can be prompted to be found.
    Discover { future: Boxed<Vec<Instance>>, verb: Verb, instance: Option<Box<[u8]>>, reply: Box<[u8]> },
    /// A message to be accepted for which there was no room at once.
    Send { future: Boxed<Result<MessageId, SendErrorKind>>, reply: Box<[u8]> },
}

/// Whether an operation was carried out, or is tried again after the step.
#[derive(PartialEq, Eq)]
enum Performed {
    Done,
    Later,
}

#[allow(clippy::struct_excessive_bools)] // Each stands for one thing that is due.
struct Connection {
    door: Arc<Door>,
    number: u32,
    addresses: Addresses,
    stream: DoorStream,
    parser: Parser,
    /// Bytes that were read and not carried out.
    input: Vec<u8>,
    /// Whether the input may hold a whole operation.
    input_is_due: bool,
    output: Output<Due>,
    /// Whether there is more for the client than the memory for its output holds.
    is_slow: bool,
    options: ClientOptions,
    identity: Option<Arc<Identity>>,
    /// Ends with the identity.
    identity_ended: Boxed<()>,
    /// Whether the identity permits to send, as of the last read.
    may_send: bool,
    /// Agents that it has subscribed to, in their order. The first one is the sender of what it publishes.
    agents: Vec<Own>,
    anonymous: Option<Own>,
    anonymous_names: u32,
    /// Subscriptions for replies.
    replies: Vec<Subscription>,
    /// The next heartbeats of agents, as long as there are subscriptions for them.
    beats: Option<Boxed<Beats>>,
    /// The subject published to last, and its agent.
    last_address: (Vec<u8>, Option<AgentId>),
    last_sender: Option<(AgentId, Option<Arc<str>>)>,
    batch: Vec<Message>,
    batch_bytes: usize,
    batch_sender: Option<AgentId>,
    /// The window of an agent that is to send the next message, and has no room for it.
    blocked: Option<Arc<Flow>>,
    /// Until the client may publish again, as it was too fast.
    slowed: Option<Pin<Box<Sleep>>>,
    /// Whether the next message counts as published, although it had to wait.
    is_counted: bool,
    step: Option<Step>,
    acks: usize,
    acknowledged: u64,
    asked: Exchanges<Asked>,
    /// Messages that were delivered and may be replied to.
    questions: Exchanges<Question>,
    /// The place of the agent whose inbox has its turn.
    next_inbox: usize,
    /// Messages out of an inbox, each with whether it is to be acknowledged.
    taken: Vec<(Message, bool)>,
    /// Messages that wait for their senders' names.
    unnamed: VecDeque<Arrived>,
    look_up: Option<(AgentId, Boxed<Option<Arc<str>>>)>,
    post: Arc<Post>,
    waker: TellingWaker,
    /// What the client published, and what was written for it, since the last poll.
    published: Tally,
    delivered: Tally,
    closing: Boxed<()>,
    timer: Pin<Box<Sleep>>,
    heard: Instant,
    pinged: bool,
}

impl Connection {
    fn new(
        door: Arc<Door>,
        (number, addresses): (u32, Addresses),
        stream: DoorStream,
        greeting: Vec<u8>,
        post: Arc<Post>,
    ) -> Self {
        let mut closing = door.context.closing.clone();
        let access = door.context.access();
        let identity = if access.requires_token() { None } else { access.identify(None).ok() };
        let first_check = if identity.is_some() { door.context.idle() / 2 } else { AUTHENTICATED_WITHIN };
        Self {
            number,
            addresses,
            stream,
            parser: Parser::new(door.payload_max()),
            input: Vec::new(),
            input_is_due: false,
            output: Output::new(greeting),
            is_slow: false,
            options: ClientOptions::default(),
            may_send: false,
            identity_ended: end_of(identity.clone()),
            identity,
            agents: Vec::new(),
            anonymous: None,
            anonymous_names: 0,
            replies: Vec::new(),
            beats: None,
            last_address: (Vec::new(), None),
            last_sender: None,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_sender: None,
            blocked: None,
            slowed: None,
            is_counted: false,
            step: None,
            acks: 0,
            acknowledged: 0,
            asked: Exchanges::default(),
            questions: Exchanges::default(),
            next_inbox: 0,
            taken: Vec::new(),
            unnamed: VecDeque::new(),
            look_up: None,
            post,
            waker: TellingWaker::default(),
            published: Tally::default(),
            delivered: Tally::default(),
            closing: Box::pin(async move {
                let _ = closing.wait_for(|closing| *closing).await;
            }),
            timer: Box::pin(tokio::time::sleep(first_check)),
            heard: Instant::now(),
            pinged: false,
            door,
        }
    }

    fn context(&self) -> &DoorContext {
        &self.door.context
    }

    /// Does all that can be done now.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let waker = self.waker.of(context, &self.door.context.woken);
        self.output.borrow_buffer();
        let polled = self.poll_all(&mut Context::from_waker(&waker));
        self.output.return_buffer();
        self.door.figures.add(&mut self.published, &mut self.delivered);
        match polled {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        if self.closing.as_mut().poll(context).is_ready() {
            return Err(End::Closing);
        }
        if self.identity_ended.as_mut().poll(context).is_ready() {
            return Err(End::Refused(AUTHORIZATION_ENDED));
        }
        for _ in 0..ROUNDS_MAX {
            let mut worked = self.poll_step(context)?;
            // Also while the window is closed: nothing but handing them over opens it.
            self.hand_over(context)?;
            worked |= self.poll_room(context) | self.poll_slowed(context);
            worked |= self.poll_input(context)?;
            worked |= self.poll_post(context)?;
            worked |= self.poll_inboxes(context)?;
            worked |= self.poll_heartbeats(context);
            if self.is_slow {
                return Err(End::Refused(SLOW_CONSUMER));
            }
            worked |= self.poll_output(context)?;
            if !worked {
                return self.poll_timer(context);
            }
        }
        context.waker().wake_by_ref();
        self.poll_timer(context)
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let Some(step) = &mut self.step else { return Ok(false) };
        match step {
            Step::Send { future, .. } => {
                let Poll::Ready(result) = future.as_mut().poll(context) else { return Ok(false) };
                if let Some(Step::Send { reply, .. }) = self.step.take() {
                    self.post.put(Event::Sent { reply, result });
                }
            }
            Step::HandOver { future, sender, messages, bytes } => {
                let Poll::Ready(handed) = future.as_mut().poll(context) else { return Ok(false) };
                let (sender, messages, bytes) = (*sender, *messages, *bytes);
                self.step = None;
                handed.map_err(|_| End::Closing)?;
                self.count_handed_over(sender, messages, bytes);
            }
            Step::Register { future, .. } => {
                let Poll::Ready(registered) = future.as_mut().poll(context) else { return Ok(false) };
                if let Some(Step::Register { name, wanted, .. }) = self.step.take() {
                    self.finish_registration(registered, &name, wanted);
                }
            }
            Step::Discover { future, .. } => {
                let Poll::Ready(found) = future.as_mut().poll(context) else { return Ok(false) };
                if let Some(Step::Discover { verb, instance, reply, .. }) = self.step.take() {
                    self.describe_agents(verb, &found, instance.as_deref(), &reply);
                }
            }
            Step::Open { future, .. } => {
                let Poll::Ready(opened) = future.as_mut().poll(context) else { return Ok(false) };
                if let Some(Step::Open { name, .. }) = self.step.take() {
                    self.finish_opening(opened, name)?;
                }
            }
        }
        self.input_is_due = true;
        Ok(true)
    }

    /// Goes on once there is room for the client's next message.
    fn poll_room(&mut self, context: &mut Context<'_>) -> bool {
        let Some(flow) = self.blocked.as_ref().filter(|_| self.step.is_none()) else { return false };
        if flow.poll_room(self.number, context).is_pending() {
            return false;
        }
        self.blocked = None;
        self.input_is_due = true;
        true
    }

    /// Goes on once the client may publish again.
    fn poll_slowed(&mut self, context: &mut Context<'_>) -> bool {
        if self.slowed.as_mut().is_none_or(|slowed| slowed.as_mut().poll(context).is_pending()) {
            return false;
        }
        self.slowed = None;
        self.input_is_due = true;
        true
    }

    fn poll_output(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let worked = self.output.poll(&mut self.stream, context).map_err(|_| End::Gone)?;
        self.acknowledge_written();
        Ok(worked)
    }

    /// Acknowledges messages that were written to the socket, and gives up the agents that waited for that.
    fn acknowledge_written(&mut self) {
        while let Some(due) = self.output.take_due() {
            due.carry_out();
        }
    }

    /// Disconnects a client that is gone, or does not read.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        if let Some(since) = self.output.blocked_since() {
            let ends = since + SLOW_AFTER;
            if self.timer.deadline().into_std() > ends {
                self.timer.as_mut().reset(ends.into());
            }
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if self.identity.is_none() {
                return Err(End::Refused(AUTHENTICATION_TIMEOUT));
            }
            self.asked.expire(now);
            self.questions.expire(now);
            if self.output.blocked_since().is_some_and(|since| now >= since + SLOW_AFTER) {
                return Err(End::Refused(SLOW_CONSUMER));
            }
            let idle = self.context().idle();
            let silent = now.saturating_duration_since(self.heard);
            // While it is not read, nothing can be heard of it.
            if silent >= idle && self.takes_input() {
                return Err(End::Refused(STALE_CONNECTION));
            }
            if silent >= idle / 2 && !self.pinged {
                self.pinged = true;
                protocol::put_ping(self.output.buffer());
                context.waker().wake_by_ref();
            }
            let next = if silent >= idle / 2 { self.heard + idle } else { self.heard + idle / 2 };
            self.timer.as_mut().reset(next.max(now + Duration::from_millis(10)).into());
        }
        Ok(())
    }

    /// Tells the client why it is disconnected, as far as it reads that at once.
    async fn take_leave(&mut self, end: &End) {
        match end {
            End::Gone => {}
            End::Closing => {
                protocol::put_info(self.output.buffer(), &info(&self.door, self.number, self.addresses, true));
            }
            End::Protocol(error) => protocol::put_error(self.output.buffer(), error.as_str()),
            End::Refused(text) => protocol::put_error(self.output.buffer(), text),
        }
        if matches!(end, End::Gone) {
            return;
        }
        let said = self.output.finish(&mut self.stream);
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(100), said).await {
            self.acknowledge_written();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.door.posts().remove(&self.number);
        // Before connections that have taken agents over go on.
        self.unnamed.clear();
        self.output.forget_due(|_| true);
        self.post.close();
        for own in &self.agents {
            self.door.forget_subscriber(own.id, self.number);
        }
        if let Some(own) = &self.anonymous {
            self.door.forget_name(own.id);
        }
    }
}
