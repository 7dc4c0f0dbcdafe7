//! The XML printer.

use super::escape::{is_legal, legal_content, write_attribute, write_base64, write_parameter, write_text};
use super::parse::{Kind, kind_of};
use crate::codec::text::Names;
use crate::codec::walk::{Form, walk};
use crate::message::details::is_user_parameter_name;
use crate::message::parameter::Parameter;
use crate::message::{Aid, Message, ParameterValue, UserParameter};

/// More than most messages have besides their content.
const HEADER_BYTES: usize = 1_024;

/// Appends the XML form of `message` to `output`, without a declaration and without added line breaks.
///
/// Identifiers that came with the message are written as received; other agents are written with the names that `names`
/// returns. An agent without a known name is written with its id as its name: `a` and 32 hexadecimal digits.
pub fn to_xml(message: &Message, names: &dyn Names, output: &mut Vec<u8>) {
    output.reserve(message.content().len() + HEADER_BYTES);
    let mut writer = Writer { output };
    writer.bytes(b"<fipa-message act=\"");
    writer.bytes(message.performative().as_str().as_bytes());
    writer.bytes(b"\">");
    walk(message, names, &mut writer);
    writer.bytes(b"</fipa-message>");
}

/// Writes elements.
pub(super) struct Writer<'a> {
    pub output: &'a mut Vec<u8>,
}

impl Form for Writer<'_> {
    fn begin_agents(&mut self, parameter: Parameter) {
        self.open(parameter.name());
    }

    fn aid(&mut self, aid: &Aid) {
        self.identifier(aid, Style::Attributes);
    }

    fn agent(&mut self, name: &str) {
        self.bytes(b"<agent-identifier>");
        self.attribute_element("name", "id", name);
        self.bytes(b"</agent-identifier>");
    }

    fn end_agents(&mut self, parameter: Parameter) {
        self.close(parameter.name());
    }

    fn content(&mut self, content: &[u8]) {
        if let Some(text) = legal_content(content) {
            self.bytes(b"<content>");
            write_text(text, self.output);
        } else {
            self.bytes(b"<content encoding=\"base64\">");
            write_base64(content, self.output);
        }
        self.bytes(b"</content>");
    }

    fn text(&mut self, parameter: Parameter, text: &str) {
        if parameter == Parameter::ReplyBy {
            self.attribute_element(parameter.name(), "time", text);
        } else {
            self.text_element(parameter.name(), text);
        }
    }

    fn user_parameter(&mut self, parameter: &UserParameter) {
        let UserParameter { name, value } = parameter;
        if is_element_name(name) {
            self.typed(name, value);
            return;
        }
        if is_legal(name) {
            self.bytes(b"<user-defined");
            self.attribute("name", name);
        } else {
            self.bytes(b"<user-defined name-base64=\"");
            write_base64(name.as_bytes(), self.output);
            self.bytes(b"\"");
        }
        self.value(value);
        self.close("user-defined");
    }
}

/// How identifiers are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `<name id="a"/>` and `<url href="b"/>`, as in SC00071.
    Attributes,
    /// `<name>a</name>` and `<url>b</url>`, as in SC00085.
    Text,
}

impl Writer<'_> {
    pub fn identifier(&mut self, aid: &Aid, style: Style) {
        self.bytes(b"<agent-identifier>");
        self.named("name", "id", aid.name.as_ref(), style);
        if !aid.addresses.is_empty() {
            self.bytes(b"<addresses>");
            for address in &aid.addresses {
                self.named("url", "href", address, style);
            }
            self.bytes(b"</addresses>");
        }
        if !aid.resolvers.is_empty() {
            self.bytes(b"<resolvers>");
            for resolver in &aid.resolvers {
                self.identifier(resolver, style);
            }
            self.bytes(b"</resolvers>");
        }
        for parameter in &aid.user_parameters {
            self.user_parameter(parameter);
        }
        self.bytes(b"</agent-identifier>");
    }

    fn named(&mut self, element: &str, attribute: &str, value: &str, style: Style) {
        match style {
            Style::Attributes => self.attribute_element(element, attribute, value),
            Style::Text => self.text_element(element, value),
        }
    }

    /// Writes an element with its value in an attribute.
    pub fn attribute_element(&mut self, element: &str, attribute: &str, value: &str) {
        self.bytes(b"<");
        self.bytes(element.as_bytes());
        if is_legal(value) {
            self.attribute(attribute, value);
        } else {
            self.bytes(b" encoding=\"base64\" ");
            self.bytes(attribute.as_bytes());
            self.bytes(b"=\"");
            write_base64(value.as_bytes(), self.output);
            self.bytes(b"\"");
        }
        self.bytes(b"/>");
    }

    /// Writes an element with its value between its tags.
    pub fn text_element(&mut self, element: &str, text: &str) {
        if is_legal(text) {
            self.open(element);
            write_parameter(text, self.output);
        } else {
            self.bytes(b"<");
            self.bytes(element.as_bytes());
            self.bytes(b" encoding=\"base64\">");
            write_base64(text.as_bytes(), self.output);
        }
        self.close(element);
    }

    /// Writes an element with a word, a string, a list or bytes.
    pub fn typed(&mut self, element: &str, value: &ParameterValue) {
        self.bytes(b"<");
        self.bytes(element.as_bytes());
        self.value(value);
        self.close(element);
    }

    /// Ends an opening tag, adding what cannot be seen from the value, and writes the value.
    fn value(&mut self, value: &ParameterValue) {
        let (text, own) = match value {
            ParameterValue::Atom(text) => (text.as_bytes(), Some(Kind::Word)),
            ParameterValue::Text(text) => (text.as_bytes(), Some(Kind::String)),
            ParameterValue::List(expression) => (expression.as_str().as_bytes(), Some(Kind::List)),
            ParameterValue::Binary(bytes) => (&bytes[..], None),
        };
        let plain = std::str::from_utf8(text).ok().filter(|text| own.is_some() && is_legal(text));
        if let Some(kind) = own
            && plain.is_none_or(|text| kind_of(text) != kind)
        {
            self.attribute("type", kind.word());
        }
        if let Some(text) = plain {
            self.bytes(b">");
            write_parameter(text, self.output);
        } else {
            self.bytes(b" encoding=\"base64\">");
            write_base64(text, self.output);
        }
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.bytes(b" ");
        self.bytes(name.as_bytes());
        self.bytes(b"=\"");
        write_attribute(value, self.output);
        self.bytes(b"\"");
    }

    pub fn open(&mut self, element: &str) {
        self.bytes(b"<");
        self.bytes(element.as_bytes());
        self.bytes(b">");
    }

    pub fn close(&mut self, element: &str) {
        self.bytes(b"</");
        self.bytes(element.as_bytes());
        self.bytes(b">");
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }
}

/// Whether a user-defined parameter's name can be that of an element, as in JADE.
fn is_element_name(name: &str) -> bool {
    is_user_parameter_name(name)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
