//! Parameters of a message by their names in the string form, for what carries them one by one, such as headers.

use super::delivery::{Delivery, for_each_option};
use super::error::ParseErrorKind;
use crate::message::date;
use crate::message::parameter::{Parameter, ParameterSet};
use crate::message::{Message, MessageBuilder, ParameterValue, TraceContext, WallTime};

/// Sets parameters of a message by their names in the string form: those of SC00061 other than the agents and the
/// content, the router's own, and user-defined ones.
///
/// ```
/// use caxton_shards::codec::text::NamedParameters;
/// use caxton_shards::message::{Message, Performative, WallTime};
///
/// let mut parameters = NamedParameters::new(Message::builder(Performative::Request).receiver("seller"), WallTime(0));
/// parameters.set("ontology", "trade")?;
/// parameters.set("X-caxton-priority", "high")?;
/// assert_eq!(parameters.builder().build().map(|message| message.ontology() == Some("trade")), Ok(true));
/// # Ok::<(), caxton_shards::codec::text::ParseErrorKind>(())
/// ```
pub struct NamedParameters {
    builder: MessageBuilder,
    delivery: Delivery,
    seen: ParameterSet,
    now: WallTime,
}

impl NamedParameters {
    /// Begins with a builder. Relative dates count from `now`.
    pub fn new(builder: MessageBuilder, now: WallTime) -> Self {
        Self { builder, delivery: Delivery::default(), seen: ParameterSet::default(), now }
    }

    /// Sets a parameter, whatever the case of its name.
    ///
    /// # Errors
    ///
    /// The parameter cannot be set by its name, was set before, or the value is not valid for it. Nothing is set then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ParseErrorKind> {
        let Some(parameter) = Parameter::named(name.as_bytes()) else {
            self.builder.set_user_parameter(name, ParameterValue::text(value.into()));
            return Ok(());
        };
        if !self.seen.insert(parameter) {
            return Err(ParseErrorKind::RepeatedParameter { name: parameter.name() });
        }
        let builder = &mut self.builder;
        match parameter {
            Parameter::Language => builder.set_language(value),
            Parameter::Encoding => builder.set_encoding(value),
            Parameter::Ontology => builder.set_ontology(value),
            Parameter::Protocol => builder.set_protocol(value),
            Parameter::ConversationId => builder.set_conversation_text(value),
            Parameter::ReplyWith => builder.set_reply_with_text(value),
            Parameter::InReplyTo => builder.set_in_reply_to_text(value),
            Parameter::ReplyBy => match date::read(value.as_bytes(), self.now) {
                Some(moment) => builder.set_reply_by(moment),
                None => {
                    return Err(ParseErrorKind::IllegalValue {
                        parameter: parameter.name(),
                        value: super::excerpt(value.as_bytes()),
                        allowed: "a date such as 20250131T235959999Z or +00000000T000010000".into(),
                    });
                }
            },
            Parameter::Sender | Parameter::Receiver | Parameter::ReplyTo | Parameter::Content => {
                return Err(ParseErrorKind::Contradiction("agents and content are not set by name here"));
            }
            _ => self.delivery.set(parameter, 0, value, self.now).map_err(super::Refusal::into_kind)?,
        }
        Ok(())
    }

    /// Returns the builder with all parameters that were set.
    pub fn builder(self) -> MessageBuilder {
        self.delivery.give_to(self.builder)
    }
}

/// Calls `write` with the name and the value of each of the router's own parameters of a message that differs from its
/// default, without those of its address.
pub fn for_each_own_parameter(message: &Message, mut write: impl FnMut(&'static str, &str)) {
    for_each_option(message, |parameter, value| write(parameter.name(), value));
    let details = message.details();
    if let Some(moment) = details.and_then(|details| details.deliver_at) {
        write(Parameter::DeliverAt.name(), &date::date_text(moment));
    }
    if let Some(trace) = message.trace().filter(TraceContext::is_valid) {
        write(Parameter::Traceparent.name(), &trace.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Performative, Reliability};

    fn parameters() -> NamedParameters {
        NamedParameters::new(Message::builder(Performative::Request).receiver("seller"), WallTime(1_000))
    }

    #[test]
    fn parameters_are_set_by_name_and_read_back() {
        let set = [
            ("Ontology", "trade"),
            ("conversation-id", "plums"),
            ("reply-by", "+00000000T000005000"),
            ("x-caxton-reliability", "durable"),
            ("X-caxton-traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("X-trail", "north"),
        ];
        let mut parameters = parameters();
        for (name, value) in set {
            parameters.set(name, value).expect(name);
        }
        let message = parameters.builder().build().expect("it is valid");
        assert_eq!((message.ontology(), message.reliability()), (Some("trade"), Reliability::Durable));
        assert_eq!(message.conversation_text().as_deref(), Some("plums"));
        assert_eq!(message.reply_by(), Some(WallTime(6_000)));
        assert_eq!(message.details().map_or(0, |details| details.user_parameters.len()), 1);
        let mut written = Vec::new();
        for_each_own_parameter(&message, |name, value| written.push((name, value.to_owned())));
        let expected = [("X-caxton-reliability", "durable"), ("X-caxton-traceparent", set[4].1)];
        assert_eq!(written, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        let mut parameters = parameters();
        parameters.set("language", "json").expect("it is free");
        for (name, value) in [
            ("Language", "sl"),
            ("receiver", "x"),
            ("content", "x"),
            ("reply-by", "soon"),
            ("X-caxton-priority", "very"),
            ("X-caxton-time-to-live-ms", "0"),
        ] {
            parameters.set(name, value).expect_err(name);
        }
        let mut parameters = self::parameters();
        parameters.set("no word", "x").expect("it is checked with the message");
        parameters.builder().build().expect_err("the name is not allowed");
    }
}
