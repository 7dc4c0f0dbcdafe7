//! Which dead letters are meant.

use super::{DeadLetter, DeadLetterId, DeadLetterReason};
use crate::message::{AgentId, ConversationId, Message, Performative, Receiver, WallTime};

/// Which dead letters are meant: those that have everything that is named here. Without any name it is all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeadLetterFilter {
    /// This one.
    pub id: Option<DeadLetterId>,
    /// Given up for this reason.
    pub reason: Option<DeadLetterReason>,
    /// For this agent, alone or among others.
    pub receiver: Option<AgentId>,
    /// From this agent.
    pub sender: Option<AgentId>,
    /// Of a conversation with this id, whoever began it.
    pub conversation: Option<ConversationId>,
    /// With this performative.
    pub performative: Option<Performative>,
    /// Given up at this moment or later.
    pub since: Option<WallTime>,
    /// Given up before this moment.
    pub until: Option<WallTime>,
}

impl DeadLetterFilter {
    /// The one dead letter with this number.
    pub fn only(id: DeadLetterId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// Whether this letter is meant.
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

/// What is looked for among a shard's dead letters, and between which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeadLetterSearch {
    /// Which letters are meant.
    pub filter: DeadLetterFilter,
    /// Only letters that came after this one of the same shard, which need not be there any more.
    pub after: Option<DeadLetterId>,
    /// Only letters that came before this one of the same shard, which need not be there any more.
    pub before: Option<DeadLetterId>,
}
