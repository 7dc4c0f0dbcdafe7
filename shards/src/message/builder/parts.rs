//! Parts of a message as codecs read them, limits included.

use std::num::NonZeroU64;

use super::{MessageBuilder, MessageError, receiver_of};
use crate::message::content::MessageContent;
use crate::message::details::{
    ParameterValue, RECEIVERS_MAX, USER_PARAMETERS_MAX, UserParameter, is_user_parameter_name,
};
use crate::message::id::{ConversationId, Correlation};
use crate::message::options::WallTime;
use crate::message::term::Term;
use crate::message::{Aid, ConversationRole};

/// Setters that do not move the builder, for codecs that fill in one parameter after another: moving it costs more than
/// setting most parameters.
impl MessageBuilder {
    pub(crate) fn set_sender_aid(&mut self, aid: Aid) {
        self.check_aids("sender", std::slice::from_ref(&aid));
        self.message.0.sender = Some(aid.id());
        self.details().sender = Some(aid);
    }

    pub(crate) fn set_receiver_aids(&mut self, aids: Vec<Aid>) {
        if aids.len() > RECEIVERS_MAX {
            self.fail(MessageError::TooManyAgents { parameter: "receiver", count: aids.len() });
            return;
        }
        self.check_aids("receiver", &aids);
        self.message.0.receiver = receiver_of(&aids);
        self.details().receivers = aids;
    }

    pub(crate) fn set_reply_to_aids(&mut self, aids: Vec<Aid>) {
        if aids.len() > RECEIVERS_MAX {
            self.fail(MessageError::TooManyAgents { parameter: "reply-to", count: aids.len() });
            return;
        }
        self.check_aids("reply-to", &aids);
        self.details().reply_to = aids;
    }

    pub(crate) fn set_conversation_text(&mut self, text: &str) {
        self.check_length("conversation-id", text.len());
        let id = ConversationId::of_text(text);
        self.message.0.conversation = Some(id);
        self.message.0.role = ConversationRole::Unresolved;
        if !id.is_canonical(text) {
            self.details().conversation = Some(text.into());
        }
    }

    pub(crate) fn set_reply_with_text(&mut self, text: &str) {
        self.check_length("reply-with", text.len());
        let correlation = Correlation::of_text(text);
        self.message.0.reply_with = Some(correlation);
        if !correlation.is_canonical(text) {
            self.details().reply_with = Some(text.into());
        }
    }

    pub(crate) fn set_in_reply_to_text(&mut self, text: &str) {
        self.check_length("in-reply-to", text.len());
        let correlation = Correlation::of_text(text);
        self.message.0.in_reply_to = Some(correlation);
        if !correlation.is_canonical(text) {
            self.details().in_reply_to = Some(text.into());
        }
    }

    pub(crate) fn set_protocol(&mut self, protocol: &str) {
        self.message.0.protocol = Term::of_message(protocol);
        let text = self.beside("protocol", self.message.0.protocol, protocol);
        self.keep_word(text, |details, text| details.words.protocol = text);
    }

    pub(crate) fn set_language(&mut self, language: &str) {
        self.message.0.language = Term::of_message(language);
        let text = self.beside("language", self.message.0.language, language);
        self.keep_word(text, |details, text| details.words.language = text);
    }

    pub(crate) fn set_encoding(&mut self, encoding: &str) {
        self.message.0.encoding = Term::of_message(encoding);
        let text = self.beside("encoding", self.message.0.encoding, encoding);
        self.keep_word(text, |details, text| details.words.encoding = text);
    }

    pub(crate) fn set_ontology(&mut self, ontology: &str) {
        self.message.0.ontology = Term::of_message(ontology);
        let text = self.beside("ontology", self.message.0.ontology, ontology);
        self.keep_word(text, |details, text| details.words.ontology = text);
    }

    pub(crate) fn set_reply_by(&mut self, moment: WallTime) {
        self.message.0.reply_by = NonZeroU64::new(moment.0);
    }

    /// Adds a user-defined parameter, and checks its name.
    pub(crate) fn set_user_parameter(&mut self, name: &str, value: ParameterValue) {
        if !is_user_parameter_name(name) {
            self.fail(MessageError::ParameterName { name: name.chars().take(64).collect() });
        } else if crate::message::parameter::is_reserved(name) {
            self.fail(MessageError::ParameterReserved { name: name.to_owned() });
        } else {
            self.add_user_parameter(UserParameter { name: name.into(), value });
        }
    }

    /// Adds a user-defined parameter whose name has been checked. Forms that mark parameters as user-defined allow
    /// names without `X-`.
    pub(crate) fn add_user_parameter(&mut self, parameter: UserParameter) {
        let UserParameter { name, value } = parameter;
        if crate::message::parameter::Parameter::named(name.as_bytes()).is_some() {
            self.fail(MessageError::ParameterReserved { name: name.into() });
            return;
        }
        self.check_length(&name, name.len().max(value.bytes()));
        let value = value.readable();
        let parameters = &mut self.details().user_parameters;
        parameters.push(UserParameter { name, value });
        let count = parameters.len();
        if count > USER_PARAMETERS_MAX {
            self.fail(MessageError::TooManyParameters { count });
        }
    }

    pub(crate) fn set_content(&mut self, content: MessageContent) {
        self.message.0.content = content;
    }
}

impl ParameterValue {
    /// Returns the value in a form that reads back: a word that needs quotes becomes a string, and a string without a
    /// string literal becomes a byte-length-encoded one.
    pub(crate) fn readable(self) -> Self {
        match self {
            Self::Atom(text) if !crate::message::word::is_atom(text.as_bytes()) => Self::text(text),
            Self::Text(text) => Self::text(text),
            value => value,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Atom(text) | Self::Text(text) => text.len(),
            Self::List(expression) => expression.as_str().len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}
