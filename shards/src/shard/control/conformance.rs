//! What becomes of messages that break the protocol of their conversation.
//!
//! Invariants: each violation is counted and reported once, on the initiator's shard, where the conversation's state
//! is; a refused message is a dead letter, and its sender hears what it could have sent instead.

use crate::mailbox::Reservation;
use crate::message::notice::{describe, quote};
use crate::message::{AgentId, Message, Performative};
use crate::outcome::DeadLetterReason;
use crate::shard::Shard;
use crate::shard::io::Event;

/// What a shard has seen of protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Conformance {
    /// Messages that followed the protocol of their conversation.
    pub steps: u64,
    /// How many of them came after the `reply-by` of the message before them.
    pub late: u64,
    /// Messages that broke it and were delivered all the same.
    pub observed: u64,
    /// Messages that broke it and were refused.
    pub refused: u64,
    /// Messages that named a protocol that is checked, and could not be held to it: without a conversation-id, or to
    /// an agent that the conversation's initiator wants answers to go to.
    pub unchecked: u64,
}

impl Conformance {
    /// All violations.
    pub fn violations(&self) -> u64 {
        self.observed + self.refused
    }

    /// The figures of two shards together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.steps += other.steps;
        self.late += other.late;
        self.observed += other.observed;
        self.refused += other.refused;
        self.unchecked += other.unchecked;
        self
    }
}

impl Shard {
    /// Its figures of protocols.
    pub fn conformance(&self) -> Conformance {
        let (steps, late) = self.dialogue.conversations.steps();
        Conformance { steps, late, unchecked: self.dialogue.conversations.unchecked, ..self.dialogue.violations }
    }

    /// A message passed that breaks its protocol.
    #[cold]
    pub(in crate::shard) fn observe_violation(&mut self) {
        if let Some(violation) = self.dialogue.conversations.take_violation() {
            self.dialogue.violations.observed += 1;
            self.outputs.report(|| Event::ProtocolViolation(violation));
        }
    }

    /// Tells the sender of a message that breaks its protocol what it could have sent.
    #[cold]
    pub(in crate::shard) fn send_not_understood(&mut self, message: &Message, reservation: Reservation) {
        let expected = match self.dialogue.conversations.take_violation() {
            Some(violation) => {
                let expected = violation.to_string();
                self.dialogue.violations.refused += 1;
                self.outputs.report(|| Event::ProtocolViolation(violation));
                expected
            }
            None => DeadLetterReason::ProtocolViolation.explanation().to_owned(),
        };
        let word = DeadLetterReason::ProtocolViolation;
        let content = format!("(({}) ({word} \"{}\"))", describe(message), quote(&expected));
        self.send_to_sender(message, Performative::NotUnderstood, content, reservation);
    }

    /// A message was given up. If it was part of a conversation that lives here, what was said last may be said again.
    #[cold]
    pub(in crate::shard) fn forgive_repetition(&mut self, message: &Message) {
        if let (Some(id), Some(initiator)) = (message.conversation(), message.initiator()) {
            self.dialogue.conversations.delivery_failed(initiator, id);
        }
    }

    /// The router tells an agent that its message was not delivered, which may be the first that the conversation's
    /// shard hears of it.
    #[cold]
    pub(in crate::shard) fn on_failure_notice(&mut self, notice: &Message, to: AgentId) {
        use crate::message::ConversationRole;
        if let (Some(id), ConversationRole::Initiator, Performative::Failure) =
            (notice.conversation(), notice.role(), notice.performative())
        {
            self.dialogue.conversations.delivery_failed(to, id);
        }
    }
}

/// Whether a notice of the router says that a message was given up.
pub(crate) fn tells_of_failure(performative: Performative) -> bool {
    matches!(performative, Performative::Failure | Performative::NotUnderstood)
}
