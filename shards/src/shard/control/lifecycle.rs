//! The states of an agent's life (FIPA SC00023): who is called, who takes mail, and what whoever writes to the others
//! is told.
//!
//! | state | takes mail | is called |
//! |---|---|---|
//! | initiated | yes | not before its `started` has returned |
//! | active | yes | yes |
//! | suspended | yes, as far as its mailbox has room | no |
//! | draining | no | yes, for what it has |
//! | stopped | no | no |
//!
//! Invariants: a message that is not taken is a dead letter whose reason names the state; what waits for an agent that
//! is not called ends with its lifetime all the same.

use crate::base::index::{AgentKey, ShardIndex};
use crate::base::timer_wheel::TimerKey;
use crate::flow_control::policy::OverflowPolicy;
use crate::message::{AgentId, Term};
use crate::outcome::DeadLetterReason;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, AgentSlot, Behaviour};
use crate::shard::io::{Answer, Token};
use crate::shard::{Alarm, Shard, ShardPhase};

/// The most agents of one shard that are drained at the same time.
pub const DRAINING_AGENTS_MAX: usize = 4_096;

/// Where an agent is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AgentState {
    /// Registered, but its `started` has not returned yet; or it failed and waits to be restarted. Its mail waits.
    ///
    /// An agent is active as soon as `started` has returned, which is before its registration is answered: that waits
    /// for all shards to know the agent.
    Initiated,
    /// It is called with its mail.
    Active,
    /// It is not called. Its mail waits until it is resumed, as far as its mailbox has room, and expires in time.
    Suspended,
    /// It takes nothing new, and is stopped when it has handled what it has.
    Draining,
    /// It is gone.
    Stopped,
}

impl AgentState {
    /// The state as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) fn of(flags: AgentFlags) -> Self {
        if flags.is(AgentFlags::LEAVING) {
            Self::Stopped
        } else if flags.is(AgentFlags::DRAINING) {
            Self::Draining
        } else if flags.is(AgentFlags::SUSPENDED) {
            Self::Suspended
        } else if flags.is(AgentFlags::RESTARTING) || flags.is(AgentFlags::ABSENT) {
            Self::Initiated
        } else {
            Self::Active
        }
    }
}

impl std::fmt::Display for AgentState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why an agent was removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// It was deregistered, by a call or by itself.
    Deregistered,
    /// It panicked when it was started for the first time, so it was not registered after all.
    NotStarted,
    /// Its `supervise` decided so after a failure.
    Verdict,
    /// It would have had to be restarted more often than its policy allows.
    RestartsExhausted,
    /// It was drained and had handled everything.
    Drained,
    /// It was drained and had not handled everything at the deadline.
    DrainDeadline,
    /// The owner of its inbox dropped it.
    InboxClosed,
}

impl StopReason {
    /// The reason as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deregistered => "deregistered",
            Self::NotStarted => "not-started",
            Self::Verdict => "verdict",
            Self::RestartsExhausted => "restarts-exhausted",
            Self::Drained => "drained",
            Self::DrainDeadline => "drain-deadline",
            Self::InboxClosed => "inbox-closed",
        }
    }

    /// What becomes of a message that the agent had taken and not handled.
    pub(crate) const fn for_what_waited(self) -> DeadLetterReason {
        match self {
            Self::RestartsExhausted => DeadLetterReason::RestartsExhausted,
            Self::DrainDeadline => DeadLetterReason::DrainDeadline,
            Self::Deregistered | Self::NotStarted | Self::Verdict | Self::Drained | Self::InboxClosed => {
                DeadLetterReason::Deregistered
            }
        }
    }

    /// What becomes of a message that comes after the agent has gone.
    pub(in crate::shard) const fn for_what_comes_late(self) -> DeadLetterReason {
        match self {
            Self::RestartsExhausted => DeadLetterReason::RestartsExhausted,
            Self::DrainDeadline
            | Self::Deregistered
            | Self::NotStarted
            | Self::Verdict
            | Self::Drained
            | Self::InboxClosed => DeadLetterReason::Deregistered,
        }
    }
}

