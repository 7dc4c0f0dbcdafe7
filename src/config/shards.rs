//! The number of shards of a router.

use caxton_shards::domain::ShardCount;

use super::choice::AutoOr;

/// Number of cores from which one is left to other threads and the operating system.
const CORES_TO_SPARE_ONE: usize = 8;
/// Number of cores from which, with a store, one is left to the disk: otherwise shards and disk slow each other down,
/// which costs durable messages more than a shard is worth, and volatile ones their latency.
const CORES_TO_SPARE_ONE_WITH_STORE: usize = 2;

/// Returns the automatic number of shards for this many allowed cores: all of them below 8 and all but one from 8 up;
/// with a store all but one from 2 up; and never more than there are partition buckets.
pub fn automatic_shard_count(cores: usize, store: bool) -> ShardCount {
    let spares_one = if store { CORES_TO_SPARE_ONE_WITH_STORE } else { CORES_TO_SPARE_ONE };
    let shards = if cores < spares_one { cores } else { cores - 1 };
    let shards = u16::try_from(shards).unwrap_or(ShardCount::MAXIMUM).clamp(ShardCount::MINIMUM, ShardCount::MAXIMUM);
    ShardCount::try_new(shards).expect("the value was clamped to the limits")
}

/// The configured number of shards; if it exceeds the number of cores, shards share them.
pub type ShardChoice = AutoOr<ShardCount>;

impl ShardChoice {
    /// Returns the number of shards for this many allowed cores, with or without a store.
    pub fn resolve(self, cores: usize, store: bool) -> ShardCount {
        self.unwrap_or_else(|| automatic_shard_count(cores, store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_store_one_core_is_spared_from_eight_up() {
        for (cores, shards) in
            [(0, 1), (1, 1), (2, 2), (7, 7), (8, 7), (9, 8), (64, 63), (1_025, 1_024), (5_000, 1_024), (100_000, 1_024)]
        {
            assert_eq!(automatic_shard_count(cores, false).as_usize(), shards, "{cores} cores");
        }
    }

    #[test]
    fn with_a_store_one_core_is_spared_from_two_up() {
        for (cores, shards) in [(0, 1), (1, 1), (2, 1), (3, 2), (8, 7), (9, 8), (1_025, 1_024), (1_026, 1_024)] {
            assert_eq!(automatic_shard_count(cores, true).as_usize(), shards, "{cores} cores");
        }
    }

    #[test]
    fn a_choice_is_auto_or_a_number() {
        let three = ShardCount::try_new(3).expect("three shards are allowed");
        for (text, choice, on_nine_cores) in
            [("auto", ShardChoice::Automatic, 8), ("3", ShardChoice::Exactly(three), 3)]
        {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
            assert_eq!(choice.resolve(9, true).as_usize(), on_nine_cores);
        }
        for (text, message) in [
            ("0", "shard count 0 is out of range: expected auto, or 1 to 1024 shards"),
            ("all", "shard count \"all\" is not a number: expected auto, or 1 to 1024 shards"),
        ] {
            assert_eq!(text.parse::<ShardChoice>().expect_err(text).to_string(), message);
        }
    }
}
