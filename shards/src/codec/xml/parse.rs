//! The parser: builds a message in one pass, parameter by parameter.

use std::borrow::Cow;

use super::cursor::{Attribute, Cursor, Tag, shown_tag};
use super::escape::read_base64;
use crate::codec::suggestion::nearest;
use crate::codec::text::{
    BYTE_ORDER_MARK, Limits, Parameters, ParseError, ParseErrorKind, REPLY_BY_KEPT, Read, Refusal, Strictness,
    check_user_parameters, excerpt, is_list, user_defined,
};
use crate::codec::window::{End, readable_part};
use crate::domain::{AgentName, ContentLimit};
use crate::message::date::read as read_date;
use crate::message::details::{is_kept_parameter_name, is_user_parameter_name};
use crate::message::parameter::Parameter;
use crate::message::parameter::ParameterSet;
use crate::message::word::is_atom;
use crate::message::{
    AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, Message, PARAMETER_BYTES_MAX, ParameterValue, Performative, RECEIVERS_MAX,
    UserParameter, WallTime,
};

/// The factor by which base64 and its line breaks lengthen data.
const BASE64_GROWTH_MAX: usize = 2;
/// The element of a message.
const MESSAGE: &str = "fipa-message";
/// What is expected inside a message.
const A_PARAMETER: &str = "a parameter such as <sender>, or </fipa-message>";

/// Reads exactly one message, with optional white space, a declaration and comments around it. Relative dates count
/// from `now`.
///
/// # Errors
///
/// Returns the first fault in the input, with its position.
pub fn from_xml(input: &[u8], now: WallTime, limits: &Limits) -> Result<Message, ParseError> {
    single(input, limits, |reader| reader.message(now)).map_err(|refusal| refusal.locate(input))
}

/// Reads the single element that the input consists of.
pub(super) fn single<T>(input: &[u8], limits: &Limits, read: impl FnOnce(&mut Reader<'_>) -> Read<T>) -> Read<T> {
    if input.len() > limits.message_bytes_max {
        let fault = ParseErrorKind::TooLong { what: "the message".into(), limit: limits.message_bytes_max };
        return Err(Refusal::new(limits.message_bytes_max, fault));
    }
    let start = if input.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let (window, end) = readable_part(&input[start..]);
    let mut reader = Reader::new(window, start, end, limits);
    let value = read(&mut reader)?;
    match reader.cursor.root("the end of the input")? {
        None => Ok(value),
        Some(tag) => {
            let fault = ParseErrorKind::Expected { expected: "the end of the input".into(), found: shown_tag(&tag) };
            Err(Refusal::new(tag.offset, fault))
        }
    }
}

/// Reads the elements of one message or envelope.
pub(super) struct Reader<'a> {
    pub cursor: Cursor<'a>,
    /// How many more agent identifiers there may be.
    aids_left: usize,
    aids_max: usize,
    content_max: ContentLimit,
    strictness: Strictness,
}

impl<'a> Reader<'a> {
    pub fn new(window: &'a str, base: usize, end: End, limits: &Limits) -> Self {
        Self {
            cursor: Cursor::new(window, base, end),
            aids_left: limits.aids_max,
            aids_max: limits.aids_max,
            content_max: limits.content_max,
            strictness: limits.strictness,
        }
    }

    /// Reads the next message.
    pub fn message(&mut self, now: WallTime) -> Read<Message> {
        let expected = "a message, which begins with <fipa-message";
        let Some(tag) = self.cursor.root(expected)? else {
            let fault =
                ParseErrorKind::Expected { expected: expected.into(), found: "the end of the input".to_owned() };
            return Err(Refusal::new(self.cursor.position(), fault));
        };
        self.message_of(&tag, now)
    }

