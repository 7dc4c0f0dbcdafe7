//! Into the receiver's mailbox: the conversation lets the message pass, the mailbox has room, the moment has come.
//!
//! Invariants: a message counts against its mailbox from when it is taken in until it is settled, whatever it waits for
//! meanwhile; what waits for an agent that is not called ends with its lifetime all the same.

use std::collections::VecDeque;

use crate::base::slab::{NONE, Slab};
use crate::conversation::initiators::{Note, NoteKey};
use crate::conversation::{ConversationIndex, OwnConversation, Passage, Passed, REPLY_TO_NOTED_MAX, Timeout};
use crate::mailbox::{Envelope, EnvelopeKind, Queue};
use crate::message::journal_ref::Journalled;
use crate::message::{AgentId, ConversationId, ConversationRole, Message, Receipt, Reliability, WhenUnavailable};
use crate::outcome::Ending;
use crate::outcome::Reason;
use crate::planted::{self, Bug};
use crate::shard::agent::registry::{AgentIndex, AgentSlot, Behaviour, Standing};
use crate::shard::control::stop::Place;
use crate::shard::io::{Event, Phase as Waiting};
use crate::shard::path::overflow::ordinary_memory;
use crate::shard::path::settle::Holds;
use crate::shard::{Alarm, Phase, SWEEP_INTERVAL_MS, Shard};
use crate::supervision::Guard;

impl Shard {
    /// Finds out how the sender of a text-borne message stands to its conversation: whose it is out of those with this id
    /// that the sender began, or was drawn into by the receiver. A message that names a protocol that can't begin with it,
    /// in neither of them, is left for the receiver's shard to judge, which knows what the receiver began.
    #[cold]
    pub(crate) fn find_role(
        &mut self,
        envelope: &mut Envelope,
        id: ConversationId,
        target: AgentId,
    ) -> Result<(), Reason> {
        let Some(sender) = envelope.message.sender() else { return Ok(()) };
        let own = self.conversations.own(sender, id, target);
        let noted = self.notes.read(&NoteKey { participant: sender, conversation: id, peer: target }, self.now_ms);
        envelope.text_borne = true;
        let message = &mut envelope.message;
        match (own, noted) {
            (OwnConversation::WithPeer, None) => message.set_role(ConversationRole::Initiator),
            (_, None) => {
                let begins_nothing = sender != target
                    && self.conversations.hold_to_protocols()
                    && self.conversations.begins_nothing(message)
                    && self.conversations.allows(sender, id, target, message) != Some(true);
                let role = if begins_nothing { ConversationRole::Unresolved } else { ConversationRole::Initiator };
                message.set_role(role);
            }
            (own, Some(note)) => {
                if own == OwnConversation::WithPeer && self.is_of_own(id, message, &note)? {
                    message.set_role(ConversationRole::Initiator);
                } else if note.initiator == target {
                    message.set_role(ConversationRole::Participant);
                } else {
                    message.set_member_of(note.initiator);
                }
            }
        }
        Ok(())
    }

    /// Sender and receiver each began a conversation with this id, or the receiver speaks in a third agent's: whether the
    /// message belongs to the sender's own. What it answers says so, then the protocol, then what that allows.
    fn is_of_own(&self, id: ConversationId, message: &Message, note: &Note) -> Result<bool, Reason> {
        let (Some(sender), Some(target)) = (message.sender(), message.target()) else { return Ok(true) };
        let conversations = &self.conversations;
        if let Some(question) = message.in_reply_to() {
            let answers_note = note.asked == Some(question);
            if answers_note != conversations.answers(sender, id, target, question) {
                return Ok(!answers_note);
            }
        }
        let own_allows = conversations.allows(sender, id, target, message);
        let named = message.protocol_term();
        let note_is_meant = named.is_none() || conversations.is_same_protocol(note.protocol, named);
        match own_allows {
            Some(false) => Ok(false),
            Some(true) if !note_is_meant => Ok(true),
            _ => Err(Reason::AmbiguousConversation),
        }
    }

