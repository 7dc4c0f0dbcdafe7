//! From an outbox to a mailbox: who a message is for, which shard that is on, and whether its conversation lets it pass.
//!
//! Invariants: a message leaves for another shard only with a credit; a message that has to wait keeps everything
//! behind it in its sender's outbox waiting, so that the order between two agents holds; each refusal is a dead letter
//! and a `failure` to the sender.

use std::sync::Arc;

use crate::conversation::{ConversationIndex, Passage, Passed, Timeout};
use crate::dead_letter::Reason;
use crate::domain::Priority;
use crate::interface::{Event, Phase as Waiting};
use crate::mailbox::{Envelope, EnvelopeKind, Parcel};
use crate::message::{AgentId, Choice, ConversationRole, Message, Receipt, Receiver, Reliability};
use crate::notes::NoteKey;
use crate::notice::Holds;
use crate::partition::ShardIndex;
use crate::record::{Append, AppendSequence, Uncommitted};
use crate::registry::{AgentIndex, Behaviour};
use crate::rules;
use crate::shard::{Alarm, Crossing, FAN_OUT_PER_TURN_MAX, Phase, Shard};

/// How often messages are looked through that wait for an agent that is not called, in milliseconds.
const SWEEP_INTERVAL_MS: u64 = 1_000;

/// What came of a message that was to be routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Routed {
    /// It is on its way, waits in a mailbox, or was given up.
    Done,
    /// It has to wait for credit at this shard or, for the own shard, for the next turn. It is where it was.
    Blocked(ShardIndex),
}

