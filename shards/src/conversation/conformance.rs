//! What a shard has seen of protocols, in figures.

/// What a shard has seen of protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Conformance {
    /// Messages that followed the protocol of their conversation.
    pub steps: u64,
    /// How many of them came after the `reply-by` of the message before them.
    pub late: u64,
    /// Messages that broke it and were delivered all the same.
    pub observed: u64,
    /// Messages that broke it and were refused.
    pub refused: u64,
    /// Messages that named a protocol that is checked, and could not be held to it: without a conversation-id, or to
    /// an agent that the conversation's initiator wants answers to go to.
    pub unchecked: u64,
}

impl Conformance {
    /// All violations.
    pub fn violations(&self) -> u64 {
        self.observed + self.refused
    }

    /// The figures of two shards together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.steps += other.steps;
        self.late += other.late;
        self.observed += other.observed;
        self.refused += other.refused;
        self.unchecked += other.unchecked;
        self
    }
}
