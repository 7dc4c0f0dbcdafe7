//! Whether an agent's breaker lets messages pass.

use super::breaker::{Breaker, BreakerPolicy};
use crate::base::timer_wheel::TimerKey;

/// Whether an agent's breaker lets messages pass, as a flag checked on each visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum BreakerGate {
    /// The agent is called.
    #[default]
    Closed,
    /// The agent is called with probes only.
    HalfOpen,
    /// The agent is not called.
    Open,
}

/// An agent's breaker, with the state that the shard keeps about it.
pub(crate) struct AgentBreaker {
    pub breaker: Breaker,
    /// Fires when the breaker becomes half-open.
    pub timer: Option<TimerKey>,
    /// Whether the other shards were told to send messages elsewhere if possible.
    pub told_shut: bool,
}

/// Counters of a shard's breakers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BreakerFigures {
    /// The number of breakers that are open or half-open.
    pub open: usize,
    /// The number of breakers that are half-open.
    pub half_open: usize,
    /// How many times a breaker has opened.
    pub opened: u64,
}

impl AgentBreaker {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { breaker: Breaker::new(policy), timer: None, told_shut: false }
    }
}
