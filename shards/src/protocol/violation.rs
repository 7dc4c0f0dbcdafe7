//! Reports on a conversation's protocol: its state, and violations.

use std::fmt;

use super::Side;
use crate::message::{AgentId, ConversationId, MessageId, Performative, WallTime};

/// A message that its protocol does not allow.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Violation {
    /// The agent that began the conversation.
    pub initiator: AgentId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The conversation as named in the message.
    pub conversation_text: String,
    /// The protocol of the conversation.
    pub protocol: String,
    /// The protocol named in the message, if it is another one.
    pub named: Option<String>,
    /// The state of the exchange with this participant.
    pub state: String,
    /// The sender's side.
    pub side: Side,
    /// The message.
    pub message: Option<MessageId>,
    /// The message's act.
    pub performative: Performative,
    /// The sender.
    pub sender: AgentId,
    /// The receiver.
    pub receiver: AgentId,
    /// The acts that the sender could have used instead.
    pub allowed: Vec<Performative>,
    /// Whether the message was refused. Otherwise it was delivered all the same.
    pub refused: bool,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, state, side, performative, allowed, .. } = self;
        if let Some(named) = &self.named {
            return write!(formatter, "the conversation's protocol is {protocol}, but the message names {named}");
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

/// The state of a conversation in its protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtocolView {
    /// The protocol's name.
    pub name: String,
    /// Every agent that the initiator exchanged messages with, in the order of
    /// [`ConversationView::participants`](crate::conversation::ConversationView::participants).
    pub parties: Vec<PartyView>,
}

/// The state of the exchange with one participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyView {
    /// The participant.
    pub participant: AgentId,
    /// The state.
    pub state: String,
    /// Whether the exchange may end in this state.
    pub may_end: bool,
    /// Whether the initiator has cancelled and waits for the reply.
    pub cancelling: bool,
    /// When the next step is due: the `reply-by` of the last one.
    pub next_by: Option<WallTime>,
}
