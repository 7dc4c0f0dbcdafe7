//! Detection of slow calls: when calls of agents are timed.

use super::breaker::BreakerPolicy;

/// Number of turns that call agents in which every call is timed, after one turn took too long.
pub const TIMED_TURNS: u32 = 256;

/// Maximum number of slow calls that a shard reports as events per second. All of them are counted.
pub const SLOW_CALLS_REPORTED_MAX: u32 = 10;

/// The time in which so many are reported, in milliseconds.
const REPORT_INTERVAL_MS: u64 = 1_000;

/// Returns the time in nanoseconds on the clock of [`Now::monotonic_ns`](crate::shard::io::Now).
pub type Stopwatch = Box<dyn FnMut() -> u64>;

/// Decides when calls are timed.
pub(crate) struct CallTimes {
    stopwatch: Option<Stopwatch>,
    /// The smallest threshold of any agent of the shard, in nanoseconds.
    slow_ns: u64,
    /// The number of turns in which calls are still timed.
    turns_left: u32,
    /// Whether the last turn called agents.
    called: bool,
    reports: Reports,
}

/// The number of slow calls, and which of them are reported.
#[derive(Default)]
struct Reports {
    total: u64,
    /// When the current interval began, and the number of reports in it.
    began_ms: u64,
    reported: u32,
    unreported: u64,
}

impl Reports {
    /// Counts a slow call. Returns the number of those since the last report that were not reported, if this one is.
    fn count(&mut self, now_ms: u64) -> Option<u64> {
        self.total += 1;
        if now_ms.saturating_sub(self.began_ms) >= REPORT_INTERVAL_MS {
            (self.began_ms, self.reported) = (now_ms, 0);
        }
        if self.reported >= SLOW_CALLS_REPORTED_MAX {
            self.unreported += 1;
            return None;
        }
        self.reported += 1;
        Some(std::mem::take(&mut self.unreported))
    }
}

impl CallTimes {
    pub fn new(policy: &BreakerPolicy) -> Self {
        let mut times =
            Self { stopwatch: None, slow_ns: u64::MAX, turns_left: 0, called: false, reports: Reports::default() };
        times.look_for(policy);
        times
    }

    pub fn set_stopwatch(&mut self, stopwatch: Stopwatch) {
        self.stopwatch = Some(stopwatch);
    }

    /// Lowers the threshold to that of this policy. Removing an agent does not raise it again.
    pub fn look_for(&mut self, policy: &BreakerPolicy) {
        self.slow_ns = self.slow_ns.min(policy.slow_call_ns().unwrap_or(u64::MAX));
    }

    /// Begins a turn, with the time since the last one began. A driver continues at once after a turn that did
    /// something, so this is the duration of that turn.
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

    /// Whether calls are timed in this turn.
    #[inline(always)]
    pub fn is_due(&self) -> bool {
        self.turns_left > 0
    }

    /// Whether a call of this length is slow for some agent of the shard.
    pub fn is_slow(&self, took_ns: u64) -> bool {
        took_ns >= self.slow_ns
    }

    /// Counts a call that was slow for its agent. Returns the number of slow calls since the last report that were not
    /// reported, if this one has to be.
    pub fn count_slow(&mut self, now_ms: u64) -> Option<u64> {
        self.reports.count(now_ms)
    }

    /// Returns the number of slow calls so far.
    pub fn slow_calls(&self) -> u64 {
        self.reports.total
    }

    pub fn is_possible(&self) -> bool {
        self.stopwatch.is_some() && self.slow_ns != u64::MAX
    }

    pub fn read_ns(&mut self) -> Option<u64> {
        self.stopwatch.as_mut().map(|stopwatch| stopwatch())
    }
}

/// One visit to an agent: how many messages it may get, and what to observe.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub quota: u32,
    /// Whether its calls are timed.
    pub timed: bool,
    /// For a probed agent: the shard's count of processed messages before the visit.
    pub probing_since: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_slow_calls_are_counted_and_some_reported() {
        let mut reports = Reports::default();
        let most = u64::from(SLOW_CALLS_REPORTED_MAX);
        let reported = |reports: &mut Reports, now_ms| (0..2 * most).filter_map(|_| reports.count(now_ms)).collect();
        let first: Vec<u64> = reported(&mut reports, 5);
        assert_eq!(first, vec![0; 10]);
        assert_eq!(reports.count(999), None);
        let second: Vec<u64> = reported(&mut reports, 1_000);
        assert_eq!((second.len(), second[0], second[1]), (10, most + 1, 0));
        assert_eq!(reports.total, 4 * most + 1);
    }
}
