//! Errors as problem documents (RFC 9457), with the router's reason codes.
//!
//! Besides the members of the standard, a problem has `reason`, a stable word for programs, and `effect`: what happened
//! to the caller's data.

use std::fmt::Display;

use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use caxton_shards::api::{
    AskError, Ending, FailureReason, LifecycleError, RegistrationError, ReplayError, SendErrorKind, UnresponsiveError,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::DomainError;
use serde_json::{Value, json};

use super::reply::Reply;
use crate::edge::doors::identity::TokenError;
use crate::edge::doors::outside::OutsideError;
use crate::router::error::CallError;

/// The media type of problems.
pub(super) const PROBLEM: &str = "application/problem+json";

/// What happened to the caller's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Nothing was changed.
    None,
    /// It may have been done, or may be done later.
    Possible,
    /// The message was accepted and has failed: it is among the dead letters, or its lifetime was over.
    Failed,
}

impl Effect {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Possible => "possible",
            Self::Failed => "failed",
        }
    }
}

/// Why a request was not fulfilled.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    reason: &'static str,
    detail: String,
    effect: Effect,
    /// In seconds.
    retry_after: Option<u64>,
}

/// Delay after which something that was full may have room, in seconds.
const AGAIN_S: u64 = 1;

impl Problem {
    /// Creates a problem that changed nothing.
    #[allow(clippy::needless_pass_by_value)] // Errors and texts alike.
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Display) -> Self {
        Self { status, reason, detail: detail.to_string(), effect: Effect::None, retry_after: None }
    }

    /// The request is malformed.
    pub fn bad(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, detail)
    }

    /// The request is well formed and cannot be fulfilled as it is.
    pub fn unfit(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason, detail)
    }

    /// The caller may not.
    pub fn forbidden(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, reason, detail)
    }

    /// There is no such thing.
    pub fn missing(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason, detail)
    }

    /// It does not go together with what is there.
    pub fn conflict(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, reason, detail)
    }

    /// The caller asks for too much at the moment.
    pub fn too_much(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, reason, detail).again_after(AGAIN_S)
    }

    /// The router cannot do it at the moment.
    pub fn unavailable(reason: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, detail).again_after(AGAIN_S)
    }

    /// Returns the problem of a status without one.
    pub fn of_status(status: StatusCode) -> Self {
        let (reason, detail) = match status {
            StatusCode::NOT_FOUND => ("unknown-path", "nothing is served at this path: see /openapi.json"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method-not-allowed", "the path is served with other methods: see Allow")
            }
            _ => ("bad-request", "the request cannot be read"),
        };
        Self::new(status, reason, detail)
    }

    /// Says what happened.
    pub fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    /// Says when to try again, in seconds.
    pub fn again_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Whether the same request can be made again without doing anything twice.
    pub fn may_be_repeated(&self) -> bool {
        self.effect == Effect::None
    }

    /// Returns the reason as one word.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the document.
    pub fn to_json(&self) -> Value {
        json!({
            "type": format!("urn:caxton:reason:{}", self.reason),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "reason": self.reason,
            "effect": self.effect.as_str(),
        })
    }

    /// Returns the document as a response.
    pub fn to_reply(&self) -> Reply {
        let document = self.to_json();
        Reply { status: self.status, media: PROBLEM, body: Bytes::from(format!("{document}\n")) }
    }

    /// Returns the response, with the headers of another one that says which methods are allowed.
    pub fn instead_of(&self, other: &HeaderMap) -> Response {
        let mut response = self.clone().into_response();
        if let Some(allowed) = other.get(ALLOW) {
            response.headers_mut().insert(ALLOW, allowed.clone());
        }
        response
    }

    /// Returns the problem of a message that was not accepted.
    pub fn of_send(kind: &SendErrorKind) -> Self {
        match kind {
            SendErrorKind::Full => Self::too_much("full", kind),
            SendErrorKind::UnknownSender => Self::unfit("unknown-sender", kind),
            SendErrorKind::ForeignSender => Self::forbidden("foreign-sender", kind),
            SendErrorKind::ContentTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "content-too-large", kind)
            }
            SendErrorKind::MemoryFull { .. } => Self::too_much("memory-full", kind),
            SendErrorKind::ReceiverFull { .. } => Self::too_much("receiver-full", kind),
            SendErrorKind::DurabilityUnavailable => Self::unfit("durability-unavailable", kind),
            SendErrorKind::JournalFull => Self::unavailable("journal-full", kind),
            SendErrorKind::JournalFailed => Self::unavailable("journal-failed", kind),
            SendErrorKind::NotKept { ending, .. } => match ending {
                Ending::DeadLettered(reason) => Self::of_dead_letter(*reason, kind),
                _ => Self::unfit("not-kept", kind).with_effect(Effect::Failed),
            },
            SendErrorKind::TooManyQuestions { .. } => Self::too_much("too-many-questions", kind),
            SendErrorKind::RefusedByPlugin { .. } => Self::unfit("refused-by-plugin", kind),
            SendErrorKind::Unresponsive(unresponsive) => Self::of_unresponsive(unresponsive),
            _ => Self::unavailable("stopping", kind),
        }
    }

    /// Returns the problem of a message that was dead-lettered.
    fn of_dead_letter(reason: DeadLetterReason, detail: impl Display) -> Self {
        let problem = match reason {
            DeadLetterReason::MailboxFull
            | DeadLetterReason::RepliesFull
            | DeadLetterReason::Displaced
            | DeadLetterReason::MemoryFull
            | DeadLetterReason::ShardFull
            | DeadLetterReason::TooManyConversations
            | DeadLetterReason::BreakerOpen => Self::too_much(reason.as_str(), detail),
            DeadLetterReason::NotJournalled | DeadLetterReason::Stopped => Self::unavailable(reason.as_str(), detail),
            _ => Self::unfit(reason.as_str(), detail),
        };
        problem.with_effect(Effect::Failed)
    }

    /// Returns the problem of a message without reply or receipt.
    pub fn of_ask(error: &AskError) -> Self {
        match error {
            AskError::Rejected(rejected) => Self::of_send(rejected.kind()),
            AskError::Unresponsive(unresponsive) => Self::of_unresponsive(unresponsive),
            AskError::Undeliverable(failure) => match failure.reason() {
                FailureReason::DeadLetter(reason) => Self::of_dead_letter(reason, failure),
                _ => Self::timed_out(),
            },
            AskError::TimedOut => Self::timed_out(),
            _ => Self::unavailable("stopping", error).with_effect(Effect::Possible),
        }
    }

    fn timed_out() -> Self {
        let detail = "nothing came back in time: the message was accepted, and may have been or may still be handled";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", detail).with_effect(Effect::Possible)
    }

    fn of_unresponsive(error: &UnresponsiveError) -> Self {
        let effect = if error.may_have_changed { Effect::Possible } else { Effect::None };
        Self::unavailable("unresponsive", error).with_effect(effect)
    }

    /// Returns the problem of a call, given that of its refusal.
    pub fn of_call<E: Display>(error: &CallError<E>, refused: impl FnOnce(&E) -> Self) -> Self {
        match error {
            CallError::Refused(refusal) => refused(refusal),
            CallError::Unresponsive(unresponsive) => Self::of_unresponsive(unresponsive),
            CallError::WouldDeadlock | CallError::Stopped => Self::unavailable("stopping", error),
        }
    }

    fn of_registration(error: &RegistrationError) -> Self {
        match error {
            RegistrationError::Duplicate { .. } => Self::conflict("duplicate", error),
            RegistrationError::Collision { .. } => Self::conflict("collision", error),
            RegistrationError::TooManyAgents { .. } => Self::too_much("too-many-agents", error),
            RegistrationError::VocabularyFull { .. } => Self::too_much("vocabulary-full", error),
            RegistrationError::Reserved { .. } => Self::unfit("reserved", error),
            RegistrationError::InvalidName(_) => Self::unfit("invalid-name", error),
            RegistrationError::Stopping => Self::unavailable("stopping", error),
            _ => Self::unfit("not-registered", error),
        }
    }

    /// Returns the problem of a change of an agent's state.
    pub fn of_lifecycle(error: &LifecycleError) -> Self {
        match error {
            LifecycleError::UnknownAgent => Self::missing("unknown-agent", error),
            LifecycleError::TooManyDrains { .. } => Self::too_much("too-many-drains", error),
            LifecycleError::Stopping => Self::unavailable("stopping", error),
            _ => Self::conflict("wrong-state", error),
        }
    }

    /// Returns the problem of a dead letter that was not replayed.
    pub fn of_replay(error: &ReplayError) -> Self {
        match error {
            ReplayError::Unknown { .. } => Self::missing("unknown-dead-letter", error),
            _ => Self::conflict("not-replayed", error),
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        Self::of_call(&error, |never| match *never {})
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let reason = match error {
            TokenError::Missing => "token-missing",
            TokenError::Unknown => "token-unknown",
            TokenError::Expired => "token-expired",
        };
        Self::new(StatusCode::UNAUTHORIZED, reason, error)
    }
}

impl From<OutsideError> for Problem {
    fn from(error: OutsideError) -> Self {
        match &error {
            OutsideError::Forbidden { .. } => Self::forbidden("foreign-agent", error),
            OutsideError::Taken(_) => Self::conflict("taken", error),
            OutsideError::OtherMode(_) => Self::conflict("other-mode", error),
            OutsideError::TooMany { .. } => Self::too_much("too-many-agents", error),
            OutsideError::Router(call) => Self::of_call(call, Self::of_registration),
        }
    }
}

impl From<DomainError> for Problem {
    fn from(error: DomainError) -> Self {
        Self::bad("bad-parameter", error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.to_reply().into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = if self.reason == "token-missing" {
                "Bearer realm=\"caxton\""
            } else {
                "Bearer realm=\"caxton\", error=\"invalid_token\""
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
