//! What a shard needs to know to start.

use crate::conversation::ConversationLimits;
use crate::domain::{
    BatchSize, ContentLimit, MailboxBytes, MailboxCapacity, MessageTimeoutMs, OutboxCapacity, TurnQuota,
};
use crate::flow_control::policy::OverflowPolicy;
use crate::journal::record::Durability;
use crate::mailbox::MailboxLimits;
use crate::message::IdSpace;
use crate::protocol::Rulebook;
use crate::routing::partition::Partition;
use crate::routing::rules::Rule;
use crate::supervision::breaker::BreakerPolicy;
use crate::supervision::{RestartPolicy, RetryPolicy};

/// What a shard needs to know to start.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard this is, and what makes its ids unique.
    pub id_space: IdSpace,
    /// How agents are spread over shards.
    pub partition: Partition,
    /// Messages that one mailbox holds.
    pub mailbox_messages: MailboxCapacity,
    /// Bytes that one mailbox holds.
    pub mailbox_bytes: MailboxBytes,
    /// What happens to what finds a full mailbox, unless the agent's registration says otherwise.
    pub overflow: OverflowPolicy,
    /// The shard's share of the memory budget: bytes of messages that it holds.
    pub memory_max: u64,
    /// Lifetime of a message that does not set its own.
    pub message_timeout: MessageTimeoutMs,
    /// The longest content.
    pub content_max: ContentLimit,
    /// The most messages in one batch.
    pub batch: BatchSize,
    /// The most messages that one agent is given before its neighbours get their turn.
    pub turn_quota: TurnQuota,
    /// Messages of one agent that wait to leave.
    pub outbox: OutboxCapacity,
    /// Messages that the shard holds in all.
    pub pending_max: usize,
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
    /// How often agents that fail are restarted, unless their registration says otherwise.
    pub supervision: RestartPolicy,
    /// When agents that fail, or hold up the shard, are not called for a while.
    pub breaker: BreakerPolicy,
    /// Dead letters that are kept.
    pub dead_letters_max: usize,
    /// Bytes of dead letters that are kept.
    pub dead_letter_bytes_max: u64,
    /// What conversations may cost.
    pub conversations: ConversationLimits,
    /// The protocols that conversations are held to.
    pub protocols: Rulebook,
    /// Content-based routing.
    pub rules: Vec<Rule>,
    /// Whether there is a journal.
    pub durability: Durability,
    /// Lifetime of a durable message that does not set its own, in milliseconds.
    pub durable_lifetime_ms: u32,
    /// Of so many durable messages at least the ids are remembered, so that one that comes again is not dispatched again.
    pub duplicates_window: usize,
    /// For the hash tables and [`Context::random`](crate::shard::agent::Context::random).
    pub seed: u64,
}

impl ShardConfig {
    /// Returns what one mailbox may hold.
    #[inline(always)]
    pub(in crate::shard) fn mailbox_limits(&self) -> MailboxLimits {
        MailboxLimits { messages: self.mailbox_messages.into_inner(), bytes: self.mailbox_bytes.into_inner() }
    }
}
