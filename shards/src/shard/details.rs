//! Figures of a shard that are gathered only on request, in time proportional to the numbers of shards and protocols.

use std::sync::Arc;

use crate::conversation::ProtocolFigures;
use crate::message::WallTime;
use crate::shard::Shard;

/// The ring from one shard to another.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneFigures {
    /// Messages and notices in the ring.
    pub in_flight: usize,
    /// Credits that are not spent: the number of messages that can be sent now.
    pub credits: usize,
    /// All its credits.
    pub credits_max: usize,
    /// Messages sent through it, so far.
    pub sent: u64,
    /// Agents of the sending shard whose outboxes wait for a credit.
    pub senders_waiting: usize,
}

/// Maximum number of agents that [`Details`] names because of their circuit breakers.
pub const BREAKERS_NAMED_MAX: usize = 5;

/// Figures of a shard besides its [`Snapshot`](crate::shard::io::Snapshot).
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The rings to all shards, in order; the entry of the shard itself is empty.
    pub lanes: Vec<LaneFigures>,
    /// Messages in mailboxes, including delayed ones and the router's notices.
    pub mailbox_messages: usize,
    /// Agents whose circuit breaker is half-open.
    pub breakers_half_open: usize,
    /// The names of some agents whose circuit breaker is open or half-open, at most [`BREAKERS_NAMED_MAX`].
    pub breakers_named: Vec<Arc<str>>,
    /// Calls of agents that were timed and slow, so far: see [`Event::SlowCall`](crate::shard::io::Event::SlowCall).
    pub slow_calls: u64,
    /// When the oldest dead letter kept was given up.
    pub oldest_dead_letter: Option<WallTime>,
    /// Conversations closed so far.
    pub conversations_closed: u64,
    /// How many of them timed out.
    pub conversations_timed_out: u64,
    /// Figures of each checked protocol.
    pub protocols: Vec<ProtocolFigures>,
}

impl Shard {
    /// Returns the figures that are gathered on request. It looks at every shard and every protocol, and at no agent.
    pub fn details(&mut self) -> Details {
        let waits = self.flow_control.queues.figures();
        let elsewhere = self.links.transit_length() + waits.stalled + waits.waiting;
        let (conversations_closed, conversations_timed_out) = self.conversations.closed();
        let named = self.supervision.not_closed().take(BREAKERS_NAMED_MAX).filter_map(|index| self.agents.get(index));
        Details {
            lanes: self.links.lanes(),
            mailbox_messages: self.held.len().saturating_sub(elsewhere),
            breakers_half_open: self.supervision.breakers().half_open,
            breakers_named: named.map(|slot| Arc::clone(&slot.name)).collect(),
            slow_calls: self.supervision.call_times.slow_calls(),
            oldest_dead_letter: self.dead_letters.oldest(),
            conversations_closed,
            conversations_timed_out,
            protocols: self.conversations.by_protocol(),
        }
    }
}
