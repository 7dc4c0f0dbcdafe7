//! The mapping from agents to shards, which is computed and not looked up.
//!
//! An agent's id is a hash, so its leading bits spread agents evenly over [`BUCKETS`] buckets. A bucket belongs to one
//! shard; buckets are also the unit in which a cluster owns agents.

pub use crate::base::index::ShardIndex;
use crate::domain::{AgentName, DomainError, NodeId, ShardCount};
use crate::message::AgentId;

/// Number of buckets, and so the maximum number of shards of a router.
pub const BUCKETS: u16 = 1024;

/// Where a new agent is to live, when the hash of its name is not to decide alone.
///
/// Messages between agents of one shard cross no ring. An agent is still found by the hash of its name: placing it
/// completes its name, so that the hash leads to the shard that was asked for (see [`Partition::complete`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Placement {
    /// On this shard.
    Shard(ShardIndex),
    /// On the shard of this agent, whether it is registered or not.
    Near(AgentId),
}

/// The map from agents to the shards of one node.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    shards: u16,
    /// Only the names of the gateways depend on it.
    node: NodeId,
}

impl Partition {
    /// Creates the map for this many shards of the default node.
    pub fn new(shards: ShardCount) -> Self {
        Self { shards: shards.into_inner(), node: NodeId::default() }
    }

    /// Returns the same map for this node. Agents keep their shards, but the [gateways](Self::gateway_name) of two
    /// nodes have different names.
    #[must_use]
    pub fn of_node(self, node: NodeId) -> Self {
        Self { node, ..self }
    }

    /// Returns the node.
    pub fn node(self) -> NodeId {
        self.node
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
        if self.node == NodeId::default() {
            return self.name_on(shard, &format!("gateway-{}", shard.0));
        }
        self.name_on(shard, &format!("gateway-{}-node-{}", shard.0, self.node))
    }

    /// Returns `name` completed so that it belongs to an agent of the shard that `placement` asks for.
    ///
    /// A name that belongs there already stays as it is; otherwise it gets a number, before the platform if it names one:
    /// `clerk@shop` becomes `clerk-3@shop`. The same name, placement and number of shards always give the same result.
    ///
    /// # Errors
    /// The shard does not exist, or the completed name is too long.
    pub fn complete(self, name: &AgentName, placement: Placement) -> Result<AgentName, DomainError> {
        let shard = match placement {
            Placement::Shard(shard) => shard,
            Placement::Near(agent) => self.shard_of(agent),
        };
        if shard.0 >= self.shards {
            return Err(DomainError::out_of_range("shard", shard.0, format!("0 to {}", self.shards - 1)));
        }
        if self.shard_of(AgentId::of(name)) == shard {
            return Ok(name.clone());
        }
        let text: &str = name.as_ref();
        let (local, platform) = text.find('@').map_or((text, ""), |at| text.split_at(at));
        let completed = self.find_name(shard, |attempt| format!("{local}-{attempt}{platform}"));
        AgentName::try_new(completed)
    }

    /// Returns a name that begins with `prefix` and belongs to an agent of this shard, the same one every time.
    pub fn name_on(self, shard: ShardIndex, prefix: &str) -> String {
        self.find_name(shard, |attempt| format!("{prefix}-{attempt}"))
    }

    /// Returns the first of the numbered names that belongs to the shard.
    #[allow(clippy::maybe_infinite_iter)] // On average one in `shard_count` names belongs to the shard.
    fn find_name(self, shard: ShardIndex, name: impl Fn(u64) -> String) -> String {
        (0_u64..).map(&name).find(|name| self.shard_of(AgentId::of_text(name)) == shard).unwrap_or_else(|| name(0))
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
    fn a_name_is_completed_only_where_its_hash_leads_elsewhere_and_before_its_platform() {
        let partition = Partition::new(ShardCount::try_new(4).unwrap());
        let name = AgentName::try_new("clerk@shop".to_owned()).unwrap();
        let home = partition.shard_of(AgentId::of(&name));
        for shard in (0..4).map(ShardIndex) {
            let completed = partition.complete(&name, Placement::Shard(shard)).unwrap();
            assert_eq!(partition.shard_of(AgentId::of(&completed)), shard);
            assert_eq!(completed == name, shard == home, "{completed}");
            let text: &str = completed.as_ref();
            assert!(text.starts_with("clerk") && text.ends_with("@shop"), "{completed}");
            let near = partition.complete(&name, Placement::Near(AgentId::of(&completed))).unwrap();
            assert_eq!(near, completed);
        }
        let beyond = partition.complete(&name, Placement::Shard(ShardIndex(4))).unwrap_err();
        assert_eq!(beyond, DomainError::out_of_range("shard", 4, "0 to 3"));
        let longest = AgentName::try_new("n".repeat(crate::domain::AGENT_NAME_BYTES_MAX)).unwrap();
        let elsewhere = Placement::Shard(ShardIndex((partition.shard_of(AgentId::of(&longest)).0 + 1) % 4));
        assert!(partition.complete(&longest, elsewhere).is_err(), "there is no room for a number");
    }

    #[test]
    fn the_gateways_of_two_nodes_have_different_names_and_belong_to_their_shards() {
        let partition = Partition::new(ShardCount::try_new(3).unwrap());
        let mut names = std::collections::HashSet::new();
        for node in [0, 1, 12, u16::MAX] {
            let partition = partition.of_node(NodeId::try_new(node).unwrap());
            for shard in (0..3).map(ShardIndex) {
                let name = partition.gateway_name(shard);
                assert_eq!(partition.shard_of(AgentId::of_text(&name)), shard, "{name}");
                assert!(AgentName::try_new(name.clone()).is_ok() && names.insert(name.clone()), "{name}");
                assert_eq!(node == 0, name == partition.name_on(shard, &format!("gateway-{}", shard.0)), "{name}");
            }
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
