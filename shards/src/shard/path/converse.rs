//! Conversations: finding a message's conversation and checking its protocol.

use crate::conversation::initiators::{CachedInitiator, InitiatorKey};
use crate::conversation::{ConversationIndex, Passage, Passed, REPLY_TO_NOTED_MAX, Timeout};
use crate::mailbox::Envelope;
use crate::message::{AgentId, ConversationId, ConversationRole, Message, Reliability};
use crate::outcome::DeadLetterReason;
use crate::planted::{self, Bug};
use crate::shard::io::Event;
use crate::shard::{Alarm, SWEEP_INTERVAL_MS, Shard};

impl Shard {
    /// Lets the message pass its conversation, which lives here.
    #[inline(always)]
    pub(in crate::shard) fn converse(
        &mut self,
        envelope: &mut Envelope,
        initiator: AgentId,
        target: AgentId,
    ) -> Result<(), DeadLetterReason> {
        if self.conversations.hold_to_protocols() {
            return self.converse_by_protocol(envelope, initiator, target);
        }
        let message = &envelope.message;
        let (Some(id), Some(sender)) = (message.conversation(), message.sender()) else { return Ok(()) };
        let passage = Passage { initiator, sender, receiver: target, message, now_ms: self.clock.now_ms() };
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
        // Most messages know it already, and a message that was not just written can be copied into a ring at once.
        if envelope.conversation_place != index.0 {
            envelope.conversation_place = index.0;
        }
        match passed {
            Passed::Began | Passed::BeganInViolation => self.arm_conversation(initiator, id, index),
            _ => Ok(()),
        }
    }

    /// Admits a message refused for this reason if it belongs to a conversation that was lost in a crash. Returns
    /// nothing if the message has reached its receiver before.
    #[cold]
    pub(in crate::shard) fn rejoin(
        &mut self,
        id: ConversationId,
        passage: &Passage<'_>,
        reason: DeadLetterReason,
    ) -> Result<Option<(ConversationIndex, Passed)>, DeadLetterReason> {
        if reason != DeadLetterReason::NotInConversation || !self.may_be_behind(passage.message) {
            return Err(reason);
        }
        if self.has_come(passage.message, passage.receiver) {
            return Ok(None);
        }
        self.conversations.rejoin(id, passage).map(Some)
    }

    /// Like [`Shard::converse`], with protocols enforced.
    #[inline(never)]
    pub(in crate::shard) fn converse_by_protocol(
        &mut self,
        envelope: &mut Envelope,
        initiator: AgentId,
        target: AgentId,
    ) -> Result<(), DeadLetterReason> {
        let message = &envelope.message;
        let (Some(id), Some(sender)) = (message.conversation(), message.sender()) else { return Ok(()) };
        let passage = Passage { initiator, sender, receiver: target, message, now_ms: self.clock.now_ms() };
        let durable = message.reliability() == Reliability::Durable;
        if durable && !planted::is(Bug::RecoveredConversationsEnforced) && self.has_passed(id, &passage) {
            return Ok(());
        }
        let (index, passed) = match self.conversations.pass_by_protocol(id, &passage, self.clock.wall()) {
            Err(DeadLetterReason::NotInConversation) if self.may_be_behind(message) => {
                self.conversations.rejoin(id, &passage)?
            }
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

    /// Whether a durable message is sent again that passed its conversation in an earlier run or has reached its
    /// receiver: the step was taken, and the conversation may have ended since.
    #[cold]
    pub(in crate::shard) fn has_passed(&mut self, id: ConversationId, passage: &Passage<'_>) -> bool {
        self.conversations.repeats(id, passage).is_some()
            || self.conversations.may_be_behind(self.clock.now_ms()) && self.has_come(passage.message, passage.receiver)
    }

    pub(in crate::shard) fn arm_conversation(
        &mut self,
        initiator: AgentId,
        id: ConversationId,
        index: ConversationIndex,
    ) -> Result<(), DeadLetterReason> {
        let ends_ms = self.clock.now_ms() + self.conversations.timeout_ms();
        if let Ok(timer) = self.timers.insert(ends_ms, Alarm::Conversation(index)) {
            self.conversations.set_timer(index, Some(timer));
            return Ok(());
        }
        // A conversation that could never time out is not opened.
        self.conversations.close(initiator, id);
        Err(DeadLetterReason::TooManyConversations)
    }

    pub(in crate::shard) fn on_conversation_timeout(&mut self, index: ConversationIndex) {
        if self.links.is_any_backlogged() {
            let timer = self.timers.insert(self.clock.now_ms() + SWEEP_INTERVAL_MS, Alarm::Conversation(index)).ok();
            return self.conversations.set_timer(index, timer);
        }
        match self.conversations.time_out(index, self.clock.now_ms()) {
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
                self.outputs.report(|| Event::ConversationTimedOut { initiator, conversation: id });
                self.forget_replies_in(initiator, id);
                self.notify_timeout(initiator, id, &participants);
            }
        }
    }

    pub(in crate::shard) fn close_conversation(&mut self, initiator: AgentId, id: ConversationId) {
        let Some((timer, durable)) = self.conversations.close(initiator, id) else { return };
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        if durable {
            self.keep_end_of_conversation(initiator, id);
        }
        self.forget_replies_in(initiator, id);
    }

    /// Records the initiator of a conversation with a textual id, for the receiver's replies.
    pub(in crate::shard) fn note_conversation(&mut self, message: &Message) {
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
        let note = CachedInitiator { initiator, asked: message.reply_with(), protocol: message.protocol_term() };
        self.write_note(InitiatorKey { participant, conversation, peer }, note);
        // The agents in reply-to are peers as well.
        for aid in reply_to.iter().take(REPLY_TO_NOTED_MAX) {
            let peer = aid.id();
            if peer != participant {
                self.write_note(InitiatorKey { participant, conversation, peer }, note);
            }
        }
    }

    pub(in crate::shard) fn write_note(&mut self, key: InitiatorKey, note: CachedInitiator) {
        if let Some(ends_ms) = self.conversations.cache_initiator(key, note, self.clock.now_ms()) {
            self.look_after_initiator(key, ends_ms);
        }
    }

    /// Examines an entry that may have been unused for a conversation's timeout.
    pub(in crate::shard) fn on_initiator_timeout(&mut self, key: InitiatorKey) {
        if let Some(again_ms) = self.conversations.time_out_initiator(&key, self.clock.now_ms()) {
            self.look_after_initiator(key, again_ms);
        }
    }

    /// Schedules another examination of an entry. One without a timer is dropped at once rather than kept indefinitely.
    fn look_after_initiator(&mut self, key: InitiatorKey, at_ms: u64) {
        if self.timers.insert(at_ms, Alarm::CachedInitiator(key)).is_err() {
            self.conversations.forget_initiator(&key);
        }
    }
}
