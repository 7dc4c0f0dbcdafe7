//! A message passes its conversation: whose it is, and whether its protocol allows it.

use crate::conversation::initiators::{CachedInitiator, InitiatorKey};
use crate::conversation::{ConversationIndex, OwnConversation, Passage, Passed, REPLY_TO_NOTED_MAX, Timeout};
use crate::mailbox::Envelope;
use crate::message::{AgentId, ConversationId, ConversationRole, Message, Reliability};
use crate::outcome::DeadLetterReason;
use crate::planted::{self, Bug};
use crate::shard::io::Event;
use crate::shard::{Alarm, SWEEP_INTERVAL_MS, Shard};

impl Shard {
    /// Finds out how the sender of a text-borne message stands to its conversation: whose it is out of those with this id
    /// that the sender began, or was drawn into by the receiver. A message that names a protocol that can't begin with it,
    /// in neither of them, is left for the receiver's shard to judge, which knows what the receiver began.
    #[cold]
    pub(in crate::shard) fn find_role(
        &mut self,
        envelope: &mut Envelope,
        id: ConversationId,
        target: AgentId,
    ) -> Result<(), DeadLetterReason> {
        let Some(sender) = envelope.message.sender() else { return Ok(()) };
        let own = self.dialogue.conversations.own(sender, id, target);
        let noted = self
            .dialogue
            .initiators
            .read(&InitiatorKey { participant: sender, conversation: id, peer: target }, self.clock.now_ms());
        envelope.text_borne = true;
        let message = &mut envelope.message;
        match (own, noted) {
            (OwnConversation::WithPeer, None) => message.set_role(ConversationRole::Initiator),
            (_, None) => {
                let begins_nothing = sender != target
                    && self.dialogue.conversations.hold_to_protocols()
                    && self.dialogue.conversations.begins_nothing(message)
                    && self.dialogue.conversations.allows(sender, id, target, message) != Some(true);
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
    pub(in crate::shard) fn is_of_own(
        &self,
        id: ConversationId,
        message: &Message,
        note: &CachedInitiator,
    ) -> Result<bool, DeadLetterReason> {
        let (Some(sender), Some(target)) = (message.sender(), message.target()) else { return Ok(true) };
        let conversations = &self.dialogue.conversations;
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
            _ => Err(DeadLetterReason::AmbiguousConversation),
        }
    }

    /// Lets the message pass its conversation, which lives here.
    #[inline(always)]
    pub(in crate::shard) fn converse(
        &mut self,
        envelope: &mut Envelope,
        initiator: AgentId,
        target: AgentId,
    ) -> Result<(), DeadLetterReason> {
        if self.dialogue.conversations.hold_to_protocols() {
            return self.converse_by_protocol(envelope, initiator, target);
        }
        let message = &envelope.message;
        let (Some(id), Some(sender)) = (message.conversation(), message.sender()) else { return Ok(()) };
        let passage = Passage { initiator, sender, receiver: target, message, now_ms: self.clock.now_ms() };
        let (index, passed) = match self.dialogue.conversations.pass(id, &passage) {
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
        self.dialogue.conversations.rejoin(id, passage).map(Some)
    }

    /// As [`Shard::converse`], where conversations are held to their protocols.
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
        let (index, passed) = match self.dialogue.conversations.pass_by_protocol(id, &passage, self.clock.wall()) {
            Err(DeadLetterReason::NotInConversation) if self.may_be_behind(message) => {
                self.dialogue.conversations.rejoin(id, &passage)?
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

    /// Whether a durable message passed its conversation in an earlier run, or came to its receiver already, and is sent again:
    /// the step was taken, and the conversation may have ended since.
    #[cold]
    pub(in crate::shard) fn has_passed(&mut self, id: ConversationId, passage: &Passage<'_>) -> bool {
        self.dialogue.conversations.repeats(id, passage).is_some()
            || self.dialogue.conversations.may_be_behind(self.clock.now_ms())
                && self.has_come(passage.message, passage.receiver)
    }

    pub(in crate::shard) fn arm_conversation(
        &mut self,
        initiator: AgentId,
        id: ConversationId,
        index: ConversationIndex,
    ) -> Result<(), DeadLetterReason> {
        let ends_ms = self.clock.now_ms() + self.dialogue.conversations.timeout_ms();
        if let Ok(timer) = self.timers.insert(ends_ms, Alarm::Conversation(index)) {
            self.dialogue.conversations.set_timer(index, Some(timer));
            return Ok(());
        }
        // A conversation that could never time out is not begun.
        self.dialogue.conversations.close(initiator, id);
        Err(DeadLetterReason::TooManyConversations)
    }

    pub(in crate::shard) fn on_conversation_timeout(&mut self, index: ConversationIndex) {
        if self.links.is_any_backlogged() {
            let timer = self.timers.insert(self.clock.now_ms() + SWEEP_INTERVAL_MS, Alarm::Conversation(index)).ok();
            return self.dialogue.conversations.set_timer(index, timer);
        }
        match self.dialogue.conversations.time_out(index, self.clock.now_ms()) {
            Timeout::Gone => {}
            Timeout::NotBefore(again_ms) => {
                // A timer has just fired, so there is room for one.
                let timer = self.timers.insert(again_ms, Alarm::Conversation(index)).ok();
                self.dialogue.conversations.set_timer(index, timer);
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
        let Some((timer, durable)) = self.dialogue.conversations.close(initiator, id) else { return };
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        if durable {
            self.keep_end_of_conversation(initiator, id);
        }
        self.forget_replies_in(initiator, id);
    }

    /// Remembers who began a text-borne conversation, for the receiver's answers.
    pub(in crate::shard) fn note_conversation(&mut self, message: &Message) {
        let (Some(conversation), Some(peer), Some(participant), Some(initiator)) =
            (message.conversation(), message.sender(), message.target(), message.initiator())
        else {
            return;
        };
        let reply_to = message.details().map_or(&[][..], |details| &details.reply_to);
        if participant == initiator {
            if !reply_to.is_empty() {
                self.dialogue.conversations.note_delegates(initiator, conversation, message);
            }
            return;
        }
        let note = CachedInitiator { initiator, asked: message.reply_with(), protocol: message.protocol_term() };
        self.write_note(InitiatorKey { participant, conversation, peer }, note);
        // Whoever gets the answers is a peer as well.
        for aid in reply_to.iter().take(REPLY_TO_NOTED_MAX) {
            let peer = aid.id();
            if peer != participant {
                self.write_note(InitiatorKey { participant, conversation, peer }, note);
            }
        }
    }

    pub(in crate::shard) fn write_note(&mut self, key: InitiatorKey, note: CachedInitiator) {
        if self.dialogue.initiators.write(key, note, self.clock.now_ms()) {
            let ends_ms = self.clock.now_ms() + self.dialogue.conversations.timeout_ms();
            if self.timers.insert(ends_ms, Alarm::CachedInitiator(key)).is_err() {
                self.dialogue.initiators.time_out(&key, u64::MAX, 0);
            }
        }
    }
}
