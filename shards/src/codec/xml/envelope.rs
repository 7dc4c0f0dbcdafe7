//! The XML form of transport envelopes (FIPA SC00085).
//!
//! ```xml
//! <envelope><params index="1"><to><agent-identifier><name>a@x</name><addresses><url>http://x/acc</url></addresses>
//! </agent-identifier></to><from>...</from><acl-representation>fipa.acl.rep.string.std</acl-representation>
//! <date>20250131T235959999Z</date><received><received-by value="http://x/acc"/>...</received></params></envelope>
//! ```
//!
//! (on one line, after a declaration). A channel on the way adds a `params` element with the next index. These are
//! merged in index order: the latest value of each parameter applies, and all stamps are kept. Written envelopes have
//! everything in the first `params` element, and each stamp after the first one in an element of its own.
//!
//! User-defined parameters, and text that XML cannot represent, are written as in messages. Accepted beyond the
//! standard are dates with a `Z` instead of the `T`, as JADE writes them, agents in one `to` or `intended-receiver`
//! each, and what the reader of messages accepts.

use std::borrow::Cow;

use super::cursor::{Tag, shown_tag};
use super::parse::{Reader, no_attributes, once, single, unknown_attribute};
use super::print::{Style, Writer};
use crate::codec::text::{Limits, ParseError, ParseErrorKind, Read, Refusal, check_user_parameters, excerpt};
use crate::codec::walk::Form as _;
use crate::message::date::read as read_date;
use crate::message::date::write as write_date;
use crate::message::details::PARAMETER_BYTES_MAX;
use crate::message::{
    AclRepresentation, Aid, ParameterValue, RECEIVED_STAMPS_MAX, RECEIVERS_MAX, ReceivedStamp, TransportEnvelope,
    UserParameter, WallTime,
};

const TRANSPORT_BEHAVIOUR: &str = "transport-behaviour";

/// Children of a `params` element.
const PARAMETERS: &[&str] = &[
    "to",
    "from",
    "comments",
    "acl-representation",
    "payload-length",
    "payload-encoding",
    "date",
    "intended-receiver",
    "received",
    TRANSPORT_BEHAVIOUR,
    "user-defined",
];

/// Reads exactly one envelope. Relative dates count from `now`. Of the limits, those on the length of the input and on
/// the number of agents apply.
///
/// # Errors
///
/// Returns the first fault in the input, with its position.
pub fn envelope_from_xml(input: &[u8], now: WallTime, limits: &Limits) -> Result<TransportEnvelope, ParseError> {
    single(input, limits, |reader| envelope(reader, now)).map_err(|refusal| refusal.locate(input))
}

fn envelope(reader: &mut Reader<'_>, now: WallTime) -> Read<TransportEnvelope> {
    let expected = "an envelope, which begins with <envelope>";
    let Some(root) = reader.cursor.root(expected)? else {
        let fault = ParseErrorKind::Expected { expected: expected.into(), found: "the end of the input".to_owned() };
        return Err(Refusal::new(reader.cursor.position(), fault));
    };
    if !root.name.eq_ignore_ascii_case("envelope") {
        let found = shown_tag(&root);
        return Err(Refusal::new(root.offset, ParseErrorKind::Expected { expected: "<envelope>".into(), found }));
    }
    no_attributes(&root)?;
    let mut merged = Merged::default();
    while let Some(tag) = reader.cursor.child("<params> or </envelope>")? {
        if !tag.name.eq_ignore_ascii_case("params") {
            let found = shown_tag(&tag);
            return Err(Refusal::new(tag.offset, ParseErrorKind::Expected { expected: "<params>".into(), found }));
        }
        let index = index_of(&tag)?;
        while let Some(child) = reader.cursor.child("a parameter of the envelope, or </params>")? {
            parameter(reader, &child, index, now, &mut merged)?;
        }
    }
    let missing = |name: &str| {
        let fault = ParseErrorKind::Expected { expected: format!("<{name}>").into(), found: "</envelope>".to_owned() };
        Refusal::new(root.offset, fault)
    };
    merged.received.sort_by_key(|(index, _)| *index);
    let envelope = TransportEnvelope {
        to: merged.to.value,
        from: merged.from.value.ok_or_else(|| missing("from"))?,
        date: merged.date.value.ok_or_else(|| missing("date"))?,
        acl_representation: merged.acl_representation.value.ok_or_else(|| missing("acl-representation"))?,
        comments: merged.comments.value,
        payload_length: merged.payload_length.value,
        payload_encoding: merged.payload_encoding.value,
        intended_receivers: merged.intended_receivers.value,
        received: merged.received.into_iter().map(|(_, stamp)| stamp).collect(),
        transport_behaviour: merged.transport_behaviour.value,
        user_parameters: merged.user_parameters,
    };
    match envelope.check() {
        Ok(()) => Ok(envelope),
        Err(fault) => Err(Refusal::new(root.offset, ParseErrorKind::Envelope(fault))),
    }
}

/// A value and the index of the `params` element that it came from.
#[derive(Default)]
struct Latest<T> {
    value: T,
    index: Option<u64>,
}

