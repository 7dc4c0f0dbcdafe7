//! Restart limits and delays.

use std::collections::VecDeque;

use crate::base::timer_wheel::TimerKey;
use crate::domain::{RestartCount, RestartDelayMs, RestartWindowMs};

/// Limit up to which the delay doubles with each consecutive failed start, in milliseconds.
pub const RESTART_BACKOFF_MS_MAX: u64 = 5_000;
/// Minimum delay after a failed start, in milliseconds: other agents get their turn before the next one.
const FAILED_START_DELAY_MS_MIN: u64 = 1;

/// How often an agent may be restarted, and after which delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartPolicy {
    /// Maximum number of restarts within the window. The next failure stops the agent instead.
    pub restarts: RestartCount,
    /// The sliding window of restarts.
    pub window_ms: RestartWindowMs,
    /// The delay before a restart. It doubles with each consecutive failed start, up to [`RESTART_BACKOFF_MS_MAX`] or
    /// the delay itself if that is longer.
    pub delay_ms: RestartDelayMs,
}

/// The restart history of an agent.
#[derive(Default)]
pub(crate) struct Restarts {
    /// The agent's own policy, if it has one.
    pub own_policy: Option<RestartPolicy>,
    /// The number of restarts since the agent was registered.
    pub total: u64,
    /// The times of the restarts in the window. There are no more than the policy allows.
    recent: VecDeque<u64>,
    /// The number of consecutive failed starts.
    pub failed_starts: u32,
    /// The timer of the next start.
    pub timer: Option<TimerKey>,
}

/// Why an agent is restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RestartCause {
    /// Something failed.
    Failure,
    /// A message failed that had failed before.
    SameMessage,
    /// It could not be created or started.
    FailedStart,
}

impl Restarts {
    /// Records a restart. Returns its delay, or `None` if there were too many.
    pub fn note(&mut self, policy: RestartPolicy, now_ms: u64, cause: RestartCause) -> Option<u64> {
        let window_ms = u64::from(policy.window_ms.into_inner());
        while self.recent.front().is_some_and(|at_ms| now_ms - at_ms >= window_ms) {
            self.recent.pop_front();
        }
        if cause != RestartCause::SameMessage {
            if self.recent.len() >= policy.restarts.as_usize() {
                return None;
            }
            self.recent.push_back(now_ms);
        }
        self.total += 1;
        let delay_ms = u64::from(policy.delay_ms.into_inner());
        if cause != RestartCause::FailedStart {
            self.failed_starts = 0;
            return Some(delay_ms);
        }
        let first_ms = delay_ms.max(FAILED_START_DELAY_MS_MIN);
        let longest_ms = RESTART_BACKOFF_MS_MAX.max(delay_ms);
        let growth = 1_u64.checked_shl(self.failed_starts).unwrap_or(u64::MAX);
        self.failed_starts = self.failed_starts.saturating_add(1);
        Some(first_ms.saturating_mul(growth).min(longest_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(restarts: u16, window_ms: u32, delay_ms: u32) -> RestartPolicy {
        RestartPolicy {
            restarts: restarts.try_into().unwrap(),
            window_ms: window_ms.try_into().unwrap(),
            delay_ms: delay_ms.try_into().unwrap(),
        }
    }

    #[test]
    fn as_many_restarts_as_allowed_fit_into_any_window() {
        let policy = policy(2, 1_000, 0);
        let mut restarts = Restarts::default();
        let mut note = |now_ms, cause| restarts.note(policy, now_ms, cause);
        assert_eq!(note(0, RestartCause::Failure), Some(0));
        assert_eq!(note(600, RestartCause::Failure), Some(0));
        assert_eq!(note(999, RestartCause::Failure), None);
        assert_eq!(note(999, RestartCause::SameMessage), Some(0), "a message that fails again is not counted again");
        assert_eq!(note(1_000, RestartCause::Failure), Some(0));
        assert_eq!(note(1_599, RestartCause::Failure), None);
        assert_eq!(restarts.total, 4);
    }

    #[test]
    fn the_wait_doubles_while_starts_fail_and_is_bounded() {
        let mut restarts = Restarts::default();
        let policy = policy(1_000, 60_000, 10);
        let mut note = |cause| restarts.note(policy, 0, cause).unwrap();
        assert_eq!(note(RestartCause::Failure), 10);
        assert_eq!([(); 4].map(|()| note(RestartCause::FailedStart)), [10, 20, 40, 80]);
        for _ in 0..100 {
            assert!(note(RestartCause::FailedStart) <= RESTART_BACKOFF_MS_MAX);
        }
        assert_eq!(note(RestartCause::FailedStart), RESTART_BACKOFF_MS_MAX);
        assert_eq!(note(RestartCause::Failure), 10);
        assert_eq!(note(RestartCause::FailedStart), 10);
    }
}
