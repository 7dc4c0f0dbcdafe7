//! Where a message was when its lifetime ended or the router stopped.

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Where a message was when its lifetime ended or the router stopped.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Stage {
            $($(#[$doc])* $variant,)+
        }

        impl Stage {
            /// All stages, in the order in which a message passes them.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
            /// The number of stages.
            pub const COUNT: usize = [$($word),+].len();

            /// Returns the stage as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the stage as part of a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

stages! {
    /// Passed to the router and not yet accepted by the sender's shard.
    Queued = "queued", "queued for its sender's shard";
    /// Sent, but still in the sender's outbox.
    Outbox = "outbox", "in its sender's outbox";
    /// Between two shards.
    Crossing = "crossing", "on its way to another shard";
    /// Waiting for room in the receiver's mailbox.
    Stalled = "stalled", "waiting for room in its receiver's mailbox";
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

impl Stage {
    /// Returns the stage's index in [`Stage::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_its_own_word_and_number() {
        let words: std::collections::HashSet<_> = Stage::ALL.iter().map(|stage| stage.as_str()).collect();
        assert_eq!(words.len(), Stage::COUNT);
        assert!(Stage::ALL.iter().enumerate().all(|(index, stage)| stage.index() == index));
    }
}
