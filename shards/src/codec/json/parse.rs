//! The parser: builds a message in one pass.

use std::borrow::Cow;

use super::value::Node;
use crate::codec::suggestion::nearest;
use crate::codec::text::{
    BYTE_ORDER_MARK, Limits, Parameters, ParseError, ParseErrorKind, Read, Refusal, check_user_parameters, excerpt,
    user_defined,
};
use crate::codec::window::readable_part;
use crate::codec::xml::read_base64;
use crate::domain::AgentName;
use crate::message::date::read as read_date;
use crate::message::details::is_kept_parameter_name;
use crate::message::parameter::Parameter;
use crate::message::parameter::ParameterSet;
use crate::message::{
    AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, Message, PARAMETER_BYTES_MAX, ParameterValue, Performative, RECEIVERS_MAX,
    UserParameter, WallTime,
};

/// Members of a message.
const MEMBERS: &[&str] = &[
    "performative",
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
    "X-caxton-priority",
    "X-caxton-reliability",
    "X-caxton-receipt",
    "X-caxton-when-unavailable",
    "X-caxton-attempts-max",
    "X-caxton-time-to-live-ms",
    "X-caxton-deliver-at",
    "X-caxton-message-id",
    "X-caxton-traceparent",
    "X-caxton-capability",
    "X-caxton-choice",
    "user-defined",
];
/// Members of an agent.
const AGENT_MEMBERS: &[&str] = &["name", "addresses", "resolvers", "user-defined"];
/// Members of a user-defined parameter.
const PARAMETER_MEMBERS: &[&str] = &["name", "word", "string", "list", "base64"];
/// Members of a content object.
const CONTENT_MEMBERS: &[&str] = &["base64"];
/// An escape has up to twelve bytes and stands for at least one, or for two if it has all twelve.
const ESCAPE_GROWTH_MAX: usize = 6;
const A_MESSAGE: &str = "a message, which is a JSON object";

/// Reads exactly one message, with optional white space around it. Relative dates count from `now`.
///
/// # Errors
///
/// Returns the first fault in the input, with its position.
pub fn from_json(input: &[u8], now: WallTime, limits: &Limits) -> Result<Message, ParseError> {
    single(input, now, limits).map_err(|refusal| refusal.locate(input))
}

fn single(input: &[u8], now: WallTime, limits: &Limits) -> Read<Message> {
    if input.len() > limits.message_bytes_max {
        let fault = ParseErrorKind::TooLong { what: "the message".into(), limit: limits.message_bytes_max };
        return Err(Refusal::new(limits.message_bytes_max, fault));
    }
    let offset = if input.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let (source, end) = readable_part(&input[offset..]);
    let node = Node { source, offset, end };
    let message = Reader::new(limits, now).message(node)?;
    end.refusal(offset + source.len()).map_or(Ok(message), Err)
}

/// Reads one message.
pub(super) struct Reader {
    now: WallTime,
    limits: Limits,
    aids_left: usize,
}

impl Reader {
    pub fn new(limits: &Limits, now: WallTime) -> Self {
        Self { now, limits: *limits, aids_left: limits.aids_max }
    }

    pub fn message(&mut self, node: Node<'_>) -> Read<Message> {
        let mut given = ParameterSet::default();
        let mut performative: Option<Performative> = None;
        let mut user_defined: Option<Vec<UserParameter>> = None;
        let mut parameters = Parameters::default();
        node.members(A_MESSAGE, |key, name, value| {
            if name == "performative" {
                let word = value.string("a performative such as \"inform\"")?;
                let act = word.parse().map_err(|error| Refusal::new(value.offset, ParseErrorKind::Refused(error)))?;
                return once(&mut performative, act, "performative", key.offset);
            }
            if name == "user-defined" {
                return once(&mut user_defined, user_parameters(value)?, "user-defined", key.offset);
            }
            let known = Parameter::named(name.as_bytes()).filter(|parameter| parameter.name() == name);
            let Some(parameter) = known else {
                return Err(unknown("member of a message", &key, &name, MEMBERS));
            };
            if !given.insert(parameter) {
                return key.refuse(ParseErrorKind::RepeatedParameter { name: parameter.name() });
            }
            self.parameter(parameter, value, &mut parameters)
        })?;
        parameters.user_defined = user_defined.unwrap_or_default();
        let Some(performative) = performative else {
            let expected = "the member performative, which every message has";
            let fault =
                ParseErrorKind::Expected { expected: expected.into(), found: "an object without it".to_owned() };
            return node.refuse(fault);
        };
        parameters.check(node.offset, self.limits.strictness)?;
        let built = parameters.give_to(Message::builder(performative)).build_within(self.limits.content_max);
        built.map_err(|error| Refusal::new(node.offset, ParseErrorKind::Message(error)))
    }

