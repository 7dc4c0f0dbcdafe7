//! What a notice of the router says about a message that failed, for programs.
//!
//! A notice's content is SL for the agents of any platform: `((request m... (agent-identifier :name X)) (word "text"))`.
//! Here it becomes a value. Names stand in it as they are, so that a name can look like the rest of a notice: what a
//! notice says about a message is as trustworthy as the name of its receiver.

use std::fmt;

use crate::message::notice::is_notice;
use crate::message::{AgentId, Message};
use crate::outcome::DeadLetterReason;

/// Why the router reports that a message failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FailureReason {
    /// The message was not delivered, or not handled.
    DeadLetter(DeadLetterReason),
    /// The message had a `reply-by`, and no reply came by then. The message may have been handled.
    NoReply,
}

impl FailureReason {
    fn of_word(word: &str) -> Option<Self> {
        if word == "no-reply" {
            return Some(Self::NoReply);
        }
        DeadLetterReason::ALL.into_iter().find(|reason| reason.as_str() == word).map(Self::DeadLetter)
    }
}

/// A message failed, as the router tells its sender.
///
/// The router tells agents and inboxes by a message from the agent `ams`; [`DeliveryError::of_notice`] reads it.
#[derive(Clone, PartialEq, Debug)]
pub struct DeliveryError {
    reason: FailureReason,
    receiver: Option<AgentId>,
    name: Option<Box<str>>,
    explanation: Box<str>,
    notice: Message,
}

impl DeliveryError {
    /// Returns what a notice of the router says; nothing for other messages, and for notices that report no failure of a
    /// message.
    pub fn of_notice(notice: &Message) -> Option<Self> {
        if !is_notice(notice) {
            return None;
        }
        let text = notice.content().as_text()?;
        let about = text.strip_prefix("((")?;
        let (end, reason, explanation) = about.match_indices(") (").find_map(|(end, found)| {
            let (word, rest) = about[end + found.len()..].split_once(" \"")?;
            Some((end, FailureReason::of_word(word)?, rest.strip_suffix("\"))")?))
        })?;
        let named = about[..end].split_once("(agent-identifier :name ").map(|(_, name)| name.trim_end_matches(')'));
        let id = named.and_then(id_of_text);
        let name = named.filter(|_| id.is_none());
        Some(Self {
            reason,
            receiver: id.or_else(|| name.map(AgentId::of_text)),
            name: name.map(Into::into),
            explanation: explanation.replace("\\\"", "\"").into(),
            notice: notice.clone(),
        })
    }

    /// Adds the receiver's name where only its id is known.
    pub(in crate::shard) fn with_name(mut self, name: impl FnOnce(AgentId) -> Option<Box<str>>) -> Self {
        if let (Some(receiver), None) = (self.receiver, &self.name) {
            self.name = name(receiver);
        }
        self
    }

    /// Returns why the message failed.
    pub fn reason(&self) -> FailureReason {
        self.reason
    }

    /// Returns the agent that the message was for, if it was for one.
    pub fn receiver(&self) -> Option<AgentId> {
        self.receiver
    }

    /// Returns the name of the agent that the message was for, where it is known.
    pub fn receiver_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns what the router says to people about it.
    pub fn explanation(&self) -> &str {
        &self.explanation
    }

    /// Returns the router's notice.
    pub fn notice(&self) -> &Message {
        &self.notice
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.receiver) {
            (Some(name), _) => write!(formatter, "the message to {name:?} failed: {}", self.explanation),
            (None, Some(receiver)) => write!(formatter, "the message to {receiver} failed: {}", self.explanation),
            (None, None) => write!(formatter, "the message failed: {}", self.explanation),
        }
    }
}

impl std::error::Error for DeliveryError {}

/// The id that stands in a notice where nobody knows the name: `a` and 32 hexadecimal digits.
fn id_of_text(text: &str) -> Option<AgentId> {
    let digits = text.strip_prefix('a').filter(|digits| digits.len() == 32)?;
    AgentId::from_u128(u128::from_str_radix(digits, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Performative;
    use crate::message::notice::router_id;

    fn notice(content: &str) -> Message {
        Message::builder(Performative::Failure).sender(router_id()).content(content).build().unwrap()
    }

    #[test]
    fn a_notice_is_read_with_its_reason_and_its_receiver() {
        let agent = AgentId::of_text("seller");
        let unknown = DeadLetterReason::UnknownReceiver;
        let cases = [
            (format!("((request m1 (agent-identifier :name {agent})) (unknown-receiver \"no\"))"), Some(agent), None),
            (
                "((request m1 (agent-identifier :name seller)) (unknown-receiver \"no\"))".to_owned(),
                Some(agent),
                Some("seller"),
            ),
            ("((request m1) (unknown-receiver \"no\"))".to_owned(), None, None),
        ];
        for (content, receiver, name) in cases {
            let error = DeliveryError::of_notice(&notice(&content)).expect(&content);
            assert_eq!((error.receiver(), error.receiver_name()), (receiver, name), "{content}");
            assert_eq!((error.reason(), error.explanation()), (FailureReason::DeadLetter(unknown), "no"), "{content}");
        }
    }

    #[test]
    fn every_reason_is_read_and_quotes_are_unescaped() {
        let words = DeadLetterReason::ALL.map(|reason| (reason.as_str(), FailureReason::DeadLetter(reason)));
        for (word, reason) in words.into_iter().chain([("no-reply", FailureReason::NoReply)]) {
            let text = format!("((inform m1 (agent-identifier :name a b)) ({word} \"it said \\\"(no) (never\\\"\"))");
            let error = DeliveryError::of_notice(&notice(&text)).expect(word);
            assert_eq!((error.reason(), error.receiver_name()), (reason, Some("a b")), "{word}");
            assert_eq!(error.explanation(), "it said \"(no) (never\"", "{word}");
        }
    }

    #[test]
    fn other_messages_report_no_failure() {
        assert_eq!(DeliveryError::of_notice(&notice("((processed (request m1)))")), None);
        assert_eq!(DeliveryError::of_notice(&notice("((conversation c1) (timed-out \"no traffic\"))")), None);
        let forged = Message::builder(Performative::Failure).sender(AgentId::of_text("mallory"));
        let forged = forged.content("((request m1) (no-route \"x\"))").build().unwrap();
        assert_eq!(DeliveryError::of_notice(&forged), None);
    }
}