    /// Reads the message whose opening tag was just read.
    pub fn message_of(&mut self, root: &Tag<'a>, now: WallTime) -> Read<Message> {
        if !root.name.eq_ignore_ascii_case(MESSAGE) {
            let found = shown_tag(root);
            return Err(Refusal::new(
                root.offset,
                ParseErrorKind::Expected { expected: "<fipa-message>".into(), found },
            ));
        }
        let mut given = ParameterSet::default();
        let mut parameters = Parameters::default();
        let mut performative: Option<Performative> = None;
        for attribute in root.attributes() {
            let attribute = attribute?;
            if attribute.name.eq_ignore_ascii_case("act") {
                let word = attribute.value(PARAMETER_BYTES_MAX)?;
                let act = word.trim_ascii().parse();
                let act = act.map_err(|error| Refusal::new(attribute.value_offset, ParseErrorKind::Refused(error)))?;
                once(&mut performative, act, "act", attribute.offset)?;
                continue;
            }
            let parameter = Parameter::named(attribute.name.as_bytes());
            let Some(parameter) = parameter.filter(|parameter| is_attribute(*parameter)) else {
                return Err(unknown_attribute(&attribute, "act, conversation-id and other parameters with a word"));
            };
            first(&mut given, parameter, attribute.offset)?;
            let value = attribute.value(PARAMETER_BYTES_MAX)?;
            parameters.set_text(parameter, attribute.value_offset, value, now)?;
        }
        let Some(performative) = performative else {
            let expected = "the attribute act, which says the performative";
            let found = shown_tag(root);
            return Err(Refusal::new(root.offset, ParseErrorKind::Expected { expected: expected.into(), found }));
        };
        while let Some(tag) = self.cursor.child(A_PARAMETER)? {
            self.parameter(&tag, now, &mut given, &mut parameters)?;
        }
        parameters.check(root.offset, self.strictness)?;
        let built = parameters.give_to(Message::builder(performative)).build_within(self.content_max);
        built.map_err(|error| Refusal::new(root.offset, ParseErrorKind::Message(error)))
    }

    fn parameter(
        &mut self,
        tag: &Tag<'a>,
        now: WallTime,
        given: &mut ParameterSet,
        into: &mut Parameters<'a>,
    ) -> Read<()> {
        let Some(parameter) = Parameter::named(tag.name.as_bytes()) else {
            check_user_parameters(tag.offset, &into.user_defined)?;
            into.user_defined.push(self.user_parameter(tag, PARAMETERS)?);
            return Ok(());
        };
        match parameter {
            // These may be given once for each agent.
            Parameter::Receiver => return self.agents(tag, parameter, &mut into.receivers),
            Parameter::ReplyTo => return self.agents(tag, parameter, &mut into.reply_to),
            _ => first(given, parameter, tag.offset)?,
        }
        match parameter {
            Parameter::Sender => into.sender = Some(self.one_agent(tag, "sender")?),
            Parameter::Content => into.content = Some(self.content(tag)?),
            Parameter::ReplyBy => {
                let (offset, text) = self.value(tag, "reply-by", &["time"])?;
                into.set_reply_by(offset, text, now)?;
            }
            textual => {
                let (offset, text) = self.value(tag, textual.name(), &[])?;
                into.set_text(textual, offset, text, now)?;
            }
        }
        Ok(())
    }

