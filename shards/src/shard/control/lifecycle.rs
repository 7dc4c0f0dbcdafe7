//! The life cycle of agents (FIPA SC00023): which are called, which accept messages, and what senders to the others are
//! told.
//!
//! | state | accepts messages | is called |
//! |---|---|---|
//! | initiated | yes | not before its `started` has returned |
//! | active | yes | yes |
//! | suspended | yes, as far as its mailbox has room | no |
//! | draining | no | yes, for pending messages |
//! | stopped | no | no |
//!
//! Invariants: a message that is not accepted is a dead letter whose reason names the state; messages waiting for an
//! agent that is not called still expire.

use crate::base::index::{AgentKey, ShardIndex};
use crate::base::timer_wheel::TimerKey;
use crate::flow_control::policy::OverflowPolicy;
use crate::message::{AgentId, Term};
use crate::outcome::DeadLetterReason;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, AgentSlot, Behaviour};
use crate::shard::io::{Answer, Token};
use crate::shard::{Alarm, Shard, ShardPhase};

/// Maximum number of agents of a shard drained at the same time.
pub const DRAINING_AGENTS_MAX: usize = 4_096;

/// Maximum number of agents in one portion of a shard's agents.
pub const AGENTS_PER_ANSWER_MAX: usize = 256;
/// Maximum number of places that a shard examines for one portion: those of removed agents are empty.
const AGENT_PLACES_EXAMINED_MAX: u32 = 4_096;

/// An agent's life-cycle state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AgentState {
    /// Registered, but its `started` has not returned yet; or it failed and waits to be restarted. Its messages wait.
    ///
    /// An agent is active as soon as `started` has returned, which is before its registration is answered: that waits
    /// for all shards to know the agent.
    Initiated,
    /// It handles messages.
    Active,
    /// It is not called. Its messages wait until it is resumed, as far as its mailbox has room, and expire in time.
    Suspended,
    /// It accepts nothing new, and is stopped once it has handled its messages.
    Draining,
    /// It is gone.
    Stopped,
}

impl AgentState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Initiated, Self::Active, Self::Suspended, Self::Draining, Self::Stopped];

    /// Returns the state as one word.
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

/// How an agent gets its messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AgentKind {
    /// Its shard calls a handler.
    Handler,
    /// Its owner takes them out of an inbox.
    Inbox,
    /// It is not registered, and only messages for it are here: durable ones of an earlier run, or those for an agent that
    /// is looked for on other nodes.
    Absent,
    /// It stands for an agent of another node.
    Proxy,
}

impl AgentKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Handler, Self::Inbox, Self::Absent, Self::Proxy];

    /// Returns the kind as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Inbox => "inbox",
            Self::Absent => "absent",
            Self::Proxy => "proxy",
        }
    }

    fn of(slot: &AgentSlot) -> Self {
        match &slot.behaviour {
            _ if slot.flags.is(AgentFlags::ABSENT) => Self::Absent,
            Behaviour::InboxState(_) if slot.is_proxy() => Self::Proxy,
            Behaviour::InboxState(_) => Self::Inbox,
            Behaviour::Native(_) | Behaviour::Running | Behaviour::Gateway => Self::Handler,
        }
    }
}

impl std::fmt::Display for AgentKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Which agents are listed: those to which every field that is given applies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentFilter {
    /// What its name begins with.
    pub prefix: Option<Box<str>>,
    /// A capability that it provides.
    pub capability: Option<Box<str>>,
    /// Its shard.
    pub shard: Option<ShardIndex>,
    /// Its life-cycle state.
    pub state: Option<AgentState>,
    /// How it gets its messages.
    pub kind: Option<AgentKind>,
}

impl AgentFilter {
    fn passes(&self, slot: &AgentSlot, shard: ShardIndex) -> bool {
        let capabilities = slot.cold.as_ref().map_or(&[][..], |cold| &cold.capabilities);
        self.shard.is_none_or(|own| own == shard)
            && self.prefix.as_ref().is_none_or(|prefix| slot.name.starts_with(&**prefix))
            && self.state.is_none_or(|state| state == AgentState::of(slot.flags))
            && self.kind.is_none_or(|kind| kind == AgentKind::of(slot))
            && self.capability.as_ref().is_none_or(|name| capabilities.iter().any(|term| term.as_str() == &**name))
    }
}

