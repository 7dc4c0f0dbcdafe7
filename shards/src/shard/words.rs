//! A shard's figures as words, in which its thread publishes them.

use crate::outcome::{DeadLetterReason, Stage};
use crate::shard::io::Snapshot;

/// Names each figure once, for both directions.
macro_rules! words {
    ($($($field:ident).+,)+) => {
        impl Snapshot {
            /// The figures that are one number.
            const SINGLE: usize = [$(stringify!($($field).+)),+].len();
            /// The number of words.
            pub const WORDS: usize = Self::SINGLE + Stage::COUNT;

            /// Returns the figures as words, for memory shared by threads. Figures by reason are not included.
            #[inline]
            pub fn to_words(&self) -> [u64; Self::WORDS] {
                let mut words = [0; Self::WORDS];
                words[..Self::SINGLE].copy_from_slice(&[$(self.$($field).+ as u64),+]);
                words[Self::SINGLE..].copy_from_slice(&self.account.expired_by_stage);
                words
            }

            /// Returns the figures from their [words](Self::to_words), with those by reason.
            #[allow(clippy::cast_possible_truncation)] // These were counts in memory.
            pub fn from_words(words: &[u64; Self::WORDS], dead_by_reason: [u64; DeadLetterReason::COUNT]) -> Self {
                let mut snapshot = Self::default();
                let (single, by_stage) = words.split_at(Self::SINGLE);
                let mut single = single.iter().copied();
                $(snapshot.$($field).+ = single.next().unwrap_or(0) as _;)+
                snapshot.account.expired_by_stage.copy_from_slice(by_stage);
                snapshot.account.dead_by_reason = dead_by_reason;
                snapshot
            }
        }
    };
}

words! {
    account.accepted,
    account.arrived,
    account.recovered,
    account.processed,
    account.dead_lettered,
    account.expired,
    account.departed,
    account.kept,
    account.pending,
    account.retried,
    account.refused,
    account.notices,
    account.notices_coalesced,
    agents,
    conversations,
    conversations_opened,
    dead_letters,
    dead_letters_dropped,
    dead_letters_replayed,
    breakers_open,
    breakers_opened,
    timers,
    questions,
    replies_missing,
    replies_late,
    memory_bytes,
    memory_bytes_max,
    refused_for_memory,
    refused_by_receiver,
    replies_beyond,
    receivers_closed,
    receivers_closed_so_far,
    stalled,
    stalled_so_far,
    waiting,
    waiting_so_far,
    conformance.steps,
    conformance.late,
    conformance.observed,
    conformance.refused,
    conformance.unchecked,
    duplicates,
    commits_awaited,
}

const _: () = assert!(
    size_of::<Snapshot>() == (Snapshot::WORDS + DeadLetterReason::COUNT) * size_of::<u64>(),
    "every figure of a snapshot is among its words"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_is_read_back() {
        let words = std::array::from_fn(|index| index as u64 + 1);
        let reasons = std::array::from_fn(|index| index as u64 + 1_000);
        let snapshot = Snapshot::from_words(&words, reasons);
        assert_eq!(snapshot.to_words(), words);
        assert_eq!((snapshot.account.accepted, snapshot.account.dead_by_reason), (1, reasons));
    }
}
