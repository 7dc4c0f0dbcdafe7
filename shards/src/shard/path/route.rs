//! Out of an outbox to the right shard: who a message is for, where that is, and whether there is a way now.
//!
//! Invariants: a message leaves for another shard only with a credit; a message that has to wait keeps everything
//! behind it in its sender's outbox waiting, so that the order between two agents holds; each refusal is a dead letter
//! and a `failure` to the sender.

use std::sync::Arc;

use crate::base::index::AgentIndex;
use crate::base::index::ShardIndex;
use crate::base::slab::Slab;
use crate::conversation::initiators::NoteKey;
use crate::mailbox::{Envelope, Parcel, Queue};
use crate::message::{AgentId, Choice, ConversationId, ConversationRole, Receiver};
use crate::outcome::Phase as Waiting;
use crate::outcome::Reason;
use crate::planted::{self, Bug};
use crate::routing::rules;
use crate::shard::control::stop::Place;
use crate::shard::path::settle::Holds;
use crate::shard::shard_frame::Crossing;
use crate::shard::{Alarm, FAN_OUT_PER_TURN_MAX, Phase, SWEEP_INTERVAL_MS, Shard};

/// A message that has to wait for credit at a shard or, for the own shard, for the next turn.
pub(crate) struct Blocked {
    pub(crate) shard: ShardIndex,
    pub(crate) envelope: Envelope,
}

