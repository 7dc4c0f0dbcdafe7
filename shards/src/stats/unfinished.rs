//! What a shard still held when it was told to stop, by stage.

use std::ops::AddAssign;

use crate::outcome::Stage;

/// What a shard, or a router, had not finished when it was told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// Deliveries abandoned because of the stop, in the order of [`Stage::ALL`].
    pub messages: [u64; Stage::COUNT],
    /// Number of messages with `reply-by` whose replies were pending. These are not messages in transit.
    pub questions: u64,
    /// Number of calls from outside that were waiting for a reply; each was told that the router stops.
    pub asks: u64,
    /// Conversations that were open.
    pub conversations: u64,
}

impl Unfinished {
    /// Returns the number of abandoned deliveries.
    pub fn total(&self) -> u64 {
        self.messages.iter().sum()
    }

    /// Returns the number of them at `stage`.
    pub fn at(&self, stage: Stage) -> u64 {
        self.messages[stage.index()]
    }
}

impl AddAssign<&Self> for Unfinished {
    fn add_assign(&mut self, other: &Self) {
        for (mine, others) in self.messages.iter_mut().zip(other.messages) {
            *mine += others;
        }
        self.questions += other.questions;
        self.asks += other.asks;
        self.conversations += other.conversations;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_shards_had_adds_up() {
        let mut one = Unfinished { questions: 1, asks: 2, conversations: 3, ..Unfinished::default() };
        one.messages[Stage::Retry.index()] = 4;
        let mut both = one;
        both += &one;
        assert_eq!((both.at(Stage::Retry), both.total()), (8, 8));
        assert_eq!((both.questions, both.asks, both.conversations), (2, 4, 6));
    }
}