impl<T> Latest<T> {
    /// Takes a later value; the same element must not have one already.
    fn set(&mut self, value: T, index: u64, name: &'static str, offset: usize) -> Read<()> {
        if self.index == Some(index) {
            return Err(Refusal::new(offset, ParseErrorKind::RepeatedParameter { name }));
        }
        if self.index.is_none_or(|present| present < index) {
            *self = Self { value, index: Some(index) };
        }
        Ok(())
    }
}

impl Latest<Vec<Aid>> {
    /// Adds agents to those of the same element: platforms name them once for all or once for each.
    fn add(&mut self, agents: Vec<Aid>, index: u64, offset: usize) -> Read<()> {
        if self.index.is_none_or(|present| present < index) {
            *self = Self { value: agents, index: Some(index) };
        } else if self.index == Some(index) {
            if self.value.len() + agents.len() > RECEIVERS_MAX {
                return Err(Refusal::new(offset, ParseErrorKind::TooMany { what: "agents", limit: RECEIVERS_MAX }));
            }
            self.value.extend(agents);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Merged {
    to: Latest<Vec<Aid>>,
    from: Latest<Option<Aid>>,
    date: Latest<Option<WallTime>>,
    acl_representation: Latest<Option<AclRepresentation>>,
    comments: Latest<Option<Box<str>>>,
    payload_length: Latest<Option<u64>>,
    payload_encoding: Latest<Option<Box<str>>>,
    intended_receivers: Latest<Vec<Aid>>,
    transport_behaviour: Latest<Option<ParameterValue>>,
    received: Vec<(u64, ReceivedStamp)>,
    user_parameters: Vec<UserParameter>,
}

fn index_of(tag: &Tag<'_>) -> Read<u64> {
    let mut index = None;
    for attribute in tag.attributes() {
        let attribute = attribute?;
        if !attribute.name.eq_ignore_ascii_case("index") {
            return Err(unknown_attribute(&attribute, "index"));
        }
        let text = attribute.value(PARAMETER_BYTES_MAX)?;
        once(&mut index, number("index", attribute.value_offset, &text)?, "index", attribute.offset)?;
    }
    index.ok_or_else(|| {
        let found = shown_tag(tag);
        Refusal::new(tag.offset, ParseErrorKind::Expected { expected: "the attribute index".into(), found })
    })
}

fn parameter<'a>(reader: &mut Reader<'a>, tag: &Tag<'a>, index: u64, now: WallTime, into: &mut Merged) -> Read<()> {
    let offset = tag.offset;
    let Some(name) = PARAMETERS.iter().copied().find(|name| tag.name.eq_ignore_ascii_case(name)) else {
        return user_parameter(reader, tag, &mut into.user_parameters);
    };
    match name {
        "to" | "intended-receiver" => {
            let mut aids = Vec::new();
            reader.aids(tag, 1, "agents", RECEIVERS_MAX, &mut aids)?;
            let place = if name == "to" { &mut into.to } else { &mut into.intended_receivers };
            place.add(aids, index, offset)
        }
        "from" => {
            let aid = reader.one_agent(tag, name)?;
            into.from.set(Some(aid), index, name, offset)
        }
        "received" => {
            if into.received.len() == RECEIVED_STAMPS_MAX {
                return Err(Refusal::new(
                    offset,
                    ParseErrorKind::TooMany { what: "stamps", limit: RECEIVED_STAMPS_MAX },
                ));
            }
            into.received.push((index, stamp(reader, tag, now)?));
            Ok(())
        }
        TRANSPORT_BEHAVIOUR => {
            let value = reader.typed(tag, Some(name.into()))?.value;
            into.transport_behaviour.set(Some(value), index, name, offset)
        }
        "user-defined" => user_parameter(reader, tag, &mut into.user_parameters),
        "date" => {
            let (place, text) = reader.value(tag, name, &[])?;
            into.date.set(Some(date(name, place, &text, now)?), index, name, offset)
        }
        "payload-length" => {
            let (place, text) = reader.value(tag, name, &[])?;
            into.payload_length.set(Some(number(name, place, &text)?), index, name, offset)
        }
        "acl-representation" => {
            let (_, text) = reader.value(tag, name, &[])?;
            into.acl_representation.set(Some(AclRepresentation::named(&text)), index, name, offset)
        }
        _ => {
            let (_, text) = reader.value(tag, name, &[])?;
            let place = if name == "comments" { &mut into.comments } else { &mut into.payload_encoding };
            place.set(Some(text.into()), index, name, offset)
        }
    }
}

fn user_parameter<'a>(reader: &mut Reader<'a>, tag: &Tag<'a>, into: &mut Vec<UserParameter>) -> Read<()> {
    check_user_parameters(tag.offset, into)?;
    into.push(reader.user_parameter(tag, PARAMETERS)?);
    Ok(())
}

/// Children of a `received` element.
const STAMP: &[&str] =
    &["received-by", "received-from", "received-date", "received-id", "received-via", "user-defined"];

fn stamp<'a>(reader: &mut Reader<'a>, tag: &Tag<'a>, now: WallTime) -> Read<ReceivedStamp> {
    no_attributes(tag)?;
    let (mut by, mut from, mut moment, mut id, mut via) = (None, None, None, None, None);
    let mut user_parameters = Vec::new();
    while let Some(child) = reader.cursor.child("<received-by> or </received>")? {
        let name = STAMP.iter().copied().find(|name| child.name.eq_ignore_ascii_case(name));
        let Some(name) = name.filter(|name| *name != "user-defined") else {
            check_user_parameters(child.offset, &user_parameters)?;
            user_parameters.push(reader.user_parameter(&child, STAMP)?);
            continue;
        };
        let (place, text) = reader.value(&child, name, &["value"])?;
        match name {
            "received-date" => once(&mut moment, date(name, place, &text, now)?, name, child.offset)?,
            "received-by" => once(&mut by, text.into(), name, child.offset)?,
            "received-from" => once(&mut from, text.into(), name, child.offset)?,
            "received-id" => once(&mut id, text.into(), name, child.offset)?,
            _ => once(&mut via, text.into(), name, child.offset)?,
        }
    }
    let missing = |name: &str| {
        let fault = ParseErrorKind::Expected { expected: format!("<{name}>").into(), found: "</received>".to_owned() };
        Refusal::new(tag.offset, fault)
    };
    Ok(ReceivedStamp {
        by: by.ok_or_else(|| missing("received-by"))?,
        from,
        date: moment.ok_or_else(|| missing("received-date"))?,
        id,
        via,
        user_parameters,
    })
}

