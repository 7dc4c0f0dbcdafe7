//! Time as an input of a shard.

/// Wall-clock time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WallTime(pub u64);

/// The time at the start of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Nanoseconds of a monotonic clock shared by all shards of a router.
    pub monotonic_ns: u64,
    /// Wall-clock time.
    pub wall: WallTime,
}

impl Now {
    /// Returns the monotonic time in milliseconds.
    #[inline]
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_ns / 1_000_000
    }
}
