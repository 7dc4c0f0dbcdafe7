//! Trace and span ids, derived from the ids of conversations and messages.
//!
//! All messages of a conversation belong to one trace. Nothing has to be stored or to travel with a message for that:
//! every place that knows the message computes the same ids. Only a trace context that came from outside travels, with
//! the message and its replies.

use caxton_shards::message::{AgentId, ConversationId, Message, MessageId, TraceContext};
use caxton_shards::trace::{Admitted, Cause};

/// Derives the ids of one router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceIds {
    /// Differs from start to start, because peers use textual conversation ids again.
    salt: u64,
}

/// What a span of a message describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpanPart {
    Send,
    Cross,
    Journal,
    Wait,
    /// One attempt.
    Handle(u8),
    /// The attempt after which the message was settled, whatever its number.
    HandleLast,
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
    pub const fn new(salt: u64) -> Self {
        Self { salt }
    }

    /// Returns a number that differs from start to start.
    pub const fn salt(self) -> u64 {
        self.salt
    }

    /// Returns the trace of an admitted message: the one that it was sent in, that of its conversation, that of the
    /// message it replies to, or one of its own.
    pub fn trace(self, message: MessageId, admitted: &Admitted) -> [u8; 16] {
        if let Some(context) = admitted.context {
            return context.trace_id;
        }
        self.derived(message, admitted.conversation, admitted.cause)
    }

    /// Returns the trace of the message in whose handler another one was sent.
    pub fn trace_of_cause(self, cause: Cause) -> [u8; 16] {
        if let Some(context) = cause.context {
            return context.trace_id;
        }
        self.derived(cause.message, cause.conversation, None)
    }

    fn derived(self, message: MessageId, conversation: Option<ConversationId>, cause: Option<Cause>) -> [u8; 16] {
        let subject = match (conversation.or(cause.and_then(|cause| cause.conversation)), cause) {
            (Some(conversation), _) => conversation.to_u128(),
            (None, Some(cause)) => cause.message.to_u128(),
            (None, None) => message.to_u128(),
        };
        let (high, low) = halves(subject);
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
        let context = context.filter(TraceContext::is_valid);
        hexadecimal(&context.map_or_else(|| self.derived(message, conversation, None), |context| context.trace_id))
    }

    /// Returns the span of a part of a message's way to a receiver. What does not depend on the receiver has none.
    pub fn span(self, message: MessageId, receiver: Option<AgentId>, part: SpanPart) -> [u8; 8] {
        let (high, low) = halves(message.to_u128());
        let (agent_high, agent_low) = receiver.map_or((0, 0), |receiver| halves(receiver.to_u128()));
        let id = mixed(mixed(mixed(low ^ self.salt) ^ high) ^ agent_high ^ agent_low.rotate_left(7) ^ part.number());
        id.max(1).to_be_bytes()
    }

    /// Returns the context that a message hands on to where it is read: its trace, and the span in which it was sent.
    pub fn of_message(self, message: &Message) -> Option<TraceContext> {
        let id = message.id()?;
        let inherited = message.trace().filter(TraceContext::is_valid);
        let trace_id =
            inherited.map_or_else(|| self.derived(id, message.conversation(), None), |context| context.trace_id);
        let flags = inherited.map_or(u8::from(message.is_watched()), |context| context.flags);
        Some(TraceContext { trace_id, span_id: self.span(id, None, SpanPart::Send), flags })
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

/// Writes bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
    fn a_conversation_is_one_trace_and_a_reply_without_one_belongs_to_its_request() {
        let talk = Some(ConversationId::of_text("talk"));
        assert_eq!(IDS.derived(message(1), talk, None), IDS.derived(message(2), talk, None));
        assert_ne!(IDS.derived(message(1), None, None), IDS.derived(message(2), None, None));
        let cause = Cause { message: message(1), conversation: None, context: None };
        assert_eq!(IDS.derived(message(2), None, Some(cause)), IDS.trace_of_cause(cause));
        assert_eq!(IDS.trace_of_cause(cause), IDS.derived(message(1), None, None));
        assert_ne!(TraceIds::new(8).derived(message(1), talk, None), IDS.derived(message(1), talk, None));
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

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hexadecimal(&[0, 0x1f, 0xff]), "001fff");
    }
}
