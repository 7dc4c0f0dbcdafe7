//! Messages that the router gave up on, with the reason, kept within bounds for someone to look at.

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

/// Limit on the failure text that a dead letter keeps, in bytes.
pub const LAST_ERROR_BYTES_MAX: usize = 1_024;

/// A message that was given up.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its number, unique within this run of the router.
    pub id: DeadLetterId,
    /// The whole message.
    pub message: Message,
    /// Why.
    pub reason: DeadLetterReason,
    /// How often it was tried since it was accepted or, if it was replayed, since its last replay.
    pub attempts: u8,
    /// What was said of the failure after which the message was given up: by its handler, or by the router where the
    /// reason needs more words. The first [`LAST_ERROR_BYTES_MAX`] bytes of it; nothing where the reason says it all.
    pub last_error: Option<Box<str>>,
    /// When the message was first accepted or, if it was not to be delivered before a later moment, that moment;
    /// replays do not change it. For a message that was never admitted it is the moment of giving up.
    pub first: WallTime,
    /// When it was given up.
    pub last: WallTime,
    /// Where.
    pub shard: ShardIndex,
    /// How often it was replayed before, at most [`REPLAYS_MAX`](crate::shard::control::replay::REPLAYS_MAX).
    pub replays: u8,
}

impl DeadLetter {
    /// What it counts as against the limit in bytes.
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
