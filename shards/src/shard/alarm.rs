//! The purposes of timers.

use crate::base::index::{AgentKey, ShardIndex};
use crate::conversation::ConversationIndex;
use crate::conversation::initiators::InitiatorKey;
use crate::message::Correlation;

/// The purpose of a timer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alarm {
    /// A delayed message is due for its mailbox.
    Release { place: u32, agent: AgentKey },
    /// A conversation may have timed out.
    Conversation(ConversationIndex),
    /// A cached initiator may have timed out.
    CachedInitiator(InitiatorKey),
    /// A question from outside has timed out.
    Ask(Correlation),
    /// The deadline of an expected reply.
    PendingReply { place: u32, number: u32 },
    /// Messages waiting for an agent that is not called may have expired.
    Sweep(AgentKey),
    /// A failed agent is to be restarted.
    Restart(AgentKey),
    /// The deadline for draining an agent.
    DrainDeadline(AgentKey),
    /// An open circuit breaker becomes half-open.
    Breaker(AgentKey),
    /// Messages waiting for closed receivers may have expired.
    SweepLines,
    /// Messages in transit to a shard may have expired.
    SweepTransit(ShardIndex),
    /// Messages waiting for the journal may have expired.
    SweepCommits,
    /// An agent requested to be polled now.
    Wake(AgentKey),
    /// A request to replay dead letters has waited long enough for their messages to reach their receivers.
    Replays(u64),
}
