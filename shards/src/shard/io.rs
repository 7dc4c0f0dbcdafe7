//! What goes into a shard beside messages from other shards, and what comes out of it for the world.
//!
//! A shard's driver puts [`Input`]s in and takes [`Output`]s out; a [`Token`] joins a question to its answer.

pub use crate::base::index::{InboxNumber, Token};
pub use crate::base::time::Now;
pub use crate::outcome::Stage;
use std::sync::Arc;

use crate::base::index::ShardIndex;
use crate::conversation::Conformance;
use crate::conversation::ConversationView;
use crate::dead_letter::{DeadLetterId, DeadLetterReason, DeadLetterSearch};
use crate::domain::DomainError;
use crate::flow_control::policy::OverflowPolicy;
use crate::journal::record::Lsn;
use crate::message::{AgentId, ConversationId, Message, MessageId, Term, WallTime};
use crate::protocol::Violation;
use crate::routing::capabilities::Provider;
use crate::shard::agent::Registration;
pub use crate::shard::control::journal::{Attempt, AttemptMark, Ending, FULL_PATIENCE_MS, JournalCondition};
use crate::shard::control::lifecycle::{AgentState, AgentView, Drained, LifecycleError, StopReason};
use crate::shard::control::replay::{DeadLetterPortion, ReplayPortion};
use crate::shard::delivery_error::DeliveryError;
use crate::stats::account::Account;
use crate::supervision::breaker::BreakerState;

/// Something for a shard to do.
pub enum Input {
    /// Admit a message. What becomes of it is reported to its sender as any agent hears of it.
    Tell(Message),
    /// Admit a message and answer with [`Answer::Sent`]. While its receiver is closed it waits, in turn, and is refused
    /// when its lifetime ends first.
    Send(Message, Token),
    /// As [`Input::Send`], but refuse a message whose receiver is closed at once.
    TrySend(Message, Token),
    /// Admit a message from the shard's gateway and answer with its reply: [`Answer::Replied`].
    Ask {
        /// The question. Its sender becomes the gateway.
        message: Message,
        /// How long to wait for the answer, in milliseconds. A `reply-by` of the question shortens it.
        timeout_ms: u64,
        /// For the answer.
        token: Token,
    },
    /// Add agents and answer with [`Answer::Registered`] once every shard knows their capabilities.
    Register(Vec<Registration>, Token),
    /// Remove an agent and answer with [`Answer::Deregistered`].
    Deregister(AgentId, Token),
    /// Call an agent no more until it is resumed, and answer with [`Answer::Changed`].
    Suspend(AgentId, Token),
    /// Have a suspended agent go on where it was, and answer with [`Answer::Changed`].
    Resume(AgentId, Token),
    /// Have an agent finish what it has, remove it, and answer then with [`Answer::Drained`].
    DrainAgent {
        /// The agent.
        agent: AgentId,
        /// How long it may take, in milliseconds. What it has not handled by then becomes dead letters.
        within_ms: u64,
        /// For the answer.
        token: Token,
    },
    /// Answer with [`Answer::Agent`].
    Agent(AgentId, Token),
    /// The owner of an inbox took messages out of it.
    Taken {
        /// The inbox's agent. Nothing happens if it has another inbox by now.
        agent: AgentId,
        /// The inbox.
        inbox: InboxNumber,
        /// How many messages of other agents.
        messages: u32,
        /// How many notices of the router: see [`is_notice`](crate::message::notice::is_notice).
        notices: u32,
    },
    /// The owner of an inbox is done with these of the messages that were handed out to it: the numbers count the messages of
    /// other agents from the first one on, which is 1. They come in any order, each once, and only from an inbox that is never
    /// reported as [taken](Self::Taken) from, its notices excepted.
    Acknowledged {
        /// The inbox's agent. Nothing happens if it has another inbox by now.
        agent: AgentId,
        /// The inbox.
        inbox: InboxNumber,
        /// Which messages.
        numbers: Vec<u64>,
    },
    /// The owner of an agent's inbox dropped it with these messages in it. Nothing happens if the agent has another
    /// inbox, or none.
    Closed(AgentId, InboxNumber, Vec<Message>),
    /// An inbox gives back these messages, which its owner has not taken, and stays open: the shard was told to
    /// [stop](Self::Stop), and its owner may still read what the router has to say. Nothing happens if the agent has
    /// another inbox, or none.
    Returned(AgentId, InboxNumber, Vec<Message>),
    /// Answer with [`Answer::Providers`].
    Discover(Term, Token),
    /// Answer with [`Answer::Conversation`].
    Conversation(AgentId, ConversationId, Token),
    /// Answer with [`Answer::DeadLetters`]: the newest first, at most this many and
    /// [`LETTERS_PER_ANSWER_MAX`](crate::dead_letter::LETTERS_PER_ANSWER_MAX).
    DeadLetters(Box<DeadLetterSearch>, usize, Token),
    /// Send dead letters again, to whom they were for or to this agent, and answer with
    /// [`Answer::DeadLettersReplayed`].
    ReplayDeadLetters(Box<DeadLetterSearch>, Option<AgentId>, Token),
    /// Throw dead letters away and answer with [`Answer::DeadLettersPurged`].
    PurgeDeadLetters(Box<DeadLetterSearch>, Token),
    /// Answer with [`Answer::Snapshot`].
    Inspect(Token),
    /// Nobody waits for the answers to these any more. An ask is forgotten: a reply to it is one that nobody asked for. A
    /// [`Input::Send`] that waits in turn is taken out of the line and not accepted. Everything else goes on, and what it
    /// answers is for nobody.
    Cancel(Vec<Token>),
    /// Report events from now on, or no longer.
    WatchEvents(bool),
    /// Everything up to this record is durable.
    Committed(Lsn),
    /// The journal takes records, or does not.
    Journal(JournalCondition),
    /// Write everything anew that is still needed and stands in a record up to this one.
    CarryForward(Lsn),
    /// Write messages anew that still wait and stand in a record up to this one, so that the projection shows them; each once.
    ShowWaiting(Lsn),
    /// Admit nothing more from outside.
    Drain,
    /// Give up everything that is still pending, and whatever arrives from now on.
    Stop,
}