    fn content(&mut self, tag: &Tag<'a>) -> Read<Cow<'a, [u8]>> {
        let limit = self.content_max.as_usize();
        let too_long = |offset| Refusal::new(offset, ParseErrorKind::TooLong { what: "the content".into(), limit });
        if !is_base64(tag)? {
            let (_, text) = self.cursor.text("the content", limit, false)?;
            return Ok(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        let source_max = limit.saturating_mul(BASE64_GROWTH_MAX).saturating_add(BASE64_GROWTH_MAX);
        let (offset, text) = self.cursor.text("the content", source_max, true)?;
        let bytes = from_base64("content", offset, &text)?;
        if bytes.len() > limit { Err(too_long(offset)) } else { Ok(bytes.into()) }
    }

    /// Reads the value of an element, from one of the attributes in `names` or from between its tags.
    pub fn value(&mut self, tag: &Tag<'a>, parameter: &'static str, names: &[&str]) -> Read<(usize, Cow<'a, str>)> {
        // Most elements contain only their text, and that within the limit.
        if tag.is_bare() {
            return self.cursor.text(parameter, PARAMETER_BYTES_MAX, true);
        }
        let mut encoding = None;
        let mut value = None;
        for attribute in tag.attributes() {
            let attribute = attribute?;
            if attribute.name.eq_ignore_ascii_case("encoding") {
                once(&mut encoding, (), "encoding", attribute.offset)?;
                check_encoding(&attribute)?;
            } else if names.iter().any(|name| attribute.name.eq_ignore_ascii_case(name)) {
                let limit = PARAMETER_BYTES_MAX * BASE64_GROWTH_MAX;
                once(&mut value, (attribute.value_offset, attribute.value(limit)?), parameter, attribute.offset)?;
            } else if names.is_empty() {
                return Err(unknown_attribute(&attribute, "encoding=\"base64\""));
            } else {
                return Err(unknown_attribute(&attribute, format!("{} and encoding=\"base64\"", names.join(", "))));
            }
        }
        let (offset, text) = match value {
            Some(value) => {
                self.cursor.nothing_inside(parameter)?;
                value
            }
            None => self.cursor.text(parameter, source_max(encoding.is_some()), true)?,
        };
        let text = match encoding {
            Some(()) => utf8(from_base64(parameter, offset, &text)?, offset, parameter)?.into(),
            None => text,
        };
        if text.len() > PARAMETER_BYTES_MAX {
            let fault = ParseErrorKind::TooLong { what: format!(":{parameter}").into(), limit: PARAMETER_BYTES_MAX };
            return Err(Refusal::new(offset, fault));
        }
        Ok((offset, text))
    }

    /// Reads the single identifier of an element.
    pub fn one_agent(&mut self, tag: &Tag<'a>, parameter: &'static str) -> Read<Aid> {
        no_attributes(tag)?;
        let expected = "<agent-identifier>";
        let Some(child) = self.cursor.child(expected)? else {
            let fault = ParseErrorKind::Expected { expected: expected.into(), found: format!("</{parameter}>") };
            return Err(Refusal::new(tag.offset, fault));
        };
        let aid = self.aid(&child, 1)?;
        match self.cursor.child("the end of the element, which names one agent")? {
            None => Ok(aid),
            Some(another) => {
                let fault = ParseErrorKind::TooMany { what: "agents", limit: 1 };
                Err(Refusal::new(another.offset, fault))
            }
        }
    }

    /// Reads the identifiers of an element that may occur several times.
    pub fn agents(&mut self, tag: &Tag<'a>, parameter: Parameter, into: &mut Vec<Aid>) -> Read<()> {
        debug_assert!(matches!(parameter, Parameter::Receiver | Parameter::ReplyTo));
        self.aids(tag, 1, "agents", RECEIVERS_MAX, into)
    }

    /// Reads the identifiers of an element, up to `count_max` including those already present.
    pub fn aids(
        &mut self,
        tag: &Tag<'a>,
        depth: usize,
        what: &'static str,
        count_max: usize,
        into: &mut Vec<Aid>,
    ) -> Read<()> {
        no_attributes(tag)?;
        while let Some(child) = self.cursor.child("<agent-identifier>")? {
            if into.len() == count_max {
                return Err(Refusal::new(child.offset, ParseErrorKind::TooMany { what, limit: count_max }));
            }
            into.push(self.aid(&child, depth)?);
        }
        Ok(())
    }

    fn aid(&mut self, tag: &Tag<'a>, depth: usize) -> Read<Aid> {
        if !tag.name.eq_ignore_ascii_case("agent-identifier") {
            let found = shown_tag(tag);
            return Err(Refusal::new(
                tag.offset,
                ParseErrorKind::Expected { expected: "<agent-identifier>".into(), found },
            ));
        }
        let too_many =
            || Refusal::new(tag.offset, ParseErrorKind::TooMany { what: "agent identifiers", limit: self.aids_max });
        self.aids_left = self.aids_left.checked_sub(1).ok_or_else(too_many)?;
        if depth > AID_DEPTH_MAX {
            let fault = ParseErrorKind::NestedTooDeep { what: "resolvers", limit: AID_DEPTH_MAX };
            return Err(Refusal::new(tag.offset, fault));
        }
        no_attributes(tag)?;
        let mut name: Option<AgentName> = None;
        let mut addresses: Vec<Box<str>> = Vec::new();
        let mut resolvers = Vec::new();
        let mut user_parameters = Vec::new();
        let expected = "<name>, which every agent-identifier has";
        while let Some(child) = self.cursor.child("<name>, <addresses>, <resolvers> or </agent-identifier>")? {
            let is = |known: &str| child.name.eq_ignore_ascii_case(known);
            if is("name") {
                let (offset, text) = self.value(&child, "name", &["id", "refid"])?;
                let read =
                    AgentName::try_new(text).map_err(|error| Refusal::new(offset, ParseErrorKind::Refused(error)))?;
                once(&mut name, read, "name", child.offset)?;
            } else if is("addresses") {
                self.addresses(&child, &mut addresses)?;
            } else if is("resolvers") {
                self.aids(&child, depth + 1, "resolvers", AID_ENTRIES_MAX, &mut resolvers)?;
            } else {
                check_user_parameters(child.offset, &user_parameters)?;
                user_parameters.push(self.user_parameter(&child, IDENTIFIER)?);
            }
        }
        let Some(name) = name else {
            let found = "</agent-identifier>".to_owned();
            return Err(Refusal::new(tag.offset, ParseErrorKind::Expected { expected: expected.into(), found }));
        };
        Ok(Aid { name, addresses, resolvers, user_parameters })
    }

    fn addresses(&mut self, tag: &Tag<'a>, into: &mut Vec<Box<str>>) -> Read<()> {
        no_attributes(tag)?;
        while let Some(child) = self.cursor.child("<url> or </addresses>")? {
            if !child.name.eq_ignore_ascii_case("url") {
                let found = shown_tag(&child);
                return Err(Refusal::new(child.offset, ParseErrorKind::Expected { expected: "<url>".into(), found }));
            }
            if into.len() == AID_ENTRIES_MAX {
                let fault = ParseErrorKind::TooMany { what: "addresses", limit: AID_ENTRIES_MAX };
                return Err(Refusal::new(child.offset, fault));
            }
            let (_, address) = self.value(&child, "url", &["href"])?;
            into.push(address.into());
        }
        Ok(())
    }

    /// Reads `<X-name>value</X-name>` or `<user-defined name="X-name">value</user-defined>`; FIPA's document types call
    /// the attribute `href`.
    ///
    /// Anything else is refused as not being one of `known`.
    pub fn user_parameter(&mut self, tag: &Tag<'a>, known: &[&'static str]) -> Read<UserParameter> {
        let is_general = tag.name.eq_ignore_ascii_case("user-defined");
        if !is_general && !is_user_parameter_name(tag.name) {
            let nearest = nearest(tag.name, known);
            let allowed = format!("{}, and names that begin with X-", known.join(", "));
            let fault =
                ParseErrorKind::Unknown { what: "element", name: shown_tag(tag), nearest, allowed: allowed.into() };
            return Err(Refusal::new(tag.offset, fault));
        }
        self.typed(tag, (!is_general).then(|| tag.name.into()))
    }

    /// Reads a value that may be a word, a string, a list or binary, with its name; without a name it is an attribute's
    /// value.
    pub fn typed(&mut self, tag: &Tag<'a>, mut name: Option<Box<str>>) -> Read<UserParameter> {
        let is_general = name.is_none();
        let (mut encoding, mut kind) = (None, None);
        for attribute in tag.attributes() {
            let attribute = attribute?;
            let is = |known: &str| attribute.name.eq_ignore_ascii_case(known);
            if is("encoding") {
                once(&mut encoding, (), "encoding", attribute.offset)?;
                check_encoding(&attribute)?;
            } else if is("type") {
                once(&mut kind, Kind::of_attribute(&attribute)?, "type", attribute.offset)?;
            } else if is_general && (is("name") || is("href") || is("name-base64")) {
                let value = attribute.value(PARAMETER_BYTES_MAX * BASE64_GROWTH_MAX)?;
                let value = if is("name-base64") {
                    utf8(from_base64("name", attribute.value_offset, &value)?, attribute.value_offset, "name")?.into()
                } else {
                    value
                };
                if !is_kept_parameter_name(&value) {
                    let fault = ParseErrorKind::ParameterName { name: excerpt(value.as_bytes()) };
                    return Err(Refusal::new(attribute.value_offset, fault));
                }
                once(&mut name, value.into(), "name", attribute.offset)?;
            } else {
                return Err(unknown_attribute(
                    &attribute,
                    "type and encoding=\"base64\", for user-defined also name or href",
                ));
            }
        }
        let Some(name) = name else {
            let expected = "the attribute name or href, which says what is defined";
            let found = shown_tag(tag);
            return Err(Refusal::new(tag.offset, ParseErrorKind::Expected { expected: expected.into(), found }));
        };
        let (offset, text) = self.cursor.text(&name, source_max(encoding.is_some()), true)?;
        let value = if encoding.is_some() {
            let bytes = from_base64("user-defined", offset, &text)?;
            match kind {
                None => ParameterValue::Binary(bytes.into()),
                Some(kind) => kind.value(utf8(bytes, offset, "user-defined")?.into()),
            }
        } else {
            kind.unwrap_or_else(|| kind_of(&text)).value(text.into())
        };
        if name.len().max(value.bytes()) > PARAMETER_BYTES_MAX {
            let fault = ParseErrorKind::TooLong { what: "a user-defined parameter".into(), limit: PARAMETER_BYTES_MAX };
            return Err(Refusal::new(offset, fault));
        }
        Ok(user_defined(&name, value.readable()))
    }
}

/// Parameters suggested for misspelt ones.
const PARAMETERS: &[&str] = &[
    "sender",
    "receiver",
    "reply-to",
    "content",
    "language",
    "encoding",
    "ontology",
    "protocol",
    "conversation-id",
    "reply-with",
    "in-reply-to",
    "reply-by",
    "user-defined",
];

/// Children of an identifier.
const IDENTIFIER: &[&str] = &["name", "addresses", "resolvers", "user-defined"];

/// The kind of a user-defined parameter's text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    String,
    List,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Word, Self::String, Self::List];