impl Shard {
    /// Accepts a message and sends it on its way, or puts it behind what its sender has waiting.
    #[inline]
    pub(crate) fn submit(&mut self, agent: AgentIndex, place: u32) {
        let Some(envelope) = self.slab.get(place) else { return };
        let deliveries = Self::deliveries_of(&envelope.message);
        self.account.accepted += deliveries;
        self.pending_beside_slab += i64::try_from(deliveries).unwrap_or(i64::MAX) - 1;
        let waits = self.agents.get(agent).is_some_and(|slot| !slot.outbox.is_empty());
        if waits {
            return self.put_into_outbox(agent, place);
        }
        if let Routed::Blocked(shard) = self.route(place) {
            self.put_into_outbox(agent, place);
            self.block(agent, shard);
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

    fn put_into_outbox(&mut self, agent: AgentIndex, place: u32) {
        if let Some(slot) = self.agents.get_mut(agent) {
            slot.outbox.push(&mut self.slab, place);
            slot.outbox_length += 1;
        }
        self.watch_over(agent);
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

    fn flush_outbox(&mut self, agent: AgentIndex) -> usize {
        let mut flushed = 0;
        while let Some(place) = self.agents.get(agent).and_then(|slot| slot.outbox.front()) {
            if self.slab.get(place).is_some_and(|envelope| envelope.deadline_ms <= self.now_ms) {
                self.leave_outbox(agent);
                self.expire_place(place, Waiting::Crossing);
                continue;
            }
            // The envelope's link is read before routing, because a routed envelope is linked elsewhere.
            let before = self.agents.get(agent).map(|slot| slot.outbox);
            self.leave_outbox(agent);
            if let Routed::Blocked(shard) = self.route(place) {
                if let (Some(slot), Some(before)) = (self.agents.get_mut(agent), before) {
                    slot.outbox = before;
                    slot.outbox_length += 1;
                }
                self.block(agent, shard);
                return flushed;
            }
            flushed += 1;
        }
        match self.agents.get(agent) {
            Some(slot) if slot.leaving && slot.blocked.is_none() => {
                self.agents.remove(agent);
            }
            _ => self.schedule(agent),
        }
        flushed
    }

    fn leave_outbox(&mut self, agent: AgentIndex) {
        if let Some(slot) = self.agents.get_mut(agent) {
            slot.outbox.pop(&self.slab);
            slot.outbox_length -= 1;
        }
    }

    /// Decides who the message is for and sends it there.
    #[inline]
    fn route(&mut self, place: u32) -> Routed {
        let Some(envelope) = self.slab.get(place) else { return Routed::Done };
        match envelope.message.receiver() {
            Receiver::Agent(target) | Receiver::Provider(target, _) => {
                let target = *target;
                self.route_to(place, target)
            }
            Receiver::Member(agents, index) => match agents.get(*index as usize).copied() {
                Some(target) => self.route_to(place, target),
                None => self.give_up_place(place, Reason::NoRoute),
            },
            Receiver::Agents(agents) => {
                let agents = Arc::clone(agents);
                self.fan_out(place, &agents)
            }
            Receiver::Capability(..) | Receiver::Unaddressed => self.choose_receiver(place),
        }
    }

    /// Finds receivers for a message that names none: by the routing rules, then by capability.
    fn choose_receiver(&mut self, place: u32) -> Routed {
        let ruled =
            self.slab.get(place).and_then(|envelope| rules::first_match(&self.config.rules, &envelope.message));
        if let Some(receiver) = ruled {
            self.set_receiver(place, receiver);
        }
        let Some(receiver) = self.slab.get(place).map(|envelope| envelope.message.receiver().clone()) else {
            return Routed::Done;
        };
        match receiver {
            Receiver::Unaddressed => self.give_up_place(place, Reason::NoRoute),
            Receiver::Capability(capability, Choice::All) => {
                let agents: Arc<[AgentId]> =
                    self.capabilities.providers(capability).iter().map(|provider| provider.agent).collect();
                if agents.is_empty() {
                    return self.give_up_place(place, Reason::NoProvider);
                }
                let more = agents.len() as u64 - 1;
                self.account.accepted += more;
                self.pending_beside_slab += i64::try_from(more).unwrap_or(i64::MAX);
                self.set_receiver(place, Receiver::Agents(agents));
                self.route(place)
            }
            Receiver::Capability(capability, choice) => {
                let (agents, capabilities) = (&self.agents, &mut self.capabilities);
                let waiting = |agent| {
                    agents.find(agent).and_then(|index| agents.get(index)).map_or(0, |slot| slot.mailbox.held())
                };
                match capabilities.choose(capability, choice, waiting) {
                    Some(agent) => {
                        self.set_receiver(place, Receiver::Provider(agent, capability));
                        self.route_to(place, agent)
                    }
                    None => self.give_up_place(place, Reason::NoProvider),
                }
            }
            Receiver::Agent(_) | Receiver::Agents(_) | Receiver::Member(..) | Receiver::Provider(..) => {
                self.route(place)
            }
        }
    }

    fn set_receiver(&mut self, place: u32, receiver: Receiver) {
        if let Some(envelope) = self.slab.get_mut(place) {
            envelope.message.set_receiver(receiver);
        }
    }

    /// Makes a copy for each receiver. Stops where a copy has to wait, and goes on from there.
    fn fan_out(&mut self, place: u32, agents: &Arc<[AgentId]>) -> Routed {
        let mut copies = 0;
        loop {
            let Some(envelope) = self.slab.get(place) else { return Routed::Done };
            let next = envelope.fan_out;
            let Some(target) = agents.get(next as usize).copied() else { break };
            if copies >= FAN_OUT_PER_TURN_MAX {
                return Routed::Blocked(self.index);
            }
            copies += 1;
            let mut message = envelope.message.clone();
            message.set_receiver(Receiver::Member(Arc::clone(agents), next));
            let copy = Envelope::new(message, envelope.deadline_ms, EnvelopeKind::Message);
            match self.slab.insert(copy) {
                Ok(copy_place) => {
                    self.pending_beside_slab -= 1;
                    if let Routed::Blocked(shard) = self.route_to(copy_place, target) {
                        self.slab.remove(copy_place);
                        self.pending_beside_slab += 1;
                        return Routed::Blocked(shard);
                    }
                }
                Err(copy) => {
                    self.pending_beside_slab -= 1;
                    self.give_up(copy, Reason::ShardFull, Holds::Nothing);
                }
            }
            if let Some(envelope) = self.slab.get_mut(place) {
                envelope.fan_out += 1;
            }
        }
        // The message itself is spent: all that is left of it are its copies.
        self.slab.remove(place);
        self.pending_beside_slab += 1;
        Routed::Done
    }

    /// Sends a message to its one receiver: straight, or by way of the shard where its conversation lives.
    #[inline]
    fn route_to(&mut self, place: u32, target: AgentId) -> Routed {
        let Some(envelope) = self.slab.get(place) else { return Routed::Done };
        let target_shard = self.config.partition.shard_of(target);
        let mut hop = target_shard;
        let mut converses_here = false;
        if envelope.message.conversation().is_some() {
            if envelope.message.role() == ConversationRole::Unresolved
                && let Err(reason) = self.find_role(place, target)
            {
                return self.give_up_place(place, reason);
            }
            let Some(envelope) = self.slab.get(place) else { return Routed::Done };
            converses_here = match envelope.message.role() {
                ConversationRole::Initiator => true,
                ConversationRole::Participant | ConversationRole::Unresolved => self.is_here(target_shard),
                ConversationRole::Member => {
                    let Some(home) = self.home_of(&envelope.message) else {
                        return self.give_up_place(place, Reason::NotInConversation);
                    };
                    hop = if self.is_here(home) { target_shard } else { home };
                    self.is_here(home)
                }
            };
        }
        if !self.is_here(hop) && !self.port.has_credit(hop.as_usize()) {
            // The port has taken note that this shard wants to hear of new credits.
            return Routed::Blocked(hop);
        }
        if converses_here && let Err(reason) = self.converse(place, target) {
            return self.give_up_place(place, reason);
        }
        if self.is_here(hop) {
            self.deliver(place, target);
        } else {
            self.depart(place, hop);
        }
        Routed::Done
    }

    #[inline]
    fn depart(&mut self, place: u32, to: ShardIndex) {
        let Some(mut envelope) = self.slab.remove(place) else { return };
        let owed = envelope.credit_of.take();
        match self.port.send(to.as_usize(), Crossing::Message(Parcel::pack(envelope))) {
            Ok(()) => self.account.departed += 1,
            // Credits were counted just before, so this does not happen; but if it did, nothing would be lost.
            Err(Crossing::Message(parcel)) => {
                debug_assert!(false, "a credit was there and was not");
                self.give_up(parcel.unpack(), Reason::ShardFull, Holds::Nothing);
            }
            Err(Crossing::Notice(_)) => {}
        }
        if let Some(from) = owed {
            self.credits_owed[from.as_usize()] += 1;
        }
    }

    /// Where the conversation lives of a message between two participants.
    fn home_of(&self, message: &Message) -> Option<ShardIndex> {
        message.initiator().map(|initiator| self.config.partition.shard_of(initiator))
    }

    /// Takes in a message from another shard.
    #[inline]
    pub(crate) fn arrive(&mut self, from: ShardIndex, mut envelope: Envelope) {
        self.account.arrived += 1;
        envelope.credit_of = Some(from);
        if self.phase == Phase::Stopped {
            return self.give_up(envelope, Reason::Stopped, Holds::Credit(from));
        }
        if envelope.deadline_ms <= self.now_ms {
            return self.expire(envelope, Waiting::Crossing, Holds::Credit(from));
        }
        let Some(target) = envelope.message.target() else {
            return self.give_up(envelope, Reason::NoRoute, Holds::Credit(from));
        };
        let has_conversation = envelope.message.conversation().is_some();
        let role = envelope.message.role();
        let place = match self.slab.insert(envelope) {
            Ok(place) => place,
            Err(envelope) => return self.give_up(envelope, Reason::ShardFull, Holds::Credit(from)),
        };
        if has_conversation && role == ConversationRole::Participant {
            if let Err(reason) = self.converse(place, target) {
                self.give_up_place(place, reason);
                return;
            }
        } else if has_conversation && role == ConversationRole::Member {
            return self.arrive_between_participants(place, target);
        }
        self.deliver(place, target);
    }

    /// A message between participants first comes to the conversation's home, and from there to its receiver.
    fn arrive_between_participants(&mut self, place: u32, target: AgentId) {
        let Some(envelope) = self.slab.get(place) else { return };
        if self.home_of(&envelope.message) == Some(self.index)
            && let Err(reason) = self.converse(place, target)
        {
            self.give_up_place(place, reason);
            return;
        }
        let to = self.config.partition.shard_of(target);
        if self.is_here(to) {
            self.deliver(place, target);
        } else if self.transit[to.as_usize()].is_empty() && self.port.has_transit_credit(to.as_usize()) {
            self.depart(place, to);
        } else {
            if self.transit[to.as_usize()].is_empty() {
                self.watch_over_transit(to);
            }
            self.transit[to.as_usize()].push_back(place);
        }
    }

    /// Goes on with messages that pass through. Each holds the credit that it came with, so there are only so many.
    pub(crate) fn flush_transit(&mut self) {
        for to in 0..self.transit.len() {
            while !self.transit[to].is_empty() && self.port.has_transit_credit(to) {
                let Some(place) = self.transit[to].pop_front() else { break };
                if self.slab.get(place).is_some_and(|envelope| envelope.deadline_ms <= self.now_ms) {
                    self.expire_place(place, Waiting::Crossing);
                } else {
                    self.depart(place, ShardIndex(u16::try_from(to).unwrap_or(u16::MAX)));
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
            if self.slab.get(place).is_some_and(|envelope| envelope.deadline_ms <= self.now_ms) {
                self.expire_place(place, Waiting::Crossing);
            } else {
                self.transit[to.as_usize()].push_back(place);
            }
        }
        if !self.transit[to.as_usize()].is_empty() {
            self.watch_over_transit(to);
        }
    }

    /// Finds out how the sender of a text-borne message stands to its conversation.
    fn find_role(&mut self, place: u32, target: AgentId) -> Result<(), Reason> {
        let Some(envelope) = self.slab.get(place) else { return Ok(()) };
        let (Some(id), Some(sender)) = (envelope.message.conversation(), envelope.message.sender()) else {
            return Ok(());
        };
        let began_it = self.conversations.is_open(sender, id);
        let noted =
            self.notes.read(&NoteKey { participant: sender, conversation: id, peer: target }, self.now_ms);
        let Some(envelope) = self.slab.get_mut(place) else { return Ok(()) };
        envelope.text_borne = true;
        match (began_it, noted) {
            (true, Some(other)) if other != sender => return Err(Reason::AmbiguousConversation),
            (_, None) | (true, _) => envelope.message.set_role(ConversationRole::Initiator),
            (false, Some(initiator)) if initiator == target => {
                envelope.message.set_role(ConversationRole::Participant);
            }
            (false, Some(initiator)) => envelope.message.set_member_of(initiator),
        }
        Ok(())
    }

    /// Lets the message pass its conversation, which lives here.
    #[inline]
    fn converse(&mut self, place: u32, target: AgentId) -> Result<(), Reason> {
        let Some(envelope) = self.slab.get(place) else { return Ok(()) };
        let message = &envelope.message;
        let (Some(id), Some(sender), Some(initiator)) = (message.conversation(), message.sender(), match message.role()
        {
            ConversationRole::Initiator => message.sender(),
            ConversationRole::Participant => Some(target),
            ConversationRole::Member | ConversationRole::Unresolved => message.initiator(),
        }) else {
            return Ok(());
        };
        let passage = Passage { initiator, sender, receiver: target, message, now_ms: self.now_ms };
        if let Passed::Began(index) = self.conversations.pass(id, &passage)? {
            let timer = self.timers.insert(self.now_ms + self.conversations.timeout_ms(), Alarm::Conversation(index));
            if timer.is_err() {
                // A conversation that could never time out is not begun.
                self.conversations.close(initiator, id);
                return Err(Reason::TooManyConversations);
            }
            self.conversations.set_timer(index, timer.ok());
        }
        Ok(())
    }

    pub(crate) fn look_after_conversation(&mut self, index: ConversationIndex) {
        match self.conversations.time_out(index, self.now_ms) {
            Timeout::Gone => {}
            Timeout::NotBefore(again_ms) => {
                // A timer has just fired, so there is room for one.
                let timer = self.timers.insert(again_ms, Alarm::Conversation(index)).ok();
                self.conversations.set_timer(index, timer);
            }
            Timeout::Ended { initiator, id } => {
                self.report(|| Event::ConversationTimedOut { initiator, conversation: id });
                self.tell_of_timeout(initiator, id);
            }
        }
    }

    pub(crate) fn close_conversation(&mut self, initiator: AgentId, id: crate::message::ConversationId) {
        if let Some(Some(timer)) = self.conversations.close(initiator, id) {
            self.timers.cancel(timer);
        }
    }

    /// Puts a message into its receiver's mailbox, where it is settled from, or gives it up.
    #[inline]
    pub(crate) fn deliver(&mut self, place: u32, target: AgentId) {
        let Some(envelope) = self.slab.get(place) else { return };
        let Some(index) = self.agents.find(target) else {
            self.give_up_place(place, Reason::UnknownReceiver);
            return;
        };
        let Some(slot) = self.agents.get_mut(index) else { return };
        let weight = envelope.message.weight();
        let room = slot.mailbox.has_room(
            self.config.mailbox_messages.into_inner(),
            self.config.mailbox_bytes.into_inner(),
            weight,
        );
        if !room {
            self.give_up_place(place, Reason::MailboxFull);
            return;
        }
        slot.mailbox.hold(weight);
        if slot.provider && !slot.load_changed {
            slot.load_changed = true;
            self.load_changed.push(index);
        }
        let priority = envelope.message.priority();
        let special = envelope.text_borne
            || envelope.message.receipt() == Receipt::Delivered
            || envelope.message.reliability() == Reliability::Durable
            || envelope.message.details().is_some_and(|details| details.deliver_at.is_some());
        let credit_of = self.slab.get_mut(place).and_then(|envelope| envelope.credit_of.take());
        if special {
            if self.deliver_specially(place, index, credit_of.map_or(Holds::Nothing, Holds::Credit)) {
                return;
            }
        } else if let Some(from) = credit_of {
            self.credits_owed[from.as_usize()] += 1;
        }
        self.put_into_mailbox(place, index, priority);
    }

    #[inline]
    fn put_into_mailbox(&mut self, place: u32, index: AgentIndex, priority: Priority) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        slot.mailbox.push(&mut self.slab, place, priority);
        if !slot.queued {
            self.schedule(index);
        }
    }

    /// What few messages need on delivery. Answers whether the message has to wait before it goes into its mailbox.
    fn deliver_specially(&mut self, place: u32, index: AgentIndex, holds: Holds) -> bool {
        let Some(envelope) = self.slab.get(place) else { return false };
        if envelope.text_borne {
            self.note_conversation(place);
        }
        let Some(envelope) = self.slab.get(place) else { return false };
        if envelope.message.reliability() == Reliability::Durable {
            let Some(generation) = self.agents.get(index).map(|slot| slot.generation) else { return false };
            self.appended = AppendSequence(self.appended.0 + 1);
            let append = Append { sequence: self.appended, message: envelope.message.clone() };
            self.uncommitted.push_back(Uncommitted { sequence: self.appended, place, generation });
            self.outputs.push(crate::interface::Output::Append(append));
            self.let_go(holds);
            return true;
        }
        let delay_ms = self.delay_of(&envelope.message);
        self.say_delivered(place, holds);
        delay_ms > 0 && self.delay(place, index, delay_ms)
    }

    /// Tells the sender that its message has reached the mailbox, if it wanted to hear that.
    fn say_delivered(&mut self, place: u32, holds: Holds) {
        match self.slab.get(place) {
            Some(envelope) if envelope.message.receipt() == Receipt::Delivered => {
                let message = envelope.message.clone();
                self.send_receipt(&message, Receipt::Delivered, holds);
            }
            _ => self.let_go(holds),
        }
    }

    /// Arms a timer that puts the message into its mailbox. Without a timer to be had it goes there now.
    pub(crate) fn delay(&mut self, place: u32, index: AgentIndex, delay_ms: u64) -> bool {
        let Some(generation) = self.agents.get(index).map(|slot| slot.generation) else { return false };
        self.timers.insert(self.now_ms.saturating_add(delay_ms), Alarm::Release { place, generation }).is_ok()
    }

    /// Puts a delayed message into its mailbox, if its receiver is still the same.
    pub(crate) fn release(&mut self, place: u32, generation: u32) {
        if self.phase == Phase::Stopped {
            // The delayed message was given up, and something else may have its place.
            return;
        }
        let Some(envelope) = self.slab.get(place) else { return };
        let priority = envelope.message.priority();
        let index = envelope.message.target().and_then(|target| self.agents.find(target));
        let same = index.filter(|index| self.agents.get(*index).is_some_and(|slot| slot.generation == generation));
        let Some(index) = same else {
            self.give_up_place(place, Reason::Deregistered);
            return;
        };
        if envelope.deadline_ms <= self.now_ms {
            let weight = envelope.message.weight();
            if let Some(envelope) = self.slab.remove(place) {
                self.expire(envelope, Waiting::Delayed, Holds::Mailbox { agent: index, generation, weight });
            }
            return;
        }
        self.put_into_mailbox(place, index, priority);
    }

    /// Goes on with the messages whose appends are durable now.
    pub(crate) fn committed(&mut self, sequence: AppendSequence) {
        while let Some(Uncommitted { sequence: append, place, generation }) = self.uncommitted.front().copied() {
            if append > sequence {
                break;
            }
            self.uncommitted.pop_front();
            let Some(envelope) = self.slab.get(place) else { continue };
            let (priority, target) = (envelope.message.priority(), envelope.message.target());
            let delay_ms = self.delay_of(&envelope.message);
            let index = target.and_then(|target| self.agents.find(target));
            let same = index.filter(|index| self.agents.get(*index).is_some_and(|slot| slot.generation == generation));
            let Some(index) = same else {
                self.give_up_place(place, Reason::Deregistered);
                continue;
            };
            self.say_delivered(place, Holds::Nothing);
            if delay_ms == 0 || !self.delay(place, index, delay_ms) {
                self.put_into_mailbox(place, index, priority);
            }
        }
    }

    /// Remembers who began a text-borne conversation, for the receiver's answers.
    fn note_conversation(&mut self, place: u32) {
        let Some(envelope) = self.slab.get(place) else { return };
        let message = &envelope.message;
        let (Some(conversation), Some(peer), Some(participant), Some(initiator)) =
            (message.conversation(), message.sender(), message.target(), message.initiator())
        else {
            return;
        };
        if participant == initiator {
            return;
        }
        let key = NoteKey { participant, conversation, peer };
        if self.notes.write(key, initiator, self.now_ms) {
            let ends_ms = self.now_ms + self.conversations.timeout_ms();
            if self.timers.insert(ends_ms, Alarm::Note(key)).is_err() {
                self.notes.time_out(&key, u64::MAX, 0);
            }
        }
    }

    /// Puts an agent with mail into the run queue, if it can be called.
    #[inline]
    pub(crate) fn schedule(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let callable = slot.outbox.is_empty()
            && match &slot.behaviour {
                Behaviour::Outside(outside) => outside.room > 0,
                Behaviour::Native(_) | Behaviour::Away | Behaviour::Gateway => true,
            };
        if slot.queued || !(slot.mailbox.has_mail() || slot.is_suspended()) {
            return;
        }
        if callable {
            slot.queued = true;
            self.run_queue.push_back(index);
        } else {
            self.watch_over(index);
        }
    }

    /// Makes sure that what waits for an agent that is not called does not wait beyond its lifetime.
    pub(crate) fn watch_over(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        if !slot.swept {
            let alarm = Alarm::Sweep { agent: index, generation: slot.generation };
            slot.swept = self.timers.insert(self.now_ms + SWEEP_INTERVAL_MS, alarm).is_ok();
        }
    }

    pub(crate) fn sweep(&mut self, index: AgentIndex, generation: u32) {
        let now_ms = self.now_ms;
        let Some(slot) = self.agents.get_mut(index) else { return };
        if slot.generation != generation {
            return;
        }
        slot.swept = false;
        let expired = |envelope: &Envelope| envelope.deadline_ms <= now_ms && envelope.kind == EnvelopeKind::Message;
        let late_mail = slot.mailbox.extract(&mut self.slab, expired);
        let late_sends = slot.outbox.extract(&mut self.slab, expired);
        slot.outbox_length -= u32::try_from(late_sends.len()).unwrap_or(slot.outbox_length);
        for place in late_mail {
            if let Some(envelope) = self.slab.remove(place) {
                let weight = envelope.message.weight();
                self.expire(envelope, Waiting::Mailbox, Holds::Mailbox { agent: index, generation, weight });
            }
        }
        let unblocked = !late_sends.is_empty();
        for place in late_sends {
            self.expire_place(place, Waiting::Crossing);
        }
        if unblocked {
            // What comes next may go elsewhere, where there is credit.
            self.flush_outbox(index);
        }
        // An agent that took nothing of its mail is asked again.
        self.schedule(index);
        let Some(slot) = self.agents.get(index) else { return };
        if !slot.outbox.is_empty() || (slot.is_suspended() && slot.mailbox.has_mail()) {
            self.watch_over(index);
        }
    }

    /// Gives up what is neither in a mailbox nor in a handler: outboxes, fan-outs, transit, delays, commits.
    pub(crate) fn stop_what_travels(&mut self) {
        let places: Vec<u32> = self
            .slab
            .iter()
            .filter(|(_, envelope)| envelope.kind == EnvelopeKind::Message)
            .map(|(place, _)| place)
            .collect();
        for agents in &mut self.blocked {
            agents.clear();
        }
        for places in &mut self.transit {
            places.clear();
        }
        self.uncommitted.clear();
        let agents: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in agents {
            let Some(slot) = self.agents.get_mut(agent) else { continue };
            slot.outbox = crate::mailbox::Queue::EMPTY;
            slot.outbox_length = 0;
            slot.blocked = None;
            if slot.leaving {
                self.agents.remove(agent);
            }
        }
        for place in places {
            self.give_up_place(place, Reason::Stopped);
        }
    }

    /// Gives up the message at this place, with all its deliveries that were not handed out.
    #[cold]
    pub(crate) fn give_up_place(&mut self, place: u32, reason: Reason) -> Routed {
        for envelope in self.take_deliveries(place) {
            let holds = envelope.credit_of.map_or(Holds::Nothing, Holds::Credit);
            self.give_up(envelope, reason, holds);
        }
        Routed::Done
    }

    #[cold]
    fn expire_place(&mut self, place: u32, phase: Waiting) {
        for envelope in self.take_deliveries(place) {
            let holds = envelope.credit_of.map_or(Holds::Nothing, Holds::Credit);
            self.expire(envelope, phase, holds);
        }
    }

    /// Takes a message out of the slab; one to several receivers becomes a copy for each that is left.
    fn take_deliveries(&mut self, place: u32) -> Vec<Envelope> {
        let Some(envelope) = self.slab.remove(place) else { return Vec::new() };
        let Receiver::Agents(agents) = envelope.message.receiver() else { return vec![envelope] };
        let agents = Arc::clone(agents);
        let first = envelope.fan_out;
        let left = agents.len() as u64 - u64::from(first);
        self.pending_beside_slab -= i64::try_from(left).unwrap_or(i64::MAX) - 1;
        (first..u32::try_from(agents.len()).unwrap_or(u32::MAX))
            .map(|index| {
                let mut message = envelope.message.clone();
                message.set_receiver(Receiver::Member(Arc::clone(&agents), index));
                Envelope::new(message, envelope.deadline_ms, EnvelopeKind::Message)
            })
            .collect()
    }
}
