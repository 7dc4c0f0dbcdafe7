//! The parameters that have a meaning to the router: those of SC00061, and its own.

use super::lexer::{is_atom, is_list};
use crate::message::ParameterValue;

/// A parameter that may stand once in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::message) enum Parameter {
    Sender,
    Receiver,
    ReplyTo,
    Content,
    Language,
    Encoding,
    Ontology,
    Protocol,
    ConversationId,
    ReplyWith,
    InReplyTo,
    ReplyBy,
    Priority,
    Reliability,
    Receipt,
    WhenUnavailable,
    AttemptsMax,
    TimeToLiveMs,
    DeliverAt,
    MessageId,
    Traceparent,
    Capability,
    Choice,
}

/// A user-defined value in the form in which it reads back: a word or a list that is none becomes a string, and a string
/// that no string literal can hold becomes a byte-length-encoded one.
pub fn readable(value: ParameterValue) -> ParameterValue {
    match value {
        ParameterValue::Atom(text) if !is_atom(text.as_bytes()) => ParameterValue::text(text),
        ParameterValue::List(text) if !is_list(text.as_bytes()) => ParameterValue::text(text),
        ParameterValue::Text(text) => ParameterValue::text(text),
        value => value,
    }
}

/// No known name is longer.
const NAME_BYTES_MAX: usize = 18;

impl Parameter {
    /// The parameter with this name, in any case.
    pub fn named(name: &[u8]) -> Option<Self> {
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"sender" => Self::Sender,
            b"receiver" => Self::Receiver,
            b"reply-to" => Self::ReplyTo,
            b"content" => Self::Content,
            b"language" => Self::Language,
            b"encoding" => Self::Encoding,
            b"ontology" => Self::Ontology,
            b"protocol" => Self::Protocol,
            b"conversation-id" => Self::ConversationId,
            b"reply-with" => Self::ReplyWith,
            b"in-reply-to" => Self::InReplyTo,
            b"reply-by" => Self::ReplyBy,
            b"x-priority" => Self::Priority,
            b"x-reliability" => Self::Reliability,
            b"x-receipt" => Self::Receipt,
            b"x-when-unavailable" => Self::WhenUnavailable,
            b"x-attempts-max" => Self::AttemptsMax,
            b"x-time-to-live-ms" => Self::TimeToLiveMs,
            b"x-deliver-at" => Self::DeliverAt,
            b"x-message-id" => Self::MessageId,
            b"x-traceparent" => Self::Traceparent,
            b"x-capability" => Self::Capability,
            b"x-choice" => Self::Choice,
            _ => return None,
        })
    }

    /// The name as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::ReplyTo => "reply-to",
            Self::Content => "content",
            Self::Language => "language",
            Self::Encoding => "encoding",
            Self::Ontology => "ontology",
            Self::Protocol => "protocol",
            Self::ConversationId => "conversation-id",
            Self::ReplyWith => "reply-with",
            Self::InReplyTo => "in-reply-to",
            Self::ReplyBy => "reply-by",
            Self::Priority => "X-priority",
            Self::Reliability => "X-reliability",
            Self::Receipt => "X-receipt",
            Self::WhenUnavailable => "X-when-unavailable",
            Self::AttemptsMax => "X-attempts-max",
            Self::TimeToLiveMs => "X-time-to-live-ms",
            Self::DeliverAt => "X-deliver-at",
            Self::MessageId => "X-message-id",
            Self::Traceparent => "X-traceparent",
            Self::Capability => "X-capability",
            Self::Choice => "X-choice",
        }
    }
}

/// The parameters that a message has so far.
#[derive(Clone, Copy, Default)]
pub(in crate::message) struct ParameterSet(u32);

impl ParameterSet {
    /// Adds one, and says whether it is new.
    pub fn insert(&mut self, parameter: Parameter) -> bool {
        let bit = 1 << parameter as u32;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

/// Whether the router gives a meaning of its own to the user-defined parameter `name`.
pub fn is_reserved(name: &str) -> bool {
    Parameter::named(name.as_bytes()).is_some()
}