fn number(name: &'static str, offset: usize, text: &str) -> Read<u64> {
    text.trim_ascii().parse().map_err(|_| {
        let value = excerpt(text.as_bytes());
        let allowed = Cow::Borrowed("0 to 18446744073709551615");
        Refusal::new(offset, ParseErrorKind::IllegalValue { parameter: name, value, allowed })
    })
}

fn date(name: &'static str, offset: usize, text: &str, now: WallTime) -> Read<WallTime> {
    /// The position between date and time.
    const SEPARATOR: usize = 8;
    let mut bytes = text.trim_ascii().as_bytes().to_vec();
    if let Some(separator @ b'Z') = bytes.get_mut(SEPARATOR) {
        *separator = b'T';
    }
    read_date(&bytes, now).ok_or_else(|| {
        let value = excerpt(text.as_bytes());
        let allowed = Cow::Borrowed("a date such as 20250131T235959999Z");
        Refusal::new(offset, ParseErrorKind::IllegalValue { parameter: name, value, allowed })
    })
}

/// Appends the XML form of `envelope` to `output`.
pub fn envelope_to_xml(envelope: &TransportEnvelope, output: &mut Vec<u8>) {
    let mut writer = Writer { output };
    writer.bytes(b"<?xml version=\"1.0\"?><envelope><params index=\"1\">");
    aids("to", &envelope.to, &mut writer);
    aids("from", std::slice::from_ref(&envelope.from), &mut writer);
    if let Some(comments) = &envelope.comments {
        writer.text_element("comments", comments);
    }
    writer.text_element("acl-representation", envelope.acl_representation.as_str());
    if let Some(length) = envelope.payload_length {
        writer.text_element("payload-length", &length.to_string());
    }
    if let Some(encoding) = &envelope.payload_encoding {
        writer.text_element("payload-encoding", encoding);
    }
    writer.text_element("date", &date_text(envelope.date));
    if !envelope.intended_receivers.is_empty() {
        aids("intended-receiver", &envelope.intended_receivers, &mut writer);
    }
    if let Some(value) = &envelope.transport_behaviour {
        writer.typed(TRANSPORT_BEHAVIOUR, value);
    }
    for parameter in &envelope.user_parameters {
        writer.user_parameter(parameter);
    }
    for (index, received) in envelope.received.iter().enumerate() {
        if index > 0 {
            writer.bytes(b"</params><params index=\"");
            writer.bytes((index + 1).to_string().as_bytes());
            writer.bytes(b"\">");
        }
        write_stamp(received, &mut writer);
    }
    writer.bytes(b"</params></envelope>");
}

fn aids(element: &str, aids: &[Aid], writer: &mut Writer<'_>) {
    writer.open(element);
    for aid in aids {
        writer.identifier(aid, Style::Text);
    }
    writer.close(element);
}

fn write_stamp(stamp: &ReceivedStamp, writer: &mut Writer<'_>) {
    writer.open("received");
    writer.attribute_element("received-by", "value", &stamp.by);
    if let Some(from) = &stamp.from {
        writer.attribute_element("received-from", "value", from);
    }
    writer.attribute_element("received-date", "value", &date_text(stamp.date));
    for (element, text) in [("received-id", &stamp.id), ("received-via", &stamp.via)] {
        if let Some(text) = text {
            writer.attribute_element(element, "value", text);
        }
    }
    for parameter in &stamp.user_parameters {
        writer.user_parameter(parameter);
    }
    writer.close("received");
}

fn date_text(moment: WallTime) -> String {
    write_date(moment).iter().map(|byte| char::from(*byte)).collect()
}
