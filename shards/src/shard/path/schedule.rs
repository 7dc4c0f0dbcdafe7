//! Scheduling: the run queue, and the sweep of messages that may expire meanwhile.

use crate::base::index::ShardIndex;
use crate::shard::agent::registry::{AgentIndex, Behaviour};
use crate::shard::{Alarm, SWEEP_INTERVAL_MS, Shard, ShardPhase};
use crate::supervision::BreakerGate;

impl Shard {
    /// Puts an agent with mail into the run queue, if it can be called.
    #[inline]
    pub(in crate::shard) fn schedule(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let callable = slot.outbox.is_empty()
            && !slot.is_halted()
            && (slot.gate != BreakerGate::Open || slot.has_in_hand())
            && match &slot.behaviour {
                Behaviour::InboxState(outside) => outside.room > 0,
                Behaviour::Native(_) | Behaviour::Running | Behaviour::Gateway => true,
            };
        if slot.queued || !(slot.mailbox.has_mail() || slot.has_in_hand()) {
            return;
        }
        if callable {
            slot.queued = true;
            self.scheduler.push(index);
        } else {
            self.arm_sweep(index);
        }
    }

    /// Ensures that messages for an agent that is not being called expire on time.
    pub(in crate::shard) fn arm_sweep(&mut self, index: AgentIndex) {
        // Nothing is left that could expire.
        if self.phase == ShardPhase::Stopped {
            return;
        }
        let Some(slot) = self.agents.get_mut(index) else { return };
        if !slot.swept {
            let alarm = Alarm::Sweep(slot.key(index));
            slot.swept = self.timers.insert(self.clock.now_ms() + SWEEP_INTERVAL_MS, alarm).is_ok();
        }
    }

    /// Lets an agent continue.
    pub(in crate::shard) fn go_on(&mut self, index: AgentIndex) {
        self.poll_again(index);
        self.schedule(index);
    }

    pub(crate) fn start_polling(&mut self, agent: AgentIndex) {
        if let Some(slot) = self.agents.get_mut(agent)
            && !slot.polled
        {
            slot.polled = true;
            self.scheduler.poll(slot.key(agent));
        }
    }

    /// Resumes polling of an agent that could not be called.
    pub(crate) fn poll_again(&mut self, agent: AgentIndex) {
        if let Some(slot) = self.agents.get(agent)
            && slot.polled
            && !self.scheduler.is_polled(slot.key(agent))
        {
            self.scheduler.poll(slot.key(agent));
        }
    }

    /// Ensures that messages in transit to a shard expire on time. Each queue has at most one timer, because it is
    /// armed when the queue begins to fill and again only when it fires.
    pub(in crate::shard) fn arm_transit_sweep(&mut self, to: ShardIndex) {
        if !self.links.is_transit_swept(to) {
            let timer = self.timers.insert(self.clock.now_ms() + SWEEP_INTERVAL_MS, Alarm::SweepTransit(to));
            self.links.set_transit_swept(to, timer.is_ok());
        }
    }

    /// Makes sure that nothing waits in a queue or a stall list beyond its lifetime.
    pub(in crate::shard) fn arm_waiter_sweep(&mut self) {
        if !self.flow_control.queues.is_swept() {
            let timer = self.timers.insert(self.clock.now_ms() + SWEEP_INTERVAL_MS, Alarm::SweepLines);
            self.flow_control.queues.set_swept(timer.is_ok());
        }
    }
}
