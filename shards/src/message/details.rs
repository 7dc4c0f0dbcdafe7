//! The cold part of a message: everything that routing does not look at for each message.

use std::fmt;

use super::aid::Aid;
use super::id::AgentId;

/// Maximum number of user-defined parameters of a message.
pub const USER_PARAMETERS_MAX: usize = 64;
/// Maximum length of a textual parameter other than the content, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 65_536;
/// Maximum number of receivers, or of `reply-to` entries, of a message.
pub const RECEIVERS_MAX: usize = 10_000;

/// A user-defined parameter (`X-...`, FIPA SC00061).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserParameter {
    /// The name as written, without the colon. It begins with `X-` or `x-` (SC00061), except in forms that mark
    /// parameters as user-defined, where other platforms omit the prefix.
    pub name: Box<str>,
    /// The value.
    pub value: ParameterValue,
}

/// A parameter's value, as an expression of SC00070.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParameterValue {
    /// A word, number or date; written without quotes.
    Atom(Box<str>),
    /// A string, without its quotes and escapes.
    Text(Box<str>),
    /// A byte-length-encoded string.
    Binary(Box<[u8]>),
    /// A parenthesised expression, in its source form.
    List(Expression),
}

impl ParameterValue {
    /// Creates a string. One that ends in a backslash has no string literal in SC00070 and becomes a
    /// byte-length-encoded string.
    pub fn text(text: Box<str>) -> Self {
        if text.ends_with('\\') { Self::Binary(text.into_boxed_bytes()) } else { Self::Text(text) }
    }

    /// Returns its length in bytes, without quotes.
    fn len(&self) -> usize {
        match self {
            Self::Atom(text) | Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::List(expression) => expression.as_str().len(),
        }
    }
}

/// Returns the memory that these parameters take, in bytes.
pub(super) fn weight_of(parameters: &[UserParameter]) -> usize {
    let weight = |parameter: &UserParameter| size_of::<UserParameter>() + parameter.name.len() + parameter.value.len();
    parameters.iter().map(weight).sum()
}

/// A parenthesised expression of SC00070 in its source form, such as `(set (a b) "c")`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expression(Box<str>);

impl Expression {
    /// Wraps text that is known to be exactly one expression.
    pub(crate) fn of_source(text: Box<str>) -> Self {
        Self(text)
    }

    /// Returns the source text, including the parentheses.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a user-defined parameter may have this name: a word that begins with `X-` or `x-` and contains nothing that
/// could be taken for white space, a parenthesis or a string.
pub(crate) fn is_user_parameter_name(name: &str) -> bool {
    name.len() > 2
        && name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"))
        && name
            .chars()
            .all(|character| !character.is_whitespace() && !matches!(character, '(' | ')' | '"' | '\0'..='\x20'))
}

/// Whether a form that marks parameters as user-defined may contain this name: one that begins with `X-`, or any other
/// word that is not a parameter of SC00061.
pub(crate) fn is_kept_parameter_name(name: &str) -> bool {
    is_user_parameter_name(name)
        || (super::word::is_atom(name.as_bytes())
            && !super::parameter::is_reserved(name)
            && !name.contains('"')
            && name.chars().all(|character| !character.is_whitespace() && !character.is_control()))
}

/// A W3C trace context (`traceparent`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace that the message belongs to.
    pub trace_id: [u8; 16],
    /// The span that sent the message.
    pub span_id: [u8; 8],
    /// The trace flags; bit 0 means sampled.
    pub flags: u8,
}

impl TraceContext {
    /// Parses the value of a `traceparent`: `version-trace-span-flags`. Versions after 00 may have more after the flags and
    /// are read as far as version 00 goes, as the W3C requires of receivers. A trace or span of zeros is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let [version] = hexadecimal(parts.next()?)?;
        let trace_id = hexadecimal(parts.next()?)?;
        let span_id = hexadecimal(parts.next()?)?;
        let [flags] = hexadecimal(parts.next()?)?;
        let ends_well = version != 0 || parts.next().is_none();
        let context = Self { trace_id, span_id, flags };
        (version != 0xff && ends_well && context.is_valid()).then_some(context)
    }

    /// Whether the context names a trace and a span: neither is all zeros.
    pub fn is_valid(&self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }
}