/// Why an agent was removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// It was deregistered, by a call or by itself.
    Deregistered,
    /// It panicked when it was first started, so it was not registered after all.
    NotStarted,
    /// Its `supervise` decided so after a failure.
    Verdict,
    /// It failed more often than its restart policy allows.
    RestartsExhausted,
    /// It was drained and had handled everything.
    Drained,
    /// It was drained and had not handled everything at the deadline.
    DrainDeadline,
    /// The owner of its inbox dropped it.
    InboxClosed,
}

impl StopReason {
    /// Returns the reason as one word.
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

    /// Whether it means that something went wrong, and not that somebody asked for it.
    pub const fn is_exceptional(self) -> bool {
        match self {
            Self::NotStarted | Self::Verdict | Self::RestartsExhausted | Self::DrainDeadline => true,
            Self::Deregistered | Self::Drained | Self::InboxClosed => false,
        }
    }

    /// Returns the dead letter reason of a message that the agent had accepted and not handled.
    pub(crate) const fn for_what_waited(self) -> DeadLetterReason {
        match self {
            Self::RestartsExhausted => DeadLetterReason::RestartsExhausted,
            Self::DrainDeadline => DeadLetterReason::DrainDeadline,
            Self::Deregistered | Self::NotStarted | Self::Verdict | Self::Drained | Self::InboxClosed => {
                DeadLetterReason::Deregistered
            }
        }
    }

    /// Returns the dead letter reason of a message that arrives after the agent was removed.
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

/// A snapshot of an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: Box<str>,
    /// How it gets its messages; none if it was removed.
    pub kind: Option<AgentKind>,
    /// Its life-cycle state.
    pub state: AgentState,
    /// Why it was removed, if it was.
    pub stopped_because: Option<StopReason>,
    /// Messages that count against its mailbox: waiting, delayed, being retried, or being handled.
    pub mailbox_messages: u32,
    /// Their bytes.
    pub mailbox_bytes: u64,
    /// Messages that it has sent and that wait to leave.
    pub outbox: u32,
    /// Messages that it has sent and that wait for receivers with full mailboxes.
    pub waiting: u32,
    /// What happens to a message that finds its mailbox full.
    pub overflow: OverflowPolicy,
    /// Whether its mailbox was full and is not yet half empty, so that its senders wait.
    pub closed: bool,
    /// The number of restarts since it was registered.
    pub restarts: u64,
    /// The capabilities it provides.
    pub capabilities: Vec<Term>,
    /// Its shard.
    pub shard: ShardIndex,
}

/// A portion of a shard's agents, in the order of their places. An agent keeps its place as long as it is registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentPortion {
    /// The agents.
    pub agents: Vec<AgentView>,
    /// If places were not examined, the one after which to continue.
    pub next: Option<AgentIndex>,
}

/// An agent's state was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// There is no such agent.
    #[error("no agent of this id is registered")]
    UnknownAgent,
    /// Its state does not allow the change.
    #[error("the agent is {state}, which allows no such change")]
    WrongState {
        /// The state, which is unchanged.
        state: AgentState,
    },
    /// The maximum number of agents is being drained.
    #[error("its shard drains the maximum number of agents at a time: {limit}; try again later")]
    TooManyDrains {
        /// The limit.
        limit: usize,
    },
    /// The router is stopping. What the agent had not handled was dead-lettered.
    #[error("the router is stopping")]
    Stopping,
}

/// The result of draining an agent. It is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Number of messages that were left in its mailbox and its inbox when it was removed, at the deadline or in another way.
    /// They were dead-lettered.
    /// Zero if it had handled everything.
    pub left: u32,
}

/// The waiter and the deadline of a drain.
pub(crate) struct Drain {
    pub(in crate::shard) token: Token,
    pub(in crate::shard) deadline: TimerKey,
    /// Messages that its inbox has given back.
    pub(in crate::shard) given_back: u32,
}

