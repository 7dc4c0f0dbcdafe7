//! Removed agents, so that senders to one are told why it is gone.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::message::AgentId;
use crate::shard::control::lifecycle::StopReason;

/// Maximum number of removed agents that a shard remembers. Earlier ones are forgotten, as if they had never existed.
pub const FORMER_AGENTS_MAX: usize = 16_384;

/// What is remembered of a removed agent.
#[derive(Debug)]
pub(crate) struct Tombstone {
    pub name: Box<str>,
    pub why: StopReason,
    pub restarts: u64,
    number: u64,
}

/// The agents removed last.
#[derive(Debug)]
pub(crate) struct Tombstones {
    by_id: HashMap<AgentId, Tombstone, FixedState>,
    /// In order of removal. An agent that was registered again has left a stale entry, with an old number.
    order: VecDeque<(AgentId, u64)>,
    count: u64,
}

impl Tombstones {
    pub fn new() -> Self {
        Self { by_id: HashMap::with_hasher(FixedState::default()), order: VecDeque::new(), count: 0 }
    }

    /// Remembers an agent; the oldest ones make room for it.
    pub fn remember(&mut self, agent: AgentId, name: Box<str>, why: StopReason, restarts: u64) {
        self.count += 1;
        let number = self.count;
        self.by_id.insert(agent, Tombstone { name, why, restarts, number });
        self.order.push_back((agent, number));
        while self.order.len() > FORMER_AGENTS_MAX {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.by_id.get(&oldest).is_some_and(|former| former.number == number) {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// Forgets an agent that exists again.
    pub fn forget(&mut self, agent: AgentId) {
        self.by_id.remove(&agent);
    }

    pub fn find(&self, agent: AgentId) -> Option<&Tombstone> {
        self.by_id.get(&agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> AgentId {
        AgentId::of_text(&format!("agent-{number}"))
    }

    #[test]
    fn the_last_ones_are_remembered_and_no_more_than_that() {
        let mut agents = Tombstones::new();
        let mut go = |number, why| agents.remember(agent(number), "x".into(), why, 0);
        go(0, StopReason::Deregistered);
        for number in 1..FORMER_AGENTS_MAX {
            go(number, StopReason::Drained);
        }
        // It came back and was removed again: only the last time counts.
        go(0, StopReason::RestartsExhausted);
        go(FORMER_AGENTS_MAX, StopReason::Drained);
        assert_eq!(agents.find(agent(0)).map(|former| former.why), Some(StopReason::RestartsExhausted));
        assert!(agents.find(agent(1)).is_none());
        assert!(agents.find(agent(2)).is_some());
        assert_eq!((agents.by_id.len(), agents.order.len()), (FORMER_AGENTS_MAX, FORMER_AGENTS_MAX));
        agents.forget(agent(2));
        assert!(agents.find(agent(2)).is_none());
    }
}