impl fmt::Display for TraceContext {
    /// Writes the value of a `traceparent`, version 00.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(formatter, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

/// Parses exactly `BYTES` bytes, two digits each, in any case.
pub(crate) fn hexadecimal<const BYTES: usize>(digits: &str) -> Option<[u8; BYTES]> {
    let digits = digits.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = [0; BYTES];
    if digits.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// The rarely read part of a message. Messages built by native code usually have none.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Details {
    /// The sender as written, if it was more than a name or arrived as text.
    pub sender: Option<Aid>,
    /// The receivers as written.
    pub receivers: Vec<Aid>,
    /// The agents that replies go to instead of the sender.
    pub reply_to: Vec<Aid>,
    /// The conversation's initiator, if it is neither the sender nor the receiver.
    pub initiator: Option<AgentId>,
    /// The text of the conversation id, if it differs from the id's own text form.
    pub conversation: Option<Box<str>>,
    /// The text of `reply-with`, if it differs from the value's own text form.
    pub reply_with: Option<Box<str>>,
    /// The text of `in-reply-to`, if it differs from the value's own text form.
    pub in_reply_to: Option<Box<str>>,
    /// Words that did not become terms because they are too long or the vocabulary is full.
    pub words: Words,
    /// `X-` parameters in their original order.
    pub user_parameters: Vec<UserParameter>,
    /// The trace that the message belongs to.
    pub trace: Option<TraceContext>,
    /// Whether the router has given the trace to a message that had no details. Neither this nor the hops are written into
    /// any form of it.
    pub(crate) trace_is_given: bool,
    /// How often the trace was handed on from one message without a conversation to the next.
    pub(crate) trace_hops: u8,
    /// The earliest delivery time, in milliseconds of wall time.
    pub deliver_at: Option<super::options::WallTime>,
    /// Set if the message is a replayed dead letter.
    pub replay: Option<Replay>,
}

/// The history of a replayed dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replay {
    /// The number of replays, at most [`REPLAYS_MAX`](crate::shard::control::replay::REPLAYS_MAX).
    pub times: u8,
    /// When the message was first accepted.
    pub first: super::options::WallTime,
    /// Whether the message had already entered its conversation, so that it does not begin it again.
    pub(crate) rejoins: bool,
}

impl Details {
    /// Returns the memory that they take, in bytes.
    pub(super) fn weight(&self) -> usize {
        if self.are_given() {
            return 0;
        }
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let Words { protocol, language, encoding, ontology } = &self.words;
        let texts = [&self.conversation, &self.reply_with, &self.in_reply_to, protocol, language, encoding, ontology];
        let agents = self.sender.iter().chain(&self.receivers).chain(&self.reply_to);
        size_of::<Self>()
            + agents.map(Aid::weight).sum::<usize>()
            + texts.into_iter().map(text).sum::<usize>()
            + weight_of(&self.user_parameters)
    }

    /// Whether there would be no details if the router had not given the message its trace. What becomes of a message must
    /// not depend on whether it is traced.
    pub(super) fn are_given(&self) -> bool {
        let Self { trace, trace_is_given, trace_hops, .. } = *self;
        trace_is_given && *self == Self { trace, trace_is_given, trace_hops, ..Self::default() }
    }
}

/// The text of parameters that are normally terms.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words {
    /// `protocol`
    pub protocol: Option<Box<str>>,
    /// `language`
    pub language: Option<Box<str>>,
    /// `encoding`
    pub encoding: Option<Box<str>>,
    /// `ontology`
    pub ontology: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AgentName;
    use crate::message::{Message, Performative};

    #[test]
    fn whatever_a_message_holds_counts_for_its_size() {
        let long: Box<str> = "x".repeat(10_000).into();
        let aid = |address: Option<&str>| {
            let mut aid = Aid::new(AgentName::try_new("clerk").expect("the name is allowed"));
            aid.addresses.extend(address.map(Box::from));
            aid
        };
        let begin = || Message::builder(Performative::Inform).receiver_aids(vec![aid(None)]);
        let plain = begin().build().expect("the message is valid").weight();
        let with_parameter = begin().user_parameter("X-long", ParameterValue::Text(long.clone()));
        let with_address = Message::builder(Performative::Inform).receiver_aids(vec![aid(Some(&long))]);
        let with_conversation = begin().conversation_text(&long);
        for builder in [with_parameter, with_address, with_conversation] {
            let weight = builder.build().expect("the message is valid").weight();
            assert!(weight >= plain + 10_000, "{weight} is not {plain} and 10,000 more");
        }
    }
}
