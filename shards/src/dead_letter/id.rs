//! A dead letter's id: its shard, and a count.

use std::fmt;
use std::str::FromStr;

use crate::base::index::ShardIndex;

/// A dead letter's id, unique within a run of the router. Its text form is `d`, the shard, a dash and a count from one,
/// such as `d0-17`; on one shard, later letters have higher counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DeadLetterId {
    /// The shard that keeps the dead letter.
    pub shard: ShardIndex,
    /// The number of the dead letter on that shard, counted from one.
    pub number: u64,
}

/// The text is not a dead letter's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not a dead letter's id: expected d, the shard, a dash and a count, such as d0-17")]
pub struct DeadLetterIdError;

impl fmt::Display for DeadLetterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "d{}-{}", self.shard.0, self.number)
    }
}

impl FromStr for DeadLetterId {
    type Err = DeadLetterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.strip_prefix('d').and_then(|rest| rest.split_once('-'));
        let id = numbers.and_then(|(shard, number)| {
            Some(Self { shard: ShardIndex(plain_number(shard)?), number: plain_number(number)? })
        });
        id.ok_or(DeadLetterIdError)
    }
}

/// Parses digits only: no sign and no white space.
fn plain_number<N: FromStr>(text: &str) -> Option<N> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_id_stands_for_the_same_id() {
        let id = DeadLetterId { shard: ShardIndex(1_023), number: u64::MAX };
        assert_eq!(id.to_string(), format!("d1023-{}", u64::MAX));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("d0-17".parse(), Ok(DeadLetterId { shard: ShardIndex(0), number: 17 }));
    }

    #[test]
    fn near_misses_are_no_ids() {
        for text in ["", "d", "d0", "d-1", "d0-", "0-17", "D0-17", "d0-17 ", "d+0-17", "d0-+1", "d0-1-2", "d65536-1"] {
            assert_eq!(text.parse::<DeadLetterId>(), Err(DeadLetterIdError), "{text:?}");
        }
    }
}