impl Input {
    /// Whether it can only be taken while there is room for a message. Everything else may make room, so it does not
    /// stand behind a message that waits for some.
    pub(crate) fn needs_room(&self) -> bool {
        matches!(self, Self::Tell(_) | Self::Send(..) | Self::TrySend(..) | Self::Ask { .. })
    }

    /// The token of the answer that it asks for, if it asks for one.
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
            | Self::Discover(_, token)
            | Self::Conversation(_, _, token)
            | Self::DeadLetters(_, _, token)
            | Self::ReplayDeadLetters(_, _, token)
            | Self::PurgeDeadLetters(_, token)
            | Self::Inspect(token) => Some(*token),
            Self::Tell(_)
            | Self::Taken { .. }
            | Self::Acknowledged { .. }
            | Self::Closed(..)
            | Self::Returned(..)
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

/// Something that a shard did and the world should know.
pub enum Output {
    /// The answer to a question.
    Answer(Token, Answer),
    /// A message for an inbox. The shard sends no more of them than the inbox has room for.
    Deliver(InboxNumber, Message),
    /// Something happened that observers may want to know.
    Event(Event),
}

/// The answer to an [`Input`] that asked for one.
pub enum Answer {
    /// The message was accepted under this id, or not. A durable one is on disk.
    Sent(Result<MessageId, SendError>),
    /// The durable message was accepted under this id, and did not come into the journal.
    NotKept(MessageId, Ending),
    /// The reply came, or why there will be none.
    Replied(Result<Message, AskError>),
    /// For each registration in order: the agent's id, or why it was not added.
    Registered(Vec<Result<AgentId, RegistrationError>>),
    /// Whether there was such an agent.
    Deregistered(bool),
    /// The agent's state is as was asked, or why not.
    Changed(Result<(), LifecycleError>),
    /// The agent was drained, or why not.
    Drained(Result<Drained, LifecycleError>),
    /// The agent, if it is there or was there not long ago.
    Agent(Option<Box<AgentView>>),
    /// Who offers the capability.
    Providers(Vec<Provider>),
    /// The conversation, if it is open.
    Conversation(Option<Box<ConversationView>>),
    /// The dead letters that were looked for.
    DeadLetters(DeadLetterPortion),
    /// What came of replaying dead letters.
    DeadLettersReplayed(Box<ReplayPortion>),
    /// Dead letters were thrown away.
    DeadLettersPurged {
        /// How many.
        letters: u64,
        /// If there are newer letters which were not looked at: after which one to go on.
        next: Option<DeadLetterId>,
    },
    /// The shard's figures.
    Snapshot(Box<Snapshot>),
}

/// A shard's figures at the end of a step.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// What it answers for.
    pub account: Account,
    /// Registered agents, the shard's own gateway not included.
    pub agents: usize,
    /// Open conversations.
    pub conversations: usize,
    /// Conversations opened so far.
    pub conversations_opened: u64,
    /// Dead letters that are kept.
    pub dead_letters: usize,
    /// Dead letters that made room for newer ones.
    pub dead_letters_dropped: u64,
    /// Dead letters that were sent again.
    pub dead_letters_replayed: u64,
    /// Agents whose circuit breaker is open or half-open.
    pub breakers_open: usize,
    /// How often a circuit breaker opened.
    pub breakers_opened: u64,
    /// Armed timers.
    pub timers: usize,
    /// Messages with `reply-by` whose answers are awaited or, for some time yet, marked as late.
    pub questions: usize,
    /// Messages with `reply-by` that nobody answered in time, so far.
    pub replies_missing: u64,
    /// Answers that came late and were marked so, so far.
    pub replies_late: u64,
    /// Bytes of messages in mailboxes, outboxes, delays and stall lists.
    pub memory_bytes: u64,
    /// The shard's share of the memory budget, in bytes.
    pub memory_bytes_max: u64,
    /// Messages refused because that share was used up, so far.
    pub refused_for_memory: u64,
    /// Messages refused because their receiver was closed and they might not wait, or not any longer, so far.
    pub refused_by_receiver: u64,
    /// Replies that were taken beyond the limit of a mailbox, so far.
    pub replies_beyond: u64,
    /// Agents of this shard that are closed: others wait to send to them.
    pub receivers_closed: usize,
    /// How often one was closed, so far.
    pub receivers_closed_so_far: u64,
    /// Messages that have come to a closed agent of this shard and wait to get into its mailbox.
    pub stalled: usize,
    /// How many had to, so far.
    pub stalled_so_far: u64,
    /// Messages of this shard's agents that wait for closed receivers before they leave.
    pub waiting: usize,
    /// How many had to, so far.
    pub waiting_so_far: u64,
    /// How conversations followed their protocols.
    pub conformance: Conformance,
    /// Durable messages that came again and were not dispatched again, so far.
    pub duplicates: u64,
    /// Durable sends, and handled durable messages, that wait for commits.
    pub commits_awaited: usize,
}