    /// Lets the message pass its conversation, which lives here.
    #[inline(always)]
    pub(crate) fn converse(
        &mut self,
        envelope: &mut Envelope,
        initiator: AgentId,
        target: AgentId,
    ) -> Result<(), Reason> {
        if self.conversations.hold_to_protocols() {
            return self.converse_by_protocol(envelope, initiator, target);
        }
        let message = &envelope.message;
        let (Some(id), Some(sender)) = (message.conversation(), message.sender()) else { return Ok(()) };
        let passage = Passage { initiator, sender, receiver: target, message, now_ms: self.now_ms };
        let (index, passed) = match self.conversations.pass(id, &passage) {
            Ok(passed) => passed,
            Err(reason) => match self.rejoin(id, &passage, reason)? {
                Some(passed) => passed,
                None => return Ok(()),
            },
        };
        if envelope.message.reliability() == Reliability::Durable {
            self.keep_step(index, initiator, false, envelope);
        }
        // Most messages know it already, and what was not written just now can be copied into a ring at once.
        if envelope.conversation_place != index.0 {
            envelope.conversation_place = index.0;
        }
        match passed {
            Passed::Began | Passed::BeganInViolation => self.arm_conversation(initiator, id, index),
            _ => Ok(()),
        }
    }

    /// Lets a message pass that was refused for this reason, if it belongs to a conversation that a crash has lost. Returns nothing
    /// if the message has come to its receiver before.
    #[cold]
    fn rejoin(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
        reason: Reason,
    ) -> Result<Option<(ConversationIndex, Passed)>, Reason> {
        if reason != Reason::NotInConversation || !self.may_be_behind(passage.message) {
            return Err(reason);
        }
        if self.has_come(passage.message, passage.receiver) {
            return Ok(None);
        }
        self.conversations.rejoin(id, passage).map(Some)
    }

    /// As [`Shard::converse`], where conversations are held to their protocols.
    #[inline(never)]
    fn converse_by_protocol(
        &mut self,
        envelope: &mut Envelope,
        initiator: AgentId,
        target: AgentId,
    ) -> Result<(), Reason> {
        let message = &envelope.message;
        let (Some(id), Some(sender)) = (message.conversation(), message.sender()) else { return Ok(()) };
        let passage = Passage { initiator, sender, receiver: target, message, now_ms: self.now_ms };
        let durable = message.reliability() == Reliability::Durable;
        if durable && !planted::is(Bug::RecoveredConversationsEnforced) && self.has_passed(id, &passage) {
            return Ok(());
        }
        let (index, passed) = match self.conversations.pass_by_protocol(id, &passage, self.now.wall) {
            Err(Reason::NotInConversation) if self.may_be_behind(message) => self.conversations.rejoin(id, &passage)?,
            passed => passed?,
        };
        if matches!(passed, Passed::Joined | Passed::Beside | Passed::BesideInViolation) {
            if passed != Passed::Joined {
                if passed == Passed::BesideInViolation {
                    self.observe_violation();
                }
                return Ok(());
            }
            envelope.message.set_role(ConversationRole::Participant);
        }
        let violates = matches!(passed, Passed::ContinuedInViolation | Passed::BeganInViolation);
        if durable {
            self.keep_step(index, initiator, violates, envelope);
        }
        envelope.conversation_place = index.0;
        if violates {
            self.observe_violation();
        }
        match passed {
            Passed::Began | Passed::BeganInViolation => self.arm_conversation(initiator, id, index),
            _ => Ok(()),
        }
    }

    /// Whether a durable message passed its conversation in an earlier run, or came to its receiver already, and is sent again:
    /// the step was taken, and the conversation may have ended since.
    #[cold]
    fn has_passed(&mut self, id: ConversationId, passage: &Passage<'_>) -> bool {
        self.conversations.repeats(id, passage).is_some()
            || self.conversations.may_be_behind(self.now_ms) && self.has_come(passage.message, passage.receiver)
    }

