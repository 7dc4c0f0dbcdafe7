//! Inputs of a shard besides messages from other shards, and its outputs to the world.
//!
//! A shard's driver passes [`Input`]s in and takes [`Output`]s out; a [`Token`] correlates a request with its response.

pub use crate::base::index::{InboxNumber, Token};
pub use crate::base::time::Now;
pub use crate::outcome::Stage;
pub use crate::replies::asks::Awaited;
use std::sync::Arc;

use crate::base::index::{AgentIndex, ShardIndex};
use crate::conversation::Conformance;
use crate::conversation::{ConversationFilter, ConversationPortion, ConversationView};
use crate::dead_letter::{DeadLetterId, DeadLetterSearch};
use crate::domain::DomainError;
use crate::flow_control::policy::OverflowPolicy;
use crate::journal::record::Lsn;
use crate::message::{AgentId, ConversationId, Message, MessageId, Term};
use crate::routing::capabilities::Provider;
use crate::shard::agent::Registration;
pub use crate::shard::control::journal::{Attempt, AttemptMark, Ending, FULL_PATIENCE_MS, JournalCondition};
use crate::shard::control::lifecycle::{AgentFilter, AgentPortion, AgentView, Drained, LifecycleError};
use crate::shard::control::replay::{DeadLetterPortion, ReplayPortion};
pub use crate::shard::control::survey::{
    AGENTS_SURVEYED_PER_TURN, CONVERSATIONS_SURVEYED_PER_TURN, ConsumerState, SLOW_CONSUMERS_MAX, SlowConsumer,
};
use crate::shard::delivery_error::DeliveryError;
pub use crate::shard::event::{Event, EventDetail};
use crate::shard::live_config::LiveConfig;
use crate::stats::account::Account;

