//! Trace and span ids, derived from the ids of conversations and messages.
//!
//! All messages of a conversation belong to one trace. Nothing has to be stored or to travel with a message for that:
//! every place that knows the message computes the same ids. A trace context travels only with what belongs to the trace
//! of another message: one that came from outside, one without a conversation that was sent in a handler, and replies.

use crate::message::{AgentId, ConversationId, Message, MessageId, TraceContext};
use crate::trace::record::{Admitted, Cause};

/// Derives the ids of one router.
#[derive(Clone, Copy, Debug)]
pub struct TraceIds {
    /// Differs from start to start, because peers use textual conversation ids again.
    salt: u64,
}

/// What a span of a message describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanPart {
    /// Its way from its admission to the first mailbox or shard.
    Send,
    /// Its way to another shard.
    Cross,
    /// Its way into the journal.
    Journal,
    /// Its time in the mailbox.
    Wait,
    /// One attempt.
    Handle(u8),
    /// The attempt after which the message was settled, whatever its number.
    HandleLast,
    /// Its end.
    Settle,
}

impl SpanPart {
    fn number(self) -> u64 {
        match self {
            Self::Send => 1,
            Self::Cross => 2,
            Self::Journal => 3,
            Self::Wait => 4,
            Self::HandleLast => 5,
            Self::Settle => 6,
            Self::Handle(attempt) => 0x100 + u64::from(attempt),
        }
    }
}

impl TraceIds {
    /// Creates the ids of a router with this salt.
    pub const fn new(salt: u64) -> Self {
        Self { salt }
    }

    /// Returns a number that differs from start to start.
    pub const fn salt(self) -> u64 {
        self.salt
    }

    /// Returns the trace of an admitted message: the one that it was sent in, that of its conversation, or one of its own.
    pub fn trace(self, message: MessageId, admitted: &Admitted) -> [u8; 16] {
        self.of(message, admitted.conversation, admitted.context)
    }

    /// Returns the trace of the message in whose handler another one was sent.
    pub fn trace_of_cause(self, cause: Cause) -> [u8; 16] {
        self.of(cause.message, cause.conversation, cause.context)
    }

    fn of(self, message: MessageId, conversation: Option<ConversationId>, context: Option<TraceContext>) -> [u8; 16] {
        if let Some(context) = context {
            return context.trace_id;
        }
        let (high, low) = halves(conversation.map_or(message.to_u128(), ConversationId::to_u128));
        let first = mixed(high ^ mixed(low ^ self.salt));
        let second = mixed(low ^ mixed(high ^ self.salt.rotate_left(32)));
        let id = u128::from(first) << 64 | u128::from(second);
        id.max(1).to_be_bytes()
    }

    /// Returns the trace of a message with this conversation and trace context, as hexadecimal digits.
    pub fn text(
        self,
        message: MessageId,
        conversation: Option<ConversationId>,
        context: Option<TraceContext>,
    ) -> String {
        let id = self.of(message, conversation, context.filter(TraceContext::is_valid));
        format!("{:032x}", u128::from_be_bytes(id))
    }

    /// Returns the span of a part of a message's way to a receiver. What does not depend on the receiver has none.
    pub fn span(self, message: MessageId, receiver: Option<AgentId>, part: SpanPart) -> [u8; 8] {
        let (high, low) = halves(message.to_u128());
        let (agent_high, agent_low) = receiver.map_or((0, 0), |receiver| halves(receiver.to_u128()));
        let id = mixed(mixed(mixed(low ^ self.salt) ^ high) ^ agent_high ^ agent_low.rotate_left(7) ^ part.number());
        id.max(1).to_be_bytes()
    }

    /// Returns the context that a message hands on to where it is read: its trace, and the span in which it was sent. None
    /// if it has no id yet.
    pub fn of_message(self, message: &Message) -> Option<TraceContext> {
        let id = message.id()?;
        let inherited = message.trace().filter(TraceContext::is_valid);
        let trace_id = self.of(id, message.conversation(), inherited);
        let flags = inherited.map_or(u8::from(message.is_watched()), |context| context.flags);
        Some(TraceContext { trace_id, span_id: self.span(id, None, SpanPart::Send), flags })
    }

    /// Returns the context that a watched message hands on to one that this agent sends in its handler: its trace, and the
    /// span of the call.
    pub fn of_handler(self, handled: Cause, agent: Option<AgentId>) -> TraceContext {
        let flags = handled.context.map_or(1, |context| context.flags);
        let span_id = self.span(handled.message, agent, SpanPart::HandleLast);
        TraceContext { trace_id: self.trace_of_cause(handled), span_id, flags }
    }
}

#[allow(clippy::cast_possible_truncation)] // Both halves are used.
fn halves(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

/// The finalizer of `SplitMix64`.
const fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const IDS: TraceIds = TraceIds::new(7);

    fn message(number: u128) -> MessageId {
        MessageId::from_u128(number).expect("it is not zero")
    }

    #[test]
    fn a_conversation_is_one_trace_and_a_context_decides() {
        let talk = Some(ConversationId::of_text("talk"));
        assert_eq!(IDS.of(message(1), talk, None), IDS.of(message(2), talk, None));
        assert_ne!(IDS.of(message(1), None, None), IDS.of(message(2), None, None));
        assert_ne!(TraceIds::new(8).of(message(1), talk, None), IDS.of(message(1), talk, None));
        let handled = Cause { message: message(1), conversation: None, context: None };
        let handed_on = IDS.of_handler(handled, Some(AgentId::of_text("agent")));
        assert_eq!((IDS.of(message(2), None, Some(handed_on)), handed_on.flags), (IDS.trace_of_cause(handled), 1));
        let next = Cause { message: message(2), conversation: None, context: Some(handed_on) };
        assert_eq!(IDS.trace_of_cause(next), IDS.trace_of_cause(handled), "it is handed on from message to message");
        assert_eq!(IDS.text(message(1), None, None), IDS.text(message(2), None, Some(handed_on)));
    }

    #[test]
    fn spans_of_messages_receivers_and_parts_differ() {
        let receivers = [None, Some(AgentId::of_text("a")), Some(AgentId::of_text("b"))];
        let parts = [SpanPart::Send, SpanPart::Cross, SpanPart::Journal, SpanPart::Wait, SpanPart::HandleLast];
        let parts = parts.into_iter().chain([SpanPart::Settle, SpanPart::Handle(1), SpanPart::Handle(2)]);
        let mut seen = HashSet::new();
        for part in parts {
            for receiver in receivers {
                assert!((1..100).all(|number| seen.insert(IDS.span(message(number), receiver, part))));
            }
        }
    }
}