    fn arm_conversation(
        &mut self,
        initiator: AgentId,
        id: ConversationId,
        index: ConversationIndex,
    ) -> Result<(), Reason> {
        let ends_ms = self.now_ms + self.conversations.timeout_ms();
        if let Ok(timer) = self.timers.insert(ends_ms, Alarm::Conversation(index)) {
            self.conversations.set_timer(index, Some(timer));
            return Ok(());
        }
        // A conversation that could never time out is not begun.
        self.conversations.close(initiator, id);
        Err(Reason::TooManyConversations)
    }

    pub(crate) fn look_after_conversation(&mut self, index: ConversationIndex) {
        if self.has_much_to_tell() {
            let timer = self.timers.insert(self.now_ms + SWEEP_INTERVAL_MS, Alarm::Conversation(index)).ok();
            return self.conversations.set_timer(index, timer);
        }
        match self.conversations.time_out(index, self.now_ms) {
            Timeout::Gone => {}
            Timeout::NotBefore(again_ms) => {
                // A timer has just fired, so there is room for one.
                let timer = self.timers.insert(again_ms, Alarm::Conversation(index)).ok();
                self.conversations.set_timer(index, timer);
            }
            Timeout::Ended { initiator, id, participants, durable } => {
                if durable {
                    self.keep_end_of_conversation(initiator, id);
                }
                self.report(|| Event::ConversationTimedOut { initiator, conversation: id });
                self.forget_questions_in(initiator, id);
                self.tell_of_timeout(initiator, id, &participants);
            }
        }
    }

    pub(crate) fn close_conversation(&mut self, initiator: AgentId, id: ConversationId) {
        let Some((timer, durable)) = self.conversations.close(initiator, id) else { return };
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        if durable {
            self.keep_end_of_conversation(initiator, id);
        }
        self.forget_questions_in(initiator, id);
    }

    /// Puts a message into its receiver's mailbox, where it is settled from, or gives it up.
    #[inline(always)]
    pub(crate) fn deliver(&mut self, envelope: Envelope, target: AgentId) {
        // A reply knows where its receiver lies.
        let probably = AgentIndex(envelope.receiver_place);
        if self.agents.lies_at(target, probably) {
            self.deliver_to::<true>(envelope, probably);
        } else {
            self.deliver_by_id(envelope, target);
        }
    }

    /// As [`Shard::deliver`], for a message that does not know where its receiver lies.
    #[inline(never)]
    fn deliver_by_id(&mut self, envelope: Envelope, target: AgentId) {
        match self.agents.find(target) {
            Some(index) => self.deliver_to::<true>(envelope, index),
            None => self.refuse_for_absent(envelope, target),
        }
    }

    /// As [`Shard::deliver`], for a message that is taken in whatever room there is.
    #[cold]
    pub(crate) fn take_in(&mut self, envelope: Envelope, index: AgentIndex) {
        self.deliver_to::<false>(envelope, index);
    }

