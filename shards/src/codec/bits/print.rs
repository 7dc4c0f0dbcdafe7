//! The printer: the same message always gives the same bytes.

use std::collections::HashSet;

use super::code;
use super::writer::{Writer, WrittenTable};
use crate::codec::text::{Names, for_each_option};
use crate::message::parameter::Parameter;
use crate::message::{
    AgentId, Aid, Choice, Details, Message, Performative, Receiver, TraceContext, UserParameter, WallTime,
};

/// More than most messages have besides their content.
const HEADER_BYTES: usize = 256;
/// Maximum size of a receiver set that is searched linearly.
const SEARCHED_MAX: usize = 16;

/// Appends the message with this header to `output`.
pub(super) fn message(
    header: u8,
    message: &Message,
    names: &dyn Names,
    table: Option<&mut WrittenTable>,
    output: &mut Vec<u8>,
) {
    output.reserve(message.content().len() + HEADER_BYTES);
    let mut printer = Printer { writer: Writer::new(output, table), names };
    printer.writer.bytes(&[header, code::VERSION]);
    printer.performative(message.performative());
    let details = message.details();
    printer.agents(message, details);
    if message.content().is_given() {
        printer.writer.byte(code::CONTENT);
        printer.writer.counted(message.content().as_bytes());
    }
    printer.texts(message, details);
    printer.delivery(message, details);
    for parameter in details.map_or(&[][..], |details| &details.user_parameters) {
        printer.user_parameter(code::USER_DEFINED, parameter);
    }
    printer.writer.byte(code::END);
}

/// Returns a performative's code: its position among the standard acts.
fn standard_code(performative: Performative) -> Option<u8> {
    let place = Performative::STANDARD.iter().position(|act| *act == performative)?;
    u8::try_from(place + 1).ok()
}

struct Printer<'a> {
    writer: Writer<'a>,
    names: &'a dyn Names,
}

