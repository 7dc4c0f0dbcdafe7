//! Decides which agents are called, and when.
//!
//! Invariant: an agent is in the run queue at most once, as recorded in a flag of its slot.

use std::collections::VecDeque;

use crate::base::index::{AgentIndex, AgentKey};

/// The agents to be called in this turn or the next, and those that are polled.
#[derive(Default)]
pub(in crate::shard) struct Scheduler {
    run_queue: VecDeque<AgentIndex>,
    /// Agents whose handlers are suspended: they continue in the next turn.
    run_next_turn: Vec<AgentIndex>,
    polled: Vec<AgentKey>,
}

impl Scheduler {
    /// Schedules an agent for this turn.
    #[inline(always)]
    pub fn push(&mut self, agent: AgentIndex) {
        self.run_queue.push_back(agent);
    }

    /// Schedules an agent for the next turn.
    pub fn push_next_turn(&mut self, agent: AgentIndex) {
        self.run_next_turn.push(agent);
    }

    /// Takes the next agent to be called.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<AgentIndex> {
        self.run_queue.pop_front()
    }

    /// Moves the agents scheduled for the next turn into the run queue.
    pub fn end_turn(&mut self) {
        self.run_queue.extend(self.run_next_turn.drain(..));
    }

    /// Whether an agent waits to be called.
    pub fn has_more(&self) -> bool {
        !self.run_queue.is_empty()
    }

    /// Whether an agent is scheduled for the next turn.
    pub fn has_next_turn(&self) -> bool {
        !self.run_next_turn.is_empty()
    }

    /// Polls an agent on every turn.
    pub fn poll(&mut self, agent: AgentKey) {
        self.polled.push(agent);
    }

    /// Whether an agent is polled.
    pub fn is_polled(&self, agent: AgentKey) -> bool {
        self.polled.contains(&agent)
    }

    /// Whether any agent is polled.
    pub fn polls(&self) -> bool {
        !self.polled.is_empty()
    }

    /// Takes the polled agents. Those that continue have to be [given back](Self::give_back).
    pub fn take_polled(&mut self) -> Vec<AgentKey> {
        std::mem::take(&mut self.polled)
    }

    /// Puts continuing agents before those added meanwhile.
    pub fn give_back(&mut self, mut polled: Vec<AgentKey>) {
        polled.append(&mut self.polled);
        self.polled = polled;
    }
}
