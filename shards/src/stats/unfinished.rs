//! What a shard still held when it was told to stop, by place.

macro_rules! places {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Where an unhandled message was when the router stopped.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Place {
            $($(#[$doc])* $variant,)+
        }

        impl Place {
            /// All places, in the order in which a message passes them.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($word),+].len();

            /// Returns the place as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the place as part of a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

places! {
    /// Passed to the router and not yet accepted by the sender's shard.
    Queued = "queued", "queued for its sender's shard";
    /// Sent, but still in the sender's outbox.
    Outbox = "outbox", "in its sender's outbox";
    /// Between two shards.
    Crossing = "crossing", "on its way to another shard";
    /// Accepted, but not yet durable.
    Commit = "commit", "waiting for the journal";
    /// Delayed until a delivery time in the future.
    Delayed = "delayed", "waiting for its delivery time";
    /// Behind other messages, or with a receiver that was not called.
    Mailbox = "mailbox", "in its receiver's mailbox";
    /// In a suspended handler.
    Suspended = "in-hand", "in a suspended handler";
    /// Between two attempts.
    Retry = "retry", "waiting for its next attempt";
    /// In an inbox, not taken by its owner.
    Inbox = "inbox", "in an inbox that nobody read";
}

impl Place {
    /// Returns the place's index in [`Place::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a shard, or a router, had not finished when it was told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// Deliveries abandoned because of the stop, in the order of [`Place::ALL`].
    pub messages: [u64; Place::COUNT],
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

    /// Returns the number of them at `place`.
    pub fn at(&self, place: Place) -> u64 {
        self.messages[place.index()]
    }

    /// Returns the sum of two shards' figures.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (mine, others) in self.messages.iter_mut().zip(other.messages) {
            *mine += others;
        }
        self.questions += other.questions;
        self.asks += other.asks;
        self.conversations += other.conversations;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_own_word_and_number() {
        let words: std::collections::HashSet<_> = Place::ALL.iter().map(|place| place.as_str()).collect();
        assert_eq!(words.len(), Place::COUNT);
        assert!(Place::ALL.iter().enumerate().all(|(index, place)| place.index() == index));
    }

    #[test]
    fn what_two_shards_had_adds_up() {
        let mut one = Unfinished { questions: 1, asks: 2, conversations: 3, ..Unfinished::default() };
        one.messages[Place::Retry.index()] = 4;
        let both = one.plus(&one);
        assert_eq!((both.at(Place::Retry), both.total()), (8, 8));
        assert_eq!((both.questions, both.asks, both.conversations), (2, 4, 6));
    }
}
