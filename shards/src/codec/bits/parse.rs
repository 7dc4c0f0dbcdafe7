//! The parser: builds a message in one pass, parameter by parameter.

use std::borrow::Cow;

use super::code;
use super::expression::Value;
use super::reader::Reader;
use crate::codec::text::{
    Parameters, ParseErrorKind, REPLY_BY_KEPT, Read, Refusal, check_user_parameters, excerpt, user_defined,
};
use crate::domain::AgentName;
use crate::message::details::{is_kept_parameter_name, is_user_parameter_name};
use crate::message::parameter::Parameter;
use crate::message::{
    AID_DEPTH_MAX, AID_ENTRIES_MAX, Aid, Message, Performative, RECEIVERS_MAX, UserParameter, WallTime,
};

impl<'a> Reader<'a, '_> {
    /// Reads the message at the current position, up to its end.
    #[inline]
    pub fn message(&mut self) -> Read<Message> {
        let start = self.position();
        self.header()?;
        let performative = self.performative()?;
        let mut parameters = Parameters::default();
        loop {
            match self.byte("a parameter, or 0x01 for the end of the message")? {
                code::END => break,
                code => self.parameter(code, &mut parameters)?,
            }
        }
        parameters.check(start, self.strictness)?;
        let built = parameters.give_to(Message::builder(performative)).build_within(self.content_max);
        built.map_err(|error| Refusal::new(start, ParseErrorKind::Message(error)))
    }

    fn header(&mut self) -> Read<()> {
        match self.byte("a message, which begins with 0xfa, 0xfb or 0xfc")? {
            code::NO_TABLE => self.forget_table(),
            code::TABLE => self.learns = true,
            code::TABLE_KEPT => {}
            _ => return Err(self.expected_at(self.position() - 1, "a message, which begins with 0xfa, 0xfb or 0xfc")),
        }
        if self.byte("the version")? == code::VERSION {
            Ok(())
        } else {
            Err(self.expected_at(self.position() - 1, "version 0x10"))
        }
    }

    fn performative(&mut self) -> Read<Performative> {
        let expected = "a performative, which is 0x01 to 0x16, or 0x00 and a word";
        let code = self.byte(expected)?;
        if code == code::USER_DEFINED {
            let (offset, word) = self.text("performative")?;
            return word.parse().map_err(|error| Refusal::new(offset, ParseErrorKind::Refused(error)));
        }
        let act = usize::from(code).checked_sub(1).and_then(|place| Performative::STANDARD.get(place));
        act.copied().ok_or_else(|| self.expected_at(self.position() - 1, expected))
    }

    #[inline]
    fn parameter(&mut self, code: u8, into: &mut Parameters<'a>) -> Read<()> {
        let offset = self.position() - 1;
        let parameter = match code {
            code::USER_DEFINED => return self.user_defined(offset, into),
            code::SENDER => Parameter::Sender,
            code::RECEIVER => Parameter::Receiver,
            code::CONTENT => Parameter::Content,
            code::REPLY_WITH => Parameter::ReplyWith,
            code::REPLY_BY => Parameter::ReplyBy,
            code::IN_REPLY_TO => Parameter::InReplyTo,
            code::REPLY_TO => Parameter::ReplyTo,
            code::LANGUAGE => Parameter::Language,
            code::ENCODING => Parameter::Encoding,
            code::ONTOLOGY => Parameter::Ontology,
            code::PROTOCOL => Parameter::Protocol,
            code::CONVERSATION_ID => Parameter::ConversationId,
            _ => return Err(self.expected_at(offset, "a parameter, which is 0x02 to 0x0d, or 0x00 and a word")),
        };
        self.give(offset, parameter)?;
        match parameter {
            Parameter::Sender => into.sender = Some(self.agent("sender")?),
            Parameter::Receiver => into.receivers = self.agents("receiver")?,
            Parameter::ReplyTo => into.reply_to = self.agents("reply-to")?,
            Parameter::Content => into.content = Some(self.content()?),
            Parameter::Language => into.language = self.textual("language")?,
            Parameter::Encoding => into.encoding = self.textual("encoding")?,
            Parameter::Ontology => into.ontology = self.textual("ontology")?,
            Parameter::Protocol => into.protocol = self.textual("protocol")?,
            Parameter::ConversationId => into.conversation = self.textual("conversation-id")?,
            Parameter::ReplyWith => into.reply_with = self.textual("reply-with")?,
            Parameter::InReplyTo => into.in_reply_to = self.textual("in-reply-to")?,
            _ => self.reply_by(into)?,
        }
        Ok(())
    }

    /// Marks the parameter as present.
    fn give(&mut self, offset: usize, parameter: Parameter) -> Read<()> {
        if self.given.insert(parameter) {
            Ok(())
        } else {
            Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name: parameter.name() }))
        }
    }

    fn textual(&mut self, parameter: &'static str) -> Read<Option<Cow<'a, str>>> {
        self.text(parameter).map(|(_, text)| Some(text))
    }

    fn content(&mut self) -> Read<Cow<'a, [u8]>> {
        let limit = self.content_max.as_usize();
        self.value("content", limit).map(Value::bytes)
    }

    /// A value that is not a date sets no deadline and is kept, as in the string form.
    fn reply_by(&mut self, into: &mut Parameters<'a>) -> Read<()> {
        let value = self.parameter_value("reply-by")?;
        if let Some(moment) = value.moment(self.now) {
            // The epoch would count as no limit. It is in the past either way.
            into.reply_by = Some(moment.max(WallTime(1)));
            return Ok(());
        }
        check_user_parameters(value.offset, &into.user_defined)?;
        into.user_defined.push(UserParameter { name: REPLY_BY_KEPT.into(), value: value.kept(REPLY_BY_KEPT)? });
        Ok(())
    }

    /// Reads a parameter given by name: one of the router's own, or a user-defined one.
    fn user_defined(&mut self, offset: usize, into: &mut Parameters<'a>) -> Read<()> {
        let (place, name) = self.text("the name of a user-defined parameter")?;
        match Parameter::named(name.as_bytes()) {
            Some(own) if is_user_parameter_name(&name) => {
                self.give(offset, own)?;
                let (offset, text) = self.text(own.name())?;
                into.delivery.set(own, offset, &text, self.now)
            }
            _ => {
                check_user_parameters(offset, &into.user_defined)?;
                into.user_defined.push(self.user_parameter(place, &name)?);
                Ok(())
            }
        }
    }

    /// Reads the value of the user-defined parameter whose name is at `offset`.
    fn user_parameter(&mut self, offset: usize, name: &str) -> Read<UserParameter> {
        check_user_parameter_name(offset, name)?;
        let value = self.parameter_value(name)?.kept(name)?;
        Ok(user_defined(name, value))
    }

    /// Reads the single identifier that is the value of `parameter`.
    fn agent(&mut self, parameter: &'static str) -> Read<Aid> {
        match self.byte("an agent identifier, which begins with 0x02")? {
            code::IDENTIFIER => self.identifier(parameter, 1),
            _ => Err(self.expected_at(self.position() - 1, "an agent identifier, which begins with 0x02")),
        }
    }

    /// Reads the identifiers that are the value of `parameter`.
    fn agents(&mut self, parameter: &'static str) -> Read<Vec<Aid>> {
        let mut read = Vec::new();
        while self.next_agent("agents", RECEIVERS_MAX, read.len())? {
            read.push(self.identifier(parameter, 1)?);
        }
        Ok(read)
    }

    /// Whether another identifier follows in a collection that has `count` of them, rather than its end.
    pub fn next_agent(&mut self, what: &'static str, limit: usize, count: usize) -> Read<bool> {
        let expected = "an agent identifier, which begins with 0x02, or 0x01 for the end";
        match self.byte(expected)? {
            code::END => Ok(false),
            code::IDENTIFIER if count < limit => Ok(true),
            code::IDENTIFIER => Err(Refusal::new(self.position() - 1, ParseErrorKind::TooMany { what, limit })),
            _ => Err(self.expected_at(self.position() - 1, expected)),
        }
    }

    /// Counts an identifier at `depth`, whose code has just been read.
    pub fn count_identifier(&mut self, depth: usize) -> Read<()> {
        let offset = self.position() - 1;
        let too_many =
            || Refusal::new(offset, ParseErrorKind::TooMany { what: "agent identifiers", limit: self.aids_max });
        self.aids_left = self.aids_left.checked_sub(1).ok_or_else(too_many)?;
        if depth > AID_DEPTH_MAX {
            let fault = ParseErrorKind::NestedTooDeep { what: "resolvers", limit: AID_DEPTH_MAX };
            return Err(Refusal::new(offset, fault));
        }
        Ok(())
    }

    /// Reads what follows the code of an identifier.
    fn identifier(&mut self, parameter: &'static str, depth: usize) -> Read<Aid> {
        self.count_identifier(depth)?;
        let (offset, name) = self.text(parameter)?;
        let mut aid = Aid::new(agent_name(offset, &name)?);
        let expected = "a part of an agent identifier, or 0x01 for its end";
        let mut code = self.byte(expected)?;
        if code == code::ADDRESSES {
            while self.peek() != Some(code::END) {
                check_entries(self.position(), "addresses", aid.addresses.len())?;
                let (_, address) = self.text("addresses")?;
                aid.addresses.push(address.into());
            }
            self.byte("the end of the addresses")?;
            code = self.byte(expected)?;
        }
        if code == code::RESOLVERS {
            while self.next_agent("resolvers", AID_ENTRIES_MAX, aid.resolvers.len())? {
                aid.resolvers.push(self.identifier("resolvers", depth + 1)?);
            }
            code = self.byte(expected)?;
        }
        while code == code::IDENTIFIER_PARAMETER {
            check_user_parameters(self.position() - 1, &aid.user_parameters)?;
            let (offset, name) = self.text("the name of a user-defined parameter")?;
            aid.user_parameters.push(self.user_parameter(offset, &name)?);
            code = self.byte(expected)?;
        }
        if code == code::END { Ok(aid) } else { Err(self.expected_at(self.position() - 1, expected)) }
    }
}

/// Checks that there is room for another one, which begins at `offset`.
pub(super) fn check_entries(offset: usize, what: &'static str, count: usize) -> Read<()> {
    if count < AID_ENTRIES_MAX {
        Ok(())
    } else {
        Err(Refusal::new(offset, ParseErrorKind::TooMany { what, limit: AID_ENTRIES_MAX }))
    }
}

pub(super) fn check_user_parameter_name(offset: usize, name: &str) -> Read<()> {
    if is_kept_parameter_name(name) {
        Ok(())
    } else {
        Err(Refusal::new(offset, ParseErrorKind::ParameterName { name: excerpt(name.as_bytes()) }))
    }
}

pub(super) fn agent_name(offset: usize, name: &str) -> Read<AgentName> {
    AgentName::try_new(name).map_err(|error| Refusal::new(offset, ParseErrorKind::Refused(error)))
}
