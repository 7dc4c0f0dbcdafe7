//! What the names of headers say, and which header a user-defined parameter has.

use super::headers::HeaderWriter;

/// What the name of a header says.
pub(super) enum HeaderName {
    /// It was read before, or means nothing here.
    Known,
    ReplyWith,
    ReplyBy,
    /// The id that a client of `JetStream` chooses for a message.
    MessageId,
    /// A parameter of the message, by its name in the string form.
    Parameter(String),
    /// It has the router's prefix and no meaning.
    Unknown,
}

/// Parameters of SC00061 that have a header of the same name.
const PARAMETERS: [&str; 6] = ["language", "encoding", "ontology", "protocol", "conversation-id", "in-reply-to"];
/// The router's own parameters that have a header, without their prefix.
const OPTIONS: [&str; 8] = [
    "priority",
    "reliability",
    "receipt",
    "when-unavailable",
    "attempts-max",
    "time-to-live-ms",
    "deliver-at",
    "message-id",
];
/// Headers that are read before the others.
const READ_BEFORE: [&str; 4] = ["performative", "sender", "ack", "choice"];
/// What a user-defined parameter begins with that stands for a header without `X-`.
pub(super) const USER_HEADER: &str = "X-nats-";
/// What the router's own parameters begin with.
pub(super) const OWN_PARAMETER: &str = "X-caxton-";

impl HeaderName {
    pub fn of(name: &str) -> Self {
        let strip = |prefix: &str| {
            let begins = name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
            begins.then(|| name[prefix.len()..].to_ascii_lowercase())
        };
        if let Some(own) = strip("Caxton-") {
            return match own.as_str() {
                "reply-with" => Self::ReplyWith,
                "reply-by" => Self::ReplyBy,
                own if READ_BEFORE.contains(&own) => Self::Known,
                own if PARAMETERS.contains(&own) => Self::Parameter(own.to_owned()),
                own if OPTIONS.contains(&own) => Self::Parameter(format!("{OWN_PARAMETER}{own}")),
                _ => Self::Unknown,
            };
        }
        match name.to_ascii_lowercase().as_str() {
            "nats-msg-id" => Self::MessageId,
            "content-type" => Self::Known,
            "traceparent" => Self::Parameter("X-caxton-traceparent".to_owned()),
            other if other.starts_with("nats-") => Self::Known,
            other if other.starts_with("x-") => Self::Parameter(name.to_owned()),
            _ => Self::Parameter(format!("{USER_HEADER}{name}")),
        }
    }
}

/// Returns the header for a user-defined parameter: its name without the prefix where that leaves a name that says nothing
/// else, so that no parameter can pass for a header of the router.
pub(super) fn user_header(parameter: &str) -> String {
    let mut name = HeaderWriter::name_of(parameter);
    if name.get(..USER_HEADER.len()).is_some_and(|start| start.eq_ignore_ascii_case(USER_HEADER)) {
        name.drain(..USER_HEADER.len());
    }
    let is_free = match HeaderName::of(&name) {
        HeaderName::Parameter(meant) => !name.is_empty() && meant.ends_with(&name) && !meant.starts_with(OWN_PARAMETER),
        _ => false,
    };
    if is_free { name } else { format!("{USER_HEADER}{name}") }
}
