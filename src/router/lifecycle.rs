//! Inspecting agents and changing their state: see [`AgentState`](caxton_shards::api::AgentState).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use caxton_shards::agent::AgentIndex;
#[cfg(feature = "serve")]
use caxton_shards::api::RoomError;
use caxton_shards::api::{AgentFilter, AgentView, Answer, Drained, Input, LifecycleError, Token};
use caxton_shards::message::AgentId;

use super::Router;
use super::cursor::Place;
use super::error::CallError;
use crate::deadline::{Deadline, whole_milliseconds};

/// Time for a shard to report the result after an agent's drain deadline.
const ANSWER_WITHIN: Duration = Duration::from_millis(25);

/// The end of a page of agents. Its text form is the shard and a place there, such as `0-17`, or the shard alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentCursor(Place);

impl fmt::Display for AgentCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The text is not the cursor of a page of agents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not the cursor of a page of agents: expected the one that the previous page ended with")]
pub struct AgentCursorError;

impl FromStr for AgentCursor {
    type Err = AgentCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| AgentCursorError)
    }
}

/// A page of a router's agents.
#[derive(Clone, Debug, Default)]
pub struct AgentPage {
    /// The agents, by shard.
    pub agents: Vec<AgentView>,
    /// Where to continue if there may be more.
    pub next: Option<AgentCursor>,
}

impl Router {
    /// Returns an agent's state and figures, or none if no shard knows it. Removed agents remain known for a while as
    /// [stopped](caxton_shards::api::AgentState::Stopped): up to
    /// [`FORMER_AGENTS_MAX`](caxton_shards::agent::FORMER_AGENTS_MAX) per shard.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn agent(&self, agent: AgentId) -> Result<Option<AgentView>, CallError> {
        match self.query(self.home_of(agent), self.deadline(), |token| Input::Agent(agent, token)).await? {
            Answer::Agent(view) => Ok(view.map(|view| *view)),
            _ => Err(CallError::Stopped),
        }
    }

    /// Waits until at most so many messages of an agent are on their way: in its outbox, or waiting for closed receivers.
    /// What was queued in its name before was admitted then. Returns how many there are. Dropping the future changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such agent, or no more, if too many calls wait for it, or if the router has stopped.
    #[cfg(feature = "serve")]
    pub(crate) async fn await_room(&self, agent: AgentId, at_most: u32) -> Result<u32, CallError<RoomError>> {
        let input = |token| Input::AwaitRoom { agent, at_most, token };
        match self.query(self.home_of(agent), self.deadline(), input).await? {
            Answer::Room(room) => room.map_err(CallError::Refused),
            _ => Err(CallError::Stopped),
        }
    }

    /// Returns a page of at most `limit` agents: see [`Router::find_agents`].
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn agents(&self, limit: usize, cursor: Option<AgentCursor>) -> Result<AgentPage, CallError> {
        self.find_agents(&AgentFilter::default(), limit, cursor).await
    }

    /// Returns a page of at most `limit` agents that pass a filter, without the gateways and those that were removed. It
    /// begins with the first one or, given the cursor of the previous page, where that ended. An agent that is registered
    /// all the while is on exactly one page; one that is registered meanwhile may be on none. A page may have fewer than
    /// `limit` and yet a `next`: a page looks at a bounded number of agents.
    ///
    /// Each shard replies in portions of [`AGENTS_PER_ANSWER_MAX`](caxton_shards::api::AGENTS_PER_ANSWER_MAX).
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn find_agents(
        &self,
        filter: &AgentFilter,
        limit: usize,
        cursor: Option<AgentCursor>,
    ) -> Result<AgentPage, CallError> {
        let input = |after: Option<u32>, limit, token| {
            let (filter, after) = (Box::new(filter.clone()), after.map(AgentIndex::at));
            Input::Agents { filter, after, limit, token }
        };
        let portion = |answer| match answer {
            Answer::Agents(portion) => Some((portion.agents, portion.next.map(AgentIndex::place))),
            _ => None,
        };
        let (agents, next) = self.page((cursor.unwrap_or_default().0, limit), filter.shard, input, portion).await?;
        Ok(AgentPage { agents, next: next.map(AgentCursor) })
    }

    /// Suspends an agent: it is neither called with mail nor polled until it is [resumed](Router::resume). Its mail
    /// waits as far as its mailbox has room, and expires as usual. Messages already handed to an inbox can still be
    /// taken.
    ///
    /// Messages to its capabilities are still routed to it. Suspending a suspended agent has no effect.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such agent, it is draining, or the router has stopped.
    pub async fn suspend(&self, agent: AgentId) -> Result<(), CallError<LifecycleError>> {
        self.change(agent, |token| Input::Suspend(agent, token)).await
    }

    /// Resumes a suspended agent. Has no effect on an agent that is not suspended.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such agent, it is draining, or the router has stopped.
    pub async fn resume(&self, agent: AgentId) -> Result<(), CallError<LifecycleError>> {
        self.change(agent, |token| Input::Resume(agent, token)).await
    }

    /// Removes an agent once it has handled its messages, and returns then.
    ///
    /// At once it stops accepting messages (they are dead-lettered with the reason `draining`) and loses its
    /// capabilities; if it was suspended, it is resumed. It is drained when its mailbox, including delayed messages,
    /// and its outbox are empty, and the owner of its inbox has taken everything, in acknowledged mode acknowledged.
    /// What is left after `deadline` is dead-lettered with the reason `drain-deadline`. Draining continues if the future
    /// is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such agent, it is draining already, its shard drains the maximum number of
    /// agents, or the router is stopping.
    pub async fn drain(&self, agent: AgentId, deadline: Duration) -> Result<Drained, CallError<LifecycleError>> {
        let within_ms = whole_milliseconds(deadline);
        // The shard itself ends draining at the deadline and reports what was left, which needs a moment.
        let patience = Deadline::after(deadline).later(ANSWER_WITHIN);
        match self.query(self.home_of(agent), patience, |token| Input::DrainAgent { agent, within_ms, token }).await? {
            Answer::Drained(drained) => drained.map_err(CallError::Refused),
            _ => Err(CallError::Stopped),
        }
    }

    async fn change(
        &self,
        agent: AgentId,
        input: impl FnOnce(Token) -> Input,
    ) -> Result<(), CallError<LifecycleError>> {
        match self.query(self.home_of(agent), self.deadline(), input).await? {
            Answer::Changed(changed) => changed.map_err(CallError::Refused),
            _ => Err(CallError::Stopped),
        }
    }

    fn home_of(&self, agent: AgentId) -> usize {
        self.shared().partition.shard_of(agent).as_usize()
    }
}
