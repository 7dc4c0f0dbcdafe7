//! The bit-efficient transport envelope (SC00088): the parts added by channels, the base envelope, then the payload.
//!
//! Text in envelopes ends with a terminator and has no code. It is written unquoted, as other platforms do; only text
//! that would be misread, because it begins like a string of SC00070 or contains a terminator, is written with its
//! length.

use super::code::{self, envelope as field};
use super::error::BitsError;
use super::expression::source_value;
use super::number;
use super::parse::{agent_name, check_entries, check_user_parameter_name};
use super::reader::{Reader, Token, is_date};
use super::writer::{Writer, counted_form, string_form};
use crate::codec::text::{Limits, ParseErrorKind, Read, Refusal, check_user_parameters, excerpt, user_defined};
use crate::message::date::read as read_date;
use crate::message::parameter::Parameter;
use crate::message::word::is_atom;
use crate::message::{
    AID_ENTRIES_MAX, AclRepresentation, Aid, PARAMETER_BYTES_MAX, ParameterValue, RECEIVED_STAMPS_MAX, RECEIVERS_MAX,
    ReceivedStamp, TransportEnvelope, TransportEnvelopeError, USER_PARAMETERS_MAX, UserParameter, WallTime,
};

/// Reads the envelope at the start of `input` and returns where its payload begins. Relative dates count from `now`.
///
/// If a channel repeated a parameter, the channel's value applies; the stamps of all channels are kept, in the order in
/// which they were added.
///
/// # Errors
///
/// Returns the first fault in the input, with its position.
pub fn parse_envelope(input: &[u8], now: WallTime, limits: &Limits) -> Result<(TransportEnvelope, usize), BitsError> {
    let mut reader = Reader::new(input, 0, now, limits, None);
    let envelope = reader.envelope()?;
    debug_assert_eq!(envelope.check(), Ok(()));
    Ok((envelope, reader.position()))
}

/// Appends the envelope to `output`: each stamp as the envelope of a channel, the latest one first, then the rest as
/// the base envelope. The payload follows.
///
/// Times after the year 9999 become its last millisecond.
///
/// # Errors
///
/// Returns the limit that the envelope breaks. Nothing was written.
pub fn print_envelope(envelope: &TransportEnvelope, output: &mut Vec<u8>) -> Result<(), TransportEnvelopeError> {
    envelope.check()?;
    for stamp in envelope.received.iter().rev() {
        with_length(code::EXTERNAL_ENVELOPE, output, |writer| writer.stamp(stamp));
    }
    with_length(code::BASE_ENVELOPE, output, |writer| writer.base(envelope));
    Ok(())
}

/// The parameters of one envelope, or the merged parameters of several.
#[derive(Default)]
struct Given {
    to: Option<Vec<Aid>>,
    from: Option<Aid>,
    acl_representation: Option<AclRepresentation>,
    comments: Option<Box<str>>,
    payload_length: Option<u64>,
    payload_encoding: Option<Box<str>>,
    intended_receivers: Option<Vec<Aid>>,
    transport_behaviour: Option<ParameterValue>,
    received: Option<ReceivedStamp>,
    user_defined: Vec<UserParameter>,
}

/// Sets a parameter, which may occur once in an envelope.
fn give<T>(offset: usize, name: &'static str, place: &mut Option<T>, value: T) -> Read<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name })),
    }
}

/// Adds agents to those that a parameter already named in the same envelope.
fn add_agents(offset: usize, what: &'static str, place: &mut Option<Vec<Aid>>, agents: Vec<Aid>) -> Read<()> {
    let present = place.get_or_insert_default();
    if present.len() + agents.len() > RECEIVERS_MAX {
        return Err(Refusal::new(offset, ParseErrorKind::TooMany { what, limit: RECEIVERS_MAX }));
    }
    present.extend(agents);
    Ok(())
}

impl Given {
    /// Adds the parameters of an older envelope that this one lacks.
    fn complete_with(&mut self, older: Self) {
        self.to = self.to.take().or(older.to);
        self.from = self.from.take().or(older.from);
        self.acl_representation = self.acl_representation.take().or(older.acl_representation);
        self.comments = self.comments.take().or(older.comments);
        self.payload_length = self.payload_length.or(older.payload_length);
        self.payload_encoding = self.payload_encoding.take().or(older.payload_encoding);
        self.intended_receivers = self.intended_receivers.take().or(older.intended_receivers);
        self.transport_behaviour = self.transport_behaviour.take().or(older.transport_behaviour);
        let is_known = |name: &str| self.user_defined.iter().any(|known| known.name.eq_ignore_ascii_case(name));
        let added: Vec<_> = older.user_defined.into_iter().filter(|parameter| !is_known(&parameter.name)).collect();
        self.user_defined.extend(added);
    }
}