    /// Has the mailbox hold a message, if it has room for it or has to take it, and puts it there.
    #[inline(always)]
    fn deliver_to<const NEEDS_ROOM: bool>(&mut self, mut envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        if NEEDS_ROOM {
            let messages_max = self.config.mailbox_messages.into_inner();
            let bytes_max = self.config.mailbox_bytes.into_inner();
            if slot.standing.is(Standing::TAKES_NOTHING)
                || !slot.mailbox.has_room(messages_max, bytes_max, envelope.weight())
            {
                return self.overflow(envelope, index);
            }
        }
        slot.mailbox.hold(envelope.weight());
        self.memory_left -= i64::from(envelope.weight());
        if slot.provider && !slot.load_changed {
            slot.load_changed = true;
            self.load_changed.push(index);
        }
        let credit_of = envelope.credit_of.take();
        let message = &envelope.message;
        let special = envelope.text_borne
            || (self.questions.len() > 0 && slot.first_question != NONE)
            || message.receipt() == Receipt::Delivered
            || message.reliability() == Reliability::Durable
            || message.details().is_some_and(|details| {
                details.deliver_at.is_some() || details.replay.is_some() || !details.reply_to.is_empty()
            });
        if special {
            return self.deliver_specially(envelope, index, credit_of.map_or(Holds::Nothing, Holds::Credit));
        }
        if let Some(from) = credit_of
            && !planted::strikes(
                Bug::CreditLost,
                5_000,
                self.now_ms << 32 ^ u64::from(envelope.weight()) << 16 ^ self.account.arrived,
            )
        {
            self.credits_owed[from.as_usize()] += 1;
        }
        let enqueued = enqueue(slot, &mut self.slab, &mut self.run_queue, envelope, index);
        self.finish_enqueue(enqueued, index);
    }

    /// Puts a message that its mailbox holds into its lane, and the agent into the run queue.
    fn put_into_mailbox(&mut self, envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let enqueued = enqueue(slot, &mut self.slab, &mut self.run_queue, envelope, index);
        self.finish_enqueue(enqueued, index);
    }

    /// Does what few messages need when they are put into their mailboxes.
    #[inline(always)]
    fn finish_enqueue(&mut self, enqueued: Enqueued, index: AgentIndex) {
        match enqueued {
            Enqueued::Done => {}
            Enqueued::Unscheduled => self.schedule(index),
            Enqueued::TurnedAway(envelope) => self.turn_away(envelope, index),
            Enqueued::Full(envelope, generation) => {
                let holds = Holds::Mailbox { agent: index, generation, weight: envelope.weight() };
                self.give_up(envelope, Reason::ShardFull, holds);
            }
        }
    }

    /// What few messages need on delivery: a question that they answer, notes, receipts, a journal, a delay.
    #[cold]
    fn deliver_specially(&mut self, mut envelope: Envelope, index: AgentIndex, holds: Holds) {
        if self.turns_away(index, &envelope.message) && self.delay_of(&envelope.message) == 0 {
            // It is neither journalled nor reported as delivered.
            self.let_go(holds);
            return self.turn_away(envelope, index);
        }
        if self.agents.get(index).is_some_and(|slot| slot.first_question != NONE) {
            self.match_answer(&mut envelope.message, index);
        }
        if envelope.text_borne || envelope.message.details().is_some_and(|details| !details.reply_to.is_empty()) {
            self.note_conversation(&envelope.message);
        }
        if envelope.message.reliability() == Reliability::Durable {
            self.let_go(holds);
            return self.keep(envelope, index);
        }
        if !envelope.journal().is_not() {
            // A dead letter that is replayed has come to its receiver.
            self.acknowledge(envelope.journal(), Ending::Kept);
            envelope.mark(Journalled::NOT);
        }
        self.say_delivered(&envelope.message, holds);
        self.put_into_mailbox_in_time(envelope, index);
    }

    /// Tells the sender that its message has reached the mailbox, if it wanted to hear that.
    pub(crate) fn say_delivered(&mut self, message: &Message, holds: Holds) {
        match message.receipt() {
            Receipt::Delivered => self.send_receipt(message, Receipt::Delivered, holds),
            Receipt::None | Receipt::Processed => self.let_go(holds),
        }
    }

    /// Puts a message into its mailbox now, or when its moment of delivery has come.
    pub(crate) fn put_into_mailbox_in_time(&mut self, envelope: Envelope, index: AgentIndex) {
        match self.delay_of(&envelope.message) {
            0 => self.put_into_mailbox(envelope, index),
            // The wall clock may have jumped back since the message was admitted: it does not wait beyond its lifetime.
            delay_ms => {
                let delay_ms = delay_ms.min(envelope.deadline_ms.saturating_sub(self.now_ms));
                self.put_into_mailbox_later(envelope, index, delay_ms);
            }
        }
    }

