//! Index types for shards, agents, records and callers.

/// A shard's number, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// Returns the number as an index.
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

/// An agent's number on its shard. Reused after the agent is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AgentIndex(pub(crate) u32);

impl AgentIndex {
    /// Returns the index with this number.
    pub fn at(place: u32) -> Self {
        Self(place)
    }

    /// Returns the number.
    pub fn place(self) -> u32 {
        self.0
    }
}

/// The log sequence number (LSN) of a journal record, counted per shard from one. Records commit in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

/// Correlates a request with its response. The driver chooses it; the shard returns it unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub u64);

/// The driver's number for an inbox outside the shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InboxNumber(pub u32);

/// A conversation's number on its shard. Reused after the conversation is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConversationIndex(pub u32);

/// An agent's place and generation, which distinguishes it from earlier and later agents in the same place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct AgentKey {
    pub index: AgentIndex,
    pub generation: u32,
}
