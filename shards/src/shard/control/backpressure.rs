//! Back-pressure: messages and senders that wait for a receiver with a full mailbox.
//!
//! A message that finds such a mailbox full goes into the receiver's stall list, and its credit is returned, so that
//! other receivers' messages do not wait for it. The receiver is then closed, and all shards are told. While it is
//! closed, messages to it wait in a queue on their sender's shard: a native agent with a message in such a queue is not
//! called, which is the back-pressure; an agent outside may have as many messages in each queue as an outbox holds. The
//! receiver opens again when its stall list is empty and its mailbox half empty.
//!
//! Invariants: queues are per receiver, so waiting for one holds up nothing that goes to another; messages from one
//! sender to one receiver stay in order, except replies that find none of their sender's waiting; a waiting message
//! expires in time, so that agents waiting for each other in a circle continue; and an agent does not wait for itself.

use crate::base::index::AgentKey;
use crate::flow_control::policy::OverflowPolicy;
use crate::flow_control::wait_queues::Waiter;
use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::{AgentId, Message, Reliability};
use crate::outcome::DeadLetterReason;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::io::{Answer, SendErrorKind, Stage, Token};
use crate::shard::path::route::Blocked;
use crate::shard::{Shard, ShardPhase};

impl Shard {
    fn open_receiver(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        slot.flags.remove(AgentFlags::CLOSED);
        slot.cold().stalled = None;
        let id = slot.id;
        self.flow_control.queues.open_here(id);
        self.broadcast_closed(id, false);
        // Before anybody can send it something new. Once the router has stopped, nothing enters mailboxes.
        if self.phase != ShardPhase::Stopped {
            self.move_line(id);
        }
    }

    /// Records that the mailbox of a closed receiver holds less.
    #[cold]
    pub(in crate::shard) fn note_room(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let key = slot.key(index);
        if let Some(stalled) = slot.cold.as_mut().and_then(|cold| cold.stalled.as_mut())
            && stalled.set_due()
        {
            self.flow_control.queues.reopen(key);
        }
    }

    /// Moves stalled messages into mailboxes with room, and opens receivers. Returns how many were examined.
    pub(in crate::shard) fn let_stalled_in(&mut self) -> usize {
        if !self.flow_control.queues.has_more() {
            return 0;
        }
        let reopening = self.flow_control.queues.take_reopening();
        for agent in &reopening {
            if self.agents.resolve(*agent).is_some() {
                self.let_stalled_into(agent.index);
            }
        }
        reopening.len()
    }

    fn let_stalled_into(&mut self, index: AgentIndex) {
        let limits = self.config.mailbox_limits();
        loop {
            let Some(slot) = self.agents.get_mut(index).filter(|slot| slot.flags.is(AgentFlags::CLOSED)) else {
                return;
            };
            let Some(stalled) = slot.cold.as_mut().and_then(|cold| cold.stalled.as_mut()) else { return };
            stalled.begin_look();
            let (held, held_bytes) = (slot.mailbox.held(), slot.mailbox.held_bytes());
            let Some(place) = stalled.front() else {
                if held <= limits.messages / 2 && held_bytes <= limits.bytes / 2 {
                    self.open_receiver(index);
                }
                return;
            };
            let weight = self.held.get(place).map_or(0, Envelope::weight);
            if held > 0 && !slot.mailbox.has_room(limits, weight) {
                return;
            }
            stalled.pop(&self.held);
            self.flow_control.queues.unstall(1);
            let Some(envelope) = self.held.unpark(place) else { continue };
            if envelope.deadline_ms <= self.clock.now_ms() {
                self.expire(envelope, Stage::Stalled, Reservation::Nothing);
            } else {
                self.take_in(envelope, index);
            }
        }
    }

