//! How large the rings between shards are.

use std::num::{NonZeroU16, NonZeroUsize};

use caxton_shards::domain::{RingCapacity, ShardCount};
use caxton_shards::mesh::LaneCapacity;
use caxton_shards::shard::ShardFrame;

use super::choice::AutoOr;

/// What a shard may have under way to all others together, in messages: what a shard of two takes in within five milliseconds at
/// some three million messages a second. For so long an operating system takes a core away at times, and meanwhile nobody else
/// has to wait. On the same number of shards, rings that are larger still only cost cache.
const UNDER_WAY: u32 = 16_384;
/// No ring is smaller than that, in messages.
const SMALLEST: u32 = 1_024;

/// Room for what shards tell each other beside messages, per pair of shards.
const UNCREDITED_SLOTS: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");
/// One credit at least is kept for messages in transit.
const CREDITS_MIN: usize = 2;

/// The capacity of a ring as it is configured.
pub type RingChoice = AutoOr<RingCapacity>;

/// What `auto` means for the ring from one shard to another. The more shards there are, the less goes from each to each.
pub fn automatic_ring_capacity(shards: ShardCount) -> RingCapacity {
    let capacity = (UNDER_WAY / u32::from(shards.into_inner())).max(SMALLEST);
    RingCapacity::try_new(capacity).expect("both bounds are within the limits")
}

impl RingChoice {
    /// The capacity of each ring of a router with so many shards.
    pub fn resolve(self, shards: ShardCount) -> RingCapacity {
        self.unwrap_or_else(|| automatic_ring_capacity(shards))
    }
}

/// The room of each lane from one shard to another, in a router with so many shards.
pub(crate) fn lane_capacity(choice: RingChoice, shards: ShardCount) -> LaneCapacity {
    let credits = choice.resolve(shards).as_usize().max(CREDITS_MIN);
    LaneCapacity { credits: NonZeroUsize::new(credits).unwrap_or(NonZeroUsize::MIN), uncredited: UNCREDITED_SLOTS }
}

/// How many bytes all rings of a router with so many shards take when they are full. Before that the operating system places no
/// memory where none was written.
pub fn ring_bytes(choice: RingChoice, shards: ShardCount) -> u64 {
    let count = NonZeroU16::new(shards.into_inner()).unwrap_or(NonZeroU16::MIN);
    lane_capacity(choice, shards).mesh_bytes::<ShardFrame>(count) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_shards_there_are_the_smaller_is_each_ring() {
        for (shards, capacity) in [(1, 16_384), (2, 8_192), (4, 4_096), (16, 1_024), (63, 1_024), (1_024, 1_024)] {
            let shards = ShardCount::try_new(shards).expect("a legal count");
            assert_eq!(RingChoice::Automatic.resolve(shards).into_inner(), capacity, "{shards} shards");
        }
        let own = RingCapacity::try_new(7).expect("a legal capacity");
        assert_eq!(RingChoice::Exactly(own).resolve(ShardCount::try_new(2).expect("a legal count")), own);
    }
}
