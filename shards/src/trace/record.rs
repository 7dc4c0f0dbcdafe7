//! What is recorded about a watched message.

use std::sync::Arc;

use crate::message::{
    AgentId, ConversationId, Message, MessageId, Performative, Receiver, Reliability, Term, TraceContext,
};
use crate::outcome::{DeadLetterReason, Stage};

/// One moment in the life of a watched message.
#[derive(Clone, Debug, PartialEq)]
pub struct StageRecord {
    /// When it happened, in nanoseconds of monotonic time.
    pub at_ns: u64,
    /// The message.
    pub message: MessageId,
    /// The receiver of this copy of the message, once that is decided.
    pub receiver: Option<AgentId>,
    /// What happened.
    pub event: StageEvent,
}

/// What happened to a watched message.
#[derive(Clone, Debug, PartialEq)]
pub enum StageEvent {
    /// It was admitted.
    Admitted(Admitted),
    /// It is watched from now on, because it failed, expired or is slow. Its admission was at this time, in nanoseconds
    /// of monotonic time and exact to a millisecond.
    Kept(Admitted, u64),
    /// The handler that sent it failed, so that it was not sent.
    Withdrawn,
    /// It reached the shard of its receiver from another shard.
    Arrived,
    /// It is for all providers of a capability: so many.
    Spread(u32),
    /// It was committed to the journal.
    Committed,
    /// It was put into its receiver's mailbox.
    Enqueued,
    /// A call of its receiver's handler began, with the receiver's name and the number of the attempt.
    Begun(Arc<str>, u8),
    /// The attempt failed, and another one follows.
    Retried,
    /// It was handled, or handed out to an inbox. One that comes back out of an inbox is watched anew.
    Processed,
    /// It is a durable message that has come before.
    Duplicate,
    /// It is a durable message that was left to the next start.
    Left,
    /// It was dead-lettered.
    DeadLettered(DeadLetterReason),
    /// Its lifetime ended.
    Expired(Stage),
}

/// A watched message whose handler sent another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cause {
    /// The message.
    pub message: MessageId,
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// The trace context that it brought or was given.
    pub context: Option<TraceContext>,
}

impl Cause {
    /// Returns the cause that a message would be.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        Some(Self {
            message: message.id()?,
            conversation: message.conversation(),
            context: message.trace().filter(TraceContext::is_valid),
        })
    }
}

/// What a message was when it was admitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The sender.
    pub sender: Option<AgentId>,
    /// The sender's name, if it is registered here.
    pub sender_name: Option<Arc<str>>,
    /// The id of the conversation.
    pub conversation: Option<ConversationId>,
    /// The initiator of the conversation, as far as the message states it.
    pub initiator: Option<AgentId>,
    /// The watched message in whose handler it was sent.
    pub cause: Option<Cause>,
    /// The performative.
    pub performative: Performative,
    /// The protocol.
    pub protocol: Option<Term>,
    /// The trace context that it brought, or was given because it belongs to the trace of `cause`.
    pub context: Option<TraceContext>,
    /// The number of receivers, as far as it is known.
    pub receivers: u32,
    /// Whether it survives a crash.
    pub durable: bool,
}

impl Admitted {
    /// Describes a message.
    pub(crate) fn of(message: &Message, sender_name: Option<Arc<str>>, cause: Option<Cause>) -> Self {
        Self {
            sender: message.sender(),
            sender_name,
            conversation: message.conversation(),
            initiator: message.initiator(),
            cause,
            performative: message.performative(),
            protocol: message.protocol_term(),
            context: message.trace().filter(TraceContext::is_valid),
            receivers: match message.receiver() {
                Receiver::Agents(agents) => u32::try_from(agents.len()).unwrap_or(u32::MAX),
                _ => 1,
            },
            durable: message.reliability() == Reliability::Durable,
        }
    }
}