    /// Returns the value of the attribute `type`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::String => "string",
            Self::List => "list",
        }
    }

    fn of_attribute(attribute: &Attribute<'_>) -> Read<Self> {
        let word = attribute.value(PARAMETER_BYTES_MAX)?;
        Self::ALL.into_iter().find(|kind| kind.word().eq_ignore_ascii_case(&word)).ok_or_else(|| {
            let value = excerpt(word.as_bytes());
            let fault =
                ParseErrorKind::IllegalValue { parameter: "type", value, allowed: "word, string or list".into() };
            Refusal::new(attribute.value_offset, fault)
        })
    }

    fn value(self, text: Box<str>) -> ParameterValue {
        match self {
            Self::Word => ParameterValue::Atom(text),
            Self::String => ParameterValue::Text(text),
            Self::List => ParameterValue::list(text),
        }
    }
}

/// Returns the kind of text without a `type`.
pub(super) fn kind_of(text: &str) -> Kind {
    if is_atom(text.as_bytes()) {
        Kind::Word
    } else if is_list(text.as_bytes()) {
        Kind::List
    } else {
        Kind::String
    }
}

impl<'a> Parameters<'a> {
    /// Sets a parameter that is a word of SC00061 or one of the router's own.
    pub(crate) fn set_text(
        &mut self,
        parameter: Parameter,
        offset: usize,
        text: Cow<'a, str>,
        now: WallTime,
    ) -> Read<()> {
        if text.len() > PARAMETER_BYTES_MAX {
            let fault =
                ParseErrorKind::TooLong { what: format!(":{}", parameter.name()).into(), limit: PARAMETER_BYTES_MAX };
            return Err(Refusal::new(offset, fault));
        }
        match parameter {
            Parameter::Language => self.language = Some(text),
            Parameter::Encoding => self.encoding = Some(text),
            Parameter::Ontology => self.ontology = Some(text),
            Parameter::Protocol => self.protocol = Some(text),
            Parameter::ConversationId => self.conversation = Some(text),
            Parameter::ReplyWith => self.reply_with = Some(text),
            Parameter::InReplyTo => self.in_reply_to = Some(text),
            own => self.delivery.set(own, offset, &text, now)?,
        }
        Ok(())
    }

