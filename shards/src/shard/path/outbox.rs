//! Messages that wait to leave their sender: for credit of another shard, or for room.

use crate::base::index::{AgentIndex, ShardIndex};
use crate::base::slab::Slab;
use crate::mailbox::{Envelope, Queue, Reservation};
use crate::outcome::DeadLetterReason;
use crate::outcome::Stage;
use crate::planted::{self, Bug};
use crate::shard::Shard;
use crate::shard::path::route::Blocked;

impl Shard {
    /// Accepts a message and sends it on its way, or puts it behind what its sender has waiting.
    #[inline(always)]
    pub(in crate::shard) fn submit(&mut self, agent: AgentIndex, envelope: Envelope) {
        self.ledger.account.accepted += envelope.deliveries_left();
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

    /// Gives up a message with `reply-by` for which there was room when its handler sent it, and is none now.
    #[cold]
    pub(in crate::shard) fn refuse_ask(&mut self, envelope: Envelope) {
        for envelope in envelope.into_deliveries() {
            let detail = "too many messages with reply-by are waiting for their answers";
            self.dead_letter_with(envelope, DeadLetterReason::NotAdmitted, detail, Reservation::Nothing);
        }
    }

    /// Has an outbox wait for credit at a shard. An agent stands in one such list at most, and once.
    pub(in crate::shard) fn block(&mut self, agent: AgentIndex, shard: ShardIndex) {
        let Some(slot) = self.agents.get_mut(agent) else { return };
        let before = slot.blocked.replace(shard);
        if before == Some(shard) {
            return;
        }
        if let Some(other) = before {
            // What waited there has expired meanwhile, and what came behind it goes elsewhere.
            self.links.blocked[other.as_usize()].retain(|waiting| *waiting != agent);
        }
        self.links.blocked[shard.as_usize()].push_back(agent);
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
        link: fn(&mut Queue, &mut Slab<Envelope>, u32),
    ) {
        let more = envelope.more_than_one();
        match self.keep_place(envelope) {
            Ok(place) => {
                self.held.pending_beside_slab += more;
                if let Some(slot) = self.agents.get_mut(agent) {
                    link(&mut slot.outbox, &mut self.held.slab, place);
                    slot.outbox_length += 1;
                }
            }
            Err(envelope) => self.dead_letter_all(envelope, DeadLetterReason::ShardFull),
        }
    }

    /// Takes the first message out of an agent's outbox.
    pub(in crate::shard) fn take_from_outbox(&mut self, agent: AgentIndex) -> Option<Envelope> {
        let slot = self.agents.get_mut(agent)?;
        let place = slot.outbox.pop(&mut self.held.slab)?;
        slot.outbox_length -= 1;
        self.take_place(place)
    }

    /// Has a message wait on its way, in the slab.
    pub(in crate::shard) fn keep_place(&mut self, envelope: Envelope) -> Result<u32, Envelope> {
        let weight = envelope.weight();
        let place = self.held.slab.insert(envelope)?;
        self.held.memory_left -= i64::from(weight);
        Ok(place)
    }

    /// Takes a message out of the slab that waits on its way, with all its deliveries.
    pub(in crate::shard) fn take_place(&mut self, place: u32) -> Option<Envelope> {
        let envelope = self.held.slab.remove(place)?;
        self.held.memory_left += i64::from(envelope.weight());
        self.held.pending_beside_slab -= envelope.more_than_one();
        Some(envelope)
    }

    /// Goes on with outboxes for which there is room again.
    pub(in crate::shard) fn flush_outboxes(&mut self) -> usize {
        let mut flushed = 0;
        for shard in 0..self.links.blocked.len() {
            // The own entry holds unfinished fan-outs, which need no credit; each goes on for one portion a turn.
            let here = shard == self.identity.index.as_usize();
            for _ in 0..self.links.blocked[shard].len() {
                if !here && !self.links.port.has_credit(shard) {
                    break;
                }
                let Some(agent) = self.links.blocked[shard].pop_front() else { break };
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
            if envelope.deadline_ms <= self.clock.now_ms {
                self.expire_all(envelope, Stage::Crossing);
            } else if let Err(Blocked { shard, envelope }) = self.route(envelope) {
                self.store_in_outbox(agent, envelope, Queue::push_front);
                self.block(agent, shard);
                return flushed;
            } else {
                flushed += 1;
            }
        }
        match self.agents.get(agent) {
            Some(slot) if slot.is_leaving() && slot.blocked.is_none() => {
                self.remove_slot(agent);
            }
            _ => self.schedule(agent),
        }
        flushed
    }
}