/// An agent at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AgentView {
    /// Who.
    pub id: AgentId,
    /// Its name.
    pub name: Box<str>,
    /// Where it is in its life.
    pub state: AgentState,
    /// Why it was removed, if it was.
    pub stopped_because: Option<StopReason>,
    /// Messages that count against its mailbox: waiting, delayed, being retried, or being handled.
    pub mailbox_messages: u32,
    /// Their bytes.
    pub mailbox_bytes: u64,
    /// Messages that it has sent and that wait to leave.
    pub outbox: u32,
    /// What it has sent and what waits for receivers whose mailboxes are full.
    pub waiting: u32,
    /// What happens to what finds its mailbox full.
    pub overflow: OverflowPolicy,
    /// Whether its mailbox was full and has not been emptied to the half since, so that its senders wait.
    pub closed: bool,
    /// How often it was restarted since it was registered.
    pub restarts: u64,
    /// What it offers.
    pub capabilities: Vec<Term>,
    /// Where it lives.
    pub shard: ShardIndex,
}

/// Why an agent's state was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// There is no such agent.
    #[error("no agent of this id is registered")]
    UnknownAgent,
    /// Its state does not allow that.
    #[error("the agent is {state}, which allows no such change")]
    WrongState {
        /// The state that it is in, and stays in.
        state: AgentState,
    },
    /// As many agents are drained as may be.
    #[error("its shard drains as many agents as it may at a time: {limit}; try again later")]
    TooManyDrains {
        /// The limit.
        limit: usize,
    },
    /// The router stops. What the agent had not handled became dead letters.
    #[error("the router is stopping")]
    Stopping,
}

/// What came of draining an agent. It is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Messages that its mailbox still held when it was removed, because the deadline came or because it was removed in
    /// another way first: they become dead letters. Zero when it had handled everything.
    pub left: u32,
}

/// Whom to tell when an agent is drained, and when to end that.
pub(crate) struct Drain {
    pub(in crate::shard) token: Token,
    pub(in crate::shard) deadline: TimerKey,
}

impl Shard {
    /// An agent that embedders may do something to.
    fn find_for_embedder(&self, agent: AgentId) -> Result<AgentIndex, LifecycleError> {
        self.agents.find_own(agent).ok_or(LifecycleError::UnknownAgent)
    }

    pub(in crate::shard) fn suspend_agent(&mut self, agent: AgentId) -> Result<(), LifecycleError> {
        if self.phase == ShardPhase::Stopped {
            // It is still to hear what became of its messages, and nobody would let it go on.
            return Err(LifecycleError::Stopping);
        }
        let index = self.find_for_embedder(agent)?;
        match self.agents.state_of(index) {
            AgentState::Suspended => return Ok(()),
            AgentState::Initiated | AgentState::Active => {}
            state @ (AgentState::Draining | AgentState::Stopped) => return Err(LifecycleError::WrongState { state }),
        }
        if let Some(slot) = self.agents.get_mut(index) {
            slot.flags.add(AgentFlags::SUSPENDED);
        }
        self.arm_sweep(index);
        self.report_state(index);
        Ok(())
    }

    pub(in crate::shard) fn resume_agent(&mut self, agent: AgentId) -> Result<(), LifecycleError> {
        let index = self.find_for_embedder(agent)?;
        match self.agents.state_of(index) {
            AgentState::Suspended => {}
            AgentState::Initiated | AgentState::Active => return Ok(()),
            state @ (AgentState::Draining | AgentState::Stopped) => return Err(LifecycleError::WrongState { state }),
        }
        self.end_suspension(index);
        self.report_state(index);
        Ok(())
    }

    fn end_suspension(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        slot.flags.remove(AgentFlags::SUSPENDED);
        let on_restart_due = slot.flags.is(AgentFlags::RESTARTING) && slot.cold().restarts().timer.is_none();
        if on_restart_due {
            self.start_again(index);
        }
        self.go_on(index);
    }

    /// Begins to drain an agent, or answers why not.
    pub(in crate::shard) fn drain_agent(&mut self, agent: AgentId, within_ms: u64, token: Token) {
        if let Err(error) = self.begin_drain(agent, within_ms, token) {
            self.outputs.answer(token, Answer::Drained(Err(error)));
        }
    }

