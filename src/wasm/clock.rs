//! The time as a guest sees it, and until when it sleeps.
//!
//! A guest has no clock of its own: its time is that of the shard's turn in which it goes on, and stands still until the next one.
//! So a guest in the simulator sees the simulator's time.

use std::sync::atomic::{AtomicU64, Ordering};

use caxton_shards::api::Now;
use caxton_shards::message::WallTime;

/// Of one guest. Guest and agent use it in turns, on one thread.
#[derive(Debug, Default)]
pub(super) struct Clock {
    monotonic_ns: AtomicU64,
    wall_ms: AtomicU64,
    /// When the guest has to be called again, 0 if in the next turn.
    wakes_ns: AtomicU64,
}

impl Clock {
    /// The guest goes on in this turn.
    pub fn begin_turn(&self, now: Now) {
        self.monotonic_ns.store(now.monotonic_ns, Ordering::Relaxed);
        self.wall_ms.store(now.wall.0, Ordering::Relaxed);
        self.stay_awake();
    }

    /// The turn's time.
    pub fn now(&self) -> Now {
        Now {
            monotonic_ns: self.monotonic_ns.load(Ordering::Relaxed),
            wall: WallTime(self.wall_ms.load(Ordering::Relaxed)),
        }
    }

    /// The guest waits for this moment, or for an earlier one that it waits for as well.
    pub fn sleep_until(&self, moment_ns: u64) {
        let wakes_ns = self.wakes_ns.load(Ordering::Relaxed);
        if wakes_ns == 0 || moment_ns < wakes_ns {
            self.wakes_ns.store(moment_ns.max(1), Ordering::Relaxed);
        }
    }

    /// The guest waits for no moment.
    pub fn stay_awake(&self) {
        self.wakes_ns.store(0, Ordering::Relaxed);
    }

    /// Whether the guest waits for a moment.
    pub fn sleeps(&self) -> bool {
        self.wakes_ns.load(Ordering::Relaxed) != 0
    }

    /// Whether the moment that the guest waits for is still to come.
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
