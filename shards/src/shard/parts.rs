//! The parts that a shard is made of, beside components of their own. Their fields are visible in this folder only.

use super::PendingAsk;
use crate::base::hashing::Seeded;
use crate::base::index::AgentKey;
use crate::conversation::Conversations;
use crate::conversation::initiators::InitiatorCache;
use crate::message::{AgentId, Correlation};
use crate::replies::pending_replies::PendingReplies;
use crate::shard::agent::Registration;
use crate::shard::control::backpressure::WaitQueues;
use crate::shard::control::conformance::Conformance;
use crate::shard::control::register::Barrier;
use crate::shard::control::retry::FailureHandler;
use crate::shard::io::Token;
use crate::shard::path::overflow::OverflowFigures;
use crate::supervision::{BreakerFigures, CallTimes};
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Conversations: those that live here, those that agents of this shard take part in, and what broke their protocols.
pub(in crate::shard) struct Dialogue {
    pub(in crate::shard) conversations: Conversations,
    /// Messages that broke their protocol.
    pub(in crate::shard) violations: Conformance,
    pub(in crate::shard) initiators: InitiatorCache,
}

/// Agents that come and go: what waits for its turn.
pub(in crate::shard) struct Lifecycle {
    /// Whether an agent's `started` is being called. What it registers has to wait, so that agents which register each
    /// other in a chain do not nest without bound.
    pub(in crate::shard) starting: bool,
    /// Registrations that wait for their turn, with whoever asked for them.
    pub(in crate::shard) registrations: VecDeque<(Registration, AgentId)>,
    /// Agents that are drained.
    pub(in crate::shard) draining: Vec<AgentKey>,
    pub(in crate::shard) barriers: HashMap<u64, Barrier, FixedState>,
    pub(in crate::shard) barrier_count: u64,
}

/// Senders that wait for full mailboxes, in figures and by name.
pub(in crate::shard) struct Backpressure {
    pub(in crate::shard) overflow: OverflowFigures,
    /// Receivers that are closed, and who waits for them.
    pub(in crate::shard) wait_queues: WaitQueues,
}

/// What is done about agents that fail or are slow.
pub(in crate::shard) struct Supervision {
    pub(in crate::shard) failure_handler: Option<Box<dyn FailureHandler>>,
    pub(in crate::shard) breakers: BreakerFigures,
    pub(in crate::shard) call_times: CallTimes,
}

/// Replies that agents and callers expect.
pub(in crate::shard) struct Replies {
    pub(in crate::shard) pending: PendingReplies,
    pub(in crate::shard) asks: HashMap<Correlation, PendingAsk, Seeded>,
    /// The same by token, for callers that give up.
    pub(in crate::shard) asks_by_token: HashMap<Token, Correlation, FixedState>,
}
