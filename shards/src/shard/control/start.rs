//! Agents that are started and restarted, and what their handlers did takes effect. Agents that fail are restarted by their
//! factory within the limits of their policy, then stopped.
//!
//! Invariants: an effect starts no agent, and a start that fails only arms a timer, so that nothing here recurses; no code of
//! an agent unwinds into the shard, whether it is called, dropped, or drops what it panicked with; an agent is restarted at
//! most as often within a window as its policy allows, and removed when it would have to be more often; what waits for it
//! meanwhile stays in its mailbox.
//!
//! A message whose handling panics is tried again like any failed attempt, and each of its attempts restarts the agent. All
//! of them together count once: the attempts are bounded already, so that one poison message ends among the dead letters
//! and never stops an agent whose policy allows at least one restart.

use crate::base::index::AgentKey;
use crate::mailbox::Envelope;
use crate::message::{AgentId, Reliability};
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour};
use crate::shard::agent::{Agent, Context, Effect, Outcome};
use crate::shard::control::lifecycle::StopReason;
use crate::shard::io::Event;
use crate::shard::{Alarm, Shard};
use crate::supervision::{RestartCause, catch_panic, drop_quietly};

impl Shard {
    /// Commits the effects of a finished handler. Returns whether the agent wants to be removed.
    #[inline(always)]
    pub(in crate::shard) fn commit_effects(&mut self, index: AgentIndex, id: AgentId) -> bool {
        match self.effects.len() {
            0 => false,
            // Most handlers send one message, or none.
            1 => match self.effects.pop() {
                Some(effect) => self.commit_effect(index, id, effect),
                None => false,
            },
            _ => self.commit_several(index, id),
        }
    }

    pub(in crate::shard) fn commit_several(&mut self, index: AgentIndex, id: AgentId) -> bool {
        let mut effects = self.effects.take();
        let mut leaves = false;
        for effect in effects.drain(..) {
            leaves |= self.commit_effect(index, id, effect);
        }
        self.effects.put_back(effects);
        leaves
    }

    #[inline(always)]
    pub(in crate::shard) fn commit_effect(&mut self, index: AgentIndex, id: AgentId, effect: Effect) -> bool {
        match effect {
            Effect::Send(envelope) => {
                self.commit_send(index, envelope);
                false
            }
            rare => self.commit_rare_effect(index, id, rare),
        }
    }

    #[inline(never)]
    pub(in crate::shard) fn commit_rare_effect(&mut self, index: AgentIndex, id: AgentId, effect: Effect) -> bool {
        match effect {
            Effect::Send(envelope) => self.commit_send(index, envelope),
            Effect::CloseConversation(conversation) => self.close_conversation(id, conversation),
            Effect::Register(registration) => self.lifecycle.register_later(*registration, id),
            Effect::Deregister => return true,
            Effect::Advertise(capability) => self.advertise(index, capability),
            Effect::Withdraw(capability) => self.withdraw(index, capability),
            Effect::Oversee(oversight) => self.post_admin_effect(index, id, *oversight),
        }
        false
    }

    #[inline(always)]
    pub(in crate::shard) fn commit_send(&mut self, index: AgentIndex, mut envelope: Envelope) {
        if envelope.message.reliability() == Reliability::Durable {
            self.hold_for(&mut envelope);
        }
        self.submit(index, envelope);
    }

    /// Calls a native agent's `started`. An agent that panics there is gone, and its place still has to be cleared.
    pub(in crate::shard) fn start_agent(&mut self, index: AgentIndex) -> Result<(), String> {
        let Some(slot) = self.agents.get_mut(index) else { return Ok(()) };
        if !matches!(slot.behaviour, Behaviour::Native(_)) {
            return Ok(());
        }
        let id = slot.id;
        let Behaviour::Native(mut agent) = std::mem::replace(&mut slot.behaviour, Behaviour::Running) else {
            return Ok(());
        };
        self.agents.calling.begin(index);
        let mut context = Context { shard: self, agent: index, id };
        let called = catch_panic(|| agent.start(&mut context)).and_then(|outcome| match outcome {
            Outcome::Failed(failure) => Err(failure.explanation.into_owned()),
            Outcome::Done | Outcome::Suspended => Ok(()),
        });
        match called {
            Ok(()) => {
                let leaves = self.commit_effects(index, id);
                self.come_back(index, agent, leaves);
                Ok(())
            }
            Err(what) => {
                self.discard_effects();
                drop_quietly(agent);
                Err(what)
            }
        }
    }

    /// Puts an agent back after a call.
    pub(in crate::shard) fn come_back(&mut self, index: AgentIndex, agent: Box<dyn Agent>, leaves: bool) {
        if let Some(slot) = self.agents.get_mut(index) {
            slot.behaviour = Behaviour::Native(agent);
        }
        if leaves {
            self.deregister(index);
        }
    }

    /// Restarts an agent, at once or after its delay. Removes an agent that has used up its restarts.
    #[cold]
    pub(in crate::shard) fn restart(&mut self, index: AgentIndex, cause: RestartCause) {
        if self.begin_restart(index, cause) {
            self.start_again(index);
        }
    }

    /// Counts a restart and arms the timer of its delay, or removes an agent that was restarted too often. Returns whether
    /// it is started at once instead.
    pub(in crate::shard) fn begin_restart(&mut self, index: AgentIndex, cause: RestartCause) -> bool {
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
        self.outputs.report_exception(|| Event::AgentRestarted { agent: id, restarts: total, delay_ms });
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
            // An agent that can never be started again would only collect messages.
            Err(_) => self.remove_agent(index, StopReason::RestartsExhausted),
        }
        false
    }

    /// Handles the end of a restart delay.
    #[cold]
    pub(in crate::shard) fn on_restart_due(&mut self, key: AgentKey) {
        let Some(slot) = self.agents.resolve_mut(key) else { return };
        let index = key.index;
        slot.cold().restarts().timer = None;
        // A suspended agent is not called, not even to be started; that waits until it is resumed.
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
            self.outputs.report_exception(|| Event::AgentPanicked { agent: id, what });
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
}
