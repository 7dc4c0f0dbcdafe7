//! What is told of a conversation's protocol, to people and to agents: how it stands, and what broke it.

use std::fmt;

use super::Side;
use crate::message::{AgentId, ConversationId, MessageId, Performative, WallTime};

/// A message that its protocol does not allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Who began the conversation.
    pub initiator: AgentId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The conversation as the message names it.
    pub conversation_text: String,
    /// The protocol that it is held to.
    pub protocol: String,
    /// The protocol that the message names, if it names another one.
    pub named: Option<String>,
    /// How the exchange with this participant stands.
    pub state: String,
    /// Which side the sender is on.
    pub side: Side,
    /// The message.
    pub message: Option<MessageId>,
    /// What it does.
    pub performative: Performative,
    /// Who sent it.
    pub sender: AgentId,
    /// Whom it is for.
    pub receiver: AgentId,
    /// What the sender could have sent instead.
    pub allowed: Vec<Performative>,
    /// Whether it was refused. Otherwise it was delivered all the same.
    pub refused: bool,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, state, side, performative, allowed, .. } = self;
        if let Some(named) = &self.named {
            return write!(formatter, "the conversation is held to {protocol}, and the message names {named}");
        }
        write!(formatter, "{protocol}: in the state {state} the {side} may send ")?;
        match allowed.split_last() {
            None => formatter.write_str("nothing")?,
            Some((last, [])) => write!(formatter, "{last}")?,
            Some((last, others)) => {
                let others: Vec<_> = others.iter().map(|act| act.as_str()).collect();
                write!(formatter, "{} or {last}", others.join(", "))?;
            }
        }
        write!(formatter, ", and sent {performative}")
    }
}

/// How a conversation stands in its protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtocolView {
    /// The protocol's name.
    pub name: String,
    /// Everyone whom the initiator exchanged messages with, in the order of
    /// [`ConversationView::participants`](crate::conversation::ConversationView::participants).
    pub parties: Vec<PartyView>,
}

/// How the exchange with one participant stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyView {
    /// Who.
    pub participant: AgentId,
    /// The state.
    pub state: String,
    /// Whether the exchange may end here.
    pub may_end: bool,
    /// Whether the initiator cancelled and waits for the answer.
    pub cancelling: bool,
    /// By when the next step is wanted: the `reply-by` of the last one.
    pub next_by: Option<WallTime>,
}