    /// Gives up the messages stalled at a receiver that accepts nothing any more, and releases the waiting senders.
    #[cold]
    pub(in crate::shard) fn give_up_stalled(&mut self, index: AgentIndex, reason: DeadLetterReason, detail: &str) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let stalled = slot.cold().stalled.take().unwrap_or_default();
        self.flow_control.queues.unstall(stalled.len());
        for place in stalled.into_places() {
            if let Some(envelope) = self.held.unpark(place) {
                self.dead_letter_with(envelope, reason, detail, Reservation::Nothing);
            }
        }
        self.open_receiver(index);
    }

    /// Handles another shard's announcement about one of its receivers.
    pub(in crate::shard) fn on_receiver_closed(&mut self, receiver: AgentId, closed: bool) {
        if self.phase == ShardPhase::Stopped {
            return;
        }
        if closed {
            self.flow_control.queues.close(receiver);
        } else {
            self.flow_control.queues.open(receiver);
        }
    }

    /// Sends on what waits for receivers that are open again. Returns the number of messages.
    pub(in crate::shard) fn move_lines(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..self.flow_control.queues.moving() {
            let Some(receiver) = self.flow_control.queues.next_moving() else { break };
            moved += self.move_line(receiver);
        }
        moved
    }

    fn move_line(&mut self, receiver: AgentId) -> usize {
        let shard = self.config.partition.shard_of(receiver);
        let here = self.is_here(shard);
        let mut moved = 0;
        loop {
            if !self.flow_control.queues.has_next(receiver) {
                return moved;
            }
            if !here && !self.links.has_credit(shard) {
                break;
            }
            let Some(entry) = self.flow_control.queues.pop(receiver) else { break };
            match entry {
                Waiter::Message { place, sender, here } => {
                    let Some(envelope) = self.held.unpark(place) else { continue };
                    let id = envelope.message.sender();
                    if let Err(envelope) = self.move_message(envelope, receiver, here) {
                        self.go_back_in_line(envelope, receiver, sender);
                        break;
                    }
                    self.flow_control.queues.leave(receiver, id);
                    self.let_sender_go_on(sender);
                }
                Waiter::Asked { message, token, deadline_ms } => {
                    let id = message.sender();
                    let back = self.admit_in_line(*message, token, deadline_ms, receiver);
                    if let Some(envelope) = back {
                        let sender = id.and_then(|sender| self.block_sender(sender));
                        self.go_back_in_line(envelope, receiver, sender);
                        break;
                    }
                    self.flow_control.queues.leave(receiver, id);
                }
            }
            moved += 1;
        }
        self.flow_control.queues.go_on_moving(receiver);
        moved
    }

    fn move_message(&mut self, envelope: Envelope, receiver: AgentId, here: bool) -> Result<(), Envelope> {
        if envelope.deadline_ms <= self.clock.now_ms() {
            self.expire_all(envelope, Stage::Stalled);
            return Ok(());
        }
        if here {
            self.deliver(envelope, receiver);
            return Ok(());
        }
        self.route_on(envelope, receiver).map_err(|Blocked { envelope, .. }| envelope)
    }

    /// Returns a message to the front of its queue because it found no credit.
    fn go_back_in_line(&mut self, envelope: Envelope, receiver: AgentId, sender: Option<AgentKey>) {
        let id = envelope.message.sender();
        match self.held.park(envelope) {
            Ok(place) if self.flow_control.queues.has(receiver) => {
                self.flow_control.queues.put_back(receiver, Waiter::Message { place, sender, here: false });
            }
            Ok(place) => {
                if let Some(envelope) = self.held.unpark(place) {
                    self.dead_letter_all(envelope, DeadLetterReason::ShardFull);
                }
                self.let_sender_go_on(sender);
            }
            Err(envelope) => {
                self.dead_letter_all(envelope, DeadLetterReason::ShardFull);
                self.flow_control.queues.leave(receiver, id);
                self.let_sender_go_on(sender);
            }
        }
    }

    /// Returns why a message from outside cannot be sent now without waiting.
    pub(in crate::shard) fn closed_to(&self, message: &Message) -> Option<SendErrorKind> {
        let receiver = message.target().filter(|receiver| {
            let sender = message.sender().or_else(|| self.agents.gateway_id());
            self.flow_control.queues.exist()
                && sender != Some(*receiver)
                && self.flow_control.queues.has(*receiver)
                && !message.looks_like_reply()
        })?;
        Some(SendErrorKind::ReceiverFull { receiver, policy: OverflowPolicy::BackPressure })
    }

    /// Queues a message from outside before it is accepted. Returns it if it need not wait.
    #[cold]
    pub(in crate::shard) fn ask_in_line(&mut self, mut message: Message, token: Token) -> Option<Message> {
        let agent = match message.sender() {
            Some(sender) => self.agents.find(sender),
            None => Some(self.agents.gateway()),
        };
        let ready = agent.and_then(|agent| self.agents.get(agent)).filter(|slot| slot.outbox.is_empty());
        let (Some(receiver), Some(slot)) = (message.target(), ready) else { return Some(message) };
        message.set_sender_if_absent(slot.id);
        let refused = agent.is_none_or(|agent| self.refusal(agent, &message).is_some());
        if refused || !self.flow_control.queues.must_wait(&message, receiver) || self.waits_too_much(&message, receiver)
        {
            return Some(message);
        }
        let (sender, deadline_ms) = (message.sender(), self.deadline_of(&message));
        self.enqueue_waiter(receiver, sender, Waiter::Asked { message: Box::new(message), token, deadline_ms });
        None
    }

    /// Accepts a queued message, or refuses it. Returns it accepted if it has to wait for credit.
    fn admit_in_line(
        &mut self,
        mut message: Message,
        token: Token,
        deadline_ms: u64,
        receiver: AgentId,
    ) -> Option<Envelope> {
        let agent = message.sender().and_then(|sender| self.agents.find(sender));
        let refusal = match agent {
            _ if self.phase != ShardPhase::Running => Some(SendErrorKind::Stopping),
            _ if deadline_ms <= self.clock.now_ms() => {
                Some(SendErrorKind::ReceiverFull { receiver, policy: OverflowPolicy::BackPressure })
            }
            None => Some(SendErrorKind::UnknownSender),
            Some(agent) => self.refusal(agent, &message),
        };
        let (None, Some(agent)) = (&refusal, agent) else {
            let rejected = self.reject(refusal.unwrap_or(SendErrorKind::UnknownSender), message);
            self.outputs.answer(token, Answer::Sent(Err(rejected)));
            return None;
        };
        let id = self.assign_id(&mut message);
        let mut envelope = self.enclose(agent, message);
        envelope.deadline_ms = deadline_ms;
        let durable = envelope.message.reliability() == Reliability::Durable;
        if !(durable && self.promise_answer(&mut envelope, token)) {
            self.outputs.answer(token, Answer::Sent(Ok(id)));
        }
        self.ledger.accept(1);
        if envelope.message.reply_by().is_some() && !self.expect_reply(agent, &envelope) {
            self.refuse_ask(envelope);
            return None;
        }
        self.route_on(envelope, receiver).err().map(|Blocked { envelope, .. }| envelope)
    }

    /// Removes queued messages of callers that gave up: they are not accepted. Scans all queues once, however many are
    /// removed.
    #[cold]
    pub(in crate::shard) fn leave_lines(&mut self, tokens: &[Token]) {
        let left = self.flow_control.queues.cancel(tokens);
        self.ledger.refuse(left as u64);
    }

    pub(in crate::shard) fn sweep_lines(&mut self) {
        self.flow_control.queues.set_swept(false);
        for receiver in self.flow_control.queues.receivers() {
            self.sweep_line(receiver);
            if let Some(index) = self.agents.find(receiver) {
                self.sweep_stalled(index);
            }
        }
        if self.flow_control.queues.has_waiting() {
            self.arm_waiter_sweep();
        }
    }

    fn sweep_line(&mut self, receiver: AgentId) {
        let (slab, now_ms) = (&self.held, self.clock.now_ms());
        let is_late = |entry: &Waiter| match entry {
            Waiter::Message { place, .. } => slab.get(*place).is_none_or(|envelope| envelope.deadline_ms <= now_ms),
            Waiter::Asked { deadline_ms, .. } => *deadline_ms <= now_ms,
        };
        for entry in self.flow_control.queues.extract(receiver, is_late) {
            match entry {
                Waiter::Message { place, sender, .. } => {
                    if let Some(envelope) = self.held.unpark(place) {
                        self.flow_control.queues.leave(receiver, envelope.message.sender());
                        self.expire_all(envelope, Stage::Stalled);
                    }
                    self.let_sender_go_on(sender);
                }
                Waiter::Asked { message, token, .. } => {
                    self.flow_control.queues.leave(receiver, message.sender());
                    let error = SendErrorKind::ReceiverFull { receiver, policy: OverflowPolicy::BackPressure };
                    let rejected = self.reject(error, *message);
                    self.outputs.answer(token, Answer::Sent(Err(rejected)));
                }
            }
        }
    }

    fn sweep_stalled(&mut self, index: AgentIndex) {
        let (slab, now_ms) = (&self.held, self.clock.now_ms());
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Some(stalled) = slot.cold.as_mut().and_then(|cold| cold.stalled.as_mut()) else { return };
        let is_late = |place: &u32| slab.get(*place).is_none_or(|envelope| envelope.deadline_ms <= now_ms);
        let late = stalled.extract(is_late);
        self.flow_control.queues.unstall(late.len());
        for place in late {
            let Some(envelope) = self.held.unpark(place) else { continue };
            let slot = self.agents.get_mut(index);
            if let Some(stalled) = slot.and_then(|slot| slot.cold.as_mut()?.stalled.as_mut()) {
                stalled.leave(envelope.message.sender());
            }
            self.expire(envelope, Stage::Stalled, Reservation::Nothing);
        }
        self.note_room(index);
    }

    /// Ends all waiting when the router stops. Returns the places of accepted messages, which are given up with
    /// everything else in transit.
    pub(in crate::shard) fn stop_lines(&mut self) -> Vec<u32> {
        let mut places = Vec::new();
        for entry in self.flow_control.queues.stop() {
            match entry {
                Waiter::Message { place, sender, .. } => {
                    places.push(place);
                    self.let_sender_go_on(sender);
                }
                Waiter::Asked { message, token, .. } => {
                    let rejected = self.reject(SendErrorKind::Stopping, *message);
                    self.outputs.answer(token, Answer::Sent(Err(rejected)));
                }
            }
        }
        places
    }
}

