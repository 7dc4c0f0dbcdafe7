//! When calls of agents are timed, and how.

use super::breaker::BreakerPolicy;

/// In how many turns that call agents every call is timed, after one turn took too long.
pub const TIMED_TURNS: u32 = 256;

/// Nanoseconds on the clock of [`Now::monotonic_ns`](crate::shard::io::Now), at the moment of the call.
pub type Stopwatch = Box<dyn FnMut() -> u64>;

/// When calls are timed, and how.
pub(crate) struct CallTimes {
    stopwatch: Option<Stopwatch>,
    /// The shortest time that is slow for some agent of the shard.
    pub slow_ns: u64,
    /// In how many turns calls are still timed.
    pub turns_left: u32,
    /// Whether the last turn called agents.
    called: bool,
}

impl CallTimes {
    pub fn new(policy: &BreakerPolicy) -> Self {
        let mut times = Self { stopwatch: None, slow_ns: u64::MAX, turns_left: 0, called: false };
        times.look_for(policy);
        times
    }

    pub fn set_stopwatch(&mut self, stopwatch: Stopwatch) {
        self.stopwatch = Some(stopwatch);
    }

    /// Looks for calls that are slow under this policy too. An agent that goes takes nothing back.
    pub fn look_for(&mut self, policy: &BreakerPolicy) {
        self.slow_ns = self.slow_ns.min(policy.slow_call_ns().unwrap_or(u64::MAX));
    }

    /// Begins a turn, so long after the last one. A driver goes on at once after a turn that did something, so it is as
    /// long as that turn took.
    #[inline]
    pub fn begin_turn(&mut self, since_last_ns: u64) {
        if since_last_ns >= self.slow_ns && self.called {
            self.turns_left = TIMED_TURNS;
        }
    }

    #[inline]
    pub fn end_turn(&mut self, handled: u32) {
        self.called = handled > 0;
        if self.called && self.turns_left > 0 {
            self.turns_left -= 1;
        }
    }

    pub fn is_possible(&self) -> bool {
        self.stopwatch.is_some() && self.slow_ns != u64::MAX
    }

    pub fn read_ns(&mut self) -> Option<u64> {
        self.stopwatch.as_mut().map(|stopwatch| stopwatch())
    }
}

/// One visit to an agent: how many messages it may be given, and what to look at.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub quota: u32,
    /// Whether its calls are timed.
    pub timed: bool,
    /// If it is probed: what the shard had processed before.
    pub probing_since: Option<u64>,
}
