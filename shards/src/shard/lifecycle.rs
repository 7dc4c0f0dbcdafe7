//! Registration and draining: what waits for its turn, or until every shard knows.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::base::index::{AgentKey, Token};
use crate::message::{AgentId, Message};
use crate::shard::agent::Registration;
use crate::shard::control::admin::AdminRequest;
use crate::shard::control::lifecycle::DRAINING_AGENTS_MAX;
use crate::shard::io::RegistrationError;

/// Registrations, drains and barriers in progress.
#[derive(Default)]
pub(in crate::shard) struct Lifecycle {
    /// Registrations that wait for their turn, each with the agent that asked for it. They always wait: so agents that
    /// register each other in a chain when they are started do not nest.
    registrations: VecDeque<(Registration, AgentId)>,
    draining: Vec<AgentKey>,
    barriers: HashMap<u64, Barrier, FixedState>,
    /// The number of the last barrier.
    barrier: u64,
}

/// A barrier, passed when every shard has handled everything sent to it before.
struct Barrier {
    waiting_for: usize,
    then: OnBarrier,
}

/// What follows once a barrier was passed.
pub(in crate::shard) enum OnBarrier {
    Answer(Token, Vec<Result<AgentId, RegistrationError>>),
    Tell(AgentId, Message),
    Confirm(AgentId, AdminRequest),
}

impl Lifecycle {
    /// Queues a registration for the requesting agent.
    pub fn register_later(&mut self, registration: Registration, requester: AgentId) {
        self.registrations.push_back((registration, requester));
    }

    pub fn next_registration(&mut self) -> Option<(Registration, AgentId)> {
        self.registrations.pop_front()
    }

    /// Returns the number of waiting registrations.
    pub fn registrations(&self) -> usize {
        self.registrations.len()
    }

    /// Whether the maximum number of agents is being drained.
    pub fn drains_enough(&self) -> bool {
        self.draining.len() >= DRAINING_AGENTS_MAX
    }

    pub fn drain(&mut self, agent: AgentKey) {
        self.draining.push(agent);
    }

    /// Whether any agent is being drained.
    pub fn drains(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Takes the agents being drained. Those not finished have to be [given back](Self::give_back).
    pub fn take_draining(&mut self) -> Vec<AgentKey> {
        std::mem::take(&mut self.draining)
    }

    pub fn give_back(&mut self, draining: Vec<AgentKey>) {
        self.draining = draining;
    }

    /// Begins a barrier over this many shards. Returns its number.
    pub fn begin_barrier(&mut self, shards: usize, then: OnBarrier) -> u64 {
        self.barrier += 1;
        self.barriers.insert(self.barrier, Barrier { waiting_for: shards, then });
        self.barrier
    }

    /// Records that one more shard has passed a barrier. Returns what follows if it was the last one.
    pub fn pass_barrier(&mut self, number: u64) -> Option<OnBarrier> {
        let barrier = self.barriers.get_mut(&number)?;
        barrier.waiting_for -= 1;
        if barrier.waiting_for > 0 {
            return None;
        }
        self.barriers.remove(&number).map(|barrier| barrier.then)
    }

    /// Takes what would follow the open barriers.
    pub fn take_barriers(&mut self) -> Vec<OnBarrier> {
        std::mem::take(&mut self.barriers).into_values().map(|barrier| barrier.then).collect()
    }

    /// Whether nothing waits except agents being drained.
    pub fn is_quiet(&self) -> bool {
        self.barriers.is_empty() && self.registrations.is_empty()
    }
}
