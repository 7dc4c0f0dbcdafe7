//! The former names of the router's own parameters, without prefix: `X-priority` for `X-caxton-priority`.
//!
//! Other platforms use such names for their own parameters, so readers of messages treat them as user-defined. Where
//! messages are known to be written for this router, such as in the files of `caxton route`, they are delivery options.

use super::text::Delivery;
use crate::domain::Priority;
use crate::message::WallTime;
use crate::message::parameter::Parameter;
use crate::message::{Amendment, Choice, Message, ParameterValue, Receipt, Receiver, Reliability, WhenUnavailable};

const OLD_PREFIX: &str = "x-";
const PREFIX: &str = "x-caxton-";

impl Message {
    /// Applies user-defined parameters that are options without the router's prefix, such as `X-priority high`, and
    /// returns the names by which they should be written. Relative dates count from `now`.
    ///
    /// A parameter is left unchanged if its value is invalid for the option, if it occurs twice, or if the message
    /// states the option otherwise: with the prefix or, for `X-capability`, by a receiver.
    pub fn take_unprefixed_options(&mut self, now: WallTime) -> Vec<&'static str> {
        let Some(details) = self.details() else { return Vec::new() };
        let known: Vec<Option<Parameter>> =
            details.user_parameters.iter().map(|parameter| option_of(&parameter.name)).collect();
        if known.iter().all(Option::is_none) {
            return Vec::new();
        }
        let mut details = details.clone();
        let mut delivery = Delivery::default();
        let mut taken = Vec::new();
        for (parameter, option) in details.user_parameters.iter().zip(&known) {
            let (Some(option), ParameterValue::Atom(text) | ParameterValue::Text(text)) = (*option, &parameter.value)
            else {
                continue;
            };
            let is_once = known.iter().filter(|known| **known == Some(option)).count() == 1;
            let is_free = self.leaves_open(option)
                && (option != Parameter::Choice || known.contains(&Some(Parameter::Capability)));
            if is_once && is_free && delivery.set(option, 0, text, now).is_ok() {
                taken.push(option);
            }
        }
        if !taken.contains(&Parameter::Capability) {
            taken.retain(|option| *option != Parameter::Choice);
        }
        if taken.is_empty() {
            return Vec::new();
        }
        let mut options = known.iter();
        details
            .user_parameters
            .retain(|_| options.next().is_none_or(|known| known.is_none_or(|option| !taken.contains(&option))));
        let set = delivery.options;
        if taken.contains(&Parameter::DeliverAt) {
            details.deliver_at = set.deliver_at;
        }
        if taken.contains(&Parameter::Traceparent) {
            details.trace = delivery.trace;
        }
        let is_taken = |option| taken.contains(&option);
        let capability = delivery.capability.as_ref().filter(|_| is_taken(Parameter::Capability));
        let choice = delivery.choice.map_or(Choice::default(), |(_, choice)| choice);
        let term = capability.and_then(|(_, capability)| crate::message::capability_term(capability));
        self.amend(Amendment {
            details,
            priority: is_taken(Parameter::Priority).then_some(set.priority),
            reliability: is_taken(Parameter::Reliability).then_some(set.reliability),
            receipt: is_taken(Parameter::Receipt).then_some(set.receipt),
            when_unavailable: is_taken(Parameter::WhenUnavailable).then_some(set.when_unavailable),
            attempts_max: set.attempts_max.filter(|_| is_taken(Parameter::AttemptsMax)),
            time_to_live: set.time_to_live.filter(|_| is_taken(Parameter::TimeToLiveMs)),
            id: delivery.id.filter(|_| is_taken(Parameter::MessageId)),
            receiver: term.map(|term| Receiver::Capability(term, choice)),
        });
        taken.into_iter().map(Parameter::name).collect()
    }

    /// Whether the message does not set this option.
    fn leaves_open(&self, option: Parameter) -> bool {
        match option {
            Parameter::Priority => self.priority() == Priority::default(),
            Parameter::Reliability => self.reliability() == Reliability::default(),
            Parameter::Receipt => self.receipt() == Receipt::default(),
            Parameter::WhenUnavailable => self.when_unavailable() == WhenUnavailable::default(),
            Parameter::AttemptsMax => self.attempts_max().is_none(),
            Parameter::TimeToLiveMs => self.time_to_live_ms() == 0,
            Parameter::DeliverAt => self.details().is_none_or(|details| details.deliver_at.is_none()),
            Parameter::MessageId => self.id().is_none(),
            Parameter::Traceparent => self.trace().is_none(),
            Parameter::Capability | Parameter::Choice => *self.receiver() == Receiver::Unaddressed,
            _ => false,
        }
    }
}

/// Returns the option that formerly had this name.
fn option_of(name: &str) -> Option<Parameter> {
    let (start, rest) = name.split_at_checked(OLD_PREFIX.len())?;
    let is_old = start.eq_ignore_ascii_case(OLD_PREFIX);
    is_old.then(|| [PREFIX, rest].concat()).and_then(|prefixed| Parameter::named(prefixed.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::text::{Limits, parse};

    const NOW: WallTime = WallTime(1_700_000_000_000);

    fn taken(text: &str) -> (Message, Vec<&'static str>) {
        let mut message = parse(text.as_bytes(), NOW, &Limits::default()).unwrap();
        let taken = message.take_unprefixed_options(NOW);
        (message, taken)
    }

    #[test]
    fn options_without_the_prefix_are_those_with_it() {
        for option in [
            "priority high",
            "reliability durable",
            "receipt processed",
            "when-unavailable fail-fast",
            "attempts-max 3",
            "time-to-live-ms 1000",
            "deliver-at 20250131T235959999Z",
            "message-id m00000000000000010000000000000002",
            "traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "capability quotes",
        ] {
            let (old, taken) = taken(&format!("(inform :X-{option})"));
            let new = parse(format!("(inform :X-caxton-{option})").as_bytes(), NOW, &Limits::default()).unwrap();
            assert_eq!(old.options(), new.options(), "{option}");
            assert_eq!((old.id(), old.trace(), old.receiver()), (new.id(), new.trace(), new.receiver()), "{option}");
            assert!(old.details().unwrap().user_parameters.is_empty(), "{option}");
            let name = option.split(' ').next().unwrap();
            assert_eq!(taken, [format!("X-caxton-{name}")], "{option}");
        }
        let (message, _) = taken("(inform :X-choice all :X-capability quotes)");
        assert!(matches!(message.receiver(), Receiver::Capability(_, Choice::All)));
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        for text in [
            "(inform :X-priority 2)",
            "(inform :X-priority (high))",
            "(inform :X-priority high :x-priority low)",
            "(inform :X-caxton-priority low :X-priority high)",
            "(inform :receiver a :X-capability quotes)",
            "(inform :X-choice all)",
            "(inform :X-caxton high :X-prio high)",
        ] {
            let before = parse(text.as_bytes(), NOW, &Limits::default()).unwrap();
            let (after, taken) = taken(text);
            assert_eq!(after, before, "{text}");
            assert!(taken.is_empty(), "{text}");
        }
    }
}
