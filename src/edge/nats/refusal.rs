//! Why a message is not sent, or was not delivered, as clients of NATS are told.

use std::borrow::Cow;
use std::fmt::Display;

use caxton_shards::api::{DeliveryError, Ending, FailureReason, SendErrorKind};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::MessageError;

use super::headers::HeaderWriter;

/// Maximum length of the text of an error in a header, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// Why a message is not sent, or was not delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// A status as in HTTP.
    pub code: u16,
    /// The reason as a word.
    pub reason: Cow<'static, str>,
    /// The reason for people.
    pub text: String,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str, text: impl Display) -> Self {
        Self { code, reason: reason.into(), text: text.to_string() }
    }

    /// Why a name stands for nothing.
    pub fn of_name(fault: impl Display) -> Self {
        Self::new(400, "invalid-name", fault)
    }

    /// Why a prompt is not one.
    pub fn of_prompt(fault: impl Display) -> Self {
        Self::new(400, "invalid-prompt", fault)
    }

    pub fn of_header(name: &[u8], fault: impl Display) -> Self {
        Self::new(400, "invalid-header", format!("{}: {fault}", String::from_utf8_lossy(name)))
    }

    /// Why a message cannot be built.
    pub fn of_message(error: &MessageError) -> Self {
        let (code, reason) = match error {
            MessageError::ContentTooLarge { .. } => (413, "content-too-large"),
            _ => (400, "invalid-message"),
        };
        Self::new(code, reason, error)
    }

    pub fn of_receivers() -> Self {
        Self::new(400, "invalid-message", "the message names other receivers than its subject")
    }

    /// A subject that stands for nothing here, or a reply to nothing.
    pub fn no_responders(text: &str) -> Self {
        Self::new(503, "no-responders", text)
    }

    /// What the sender is not permitted.
    pub fn forbidden(text: impl Display) -> Self {
        Self::new(403, "forbidden", text)
    }

    /// Why the router has not accepted a message.
    pub fn of_send_error(error: &SendErrorKind) -> Self {
        let (code, reason) = match error {
            SendErrorKind::NotKept { ending: Ending::DeadLettered(reason), .. } => (code_of(*reason), reason.as_str()),
            SendErrorKind::Full => (429, "full"),
            SendErrorKind::UnknownSender => (403, "unknown-sender"),
            SendErrorKind::ForeignSender => (403, "foreign-sender"),
            SendErrorKind::ContentTooLarge { .. } => (413, "content-too-large"),
            SendErrorKind::MemoryFull { .. } => (429, "memory-full"),
            SendErrorKind::ReceiverFull { .. } => (429, "receiver-full"),
            SendErrorKind::DurabilityUnavailable => (501, "durability-unavailable"),
            SendErrorKind::JournalFull => (507, "journal-full"),
            SendErrorKind::JournalFailed => (503, "journal-failed"),
            SendErrorKind::NotKept { .. } => (500, "not-kept"),
            SendErrorKind::TooManyQuestions { .. } => (429, "too-many-questions"),
            SendErrorKind::RefusedByPlugin { .. } => (403, "refused-by-plugin"),
            SendErrorKind::Stopping => (503, "stopping"),
            SendErrorKind::Unresponsive(_) => (504, "unresponsive"),
            _ => (500, "not-accepted"),
        };
        Self::new(code, reason, error)
    }

    /// Why a message was not delivered, or not handled.
    pub fn of_delivery_error(error: &DeliveryError) -> Self {
        let (code, reason) = match error.reason() {
            FailureReason::DeadLetter(reason) => (code_of(reason), reason.as_str()),
            FailureReason::NoReply => (504, "no-reply"),
            _ => (500, "failed"),
        };
        Self::new(code, reason, error.explanation())
    }

    /// Whether nobody receives what is sent there, so that NATS has a status of its own for it.
    pub fn means_no_responders(&self) -> bool {
        const NOBODY: [&str; 5] = ["no-responders", "unknown-receiver", "no-route", "no-provider", "deregistered"];
        NOBODY.contains(&&*self.reason)
    }

    /// Appends headers that say so.
    pub fn put_headers(&self, output: &mut Vec<u8>) {
        let mut headers = HeaderWriter::new(output);
        headers.put("Nats-Service-Error-Code", self.code.to_string().as_bytes());
        headers.put("Nats-Service-Error", beginning(&self.text).as_bytes());
        headers.put("Caxton-Reason", self.reason.as_bytes());
        headers.put("Caxton-Performative", b"failure");
        headers.end();
    }

    /// Appends the status with which NATS says that nobody receives the message.
    pub fn put_no_responders(&self, output: &mut Vec<u8>) {
        let mut headers = HeaderWriter::with_status(output, "503");
        headers.put("Caxton-Reason", self.reason.as_bytes());
        headers.end();
    }
}

fn code_of(reason: DeadLetterReason) -> u16 {
    use DeadLetterReason as Reason;
    match reason {
        Reason::UnknownReceiver
        | Reason::NoRoute
        | Reason::NoProvider
        | Reason::Deregistered
        | Reason::Draining
        | Reason::NotJournalled
        | Reason::Stopped => 503,
        Reason::MailboxFull
        | Reason::RepliesFull
        | Reason::Displaced
        | Reason::MemoryFull
        | Reason::ShardFull
        | Reason::TooManyConversations
        | Reason::BreakerOpen => 429,
        Reason::Expired => 504,
        Reason::ProtocolViolation | Reason::NotInConversation | Reason::AmbiguousConversation => 409,
        _ => 500,
    }
}

pub(super) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_room_later_has_the_status_that_it_has_over_http() {
        use DeadLetterReason as Reason;
        for reason in [Reason::MailboxFull, Reason::BreakerOpen, Reason::TooManyConversations] {
            assert_eq!(code_of(reason), 429, "{reason:?}");
        }
        for reason in [Reason::NotJournalled, Reason::Stopped] {
            assert_eq!(code_of(reason), 503, "{reason:?}");
        }
        assert_eq!(Refusal::of_send_error(&SendErrorKind::JournalFailed).code, 503);
    }
}
