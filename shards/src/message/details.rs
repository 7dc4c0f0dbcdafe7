//! What a message carries beside its hot header: everything that routing does not look at on each message.

use super::aid::Aid;
use super::id::AgentId;

/// The most user-defined parameters of one message.
pub const USER_PARAMETERS_MAX: usize = 64;
/// The longest textual parameter other than the content, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 65_536;
/// The most receivers, or `reply-to` entries, of one message.
pub const RECEIVERS_MAX: usize = 10_000;

/// A user-defined parameter (`X-...`, FIPA SC00061).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserParameter {
    /// The name as it was written, without the colon. It begins with `X-` or `x-` (SC00061), unless it came in a form that
    /// says of a parameter that it is user-defined, where other platforms leave the prefix out.
    pub name: Box<str>,
    /// The value.
    pub value: ParameterValue,
}

/// A parameter's value in the terms of SC00070.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParameterValue {
    /// A word, a number or a date: written without quotes.
    Atom(Box<str>),
    /// A string, without its quotes and escapes.
    Text(Box<str>),
    /// A byte-length-encoded string.
    Binary(Box<[u8]>),
    /// A parenthesised expression.
    List(Expression),
}

impl ParameterValue {
    /// A string. One that ends in a backslash has no string literal in SC00070, and becomes a byte-length-encoded one.
    pub fn text(text: Box<str>) -> Self {
        if text.ends_with('\\') { Self::Binary(text.into_boxed_bytes()) } else { Self::Text(text) }
    }
}

/// A parenthesised expression of SC00070 as source text, such as `(set (a b) "c")`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expression(Box<str>);

impl Expression {
    /// Wraps text that is known to be one expression, with nothing before or behind it.
    pub(crate) fn of_source(text: Box<str>) -> Self {
        Self(text)
    }

    /// Returns the source text, parentheses included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a user-defined parameter may have this name: a word that begins with `X-` in either case, in which nothing
/// could be taken for white space, a parenthesis or a string.
pub(crate) fn is_user_parameter_name(name: &str) -> bool {
    name.len() > 2
        && name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"))
        && name
            .chars()
            .all(|character| !character.is_whitespace() && !matches!(character, '(' | ')' | '"' | '\0'..='\x20'))
}

/// Whether a form that says of a parameter that it is user-defined may bring this name: one that begins with `X-`, or any
/// other word that is no parameter of SC00061.
pub(crate) fn is_kept_parameter_name(name: &str) -> bool {
    is_user_parameter_name(name)
        || (super::word::is_atom(name.as_bytes())
            && !super::parameter::is_reserved(name)
            && !name.contains('"')
            && name.chars().all(|character| !character.is_whitespace() && !character.is_control()))
}

/// A W3C trace context (`traceparent`): which trace the message belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span that sent the message.
    pub span_id: [u8; 8],
    /// The trace flags; bit 0 says sampled.
    pub flags: u8,
}

impl TraceContext {
    /// Whether the context names a trace and a span: neither is all zeros.
    pub fn is_valid(&self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }
}

/// The rarely read part of a message. A message built by native code usually has none.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Details {
    /// The sender as it was written, where it was more than a name or came as text.
    pub sender: Option<Aid>,
    /// The receivers as they were written.
    pub receivers: Vec<Aid>,
    /// Where replies go instead of to the sender.
    pub reply_to: Vec<Aid>,
    /// The conversation's initiator, where it is neither the sender nor the receiver.
    pub initiator: Option<AgentId>,
    /// The text of the conversation id, where it is not the id's own text form.
    pub conversation: Option<Box<str>>,
    /// The text of `reply-with`, likewise.
    pub reply_with: Option<Box<str>>,
    /// The text of `in-reply-to`, likewise.
    pub in_reply_to: Option<Box<str>>,
    /// Words that did not become terms because they are too long or the vocabulary is full.
    pub words: Words,
    /// `X-` parameters in the order in which they were written.
    pub user_parameters: Vec<UserParameter>,
    /// The trace that the message belongs to.
    pub trace: Option<TraceContext>,
    /// The earliest moment of delivery, in milliseconds of wall time.
    pub deliver_at: Option<super::options::WallTime>,
    /// What a message remembers that was a dead letter and was sent again.
    pub replay: Option<Replay>,
}

/// What a message remembers that was a dead letter and was sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replay {
    /// How often it was sent again, at most [`REPLAYS_MAX`](crate::shard::control::replay::REPLAYS_MAX) times.
    pub times: u8,
    /// When it was first accepted.
    pub first: super::options::WallTime,
    /// It had reached its conversation before, so it does not begin it again.
    pub(crate) rejoins: bool,
}

/// Text of parameters that are terms otherwise.
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
