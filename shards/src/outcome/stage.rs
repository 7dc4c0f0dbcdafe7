//! Where a message was when its lifetime ended.

/// What a message was waiting for when its lifetime ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Stage {
    /// Transfer to another shard.
    Crossing,
    /// Its turn in the mailbox.
    Mailbox,
    /// Its delivery time.
    Delayed,
    /// The next attempt after a failed one.
    Retry,
    /// Room in the receiver's mailbox.
    Stalled,
    /// The journal's commit.
    Commit,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Crossing, Self::Mailbox, Self::Delayed, Self::Retry, Self::Stalled, Self::Commit];
    /// The number of stages.
    pub const COUNT: usize = 6;

    /// Returns the stage's index in [`Stage::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the stage as one word, for counters and JSON.
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

    /// Returns the stage as part of a sentence.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Crossing => "while it waited to cross to another shard",
            Self::Mailbox => "while it waited in the mailbox",
            Self::Delayed => "while it waited for its delivery time",
            Self::Retry => "while it waited for its next attempt",
            Self::Stalled => "while it waited for room in its receiver's mailbox",
            Self::Commit => "while it waited for the journal",
        }
    }
}
