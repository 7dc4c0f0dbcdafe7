//! Which agents are called, and when.
//!
//! Invariant: an agent stands in the run queue once at most, as the flag in its slot says.

use std::collections::VecDeque;

use crate::base::index::{AgentIndex, AgentKey};

/// The agents that are called in this turn or the next, and those that are polled.
#[derive(Default)]
pub(in crate::shard) struct Scheduler {
    run_queue: VecDeque<AgentIndex>,
    /// Agents whose handlers are suspended: they go on in the next turn, not in this one.
    run_next_turn: Vec<AgentIndex>,
    polled: Vec<AgentKey>,
}

impl Scheduler {
    /// Has an agent called in this turn.
    #[inline(always)]
    pub fn push(&mut self, agent: AgentIndex) {
        self.run_queue.push_back(agent);
    }

    /// Has an agent called in the next turn.
    pub fn push_next_turn(&mut self, agent: AgentIndex) {
        self.run_next_turn.push(agent);
    }

    /// Takes the agent that is called next.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<AgentIndex> {
        self.run_queue.pop_front()
    }

    /// Lets the agents follow that are called in the next turn.
    pub fn end_turn(&mut self) {
        self.run_queue.extend(self.run_next_turn.drain(..));
    }

    /// Whether an agent waits to be called.
    pub fn has_more(&self) -> bool {
        !self.run_queue.is_empty()
    }

    /// Whether an agent is to be called in the next turn.
    pub fn has_next_turn(&self) -> bool {
        !self.run_next_turn.is_empty()
    }

    /// Has an agent polled on every turn.
    pub fn poll(&mut self, agent: AgentKey) {
        self.polled.push(agent);
    }

    /// Whether an agent is polled on every turn.
    pub fn is_polled(&self, agent: AgentKey) -> bool {
        self.polled.contains(&agent)
    }

    /// Whether some agent is polled.
    pub fn polls(&self) -> bool {
        !self.polled.is_empty()
    }

    /// Takes the agents that are polled. Those that go on are to be [given back](Self::give_back).
    pub fn take_polled(&mut self) -> Vec<AgentKey> {
        std::mem::take(&mut self.polled)
    }

    /// Puts the agents that go on being polled before those that came meanwhile.
    pub fn give_back(&mut self, mut polled: Vec<AgentKey>) {
        polled.append(&mut self.polled);
        self.polled = polled;
    }
}
