//! The parser: builds a message in one pass, parameter by parameter.

use std::borrow::Cow;
use std::ops::Range;

use super::delivery::Delivery;
use super::error::{BYTE_ORDER_MARK, ParseErrorKind, Refusal, excerpt};
use super::lexer::{Kind, Lexer, Read, Value};
use super::readings::{self, Grammar};
use super::resynchronise::REREAD_PER_BYTE;
use super::{Limits, Strictness};
use crate::domain::ContentLimit;
use crate::message::date;
use crate::message::details::{is_kept_parameter_name, is_user_parameter_name};
use crate::message::parameter::Parameter;
use crate::message::parameter::ParameterSet;
use crate::message::parameter::USER_DEFINED;
use crate::message::word::is_atom;
use crate::message::{
    Aid, Expression, Message, MessageBuilder, MessageContent, PARAMETER_BYTES_MAX, ParameterValue, Performative,
    USER_PARAMETERS_MAX, UserParameter, WallTime,
};

/// The parameter that keeps a `reply-by` that is not a date.
pub(crate) const REPLY_BY_KEPT: &str = "X-reply-by";

/// Reads exactly one message, with optional white space around it.
#[inline]
pub(super) fn single(input: &[u8], now: WallTime, limits: &Limits) -> Read<Message> {
    if input.len() > limits.message_bytes_max {
        let fault = ParseErrorKind::TooLong { what: "the message".into(), limit: limits.message_bytes_max };
        return Err(Refusal::new(limits.message_bytes_max, fault));
    }
    let start = if input.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let mut reader = Reader::new(input, start, now, limits);
    reader.lexer.skip_space();
    let begun = reader.lexer.position();
    match reader.whole() {
        Ok(message) => Ok(message),
        Err(refusal) => {
            let mut steps = input.len().saturating_mul(REREAD_PER_BYTE);
            let reached = reader.lexer.position();
            match another_reading(input, begun..reached, now, limits, &mut steps) {
                Some(mut reader) => reader.whole(),
                None => Err(refusal),
            }
        }
    }
}

/// Returns a reader for the only reading in which strings end in backslashes, if there is exactly one. The message
/// cannot be read by the standard's rule; the bytes `seen` were looked at.
#[cold]
pub(super) fn another_reading<'a>(
    input: &'a [u8],
    seen: Range<usize>,
    now: WallTime,
    limits: &Limits,
    steps: &mut usize,
) -> Option<Reader<'a>> {
    if limits.strictness == Strictness::Strict || !has_escaped_quote(input, seen.clone(), steps) {
        return None;
    }
    let mut reader = Reader::new(input, seen.start, now, limits);
    let window = reader.lexer.window();
    let closing = readings::only(window, seen.start, Grammar::Message, limits.nesting_max, steps)?;
    if closing.is_empty() {
        return None;
    }
    reader.lexer.end_strings_at(closing);
    Some(reader)
}

/// Whether the bytes looked at contain a quote after a backslash. Bytes scanned are subtracted from `steps`.
pub(super) fn has_escaped_quote(input: &[u8], seen: Range<usize>, steps: &mut usize) -> bool {
    let Some(left) = steps.checked_sub(seen.len()) else { return false };
    *steps = left;
    input.get(seen).is_some_and(|seen| memchr::memmem::find(seen, b"\\\"").is_some())
}

/// Reads the message at one position of the input.
pub(super) struct Reader<'a> {
    pub lexer: Lexer<'a>,
    pub now: WallTime,
    /// How many more agent identifiers the message may contain.
    pub aids_left: usize,
    pub aids_max: usize,
    content_max: ContentLimit,
    strictness: Strictness,
    given: ParameterSet,
}

impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8], start: usize, now: WallTime, limits: &Limits) -> Self {
        Self {
            lexer: Lexer::new(input, start, limits),
            now,
            aids_left: limits.aids_max,
            aids_max: limits.aids_max,
            content_max: limits.content_max,
            strictness: limits.strictness,
            given: ParameterSet::default(),
        }
    }

    /// Reads the message at the lexer's position, which nothing may follow.
    fn whole(&mut self) -> Read<Message> {
        let message = self.message()?;
        self.lexer.skip_space();
        if self.lexer.peek().is_some() {
            return Err(self.lexer.expected("the end of the input"));
        }
        Ok(message)
    }

    /// Reads the message at the lexer's position, up to its closing parenthesis.
    #[inline]
    pub fn message(&mut self) -> Read<Message> {
        let start = self.lexer.position();
        self.lexer.open("a message, which begins with (")?;
        let performative = self.performative()?;
        let mut parameters = Parameters::default();
        loop {
            self.lexer.skip_space();
            match self.lexer.peek() {
                Some(b':') => self.parameter(&mut parameters)?,
                Some(b')') => break,
                _ => return Err(self.lexer.expected("a parameter name such as :sender, or )")),
            }
        }
        self.lexer.close();
        parameters.check(start, self.strictness)?;
        let built = parameters.give_to(Message::builder(performative)).build_within(self.content_max);
        built.map_err(|error| Refusal::new(start, ParseErrorKind::Message(error)))
    }

    fn performative(&mut self) -> Read<Performative> {
        let word = self.lexer.head();
        let offset = self.lexer.position() - word.len();
        if word.is_empty() {
            return Err(self.lexer.expected("a performative such as inform"));
        }
        let word = utf8(word, offset, "the performative")?;
        word.parse().map_err(|error| Refusal::new(offset, ParseErrorKind::Refused(error)))
    }

    fn parameter(&mut self, into: &mut Parameters<'a>) -> Read<()> {
        let offset = self.lexer.position();
        self.lexer.step();
        let name = self.lexer.name();
        let Some(parameter) = Parameter::named(name) else {
            check_user_parameters(offset, &into.user_defined)?;
            into.user_defined.push(self.user_parameter(offset, name)?);
            return Ok(());
        };
        if !self.given.insert(parameter) {
            return Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name: parameter.name() }));
        }
        match parameter {
            Parameter::Sender => into.sender = Some(self.sender()?),
            Parameter::Receiver => into.receivers = self.aids(parameter.name())?,
            Parameter::ReplyTo => into.reply_to = self.aids(parameter.name())?,
            Parameter::Content => into.content = Some(self.content()?),
            Parameter::Language => into.language = self.text(parameter)?,
            Parameter::Encoding => into.encoding = self.text(parameter)?,
            Parameter::Ontology => into.ontology = self.text(parameter)?,
            Parameter::Protocol => into.protocol = self.text(parameter)?,
            Parameter::ConversationId => into.conversation = self.text(parameter)?,
            Parameter::ReplyWith => into.reply_with = self.text(parameter)?,
            Parameter::InReplyTo => into.in_reply_to = self.text(parameter)?,
            Parameter::ReplyBy => self.reply_by(into)?,
            own => self.delivery(own, &mut into.delivery)?,
        }
        Ok(())
    }

    fn text(&mut self, parameter: Parameter) -> Read<Option<Cow<'a, str>>> {
        self.lexer.text(parameter.name()).map(|(_, text)| Some(text))
    }

    fn content(&mut self) -> Read<Cow<'a, [u8]>> {
        let value = self.lexer.value("content, which is a string")?;
        let limit = self.content_max.as_usize();
        if value.len() > limit {
            return Err(Refusal::new(value.offset, ParseErrorKind::TooLong { what: "the content".into(), limit }));
        }
        Ok(value.bytes())
    }

    /// JADE ignores a `reply-by` that is not a date. Here it sets no deadline either, but is not lost.
    fn reply_by(&mut self, into: &mut Parameters<'a>) -> Read<()> {
        let value = self.lexer.parameter_value(Parameter::ReplyBy.name())?;
        if let Some(moment) = date::read(&value.bytes(), self.now) {
            // The epoch would count as no limit. It is in the past either way.
            into.reply_by = Some(moment.max(WallTime(1)));
            return Ok(());
        }
        check_user_parameters(value.offset, &into.user_defined)?;
        let kept = self.kept(value, REPLY_BY_KEPT)?;
        into.user_defined.push(UserParameter { name: REPLY_BY_KEPT.into(), value: kept });
        Ok(())
    }

    /// Reads the value of the user-defined parameter whose colon is at `offset`.
    pub fn user_parameter(&mut self, offset: usize, name: &[u8]) -> Read<UserParameter> {
        if name.is_empty() {
            return Err(self.lexer.expected("a parameter name such as sender"));
        }
        let shown = || excerpt(&[b":", name].concat());
        let legal = std::str::from_utf8(name).ok().filter(|name| is_user_parameter_name(name));
        let Some(name) = legal else {
            return Err(Refusal::new(offset, ParseErrorKind::UnknownParameter { name: shown() }));
        };
        if name.eq_ignore_ascii_case(USER_DEFINED) {
            // The limit applies to the value inside.
            let value = self.lexer.value("a name and a value in parentheses")?;
            let inside = match value.kind {
                Kind::List(list) => named_value(&self.lexer.kept_list(value.offset, list)),
                _ => None,
            };
            let parameter = match inside {
                Some(parameter) => parameter,
                None => UserParameter { name: name.into(), value: self.kept(value, name)? },
            };
            check_length(value.offset, &parameter)?;
            return Ok(parameter);
        }
        let value = self.lexer.parameter_value(name)?;
        Ok(UserParameter { name: name.into(), value: self.kept(value, name)? })
    }

    fn kept(&self, value: Value<'a>, name: &str) -> Read<ParameterValue> {
        if let Kind::List(list) = value.kind
            && let Cow::Owned(list) = self.lexer.kept_list(value.offset, list)
        {
            return kept(Value { offset: value.offset, kind: Kind::List(&list) }, name);
        }
        kept(value, name)
    }
}

