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
pub use slow_calls::{SLOW_CALLS_REPORTED_MAX, Stopwatch, TIMED_TURNS};

use std::collections::BTreeSet;

use crate::base::index::AgentIndex;
use breaker::BreakerPolicy;
use retry::{Decision, FailedAttempt, FailureHandler};

/// A shard's handling of agents that fail or are slow.
pub(crate) struct Supervision {
    failure_handler: Option<Box<dyn FailureHandler>>,
    /// The agents whose breakers are open or half-open.
    not_closed: BTreeSet<AgentIndex>,
    half_open: usize,
    opened: u64,
    pub call_times: CallTimes,
}

impl Supervision {
    pub fn new(policy: &BreakerPolicy) -> Self {
        Self {
            failure_handler: None,
            not_closed: BTreeSet::new(),
            half_open: 0,
            opened: 0,
            call_times: CallTimes::new(policy),
        }
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
    pub fn count_gate(&mut self, agent: AgentIndex, before: BreakerGate, after: BreakerGate) {
        if after == BreakerGate::Closed {
            self.not_closed.remove(&agent);
        } else {
            self.not_closed.insert(agent);
        }
        self.half_open += usize::from(after == BreakerGate::HalfOpen);
        self.half_open -= usize::from(before == BreakerGate::HalfOpen);
        self.opened += u64::from(after == BreakerGate::Open);
    }

    /// Removes the breaker of a removed agent from the counts.
    pub fn forget_gate(&mut self, agent: AgentIndex, before: BreakerGate) {
        self.not_closed.remove(&agent);
        self.half_open -= usize::from(before == BreakerGate::HalfOpen);
    }

    pub fn breakers(&self) -> BreakerFigures {
        BreakerFigures { open: self.not_closed.len(), half_open: self.half_open, opened: self.opened }
    }

    /// Returns the agents whose breakers are open or half-open, in the order of their places.
    pub fn not_closed(&self) -> impl Iterator<Item = AgentIndex> {
        self.not_closed.iter().copied()
    }
}
