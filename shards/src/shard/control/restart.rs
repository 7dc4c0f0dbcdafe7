//! Agents that fail: restarted by their factory within the limits of their policy, then stopped.
//!
//! Invariants: no code of an agent unwinds into the shard, whether it is called, dropped, or drops what it panicked
//! with; an agent is restarted at most as often within a window as its policy allows, and removed when it would have to
//! be more often; what waits for it meanwhile stays in its mailbox.
//!
//! A message whose handling panics is tried again like any failed attempt, and each of its attempts makes the agent
//! anew. All of them together count once: the attempts are bounded already, so that one poison message ends among the
//! dead letters and never stops an agent whose policy allows at least one restart.

use crate::base::index::AgentKey;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour};
use crate::shard::agent::{Agent, Factory};
use crate::shard::control::lifecycle::{AgentState, StopReason};
use crate::shard::io::Event;
use crate::shard::{Alarm, Shard};
use crate::supervision::{RestartCause, catch_panic, drop_quietly};

impl Shard {
    /// Restarts an agent, at once or when its delay is over. One that was restarted too often is removed.
    #[cold]
    pub(in crate::shard) fn restart(&mut self, index: AgentIndex, cause: RestartCause) {
        if self.begin_restart(index, cause) {
            self.start_again(index);
        }
    }

    /// Counts a restart and arms the timer of its delay, or removes an agent that was restarted too often. Returns whether
    /// it is started at once instead.
    fn begin_restart(&mut self, index: AgentIndex, cause: RestartCause) -> bool {
        let (now_ms, policy) = (self.clock.now_ms(), self.config.supervision);
        let Some(slot) = self.agents.get_mut(index) else { return false };
        let (id, key) = (slot.id, slot.key(index));
        let restarts = slot.cold().restarts();
        let policy = restarts.own_policy.unwrap_or(policy);
        let Some(delay_ms) = restarts.note(policy, now_ms, cause) else {
            self.remove_agent(index, StopReason::RestartsExhausted);
            return false;
        };
        let total = restarts.total;
        slot.flags.add(AgentFlags::RESTARTING);
        self.outputs.report(|| Event::AgentRestarted { agent: id, restarts: total, delay_ms });
        self.report_state(index);
        if delay_ms == 0 {
            return true;
        }
        match self.timers.insert(now_ms + delay_ms, Alarm::Restart(key)) {
            Ok(timer) => {
                if let Some(slot) = self.agents.get_mut(index) {
                    slot.cold().restarts().timer = Some(timer);
                }
                self.arm_sweep(index);
            }
            // An agent that could never be started again would only collect mail.
            Err(_) => self.remove_agent(index, StopReason::RestartsExhausted),
        }
        false
    }

    /// The wait before a restart is over.
    #[cold]
    pub(in crate::shard) fn on_restart_due(&mut self, key: AgentKey) {
        let Some(slot) = self.agents.resolve_mut(key) else { return };
        let index = key.index;
        slot.cold().restarts().timer = None;
        // A suspended agent is not called, not even to be started: that waits until it is resumed.
        if !slot.flags.is(AgentFlags::SUSPENDED) {
            self.start_again(index);
            self.go_on(index);
        }
    }

    /// Creates the agent again and starts it. The caller schedules it.
    pub(in crate::shard) fn start_again(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let id = slot.id;
        if !slot.maker.exists() {
            return;
        }
        self.agents.calling.begin(index);
        let Some(slot) = self.agents.get_mut(index) else { return };
        let made = slot.maker.make().map(|agent| slot.behaviour = Behaviour::Native(agent));
        if let Err(what) = made.and_then(|()| self.start_agent(index)) {
            self.outputs.report(|| Event::AgentPanicked { agent: id, what });
            // A failed start waits for its timer, whatever the policy's delay: starting never starts anything.
            let at_once = self.begin_restart(index, RestartCause::FailedStart);
            debug_assert!(!at_once, "a failed start waits for its timer");
            return;
        }
        // It may have left while it was started.
        let Some(slot) = self.agents.get_mut(index).filter(|slot| !slot.flags.is(AgentFlags::LEAVING)) else { return };
        slot.flags.remove(AgentFlags::RESTARTING);
        slot.cold().restarts().failed_starts = 0;
        self.report_state(index);
    }

    /// Tells observers which state an agent has come into.
    pub(in crate::shard) fn report_state(&mut self, index: AgentIndex) {
        if !self.outputs.is_watched() {
            return;
        }
        let Some((agent, state)) = self.agents.get(index).map(|slot| (slot.id, AgentState::of(slot.flags))) else {
            return;
        };
        self.outputs.report(|| Event::StateChanged { agent, state });
    }
}

/// What belongs to agents is dropped where a panic does no harm.
impl Drop for Shard {
    fn drop(&mut self) {
        let agents: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in agents {
            if let Some(slot) = self.agents.get_mut(agent) {
                drop_quietly(std::mem::replace(&mut slot.behaviour, Behaviour::Running));
            }
        }
    }
}

/// An agent's factory, if it has one. It is dropped where a panic does no harm: it owns whatever its closure has captured.
pub(crate) struct AgentFactory(Option<Factory>);

impl AgentFactory {
    /// For agents that nobody makes anew.
    pub const NONE: Self = Self(None);

    pub fn new(factory: Factory) -> Self {
        Self(Some(factory))
    }

    pub fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// A new agent, or the text of the factory's panic.
    pub fn make(&mut self) -> Result<Box<dyn Agent>, String> {
        match &mut self.0 {
            Some(factory) => catch_panic(factory),
            None => Err("its factory is gone".to_owned()),
        }
    }
}

impl Drop for AgentFactory {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}
