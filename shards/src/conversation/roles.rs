//! Resolves the conversation of text-borne messages, and checks for room for all receivers.

use std::sync::Arc;

use super::initiators::{CachedInitiator, InitiatorKey};
use super::{Conversations, OwnConversation};
use crate::message::delivery_meta::DeliveryFlags;
use crate::message::{AgentId, ConversationId, ConversationRole, Message};
use crate::outcome::DeadLetterReason;

impl Conversations {
    /// Resolves the role of a text-borne message's sender: which of the conversations with this id it belongs to, one
    /// begun by the sender or one that the receiver drew it into. A message that names a protocol that cannot begin
    /// with it, and belongs to neither, is left to the receiver's shard, which knows what the receiver began.
    #[cold]
    pub fn resolve_role(
        &mut self,
        message: &mut Message,
        id: ConversationId,
        target: AgentId,
        now_ms: u64,
    ) -> Result<(), DeadLetterReason> {
        let Some(sender) = message.sender() else { return Ok(()) };
        let own = self.own(sender, id, target);
        let noted = self.initiators.read(&InitiatorKey { participant: sender, conversation: id, peer: target }, now_ms);
        message.delivery_meta_mut().flags.set(DeliveryFlags::TEXT_BORNE, true);
        match (own, noted) {
            (OwnConversation::WithPeer, None) => message.set_role(ConversationRole::Initiator),
            (_, None) => {
                let begins_nothing = sender != target
                    && self.hold_to_protocols()
                    && self.begins_nothing(message)
                    && self.allows(sender, id, target, message) != Some(true);
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

    /// Whether the message belongs to the sender's own conversation, if sender and receiver each began one with this
    /// id, or the receiver speaks in a third agent's. Decided by what it replies to, then by the protocol, then by what
    /// that allows.
    fn is_of_own(
        &self,
        id: ConversationId,
        message: &Message,
        note: &CachedInitiator,
    ) -> Result<bool, DeadLetterReason> {
        let (Some(sender), Some(target)) = (message.sender(), message.target()) else { return Ok(true) };
        if let Some(question) = message.in_reply_to() {
            let answers_note = note.asked == Some(question);
            if answers_note != self.answers(sender, id, target, question) {
                return Ok(!answers_note);
            }
        }
        let own_allows = self.allows(sender, id, target, message);
        let named = message.protocol_term();
        let note_is_meant = named.is_none() || self.is_same_protocol(note.protocol, named);
        match own_allows {
            Some(false) => Ok(false),
            Some(true) if !note_is_meant => Ok(true),
            _ => Err(DeadLetterReason::AmbiguousConversation),
        }
    }

    /// Checks whether a conversation has room for all receivers of a message, as far as that is known here: a
    /// conversation kept elsewhere has at least its initiator and the sender.
    #[cold]
    pub fn has_room_for_all(
        &self,
        message: &Message,
        id: ConversationId,
        agents: &Arc<[AgentId]>,
    ) -> Result<(), (usize, usize)> {
        let Some(sender) = message.sender() else { return Ok(()) };
        match message.role() {
            // Each receiver began its own conversation.
            ConversationRole::Participant => Ok(()),
            ConversationRole::Initiator => self.room_for(sender, id, agents.iter().copied()),
            ConversationRole::Member => match message.initiator() {
                Some(began) => self.room_for(began, id, agents.iter().copied()),
                None => Ok(()),
            },
            ConversationRole::Unresolved => {
                let is_own = |peer: &AgentId| {
                    !self.initiators.has(&InitiatorKey { participant: sender, conversation: id, peer: *peer })
                };
                let own: Vec<AgentId> = agents.iter().copied().filter(is_own).collect();
                self.room_for(sender, id, own.into_iter())
            }
        }
    }

    /// Records the initiator of a text-borne message's conversation. Returns when to check the entry, if it is new.
    pub fn cache_initiator(&mut self, key: InitiatorKey, note: CachedInitiator, now_ms: u64) -> Option<u64> {
        self.initiators.write(key, note, now_ms).then(|| now_ms + self.limits.timeout_ms)
    }

    /// Drops an entry not used for a conversation's timeout, or returns when to check again.
    pub fn time_out_initiator(&mut self, key: &InitiatorKey, now_ms: u64) -> Option<u64> {
        self.initiators.time_out(key, now_ms, self.limits.timeout_ms)
    }

    /// Drops an entry for which no timer could be armed.
    pub fn forget_initiator(&mut self, key: &InitiatorKey) {
        self.initiators.time_out(key, u64::MAX, 0);
    }
}
