//! Supervision of failing agents: restarts, circuit breakers, and calls that may panic.

pub mod breaker;
mod breaker_gate;
mod panic;
mod restarts;
pub(crate) mod retry;
mod slow_calls;

pub(crate) use breaker_gate::{AgentBreaker, BreakerFigures, BreakerGate};
pub(crate) use panic::{catch_panic, drop_quietly};
pub use restarts::{RESTART_BACKOFF_MS_MAX, RestartPolicy};
pub(crate) use restarts::{RestartCause, Restarts};
pub use retry::RetryPolicy;
pub(crate) use slow_calls::{Call, CallTimes};
pub use slow_calls::{Stopwatch, TIMED_TURNS};

use breaker::BreakerPolicy;
use retry::{Decision, FailedAttempt, FailureHandler};

/// A shard's handling of agents that fail or are slow.
pub(crate) struct Supervision {
    failure_handler: Option<Box<dyn FailureHandler>>,
    breakers: BreakerFigures,
    pub call_times: CallTimes,
}

impl Supervision {
    pub fn new(policy: &BreakerPolicy) -> Self {
        Self { failure_handler: None, breakers: BreakerFigures::default(), call_times: CallTimes::new(policy) }
    }

    /// Installs an embedder's handler for failed attempts.
    pub fn set_failure_handler(&mut self, handler: Box<dyn FailureHandler>) {
        self.failure_handler = Some(handler);
    }

    /// Decides about a message after a failed attempt. If an embedder's handler panics, the router decides, and the
    /// panic's text is returned as well.
    pub fn decide(&mut self, attempt: &FailedAttempt<'_>) -> (Decision, Option<String>) {
        // The state of a handler that panicked is its own concern.
        let decided = self.failure_handler.as_deref_mut().map(|handler| catch_panic(|| handler.decide(attempt)));
        let (decision, panicked) = match decided {
            Some(Ok(decision)) => (decision, None),
            None => (attempt.by_default(), None),
            Some(Err(what)) => (attempt.by_default(), Some(what)),
        };
        (attempt.within_limits(decision), panicked)
    }

    /// Counts the change of an agent's breaker.
    pub fn count_gate(&mut self, before: BreakerGate, after: BreakerGate) {
        self.breakers.open += usize::from(before == BreakerGate::Closed);
        self.breakers.open -= usize::from(after == BreakerGate::Closed);
        self.breakers.half_open += usize::from(after == BreakerGate::HalfOpen);
        self.breakers.half_open -= usize::from(before == BreakerGate::HalfOpen);
        self.breakers.opened += u64::from(after == BreakerGate::Open);
    }

    /// Removes the breaker of a removed agent from the counts.
    pub fn forget_gate(&mut self, before: BreakerGate) {
        self.breakers.open -= usize::from(before != BreakerGate::Closed);
        self.breakers.half_open -= usize::from(before == BreakerGate::HalfOpen);
    }

    pub fn breakers(&self) -> BreakerFigures {
        self.breakers
    }
}