impl Reader<'_, '_> {
    fn envelope(&mut self) -> Read<TransportEnvelope> {
        let mut parameters = Given::default();
        let mut stamps = Vec::new();
        loop {
            let start = self.position();
            let expected = "an envelope, which begins with 0xfe or 0xfd";
            let identifier = self.byte(expected)?;
            if identifier != code::BASE_ENVELOPE && identifier != code::EXTERNAL_ENVELOPE {
                return Err(self.expected_at(start, expected));
            }
            let length = self.envelope_length()?;
            let behind_length = self.position();
            let mut representation = None;
            let mut date = None;
            if identifier == code::EXTERNAL_ENVELOPE {
                self.keep_stamp(&mut stamps)?;
            } else {
                representation = Some(self.acl_representation()?);
                date = Some(self.moment("date")?);
            }
            let mut read = self.envelope_parameters()?;
            read.acl_representation = read.acl_representation.or(representation);
            // Some platforms count from the first byte, others from after the length.
            let lengths = [self.position() - start, self.position() - behind_length];
            if lengths.iter().all(|actual| u32::try_from(*actual) != Ok(length)) {
                let fault = ParseErrorKind::Contradiction("the envelope does not have the length that it says");
                return Err(Refusal::new(start + 1, fault));
            }
            if let Some(stamp) = read.received.take() {
                push_stamp(start, &mut stamps, stamp)?;
            }
            parameters.complete_with(read);
            if parameters.user_defined.len() > USER_PARAMETERS_MAX {
                let fault = ParseErrorKind::TooMany { what: "user-defined parameters", limit: USER_PARAMETERS_MAX };
                return Err(Refusal::new(start, fault));
            }
            if let Some(date) = date {
                stamps.reverse();
                return finish(start, parameters, date, stamps);
            }
        }
    }

    /// Reads the length of an envelope. For 65,536 bytes or more it is two zeros and a length of four bytes.
    fn envelope_length(&mut self) -> Read<u32> {
        match u16::from_be_bytes(*self.array("a length of two bytes")?) {
            0 => Ok(u32::from_be_bytes(*self.array("a length of four bytes")?)),
            length => Ok(u32::from(length)),
        }
    }

    fn envelope_parameters(&mut self) -> Read<Given> {
        let mut read = Given::default();
        loop {
            let offset = self.position();
            let expected = "a parameter of an envelope, or 0x01 for its end";
            match self.byte(expected)? {
                code::END => return Ok(read),
                code::USER_DEFINED => self.envelope_parameter(offset, &mut read.user_defined)?,
                // Platforms give these once for all agents or once for each.
                field::TO => add_agents(offset, "to", &mut read.to, self.envelope_agents("to")?)?,
                field::FROM => {
                    if self.byte("an agent identifier, which begins with 0x02")? != code::IDENTIFIER {
                        return Err(self.expected_at(offset + 1, "an agent identifier, which begins with 0x02"));
                    }
                    give(offset, "from", &mut read.from, self.envelope_agent(1)?)?;
                }
                field::ACL_REPRESENTATION => {
                    give(offset, "acl-representation", &mut read.acl_representation, self.acl_representation()?)?;
                }
                field::COMMENTS => give(offset, "comments", &mut read.comments, self.envelope_text("comments")?)?,
                field::PAYLOAD_LENGTH => {
                    give(offset, "payload-length", &mut read.payload_length, self.payload_length()?)?;
                }
                field::PAYLOAD_ENCODING => {
                    let encoding = self.envelope_text("payload-encoding")?;
                    give(offset, "payload-encoding", &mut read.payload_encoding, encoding)?;
                }
                field::INTENDED_RECEIVER => {
                    let agents = self.envelope_agents("intended-receiver")?;
                    add_agents(offset, "intended-receiver", &mut read.intended_receivers, agents)?;
                }
                field::RECEIVED => give(offset, "received", &mut read.received, self.stamp()?)?,
                field::TRANSPORT_BEHAVIOUR => {
                    let value = self.envelope_value("transport-behaviour")?;
                    give(offset, "transport-behaviour", &mut read.transport_behaviour, value)?;
                }
                _ => return Err(self.expected_at(offset, expected)),
            }
        }
    }

    fn keep_stamp(&mut self, stamps: &mut Vec<ReceivedStamp>) -> Read<()> {
        let offset = self.position();
        let stamp = self.stamp()?;
        push_stamp(offset, stamps, stamp)
    }

