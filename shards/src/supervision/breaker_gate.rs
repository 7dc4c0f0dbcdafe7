//! Whether an agent's breaker lets messages through.

use super::breaker::{Breaker, BreakerPolicy};
use crate::base::timer_wheel::TimerKey;

/// Whether an agent's breaker lets messages through, as a flag to look at on each visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum BreakerGate {
    /// The agent is called.
    #[default]
    Closed,
    /// It is called with as many messages as are to be tried.
    HalfOpen,
    /// It is not called.
    Open,
}

/// An agent's breaker, with what the shard has to remember about it.
pub(crate) struct AgentBreaker {
    pub breaker: Breaker,
    /// Fires when the breaker is to be half-open.
    pub timer: Option<TimerKey>,
    /// The other shards send it nothing that can go elsewhere.
    pub told_shut: bool,
}

/// The breakers of a shard in figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BreakerFigures {
    /// How many are open or half-open.
    pub open: usize,
    /// How often one opened.
    pub opened: u64,
}

impl AgentBreaker {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { breaker: Breaker::new(policy), timer: None, told_shut: false }
    }
}
