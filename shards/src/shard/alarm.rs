//! What timers are for.

use crate::base::index::{AgentKey, ShardIndex};
use crate::conversation::ConversationIndex;
use crate::conversation::initiators::InitiatorKey;
use crate::message::Correlation;

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alarm {
    /// A delayed message is to be put into its mailbox.
    Release { place: u32, agent: AgentKey },
    /// A conversation may have been silent for too long.
    Conversation(ConversationIndex),
    /// A note may not have been used for too long.
    CachedInitiator(InitiatorKey),
    /// A question from outside has not been answered in time.
    Ask(Correlation),
    /// The answer to a question was wanted by now.
    PendingReply { place: u32, number: u32 },
    /// Messages may have expired that wait for an agent that is not called.
    Sweep(AgentKey),
    /// An agent that failed is to be restarted.
    Restart(AgentKey),
    /// The time for draining an agent is over.
    DrainDeadline(AgentKey),
    /// An open circuit breaker is to be half-open.
    Breaker(AgentKey),
    /// Messages may have expired that wait for closed receivers.
    SweepLines,
    /// Messages may have expired that wait to pass on to a shard.
    SweepTransit(ShardIndex),
    /// Messages may have expired that wait for the journal.
    SweepCommits,
    /// An agent asked to be polled now.
    Wake(AgentKey),
    /// Whoever asked for dead letters to be replayed has waited long enough for their messages to come to their receivers.
    Replays(u64),
}
