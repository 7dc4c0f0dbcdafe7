//! Sizes of the rings between shards.

use std::num::{NonZeroU16, NonZeroUsize};

use caxton_shards::domain::{RingCapacity, ShardCount};
use caxton_shards::mesh::LaneCapacity;
use caxton_shards::shard::ShardFrame;

use super::choice::AutoOr;

/// Messages in flight from one shard to all others together: what a shard of two receives within five milliseconds at
/// about three million messages a second. An operating system at times takes a core away for that long, and meanwhile
/// no other shard has to wait. With the same number of shards, larger rings only cost cache.
const UNDER_WAY: u32 = 16_384;
/// Minimum capacity of a ring, in messages.
const SMALLEST: u32 = 1_024;

/// Slots for what shards exchange besides messages, per pair of shards.
const UNCREDITED_SLOTS: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");
/// At least one credit is reserved for messages in transit.
const CREDITS_MIN: usize = 2;

/// The configured capacity of a ring.
pub type RingChoice = AutoOr<RingCapacity>;

/// Returns the automatic capacity of the ring from one shard to another. The more shards there are, the less traffic
/// each pair has.
pub fn automatic_ring_capacity(shards: ShardCount) -> RingCapacity {
    let capacity = (UNDER_WAY / u32::from(shards.into_inner())).max(SMALLEST);
    RingCapacity::try_new(capacity).expect("both bounds are within the limits")
}

impl RingChoice {
    /// Returns the capacity of each ring of a router with this many shards.
    pub fn resolve(self, shards: ShardCount) -> RingCapacity {
        self.unwrap_or_else(|| automatic_ring_capacity(shards))
    }
}

/// Returns the capacity of each lane in a router with this many shards.
pub(crate) fn lane_capacity(choice: RingChoice, shards: ShardCount) -> LaneCapacity {
    let credits = choice.resolve(shards).as_usize().max(CREDITS_MIN);
    LaneCapacity { credits: NonZeroUsize::new(credits).unwrap_or(NonZeroUsize::MIN), uncredited: UNCREDITED_SLOTS }
}

/// Returns the size of all rings of a router with this many shards when they are full, in bytes. The operating system
/// allocates no memory before it is written.
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
