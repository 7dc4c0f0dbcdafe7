//! When an agent is called: the run queue, and a look at what may expire meanwhile.

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

    /// Makes sure that what waits for an agent that is not called does not wait beyond its lifetime.
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
}