    /// JADE ignores a `reply-by` that is not a date. Here it sets no deadline either, but is not lost.
    fn set_reply_by(&mut self, offset: usize, text: Cow<'a, str>, now: WallTime) -> Read<()> {
        if let Some(moment) = read_date(text.as_bytes(), now) {
            // The epoch would count as no limit. It is in the past either way.
            self.reply_by = Some(moment.max(WallTime(1)));
            return Ok(());
        }
        check_user_parameters(offset, &self.user_defined)?;
        let value = kind_of(&text).value(text.into()).readable();
        self.user_defined.push(UserParameter { name: REPLY_BY_KEPT.into(), value });
        Ok(())
    }
}

/// Whether the only attribute allowed on an element with text is present.
fn is_base64(tag: &Tag<'_>) -> Read<bool> {
    if tag.is_bare() {
        return Ok(false);
    }
    let mut encoding = None;
    for attribute in tag.attributes() {
        let attribute = attribute?;
        if !attribute.name.eq_ignore_ascii_case("encoding") {
            return Err(unknown_attribute(&attribute, "encoding=\"base64\""));
        }
        once(&mut encoding, (), "encoding", attribute.offset)?;
        check_encoding(&attribute)?;
    }
    Ok(encoding.is_some())
}

/// Refuses any attributes of the element.
pub(super) fn no_attributes(tag: &Tag<'_>) -> Read<()> {
    if tag.is_bare() {
        return Ok(());
    }
    match tag.attributes().next() {
        None => Ok(()),
        Some(attribute) => Err(unknown_attribute(&attribute?, "no attributes")),
    }
}

