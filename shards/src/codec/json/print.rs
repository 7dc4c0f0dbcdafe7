//! The JSON printer.

use crate::codec::text::Names;
use crate::codec::walk::{Form, walk};
use crate::codec::xml::write_base64;
use crate::message::parameter::Parameter;
use crate::message::{Aid, Message, ParameterValue, UserParameter};

/// More than most messages have besides their content.
const HEADER_BYTES: usize = 1_024;
/// Maximum number of escaped characters in content before it is written in base64 instead, so that hostile content
/// cannot make a message grow beyond what a reader accepts.
const ESCAPES_MAX: usize = 65_536;

/// Appends the JSON form of `message` to `output`, on one line and without a trailing line break.
///
/// Identifiers that came with the message are written as received; other agents are written with the names that `names`
/// returns. An agent without a known name is written with its id as its name: `a` and 32 hexadecimal digits.
pub fn to_json(message: &Message, names: &dyn Names, output: &mut Vec<u8>) {
    output.reserve(message.content().len() + HEADER_BYTES);
    output.extend_from_slice(b"{\"performative\":");
    string(message.performative().as_str(), output);
    let mut writer = Writer { output, is_first: true, has_user_parameters: false };
    walk(message, names, &mut writer);
    if writer.has_user_parameters {
        writer.output.push(b']');
    }
    writer.output.push(b'}');
}

struct Writer<'a> {
    output: &'a mut Vec<u8>,
    /// Whether the next element is the first of its array.
    is_first: bool,
    has_user_parameters: bool,
}

impl Form for Writer<'_> {
    fn begin_agents(&mut self, parameter: Parameter) {
        self.member(parameter.name());
        if parameter != Parameter::Sender {
            self.output.push(b'[');
        }
        self.is_first = true;
    }

    fn aid(&mut self, aid: &Aid) {
        self.element();
        agent(aid, self.output);
    }

    fn agent(&mut self, name: &str) {
        self.element();
        string(name, self.output);
    }

    fn end_agents(&mut self, parameter: Parameter) {
        if parameter != Parameter::Sender {
            self.output.push(b']');
        }
    }

    fn content(&mut self, content: &[u8]) {
        self.member("content");
        let text = std::str::from_utf8(content).ok();
        let needs_escape = |byte: &&u8| **byte < 0x20 || matches!(**byte, b'"' | b'\\');
        let is_safe =
            |_: &&str| content.len() <= ESCAPES_MAX || content.iter().filter(needs_escape).count() <= ESCAPES_MAX;
        if let Some(text) = text.filter(is_safe) {
            string(text, self.output);
        } else {
            self.output.extend_from_slice(b"{\"base64\":\"");
            write_base64(content, self.output);
            self.output.extend_from_slice(b"\"}");
        }
    }

    fn text(&mut self, parameter: Parameter, text: &str) {
        self.member(parameter.name());
        match parameter {
            Parameter::AttemptsMax | Parameter::TimeToLiveMs => self.output.extend_from_slice(text.as_bytes()),
            _ => string(text, self.output),
        }
    }

    fn user_parameter(&mut self, parameter: &UserParameter) {
        if !self.has_user_parameters {
            self.member("user-defined");
            self.output.push(b'[');
            self.has_user_parameters = true;
            self.is_first = true;
        }
        self.element();
        user_parameter(parameter, self.output);
    }
}

impl Writer<'_> {
    fn member(&mut self, name: &str) {
        self.output.extend_from_slice(b",\"");
        self.output.extend_from_slice(name.as_bytes());
        self.output.extend_from_slice(b"\":");
    }

    fn element(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.output.push(b',');
        }
    }
}

/// Writes an agent. One of which only the name is known is a string.
fn agent(aid: &Aid, output: &mut Vec<u8>) {
    let Aid { name, addresses, resolvers, user_parameters } = aid;
    if addresses.is_empty() && resolvers.is_empty() && user_parameters.is_empty() {
        return string(name.as_ref(), output);
    }
    output.extend_from_slice(b"{\"name\":");
    string(name.as_ref(), output);
    array("addresses", addresses, output, |address, output| string(address, output));
    array("resolvers", resolvers, output, agent);
    array("user-defined", user_parameters, output, user_parameter);
    output.push(b'}');
}

fn array<T>(name: &str, elements: &[T], output: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    if elements.is_empty() {
        return;
    }
    output.extend_from_slice(b",\"");
    output.extend_from_slice(name.as_bytes());
    output.extend_from_slice(b"\":[");
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            output.push(b',');
        }
        write(element, output);
    }
    output.push(b']');
}

fn user_parameter(parameter: &UserParameter, output: &mut Vec<u8>) {
    output.extend_from_slice(b"{\"name\":");
    string(&parameter.name, output);
    let (kind, text) = match &parameter.value {
        ParameterValue::Atom(text) => ("word", &**text),
        ParameterValue::Text(text) => ("string", &**text),
        ParameterValue::List(expression) => ("list", expression.as_str()),
        ParameterValue::Binary(bytes) => {
            output.extend_from_slice(b",\"base64\":\"");
            write_base64(bytes, output);
            output.extend_from_slice(b"\"}");
            return;
        }
    };
    output.extend_from_slice(b",\"");
    output.extend_from_slice(kind.as_bytes());
    output.extend_from_slice(b"\":");
    string(text, output);
    output.push(b'}');
}

fn string(text: &str, output: &mut Vec<u8>) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(output, text);
}