/// An input of a shard.
pub enum Input {
    /// Admits a message. Failures are reported to its sender by notices, as to any agent.
    Tell(Message),
    /// Admits a message and responds with [`Answer::Sent`]. While its receiver is closed it is queued, and is refused
    /// if its lifetime ends first.
    Send(Message, Token),
    /// Like [`Input::Send`], but refuses a message whose receiver is closed at once.
    TrySend(Message, Token),
    /// Admits a message from the shard's gateway and responds with its reply, or with the receipt that it asks for:
    /// [`Answer::Replied`].
    Ask {
        /// The question. Its sender becomes the gateway.
        message: Message,
        /// What the response is.
        awaited: Awaited,
        /// How long to wait for the reply, in milliseconds. A `reply-by` of the question shortens it.
        timeout_ms: u64,
        /// The token of the response.
        token: Token,
    },
    /// Adds agents and responds with [`Answer::Registered`] once every shard knows their capabilities.
    Register(Vec<Registration>, Token),
    /// Removes an agent and responds with [`Answer::Deregistered`].
    Deregister(AgentId, Token),
    /// Suspends an agent, and responds with [`Answer::Changed`].
    Suspend(AgentId, Token),
    /// Resumes a suspended agent, and responds with [`Answer::Changed`].
    Resume(AgentId, Token),
    /// Drains an agent, removes it, and then responds with [`Answer::Drained`].
    DrainAgent {
        /// The agent.
        agent: AgentId,
        /// The deadline in milliseconds. Messages not handled by then are dead-lettered.
        within_ms: u64,
        /// The token of the response.
        token: Token,
    },
    /// Responds with [`Answer::Agent`].
    Agent(AgentId, Token),
    /// Responds with [`Answer::Room`] as soon as at most so many messages of an agent are on their way: in its outbox, or
    /// waiting for closed receivers. It stays behind the messages before it.
    AwaitRoom {
        /// The agent.
        agent: AgentId,
        /// The number of messages.
        at_most: u32,
        /// The token of the response.
        token: Token,
    },
    /// Responds with [`Answer::Agents`].
    Agents {
        /// Which agents.
        filter: Box<AgentFilter>,
        /// Only agents behind this place.
        after: Option<AgentIndex>,
        /// The number of agents at most, up to
        /// [`AGENTS_PER_ANSWER_MAX`](crate::shard::control::lifecycle::AGENTS_PER_ANSWER_MAX).
        limit: usize,
        /// The token of the response.
        token: Token,
    },
    /// The owner of an inbox took messages out of it.
    Taken {
        /// The inbox's agent. Ignored if it has another inbox by now.
        agent: AgentId,
        /// The inbox.
        inbox: InboxNumber,
        /// The number of messages from other agents.
        messages: u32,
        /// The number of notices from the router: see [`is_notice`](crate::message::notice::is_notice).
        notices: u32,
    },
    /// The owner of an inbox has finished these messages. The numbers count the messages from other agents delivered to
    /// it, starting at 1. They arrive in any order, each once, and only from an agent that was registered as
    /// [acknowledged](crate::shard::agent::Registration::acknowledged). What is reported as [taken](Self::Taken) is not
    /// among them.
    Acknowledged {
        /// The inbox's agent. Ignored if it has another inbox by now.
        agent: AgentId,
        /// The inbox.
        inbox: InboxNumber,
        /// The numbers of the messages.
        numbers: Vec<u64>,
    },
    /// The owner of an inbox has given these messages up, which were handed out and not acknowledged: they become dead
    /// letters.
    Rejected {
        /// The inbox's agent. Ignored if it has another inbox by now.
        agent: AgentId,
        /// The inbox.
        inbox: InboxNumber,
        /// The messages.
        messages: Vec<Rejection>,
    },
    /// The owner of an agent's inbox dropped it with these messages in it. Ignored if the agent has another inbox, or
    /// none.
    Closed(AgentId, InboxNumber, Vec<Message>),
    /// An inbox returns these messages, which its owner has not taken, and stays open: the shard was told to
    /// [stop](Self::Stop), and its owner may still read the router's notices. Ignored if the agent has another inbox,
    /// or none.
    Returned(AgentId, InboxNumber, Vec<Message>),
    /// Delivers a notice of another node's router to an agent of this router, like one of its own notices. It is
    /// dropped if the agent is not registered, or if it is not a [notice](crate::message::notice::is_notice).
    Notice(Message),
    /// No node has this agent, which was [wanted](Output::Wanted). The messages that wait for it are given up, except
    /// those of an earlier run. Ignored if it is not wanted any more.
    Unwanted {
        /// The agent.
        agent: AgentId,
        /// Why the messages are dead-lettered, in words. Their senders are told so too.
        why: Box<str>,
    },
    /// Starts to look on other nodes for agents that are not registered and that messages of an earlier run wait for.
    /// Persistent agents are not looked for. At most [`WANTED_MAX`](crate::api::WANTED_MAX) agents are looked for at
    /// the same time; agents that have not had their turn come first.
    WantAbsent,
    /// Responds with [`Answer::Providers`].
    Discover(Term, Token),
    /// Responds with [`Answer::Conversation`].
    Conversation(AgentId, ConversationId, Token),
    /// Responds with [`Answer::Conversations`].
    Conversations {
        /// Which conversations.
        filter: Box<ConversationFilter>,
        /// Only conversations behind this place.
        after: Option<u32>,
        /// The number of conversations at most, up to
        /// [`CONVERSATIONS_PER_ANSWER_MAX`](crate::conversation::CONVERSATIONS_PER_ANSWER_MAX).
        limit: usize,
        /// The token of the response.
        token: Token,
    },
    /// Responds with [`Answer::DeadLetters`]: newest first, at most this many and
    /// [`LETTERS_PER_ANSWER_MAX`](crate::dead_letter::LETTERS_PER_ANSWER_MAX).
    DeadLetters(Box<DeadLetterSearch>, usize, Token),
    /// Replays dead letters, to their receivers or to this agent, and responds with [`Answer::DeadLettersReplayed`].
    ReplayDeadLetters(Box<DeadLetterSearch>, Option<AgentId>, Token),
    /// Deletes dead letters and responds with [`Answer::DeadLettersPurged`].
    PurgeDeadLetters(Box<DeadLetterSearch>, Token),
    /// Looks for the agents whose messages have waited longest, up to this many and [`SLOW_CONSUMERS_MAX`], and responds
    /// with [`Answer::SlowConsumers`]. It takes one turn for each [`AGENTS_SURVEYED_PER_TURN`] agents.
    SlowConsumers(usize, Token),
    /// Replaces routing rules, protocols, plugins and limits by those of a later version, and responds with
    /// [`Answer::Reconfigured`] where there is a token.
    Reconfigure(Box<LiveConfig>, Option<Token>),
    /// Responds with [`Answer::Snapshot`].
    Inspect(Token),
    /// The callers of these requests no longer wait. A pending ask is removed: a reply to it is one that nobody waits
    /// for. A queued [`Input::Send`] is removed and not accepted. An [`Input::AwaitRoom`] ends. Everything else continues,
    /// and its response is ignored.
    Cancel(Vec<Token>),
    /// Sets which events are reported.
    WatchEvents(EventDetail),
    /// Everything up to this record is durable.
    Committed(Lsn),
    /// Whether the journal accepts records has changed.
    Journal(JournalCondition),
    /// Rewrites everything still needed whose record is not after this one (compaction).
    CarryForward(Lsn),
    /// Rewrites messages that still wait and whose record is not after this one, so that the projection shows them;
    /// each once.
    ShowWaiting(Lsn),
    /// Admits nothing more from outside.
    Drain,
    /// Gives up everything pending, and whatever arrives from now on.
    Stop,
}