impl Shard {
    /// Returns an agent that embedders may change.
    fn find_for_embedder(&self, agent: AgentId) -> Result<AgentIndex, LifecycleError> {
        self.agents.find_own(agent).ok_or(LifecycleError::UnknownAgent)
    }

    pub(in crate::shard) fn suspend_agent(&mut self, agent: AgentId) -> Result<(), LifecycleError> {
        if self.phase == ShardPhase::Stopped {
            // It still has to receive notices about its messages, and nobody would resume it.
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

    /// Begins to drain an agent, or responds why not.
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
        slot.cold().drain = Some(Drain { token, deadline, given_back: 0 });
        for capability in slot.cold().capabilities.clone() {
            self.withdraw(index, capability);
        }
        if let Some(slot) = self.agents.get_mut(index) {
            slot.flags.add(AgentFlags::DRAINING);
            if slot.flags.is(AgentFlags::CLOSED) {
                self.give_up_stalled(index, DeadLetterReason::Draining, "");
            }
        }
        self.lifecycle.drain(key);
        self.report_state(index);
        // A suspended agent could never handle its messages.
        if state == AgentState::Suspended {
            self.end_suspension(index);
        }
        Ok(())
    }

    /// Removes the drained agents that have handled everything. Returns whether there was one.
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

    /// Ends the drain of an agent at its deadline.
    pub(in crate::shard) fn on_drain_end(&mut self, key: AgentKey) {
        if self.agents.resolve(key).is_some() {
            self.remove_agent(key.index, StopReason::DrainDeadline);
        }
    }

    /// Ends all drains when the router stops.
    pub(in crate::shard) fn stop_drains(&mut self) {
        for agent in self.lifecycle.take_draining() {
            let slot = self.agents.resolve_mut(agent);
            let Some(drain) = slot.and_then(|slot| slot.cold().drain.take()) else { continue };
            self.timers.cancel(drain.deadline);
            self.outputs.answer(drain.token, Answer::Drained(Err(LifecycleError::Stopping)));
        }
    }

    /// Returns a snapshot of an agent that exists or existed recently.
    pub(in crate::shard) fn view_agent(&self, agent: AgentId) -> Option<AgentView> {
        let shard = self.index;
        let Some(slot) = self.agents.find(agent).and_then(|index| self.agents.get(index)) else {
            let former = self.agents.find_former(agent)?;
            return Some(AgentView {
                id: agent,
                name: former.name.clone(),
                kind: None,
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
        Some(view_slot(slot, shard))
    }

    /// Returns agents behind a place that pass a filter, without the gateway and without those that were removed.
    pub(in crate::shard) fn list_agents(
        &self,
        after: Option<AgentIndex>,
        limit: usize,
        filter: &AgentFilter,
    ) -> AgentPortion {
        let limit = limit.min(AGENTS_PER_ANSWER_MAX);
        let first = after.map_or(0, |after| after.0.saturating_add(1));
        let end = self.agents.places();
        let last = first.saturating_add(AGENT_PLACES_EXAMINED_MAX).min(end);
        let mut portion = AgentPortion { agents: Vec::new(), next: None };
        for place in first..last {
            if portion.agents.len() >= limit {
                portion.next = place.checked_sub(1).map(AgentIndex);
                return portion;
            }
            let index = AgentIndex(place);
            let slot = self.agents.get(index).filter(|slot| index != self.agents.gateway() && !slot.is_leaving());
            let slot = slot.filter(|slot| filter.passes(slot, self.index));
            portion.agents.extend(slot.map(|slot| view_slot(slot, self.index)));
        }
        portion.next = (last < end).then(|| AgentIndex(last.saturating_sub(1)));
        portion
    }
}

fn view_slot(slot: &AgentSlot, shard: ShardIndex) -> AgentView {
    let cold = slot.cold.as_ref();
    AgentView {
        id: slot.id,
        name: Box::from(&*slot.name),
        kind: Some(AgentKind::of(slot)),
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
    }
}

/// Whether a drained agent still has something to handle, or to send.
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