/// A shard did not do what a call asked of it before the call's deadline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnresponsiveError {
    /// The shard that stands still, if one of them does; otherwise the one that was asked.
    pub shard: ShardIndex,
    /// Whether what was asked may have been done, or may be done later. If not, nothing was changed, and nothing will be.
    pub may_have_changed: bool,
    /// The agent whose handler holds up the shard, where that is known.
    pub agent: Option<Arc<str>>,
}

impl std::fmt::Display for UnresponsiveError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} did not answer in time", self.shard)?;
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
    /// No agent of the sender's name is registered.
    #[error("the sender is not registered: register it, or open an inbox under its name")]
    UnknownSender,
    /// An agent sent in another agent's name.
    #[error("an agent can only send in its own name")]
    ForeignSender,
    /// The content is longer than the router allows.
    #[error("the content has {bytes} bytes: this router allows up to {limit} bytes")]
    ContentTooLarge {
        /// Its length.
        bytes: usize,
        /// The router's limit.
        limit: usize,
    },
    /// The shard holds as many bytes of messages as its share of the memory budget allows. Try again later.
    #[error("the shard's share of the memory budget is used up: it is {limit} bytes; try again later")]
    MemoryFull {
        /// The shard's share, of which a part is kept for replies.
        limit: u64,
    },
    /// The receiver's mailbox is full and its policy has senders wait, but this message may not wait, or not any longer.
    #[error("the mailbox of {receiver} is full and its overflow policy is {policy}: try again later")]
    ReceiverFull {
        /// Whose mailbox it is.
        receiver: AgentId,
        /// Its policy.
        policy: OverflowPolicy,
    },
    /// The message asks to be durable and the router has no store.
    #[error("the router has no store: a durable message can't be accepted; set store.directory")]
    DurabilityUnavailable,
    /// The message asks to be durable, and the journal is as large as it may be or its file system is full. It goes on by
    /// itself when there is room: try again later.
    #[error("the journal has no room for a durable message now: it goes on by itself when there is; try again later")]
    JournalFull,
    /// The message asks to be durable, and a write to the journal has failed. It is not tried again before the router is
    /// restarted.
    #[error(
        "the journal of the sender's shard has failed: it takes no durable messages until the router is started anew"
    )]
    JournalFailed,
    /// The message was accepted, and became a dead letter or expired before it was durable.
    #[error("the message {message} was accepted and did not become durable: {}", explain(*ending))]
    NotKept {
        /// Its id.
        message: MessageId,
        /// What became of it.
        ending: Ending,
    },
    /// The message has a `reply-by`, and the sender or its shard has as many such messages open as it may. Try again
    /// when some were answered, or send it without.
    #[error("too many messages with reply-by are waiting for their answers: allowed are {limit}")]
    TooManyQuestions {
        /// The limit that was reached.
        limit: usize,
    },
    /// A routing plugin refused the message, or failed over it.
    #[error("the routing plugin {plugin} refuses it: {reason}")]
    RefusedByPlugin {
        /// Its name.
        plugin: Box<str>,
        /// What it says, or how it failed.
        reason: Box<str>,
    },
    /// The router is stopping, or has stopped.
    #[error("the router is stopping and accepts nothing more")]
    Stopping,
    /// The shard did not take the message, or did not say what became of it, before the call's deadline.
    #[error(transparent)]
    Unresponsive(#[from] UnresponsiveError),
    /// A call that waits was made on a shard's own thread.
    #[error("a call that waits for a shard would, on a shard's own thread, wait for itself")]
    WouldDeadlock,
}

