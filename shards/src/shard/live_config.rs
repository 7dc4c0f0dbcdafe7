//! What can be replaced while a shard runs: routing rules, protocols, routing plugins and some limits.

use std::fmt;
use std::sync::Arc;

use crate::domain::{BatchSize, ContentLimit, MailboxBytes, MailboxCapacity, MessageTimeoutMs, TurnQuota};
use crate::protocol::Rulebook;
use crate::routing::plugins::RoutePlugin;
use crate::routing::rules::Rule;

/// The part of a shard's configuration that can be replaced while it runs. Cheap to clone.
///
/// A shard takes over only a later version than its own, and all of it in one step, so that in the end all shards have the
/// same, in whatever order they learn of several.
#[derive(Clone, Debug, Default)]
pub struct LiveConfig {
    version: u64,
    /// The rules of content-based routing. Messages that have their receiver keep it.
    pub rules: Arc<[Rule]>,
    /// The protocols that new conversations are checked against. Open ones are checked, or not checked, as they were before.
    pub protocols: Rulebook,
    /// The routing plugins; `None` for those that the shard had from the beginning.
    pub plugins: Option<PluginMaker>,
    /// Limits of what comes next; `None` for those of the beginning.
    pub limits: Option<LiveLimits>,
}

impl LiveConfig {
    /// Creates the version with which a shard begins.
    pub fn new(rules: Arc<[Rule]>, protocols: Rulebook) -> Self {
        Self { version: 0, rules, protocols, plugins: None, limits: None }
    }

    /// Makes this the version after itself. Call it together with every change.
    pub fn advance(&mut self) {
        self.version += 1;
    }

    /// Returns the version, counted from zero.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes over another version if it is later.
    pub fn take_over(&mut self, other: Self) {
        if other.version > self.version {
            *self = other;
        }
    }
}

/// Limits that can change while a shard runs. What was accepted before stays accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveLimits {
    /// Capacity of a mailbox in messages. A fuller one accepts nothing until it has room.
    pub mailbox_messages: MailboxCapacity,
    /// Capacity of a mailbox in bytes.
    pub mailbox_bytes: MailboxBytes,
    /// Default lifetime of a message accepted from now on.
    pub message_timeout: MessageTimeoutMs,
    /// Maximum size of the content of a message accepted from now on.
    pub content_max: ContentLimit,
    /// Maximum number of messages in a batch.
    pub batch: BatchSize,
    /// Number of messages an agent may handle before other agents get their turn.
    pub turn_quota: TurnQuota,
    /// Time without traffic after which a conversation ends, in milliseconds. An open one is looked at again when its former
    /// timeout is over.
    pub conversation_timeout_ms: u64,
    /// Maximum number of participants of a conversation, including the initiator. Those who take part stay.
    pub participants_max: usize,
}

/// Makes the routing plugins of a shard, on the shard's thread.
#[derive(Clone)]
pub struct PluginMaker(Arc<dyn Fn() -> Vec<Box<dyn RoutePlugin>> + Send + Sync>);

impl PluginMaker {
    /// Creates a maker. Of the plugins beyond [`PLUGINS_MAX`](crate::routing::plugins::PLUGINS_MAX) a shard uses none.
    pub fn new(make: impl Fn() -> Vec<Box<dyn RoutePlugin>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(in crate::shard) fn make(&self) -> Vec<Box<dyn RoutePlugin>> {
        (self.0)()
    }

    /// Whether both are clones of one.
    pub(in crate::shard) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for PluginMaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PluginMaker")
    }
}
