//! Deadlines: replies due by a time (`reply-by`), and remaining time passed on to the messages a handler sends.
//!
//! `reply-by` is wall time and converted to monotonic time when its message is accepted, so a jump of the wall clock
//! makes no reply early or late. Any reply counts, including `agree` and `refuse`: `reply-by` is the latest time at
//! which the sender wants a response (FIPA SC00061). A message to several agents is answered by the first reply.

use std::time::Duration;

use crate::base::slab::NONE;
use crate::dead_letter::DeadLetterReason;
use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::notice::{NO_REPLY, describe, tells_of_failure};
use crate::message::{AgentId, ConversationId, Message, MessageBuilder, Performative, Receipt};
use crate::replies::pending_replies::PendingReply;
use crate::shard::agent::Context;
use crate::shard::agent::registry::AgentIndex;
use crate::shard::delivery_error::DeliveryError;
use crate::shard::io::{AskError, Awaited, Event};
use crate::shard::{Alarm, SWEEP_INTERVAL_MS, Shard, ShardPhase};

impl Context<'_> {
    /// Returns the time left for `message` in whole milliseconds: until its lifetime ends or until its `reply-by`,
    /// whichever comes first. Returns [`Duration::MAX`] for messages without a deadline, such as the router's own
    /// notices.
    pub fn remaining(&self, message: &Message) -> Duration {
        let shard = &*self.shard;
        let lifetime = match message.delivery_meta().deadline_ms {
            u64::MAX => Duration::MAX,
            // It was never delivered, so it has the default timeout of this router.
            0 => shard.config.message_timeout.as_duration(),
            deadline_ms => Duration::from_millis(deadline_ms.saturating_sub(shard.clock.now_ms())),
        };
        match message.reply_by() {
            Some(moment) => lifetime.min(Duration::from_millis(shard.clock.until(moment))),
            None => lifetime,
        }
    }

    /// Limits the lifetime of a message under construction to that of `message`, for what a handler sends on behalf of
    /// the message it handles. A shorter lifetime is kept. A `reply-by` is moved to that of `message` if it is later;
    /// none is added. The minimum is one millisecond.
    pub fn pass_deadline(&self, message: &Message, builder: MessageBuilder) -> MessageBuilder {
        let mut remaining = self.remaining(message);
        if !builder.has_lifetime() {
            remaining = remaining.min(self.shard.config.message_timeout.as_duration());
        }
        let builder = match message.reply_by() {
            Some(moment) => builder.reply_by_at_most(moment),
            None => builder,
        };
        // A lifetime counts from the delivery time if there is one.
        let delay_ms = builder.deliver_at_of().map_or(0, |moment| self.shard.clock.until(moment));
        builder.within(remaining.saturating_sub(Duration::from_millis(delay_ms)))
    }
}

impl Shard {
    /// Records a message with `reply-by` that its sender has just sent. Returns whether there was room; replies to the
    /// shard's own gateway are tracked elsewhere.
    #[cold]
    pub(in crate::shard) fn expect_reply(&mut self, agent: AgentIndex, envelope: &Envelope) -> bool {
        if agent == self.agents.gateway() || self.phase == ShardPhase::Stopped {
            return true;
        }
        let message = &envelope.message;
        let Some(reply_by) = message.reply_by() else { return true };
        let due_ms = self.clock.now_ms().saturating_add(self.clock.until(reply_by));
        let Some(slot) = self.agents.get_mut(agent) else { return true };
        if self.replies.pending.bound(slot.id, message, 0).is_some() {
            return false;
        }
        let Some(question) = PendingReply::new(message, slot.id, agent, due_ms, describe(message)) else {
            return false;
        };
        let Some((place, number)) = self.replies.pending.insert(question, &mut slot.first_reply) else {
            return false;
        };
        self.arm_reply(place, number, due_ms)
    }

    /// Arms a timer for a pending reply. The entry is dropped if there is no room for the timer.
    fn arm_reply(&mut self, place: u32, number: u32, at_ms: u64) -> bool {
        let timer = self.timers.insert(at_ms, Alarm::PendingReply { place, number }).ok();
        let armed = timer.is_some();
        if let Some(question) = self.replies.pending.get_mut(place) {
            question.timer = timer;
        }
        if !armed {
            self.forget_reply(place);
        }
        armed
    }

