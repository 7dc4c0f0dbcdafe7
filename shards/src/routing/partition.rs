//! The mapping from agents to shards, which is computed and not looked up.
//!
//! An agent's id is a hash, so its leading bits spread agents evenly over [`BUCKETS`] buckets. A bucket belongs to one
//! shard; buckets are also the unit in which a cluster owns agents.

pub use crate::base::index::ShardIndex;
use crate::domain::ShardCount;
use crate::message::AgentId;

/// Number of buckets, and so the maximum number of shards of a router.
pub const BUCKETS: u16 = 1024;

/// The map from agents to shards.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    shards: u16,
}

impl Partition {
    /// Creates the map for this many shards.
    pub fn new(shards: ShardCount) -> Self {
        Self { shards: shards.into_inner() }
    }

    /// Returns the number of shards.
    pub fn shard_count(self) -> u16 {
        self.shards
    }

    /// Returns the agent's bucket.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // Ten bits remain.
    pub fn bucket_of(self, agent: AgentId) -> u16 {
        (agent.partition_bits() >> (u64::BITS - BUCKETS.trailing_zeros())) as u16
    }

    /// Returns the agent's shard.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // The quotient is below the number of shards.
    pub fn shard_of(self, agent: AgentId) -> ShardIndex {
        ShardIndex((u32::from(self.bucket_of(agent)) * u32::from(self.shards) / u32::from(BUCKETS)) as u16)
    }

    /// Returns the name of a shard's own agent for embedders without an inbox.
    pub fn gateway_name(self, shard: ShardIndex) -> String {
        self.name_on(shard, &format!("gateway-{}", shard.0))
    }

    /// Returns a name that begins with `prefix` and belongs to an agent of this shard, the same one every time.
    #[allow(clippy::maybe_infinite_iter)] // On average one in `shard_count` names belongs to the shard.
    pub fn name_on(self, shard: ShardIndex, prefix: &str) -> String {
        (0_u64..)
            .map(|attempt| format!("{prefix}-{attempt}"))
            .find(|name| self.shard_of(AgentId::of_text(name)) == shard)
            .unwrap_or_else(|| prefix.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_spread_evenly_over_any_number_of_shards() {
        for shards in [1, 2, 3, 7, 64, 1024] {
            let partition = Partition::new(ShardCount::try_new(shards).unwrap());
            let mut counts = vec![0_u32; usize::from(shards)];
            let agents = u32::from(shards) * 200;
            for agent in 0..agents {
                counts[partition.shard_of(AgentId::of_text(&format!("agent-{agent}"))).as_usize()] += 1;
            }
            assert!(counts.iter().all(|count| (100..300).contains(count)), "{shards} shards: {counts:?}");
        }
    }

    #[test]
    fn a_name_can_be_found_for_every_shard() {
        let partition = Partition::new(ShardCount::try_new(5).unwrap());
        for shard in (0..5).map(ShardIndex) {
            let name = partition.name_on(shard, "gateway");
            assert_eq!(partition.shard_of(AgentId::of_text(&name)), shard);
        }
    }
}
