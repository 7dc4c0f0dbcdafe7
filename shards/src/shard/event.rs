//! What a shard reports about itself and its messages.

use std::sync::Arc;

use crate::base::index::ShardIndex;
use crate::dead_letter::DeadLetterReason;
use crate::message::{AgentId, ConversationId, MessageId, TraceContext, WallTime};
use crate::outcome::Stage;
use crate::protocol::Violation;
use crate::shard::control::journal::JournalCondition;
use crate::shard::control::lifecycle::{AgentState, StopReason};
use crate::supervision::breaker::BreakerState;

/// Which events a shard reports. Others are not created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum EventDetail {
    /// None.
    #[default]
    Nothing,
    /// Those that are rare while all is well: see [`Event::is_exceptional`].
    Exceptions,
    /// All of them. Some happen for each message or agent.
    Everything,
}

/// An event on a shard, for observers.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// An agent was added. It is initiated.
    Registered {
        /// The agent.
        agent: AgentId,
        /// Its name.
        name: Arc<str>,
    },
    /// An agent changed its state. Its end is reported as [`Event::Deregistered`].
    StateChanged {
        /// The agent.
        agent: AgentId,
        /// The new state.
        state: AgentState,
    },
    /// An agent was removed. It is stopped.
    Deregistered {
        /// The agent.
        agent: AgentId,
        /// The reason.
        why: StopReason,
    },
    /// An agent failed and is restarted.
    AgentRestarted {
        /// The agent.
        agent: AgentId,
        /// The number of restarts since it was registered, including this one.
        restarts: u64,
        /// The delay before the restart, in milliseconds.
        delay_ms: u64,
    },
    /// A shard's journal stopped accepting records or continues: it has been full for longer than
    /// [`FULL_PATIENCE_MS`](crate::shard::io::FULL_PATIENCE_MS), it failed, or it is ready again.
    JournalChanged {
        /// The shard.
        shard: ShardIndex,
        /// The new condition.
        condition: JournalCondition,
    },
    /// A message was dead-lettered.
    DeadLettered {
        /// The message.
        message: MessageId,
        /// The sender.
        sender: Option<AgentId>,
        /// The receiver.
        receiver: Option<AgentId>,
        /// Its conversation.
        conversation: Option<ConversationId>,
        /// The trace context that it came with.
        trace: Option<TraceContext>,
        /// The reason.
        reason: DeadLetterReason,
        /// Where.
        shard: ShardIndex,
    },
    /// A message was not handled within its lifetime.
    Expired {
        /// The message.
        message: MessageId,
        /// The sender.
        sender: Option<AgentId>,
        /// The receiver.
        receiver: Option<AgentId>,
        /// Its conversation.
        conversation: Option<ConversationId>,
        /// The trace context that it came with.
        trace: Option<TraceContext>,
        /// What it was waiting for.
        stage: Stage,
    },
    /// An agent's code panicked. It is restarted or stopped; a message that it was handling is retried or given up.
    AgentPanicked {
        /// The agent.
        agent: AgentId,
        /// The panic's message.
        what: String,
    },
    /// The embedder's failure handler panicked. The message was treated as by default.
    FailureHandlerPanicked {
        /// The panic's message.
        what: String,
    },
    /// An agent's circuit breaker changed its state.
    BreakerChanged {
        /// The agent.
        agent: AgentId,
        /// The new state.
        state: BreakerState,
    },
    /// A message with `reply-by` had no reply in time.
    ReplyMissing {
        /// The asking agent.
        asker: AgentId,
        /// The asked agent. None if the message went to several agents, or to one that was chosen on its way.
        asked: Option<AgentId>,
        /// The message.
        message: MessageId,
        /// Its conversation.
        conversation: Option<ConversationId>,
        /// The trace context that it came with.
        trace: Option<TraceContext>,
        /// The deadline.
        reply_by: WallTime,
    },
    /// A call of an agent took as long as its breaker's `slow_call_ms`. Calls are timed only for some time after a turn
    /// that took that long, and only if slow calls count: see [`BreakerPolicy`](crate::supervision::breaker::BreakerPolicy).
    ///
    /// A shard reports up to [`SLOW_CALLS_REPORTED_MAX`](crate::supervision::SLOW_CALLS_REPORTED_MAX) of them per second.
    SlowCall {
        /// The agent.
        agent: AgentId,
        /// Its name.
        name: Arc<str>,
        /// The length of the call, in milliseconds.
        took_ms: u64,
        /// The number of slow calls of the shard's agents since the last report that were not reported.
        unreported: u64,
    },
    /// A message violated the protocol of its conversation. If it was refused, [`Event::DeadLettered`] is reported too.
    ProtocolViolation(Box<Violation>),
    /// A shard has been in a call of one of its agents for so long that it counts as blocked. Nothing on it makes
    /// progress.
    ShardBlocked {
        /// The shard.
        shard: ShardIndex,
        /// The name of the agent whose code does not return, if one is being called.
        agent: Option<Arc<str>>,
        /// How long it has been blocked, in milliseconds.
        for_ms: u64,
    },
    /// A blocked shard continues.
    ShardUnblocked {
        /// The shard.
        shard: ShardIndex,
        /// How long it was blocked, in milliseconds.
        for_ms: u64,
    },
    /// A conversation timed out.
    ConversationTimedOut {
        /// The initiator.
        initiator: AgentId,
        /// The conversation.
        conversation: ConversationId,
    },
}

