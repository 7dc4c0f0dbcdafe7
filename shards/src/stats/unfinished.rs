//! What a shard still had when it was told to stop, by where it stood.

macro_rules! places {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Where a message stood that was not handled when the router stopped.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Place {
            $($(#[$doc])* $variant,)+
        }

        impl Place {
            /// All places, in the order in which a message comes to them.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($word),+].len();

            /// The place as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The place as part of a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

places! {
    /// Told to the router, and not yet taken into the sender's shard.
    Queued = "queued", "queued for its sender's shard";
    /// Sent, and not yet on its way.
    Outbox = "outbox", "in its sender's outbox";
    /// Between two shards.
    Crossing = "crossing", "on its way to another shard";
    /// Taken in, and not yet durable.
    Commit = "commit", "waiting for the journal";
    /// Not to be delivered before a moment that had not come.
    Delayed = "delayed", "waiting for its moment of delivery";
    /// Behind others, or its receiver was not called.
    Mailbox = "mailbox", "in its receiver's mailbox";
    /// With a handler that was suspended.
    Suspended = "in-hand", "in the hands of a suspended handler";
    /// Between two attempts.
    Retry = "retry", "waiting for its next attempt";
    /// Handed to an inbox whose owner had not taken it.
    Inbox = "inbox", "in an inbox that nobody read";
}

impl Place {
    /// The place's number in [`Place::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a shard, or a router, had not finished when it was told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// Deliveries that were given up because of the stop, in the order of [`Place::ALL`].
    pub messages: [u64; Place::COUNT],
    /// Messages with `reply-by` whose answers were still awaited. They are no messages on their way.
    pub questions: u64,
    /// Questions from outside that were still waiting for an answer; each was told that the router stops.
    pub asks: u64,
    /// Conversations that were open.
    pub conversations: u64,
}

impl Unfinished {
    /// How many deliveries were given up.
    pub fn total(&self) -> u64 {
        self.messages.iter().sum()
    }

    /// How many of them stood there.
    pub fn at(&self, place: Place) -> u64 {
        self.messages[place.index()]
    }

    /// What two shards had together.
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