    fn stamp(&mut self) -> Read<ReceivedStamp> {
        let by = self.envelope_text("received by")?;
        let date = self.moment("received date")?;
        let mut user_parameters = Vec::new();
        let (mut from, mut id, mut via) = (None, None, None);
        loop {
            let offset = self.position();
            let expected = "a parameter of a stamp, or 0x01 for its end";
            match self.byte(expected)? {
                code::END => return Ok(ReceivedStamp { by, from, date, id, via, user_parameters }),
                code::USER_DEFINED => self.envelope_parameter(offset, &mut user_parameters)?,
                field::STAMP_FROM => give(offset, "received from", &mut from, self.envelope_text("received from")?)?,
                field::STAMP_ID => give(offset, "received id", &mut id, self.envelope_text("received id")?)?,
                field::STAMP_VIA => give(offset, "received via", &mut via, self.envelope_text("received via")?)?,
                _ => return Err(self.expected_at(offset, expected)),
            }
        }
    }

    fn envelope_parameter(&mut self, offset: usize, into: &mut Vec<UserParameter>) -> Read<()> {
        check_user_parameters(offset, into)?;
        let place = self.position();
        let name = self.envelope_text("the name of a user-defined parameter")?;
        check_user_parameter_name(place, &name)?;
        let value = self.envelope_value("a user-defined parameter")?;
        into.push(user_defined(&name, value));
        Ok(())
    }

    fn envelope_agents(&mut self, parameter: &'static str) -> Read<Vec<Aid>> {
        let mut read = Vec::new();
        while self.next_agent(parameter, RECEIVERS_MAX, read.len())? {
            read.push(self.envelope_agent(1)?);
        }
        Ok(read)
    }

    /// Reads what follows the code of an identifier: as in messages, but with text instead of words.
    fn envelope_agent(&mut self, depth: usize) -> Read<Aid> {
        self.count_identifier(depth)?;
        let offset = self.position();
        let name = self.envelope_text(Parameter::Sender.name())?;
        let mut aid = Aid::new(agent_name(offset, &name)?);
        let expected = "a part of an agent identifier, or 0x01 for its end";
        let mut code = self.byte(expected)?;
        if code == code::ADDRESSES {
            while self.peek() != Some(code::END) {
                check_entries(self.position(), "addresses", aid.addresses.len())?;
                aid.addresses.push(self.envelope_text("addresses")?);
            }
            self.byte("the end of the addresses")?;
            code = self.byte(expected)?;
        }
        if code == code::RESOLVERS {
            while self.next_agent("resolvers", AID_ENTRIES_MAX, aid.resolvers.len())? {
                aid.resolvers.push(self.envelope_agent(depth + 1)?);
            }
            code = self.byte(expected)?;
        }
        while matches!(code, code::IDENTIFIER_PARAMETER | field::IDENTIFIER_PARAMETER_ALSO) {
            self.envelope_parameter(self.position() - 1, &mut aid.user_parameters)?;
            code = self.byte(expected)?;
        }
        if code == code::END { Ok(aid) } else { Err(self.expected_at(self.position() - 1, expected)) }
    }

    fn envelope_text(&mut self, what: &'static str) -> Read<Box<str>> {
        let offset = self.position();
        let token = self.string()?;
        text_within_limit(offset, what, token.bytes())
    }

    /// Reads a value: with a code, or text. Unquoted text is a word or an expression if it reads as one.
    fn envelope_value(&mut self, what: &'static str) -> Read<ParameterValue> {
        let offset = self.position();
        let token = match self.peek() {
            Some(code @ (code::STRING | code::BYTES_8 | code::BYTES_16 | code::BYTES_32)) => {
                self.byte("a value")?;
                self.token(code, "a string")?
            }
            _ => self.string()?,
        };
        check_length(offset, what, token.bytes())?;
        Ok(match token {
            Token::Bytes(bytes) => ParameterValue::Binary(bytes.into_owned().into()),
            Token::Raw(raw) => source_value(&text_within_limit(offset, what, &raw)?),
            token => ParameterValue::text(text_within_limit(offset, what, token.bytes())?),
        })
    }

    fn acl_representation(&mut self) -> Read<AclRepresentation> {
        let offset = self.position();
        let expected = "a representation, which is 0x10 to 0x12, or 0x00 and its name";
        Ok(match self.byte(expected)? {
            field::BIT_EFFICIENT => AclRepresentation::BitEfficient,
            field::STRING => AclRepresentation::String,
            field::XML => AclRepresentation::Xml,
            code::USER_DEFINED => AclRepresentation::named(&self.envelope_text("acl-representation")?),
            _ => return Err(self.expected_at(offset, expected)),
        })
    }

