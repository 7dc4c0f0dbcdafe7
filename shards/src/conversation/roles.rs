//! Whose conversation a text-borne message belongs to, and whether a conversation has room for all its receivers.

use std::sync::Arc;

use super::initiators::{CachedInitiator, InitiatorKey};
use super::{Conversations, OwnConversation};
use crate::message::{AgentId, ConversationId, ConversationRole, Message};
use crate::outcome::DeadLetterReason;

impl Conversations {
    /// Finds out how the sender of a text-borne message stands to its conversation: whose it is out of those with this id
    /// that the sender began, or was drawn into by the receiver. A message that names a protocol that can't begin with it,
    /// in neither of them, is left for the receiver's shard to judge, which knows what the receiver began.
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
        message.delivery_meta_mut().text_borne = true;
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

    /// Sender and receiver each began a conversation with this id, or the receiver speaks in a third agent's: whether the
    /// message belongs to the sender's own. What it answers says so, then the protocol, then what that allows.
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

    /// Whether a conversation has room for all receivers of a message, as far as that is known here: of a conversation that
    /// lives elsewhere, its initiator and the sender take part at least.
    #[cold]
    pub fn has_room_for_all(
        &self,
        message: &Message,
        id: ConversationId,
        agents: &Arc<[AgentId]>,
    ) -> Result<(), (usize, usize)> {
        let Some(sender) = message.sender() else { return Ok(()) };
        match message.role() {
            // Each receiver began a conversation of its own.
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

    /// Records who began a conversation that a text-borne message belongs to. Returns when to look after the entry, if it is
    /// new.
    pub fn cache_initiator(&mut self, key: InitiatorKey, note: CachedInitiator, now_ms: u64) -> Option<u64> {
        self.initiators.write(key, note, now_ms).then(|| now_ms + self.limits.timeout_ms)
    }

    /// Drops an entry that was not used for a conversation's timeout, or returns when to look again.
    pub fn time_out_initiator(&mut self, key: &InitiatorKey, now_ms: u64) -> Option<u64> {
        self.initiators.time_out(key, now_ms, self.limits.timeout_ms)
    }

    /// Drops an entry that nothing would look after.
    pub fn forget_initiator(&mut self, key: &InitiatorKey) {
        self.initiators.time_out(key, u64::MAX, 0);
    }
}
