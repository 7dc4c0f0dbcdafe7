//! Visits a message parameter by parameter, in the order in which every marked-up form writes it.
//!
//! A form implements [`Form`] and is called only for parameters that are present. The order is fixed, so the same
//! message always gives the same bytes.

use std::collections::HashSet;

use super::text::{Names, for_each_option};
use crate::message::date::write as write_date;
use crate::message::parameter::Parameter;
use crate::message::{AgentId, Aid, Choice, Details, Message, Receiver, TraceContext, UserParameter, WallTime};

/// A form in which a message is written.
pub(super) trait Form {
    /// Begins the agents of `parameter`.
    fn begin_agents(&mut self, parameter: Parameter);
    /// An agent, with its identifier as received.
    fn aid(&mut self, aid: &Aid);
    /// An agent of which only the name is known.
    fn agent(&mut self, name: &str);
    /// Ends the agents of `parameter`.
    fn end_agents(&mut self, parameter: Parameter);
    /// The content, which may be empty.
    fn content(&mut self, content: &[u8]);
    /// Any other parameter of SC00061 or of the router.
    fn text(&mut self, parameter: Parameter, text: &str);
    /// A user-defined parameter.
    fn user_parameter(&mut self, parameter: &UserParameter);
}

/// Passes everything but the performative to `form`.
pub(super) fn walk(message: &Message, names: &dyn Names, form: &mut impl Form) {
    let details = message.details();
    agents(message, details, names, form);
    if message.content().is_given() {
        form.content(message.content().as_bytes());
    }
    texts(message, details, form);
    delivery(message, details, form);
    for parameter in details.map_or(&[][..], |details| &details.user_parameters) {
        form.user_parameter(parameter);
    }
}

fn agents(message: &Message, details: Option<&Details>, names: &dyn Names, form: &mut impl Form) {
    if let Some(sender) = message.sender() {
        form.begin_agents(Parameter::Sender);
        match details.and_then(|details| details.sender.as_ref()).filter(|aid| aid.id() == sender) {
            Some(aid) => form.aid(aid),
            None => agent(sender, names, form),
        }
        form.end_agents(Parameter::Sender);
    }
    let known = details.map_or(&[][..], |details| &details.receivers);
    match message.receiver() {
        Receiver::Unaddressed => {}
        Receiver::Agent(one) | Receiver::Provider(one, _) => receivers(&[*one], known, names, form),
        Receiver::Agents(agents) | Receiver::Member(agents, _) => receivers(agents, known, names, form),
        Receiver::Capability(capability, choice) => {
            form.text(Parameter::Capability, capability.as_str());
            if *choice != Choice::default() {
                form.text(Parameter::Choice, choice.as_str());
            }
        }
    }
    let reply_to = details.map_or(&[][..], |details| &details.reply_to);
    if !reply_to.is_empty() {
        form.begin_agents(Parameter::ReplyTo);
        for aid in reply_to {
            form.aid(aid);
        }
        form.end_agents(Parameter::ReplyTo);
    }
}

/// Passes every identifier that came with the message and is still a receiver, then the other receivers.
fn receivers(agents: &[AgentId], known: &[Aid], names: &dyn Names, form: &mut impl Form) {
    form.begin_agents(Parameter::Receiver);
    match (agents, known) {
        ([one], [aid]) if aid.id() == *one => form.aid(aid),
        (_, []) => {
            for one in agents {
                agent(*one, names, form);
            }
        }
        _ => {
            let wanted: HashSet<AgentId> = agents.iter().copied().collect();
            let mut written = HashSet::new();
            for aid in known {
                let id = aid.id();
                if wanted.contains(&id) {
                    form.aid(aid);
                    written.insert(id);
                }
            }
            for one in agents.iter().filter(|one| !written.contains(one)) {
                agent(*one, names, form);
            }
        }
    }
    form.end_agents(Parameter::Receiver);
}

fn agent(agent: AgentId, names: &dyn Names, form: &mut impl Form) {
    match names.name_of(agent) {
        Some(name) => form.agent(name.as_ref().as_ref()),
        None => form.agent(&Digits::of_id(b'a', agent.to_u128())),
    }
}

fn texts(message: &Message, details: Option<&Details>, form: &mut impl Form) {
    for (parameter, text) in [
        (Parameter::Language, message.language()),
        (Parameter::Encoding, message.encoding()),
        (Parameter::Ontology, message.ontology()),
        (Parameter::Protocol, message.protocol()),
    ] {
        if let Some(text) = text {
            form.text(parameter, text);
        }
    }
    if let Some(conversation) = message.conversation() {
        match details.and_then(|details| details.conversation.as_deref()) {
            Some(text) => form.text(Parameter::ConversationId, text),
            None => form.text(Parameter::ConversationId, &Digits::of_id(b'c', conversation.to_u128())),
        }
    }
    for (parameter, value, text) in [
        (Parameter::ReplyWith, message.reply_with(), details.and_then(|details| details.reply_with.as_deref())),
        (Parameter::InReplyTo, message.in_reply_to(), details.and_then(|details| details.in_reply_to.as_deref())),
    ] {
        match (value, text) {
            (Some(_), Some(text)) => form.text(parameter, text),
            (Some(value), None) => form.text(parameter, &Digits::of_correlation(value.get())),
            (None, _) => {}
        }
    }
    if let Some(moment) = message.reply_by() {
        date(Parameter::ReplyBy, moment, form);
    }
}

/// Passes the router's own parameters that differ from their defaults.
fn delivery(message: &Message, details: Option<&Details>, form: &mut impl Form) {
    if let Some(id) = message.id() {
        form.text(Parameter::MessageId, &Digits::of_id(b'm', id.to_u128()));
    }
    for_each_option(message, |parameter, value| form.text(parameter, value));
    if let Some(moment) = details.and_then(|details| details.deliver_at) {
        date(Parameter::DeliverAt, moment, form);
    }
    if let Some(trace) = details.and_then(|details| details.trace.as_ref()).filter(|trace| trace.is_valid()) {
        form.text(Parameter::Traceparent, &trace_text(trace));
    }
}

fn date(parameter: Parameter, moment: WallTime, form: &mut impl Form) {
    let digits = write_date(moment);
    form.text(parameter, std::str::from_utf8(&digits).unwrap_or_default());
}

fn trace_text(trace: &TraceContext) -> String {
    let mut text = String::from("00-");
    for (bytes, end) in [(&trace.trace_id[..], "-"), (&trace.span_id, "-"), (&[trace.flags], "")] {
        for byte in bytes {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
        }
        text.push_str(end);
    }
    text
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The text of an id, formatted without an allocation.
struct Digits {
    text: [u8; 33],
    length: usize,
}

impl Digits {
    fn of_id(letter: u8, id: u128) -> Self {
        Self::of(letter, &id.to_be_bytes())
    }

    fn of_correlation(value: u64) -> Self {
        Self::of(b'r', &value.to_be_bytes())
    }

    fn of(letter: u8, bytes: &[u8]) -> Self {
        let mut text = [letter; 33];
        for (pair, byte) in text[1..].chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        Self { text, length: 1 + 2 * bytes.len() }
    }
}

impl std::ops::Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }
}