    fn parameter<'a>(&mut self, parameter: Parameter, value: Node<'a>, into: &mut Parameters<'a>) -> Read<()> {
        match parameter {
            Parameter::Sender => into.sender = Some(self.agent(value, 1)?),
            Parameter::Receiver => into.receivers = self.agents(value, 1, "agents", RECEIVERS_MAX)?,
            Parameter::ReplyTo => into.reply_to = self.agents(value, 1, "agents", RECEIVERS_MAX)?,
            Parameter::Content => into.content = Some(self.content(value)?),
            Parameter::ReplyBy => into.reply_by = Some(self.reply_by(value)?),
            Parameter::AttemptsMax | Parameter::TimeToLiveMs => {
                if !value.is_number() {
                    return value.expected("a number");
                }
                into.set_text(parameter, value.offset, value.source.into(), self.now)?;
            }
            textual => into.set_text(textual, value.offset, value.string("a string")?, self.now)?,
        }
        Ok(())
    }

    fn reply_by(&self, value: Node<'_>) -> Read<WallTime> {
        const DATE: &str = "a date such as 20250131T235959999Z";
        let text = value.string("a string with a date")?;
        // The epoch would count as no limit. It is in the past either way.
        read_date(text.as_bytes(), self.now).map(|moment| moment.max(WallTime(1))).ok_or_else(|| {
            let shown = excerpt(text.as_bytes());
            let fault = ParseErrorKind::IllegalValue { parameter: "reply-by", value: shown, allowed: DATE.into() };
            Refusal::new(value.offset, fault)
        })
    }

    fn content<'a>(&self, value: Node<'a>) -> Read<Cow<'a, [u8]>> {
        let limit = self.limits.content_max.as_usize();
        let too_long =
            |node: &Node<'_>| Refusal::new(node.offset, ParseErrorKind::TooLong { what: "the content".into(), limit });
        if value.source.len() / ESCAPE_GROWTH_MAX > limit {
            return Err(too_long(&value));
        }
        let mut content = None;
        if value.is_object() {
            value.members("content", |key, name, bytes| {
                if name != "base64" {
                    return Err(unknown("member of content", &key, &name, CONTENT_MEMBERS));
                }
                once(&mut content, from_base64(bytes, "content")?.into(), "base64", key.offset)
            })?;
        } else {
            content = Some(match value.string("content, which is a string or {\"base64\": string}")? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        match content {
            None => value.expected("content with the member base64"),
            Some(content) if content.len() > limit => Err(too_long(&value)),
            Some(content) => Ok(content),
        }
    }

    fn agents(&mut self, value: Node<'_>, depth: usize, what: &'static str, limit: usize) -> Read<Vec<Aid>> {
        let mut agents = Vec::new();
        value.elements("an array of agents", |element| {
            if agents.len() == limit {
                return element.refuse(ParseErrorKind::TooMany { what, limit });
            }
            agents.push(self.agent(element, depth)?);
            Ok(())
        })?;
        Ok(agents)
    }

    fn agent(&mut self, value: Node<'_>, depth: usize) -> Read<Aid> {
        let limit = self.limits.aids_max;
        let too_many = || Refusal::new(value.offset, ParseErrorKind::TooMany { what: "agent identifiers", limit });
        self.aids_left = self.aids_left.checked_sub(1).ok_or_else(too_many)?;
        if depth > AID_DEPTH_MAX {
            return value.refuse(ParseErrorKind::NestedTooDeep { what: "resolvers", limit: AID_DEPTH_MAX });
        }
        if value.is_string() {
            return Ok(Aid::new(agent_name(value)?));
        }
        let (mut name, mut addresses, mut resolvers, mut user_defined) = (None, None, None, None);
        value.members("an agent: a name, or an object with a name", |key, member, value| match &*member {
            "name" => once(&mut name, agent_name(value)?, "name", key.offset),
            "addresses" => once(&mut addresses, strings(value)?, "addresses", key.offset),
            "resolvers" => {
                let read = self.agents(value, depth + 1, "resolvers", AID_ENTRIES_MAX)?;
                once(&mut resolvers, read, "resolvers", key.offset)
            }
            "user-defined" => once(&mut user_defined, user_parameters(value)?, "user-defined", key.offset),
            _ => Err(unknown("member of an agent", &key, &member, AGENT_MEMBERS)),
        })?;
        let Some(name) = name else {
            return value.expected("an agent with the member name");
        };
        Ok(Aid {
            name,
            addresses: addresses.unwrap_or_default(),
            resolvers: resolvers.unwrap_or_default(),
            user_parameters: user_defined.unwrap_or_default(),
        })
    }
}

