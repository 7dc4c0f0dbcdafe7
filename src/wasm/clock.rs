//! A guest's time and its sleep.
//!
//! A guest has no clock of its own: its time is that of the shard's turn in which it runs, and stands still until the
//! next one. In the simulator a guest therefore sees the simulator's time.

use std::sync::atomic::{AtomicU64, Ordering};

use caxton_shards::api::Now;
use caxton_shards::message::WallTime;

/// The clock of one guest. Guest and agent use it alternately, on one thread.
#[derive(Debug, Default)]
pub(super) struct Clock {
    monotonic_ns: AtomicU64,
    wall_ms: AtomicU64,
    /// When the guest has to be called again; 0 for the next turn.
    wakes_ns: AtomicU64,
}

impl Clock {
    /// Begins a turn of the guest.
    pub fn begin_turn(&self, now: Now) {
        self.monotonic_ns.store(now.monotonic_ns, Ordering::Relaxed);
        self.wall_ms.store(now.wall.0, Ordering::Relaxed);
        self.stay_awake();
    }

    /// Returns the time of the turn.
    pub fn now(&self) -> Now {
        Now {
            monotonic_ns: self.monotonic_ns.load(Ordering::Relaxed),
            wall: WallTime(self.wall_ms.load(Ordering::Relaxed)),
        }
    }

    /// Makes the guest sleep until this time, or an earlier one that it waits for as well.
    pub fn sleep_until(&self, moment_ns: u64) {
        let wakes_ns = self.wakes_ns.load(Ordering::Relaxed);
        if wakes_ns == 0 || moment_ns < wakes_ns {
            self.wakes_ns.store(moment_ns.max(1), Ordering::Relaxed);
        }
    }

    /// Cancels the guest's sleep.
    pub fn stay_awake(&self) {
        self.wakes_ns.store(0, Ordering::Relaxed);
    }

    /// Whether the guest sleeps.
    pub fn sleeps(&self) -> bool {
        self.wakes_ns.load(Ordering::Relaxed) != 0
    }

    /// Whether the guest still sleeps at this time.
    pub fn sleeps_at(&self, now: Now) -> bool {
        now.monotonic_ns < self.wakes_ns.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_moment_wakes() {
        let clock = Clock::default();
        let at = |monotonic_ns| Now { monotonic_ns, wall: WallTime(7) };
        clock.begin_turn(at(10));
        assert!(!clock.sleeps() && !clock.sleeps_at(at(10)));
        clock.sleep_until(30);
        clock.sleep_until(20);
        clock.sleep_until(40);
        assert!(clock.sleeps() && clock.sleeps_at(at(19)) && !clock.sleeps_at(at(20)));
        clock.begin_turn(at(20));
        assert!(!clock.sleeps());
        assert_eq!(clock.now(), at(20));
    }
}