    fn moment(&mut self, parameter: &'static str) -> Read<WallTime> {
        let offset = self.position();
        let code = self.byte("a date")?;
        if !is_date(code) {
            return Err(self.expected_at(offset, "a date, which begins with 0x20 to 0x22 or 0x24 to 0x26"));
        }
        let date = self.date(code)?;
        read_date(date.as_bytes(), self.now).ok_or_else(|| {
            let value = excerpt(date.as_bytes());
            Refusal::new(
                offset,
                ParseErrorKind::IllegalValue { parameter, value, allowed: "a day of the calendar".into() },
            )
        })
    }

    /// Reads a number with or without the code of decimal numbers. No payload length begins with 01, so the code cannot
    /// be taken for digits.
    fn payload_length(&mut self) -> Read<u64> {
        let offset = self.position();
        if self.peek() == Some(code::DECIMAL) {
            self.byte("a number")?;
        }
        let digits = self.number(false)?;
        let value = std::str::from_utf8(&digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        value.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
            let (value, allowed) = (excerpt(&digits), "a whole number below 2^64".into());
            Refusal::new(offset, ParseErrorKind::IllegalValue { parameter: "payload-length", value, allowed })
        })
    }
}

fn text_within_limit(offset: usize, what: &'static str, bytes: &[u8]) -> Read<Box<str>> {
    check_length(offset, what, bytes)?;
    let not_utf8 = |_| Refusal::new(offset, ParseErrorKind::NotUtf8 { what: what.into() });
    std::str::from_utf8(bytes).map(Into::into).map_err(not_utf8)
}

fn check_length(offset: usize, what: &'static str, bytes: &[u8]) -> Read<()> {
    if bytes.len() > PARAMETER_BYTES_MAX {
        return Err(Refusal::new(offset, ParseErrorKind::TooLong { what: what.into(), limit: PARAMETER_BYTES_MAX }));
    }
    Ok(())
}

fn push_stamp(offset: usize, stamps: &mut Vec<ReceivedStamp>, stamp: ReceivedStamp) -> Read<()> {
    if stamps.len() >= RECEIVED_STAMPS_MAX {
        return Err(Refusal::new(offset, ParseErrorKind::TooMany { what: "stamps", limit: RECEIVED_STAMPS_MAX }));
    }
    stamps.push(stamp);
    Ok(())
}

fn finish(offset: usize, parameters: Given, date: WallTime, received: Vec<ReceivedStamp>) -> Read<TransportEnvelope> {
    let missing = |text| Refusal::new(offset, ParseErrorKind::Contradiction(text));
    let to = parameters.to.filter(|to| !to.is_empty());
    Ok(TransportEnvelope {
        to: to.ok_or_else(|| missing("the envelope has no parameter to, which is mandatory"))?,
        from: parameters.from.ok_or_else(|| missing("the envelope has no parameter from, which is mandatory"))?,
        date,
        acl_representation: parameters
            .acl_representation
            .ok_or_else(|| missing("the envelope has no acl-representation, which is mandatory"))?,
        comments: parameters.comments,
        payload_length: parameters.payload_length,
        payload_encoding: parameters.payload_encoding,
        intended_receivers: parameters.intended_receivers.unwrap_or_default(),
        received,
        transport_behaviour: parameters.transport_behaviour,
        user_parameters: parameters.user_defined,
    })
}