fn check_length(offset: usize, UserParameter { name, value }: &UserParameter) -> Read<()> {
    if name.len().max(value.bytes()) <= PARAMETER_BYTES_MAX {
        return Ok(());
    }
    let fault =
        ParseErrorKind::TooLong { what: format!(":{}", excerpt(name.as_bytes())).into(), limit: PARAMETER_BYTES_MAX };
    Err(Refusal::new(offset, fault))
}

/// Returns the parameter described by a list of the form `(name value)`.
pub(super) fn named_value(list: &[u8]) -> Option<UserParameter> {
    let limits = Limits { message_bytes_max: usize::MAX, ..Limits::default() };
    let mut lexer = Lexer::new(list, 0, &limits);
    lexer.open("a list").ok()?;
    let Kind::Bare(name) = lexer.value("a name").ok()?.kind else { return None };
    let name = std::str::from_utf8(name).ok()?;
    let value = kept(lexer.value("a value").ok()?, name).ok()?;
    lexer.skip_space();
    let is_whole = lexer.close() && lexer.peek().is_none();
    let is_kept = is_kept_parameter_name(name) && !is_user_parameter_name(name);
    (is_whole && is_kept).then(|| UserParameter { name: name.into(), value: value.readable() })
}

/// The parameters of a message, before its content is copied and its names become ids.
#[derive(Default)]
pub(crate) struct Parameters<'a> {
    pub sender: Option<Aid>,
    pub receivers: Vec<Aid>,
    pub reply_to: Vec<Aid>,
    pub content: Option<Cow<'a, [u8]>>,
    pub language: Option<Cow<'a, str>>,
    pub encoding: Option<Cow<'a, str>>,
    pub ontology: Option<Cow<'a, str>>,
    pub protocol: Option<Cow<'a, str>>,
    pub conversation: Option<Cow<'a, str>>,
    pub reply_with: Option<Cow<'a, str>>,
    pub in_reply_to: Option<Cow<'a, str>>,
    pub reply_by: Option<WallTime>,
    pub delivery: Delivery,
    pub user_defined: Vec<UserParameter>,
}