impl Input {
    /// Whether it needs room for a message, or waits until those before it have found it. Other inputs may free room, so
    /// they do not wait behind one that needs it.
    pub(crate) fn needs_room(&self) -> bool {
        let waits = matches!(self, Self::AwaitRoom { .. });
        waits || matches!(self, Self::Tell(_) | Self::Send(..) | Self::TrySend(..) | Self::Ask { .. })
    }

    /// Returns the token of its response, if it has one.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Send(_, token)
            | Self::TrySend(_, token)
            | Self::Ask { token, .. }
            | Self::Register(_, token)
            | Self::Deregister(_, token)
            | Self::Suspend(_, token)
            | Self::Resume(_, token)
            | Self::DrainAgent { token, .. }
            | Self::Agent(_, token)
            | Self::AwaitRoom { token, .. }
            | Self::Agents { token, .. }
            | Self::Discover(_, token)
            | Self::Conversation(_, _, token)
            | Self::Conversations { token, .. }
            | Self::DeadLetters(_, _, token)
            | Self::ReplayDeadLetters(_, _, token)
            | Self::PurgeDeadLetters(_, token)
            | Self::SlowConsumers(_, token)
            | Self::Inspect(token) => Some(*token),
            Self::Reconfigure(_, token) => *token,
            Self::Tell(_)
            | Self::Taken { .. }
            | Self::Acknowledged { .. }
            | Self::Rejected { .. }
            | Self::Closed(..)
            | Self::Returned(..)
            | Self::Notice(_)
            | Self::Unwanted { .. }
            | Self::WantAbsent
            | Self::Cancel(_)
            | Self::WatchEvents(_)
            | Self::Committed(_)
            | Self::Journal(_)
            | Self::CarryForward(_)
            | Self::ShowWaiting(_)
            | Self::Drain
            | Self::Stop => None,
        }
    }
}

/// A message that the owner of an inbox has given up.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Its number among the messages from other agents delivered to the inbox, starting at 1.
    pub number: u64,
    /// The message, as it was handed out.
    pub message: Message,
    /// The reason in words, for its dead letter and its sender.
    pub why: Box<str>,
}

/// An output of a shard.
pub enum Output {
    /// The response to a request.
    Answer(Token, Answer),
    /// A message for an inbox. The shard never sends more than the inbox has room for.
    Deliver(InboxNumber, Message),
    /// The inbox is to be closed, because the deadline of its agent's drain is over: an [`Input::Closed`] with what was not
    /// processed has to follow. The agent is removed then.
    CloseInbox(InboxNumber),
    /// The inbox has no agent any more: it gets nothing further.
    InboxEnded(InboxNumber),
    /// Messages wait for an agent that is not registered here and may live on another node. The owner of the shard
    /// either registers it, usually as a [proxy](crate::shard::agent::Registration::proxy), or responds with
    /// [`Input::Unwanted`]. Until then the agent is not reported again.
    Wanted(AgentId),
    /// An event for observers.
    Event(Event),
}