fn agent_name(value: Node<'_>) -> Read<AgentName> {
    let name = value.string("an agent's name, which is a string")?;
    AgentName::try_new(name).map_err(|error| Refusal::new(value.offset, ParseErrorKind::Refused(error)))
}

fn strings(value: Node<'_>) -> Read<Vec<Box<str>>> {
    let mut strings = Vec::new();
    value.elements("an array of addresses", |element| {
        if strings.len() == AID_ENTRIES_MAX {
            return element.refuse(ParseErrorKind::TooMany { what: "addresses", limit: AID_ENTRIES_MAX });
        }
        strings.push(bounded(&element, element.string("an address, which is a string")?, "addresses")?.into());
        Ok(())
    })?;
    Ok(strings)
}

fn user_parameters(value: Node<'_>) -> Read<Vec<UserParameter>> {
    let mut parameters = Vec::new();
    value.elements("an array of user-defined parameters", |element| {
        check_user_parameters(element.offset, &parameters)?;
        parameters.push(user_parameter(element)?);
        Ok(())
    })?;
    Ok(parameters)
}

fn user_parameter(node: Node<'_>) -> Read<UserParameter> {
    let (mut name, mut value) = (None, None);
    node.members("a user-defined parameter: an object with name and a value", |key, member, node| {
        let text = || -> Read<Box<str>> { Ok(bounded(&node, node.string("a string")?, "user-defined")?.into()) };
        let read = match &*member {
            "name" => {
                let text = text()?;
                if !is_kept_parameter_name(&text) {
                    return node.refuse(ParseErrorKind::ParameterName { name: excerpt(text.as_bytes()) });
                }
                return once(&mut name, text, "name", key.offset);
            }
            "word" => ParameterValue::Atom(text()?),
            "string" => ParameterValue::Text(text()?),
            "list" => ParameterValue::list(text()?),
            "base64" => {
                let bytes = from_base64(node, "user-defined")?;
                if bytes.len() > PARAMETER_BYTES_MAX {
                    let what = "a user-defined parameter".into();
                    return node.refuse(ParseErrorKind::TooLong { what, limit: PARAMETER_BYTES_MAX });
                }
                ParameterValue::Binary(bytes.into())
            }
            _ => return Err(unknown("member of a user-defined parameter", &key, &member, PARAMETER_MEMBERS)),
        };
        if value.replace(read.readable()).is_some() {
            return key.refuse(ParseErrorKind::Contradiction("a parameter has one of word, string, list and base64"));
        }
        Ok(())
    })?;
    match (name, value) {
        (Some(name), Some(value)) => Ok(user_defined(&name, value)),
        (None, _) => node.expected("a user-defined parameter with the member name"),
        (_, None) => node.expected("a user-defined parameter with one of word, string, list and base64"),
    }
}

fn bounded<'a>(node: &Node<'_>, text: Cow<'a, str>, what: &'static str) -> Read<Cow<'a, str>> {
    if text.len() > PARAMETER_BYTES_MAX {
        return node.refuse(ParseErrorKind::TooLong { what: what.into(), limit: PARAMETER_BYTES_MAX });
    }
    Ok(text)
}

fn from_base64(node: Node<'_>, parameter: &'static str) -> Read<Vec<u8>> {
    let text = node.string("a string in base64")?;
    read_base64(&text).ok_or_else(|| {
        let value = excerpt(text.as_bytes());
        Refusal::new(
            node.offset,
            ParseErrorKind::IllegalValue { parameter, value, allowed: "base64 (RFC 4648)".into() },
        )
    })
}

fn once<T>(place: &mut Option<T>, value: T, name: &'static str, offset: usize) -> Read<()> {
    if place.replace(value).is_some() {
        return Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name }));
    }
    Ok(())
}

fn unknown(what: &'static str, key: &Node<'_>, name: &str, known: &[&'static str]) -> Refusal {
    let fault = ParseErrorKind::Unknown {
        what,
        name: excerpt(name.as_bytes()),
        nearest: nearest(name, known),
        allowed: known.join(", ").into(),
    };
    Refusal::new(key.offset, fault)
}
