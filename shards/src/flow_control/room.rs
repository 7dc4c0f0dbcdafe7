//! Callers outside that wait until an agent has less on its way, before they hand over more.

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::base::index::Token;
use crate::message::AgentId;

/// Maximum number of callers that wait for room of one agent. Further ones are refused.
pub const ROOM_WAITERS_MAX: usize = 16;

/// A caller that waits.
struct RoomWaiter {
    token: Token,
    /// It waits until at most this many messages of the agent are on their way.
    at_most: u32,
}

/// The callers that wait, by agent.
#[derive(Default)]
pub(crate) struct RoomWaiters(HashMap<AgentId, Vec<RoomWaiter>, FixedState>);

impl RoomWaiters {
    /// Whether anybody waits.
    #[inline]
    pub fn exist(&self) -> bool {
        !self.0.is_empty()
    }

    /// Adds a caller. Returns false if there are too many of the agent.
    pub fn add(&mut self, agent: AgentId, at_most: u32, token: Token) -> bool {
        let waiters = self.0.entry(agent).or_default();
        let has_place = waiters.len() < ROOM_WAITERS_MAX;
        if has_place {
            waiters.push(RoomWaiter { token, at_most });
        }
        has_place
    }

    /// Takes the callers that go on while the agent has so many messages on their way.
    pub fn take(&mut self, agent: AgentId, on_way: u32) -> Vec<Token> {
        self.extract(agent, |waiter| on_way <= waiter.at_most)
    }

    /// Takes all callers of an agent.
    pub fn take_all_of(&mut self, agent: AgentId) -> Vec<Token> {
        self.extract(agent, |_| true)
    }

    fn extract(&mut self, agent: AgentId, leaves: impl Fn(&RoomWaiter) -> bool) -> Vec<Token> {
        let Some(waiters) = self.0.get_mut(&agent) else { return Vec::new() };
        let left = waiters.extract_if(.., |waiter| leaves(waiter)).map(|waiter| waiter.token).collect();
        if waiters.is_empty() {
            self.0.remove(&agent);
        }
        left
    }

    /// Takes all callers, in the order in which they came.
    pub fn take_all(&mut self) -> Vec<Token> {
        let mut tokens: Vec<_> = self.0.drain().flat_map(|(_, waiters)| waiters).map(|waiter| waiter.token).collect();
        tokens.sort_unstable_by_key(|token| token.0);
        tokens
    }

    /// Forgets callers that wait no longer. It looks at all of them once, however many have gone.
    #[cold]
    pub fn cancel(&mut self, tokens: &[Token]) {
        self.0.retain(|_, waiters| {
            waiters.retain(|waiter| !tokens.contains(&waiter.token));
            !waiters.is_empty()
        });
    }
}