/// The response to an [`Input`] with a token.
pub enum Answer {
    /// The message was accepted under this id, or refused. A durable one is on disk.
    Sent(Result<MessageId, SendError>),
    /// The durable message was accepted under this id, but did not become durable.
    NotKept(MessageId, Ending),
    /// The reply or the receipt, or why there is none.
    Replied(Result<Message, AskError>),
    /// For each registration in order: the agent's id, or why it was not added.
    Registered(Vec<Result<AgentId, RegistrationError>>),
    /// Whether the agent existed.
    Deregistered(bool),
    /// The agent's state was changed, or why not.
    Changed(Result<(), LifecycleError>),
    /// The agent was drained, or why not.
    Drained(Result<Drained, LifecycleError>),
    /// The agent, if it exists or existed recently.
    Agent(Option<Box<AgentView>>),
    /// The number of the agent's messages on their way, or why none is awaited.
    Room(Result<u32, RoomError>),
    /// A portion of the shard's agents.
    Agents(AgentPortion),
    /// The providers of the capability.
    Providers(Vec<Provider>),
    /// The conversation, if it is open.
    Conversation(Option<Box<ConversationView>>),
    /// A portion of the shard's open conversations.
    Conversations(ConversationPortion),
    /// The dead letters found.
    DeadLetters(DeadLetterPortion),
    /// The result of replaying dead letters.
    DeadLettersReplayed(Box<ReplayPortion>),
    /// Dead letters were deleted.
    DeadLettersPurged {
        /// The number deleted.
        letters: u64,
        /// If newer letters were not examined, the one after which to continue.
        next: Option<DeadLetterId>,
    },
    /// Agents with waiting messages, the slowest first.
    SlowConsumers(Vec<SlowConsumer>),
    /// The shard has this version, or a later one.
    Reconfigured,
    /// The shard's figures.
    Snapshot(Box<Snapshot>),
}

/// A shard's figures at the end of a step.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// The account.
    pub account: Account,
    /// Registered agents, without the shard's own gateway.
    pub agents: usize,
    /// Open conversations.
    pub conversations: usize,
    /// Conversations opened so far.
    pub conversations_opened: u64,
    /// Dead letters kept.
    pub dead_letters: usize,
    /// Dead letters dropped for newer ones, so far.
    pub dead_letters_dropped: u64,
    /// Dead letters replayed, so far.
    pub dead_letters_replayed: u64,
    /// Agents whose circuit breaker is open or half-open.
    pub breakers_open: usize,
    /// The number of times a circuit breaker opened.
    pub breakers_opened: u64,
    /// Armed timers.
    pub timers: usize,
    /// Messages with `reply-by` whose reply is awaited or, if overdue, still recognised as late.
    pub questions: usize,
    /// Messages with `reply-by` without a reply in time, so far.
    pub replies_missing: u64,
    /// Late replies that were marked, so far.
    pub replies_late: u64,
    /// Bytes of messages in mailboxes, outboxes, delays and stall lists.
    pub memory_bytes: u64,
    /// The shard's share of the memory budget, in bytes.
    pub memory_bytes_max: u64,
    /// Messages refused because that share was used up, so far.
    pub refused_for_memory: u64,
    /// Messages refused because their receiver was closed and they could not wait, or no longer, so far.
    pub refused_by_receiver: u64,
    /// Replies accepted beyond the limit of a mailbox, so far.
    pub replies_beyond: u64,
    /// Closed agents of this shard: others wait to send to them.
    pub receivers_closed: usize,
    /// The number of times one was closed, so far.
    pub receivers_closed_so_far: u64,
    /// Messages at a closed agent of this shard that wait for room in its mailbox.
    pub stalled: usize,
    /// The number of messages that had to wait there, so far.
    pub stalled_so_far: u64,
    /// Messages from this shard's agents that wait for closed receivers before they leave.
    pub waiting: usize,
    /// The number of messages that had to wait there, so far.
    pub waiting_so_far: u64,
    /// Protocol figures.
    pub conformance: Conformance,
    /// Duplicates of durable messages that were not dispatched again, so far.
    pub duplicates: u64,
    /// Durable sends, and handled durable messages, that wait for commits.
    pub commits_awaited: usize,
}

