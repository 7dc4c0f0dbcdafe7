//! The settings of a simulated router.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;

use crate::conversation::ConversationLimits;
use crate::domain::{NodeId, ShardCount};
use crate::flow_control::policy::OverflowPolicy;
use crate::journal::record::Durability;
use crate::mesh::{LaneCapacity, mesh};
use crate::message::{IdSpace, WallTime};
use crate::protocol::Rulebook;
use crate::routing::partition::Partition;
use crate::shard::control::restore::Recovery;
use crate::shard::io::Now;
use crate::shard::{RetryPolicy, Shard, ShardConfig};
use crate::supervision::RestartPolicy;
use crate::supervision::breaker::BreakerPolicy;
use crate::trace::Watching;

use super::world::{Node, World};

/// The settings of a simulated router. By default the limits are so high that a test does not reach them by accident;
/// each can be changed with [`Setup::configured`].
#[derive(Clone, Debug)]
pub struct Setup {
    /// The number of shards.
    pub shards: u16,
    /// The number of messages in flight from one shard to another, per pair.
    pub credits: usize,
    /// Places in each ring for what shards exchange besides messages.
    pub uncredited: usize,
    /// The configuration of each shard. Its number in `id_space` is filled in, and `partition` must not be changed.
    pub config: ShardConfig,
}

impl Setup {
    /// Creates the default settings for 1 to 1024 shards.
    ///
    /// # Panics
    ///
    /// If the number of shards is out of range.
    pub fn new(shards: u16) -> Self {
        let count = ShardCount::try_new(shards).expect("a router has from 1 to 1024 shards");
        let config = ShardConfig {
            id_space: IdSpace { node: NodeId::default(), boot_epoch: 1, shard: 0 },
            partition: Partition::new(count),
            mailbox_messages: 1_000.try_into().expect("a legal capacity"),
            mailbox_bytes: (1 << 20).try_into().expect("a legal number of bytes"),
            overflow: OverflowPolicy::Reject,
            memory_max: 1 << 30,
            message_timeout: 30_000.try_into().expect("a legal lifetime"),
            content_max: 10_000.try_into().expect("a legal length"),
            batch: 16.try_into().expect("a legal batch"),
            turn_quota: 64.try_into().expect("a legal quota"),
            outbox: 100.try_into().expect("a legal outbox"),
            pending_max: 100_000,
            retry: RetryPolicy { retries: 3, delay_ms: 100, factor: 2.0, jitter: 0.0 },
            breaker: BreakerPolicy::default(),
            supervision: RestartPolicy {
                restarts: 10.try_into().expect("a legal number of restarts"),
                window_ms: 10_000.try_into().expect("a legal window"),
                delay_ms: 0.try_into().expect("a legal delay"),
            },
            dead_letters_max: 10_000,
            dead_letter_bytes_max: 1 << 30,
            conversations: ConversationLimits { open_max: 1_000, participants_max: 10, history: 8, timeout_ms: 10_000 },
            protocols: Rulebook::default(),
            rules: Arc::default(),
            durability: Durability::Unavailable,
            durable_lifetime_ms: 30_000,
            duplicates_window: 1_000,
            looks_for_absent: false,
            watching: Watching::default(),
            seed: 42,
        };
        Self { shards, credits: 64, uncredited: 16, config }
    }

    /// Sets the size of the rings between shards.
    #[must_use]
    pub fn lanes(mut self, credits: usize, uncredited: usize) -> Self {
        (self.credits, self.uncredited) = (credits, uncredited);
        self
    }

    /// Changes the configuration of the shards.
    #[must_use]
    pub fn configured(mut self, change: impl FnOnce(&mut ShardConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the router, at monotonic time zero.
    ///
    /// # Panics
    ///
    /// If a ring would have no place.
    pub fn start(self) -> World {
        self.start_at(World::START, None)
    }

    /// Starts the router at a wall-clock time with what an earlier one left.
    ///
    /// # Panics
    ///
    /// If a ring would have no place.
    pub fn start_from(self, recovery: Recovery, wall: WallTime) -> World {
        self.start_at(Now { monotonic_ns: 0, wall }, Some(recovery))
    }

    fn start_at(self, now: Now, recovery: Option<Recovery>) -> World {
        let capacity = LaneCapacity {
            credits: NonZeroUsize::new(self.credits).expect("a ring has room for a message"),
            uncredited: NonZeroUsize::new(self.uncredited).expect("a ring has room for a notice"),
        };
        let ports = mesh(NonZeroU16::new(self.shards).expect("a router has shards"), capacity);
        let nodes = ports.into_iter().zip(0_u16..).map(|(port, shard)| {
            let mut config = self.config.clone();
            config.id_space.shard = shard;
            Node::new(Shard::new(config, port, now))
        });
        let mut nodes: Vec<Node> = nodes.collect();
        if let Some(recovery) = recovery {
            for (node, inheritance) in nodes.iter_mut().zip(recovery.divide(self.config.partition)) {
                node.shard.restore(inheritance);
            }
        }
        World::new_with(nodes, self.config.partition, now.wall)
    }
}
