//! The clocks that a shard's driver reads once per turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use caxton_shards::api::Now;
use caxton_shards::message::WallTime;

/// Wall time is read again once monotonic time has advanced by this much, in nanoseconds.
const WALL_TIME_REFRESH_NS: u64 = 1_000_000;

/// Monotonic time since the router's start, the same on every shard, and wall time.
#[derive(Clone)]
pub(crate) struct Clock {
    start: Instant,
    wall: WallTime,
    wall_read_ns: u64,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now(), wall: wall_time(), wall_read_ns: 0 }
    }

    /// Returns the origin of monotonic time.
    pub fn start(&self) -> Instant {
        self.start
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // 584 years fit.
    pub fn now(&mut self) -> Now {
        let monotonic_ns = self.start.elapsed().as_nanos() as u64;
        if monotonic_ns - self.wall_read_ns >= WALL_TIME_REFRESH_NS {
            self.wall = wall_time();
            self.wall_read_ns = monotonic_ns;
        }
        Now { monotonic_ns, wall: self.wall }
    }
}

/// A clock before 1970 counts as 1970.
#[allow(clippy::cast_possible_truncation)] // Half a billion years fit.
pub(crate) fn wall_time() -> WallTime {
    WallTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}