impl Shard {
    /// Accepts a message and sends it on its way, or puts it behind what its sender has waiting.
    #[inline(always)]
    pub(crate) fn submit(&mut self, agent: AgentIndex, envelope: Envelope) {
        self.account.accepted += envelope.deliveries_left();
        if envelope.message.reply_by().is_some() && !self.remember_question(agent, &envelope) {
            return self.refuse_question(envelope);
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
    pub(crate) fn refuse_question(&mut self, envelope: Envelope) {
        for envelope in envelope.into_deliveries() {
            let detail = "too many messages with reply-by are waiting for their answers";
            self.give_up_with(envelope, Reason::NotAdmitted, detail, Holds::Nothing);
        }
    }

    /// Has an outbox wait for credit at a shard. An agent stands in one such list at most, and once.
    fn block(&mut self, agent: AgentIndex, shard: ShardIndex) {
        let Some(slot) = self.agents.get_mut(agent) else { return };
        let before = slot.blocked.replace(shard);
        if before == Some(shard) {
            return;
        }
        if let Some(other) = before {
            // What waited there has expired meanwhile, and what came behind it goes elsewhere.
            self.blocked[other.as_usize()].retain(|waiting| *waiting != agent);
        }
        self.blocked[shard.as_usize()].push_back(agent);
    }

    #[cold]
    fn put_into_outbox(&mut self, agent: AgentIndex, envelope: Envelope) {
        self.store_in_outbox(agent, envelope, Queue::push);
        self.watch_over(agent);
    }

    fn store_in_outbox(
        &mut self,
        agent: AgentIndex,
        envelope: Envelope,
        link: fn(&mut Queue, &mut Slab<Envelope>, u32),
    ) {
        let more = envelope.more_than_one();
        match self.keep_place(envelope) {
            Ok(place) => {
                self.pending_beside_slab += more;
                if let Some(slot) = self.agents.get_mut(agent) {
                    link(&mut slot.outbox, &mut self.slab, place);
                    slot.outbox_length += 1;
                }
            }
            Err(envelope) => self.give_up_all(envelope, Reason::ShardFull),
        }
    }

    /// Takes the first message out of an agent's outbox.
    fn take_from_outbox(&mut self, agent: AgentIndex) -> Option<Envelope> {
        let slot = self.agents.get_mut(agent)?;
        let place = slot.outbox.pop(&mut self.slab)?;
        slot.outbox_length -= 1;
        self.take_place(place)
    }

    /// Has a message wait on its way, in the slab.
    pub(crate) fn keep_place(&mut self, envelope: Envelope) -> Result<u32, Envelope> {
        let weight = envelope.weight();
        let place = self.slab.insert(envelope)?;
        self.memory_left -= i64::from(weight);
        Ok(place)
    }

    /// Takes a message out of the slab that waits on its way, with all its deliveries.
    pub(crate) fn take_place(&mut self, place: u32) -> Option<Envelope> {
        let envelope = self.slab.remove(place)?;
        self.memory_left += i64::from(envelope.weight());
        self.pending_beside_slab -= envelope.more_than_one();
        Some(envelope)
    }

    /// Goes on with outboxes for which there is room again.
    pub(crate) fn flush_outboxes(&mut self) -> usize {
        let mut flushed = 0;
        for shard in 0..self.blocked.len() {
            // The own entry holds unfinished fan-outs, which need no credit; each goes on for one portion a turn.
            let here = shard == self.index.as_usize();
            for _ in 0..self.blocked[shard].len() {
                if !here && !self.port.has_credit(shard) {
                    break;
                }
                let Some(agent) = self.blocked[shard].pop_front() else { break };
                if let Some(slot) = self.agents.get_mut(agent) {
                    slot.blocked = None;
                }
                flushed += self.flush_outbox(agent);
            }
        }
        flushed
    }

    pub(crate) fn flush_outbox(&mut self, agent: AgentIndex) -> usize {
        let mut flushed = 0;
        while let Some(envelope) = self.take_from_outbox(agent) {
            if envelope.deadline_ms <= self.now_ms {
                self.expire_all(envelope, Waiting::Crossing);
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

    /// Decides who the message is for and sends it there.
    #[inline(always)]
    fn route(&mut self, envelope: Envelope) -> Result<(), Blocked> {
        match envelope.message.target() {
            Some(target) => self.route_to(envelope, target),
            None => self.route_without_target(envelope),
        }
    }

    /// Sends a message on that does not name exactly one receiver: to each of a set or, if it names none, where the
    /// routing rules say, or to who offers the capability.
    fn route_without_target(&mut self, mut envelope: Envelope) -> Result<(), Blocked> {
        if !matches!(envelope.message.receiver(), Receiver::Agents(_))
            && let Some(receiver) = rules::first_match(&self.config.rules, &envelope.message)
        {
            envelope.message.set_receiver(receiver);
            if matches!(envelope.message.receiver(), Receiver::Agents(_)) {
                self.spread_replay(&mut envelope);
            }
        }
        match envelope.message.receiver() {
            Receiver::Agents(agents) => {
                let agents = Arc::clone(agents);
                self.fan_out(envelope, &agents)
            }
            Receiver::Capability(capability, Choice::All) => {
                let agents: Arc<[AgentId]> =
                    self.capabilities.providers(*capability).iter().map(|provider| provider.agent).collect();
                if agents.is_empty() {
                    return self.refuse(envelope, Reason::NoProvider);
                }
                self.account.accepted += agents.len() as u64 - 1;
                self.spread_replay(&mut envelope);
                self.await_more(envelope.journal(), agents.len() as u64 - 1);
                envelope.message.set_receiver(Receiver::Agents(Arc::clone(&agents)));
                self.fan_out(envelope, &agents)
            }
            Receiver::Capability(capability, choice) => {
                let (capability, choice) = (*capability, *choice);
                let (agents, capabilities) = (&self.agents, &mut self.capabilities);
                let waiting = |agent| {
                    agents.find(agent).and_then(|index| agents.get(index)).map_or(0, |slot| slot.mailbox.held())
                };
                let Some(agent) = capabilities.choose(capability, choice, waiting) else {
                    return self.refuse(envelope, Reason::NoProvider);
                };
                envelope.message.set_receiver(Receiver::Provider(agent, capability));
                self.route_to(envelope, agent)
            }
            Receiver::Agent(agent) => {
                let agent = *agent;
                self.route_to(envelope, agent)
            }
            Receiver::Unaddressed | Receiver::Member(..) | Receiver::Provider(..) => {
                self.refuse(envelope, Reason::NoRoute)
            }
        }
    }

    /// Makes a copy for each receiver. Stops where a copy has to wait, and goes on from there.
    fn fan_out(&mut self, mut envelope: Envelope, agents: &Arc<[AgentId]>) -> Result<(), Blocked> {
        if envelope.fan_out == 0
            && let Some(id) = envelope.message.conversation()
            && let Err((count, most)) = self.has_room_for_all(&envelope, id, agents)
        {
            // Some of them would have got it, and the sender would not know whom to wait for.
            let detail = format!("the conversation would have {count} participants: allowed are {most}; nobody got it");
            for envelope in envelope.into_deliveries() {
                self.give_up_with(envelope, Reason::TooManyParticipants, &detail, Holds::Nothing);
            }
            return Ok(());
        }
        for _ in 0..FAN_OUT_PER_TURN_MAX {
            let Some(target) = agents.get(envelope.fan_out as usize).copied() else { return Ok(()) };
            let copy = envelope.copy_for(agents, envelope.fan_out);
            if let Err(Blocked { shard, .. }) = self.route_to(copy, target) {
                return Err(Blocked { shard, envelope });
            }
            envelope.fan_out += 1;
        }
        if (envelope.fan_out as usize) < agents.len() {
            return Err(Blocked { shard: self.index, envelope });
        }
        Ok(())
    }

    /// Whether a conversation has room for all receivers of a message, as far as that is known here: of a conversation that
    /// lives elsewhere, its initiator and the sender take part at least.
    #[cold]
    fn has_room_for_all(
        &self,
        envelope: &Envelope,
        id: ConversationId,
        agents: &Arc<[AgentId]>,
    ) -> Result<(), (usize, usize)> {
        let Some(sender) = envelope.message.sender() else { return Ok(()) };
        match envelope.message.role() {
            // Each receiver began a conversation of its own.
            ConversationRole::Participant => Ok(()),
            ConversationRole::Initiator => self.conversations.room_for(sender, id, agents.iter().copied()),
            ConversationRole::Member => match envelope.message.initiator() {
                Some(began) => self.conversations.room_for(began, id, agents.iter().copied()),
                None => Ok(()),
            },
            ConversationRole::Unresolved => {
                let is_own =
                    |peer: &AgentId| !self.notes.has(&NoteKey { participant: sender, conversation: id, peer: *peer });
                let own: Vec<AgentId> = agents.iter().copied().filter(is_own).collect();
                self.conversations.room_for(sender, id, own.into_iter())
            }
        }
    }

    /// Sends a message to its one receiver: straight, or by way of the shard where its conversation lives.
    #[inline(always)]
    fn route_to(&mut self, envelope: Envelope, target: AgentId) -> Result<(), Blocked> {
        self.route_as(envelope, target, false)
    }

    /// As [`Shard::route_to`], for a message whose turn in its receiver's line has come.
    pub(crate) fn route_on(&mut self, envelope: Envelope, target: AgentId) -> Result<(), Blocked> {
        self.route_as(envelope, target, true)
    }

    #[inline(always)]
    fn route_as(&mut self, mut envelope: Envelope, target: AgentId, waited: bool) -> Result<(), Blocked> {
        let target_shard = self.config.partition.shard_of(target);
        let mut hop = target_shard;
        // Who began the conversation, if it lives here.
        let mut initiator = None;
        if let Some(id) = envelope.message.conversation() {
            if envelope.message.role() == ConversationRole::Unresolved
                && let Err(reason) = self.find_role(&mut envelope, id, target)
            {
                return self.refuse(envelope, reason);
            }
            match envelope.message.role() {
                ConversationRole::Initiator => initiator = envelope.message.sender(),
                ConversationRole::Participant | ConversationRole::Unresolved => {
                    initiator = Some(target).filter(|_| self.is_here(target_shard));
                }
                ConversationRole::Member => {
                    let Some(began) = envelope.message.initiator() else {
                        return self.refuse(envelope, Reason::NotInConversation);
                    };
                    let home = self.config.partition.shard_of(began);
                    if self.is_here(home) {
                        initiator = Some(began);
                    } else {
                        hop = home;
                    }
                }
            }
        }
        let here = self.is_here(hop);
        // A receiver of this shard that is closed is found to be so on delivery.
        if !waited
            && self.lines.exist()
            && (!here || self.line_moves(target))
            && self.must_wait(&envelope.message, target)
        {
            self.wait_for_receiver(envelope, target, false);
            return Ok(());
        }
        if !here && !self.port.has_credit(hop.as_usize()) {
            // The port has taken note that this shard wants to hear of new credits.
            return Err(Blocked { shard: hop, envelope });
        }
        if let Some(initiator) = initiator
            && let Err(reason) = self.converse(&mut envelope, initiator, target)
        {
            return self.refuse(envelope, reason);
        }
        if here {
            self.deliver(envelope, target);
        } else {
            self.depart(envelope, hop);
        }
        Ok(())
    }

    #[cold]
    #[allow(clippy::unnecessary_wraps)] // It ends the routing of a message, as what it stands for does.
    fn refuse(&mut self, envelope: Envelope, reason: Reason) -> Result<(), Blocked> {
        self.give_up_all(envelope, reason);
        Ok(())
    }

    #[inline(always)]
    fn depart(&mut self, envelope: Envelope, to: ShardIndex) {
        let owed = envelope.credit_of;
        if self.port.credits(to.as_usize()) == 0 {
            // Credits were counted just before, so this does not happen; but if it did, nothing would be lost.
            debug_assert!(false, "a credit was there and was not");
            return self.give_up_all(envelope, Reason::ShardFull);
        }
        let sent = if let Some(plain) = envelope.message.plain() {
            let sent = self.port.send_in_place(to.as_usize(), |slot| Crossing::copy_in(plain, slot));
            envelope.message.spare(&mut self.spares);
            sent
        } else {
            self.port.send(to.as_usize(), Crossing::Message(Parcel::pack(envelope))).is_ok()
        };
        debug_assert!(sent, "a credit guarantees room in the ring");
        self.account.departed += 1;
        if let Some(from) = owed {
            self.credits_owed[from.as_usize()] += 1;
        }
    }

    /// Takes in a message from another shard.
    #[inline]
    pub(crate) fn arrive(&mut self, from: ShardIndex, mut envelope: Envelope) {
        self.account.arrived += 1;
        envelope.credit_of = Some(from);
        if self.phase == Phase::Stopped {
            self.count_remains(Place::Crossing, 1);
            return self.give_up(envelope, Reason::Stopped, Holds::Credit(from));
        }
        if envelope.deadline_ms <= self.now_ms {
            return self.expire(envelope, Waiting::Crossing, Holds::Credit(from));
        }
        let Some(target) = envelope.message.target() else {
            return self.give_up(envelope, Reason::NoRoute, Holds::Credit(from));
        };
        if self.memory_left < 0 && !self.has_memory_for(&envelope) {
            return self.refuse_arrival(envelope);
        }
        if envelope.message.conversation().is_some() {
            let initiator = match envelope.message.role() {
                // Of one that is not resolved, this shard knows whether its receiver began the conversation.
                ConversationRole::Participant | ConversationRole::Unresolved => Some(target),
                // A message between participants first comes to the conversation's home, and from there to its
                // receiver, where it has passed already.
                ConversationRole::Member => envelope
                    .message
                    .initiator()
                    .filter(|initiator| self.is_here(self.config.partition.shard_of(*initiator))),
                ConversationRole::Initiator => None,
            };
            if let Some(initiator) = initiator
                && let Err(reason) = self.converse(&mut envelope, initiator, target)
            {
                return self.give_up(envelope, reason, Holds::Credit(from));
            }
            let to = self.config.partition.shard_of(target);
            if !self.is_here(to) {
                return self.pass_through(envelope, to);
            }
        }
        self.deliver(envelope, target);
    }

    /// Sends a message on to its receiver's shard. While it has to wait it holds the credit that it came with.
    fn pass_through(&mut self, envelope: Envelope, to: ShardIndex) {
        if self.transit[to.as_usize()].is_empty() && self.port.has_transit_credit(to.as_usize()) {
            return self.depart(envelope, to);
        }
        match self.keep_place(envelope) {
            Ok(place) => {
                if self.transit[to.as_usize()].is_empty() {
                    self.watch_over_transit(to);
                }
                self.transit[to.as_usize()].push_back(place);
            }
            Err(envelope) => self.give_up_all(envelope, Reason::ShardFull),
        }
    }

    /// Goes on with messages that pass through. Each holds the credit that it came with, so there are only so many.
    pub(crate) fn flush_transit(&mut self) {
        for to in 0..self.transit.len() {
            while !self.transit[to].is_empty() && self.port.has_transit_credit(to) {
                let Some(place) = self.transit[to].pop_front() else { break };
                let Some(envelope) = self.take_place(place) else { continue };
                if envelope.deadline_ms <= self.now_ms {
                    self.expire_all(envelope, Waiting::Crossing);
                } else {
                    self.depart(envelope, ShardIndex(u16::try_from(to).unwrap_or(u16::MAX)));
                }
            }
        }
    }

    /// Makes sure that what waits to pass on to a shard does not wait beyond its lifetime. Each queue has one timer at
    /// most, because it is armed when the queue begins to fill and again only when it fires.
    fn watch_over_transit(&mut self, to: ShardIndex) {
        if !self.transit_swept[to.as_usize()] {
            let timer = self.timers.insert(self.now_ms + SWEEP_INTERVAL_MS, Alarm::SweepTransit(to));
            self.transit_swept[to.as_usize()] = timer.is_ok();
        }
    }

    pub(crate) fn sweep_transit(&mut self, to: ShardIndex) {
        self.transit_swept[to.as_usize()] = false;
        for _ in 0..self.transit[to.as_usize()].len() {
            let Some(place) = self.transit[to.as_usize()].pop_front() else { break };
            let expired = self.slab.get(place).is_some_and(|envelope| envelope.deadline_ms <= self.now_ms);
            if !expired {
                self.transit[to.as_usize()].push_back(place);
            } else if let Some(envelope) = self.take_place(place) {
                self.expire_all(envelope, Waiting::Crossing);
            }
        }
        if !self.transit[to.as_usize()].is_empty() {
            self.watch_over_transit(to);
        }
    }

    /// Gives up a message on its way, with all its deliveries that were not handed out.
    #[cold]
    pub(crate) fn give_up_all(&mut self, envelope: Envelope, reason: Reason) {
        for envelope in envelope.into_deliveries() {
            let holds = envelope.credit_of.map_or(Holds::Nothing, Holds::Credit);
            self.give_up(envelope, reason, holds);
        }
    }

    #[cold]
    pub(crate) fn expire_all(&mut self, envelope: Envelope, phase: Waiting) {
        for envelope in envelope.into_deliveries() {
            let holds = envelope.credit_of.map_or(Holds::Nothing, Holds::Credit);
            self.expire(envelope, phase, holds);
        }
    }
}