    fn forget_reply(&mut self, place: u32) {
        let Some(agent) = self.replies.pending.get(place).map(|question| question.agent) else { return };
        let mut nowhere = NONE;
        let head = self.agents.get_mut(agent).map_or(&mut nowhere, |slot| &mut slot.first_reply);
        if let Some(timer) = self.replies.pending.remove(place, head).and_then(|question| question.timer) {
            self.timers.cancel(timer);
        }
    }

    /// Drops an agent's pending replies.
    pub(in crate::shard) fn forget_replies_of(&mut self, agent: AgentIndex) {
        while let Some(place) = self.agents.get(agent).map(|slot| slot.first_reply).filter(|place| *place != NONE) {
            self.forget_reply(place);
        }
    }

    /// Drops the pending replies of the initiator of a conversation that has ended.
    pub(in crate::shard) fn forget_replies_in(
        &mut self,
        initiator: crate::message::AgentId,
        conversation: ConversationId,
    ) {
        if self.replies.pending.len() > 0 {
            for place in self.replies.pending.of_conversation(initiator, conversation) {
                self.forget_reply(place);
            }
        }
    }

    /// Matches a message that entered its receiver's mailbox with the pending reply it may resolve.
    #[cold]
    pub(in crate::shard) fn match_reply(&mut self, message: &mut Message, agent: AgentIndex) {
        let Some(asker) = self.agents.get(agent).map(|slot| slot.id) else { return };
        let Some(place) = self.replies.pending.answered_by(asker, message) else { return };
        let Some(question) = self.replies.pending.get(place) else { return };
        if question.due_ms < self.clock.now_ms() && !question.overdue {
            // Its timer is about to fire: the sender is notified first that no reply arrived in time, then gets the
            // reply.
            self.on_reply_timeout(place, question.number);
        }
        let Some((late, done)) = self.replies.pending.answer(place, self.clock.now_ms()) else {
            return message.set_late();
        };
        if late {
            message.set_late();
        }
        if done {
            self.forget_reply(place);
        }
    }

    /// Drops a pending reply whose sender was notified that the message was not delivered.
    #[cold]
    pub(in crate::shard) fn match_failure(&mut self, agent: AgentIndex, correlation: crate::message::Correlation) {
        let Some(asker) = self.agents.get(agent).map(|slot| slot.id) else { return };
        if let Some(place) = self.replies.pending.undeliverable(asker, correlation) {
            self.forget_reply(place);
        }
    }

    /// Handles a due pending reply: notifies its sender if no reply arrived, and keeps the entry for the idle timeout
    /// of a conversation to mark a late reply.
    pub(in crate::shard) fn on_reply_timeout(&mut self, place: u32, number: u32) {
        let Some(question) = self.replies.pending.get(place).filter(|question| question.number == number) else {
            return;
        };
        if question.overdue {
            return self.forget_reply(place);
        }
        let (agent, answered) = (question.agent, question.answered);
        if let Some(timer) = question.timer {
            self.timers.cancel(timer);
        }
        if !answered {
            if self.agents.get(agent).is_some_and(|slot| !slot.mailbox.has_room_for_notice()) {
                // The notice is not reduced to a count: the entry waits here instead.
                self.arm_reply(place, number, self.clock.now_ms() + SWEEP_INTERVAL_MS);
                return;
            }
            // From now on the router's own report about it does not remove it.
            self.replies.pending.set_overdue(place);
            self.notify_missing_reply(place);
        }
        if self.replies.pending.set_overdue(place) {
            self.arm_reply(place, number, self.clock.now_ms() + self.conversations.timeout_ms());
        } else {
            self.forget_reply(place);
        }
    }

