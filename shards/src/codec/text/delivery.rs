//! The router's own parameters: delivery options, and addressing by capability.

use std::str::FromStr;

use super::error::{ParseErrorKind, Refusal, excerpt};
use super::lexer::Read;
use super::parse::Reader;
use crate::domain::{CapabilityName, Priority};
use crate::message::date;
use crate::message::details::hexadecimal;
use crate::message::parameter::Parameter;
use crate::message::{
    Choice, DeliveryOptions, Message, MessageBuilder, MessageId, Receipt, Reliability, TraceContext, WallTime,
    WhenUnavailable,
};

/// The delivery options of a message.
#[derive(Default)]
pub(crate) struct Delivery {
    pub options: DeliveryOptions,
    pub id: Option<MessageId>,
    pub trace: Option<TraceContext>,
    pub capability: Option<(usize, CapabilityName)>,
    pub choice: Option<(usize, Choice)>,
}

impl Delivery {
    /// Checks that the addressing parameters are consistent.
    pub fn check(&self, has_receiver: bool) -> Read<()> {
        let contradiction = |offset, text| Err(Refusal::new(offset, ParseErrorKind::Contradiction(text)));
        match (&self.capability, self.choice) {
            (Some((offset, _)), _) if has_receiver => {
                contradiction(*offset, "a message has either a receiver or an X-caxton-capability")
            }
            (None, Some((offset, _))) => {
                contradiction(offset, "X-caxton-choice needs an X-caxton-capability to choose from")
            }
            _ => Ok(()),
        }
    }

    pub fn give_to(self, mut builder: MessageBuilder) -> MessageBuilder {
        if self.options != DeliveryOptions::default() {
            builder = builder.options(self.options);
        }
        if let Some(id) = self.id {
            builder = builder.id(id);
        }
        if let Some(trace) = self.trace {
            builder = builder.trace(trace);
        }
        if let Some((_, capability)) = self.capability {
            builder = builder.capability(&capability, self.choice.map_or(Choice::default(), |(_, choice)| choice));
        }
        builder
    }
}

impl Reader<'_> {
    /// Reads the value of one of the router's own parameters.
    pub fn delivery(&mut self, parameter: Parameter, into: &mut Delivery) -> Read<()> {
        let (offset, text) = self.lexer.text(parameter.name())?;
        into.set(parameter, offset, &text, self.now)
    }
}

impl Delivery {
    /// Sets one of the router's own parameters from its value at `offset`. Relative dates count from `now`.
    pub fn set(&mut self, parameter: Parameter, offset: usize, text: &str, now: WallTime) -> Read<()> {
        let value = OwnValue { parameter, offset, text };
        match parameter {
            Parameter::Priority => self.options.priority = value.parsed("low, normal, high or urgent")?,
            Parameter::Reliability => self.options.reliability = value.one_of(&RELIABILITIES)?,
            Parameter::Receipt => self.options.receipt = value.one_of(&RECEIPTS)?,
            Parameter::WhenUnavailable => self.options.when_unavailable = value.one_of(&PATIENCE)?,
            Parameter::AttemptsMax => self.options.attempts_max = Some(value.parsed("1 to 255")?),
            Parameter::TimeToLiveMs => {
                self.options.time_to_live = Some(value.parsed("1 to 300000 milliseconds")?);
            }
            Parameter::DeliverAt => {
                let moment = date::read(text.as_bytes(), now);
                self.options.deliver_at = Some(value.legal(moment, "a date such as 20250131T235959999Z")?);
            }
            Parameter::MessageId => {
                let allowed = "m and 32 hexadecimal digits, the last 16 not all zero";
                self.id = Some(value.legal(message_id(text), allowed)?);
            }
            Parameter::Traceparent => self.trace = Some(value.legal(TraceContext::parse(text), "a W3C trace context")?),
            Parameter::Capability => {
                let name = CapabilityName::try_new(text);
                self.capability =
                    Some((offset, name.map_err(|error| Refusal::new(offset, ParseErrorKind::Refused(error)))?));
            }
            _ => self.choice = Some((offset, value.one_of(&Choice::WORDS)?)),
        }
        Ok(())
    }
}

/// The value of one of the router's own parameters, with its position.
struct OwnValue<'a> {
    parameter: Parameter,
    offset: usize,
    text: &'a str,
}

impl OwnValue<'_> {
    fn legal<T>(&self, value: Option<T>, allowed: &'static str) -> Read<T> {
        value.ok_or_else(|| self.illegal(allowed.into()))
    }

    fn parsed<T: FromStr>(&self, allowed: &'static str) -> Read<T> {
        self.legal(self.text.parse().ok(), allowed)
    }

    fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Read<T> {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(self.text));
        let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(|(_, value)| *value).ok_or_else(|| self.illegal(known().into()))
    }

    fn illegal(&self, allowed: std::borrow::Cow<'static, str>) -> Refusal {
        let value = excerpt(self.text.as_bytes());
        Refusal::new(self.offset, ParseErrorKind::IllegalValue { parameter: self.parameter.name(), value, allowed })
    }
}

const RELIABILITIES: [(&str, Reliability); 2] =
    [("volatile", Reliability::Volatile), ("durable", Reliability::Durable)];

const RECEIPTS: [(&str, Receipt); 3] =
    [("none", Receipt::None), ("delivered", Receipt::Delivered), ("processed", Receipt::Processed)];

const PATIENCE: [(&str, WhenUnavailable); 2] =
    [("wait", WhenUnavailable::Wait), ("fail-fast", WhenUnavailable::FailFast)];

fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

/// Calls `write` for each option of delivery that is one word or number and differs from its default, in the order in
/// which every form writes them.
pub(crate) fn for_each_option(message: &Message, mut write: impl FnMut(Parameter, &str)) {
    if message.priority() != Priority::default() {
        write(Parameter::Priority, message.priority().name());
    }
    if message.reliability() != Reliability::default() {
        write(Parameter::Reliability, word_of(&RELIABILITIES, message.reliability()));
    }
    if message.receipt() != Receipt::default() {
        write(Parameter::Receipt, word_of(&RECEIPTS, message.receipt()));
    }
    if message.when_unavailable() != WhenUnavailable::default() {
        write(Parameter::WhenUnavailable, word_of(&PATIENCE, message.when_unavailable()));
    }
    if let Some(attempts) = message.attempts_max() {
        write(Parameter::AttemptsMax, &attempts.to_string());
    }
    if message.time_to_live_ms() != 0 {
        write(Parameter::TimeToLiveMs, &message.time_to_live_ms().to_string());
    }
}

fn message_id(text: &str) -> Option<MessageId> {
    let digits = text.strip_prefix('m')?;
    let bytes: [u8; 16] = hexadecimal(digits)?;
    MessageId::from_u128(u128::from_be_bytes(bytes))
}
