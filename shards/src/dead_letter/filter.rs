//! Filters for dead letters.

use super::{DeadLetter, DeadLetterId, DeadLetterReason};
use crate::message::{AgentId, ConversationId, Message, Performative, Receiver, WallTime};

/// Selects dead letters: those that satisfy every condition set here. Without any condition, all of them.
///
/// ```
/// # use caxton_shards::dead_letter::{DeadLetterFilter, DeadLetterReason};
/// # use caxton_shards::message::AgentId;
/// // What was for the seller while it was not registered.
/// let filter = DeadLetterFilter {
///     reason: Some(DeadLetterReason::UnknownReceiver),
///     receiver: Some(AgentId::of_text("seller")),
///     ..DeadLetterFilter::default()
/// };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeadLetterFilter {
    /// The dead letter with this id.
    pub id: Option<DeadLetterId>,
    /// Dead-lettered for this reason.
    pub reason: Option<DeadLetterReason>,
    /// Addressed to this agent, alone or among others.
    pub receiver: Option<AgentId>,
    /// Sent by this agent.
    pub sender: Option<AgentId>,
    /// Of a conversation with this id, whatever its initiator.
    pub conversation: Option<ConversationId>,
    /// With this performative.
    pub performative: Option<Performative>,
    /// Dead-lettered at this time or later.
    pub since: Option<WallTime>,
    /// Dead-lettered before this time.
    pub until: Option<WallTime>,
}

impl DeadLetterFilter {
    /// Selects the dead letter with this id.
    pub fn only(id: DeadLetterId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// Whether the filter selects this dead letter.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let message = &letter.message;
        self.id.is_none_or(|id| id == letter.id)
            && self.reason.is_none_or(|reason| reason == letter.reason)
            && self.receiver.is_none_or(|receiver| is_for(message, receiver))
            && self.sender.is_none_or(|sender| message.sender() == Some(sender))
            && self.conversation.is_none_or(|conversation| message.conversation() == Some(conversation))
            && self.performative.is_none_or(|performative| message.performative() == performative)
            && self.since.is_none_or(|since| since <= letter.last)
            && self.until.is_none_or(|until| letter.last < until)
    }
}

fn is_for(message: &Message, agent: AgentId) -> bool {
    match message.receiver() {
        Receiver::Agents(agents) => agents.contains(&agent),
        _ => message.target() == Some(agent),
    }
}

/// A search among a shard's dead letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeadLetterSearch {
    /// The filter.
    pub filter: DeadLetterFilter,
    /// Only letters after this one of the same shard, which need not exist any more.
    pub after: Option<DeadLetterId>,
    /// Only letters before this one of the same shard, which need not exist any more.
    pub before: Option<DeadLetterId>,
}