/// Returns the maximum length of a parameter's source.
fn source_max(is_base64: bool) -> usize {
    if is_base64 { PARAMETER_BYTES_MAX * BASE64_GROWTH_MAX } else { PARAMETER_BYTES_MAX }
}

/// Whether the parameter is a word of SC00061, which may also be written as an attribute.
fn is_attribute(parameter: Parameter) -> bool {
    matches!(
        parameter,
        Parameter::Language
            | Parameter::Encoding
            | Parameter::Ontology
            | Parameter::Protocol
            | Parameter::ConversationId
            | Parameter::ReplyWith
            | Parameter::InReplyTo
    )
}

fn first(given: &mut ParameterSet, parameter: Parameter, offset: usize) -> Read<()> {
    if given.insert(parameter) {
        return Ok(());
    }
    Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name: parameter.name() }))
}

pub(super) fn once<T>(place: &mut Option<T>, value: T, name: &'static str, offset: usize) -> Read<()> {
    if place.replace(value).is_some() {
        return Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name }));
    }
    Ok(())
}

fn check_encoding(attribute: &Attribute<'_>) -> Read<()> {
    let value = attribute.value(PARAMETER_BYTES_MAX)?;
    if value.eq_ignore_ascii_case("base64") {
        return Ok(());
    }
    let value = excerpt(value.as_bytes());
    let fault =
        ParseErrorKind::IllegalValue { parameter: "encoding, as an attribute", value, allowed: "base64".into() };
    Err(Refusal::new(attribute.value_offset, fault))
}

fn from_base64(parameter: &'static str, offset: usize, text: &str) -> Read<Vec<u8>> {
    read_base64(text).ok_or_else(|| {
        let value = excerpt(text.as_bytes());
        Refusal::new(offset, ParseErrorKind::IllegalValue { parameter, value, allowed: "base64 (RFC 4648)".into() })
    })
}

fn utf8(bytes: Vec<u8>, offset: usize, parameter: &'static str) -> Read<String> {
    let not_utf8 = |_| Refusal::new(offset, ParseErrorKind::NotUtf8 { what: format!(":{parameter}").into() });
    String::from_utf8(bytes).map_err(not_utf8)
}

pub(super) fn unknown_attribute(attribute: &Attribute<'_>, allowed: impl Into<Cow<'static, str>>) -> Refusal {
    let fault = ParseErrorKind::Unknown {
        what: "attribute",
        name: excerpt(attribute.name.as_bytes()),
        nearest: None,
        allowed: allowed.into(),
    };
    Refusal::new(attribute.offset, fault)
}
