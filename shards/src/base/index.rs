//! The numbers by which shards, agents, records and callers are known.

/// A shard's number, from zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// The number as an index.
    #[inline]
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for ShardIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "shard {}", self.0)
    }
}

/// An agent's number on its shard. It may be used again after the agent was removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AgentIndex(pub(crate) u32);

/// The number of a record, counted per shard from one. Records commit in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

/// Joins a question to its answer. The driver chooses it; the shard only repeats it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub u64);

/// An inbox outside the shard, by the driver's number for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InboxNumber(pub u32);

/// A conversation's number on its shard. It may be used again for another conversation after this one closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConversationIndex(pub u32);
