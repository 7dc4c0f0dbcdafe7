//! What becomes of messages that break the protocol of their conversation.
//!
//! Invariants: each violation is counted and reported once, on the initiator's shard, where the conversation's state
//! is; a refused message is a dead letter, and its sender hears what it could have sent instead.

use crate::mailbox::Reservation;
use crate::message::notice::{describe, quote};
use crate::message::{Message, Performative};
use crate::outcome::DeadLetterReason;
use crate::shard::Shard;
use crate::shard::io::Event;

impl Shard {
    /// Reports a message that passed and breaks its protocol.
    #[cold]
    pub(in crate::shard) fn observe_violation(&mut self) {
        if let Some(violation) = self.conversations.observe_violation() {
            self.outputs.report(|| Event::ProtocolViolation(violation));
        }
    }

    /// Tells the sender of a message that breaks its protocol what it could have sent.
    #[cold]
    pub(in crate::shard) fn send_not_understood(&mut self, message: &Message, reservation: Reservation) {
        let expected = match self.conversations.refuse_violation() {
            Some(violation) => {
                let expected = violation.to_string();
                self.outputs.report(|| Event::ProtocolViolation(violation));
                expected
            }
            None => DeadLetterReason::ProtocolViolation.explanation().to_owned(),
        };
        let word = DeadLetterReason::ProtocolViolation;
        let content = format!("(({}) ({word} \"{}\"))", describe(message), quote(&expected));
        self.send_to_sender(message, Performative::NotUnderstood, content, reservation);
    }
}

/// Whether a notice of the router says that a message was given up.
pub(crate) fn tells_of_failure(performative: Performative) -> bool {
    matches!(performative, Performative::Failure | Performative::NotUnderstood)
}
