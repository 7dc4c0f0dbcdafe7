//! The actions returned by a raw guest, parsed from untrusted bytes.

use std::num::NonZeroU64;
use std::time::Duration;

use caxton_shards::domain::{CapabilityName, ContentLimit, GuestMessageBytes, LifetimeMs, Priority};
use caxton_shards::message::{
    AgentId, Choice, ConversationId, Correlation, Message, MessageBuilder, Performative, Reliability, WallTime,
};

use super::super::host::TIMER_ONTOLOGY;
use super::frames::OTHER;

/// Maximum length of a guest's failure text, in bytes. The rest is cut off.
const FAILURE_BYTES_MAX: usize = 1_024;

/// Something that a guest does because of a message.
#[derive(Debug)]
pub(super) enum Action {
    Fail(String),
    Reply { performative: Performative, content: Vec<u8> },
    Send(Box<MessageBuilder>),
    Offer(CapabilityName),
    Withdraw(CapabilityName),
}

/// The number of the message that an action belongs to, and the action.
pub(super) type Numbered = (u32, Result<Action, String>);

/// The parser of actions, with its context.
pub(super) struct Reading {
    pub me: AgentId,
    pub now: WallTime,
    pub message_bytes: GuestMessageBytes,
}

impl Reading {
    /// Parses all actions. A malformed one ends the list and fails all messages.
    pub fn read(&self, mut bytes: &[u8]) -> Result<Vec<Numbered>, String> {
        let mut actions = Vec::new();
        while !bytes.is_empty() {
            let place = actions.len();
            let broken = |what: &str| format!("action {place} of its result {what}");
            let length = number(bytes, 0).ok_or_else(|| broken("is cut off"))? as usize;
            let action =
                bytes.get(..length).filter(|_| length >= 12).ok_or_else(|| broken("has an impossible length"))?;
            let (kind, about) = (number(action, 4).unwrap_or(0), number(action, 8).unwrap_or(0));
            actions.push((about, self.read_one(kind, action).ok_or_else(|| broken("is cut off"))?));
            bytes = bytes.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(actions)
    }

    /// Parses one action, if all its bytes are present; otherwise returns what is wrong.
    fn read_one(&self, kind: u32, action: &[u8]) -> Option<Result<Action, String>> {
        Some(match kind {
            1 => {
                let text = text(action, 16, number(action, 12)? as usize)?;
                Ok(Action::Fail(text[..text.floor_char_boundary(FAILURE_BYTES_MAX)].to_owned()))
            }
            2 => {
                let (code, word) = (*action.get(12)?, usize::from(*action.get(13)?));
                let length = number(action, 16)? as usize;
                let content = slice(action, 20, length)?;
                let word = text(action, 20 + length, word)?;
                performative(code, &word).and_then(|performative| {
                    self.check_length(content)?;
                    Ok(Action::Reply { performative, content: content.to_vec() })
                })
            }
            3 => self.read_send(action)?,
            4 => {
                let (after_ms, length) = (number(action, 12)?, number(action, 16)? as usize);
                let content = slice(action, 20, length)?;
                self.check_length(content).map(|()| Action::Send(Box::new(timer(self.me, self.now, after_ms, content))))
            }
            5 | 6 => {
                let name = text(action, 16, number(action, 12)? as usize)?;
                let name = CapabilityName::try_new(name).map_err(|error| error.to_string());
                name.map(|name| if kind == 5 { Action::Offer(name) } else { Action::Withdraw(name) })
            }
            other => Err(format!("its result has an action {other}, which does not exist")),
        })
    }

    fn read_send(&self, action: &[u8]) -> Option<Result<Action, String>> {
        let [code, receiver, flags, priority] = *action.get(12..16)?.first_chunk::<4>()?;
        let length = number(action, 72)? as usize;
        let content = slice(action, 88, length)?;
        let mut at = 88 + length;
        let mut words: [String; 6] = Default::default();
        for (place, word) in words.iter_mut().enumerate() {
            let length = usize::from(u16::from_le_bytes(*action.get(76 + 2 * place..)?.first_chunk()?));
            *word = text(action, at, length)?;
            at += length;
        }
        let [name, protocol, language, ontology, encoding, word] = words;
        let (reply_within_ms, lifetime_ms) = (number(action, 64)?, number(action, 68)?);
        let correlations = [(4, 48), (8, 56)].map(|(flag, at)| {
            let value =
                action.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
            NonZeroU64::new(value).filter(|_| flags & flag != 0).map(Correlation::new)
        });
        let build = || -> Result<Action, String> {
            self.check_length(content)?;
            let mut builder = Message::builder(performative(code, &word)?).content(content);
            let capability = || CapabilityName::try_new(name.as_str()).map_err(|error| error.to_string());
            builder = match receiver {
                0 => {
                    let agent = wide(action, 16).and_then(AgentId::from_u128);
                    builder.receiver(agent.ok_or("the receiver's id is 0")?)
                }
                1 => builder.receiver(AgentId::of_text(&name)),
                2 => builder.capability(&capability()?, Choice::Any),
                3 => builder.capability(&capability()?, Choice::RoundRobin),
                4 => builder.capability(&capability()?, Choice::LeastLoaded),
                5 => builder.capability(&capability()?, Choice::All),
                other => return Err(format!("there is no kind of receiver {other}")),
            };
            if flags & 2 != 0 {
                let conversation = wide(action, 32).and_then(ConversationId::from_u128);
                builder = builder.conversation(conversation.ok_or("the conversation's id is 0")?);
            }
            let [reply_with, in_reply_to] = correlations;
            if let Some(correlation) = reply_with {
                builder = builder.reply_with(correlation);
            }
            if let Some(correlation) = in_reply_to {
                builder = builder.in_reply_to(correlation);
            }
            if reply_within_ms != 0 {
                builder = builder.reply_by(WallTime(self.now.0 + u64::from(reply_within_ms)));
            }
            if lifetime_ms != 0 {
                builder = builder.time_to_live(LifetimeMs::try_new(lifetime_ms).map_err(|error| error.to_string())?);
            }
            if flags & 32 != 0 {
                builder = builder.reliability(Reliability::Durable);
            }
            builder = builder.priority(match priority {
                0 => Priority::Normal,
                1 => Priority::Low,
                2 => Priority::High,
                3 => Priority::Urgent,
                other => return Err(format!("there is no priority {other}")),
            });
            let set = |builder: MessageBuilder, set: fn(MessageBuilder, &str) -> MessageBuilder, word: &str| {
                if word.is_empty() { builder } else { set(builder, word) }
            };
            builder = set(builder, MessageBuilder::protocol, &protocol);
            builder = set(builder, MessageBuilder::language, &language);
            builder = set(builder, MessageBuilder::ontology, &ontology);
            builder = set(builder, MessageBuilder::encoding, &encoding);
            Ok(Action::Send(Box::new(builder)))
        };
        Some(build())
    }

    fn check_length(&self, content: &[u8]) -> Result<(), String> {
        let (bytes, limit) = (content.len() as u64, self.message_bytes.into_inner());
        if bytes > limit {
            return Err(format!("it sent a message with {bytes} bytes of content: the limit is {limit}"));
        }
        Ok(())
    }
}

/// Creates the message of a timer, to the guest itself.
pub(in super::super) fn timer(me: AgentId, now: WallTime, after_ms: u32, content: &[u8]) -> MessageBuilder {
    Message::builder(Performative::Inform)
        .receiver(me)
        .ontology(TIMER_ONTOLOGY)
        .within(Duration::from_millis(u64::from(after_ms)) + TIMER_LIFETIME)
        .deliver_at(WallTime(now.0 + u64::from(after_ms)))
        .content(content)
}

/// Lifetime of a timer's message once its time has come.
const TIMER_LIFETIME: Duration = Duration::from_secs(30);

/// Builds a message within a guest's limit.
pub(in super::super) fn finish(builder: MessageBuilder, limit: GuestMessageBytes) -> Result<Message, String> {
    let limit = u32::try_from(limit.into_inner()).unwrap_or(u32::MAX);
    let limit = ContentLimit::try_new(limit).unwrap_or_default();
    builder.build_within(limit).map_err(|error| error.to_string())
}

fn performative(code: u8, word: &str) -> Result<Performative, String> {
    if code == OTHER {
        return word.parse().map_err(|error| format!("the performative {word:?} is not legal: {error}"));
    }
    let standard = Performative::STANDARD.get(usize::from(code)).copied();
    standard.ok_or_else(|| format!("there is no performative {code}: expected 0 to 21, or 255 and a word"))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn wide(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(length)?)
}

fn text(bytes: &[u8], at: usize, length: usize) -> Option<String> {
    Some(String::from_utf8_lossy(slice(bytes, at, length)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading() -> Reading {
        let message_bytes = GuestMessageBytes::try_new(100).expect("a legal limit");
        Reading { me: AgentId::of_text("me"), now: WallTime(1), message_bytes }
    }

    fn action(kind: u32, about: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(12 + body.len()).expect("short");
        let mut bytes = [length, kind, about].map(u32::to_le_bytes).concat();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn actions_are_read_in_order_with_what_they_are_about() {
        let mut bytes = action(1, 2, &[&5_u32.to_le_bytes()[..], b"sorry"].concat());
        bytes.extend(action(2, 0, &[&[7, 0, 0, 0][..], &2_u32.to_le_bytes(), b"ok"].concat()));
        let actions = reading().read(&bytes).expect("both are whole");
        assert!(matches!(&actions[0], (2, Ok(Action::Fail(text))) if text == "sorry"));
        assert!(
            matches!(&actions[1], (0, Ok(Action::Reply { performative: Performative::Inform, content })) if content == b"ok")
        );
    }

    #[test]
    fn what_is_too_long_or_unknown_is_the_fault_of_its_message_alone() {
        let mut bytes = action(2, 1, &[&[7, 0, 0, 0][..], &101_u32.to_le_bytes(), &[b'x'; 101]].concat());
        bytes.extend(action(77, 3, &[]));
        let actions = reading().read(&bytes).expect("both are whole");
        assert!(matches!(&actions[0], (1, Err(text)) if text.contains("101 bytes")), "{actions:?}");
        assert!(matches!(&actions[1], (3, Err(text)) if text.contains("77")), "{actions:?}");
        assert!(reading().read(&bytes[..20]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_guest_answers_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = reading().read(&bytes);
        }

        #[test]
        fn actions_with_a_form_are_read_or_refused(
            kind in 0_u32..8, about in any::<u32>(), body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = reading().read(&action(kind, about, &body));
        }
    }
}