    fn begin_drain(&mut self, agent: AgentId, within_ms: u64, token: Token) -> Result<(), LifecycleError> {
        if self.phase == ShardPhase::Stopped {
            return Err(LifecycleError::Stopping);
        }
        let index = self.find_for_embedder(agent)?;
        let state = self.agents.state_of(index);
        if matches!(state, AgentState::Draining | AgentState::Stopped) {
            return Err(LifecycleError::WrongState { state });
        }
        let full = LifecycleError::TooManyDrains { limit: DRAINING_AGENTS_MAX };
        if self.lifecycle.drains_enough() {
            return Err(full);
        }
        let Some(slot) = self.agents.get_mut(index) else { return Err(LifecycleError::UnknownAgent) };
        let key = slot.key(index);
        let alarm = Alarm::DrainDeadline(key);
        let deadline = self.timers.insert(self.clock.now_ms().saturating_add(within_ms), alarm).map_err(|_| full)?;
        slot.cold().drain = Some(Drain { token, deadline });
        for capability in slot.cold().capabilities.clone() {
            self.withdraw(index, capability);
        }
        if let Some(slot) = self.agents.get_mut(index) {
            slot.flags.add(AgentFlags::DRAINING);
            if slot.flags.is(AgentFlags::CLOSED) {
                self.give_up_stalled(index, DeadLetterReason::Draining);
            }
        }
        self.lifecycle.drain(key);
        self.report_state(index);
        // A suspended agent could never handle what it has.
        if state == AgentState::Suspended {
            self.end_suspension(index);
        }
        Ok(())
    }

    /// Removes the drained agents that have handled everything. Says whether there was one.
    pub(in crate::shard) fn end_drains(&mut self) -> bool {
        if !self.lifecycle.drains() {
            return false;
        }
        let mut ended = false;
        let mut draining = self.lifecycle.take_draining();
        draining.retain(|agent| {
            let Some(slot) = self.agents.resolve(*agent) else { return false };
            if slot.flags.is(AgentFlags::LEAVING) {
                return false;
            }
            if has_something_left(slot) {
                return true;
            }
            self.remove_agent(agent.index, StopReason::Drained);
            ended = true;
            false
        });
        self.lifecycle.give_back(draining);
        ended
    }

    /// The time for draining an agent is over.
    pub(in crate::shard) fn on_drain_end(&mut self, key: AgentKey) {
        if self.agents.resolve(key).is_some() {
            self.remove_agent(key.index, StopReason::DrainDeadline);
        }
    }

    /// The router stops, and nobody is drained any more.
    pub(in crate::shard) fn stop_drains(&mut self) {
        for agent in self.lifecycle.take_draining() {
            let slot = self.agents.resolve_mut(agent);
            let Some(drain) = slot.and_then(|slot| slot.cold().drain.take()) else { continue };
            self.timers.cancel(drain.deadline);
            self.outputs.answer(drain.token, Answer::Drained(Err(LifecycleError::Stopping)));
        }
    }

    /// An agent that is there or was there not long ago.
    pub(in crate::shard) fn view_agent(&self, agent: AgentId) -> Option<AgentView> {
        let shard = self.index;
        let Some(slot) = self.agents.find(agent).and_then(|index| self.agents.get(index)) else {
            let former = self.agents.find_former(agent)?;
            return Some(AgentView {
                id: agent,
                name: former.name.clone(),
                state: AgentState::Stopped,
                stopped_because: Some(former.why),
                mailbox_messages: 0,
                mailbox_bytes: 0,
                outbox: 0,
                waiting: 0,
                overflow: OverflowPolicy::default(),
                closed: false,
                restarts: former.restarts,
                capabilities: Vec::new(),
                shard,
            });
        };
        let cold = slot.cold.as_ref();
        Some(AgentView {
            id: agent,
            name: Box::from(&*slot.name),
            state: AgentState::of(slot.flags),
            stopped_because: None,
            mailbox_messages: slot.mailbox.held(),
            mailbox_bytes: slot.mailbox.held_bytes(),
            outbox: slot.outbox_length,
            waiting: cold.map_or(0, |cold| cold.waiting),
            overflow: slot.overflow,
            closed: slot.flags.is(AgentFlags::CLOSED),
            restarts: cold.and_then(|cold| cold.restarts.as_ref()).map_or(0, |restarts| restarts.total),
            capabilities: cold.map_or_else(Vec::new, |cold| cold.capabilities.clone()),
            shard,
        })
    }
}

/// Whether an agent that is drained still has something to handle, or to send.
fn has_something_left(slot: &AgentSlot) -> bool {
    let in_inbox = match &slot.behaviour {
        Behaviour::InboxState(outside) => outside.handed_out > 0,
        Behaviour::Native(_) | Behaviour::Running | Behaviour::Gateway => false,
    };
    in_inbox
        || slot.mailbox.held() > 0
        || slot.mailbox.has_mail()
        || slot.has_in_hand()
        || !slot.outbox.is_empty()
        || slot.blocked.is_some()
        || slot.flags.is(AgentFlags::WAITING)
}
