//! Messages that wait to leave their sender: for credit of another shard, or for room.

use crate::base::index::{AgentIndex, ShardIndex};
use crate::mailbox::{Envelope, Held, Queue};
use crate::outcome::{DeadLetterReason, Stage};
use crate::planted;
use crate::planted::Bug;
use crate::shard::Shard;
use crate::shard::path::route::Blocked;

impl Shard {
    /// Accepts a message and sends it, or queues it behind its sender's waiting messages.
    #[inline(always)]
    pub(in crate::shard) fn submit(&mut self, agent: AgentIndex, envelope: Envelope) {
        self.ledger.accept(envelope.deliveries_left());
        if envelope.message.reply_by().is_some() && !self.expect_reply(agent, &envelope) {
            return self.refuse_ask(envelope);
        }
        if self.agents.get(agent).is_some_and(|slot| !slot.outbox.is_empty()) && !planted::is(Bug::OutboxOvertaken) {
            return self.put_into_outbox(agent, envelope);
        }
        if let Err(Blocked { shard, envelope }) = self.route(envelope) {
            self.put_into_outbox(agent, envelope);
            self.block(agent, shard);
        }
    }

    /// Makes an outbox wait for credit at a shard. An agent is in at most one such list, and once.
    pub(in crate::shard) fn block(&mut self, agent: AgentIndex, shard: ShardIndex) {
        let Some(slot) = self.agents.get_mut(agent) else { return };
        let before = slot.blocked.replace(shard);
        self.links.block(agent, shard, before);
    }

    #[cold]
    pub(in crate::shard) fn put_into_outbox(&mut self, agent: AgentIndex, envelope: Envelope) {
        self.store_in_outbox(agent, envelope, Queue::push);
        self.arm_sweep(agent);
    }

    pub(in crate::shard) fn store_in_outbox(
        &mut self,
        agent: AgentIndex,
        envelope: Envelope,
        link: fn(&mut Queue, &mut Held, u32),
    ) {
        match self.held.park(envelope) {
            Ok(place) => {
                if let Some(slot) = self.agents.get_mut(agent) {
                    link(&mut slot.outbox, &mut self.held, place);
                    slot.outbox_length += 1;
                }
            }
            Err(envelope) => self.dead_letter_all(envelope, DeadLetterReason::ShardFull),
        }
    }

    /// Takes the first message out of an agent's outbox.
    pub(in crate::shard) fn take_from_outbox(&mut self, agent: AgentIndex) -> Option<Envelope> {
        let slot = self.agents.get_mut(agent)?;
        let place = slot.outbox.pop(&mut self.held)?;
        slot.outbox_length -= 1;
        self.held.unpark(place)
    }

    /// Continues with outboxes for which there is room again.
    pub(in crate::shard) fn flush_outboxes(&mut self) -> usize {
        let mut flushed = 0;
        for shard in self.links.all() {
            // An unfinished fan-out continues with one portion per turn.
            for _ in 0..self.links.blocked_at(shard) {
                let Some(agent) = self.links.unblock(shard) else { break };
                if let Some(slot) = self.agents.get_mut(agent) {
                    slot.blocked = None;
                }
                flushed += self.flush_outbox(agent);
            }
        }
        flushed
    }

    pub(in crate::shard) fn flush_outbox(&mut self, agent: AgentIndex) -> usize {
        let mut flushed = 0;
        while let Some(envelope) = self.take_from_outbox(agent) {
            if envelope.deadline_ms <= self.clock.now_ms() {
                self.expire_all(envelope, Stage::Crossing);
            } else if let Err(Blocked { shard, envelope }) = self.route(envelope) {
                self.store_in_outbox(agent, envelope, Queue::push_front);
                self.block(agent, shard);
                self.note_departure(agent);
                return flushed;
            } else {
                flushed += 1;
            }
        }
        self.note_departure(agent);
        match self.agents.get(agent) {
            Some(slot) if slot.is_leaving() && slot.blocked.is_none() => {
                self.remove_slot(agent);
            }
            _ => self.schedule(agent),
        }
        flushed
    }

    /// Frees the place of a removed agent. What is delayed for it no longer counts against the memory budget.
    pub(in crate::shard) fn remove_slot(&mut self, index: AgentIndex) {
        if let Some(slot) = self.agents.remove(index) {
            self.held.discharge_mailbox(slot.mailbox.held_bytes());
        }
    }
}
