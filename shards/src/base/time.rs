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

/// The time at the beginning of a shard's turn. Everything in a turn happens at this time.
#[derive(Debug)]
pub(crate) struct Clock {
    now: Now,
    /// Equals [`Now::monotonic_ms`], so that no division is needed per message.
    now_ms: u64,
}

impl Clock {
    pub fn new(now: Now) -> Self {
        Self { now, now_ms: now.monotonic_ms() }
    }

    /// Begins a turn. Returns the nanoseconds since the previous one began.
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

    /// Returns the time until a wall-clock time, in milliseconds. Zero if it has passed.
    #[inline(always)]
    pub fn until(&self, moment: WallTime) -> u64 {
        moment.0.saturating_sub(self.now.wall.0)
    }

    /// Returns the time since a wall-clock time, in milliseconds. Zero if it is in the future.
    pub fn since(&self, moment: WallTime) -> u64 {
        self.now.wall.0.saturating_sub(moment.0)
    }

    /// Returns the wall-clock time at a past monotonic time in milliseconds, unless the wall clock was set.
    pub fn wall_was(&self, moment_ms: u64) -> WallTime {
        WallTime(self.now.wall.0.saturating_sub(self.now_ms.saturating_sub(moment_ms)))
    }

    /// Returns the wall-clock time at a future monotonic time in milliseconds, unless the wall clock is set.
    pub fn wall_at(&self, moment_ms: u64) -> WallTime {
        WallTime(self.now.wall.0.saturating_add(moment_ms.saturating_sub(self.now_ms)))
    }
}