/// What became of a message that did not become durable, in words.
fn explain(ending: Ending) -> &'static str {
    match ending {
        Ending::Kept => "another of its receivers did not get it",
        Ending::DeadLettered(reason) => reason.explanation(),
        Ending::Expired => "its lifetime ended before",
    }
}

/// A message that was not accepted, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SendError {
    kind: SendErrorKind,
    message: Message,
}

impl SendError {
    /// The error for a message that is not accepted for this reason.
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

/// Why a question has no answer.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// The question was not accepted.
    #[error(transparent)]
    Rejected(SendError),
    /// The answer did not come in time. The question may have been handled.
    #[error("no answer came in time")]
    TimedOut,
    /// The shard did not take the question before the deadline, or stands still since.
    #[error(transparent)]
    Unresponsive(#[from] UnresponsiveError),
    /// The question was not delivered, or not handled. The error says why.
    #[error(transparent)]
    Undeliverable(Box<DeliveryError>),
    /// The router stopped first.
    #[error("the router stopped before the answer came")]
    Stopped,
}

/// Why an agent was not registered. Nothing changed.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The agent's name, or the name of a capability, is not allowed.
    #[error(transparent)]
    InvalidName(#[from] DomainError),
    /// There is an agent of this name.
    #[error("an agent named {name:?} is registered already")]
    Duplicate {
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
    /// The shard has as many agents as it may.
    #[error("the shard has as many agents as it may: {limit}")]
    TooManyAgents {
        /// The limit.
        limit: usize,
    },
    /// A capability could not be given a term.
    #[error("the capability {name:?} can't be registered: the process-wide vocabulary is full")]
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
    /// The agent could not be made or started.
    #[error("the agent {name:?} panicked while it was made or started: {what}")]
    Panicked {
        /// The agent's name.
        name: String,
        /// The panic's message.
        what: String,
    },
    /// The router is stopping.
    #[error("the router is stopping and registers nothing more")]
    Stopping,
}

/// Something that happened on a shard, for observers.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// An agent was added. It is initiated.
    Registered {
        /// Who.
        agent: AgentId,
        /// Its name.
        name: Arc<str>,
    },
    /// An agent came into another state. That it is stopped is told by [`Event::Deregistered`].
    StateChanged {
        /// Who.
        agent: AgentId,
        /// The state that it is in now.
        state: AgentState,
    },
    /// An agent was removed. It is stopped.
    Deregistered {
        /// Who.
        agent: AgentId,
        /// Why.
        why: StopReason,
    },
    /// An agent failed and is restarted.
    AgentRestarted {
        /// Who.
        agent: AgentId,
        /// How often that was done since it was registered, with this time.
        restarts: u64,
        /// How long it waits before, in milliseconds.
        delay_ms: u64,
    },
    /// A shard's journal takes nothing more, or goes on: it has been full for longer than
    /// [`FULL_PATIENCE_MS`], it failed, or it is ready again.
    JournalChanged {
        /// Whose.
        shard: ShardIndex,
        /// How it stands now.
        condition: JournalCondition,
    },
    /// A message was given up.
    DeadLettered {
        /// The message.
        message: MessageId,
        /// Who sent it.
        sender: Option<AgentId>,
        /// Whom it was for.
        receiver: Option<AgentId>,
        /// Why.
        reason: DeadLetterReason,
        /// Where.
        shard: ShardIndex,
    },
    /// A message was not handled within its lifetime.
    Expired {
        /// The message.
        message: MessageId,
        /// Who sent it.
        sender: Option<AgentId>,
        /// Whom it was for.
        receiver: Option<AgentId>,
        /// What it was waiting for.
        phase: Stage,
    },
    /// Code of an agent panicked. It is restarted or stopped; a message that it was handling will be tried again or given
    /// up.
    AgentPanicked {
        /// Whose.
        agent: AgentId,
        /// The panic's message.
        what: String,
    },
    /// The embedder's failure handler panicked. The message was treated as by default.
    FailureHandlerPanicked {
        /// The panic's message.
        what: String,
    },
    /// An agent's circuit breaker opened, is half-open, or closed.
    BreakerChanged {
        /// Whose.
        agent: AgentId,
        /// How it stands now.
        state: BreakerState,
    },
    /// A message with `reply-by` was not answered by then.
    ReplyMissing {
        /// Who asked.
        asker: AgentId,
        /// The message.
        message: MessageId,
        /// By when.
        reply_by: WallTime,
    },
    /// A message broke the protocol of its conversation. If it was refused, [`Event::DeadLettered`] tells of it too.
    ProtocolViolation(Box<Violation>),
    /// A shard has stood still for so long in a call of one of its agents that it counts as blocked. Nothing on it goes on.
    ShardBlocked {
        /// Which shard.
        shard: ShardIndex,
        /// The name of the agent whose code does not return, where one is being called.
        agent: Option<Arc<str>>,
        /// For how long it has stood still, in milliseconds.
        for_ms: u64,
    },
    /// A shard that was blocked goes on.
    ShardUnblocked {
        /// Which shard.
        shard: ShardIndex,
        /// For how long it stood still, in milliseconds.
        for_ms: u64,
    },
    /// A conversation had no traffic for too long and ended.
    ConversationTimedOut {
        /// Who began it.
        initiator: AgentId,
        /// Which one.
        conversation: ConversationId,
    },
}
