//! Where a message was when its lifetime ended.

/// What a message was waiting for when its lifetime ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// To cross to another shard.
    Crossing,
    /// For its turn in the mailbox.
    Mailbox,
    /// For its moment of delivery.
    Delayed,
    /// For its next attempt, after one that failed.
    Retry,
    /// For room in its receiver's mailbox.
    Stalled,
    /// For the journal to take it.
    Commit,
}

impl Stage {
    /// All phases.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Crossing, Self::Mailbox, Self::Delayed, Self::Retry, Self::Stalled, Self::Commit];
    /// How many there are.
    pub const COUNT: usize = 6;

    /// The phase's place in [`Stage::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The phase as one word, for counters and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crossing => "crossing",
            Self::Mailbox => "mailbox",
            Self::Delayed => "delayed",
            Self::Retry => "retry",
            Self::Stalled => "stalled",
            Self::Commit => "commit",
        }
    }

    /// The phase as part of a sentence.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Crossing => "while it waited to cross to another shard",
            Self::Mailbox => "while it waited in the mailbox",
            Self::Delayed => "while it waited for its moment of delivery",
            Self::Retry => "while it waited for its next attempt",
            Self::Stalled => "while it waited for room in its receiver's mailbox",
            Self::Commit => "while it waited for the journal to take it",
        }
    }
}
