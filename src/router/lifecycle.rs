//! Looking at agents, and moving them from one state of their life to another: see [`AgentState`](caxton_shards::api::AgentState).

use std::time::Duration;

use caxton_shards::api::{AgentView, Answer, Drained, Input, LifecycleError, Token};
use caxton_shards::message::AgentId;

use super::Router;
use super::error::CallError;
use crate::deadline::{Deadline, whole_milliseconds};

/// How long after the deadline of draining an agent its shard may take to say what came of it.
const ANSWER_WITHIN: Duration = Duration::from_millis(25);

impl Router {
    /// An agent's state and figures, or nothing if no shard knows it. Agents that were removed are known for a while, as
    /// [stopped](caxton_shards::api::AgentState::Stopped): up to [`FORMER_AGENTS_MAX`](caxton_shards::agent::FORMER_AGENTS_MAX) of each
    /// shard.
    ///
    /// # Errors
    /// The router has stopped.
    pub async fn agent(&self, agent: AgentId) -> Result<Option<AgentView>, CallError> {
        match self.query(self.home_of(agent), self.deadline(), |token| Input::Agent(agent, token)).await? {
            Answer::Agent(view) => Ok(view.map(|view| *view)),
            _ => Err(CallError::Stopped),
        }
    }

    /// Has an agent called no more, neither with mail nor to poll, until it is [resumed](Router::resume). Its mail waits
    /// as far as its mailbox has room, and expires in time. What an inbox was given already can still be taken.
    ///
    /// Messages that are addressed to a capability are still sent to it. A suspended agent stays suspended.
    ///
    /// # Errors
    /// There is no such agent, it is draining, or the router has stopped.
    pub async fn suspend(&self, agent: AgentId) -> Result<(), CallError<LifecycleError>> {
        self.change(agent, |token| Input::Suspend(agent, token)).await
    }

    /// Has a suspended agent go on where it was. An agent that is not suspended stays as it is.
    ///
    /// # Errors
    /// There is no such agent, it is draining, or the router has stopped.
    pub async fn resume(&self, agent: AgentId) -> Result<(), CallError<LifecycleError>> {
        self.change(agent, |token| Input::Resume(agent, token)).await
    }

    /// Removes an agent once it has handled what it has, and returns then.
    ///
    /// From the beginning it takes no new messages (they become dead letters with the reason `draining`) and is found by
    /// no capability; if it was suspended, it goes on. It has handled what it has when its mailbox, delayed messages
    /// included, and its outbox are empty. What is left after `deadline` becomes dead letters with the reason
    /// `drain-deadline`. Draining goes on if the future is dropped.
    ///
    /// # Errors
    /// There is no such agent, it is draining already, its shard drains as many agents as it may, or the router is
    /// stopping.
    pub async fn drain(&self, agent: AgentId, deadline: Duration) -> Result<Drained, CallError<LifecycleError>> {
        let within_ms = whole_milliseconds(deadline);
        // The shard itself ends draining at the deadline, and says what was left: there is a moment for that.
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