/// Writes an envelope around the output of `write`. Its length counts from the first byte.
#[allow(clippy::cast_possible_truncation)] // Each length was checked against the range of its form.
fn with_length(identifier: u8, output: &mut Vec<u8>, write: impl FnOnce(&mut Writer<'_>)) {
    let start = output.len();
    output.extend_from_slice(&[identifier, 0, 0]);
    write(&mut Writer::new(output, None));
    output.push(code::END);
    let length = output.len() - start;
    if let Ok(length) = u16::try_from(length) {
        output[start + 1..start + 3].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = (length + size_of::<u32>()) as u32;
        output.splice(start + 3..start + 3, length.to_be_bytes());
    }
}

impl Writer<'_> {
    fn base(&mut self, envelope: &TransportEnvelope) {
        self.acl_representation(&envelope.acl_representation);
        self.date(envelope.date);
        self.byte(field::TO);
        self.envelope_agents(&envelope.to);
        self.byte(field::FROM);
        self.envelope_agent(&envelope.from);
        if let Some(comments) = &envelope.comments {
            self.byte(field::COMMENTS);
            self.envelope_text(comments);
        }
        if let Some(length) = envelope.payload_length {
            self.bytes(&[field::PAYLOAD_LENGTH, code::DECIMAL]);
            number::write(length.to_string().as_bytes(), self.output);
        }
        if let Some(encoding) = &envelope.payload_encoding {
            self.byte(field::PAYLOAD_ENCODING);
            self.envelope_text(encoding);
        }
        if !envelope.intended_receivers.is_empty() {
            self.byte(field::INTENDED_RECEIVER);
            self.envelope_agents(&envelope.intended_receivers);
        }
        if let Some(behaviour) = &envelope.transport_behaviour {
            self.byte(field::TRANSPORT_BEHAVIOUR);
            // A value without a code is not allowed here.
            if is_source(behaviour) {
                self.byte(code::STRING);
            }
            self.envelope_value(behaviour);
        }
        self.envelope_parameters(code::USER_DEFINED, &envelope.user_parameters);
    }

    fn stamp(&mut self, stamp: &ReceivedStamp) {
        self.envelope_text(&stamp.by);
        self.date(stamp.date);
        for (code, text) in
            [(field::STAMP_FROM, &stamp.from), (field::STAMP_ID, &stamp.id), (field::STAMP_VIA, &stamp.via)]
        {
            if let Some(text) = text {
                self.byte(code);
                self.envelope_text(text);
            }
        }
        self.envelope_parameters(code::USER_DEFINED, &stamp.user_parameters);
        self.byte(code::END);
    }

    fn acl_representation(&mut self, representation: &AclRepresentation) {
        match representation {
            AclRepresentation::BitEfficient => self.byte(field::BIT_EFFICIENT),
            AclRepresentation::String => self.byte(field::STRING),
            AclRepresentation::Xml => self.byte(field::XML),
            AclRepresentation::UserDefined(name) => {
                self.byte(code::USER_DEFINED);
                self.envelope_text(name);
            }
        }
    }

    fn envelope_agents(&mut self, aids: &[Aid]) {
        for aid in aids {
            self.envelope_agent(aid);
        }
        self.byte(code::END);
    }

    fn envelope_agent(&mut self, aid: &Aid) {
        self.byte(code::IDENTIFIER);
        self.envelope_text(aid.name.as_ref());
        if !aid.addresses.is_empty() {
            self.byte(code::ADDRESSES);
            for address in &aid.addresses {
                self.envelope_text(address);
            }
            self.byte(code::END);
        }
        if !aid.resolvers.is_empty() {
            self.byte(code::RESOLVERS);
            self.envelope_agents(&aid.resolvers);
        }
        self.envelope_parameters(code::IDENTIFIER_PARAMETER, &aid.user_parameters);
        self.byte(code::END);
    }

    fn envelope_parameters(&mut self, code: u8, parameters: &[UserParameter]) {
        for UserParameter { name, value } in parameters {
            self.byte(code);
            self.envelope_text(name);
            self.envelope_value(value);
        }
    }

    /// Writes text unquoted, or with its length if its bytes would be misread: an address that begins with a byte 0x01
    /// would end the addresses.
    fn envelope_text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let is_plain =
            bytes.first().is_none_or(|first| *first > b' ' && !b"\"#".contains(first)) && !bytes.contains(&0);
        if is_plain {
            self.bytes(bytes);
        } else {
            counted_form(bytes, self.output);
        }
        self.byte(code::TERMINATOR);
    }

    fn envelope_value(&mut self, value: &ParameterValue) {
        let text = match value {
            ParameterValue::Binary(bytes) => return self.counted(bytes),
            ParameterValue::Atom(text) | ParameterValue::Text(text) => text,
            ParameterValue::List(expression) => expression.as_str(),
        };
        if is_source(value) {
            return self.terminated(text.as_bytes());
        }
        if text.ends_with('\\') {
            return self.counted(text.as_bytes());
        }
        self.byte(code::STRING);
        string_form(text, self.output);
        self.byte(code::TERMINATOR);
    }
}

/// Whether the value is written as its source text and reads back from it.
fn is_source(value: &ParameterValue) -> bool {
    match value {
        ParameterValue::Atom(text) => is_atom(text.as_bytes()),
        ParameterValue::List(expression) => memchr::memchr(0, expression.as_str().as_bytes()).is_none(),
        ParameterValue::Text(_) | ParameterValue::Binary(_) => false,
    }
}
