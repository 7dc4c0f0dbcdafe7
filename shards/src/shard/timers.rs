//! The timers of a shard.

use crate::base::timer_wheel::{TimerKey, TimerWheel, TimersFullError};
use crate::shard::{Alarm, TIMERS_MAX, TIMERS_PER_TURN_MAX};

/// The armed timers of a shard.
pub(in crate::shard) struct Timers {
    wheel: TimerWheel<Alarm>,
    /// The emptied list of the last turn, so that no turn allocates.
    fired: Vec<Alarm>,
}

impl Timers {
    pub fn new(start_ms: u64) -> Self {
        Self { wheel: TimerWheel::new(start_ms, TIMERS_MAX), fired: Vec::new() }
    }

    /// Arms a timer for a monotonic time in milliseconds.
    #[inline]
    pub fn insert(&mut self, due_ms: u64, alarm: Alarm) -> Result<TimerKey, TimersFullError> {
        self.wheel.insert(due_ms, alarm)
    }

    #[inline]
    pub fn cancel(&mut self, timer: TimerKey) {
        self.wheel.cancel(timer);
    }

    /// Returns the number of armed timers.
    pub fn len(&self) -> usize {
        self.wheel.len()
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Takes the due timers, up to the limit of a turn. The caller has to [give the list back](Self::give_back) empty.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<Alarm> {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now_ms, &mut fired, TIMERS_PER_TURN_MAX);
        fired
    }

    pub fn give_back(&mut self, fired: Vec<Alarm>) {
        debug_assert!(fired.is_empty(), "every alarm is heard once");
        self.fired = fired;
    }
}
