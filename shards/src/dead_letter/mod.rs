//! Dead letters: messages that the router gave up on, kept with the reason and within bounds.

mod filter;
mod id;
mod store;

pub use filter::{DeadLetterFilter, DeadLetterSearch};
pub use id::{DeadLetterId, DeadLetterIdError};
pub(crate) use store::DeadLetters;
pub use store::{LETTERS_PER_ANSWER_MAX, LETTERS_SEARCHED_MAX};

use crate::base::index::ShardIndex;
use crate::message::{Message, WallTime};
pub use crate::outcome::DeadLetterReason;

/// Maximum length of the failure text kept in a dead letter, in bytes.
pub const LAST_ERROR_BYTES_MAX: usize = 1_024;

/// A message that the router gave up on.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The id, unique within this run of the router.
    pub id: DeadLetterId,
    /// The complete message.
    pub message: Message,
    /// The reason.
    pub reason: DeadLetterReason,
    /// The number of attempts since it was accepted or, if it was replayed, since its last replay.
    pub attempts: u8,
    /// The text of the failure after which the message was given up: from its handler, or from the router if the reason
    /// needs more words. Only the first [`LAST_ERROR_BYTES_MAX`] bytes are kept; `None` if the reason says it all.
    pub last_error: Option<Box<str>>,
    /// When the message was first accepted, or its delivery time if that was later; replays do not change it. For a
    /// message that was never admitted, the time of giving up.
    pub first: WallTime,
    /// When the message was given up.
    pub last: WallTime,
    /// The shard that gave it up.
    pub shard: ShardIndex,
    /// The number of earlier replays, at most [`REPLAYS_MAX`](crate::shard::control::replay::REPLAYS_MAX).
    pub replays: u8,
}

impl DeadLetter {
    /// Returns the size for the limit in bytes.
    pub fn weight(&self) -> u64 {
        let last_error = self.last_error.as_ref().map_or(0, |text| text.len());
        (size_of::<Self>() + self.message.weight() + last_error) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word() {
        let words: std::collections::HashSet<_> = DeadLetterReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), DeadLetterReason::COUNT);
        assert!(DeadLetterReason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    }
}
