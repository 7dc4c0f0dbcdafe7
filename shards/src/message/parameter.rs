//! The parameters that the router interprets: those of SC00061, and its own.

use super::details::is_user_parameter_name;

/// In the string form user-defined parameters begin with `X-` (SC00061). One whose name does not, because it came in
/// another form, is written as the value of this parameter: `:X-caxton-user-defined (name value)`.
pub(crate) const USER_DEFINED: &str = "X-caxton-user-defined";

/// A parameter that may occur once in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parameter {
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

/// No known name is longer.
const NAME_BYTES_MAX: usize = 25;

impl Parameter {
    /// Returns the parameter with this name, ignoring case.
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
            b"x-caxton-priority" => Self::Priority,
            b"x-caxton-reliability" => Self::Reliability,
            b"x-caxton-receipt" => Self::Receipt,
            b"x-caxton-when-unavailable" => Self::WhenUnavailable,
            b"x-caxton-attempts-max" => Self::AttemptsMax,
            b"x-caxton-time-to-live-ms" => Self::TimeToLiveMs,
            b"x-caxton-deliver-at" => Self::DeliverAt,
            b"x-caxton-message-id" => Self::MessageId,
            b"x-caxton-traceparent" => Self::Traceparent,
            b"x-caxton-capability" => Self::Capability,
            b"x-caxton-choice" => Self::Choice,
            _ => return None,
        })
    }

    /// Returns the name as it is written.
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
            Self::Priority => "X-caxton-priority",
            Self::Reliability => "X-caxton-reliability",
            Self::Receipt => "X-caxton-receipt",
            Self::WhenUnavailable => "X-caxton-when-unavailable",
            Self::AttemptsMax => "X-caxton-attempts-max",
            Self::TimeToLiveMs => "X-caxton-time-to-live-ms",
            Self::DeliverAt => "X-caxton-deliver-at",
            Self::MessageId => "X-caxton-message-id",
            Self::Traceparent => "X-caxton-traceparent",
            Self::Capability => "X-caxton-capability",
            Self::Choice => "X-caxton-choice",
        }
    }
}

/// The parameters seen so far in a message.
#[derive(Clone, Copy, Default)]
pub(crate) struct ParameterSet(u32);

impl ParameterSet {
    /// Adds a parameter and returns whether it is new.
    pub fn insert(&mut self, parameter: Parameter) -> bool {
        let bit = 1 << parameter as u32;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

/// Whether the router interprets the user-defined parameter `name`.
pub fn is_reserved(name: &str) -> bool {
    Parameter::named(name.as_bytes()).is_some() || name.eq_ignore_ascii_case(USER_DEFINED)
}

/// Whether the name cannot be written directly in the string form.
pub fn needs_wrapping(name: &str) -> bool {
    !is_user_parameter_name(name)
}
