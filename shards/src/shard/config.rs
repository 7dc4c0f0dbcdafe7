//! The configuration of a shard.

use std::sync::Arc;

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
use crate::trace::Watching;

/// The configuration of a shard.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The shard, and what makes its ids unique.
    pub id_space: IdSpace,
    /// The mapping from agents to shards.
    pub partition: Partition,
    /// Capacity of a mailbox in messages.
    pub mailbox_messages: MailboxCapacity,
    /// Capacity of a mailbox in bytes.
    pub mailbox_bytes: MailboxBytes,
    /// The overflow policy of agents whose registration sets none.
    pub overflow: OverflowPolicy,
    /// The shard's share of the memory budget, in bytes of messages.
    pub memory_max: u64,
    /// Default lifetime of a message.
    pub message_timeout: MessageTimeoutMs,
    /// Maximum size of a message's content.
    pub content_max: ContentLimit,
    /// Maximum number of messages in a batch.
    pub batch: BatchSize,
    /// Number of messages an agent may handle before other agents get their turn.
    pub turn_quota: TurnQuota,
    /// Capacity of an agent's outbox in messages.
    pub outbox: OutboxCapacity,
    /// Maximum number of messages held by the shard.
    pub pending_max: usize,
    /// How failed attempts are retried.
    pub retry: RetryPolicy,
    /// The restart policy of agents whose registration sets none.
    pub supervision: RestartPolicy,
    /// The circuit breaker policy of agents whose registration sets none.
    pub breaker: BreakerPolicy,
    /// Number of dead letters kept.
    pub dead_letters_max: usize,
    /// Size of the dead letters kept, in bytes.
    pub dead_letter_bytes_max: u64,
    /// Limits of conversations.
    pub conversations: ConversationLimits,
    /// The protocols that conversations are checked against.
    pub protocols: Rulebook,
    /// The rules of content-based routing.
    pub rules: Arc<[Rule]>,
    /// Whether there is a journal.
    pub durability: Durability,
    /// Default lifetime of a durable message, in milliseconds.
    pub durable_lifetime_ms: u32,
    /// Minimum size of the deduplication window, in durable messages.
    pub duplicates_window: usize,
    /// Whether an agent that is not registered here is looked for on other nodes: see
    /// [`Output::Wanted`](crate::api::Output::Wanted). If not, a message for such an agent is dead-lettered
    /// immediately.
    pub looks_for_absent: bool,
    /// Which messages are watched from the beginning.
    pub watching: Watching,
    /// Seeds the hash tables and [`Context::random`](crate::shard::agent::Context::random).
    pub seed: u64,
}

impl ShardConfig {
    /// Returns what one mailbox may hold.
    #[inline(always)]
    pub(in crate::shard) fn mailbox_limits(&self) -> MailboxLimits {
        MailboxLimits { messages: self.mailbox_messages.into_inner(), bytes: self.mailbox_bytes.into_inner() }
    }
}
