//! The agents that are not registered here and are looked for on other nodes.

use std::collections::BTreeMap;

use crate::base::index::AgentIndex;
use crate::message::AgentId;

/// Maximum number of agents that a shard looks for at the same time. Beyond it, a message for an agent that is not
/// registered is dead-lettered.
pub const WANTED_MAX: usize = 4_096;

/// What waits for an agent that is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Waiting {
    /// Only messages that were sent since the search began.
    New,
    /// Also messages of an earlier run. They are kept even if no node has the agent.
    Restored,
}

/// The agents that are looked for. The search for an agent ends when it is registered, or when no node has it.
#[derive(Debug, Default)]
pub(in crate::shard) struct Wanted {
    agents: BTreeMap<AgentId, Waiting>,
    /// The index of the agent where the last round of restored agents ended.
    last_restored: Option<AgentIndex>,
}

impl Wanted {
    /// Whether the agent is looked for.
    pub fn has(&self, agent: AgentId) -> bool {
        self.agents.contains_key(&agent)
    }

    /// Returns how many more agents may be looked for.
    pub fn room(&self) -> usize {
        WANTED_MAX.saturating_sub(self.agents.len())
    }

    /// Adds an agent. The caller has checked that there is room.
    pub fn add(&mut self, agent: AgentId, waiting: Waiting) {
        self.agents.insert(agent, waiting);
    }

    /// Removes an agent, and returns what waits for it if it was looked for.
    pub fn remove(&mut self, agent: AgentId) -> Option<Waiting> {
        self.agents.remove(&agent)
    }

    /// Returns the agents that are looked for.
    pub fn all(&self) -> Vec<AgentId> {
        self.agents.keys().copied().collect()
    }

    /// Forgets all agents.
    pub fn clear(&mut self) {
        self.agents.clear();
    }

    /// Returns the agents with messages of an earlier run to look for next, as many as there is room for. Each call
    /// continues behind the last agent of the call before, and begins again at the end. `candidates` are all such
    /// agents, sorted by index.
    pub fn next_restored(&mut self, mut candidates: Vec<(AgentIndex, AgentId)>) -> Vec<AgentId> {
        let begun = candidates.partition_point(|(index, _)| self.last_restored.is_some_and(|last| index.0 <= last.0));
        candidates.rotate_left(begun);
        candidates.truncate(self.room());
        self.last_restored = candidates.last().map(|(index, _)| *index).or(self.last_restored);
        candidates.into_iter().map(|(_, agent)| agent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> AgentId {
        AgentId::of_text(&format!("agent-{number}"))
    }

    #[test]
    #[allow(clippy::cast_possible_truncation)] // There are fewer agents than 2^32.
    fn with_more_restored_agents_than_room_all_have_their_turn() {
        let candidates = || (0..WANTED_MAX * 2 + 7).map(|place| (AgentIndex(place as u32), agent(place))).collect();
        let mut wanted = Wanted::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            let next = wanted.next_restored(candidates());
            assert_eq!(next.len(), WANTED_MAX);
            seen.extend(next);
        }
        assert_eq!(seen.len(), WANTED_MAX * 2 + 7);
    }

    #[test]
    fn there_is_room_for_so_many_and_again_for_each_that_is_removed() {
        let mut wanted = Wanted::default();
        for number in 0..WANTED_MAX {
            assert!(wanted.room() > 0);
            wanted.add(agent(number), Waiting::New);
        }
        assert_eq!((wanted.room(), wanted.next_restored(vec![(AgentIndex(1), agent(9_999))])), (0, Vec::new()));
        assert_eq!(wanted.remove(agent(7)), Some(Waiting::New));
        assert_eq!((wanted.remove(agent(7)), wanted.room(), wanted.has(agent(7))), (None, 1, false));
    }
}
