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

/// The time at the beginning of a shard's turn. Everything in one turn happens at this moment.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Now,
    /// The same as [`Now::monotonic_ms`], so that nothing on a message's way divides.
    now_ms: u64,
}

impl Clock {
    pub fn new(now: Now) -> Self {
        Self { now, now_ms: now.monotonic_ms() }
    }

    /// Begins a turn. Returns how long after the one before, in nanoseconds.
    #[inline]
    pub fn advance(&mut self, now: Now) -> u64 {
        let passed_ns = now.monotonic_ns.saturating_sub(self.now.monotonic_ns);
        *self = Self::new(now);
        passed_ns
    }

    #[inline(always)]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Returns the monotonic time in milliseconds.
    #[inline(always)]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    #[inline(always)]
    pub fn wall(&self) -> WallTime {
        self.now.wall
    }

    /// Returns the time until a moment of wall time, in milliseconds. Zero if it has passed.
    #[inline(always)]
    pub fn until(&self, moment: WallTime) -> u64 {
        moment.0.saturating_sub(self.now.wall.0)
    }

    /// Returns the time since a moment of wall time, in milliseconds. Zero if it has not come.
    pub fn since(&self, moment: WallTime) -> u64 {
        self.now.wall.0.saturating_sub(moment.0)
    }

    /// Returns the wall time that it was at a past moment of monotonic time in milliseconds, if the wall clock did not jump.
    pub fn wall_was(&self, moment_ms: u64) -> WallTime {
        WallTime(self.now.wall.0.saturating_sub(self.now_ms.saturating_sub(moment_ms)))
    }

    /// Returns the wall time that it will be at a moment of monotonic time in milliseconds, if the wall clock does not jump.
    pub fn wall_at(&self, moment_ms: u64) -> WallTime {
        WallTime(self.now.wall.0.saturating_add(moment_ms.saturating_sub(self.now_ms)))
    }
}