    fn notify_missing_reply(&mut self, place: u32) {
        let Some(question) = self.replies.pending.get(place) else { return };
        let (asker, message, reply_by) = (question.asker, question.message, question.reply_by);
        let (put_to, conversation) = (question.put_to.agent(), question.conversation);
        let trace = question.trace.as_deref().copied();
        let content = format!(
            "(({}){NO_REPLY}\"no reply came by {}\"))",
            question.description,
            crate::message::date::date_text(reply_by)
        );
        let words = question.words.as_deref();
        let mut builder = Message::builder(Performative::Failure).receiver(asker).content(content);
        if let Some(text) = words.and_then(|words| words.conversation.as_deref()) {
            builder = builder.conversation_text(text);
        }
        if let Some(conversation) = question.conversation {
            builder = builder.conversation_as(conversation, question.role);
        }
        if let Some(text) = words.and_then(|words| words.reply_with.as_deref()) {
            builder = builder.in_reply_to_text(text);
        } else if let Some(correlation) = question.correlation {
            builder = builder.in_reply_to(correlation);
        }
        self.replies.pending.count_unanswered();
        self.outputs.report(|| Event::ReplyMissing { asker, asked: put_to, message, conversation, trace, reply_by });
        self.send_notice(builder, asker, Reservation::Nothing);
    }

    /// Drops all pending replies when the router stops.
    pub(in crate::shard) fn drop_pending_replies(&mut self) {
        let askers: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in askers {
            self.forget_replies_of(agent);
        }
    }

    /// Whether a message replies to a request of its receiver, which lives here, according to the shard's pending
    /// replies, the message's conversation or the message it was built as a reply to.
    pub(in crate::shard) fn is_reply(&self, message: &Message, index: AgentIndex) -> bool {
        let Some(slot) = self.agents.get(index) else { return false };
        if index == self.agents.gateway() {
            return message.in_reply_to().is_some_and(|correlation| self.replies.asks.contains(correlation));
        }
        message.looks_like_reply()
            || (slot.first_reply != NONE && self.replies.pending.answered_by(slot.id, message).is_some())
    }

    #[inline]
    pub(in crate::shard) fn pop_mail(&mut self, index: AgentIndex) -> Option<Envelope> {
        self.agents.get_mut(index)?.mailbox.pop(&mut self.held)
    }
}

/// Replies to callers outside the router.
impl Shard {
    /// The name of an agent of this shard.
    fn name_of(&self, agent: AgentId) -> Option<Box<str>> {
        let slot = self.agents.get(self.agents.find(agent)?)?;
        Some(slot.name.as_ref().into())
    }

    /// Passes the gateway's mail to the callers that asked.
    pub(in crate::shard) fn answer_asks(&mut self) -> u32 {
        let mut handled = 0;
        while let Some(mut envelope) = self.pop_mail(self.agents.gateway()) {
            handled += 1;
            let Some(key) = self.agents.key(self.agents.gateway()) else { return handled };
            let reservation = Reservation::in_mailbox(key, &envelope);
            let asked = envelope.message.in_reply_to().filter(|correlation| self.replies.asks.contains(*correlation));
            match (envelope.kind(), asked) {
                (EnvelopeKind::Notice, Some(correlation)) => {
                    if tells_of_failure(envelope.message.performative()) {
                        if let Some(error) = DeliveryError::of_notice(&envelope.message) {
                            let error = error.with_name(|receiver| self.name_of(receiver));
                            self.end_ask(correlation, Err(AskError::Undeliverable(Box::new(error))));
                        }
                    } else if self.replies.asks.awaits(correlation, Awaited::Receipt) {
                        self.end_ask(correlation, Ok(envelope.message));
                    }
                    // To others a receipt is not the reply: the call keeps waiting.
                }
                (EnvelopeKind::Notice, None) => {}
                (EnvelopeKind::Message, Some(correlation)) => {
                    self.ledger.process(1);
                    if envelope.is_watched() {
                        self.hand_out_watched(&mut envelope);
                    }
                    self.settle_durable(envelope.journal());
                    let wanted = if envelope.message.receipt() == Receipt::Processed {
                        Receipt::Processed
                    } else {
                        Receipt::None
                    };
                    self.send_receipt(&envelope.message, wanted, reservation);
                    // An agree announces the reply; it is not the reply itself.
                    let is_awaited = self.replies.asks.awaits(correlation, Awaited::Reply);
                    if is_awaited && envelope.message.performative() != Performative::Agree {
                        self.end_ask(correlation, Ok(envelope.message));
                    }
                }
                (EnvelopeKind::Message, None) => self.dead_letter(envelope, DeadLetterReason::NobodyAsked, reservation),
            }
        }
        handled
    }
}
