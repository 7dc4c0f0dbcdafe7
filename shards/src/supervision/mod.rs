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

/// What a shard does about agents that fail or are slow.
pub(crate) struct Supervision {
    failure_handler: Option<Box<dyn FailureHandler>>,
    breakers: BreakerFigures,
    pub call_times: CallTimes,
}

impl Supervision {
    pub fn new(policy: &BreakerPolicy) -> Self {
        Self { failure_handler: None, breakers: BreakerFigures::default(), call_times: CallTimes::new(policy) }
    }

    /// Has an embedder's own handler decide about failed attempts.
    pub fn set_failure_handler(&mut self, handler: Box<dyn FailureHandler>) {
        self.failure_handler = Some(handler);
    }

    /// Decides what becomes of a message after a failed attempt. Returns also what an embedder's handler said that panicked
    /// over it: then the router decides.
    pub fn decide(&mut self, attempt: &FailedAttempt<'_>) -> (Decision, Option<String>) {
        // What a handler that panicked leaves behind of itself is its own.
        let decided = self.failure_handler.as_deref_mut().map(|handler| catch_panic(|| handler.decide(attempt)));
        let (decision, panicked) = match decided {
            Some(Ok(decision)) => (decision, None),
            None => (attempt.by_default(), None),
            Some(Err(what)) => (attempt.by_default(), Some(what)),
        };
        (attempt.within_limits(decision), panicked)
    }

    /// Counts an agent's breaker that changes.
    pub fn count_gate(&mut self, before: BreakerGate, after: BreakerGate) {
        self.breakers.open += usize::from(before == BreakerGate::Closed);
        self.breakers.open -= usize::from(after == BreakerGate::Closed);
        self.breakers.opened += u64::from(after == BreakerGate::Open);
    }

    /// Counts the breaker of an agent that goes.
    pub fn forget_gate(&mut self, before: BreakerGate) {
        self.breakers.open -= usize::from(before != BreakerGate::Closed);
    }

    pub fn breakers(&self) -> BreakerFigures {
        self.breakers
    }
}