/// A shard did not perform a call before the call's deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnresponsiveError {
    /// The stalled shard, if there is one; otherwise the one that was asked.
    pub shard: ShardIndex,
    /// Whether the call may have taken effect, or may do so later. If false, nothing was changed, and nothing will be.
    pub may_have_changed: bool,
    /// The agent whose handler holds up the shard, if known.
    pub agent: Option<Arc<str>>,
}

impl std::fmt::Display for UnresponsiveError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} did not respond in time", self.shard)?;
        if let Some(agent) = &self.agent {
            write!(formatter, ", a handler of the agent {agent:?} holds it up")?;
        }
        formatter.write_str(if self.may_have_changed {
            ": what was asked may have been done, or may be done later"
        } else {
            ": nothing was changed, try again later"
        })
    }
}

impl std::error::Error for UnresponsiveError {}

/// Why a message was not accepted. Nothing changed, unless the kind says otherwise.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendErrorKind {
    /// The sender's outbox, the shard or the way to it is full. Try again later.
    #[error("there is no room for the message now: try again later")]
    Full,
    /// No agent with the sender's name is registered.
    #[error("the sender is not registered: register it, or open an inbox under its name")]
    UnknownSender,
    /// An agent sent in another agent's name.
    #[error("an agent can only send in its own name")]
    ForeignSender,
    /// The content exceeds the router's limit.
    #[error("the content has {bytes} bytes: this router allows up to {limit} bytes")]
    ContentTooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The shard has used up its share of the memory budget. Try again later.
    #[error("the shard's share of the memory budget is used up: it is {limit} bytes; try again later")]
    MemoryFull {
        /// The shard's share in bytes, of which a part is reserved for replies.
        limit: u64,
    },
    /// The receiver's mailbox is full and its policy blocks senders, but this message may not wait, or no longer.
    #[error("the mailbox of {receiver} is full and its overflow policy is {policy}: try again later")]
    ReceiverFull {
        /// The receiver.
        receiver: AgentId,
        /// Its overflow policy.
        policy: OverflowPolicy,
    },
    /// The message is durable and the router has no store.
    #[error("the router has no store: a durable message cannot be accepted; set store.directory")]
    DurabilityUnavailable,
    /// The message is durable, and the journal has reached its maximum size or its file system is full. It continues by
    /// itself once there is room: try again later.
    #[error("the journal has no room for a durable message now: it continues by itself once there is; try again later")]
    JournalFull,
    /// The message is durable, and a write to the journal has failed. The journal accepts nothing until the router is
    /// restarted.
    #[error("the journal of the sender's shard has failed: it takes no durable messages until the router is restarted")]
    JournalFailed,
    /// The message was accepted, and was dead-lettered or expired before it was durable.
    #[error("the message {message} was accepted and did not become durable: {}", explain(*ending))]
    NotKept {
        /// Its id.
        message: MessageId,
        /// The outcome.
        ending: Ending,
    },
    /// The message has a `reply-by`, and the sender or its shard waits for the maximum number of replies. Try again
    /// after some have arrived, or send it without.
    #[error("too many messages with reply-by are waiting for their replies: the limit is {limit}")]
    TooManyQuestions {
        /// The limit that was reached.
        limit: usize,
    },
    /// A routing plugin refused the message, or failed on it.
    #[error("the routing plugin {plugin} refuses it: {reason}")]
    RefusedByPlugin {
        /// Its name.
        plugin: Box<str>,
        /// Its reason, or how it failed.
        reason: Box<str>,
    },
    /// The router is stopping, or has stopped.
    #[error("the router is stopping and accepts no more messages")]
    Stopping,
    /// The shard did not accept the message, or did not report the result, before the call's deadline.
    #[error(transparent)]
    Unresponsive(#[from] UnresponsiveError),
    /// A blocking call was made on a shard's own thread.
    #[error("a blocking call on a shard's own thread would wait for itself")]
    WouldDeadlock,
}