/// Messages that expire in mailboxes.
impl Shard {
    pub(in crate::shard) fn sweep(&mut self, key: AgentKey) {
        let now_ms = self.clock.now_ms();
        let index = key.index;
        let Some(slot) = self.agents.resolve_mut(key) else { return };
        slot.swept = false;
        let expired = |envelope: &Envelope| envelope.deadline_ms <= now_ms && envelope.kind() == EnvelopeKind::Message;
        let late_mail = slot.mailbox.extract(&mut self.held, expired);
        let late_sends = slot.outbox.extract(&mut self.held, &mut { expired });
        slot.outbox_length -= u32::try_from(late_sends.len()).unwrap_or(slot.outbox_length);
        for place in late_mail {
            if let Some(envelope) = self.held.remove(place) {
                let reservation = Reservation::in_mailbox(key, &envelope);
                self.expire(envelope, Stage::Mailbox, reservation);
            }
        }
        let unblocked = !late_sends.is_empty();
        for place in late_sends {
            if let Some(envelope) = self.held.unpark(place) {
                self.expire_all(envelope, Stage::Crossing);
            }
        }
        if unblocked {
            // The next one may go elsewhere, where there is credit.
            self.flush_outbox(index);
        }
        self.note_departure(index);
        // Schedule an agent that took none of its mail again.
        self.schedule(index);
        let Some(slot) = self.agents.get(index) else { return };
        if !slot.outbox.is_empty() || (slot.has_in_hand() && slot.mailbox.has_mail()) {
            self.arm_sweep(index);
        }
    }
}
