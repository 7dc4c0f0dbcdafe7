//! The string-form printer, strictly by SC00070: the same message always gives the same bytes.
//!
//! Everything is written so that it reads back as the same value of the same parameter. Text cannot break out of its
//! place, because only a single word, number or date is written without quotes.

use std::collections::HashSet;

use super::Names;
use super::delivery::for_each_option;
use super::lexer::quotes;
use crate::message::date;
use crate::message::parameter::Parameter;
use crate::message::parameter::USER_DEFINED;
use crate::message::parameter::needs_wrapping;
use crate::message::word::is_atom;
use crate::message::{
    AgentId, Aid, Choice, Details, Message, ParameterValue, Receiver, TraceContext, UserParameter, WallTime,
};

/// Maximum number of quotes in content before it is written with its length instead of with escapes, so that hostile
/// content cannot make a message grow beyond what a reader accepts.
const ESCAPES_MAX: usize = 65_536;
/// More than most messages have besides their content.
const HEADER_BYTES: usize = 512;
/// Maximum size of a receiver set that is searched linearly.
const SEARCHED_MAX: usize = 16;

/// Appends the string form of `message` to `output`.
///
/// Identifiers that came as text are written as received; other agents are written with the names that `names` returns.
/// An agent without a known name is written with its id as its name: `a` and 32 hexadecimal digits.
pub fn print(message: &Message, names: &dyn Names, output: &mut Vec<u8>) {
    output.reserve(message.content().len() + HEADER_BYTES);
    let mut writer = Writer { output, names };
    writer.bytes(b"(");
    writer.bytes(message.performative().as_str().as_bytes());
    let details = message.details();
    writer.agents(message, details);
    if message.content().is_given() {
        writer.name(Parameter::Content);
        writer.content(message.content().as_bytes());
    }
    writer.texts(message, details);
    writer.delivery(message, details);
    for parameter in details.map_or(&[][..], |details| &details.user_parameters) {
        writer.user_parameter(parameter);
    }
    writer.bytes(b")");
}

struct Writer<'a> {
    output: &'a mut Vec<u8>,
    names: &'a dyn Names,
}

