//! Why a message is not sent, or was not delivered, as clients of NATS are told.

use std::fmt::Display;

use caxton_shards::api::{DeliveryError, SendErrorKind};
use caxton_shards::message::MessageError;

use super::headers::HeaderWriter;
use crate::edge::doors::reason::{self, Reason};

/// Maximum length of the text of an error in a header, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// Why a message is not sent, or was not delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// The reason for programs.
    pub reason: Reason,
    /// The reason for people.
    pub text: String,
}

impl Refusal {
    pub fn new(reason: Reason, text: impl Display) -> Self {
        Self { reason, text: text.to_string() }
    }

    /// Why a name stands for nothing.
    pub fn of_name(fault: impl Display) -> Self {
        Self::new(reason::INVALID_NAME, fault)
    }

    /// Why a prompt is not one.
    pub fn of_prompt(fault: impl Display) -> Self {
        Self::new(reason::INVALID_PROMPT, fault)
    }

    pub fn of_header(name: &[u8], fault: impl Display) -> Self {
        Self::new(reason::INVALID_HEADER, format!("{}: {fault}", String::from_utf8_lossy(name)))
    }

    /// Why a message cannot be built.
    pub fn of_message(error: &MessageError) -> Self {
        let reason = match error {
            MessageError::ContentTooLarge { .. } => reason::CONTENT_TOO_LARGE,
            _ => reason::MALFORMED_MESSAGE,
        };
        Self::new(reason, error)
    }

    pub fn of_receivers() -> Self {
        Self::new(reason::OTHER_RECEIVERS, "the message names other receivers than its subject")
    }

    /// A subject that stands for nothing here, or a reply to nothing.
    pub fn no_responders(text: &str) -> Self {
        Self::new(reason::NO_RESPONDERS, text)
    }

    /// Why a subject cannot be published to.
    pub fn of_subject(fault: impl Display) -> Self {
        Self::new(reason::INVALID_SUBJECT, fault)
    }

    /// A sender that is none of the connection's agents.
    pub fn of_sender(text: impl Display) -> Self {
        Self::new(reason::FOREIGN_SENDER, text)
    }

    /// Why the router has not accepted a message.
    pub fn of_send_error(error: &SendErrorKind) -> Self {
        Self::new(reason::of_send(error), error)
    }

    /// Why a message was not delivered, or not handled.
    pub fn of_delivery_error(error: &DeliveryError) -> Self {
        Self::new(reason::of_failure(error.reason()), error.explanation())
    }

    /// Returns the status as in HTTP. That of NATS for a message that nobody receives is 503.
    pub fn code(&self) -> u16 {
        if self.means_no_responders() { reason::NO_RESPONDERS.status } else { self.reason.status }
    }

    /// Whether nobody receives what is sent there, so that NATS has a status of its own for it.
    pub fn means_no_responders(&self) -> bool {
        const NOBODY: [&str; 5] = ["no-responders", "unknown-receiver", "no-route", "no-provider", "deregistered"];
        NOBODY.contains(&self.reason.word)
    }

    /// Appends headers that say so.
    pub fn put_headers(&self, output: &mut Vec<u8>) {
        let mut headers = HeaderWriter::new(output);
        headers.put("Nats-Service-Error-Code", self.code().to_string().as_bytes());
        headers.put("Nats-Service-Error", beginning(&self.text).as_bytes());
        headers.put("Caxton-Reason", self.reason.word.as_bytes());
        headers.put("Caxton-Performative", b"failure");
        headers.end();
    }

    /// Appends the status with which NATS says that nobody receives the message.
    pub fn put_no_responders(&self, output: &mut Vec<u8>) {
        let mut headers = HeaderWriter::with_status(output, "503");
        headers.put("Caxton-Reason", self.reason.word.as_bytes());
        headers.end();
    }
}

pub(super) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}
