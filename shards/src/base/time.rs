//! Time, as a shard is told of it.

/// A moment of wall time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WallTime(pub u64);

/// The time at the beginning of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Nanoseconds of a clock that never goes backwards, the same one on every shard of a router.
    pub monotonic_ns: u64,
    /// Wall time.
    pub wall: WallTime,
}

impl Now {
    /// Monotonic time in milliseconds.
    #[inline]
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_ns / 1_000_000
    }
}