impl Writer<'_> {
    fn agents(&mut self, message: &Message, details: Option<&Details>) {
        if let Some(sender) = message.sender() {
            self.name(Parameter::Sender);
            self.bytes(b" ");
            match details.and_then(|details| details.sender.as_ref()).filter(|aid| aid.id() == sender) {
                Some(aid) => self.aid(aid),
                None => self.agent(sender),
            }
        }
        let known = details.map_or(&[][..], |details| &details.receivers);
        match message.receiver() {
            Receiver::Unaddressed => {}
            Receiver::Agent(agent) | Receiver::Provider(agent, _) => self.receivers(&[*agent], known),
            Receiver::Agents(agents) | Receiver::Member(agents, _) => self.receivers(agents, known),
            Receiver::Capability(capability, choice) => {
                self.name(Parameter::Capability);
                self.text(capability.as_str());
                if *choice != Choice::default() {
                    self.own(Parameter::Choice, choice.as_str());
                }
            }
        }
        let reply_to = details.map_or(&[][..], |details| &details.reply_to);
        if !reply_to.is_empty() {
            self.name(Parameter::ReplyTo);
            self.bytes(b" (set");
            for aid in reply_to {
                self.bytes(b" ");
                self.aid(aid);
            }
            self.bytes(b")");
        }
    }

    /// Writes every identifier that came as text and is still a receiver, then the other receivers.
    fn receivers(&mut self, agents: &[AgentId], known: &[Aid]) {
        self.name(Parameter::Receiver);
        self.bytes(b" (set");
        let index: HashSet<AgentId> =
            if agents.len() > SEARCHED_MAX { agents.iter().copied().collect() } else { HashSet::new() };
        let is_receiver =
            |agent| if agents.len() > SEARCHED_MAX { index.contains(&agent) } else { agents.contains(&agent) };
        let mut written = HashSet::new();
        for aid in known {
            let id = aid.id();
            if is_receiver(id) {
                self.bytes(b" ");
                self.aid(aid);
                if agents.len() == 1 && known.len() == 1 {
                    self.bytes(b")");
                    return;
                }
                written.insert(id);
            }
        }
        for agent in agents.iter().filter(|agent| !written.contains(agent)) {
            self.bytes(b" ");
            self.agent(*agent);
        }
        self.bytes(b")");
    }

    fn texts(&mut self, message: &Message, details: Option<&Details>) {
        for (parameter, text) in [
            (Parameter::Language, message.language()),
            (Parameter::Encoding, message.encoding()),
            (Parameter::Ontology, message.ontology()),
            (Parameter::Protocol, message.protocol()),
        ] {
            if let Some(text) = text {
                self.name(parameter);
                self.text(text);
            }
        }
        if let Some(conversation) = message.conversation() {
            self.name(Parameter::ConversationId);
            match details.and_then(|details| details.conversation.as_deref()) {
                Some(text) => self.text(text),
                None => self.id(b'c', &conversation.to_u128().to_be_bytes()),
            }
        }
        for (parameter, value, text) in [
            (Parameter::ReplyWith, message.reply_with(), details.and_then(|details| details.reply_with.as_deref())),
            (Parameter::InReplyTo, message.in_reply_to(), details.and_then(|details| details.in_reply_to.as_deref())),
        ] {
            if let Some(value) = value {
                self.name(parameter);
                match text {
                    Some(text) => self.text(text),
                    None => self.id(b'r', &value.get().to_be_bytes()),
                }
            }
        }
        if let Some(moment) = message.reply_by() {
            self.date(Parameter::ReplyBy, moment);
        }
    }

    /// Writes the router's own parameters that differ from their defaults.
    fn delivery(&mut self, message: &Message, details: Option<&Details>) {
        if let Some(id) = message.id() {
            self.name(Parameter::MessageId);
            self.id(b'm', &id.to_u128().to_be_bytes());
        }
        for_each_option(message, |parameter, value| self.own(parameter, value));
        if let Some(moment) = details.and_then(|details| details.deliver_at) {
            self.date(Parameter::DeliverAt, moment);
        }
        if let Some(trace) = details.and_then(|details| details.trace.as_ref()).filter(|trace| trace.is_valid()) {
            self.trace(trace);
        }
    }

    fn trace(&mut self, trace: &TraceContext) {
        self.name(Parameter::Traceparent);
        self.bytes(b" \"00-");
        self.hexadecimal(&trace.trace_id);
        self.bytes(b"-");
        self.hexadecimal(&trace.span_id);
        self.bytes(b"-");
        self.hexadecimal(&[trace.flags]);
        self.bytes(b"\"");
    }

    fn agent(&mut self, agent: AgentId) {
        self.bytes(b"(agent-identifier :name");
        match self.names.name_of(agent) {
            Some(name) => self.text(name.as_ref().as_ref()),
            None => self.id(b'a', &agent.to_u128().to_be_bytes()),
        }
        self.bytes(b")");
    }

    fn aid(&mut self, aid: &Aid) {
        self.bytes(b"(agent-identifier :name");
        self.text(aid.name.as_ref());
        if !aid.addresses.is_empty() {
            self.bytes(b" :addresses (sequence");
            for address in &aid.addresses {
                self.text(address);
            }
            self.bytes(b")");
        }
        if !aid.resolvers.is_empty() {
            self.bytes(b" :resolvers (sequence");
            for resolver in &aid.resolvers {
                self.bytes(b" ");
                self.aid(resolver);
            }
            self.bytes(b")");
        }
        for parameter in &aid.user_parameters {
            self.user_parameter(parameter);
        }
        self.bytes(b")");
    }

    fn user_parameter(&mut self, parameter: &UserParameter) {
        self.bytes(b" :");
        if needs_wrapping(&parameter.name) {
            self.bytes(USER_DEFINED.as_bytes());
            self.bytes(b" (");
            self.bytes(parameter.name.as_bytes());
            self.user_value(&parameter.value);
            self.bytes(b")");
        } else {
            self.bytes(parameter.name.as_bytes());
            self.user_value(&parameter.value);
        }
    }

    fn user_value(&mut self, value: &ParameterValue) {
        match value {
            ParameterValue::Atom(text) if is_atom(text.as_bytes()) => self.word(text),
            ParameterValue::List(expression) => self.word(expression.as_str()),
            // An invalid word or list would change what surrounds it.
            ParameterValue::Atom(text) | ParameterValue::Text(text) => self.string(text),
            ParameterValue::Binary(bytes) => self.counted(bytes),
        }
    }

    fn own(&mut self, parameter: Parameter, word: &str) {
        self.name(parameter);
        self.word(word);
    }

    fn date(&mut self, parameter: Parameter, moment: WallTime) {
        self.name(parameter);
        self.bytes(b" ");
        self.bytes(&date::write(moment));
    }

    fn name(&mut self, parameter: Parameter) {
        self.bytes(b" :");
        self.bytes(parameter.name().as_bytes());
    }

    /// Writes any text, without quotes if it needs none.
    fn text(&mut self, text: &str) {
        if is_atom(text.as_bytes()) { self.word(text) } else { self.string(text) }
    }

    fn word(&mut self, word: &str) {
        self.bytes(b" ");
        self.bytes(word.as_bytes());
    }

    /// Writes a string literal. Text that ends in a backslash would escape the closing quote and is written with its
    /// length.
    fn string(&mut self, text: &str) {
        if text.ends_with('\\') { self.counted(text.as_bytes()) } else { self.quoted(text.as_bytes()) }
    }

    fn content(&mut self, content: &[u8]) {
        let is_text = !content.ends_with(b"\\")
            && memchr::memchr(0, content).is_none()
            && std::str::from_utf8(content).is_ok()
            && quotes(content).nth(ESCAPES_MAX).is_none();
        if is_text { self.quoted(content) } else { self.counted(content) }
    }

    fn quoted(&mut self, text: &[u8]) {
        self.bytes(b" \"");
        let mut copied = 0;
        for quote in quotes(text) {
            self.bytes(&text[copied..quote]);
            self.bytes(b"\\");
            copied = quote;
        }
        self.bytes(&text[copied..]);
        self.bytes(b"\"");
    }

    /// Writes the length, a quote and the bytes. The standard has no quote at the end.
    fn counted(&mut self, bytes: &[u8]) {
        self.bytes(b" #");
        self.bytes(bytes.len().to_string().as_bytes());
        self.bytes(b"\"");
        self.bytes(bytes);
    }

    fn id(&mut self, letter: u8, bytes: &[u8]) {
        self.bytes(&[b' ', letter]);
        self.hexadecimal(bytes);
    }

    fn hexadecimal(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.output.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|half| DIGITS[usize::from(half)]));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }
}