/// Sets a textual parameter of a builder.
type SetText = fn(&mut MessageBuilder, &str);

impl Parameters<'_> {
    /// Checks that the parameters of the message at `start` are consistent and satisfy the strictness.
    pub fn check(&self, start: usize, strictness: Strictness) -> Read<()> {
        if strictness == Strictness::Strict {
            let agents = self.sender.iter().chain(&self.receivers).chain(&self.reply_to);
            super::strictness::check(agents, &self.user_defined)
                .map_err(|fault| Refusal::new(start, ParseErrorKind::NotStrict(fault)))?;
        }
        self.delivery.check(!self.receivers.is_empty())
    }

    #[inline]
    pub fn give_to(self, mut builder: MessageBuilder) -> MessageBuilder {
        if let Some(content) = self.content {
            builder.set_content(match content {
                bytes if bytes.is_empty() => MessageContent::given_empty(),
                Cow::Borrowed(bytes) => MessageContent::copy_of(bytes),
                Cow::Owned(bytes) => MessageContent::from(bytes),
            });
        }
        if let Some(sender) = self.sender {
            builder.set_sender_aid(sender);
        }
        // An empty set of receivers is no parameter at all: the two could not be told apart once written.
        if !self.receivers.is_empty() {
            builder.set_receiver_aids(self.receivers);
        }
        if !self.reply_to.is_empty() {
            builder.set_reply_to_aids(self.reply_to);
        }
        let texts: [(_, SetText); 7] = [
            (self.language, MessageBuilder::set_language),
            (self.encoding, MessageBuilder::set_encoding),
            (self.ontology, MessageBuilder::set_ontology),
            (self.protocol, MessageBuilder::set_protocol),
            (self.conversation, MessageBuilder::set_conversation_text),
            (self.reply_with, MessageBuilder::set_reply_with_text),
            (self.in_reply_to, MessageBuilder::set_in_reply_to_text),
        ];
        for (text, set) in &texts {
            if let Some(text) = text {
                set(&mut builder, text);
            }
        }
        if let Some(moment) = self.reply_by {
            builder = builder.reply_by(moment);
        }
        for parameter in self.user_defined {
            builder.add_user_parameter(parameter);
        }
        self.delivery.give_to(builder)
    }
}

/// Checks that there is room for another one, which begins at `offset`.
pub(crate) fn check_user_parameters(offset: usize, present: &[UserParameter]) -> Read<()> {
    if present.len() >= USER_PARAMETERS_MAX {
        let fault = ParseErrorKind::TooMany { what: "user-defined parameters", limit: USER_PARAMETERS_MAX };
        return Err(Refusal::new(offset, fault));
    }
    Ok(())
}

/// Returns a value as it is kept for the receiver. What only a lenient reader takes for a word is kept as a string, so
/// that it is written as one.
fn kept(value: Value<'_>, name: &str) -> Read<ParameterValue> {
    Ok(match value.kind {
        Kind::Bare(bytes) if is_atom(bytes) => ParameterValue::Atom(value.text(name)?.into()),
        Kind::Bare(_) | Kind::Quoted(..) => ParameterValue::text(value.text(name)?.into()),
        Kind::Counted(bytes) => ParameterValue::Binary(bytes.into()),
        Kind::List(_) => ParameterValue::List(Expression::of_source(value.text(name)?.into())),
    })
}

fn utf8<'a>(bytes: &'a [u8], offset: usize, what: &'static str) -> Read<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::new(offset, ParseErrorKind::NotUtf8 { what: what.into() }))
}

/// Returns the user-defined parameter of this name and value, under its own name if it is written as the value of
/// [`USER_DEFINED`].
pub fn user_defined(name: &str, value: ParameterValue) -> UserParameter {
    match &value {
        ParameterValue::List(list) if name.eq_ignore_ascii_case(USER_DEFINED) => {
            named_value(list.as_str().as_bytes()).unwrap_or_else(|| UserParameter { name: name.into(), value })
        }
        _ => UserParameter { name: name.into(), value },
    }
}
