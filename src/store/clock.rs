//! Readings of the clocks, and whether the wall clock was set between two of them.
//!
//! Deadlines of durable messages are wall-clock time. A clock that was set while no router ran makes them end too early
//! or too late, so a start compares the clocks with those of the earlier run and reports a difference.

use std::fmt;
use std::time::Duration;

use caxton_shards::message::WallTime;
use rustix::time::{ClockId, clock_gettime};

use crate::clock::wall_time;

/// A wall clock that differs by less was slewed, not set.
const TOLERANCE: Duration = Duration::from_secs(5);
/// Where the kernel identifies the machine's boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A reading of the clocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The wall clock.
    pub wall: WallTime,
    /// The boot of the machine and the time since then, including suspends; `None` if the kernel does not say.
    pub boot: Option<(String, Duration)>,
}

/// How far the wall clock was set between two readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockJump {
    /// It was set back by at least this much.
    Back(Duration),
    /// It was set forward by this much.
    Forward(Duration),
}

impl fmt::Display for ClockJump {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, direction, effect) = match self {
            Self::Back(by) => (by, "back", "later"),
            Self::Forward(by) => (by, "forward", "earlier"),
        };
        let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
        write!(
            formatter,
            "the clock was set {direction} by {by} since the last run: lifetimes and delivery times of durable messages, \
             which are kept as wall time, end so much {effect}; check the host's clock"
        )
    }
}

impl Stamp {
    /// Reads the clocks.
    pub fn now() -> Self {
        let id = std::fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned());
        let id = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        let up = clock_gettime(ClockId::Boottime);
        // In whole milliseconds, as it is stored.
        let up = Duration::from_millis(u64::try_from(up.tv_sec * 1_000 + up.tv_nsec / 1_000_000).unwrap_or(0));
        Self { wall: wall_time(), boot: id.map(|id| (id, up)) }
    }

    /// Returns how the wall clock was set between an earlier reading and this one.
    pub fn jump_since(&self, earlier: &Self) -> Option<ClockJump> {
        let between = |from: u64, to: u64| Duration::from_millis(to.saturating_sub(from));
        let (forward, back) = (between(earlier.wall.0, self.wall.0), between(self.wall.0, earlier.wall.0));
        let passed = match (&self.boot, &earlier.boot) {
            (Some((boot, now)), Some((same, then))) if boot == same => now.checked_sub(*then),
            _ => None,
        };
        // Without a clock that kept running, only a backward step is certain, and it was at least as large as the
        // difference.
        let back = if back.is_zero() { back } else { back + passed.unwrap_or_default() };
        if back > TOLERANCE {
            return Some(ClockJump::Back(back));
        }
        let passed = passed?;
        let (too_far, too_little) = (forward.saturating_sub(passed), passed.saturating_sub(forward));
        if too_far > TOLERANCE {
            Some(ClockJump::Forward(too_far))
        } else {
            (too_little > TOLERANCE).then_some(ClockJump::Back(too_little))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(wall_s: u64, boot: Option<(&str, u64)>) -> Stamp {
        let boot = boot.map(|(id, up)| (id.to_owned(), Duration::from_secs(up)));
        Stamp { wall: WallTime(wall_s * 1_000), boot }
    }

    #[test]
    fn a_clock_that_was_set_is_told_from_time_that_passed() {
        let earlier = stamp(1_000, Some(("a", 100)));
        let hour = Duration::from_hours(1);
        for (later, jump) in [
            (stamp(1_060, Some(("a", 160))), None),
            (stamp(1_063, Some(("a", 160))), None),
            (stamp(4_660, Some(("a", 160))), Some(ClockJump::Forward(hour))),
            (stamp(1_010, Some(("a", 3_710))), Some(ClockJump::Back(hour))),
            (stamp(400, Some(("a", 3_100))), Some(ClockJump::Back(hour))),
            // After a restart of the machine only a backward step is certain.
            (stamp(9_000, Some(("b", 10))), None),
            (stamp(400, Some(("b", 10))), Some(ClockJump::Back(Duration::from_mins(10)))),
            (stamp(400, None), Some(ClockJump::Back(Duration::from_mins(10)))),
            (stamp(997, None), None),
        ] {
            assert_eq!(later.jump_since(&earlier), jump, "{later:?}");
        }
    }

    #[test]
    fn the_clocks_of_this_moment_agree_with_themselves() {
        let now = Stamp::now();
        assert_eq!(Stamp::now().jump_since(&now), None);
    }
}