impl Event {
    /// Whether the event is rare while all is well: a panic, a restart, the end of an agent that nobody asked for, a
    /// circuit breaker, a slow call, a journal, a blocked shard. The others happen for each message, conversation or
    /// agent.
    pub fn is_exceptional(&self) -> bool {
        match self {
            Self::Deregistered { why, .. } => why.is_exceptional(),
            Self::AgentRestarted { .. }
            | Self::JournalChanged { .. }
            | Self::AgentPanicked { .. }
            | Self::FailureHandlerPanicked { .. }
            | Self::BreakerChanged { .. }
            | Self::SlowCall { .. }
            | Self::ShardBlocked { .. }
            | Self::ShardUnblocked { .. } => true,
            Self::Registered { .. }
            | Self::StateChanged { .. }
            | Self::DeadLettered { .. }
            | Self::Expired { .. }
            | Self::ReplyMissing { .. }
            | Self::ProtocolViolation(_)
            | Self::ConversationTimedOut { .. } => false,
        }
    }

    /// Returns the detail from which on the event is reported.
    pub fn detail(&self) -> EventDetail {
        if self.is_exceptional() { EventDetail::Exceptions } else { EventDetail::Everything }
    }

    /// Returns the agents that the event is about: one, or the sender and the receiver of a message.
    pub fn agents(&self) -> [Option<AgentId>; 2] {
        match self {
            Self::Registered { agent, .. }
            | Self::StateChanged { agent, .. }
            | Self::Deregistered { agent, .. }
            | Self::AgentRestarted { agent, .. }
            | Self::AgentPanicked { agent, .. }
            | Self::BreakerChanged { agent, .. }
            | Self::SlowCall { agent, .. }
            | Self::ConversationTimedOut { initiator: agent, .. } => [Some(*agent), None],
            Self::ReplyMissing { asker, asked, .. } => [Some(*asker), *asked],
            Self::DeadLettered { sender, receiver, .. } | Self::Expired { sender, receiver, .. } => {
                [*sender, *receiver]
            }
            Self::ProtocolViolation(violation) => [Some(violation.sender), Some(violation.receiver)],
            Self::JournalChanged { .. }
            | Self::FailureHandlerPanicked { .. }
            | Self::ShardBlocked { .. }
            | Self::ShardUnblocked { .. } => [None, None],
        }
    }
}