    /// Whether the agent that took a message in is still in its place.
    #[inline]
    pub(crate) fn is_still_there(&self, index: AgentIndex, generation: u32) -> bool {
        self.agents.get(index).is_some_and(|slot| slot.generation == generation && !slot.is_leaving())
    }

    /// Arms a timer that puts a held message into its mailbox. Without a timer to be had it goes there now.
    pub(crate) fn put_into_mailbox_later(&mut self, envelope: Envelope, index: AgentIndex, delay_ms: u64) {
        let Some(generation) = self.agents.get(index).map(|slot| slot.generation) else { return };
        let holds = Holds::Mailbox { agent: index, generation, weight: envelope.weight() };
        match self.slab.insert(envelope) {
            Ok(place) => {
                let due_ms = self.now_ms.saturating_add(delay_ms);
                if planted::strikes(Bug::TimerLost, 20, due_ms) {
                    return;
                }
                if self.timers.insert(due_ms, Alarm::Release { place, agent: index, generation }).is_err() {
                    self.release(place, index, generation);
                }
            }
            Err(envelope) => self.give_up(envelope, Reason::ShardFull, holds),
        }
    }

    /// Puts a delayed message into its mailbox, if its receiver is still the same.
    pub(crate) fn release(&mut self, place: u32, index: AgentIndex, generation: u32) {
        if self.phase == Phase::Stopped {
            // The delayed message was given up, and something else may have its place.
            return;
        }
        let Some(envelope) = self.slab.remove(place) else { return };
        if !self.is_still_there(index, generation) {
            let reason = self.reason_of_absence(envelope.message.target());
            return self.give_up(envelope, reason, Holds::Nothing);
        }
        if envelope.deadline_ms <= self.now_ms {
            let holds = Holds::Mailbox { agent: index, generation, weight: envelope.weight() };
            let phase = if envelope.attempts > 0 { Waiting::Retry } else { Waiting::Delayed };
            return self.expire(envelope, phase, holds);
        }
        self.put_into_mailbox(envelope, index);
    }

    /// Remembers who began a text-borne conversation, for the receiver's answers.
    fn note_conversation(&mut self, message: &Message) {
        let (Some(conversation), Some(peer), Some(participant), Some(initiator)) =
            (message.conversation(), message.sender(), message.target(), message.initiator())
        else {
            return;
        };
        let reply_to = message.details().map_or(&[][..], |details| &details.reply_to);
        if participant == initiator {
            if !reply_to.is_empty() {
                self.conversations.note_delegates(initiator, conversation, message);
            }
            return;
        }
        let note = Note { initiator, asked: message.reply_with(), protocol: message.protocol_term() };
        self.write_note(NoteKey { participant, conversation, peer }, note);
        // Whoever gets the answers is a peer as well.
        for aid in reply_to.iter().take(REPLY_TO_NOTED_MAX) {
            let peer = aid.id();
            if peer != participant {
                self.write_note(NoteKey { participant, conversation, peer }, note);
            }
        }
    }

