//! Messages as their headers, for clients.

use std::borrow::Cow;

use caxton_shards::codec::text::for_each_own_parameter;
use caxton_shards::message::{JSON_LANGUAGE, Message, MessageId, ParameterValue, Performative, Reliability, WallTime};

use super::header_names::{OWN_PARAMETER, user_header};
use super::headers::HeaderWriter;
use super::mapping::JSON;
use super::refusal::beginning;

/// Whether a message wants a reply.
pub(super) fn wants_reply(message: &Message) -> bool {
    message.reply_with().is_some() || message.reply_by().is_some() || message.performative().asks_for_reply()
}

/// Whether a message is nothing but an `inform` with content, so that a client learns all of it without headers.
pub(super) fn is_bare(message: &Message) -> bool {
    is_bare_reply(message) && message.in_reply_to().is_none()
}

/// Whether a reply is nothing but content for a client, apart from what it replies to.
pub(super) fn is_bare_reply(message: &Message) -> bool {
    message.performative() == Performative::Inform
        && message.reliability() == Reliability::Volatile
        && message.language_term().is_none()
        && message.protocol_term().is_none()
        && message.ontology_term().is_none()
        && message.details().is_none()
        && message.conversation().is_none()
}

/// Appends the headers of the report that a message was accepted.
pub(super) fn put_accepted(id: MessageId, output: &mut Vec<u8>) {
    let mut headers = HeaderWriter::new(output);
    headers.put("Caxton-Accepted", id.to_string().as_bytes());
    headers.end();
}

/// How a message goes to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// To a subscription.
    Message,
    /// To a subscription, with a subject for the reply.
    Question,
    /// To the reply subject of the message that it replies to.
    Reply,
}

/// Appends the headers that say what a message is. `sender` is its sender's name.
pub(super) fn put_headers(message: &Message, sender: Option<&str>, kind: Kind, output: &mut Vec<u8>) {
    let is_reply = kind == Kind::Reply;
    let mut headers = HeaderWriter::new(output);
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            headers.put(name, value.as_bytes());
        }
    };
    let performative = message.performative();
    put("Caxton-Performative", (performative != Performative::Inform || !is_reply).then(|| performative.as_str()));
    put("Caxton-Sender", sender);
    put("Caxton-Protocol", message.protocol());
    put("Caxton-Conversation-Id", message.conversation_text().as_deref());
    put("Caxton-Ontology", message.ontology());
    put("Caxton-Encoding", message.encoding());
    match message.language() {
        Some(language) if language.eq_ignore_ascii_case(JSON_LANGUAGE) => put("Content-Type", Some(JSON)),
        language => put("Caxton-Language", language),
    }
    if kind == Kind::Message {
        put("Caxton-Reply-With", message.reply_with_text().as_deref());
    }
    if !is_reply {
        put("Caxton-In-Reply-To", message.in_reply_to_text().as_deref());
    }
    if let Some(moment) = message.reply_by() {
        put("Caxton-Reply-By", Some(&date_of(moment)));
    }
    if message.reliability() == Reliability::Durable {
        put("Caxton-Message-Id", message.id().map(|id| id.to_string()).as_deref());
    }
    for_each_own_parameter(message, |name, value| match name {
        "X-caxton-traceparent" => put("traceparent", Some(value)),
        name => put(&format!("Caxton-{}", capitalised(&name[OWN_PARAMETER.len()..])), Some(value)),
    });
    for parameter in message.details().map_or(&[][..], |details| &details.user_parameters) {
        put(&user_header(&parameter.name), Some(&value_of(&parameter.value)));
    }
    if is_reply && matches!(performative, Performative::Refuse | Performative::Failure | Performative::NotUnderstood) {
        let code = if performative == Performative::Failure { "500" } else { "400" };
        put("Nats-Service-Error-Code", Some(code));
        let text = message.content().as_text().map(str::trim).filter(|text| !text.is_empty());
        put("Nats-Service-Error", Some(beginning(text.unwrap_or(performative.as_str()))));
    }
    headers.end();
}

fn value_of(value: &ParameterValue) -> Cow<'_, str> {
    match value {
        ParameterValue::Atom(text) | ParameterValue::Text(text) => Cow::Borrowed(text),
        ParameterValue::Binary(bytes) => String::from_utf8_lossy(bytes),
        ParameterValue::List(expression) => Cow::Borrowed(expression.as_str()),
    }
}

/// Returns the name of a parameter as headers are written: `time-to-live-ms` becomes `Time-To-Live-Ms`.
fn capitalised(name: &str) -> String {
    let mut begins = true;
    let upper =
        |letter: char| if std::mem::replace(&mut begins, letter == '-') { letter.to_ascii_uppercase() } else { letter };
    name.chars().map(upper).collect()
}

fn date_of(moment: WallTime) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(moment.0);
    // The form of SC00070 is that of RFC 3339 without its separators.
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.chars().filter(|letter| !matches!(letter, '-' | ':' | '.')).collect()
}