impl Printer<'_> {
    fn performative(&mut self, performative: Performative) {
        if let Some(code) = standard_code(performative) {
            self.writer.byte(code);
        } else {
            self.writer.byte(code::USER_DEFINED);
            self.writer.word(performative.as_str());
        }
    }

    fn agents(&mut self, message: &Message, details: Option<&Details>) {
        if let Some(sender) = message.sender() {
            self.writer.byte(code::SENDER);
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
                self.own(Parameter::Capability, capability.as_str());
                if *choice != Choice::default() {
                    self.own(Parameter::Choice, choice.as_str());
                }
            }
        }
        let reply_to = details.map_or(&[][..], |details| &details.reply_to);
        if !reply_to.is_empty() {
            self.writer.byte(code::REPLY_TO);
            for aid in reply_to {
                self.aid(aid);
            }
            self.writer.byte(code::END);
        }
    }

    /// Writes every identifier that came with the message and is still a receiver, then the other receivers.
    fn receivers(&mut self, agents: &[AgentId], known: &[Aid]) {
        self.writer.byte(code::RECEIVER);
        if let ([agent], [aid]) = (agents, known) {
            if aid.id() == *agent {
                self.aid(aid);
            } else {
                self.agent(*agent);
            }
            return self.writer.byte(code::END);
        }
        let index: HashSet<AgentId> =
            if agents.len() > SEARCHED_MAX { agents.iter().copied().collect() } else { HashSet::new() };
        let is_receiver =
            |agent| if agents.len() > SEARCHED_MAX { index.contains(&agent) } else { agents.contains(&agent) };
        let mut written = HashSet::new();
        for aid in known {
            let id = aid.id();
            if is_receiver(id) {
                self.aid(aid);
                written.insert(id);
            }
        }
        for agent in agents.iter().filter(|agent| !written.contains(agent)) {
            self.agent(*agent);
        }
        self.writer.byte(code::END);
    }

    fn texts(&mut self, message: &Message, details: Option<&Details>) {
        for (code, text) in [
            (code::LANGUAGE, message.language()),
            (code::ENCODING, message.encoding()),
            (code::ONTOLOGY, message.ontology()),
        ] {
            if let Some(text) = text {
                self.writer.byte(code);
                self.writer.text(text);
            }
        }
        if let Some(protocol) = message.protocol() {
            self.writer.byte(code::PROTOCOL);
            self.writer.word(protocol);
        }
        self.writer.is_lasting = false;
        if let Some(conversation) = message.conversation() {
            self.writer.byte(code::CONVERSATION_ID);
            match details.and_then(|details| details.conversation.as_deref()) {
                Some(text) => self.writer.text(text),
                None => self.id(b'c', &conversation.to_u128().to_be_bytes()),
            }
        }
        for (code, value, text) in [
            (code::REPLY_WITH, message.reply_with(), details.and_then(|details| details.reply_with.as_deref())),
            (code::IN_REPLY_TO, message.in_reply_to(), details.and_then(|details| details.in_reply_to.as_deref())),
        ] {
            if let Some(value) = value {
                self.writer.byte(code);
                match text {
                    Some(text) => self.writer.text(text),
                    None => self.id(b'r', &value.get().to_be_bytes()),
                }
            }
        }
        self.writer.is_lasting = true;
        if let Some(moment) = message.reply_by() {
            self.writer.byte(code::REPLY_BY);
            self.writer.date(moment);
        }
    }

    /// Writes the router's own parameters that differ from their defaults.
    fn delivery(&mut self, message: &Message, details: Option<&Details>) {
        if let Some(id) = message.id() {
            self.name(Parameter::MessageId);
            self.writer.is_lasting = false;
            self.id(b'm', &id.to_u128().to_be_bytes());
            self.writer.is_lasting = true;
        }
        for_each_option(message, |parameter, value| self.own(parameter, value));
        if let Some(moment) = details.and_then(|details| details.deliver_at) {
            self.deliver_at(moment);
        }
        if let Some(trace) = details.and_then(|details| details.trace.as_ref()).filter(|trace| trace.is_valid()) {
            self.trace(trace);
        }
    }

    /// Written as text, because dates have no binary form where an expression is expected.
    fn deliver_at(&mut self, moment: WallTime) {
        self.name(Parameter::DeliverAt);
        self.writer.counted(&crate::message::date::write(moment));
    }

    fn trace(&mut self, trace: &TraceContext) {
        let mut text = Vec::with_capacity(55);
        text.extend_from_slice(b"00-");
        hexadecimal(&trace.trace_id, &mut text);
        text.push(b'-');
        hexadecimal(&trace.span_id, &mut text);
        text.push(b'-');
        hexadecimal(&[trace.flags], &mut text);
        self.name(Parameter::Traceparent);
        self.writer.counted(&text);
    }

    fn agent(&mut self, agent: AgentId) {
        self.writer.byte(code::IDENTIFIER);
        match self.names.name_of(agent) {
            Some(name) => self.writer.word(name.as_ref().as_ref()),
            None => self.id(b'a', &agent.to_u128().to_be_bytes()),
        }
        self.writer.byte(code::END);
    }

    fn aid(&mut self, aid: &Aid) {
        self.writer.byte(code::IDENTIFIER);
        self.writer.word(aid.name.as_ref());
        if !aid.addresses.is_empty() {
            self.writer.byte(code::ADDRESSES);
            for address in &aid.addresses {
                self.writer.word(address);
            }
            self.writer.byte(code::END);
        }
        if !aid.resolvers.is_empty() {
            self.writer.byte(code::RESOLVERS);
            for resolver in &aid.resolvers {
                self.aid(resolver);
            }
            self.writer.byte(code::END);
        }
        for parameter in &aid.user_parameters {
            self.user_parameter(code::IDENTIFIER_PARAMETER, parameter);
        }
        self.writer.byte(code::END);
    }

    fn user_parameter(&mut self, code: u8, parameter: &UserParameter) {
        self.writer.byte(code);
        self.writer.word(&parameter.name);
        self.writer.value(&parameter.value);
    }

    fn own(&mut self, parameter: Parameter, text: &str) {
        self.name(parameter);
        self.writer.text(text);
    }

    fn name(&mut self, parameter: Parameter) {
        self.writer.byte(code::USER_DEFINED);
        self.writer.plain_word(parameter.name().as_bytes());
    }

    fn id(&mut self, letter: u8, bytes: &[u8]) {
        let start = self.writer.output.len();
        self.writer.bytes(&[code::WORD, letter]);
        hexadecimal(bytes, self.writer.output);
        self.writer.end_word(start);
    }
}

fn hexadecimal(bytes: &[u8], output: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    output.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|half| DIGITS[usize::from(half)]));
}