    pub(crate) fn write_note(&mut self, key: NoteKey, note: Note) {
        if self.notes.write(key, note, self.now_ms) {
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
            && !slot.is_halted()
            && (slot.guard != Guard::Shut || slot.has_in_hand())
            && match &slot.behaviour {
                Behaviour::Outside(outside) => outside.room > 0,
                Behaviour::Native(_) | Behaviour::Away | Behaviour::Gateway => true,
            };
        if slot.queued || !(slot.mailbox.has_mail() || slot.has_in_hand()) {
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
        // Nothing is left that could expire.
        if self.phase == Phase::Stopped {
            return;
        }
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
        let late_sends = slot.outbox.extract(&mut self.slab, &mut { expired });
        slot.outbox_length -= u32::try_from(late_sends.len()).unwrap_or(slot.outbox_length);
        for place in late_mail {
            if let Some(envelope) = self.slab.remove(place) {
                let holds = Holds::Mailbox { agent: index, generation, weight: envelope.weight() };
                self.expire(envelope, Waiting::Mailbox, holds);
            }
        }
        let unblocked = !late_sends.is_empty();
        for place in late_sends {
            if let Some(envelope) = self.take_place(place) {
                self.expire_all(envelope, Waiting::Crossing);
            }
        }
        if unblocked {
            // What comes next may go elsewhere, where there is credit.
            self.flush_outbox(index);
        }
        // An agent that took nothing of its mail is asked again.
        self.schedule(index);
        let Some(slot) = self.agents.get(index) else { return };
        if !slot.outbox.is_empty() || (slot.has_in_hand() && slot.mailbox.has_mail()) {
            self.watch_over(index);
        }
    }

    /// Gives up what is neither in a mailbox nor in a handler: outboxes, fan-outs, transit, delays, commits.
    /// `in_line` are the places of what waits for a receiver that is closed.
    pub(crate) fn stop_what_travels(&mut self, in_line: &[u32]) {
        let mut stand = self.places_without_timer();
        stand.extend(in_line.iter().map(|place| (*place, Place::Outbox)));
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
        self.stop_waiting_messages();
        let agents: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in agents {
            let Some(slot) = self.agents.get_mut(agent) else { continue };
            slot.outbox = Queue::EMPTY;
            slot.outbox_length = 0;
            slot.blocked = None;
            if slot.is_leaving() {
                self.remove_slot(agent);
            }
        }
        for place in places {
            if let Some(envelope) = self.slab.remove(place) {
                self.pending_beside_slab -= envelope.more_than_one();
                let waits = if envelope.attempts > 0 { Place::Retry } else { Place::Delayed };
                let stood = stand.get(&place).copied().unwrap_or(waits);
                self.count_remains(stood, envelope.deliveries_left());
                self.give_up_all(envelope, Reason::Stopped);
            }
        }
        // What was delayed still counts against its mailbox, into which nothing gets any more.
        let held = self.agents.iter_with_leaving().filter_map(|agent| self.agents.get(agent));
        let held: u64 = held.map(|slot| slot.mailbox.held_bytes()).sum();
        self.memory_left = ordinary_memory(self.config.memory_max).cast_signed() - held.cast_signed();
    }
}

/// What is left to do for a message that was to go into its mailbox.
enum Enqueued {
    /// Nothing.
    Done,
    /// Its receiver may have to be scheduled.
    Unscheduled,
    /// Its receiver's breaker is open, and the message does not wait for it.
    TurnedAway(Envelope),
    /// The shard holds as many messages as it can. This is the generation of the receiver.
    Full(Envelope, u32),
}

/// Puts a message that its mailbox holds into its lane, and the agent into the run queue.
#[inline(always)]
fn enqueue(
    slot: &mut AgentSlot,
    slab: &mut Slab<Envelope>,
    run_queue: &mut VecDeque<AgentIndex>,
    envelope: Envelope,
    index: AgentIndex,
) -> Enqueued {
    let priority = envelope.message.priority();
    let shut = slot.guard == Guard::Shut;
    if shut && envelope.message.when_unavailable() == WhenUnavailable::FailFast {
        return Enqueued::TurnedAway(envelope);
    }
    match slab.insert(envelope) {
        Ok(place) => {
            slot.mailbox.push(slab, place, priority);
            if slot.queued {
                return Enqueued::Done;
            }
            if !shut && slot.outbox.is_empty() && matches!(slot.behaviour, Behaviour::Native(_) | Behaviour::Away) {
                slot.queued = true;
                run_queue.push_back(index);
                return Enqueued::Done;
            }
            Enqueued::Unscheduled
        }
        Err(envelope) => Enqueued::Full(envelope, slot.generation),
    }
}