/// Describes why a message did not become durable.
fn explain(ending: Ending) -> &'static str {
    match ending {
        Ending::Kept => "another of its receivers did not receive it",
        Ending::DeadLettered(reason) => reason.explanation(),
        Ending::Expired => "its lifetime ended before that",
    }
}

/// A message that was not accepted, with the reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SendError {
    kind: SendErrorKind,
    message: Message,
}

impl SendError {
    /// Creates the error for a message that is not accepted.
    pub fn new(kind: SendErrorKind, message: Message) -> Self {
        Self { kind, message }
    }

    /// Returns why the message was not accepted.
    pub fn kind(&self) -> &SendErrorKind {
        &self.kind
    }

    /// Returns the message, unchanged.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the message, unchanged, for another attempt.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Returns why the message was not accepted, and the message, unchanged.
    pub fn into_parts(self) -> (SendErrorKind, Message) {
        (self.kind, self.message)
    }
}

impl From<SendError> for SendErrorKind {
    fn from(error: SendError) -> Self {
        error.kind
    }
}

/// Why a question has no reply.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// The question was not accepted.
    #[error(transparent)]
    Rejected(SendError),
    /// The reply did not arrive in time. The question may have been handled.
    #[error("no reply arrived in time")]
    TimedOut,
    /// The shard did not take the question before the deadline, or has stalled since.
    #[error(transparent)]
    Unresponsive(#[from] UnresponsiveError),
    /// The question was not delivered, or not handled. The error says why.
    #[error(transparent)]
    Undeliverable(Box<DeliveryError>),
    /// The router stopped first.
    #[error("the router stopped before the reply arrived")]
    Stopped,
}

/// Why room for messages of an agent is not awaited, or no longer.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RoomError {
    /// No agent has this id, or it was removed meanwhile.
    #[error("the agent is not registered")]
    UnknownAgent,
    /// [`ROOM_WAITERS_MAX`](crate::api::ROOM_WAITERS_MAX) callers wait for the same agent. Try again later.
    #[error("too many callers wait for room of this agent: try again later")]
    TooManyWaiters,
    /// The router is stopping, or has stopped.
    #[error("the router is stopping")]
    Stopping,
}

/// An agent was not registered. Nothing changed.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The agent's name, or the name of a capability, is not allowed.
    #[error(transparent)]
    InvalidName(#[from] DomainError),
    /// An agent with this name exists.
    #[error("an agent named {name:?} is registered already")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// An agent of another node has this name: it is registered here as a proxy.
    #[error("an agent of another node is named {name:?}: choose another name")]
    OnOtherNode {
        /// The name.
        name: String,
    },
    /// Another agent's name has the same hash.
    #[error("the name {name:?} has the same id as the registered agent {other:?}: choose another name")]
    Collision {
        /// The refused name.
        name: String,
        /// The registered agent's name.
        other: String,
    },
    /// The shard has the maximum number of agents.
    #[error("the shard has the maximum number of agents: {limit}")]
    TooManyAgents {
        /// The limit.
        limit: usize,
    },
    /// The vocabulary has no room for a capability.
    #[error("the capability {name:?} cannot be registered: the process-wide vocabulary is full")]
    VocabularyFull {
        /// The capability's name.
        name: String,
    },
    /// The name belongs to the router itself.
    #[error("the name {name:?} belongs to the router: choose another name")]
    Reserved {
        /// The refused name.
        name: String,
    },
    /// The agent is persistent and placed.
    #[error(
        "the agent {name:?} can't be both persistent and placed: it has to be found under its name after a start with \
         another number of shards. It was not registered"
    )]
    Placed {
        /// The refused name.
        name: String,
    },
    /// The agent could not be created or started.
    #[error("the agent {name:?} panicked while it was created or started: {what}")]
    Panicked {
        /// The agent's name.
        name: String,
        /// The panic's message.
        what: String,
    },
    /// The router is stopping.
    #[error("the router is stopping and accepts no more registrations")]
    Stopping,
}
