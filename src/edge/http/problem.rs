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
    AskError, FailureReason, LifecycleError, RegistrationError, ReplayError, SendErrorKind, UnresponsiveError,
};
use caxton_shards::domain::DomainError;
use serde_json::{Value, json};

use super::reply::Reply;
use crate::edge::doors::identity::TokenError;
use crate::edge::doors::outside::OutsideError;
use crate::edge::doors::rates::TooFast;
use crate::edge::doors::reason::{self, Reason};
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
    /// Creates a problem that changed nothing, with the usual status of its reason.
    pub fn new(reason: Reason, detail: impl Display) -> Self {
        Self {
            status: StatusCode::from_u16(reason.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            reason: reason.word,
            detail: detail.to_string(),
            effect: Effect::None,
            retry_after: reason.is_temporary().then_some(AGAIN_S),
        }
    }

    /// Gives it another status than the usual one of its reason.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Returns the problem of a status without one.
    pub fn of_status(status: StatusCode) -> Self {
        let (reason, detail) = match status {
            StatusCode::NOT_FOUND => (reason::UNKNOWN_PATH, "nothing is served at this path: see /openapi.json"),
            StatusCode::METHOD_NOT_ALLOWED => {
                (reason::METHOD_NOT_ALLOWED, "the path is served with other methods: see Allow")
            }
            _ => (reason::BAD_REQUEST, "the request cannot be read"),
        };
        Self::new(reason, detail).with_status(status)
    }

    /// Says what happened.
    pub fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
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
        let problem = Self::new(reason::of_send(kind), kind);
        match kind {
            SendErrorKind::NotKept { .. } => problem.with_effect(Effect::Failed),
            SendErrorKind::Unresponsive(unresponsive) => Self::of_unresponsive(unresponsive),
            _ => problem,
        }
    }

    /// Returns the problem of a message without reply or receipt.
    pub fn of_ask(error: &AskError) -> Self {
        const NOTHING: &str =
            "nothing came back in time: the message was accepted, and may have been or may still be handled";
        let reason = reason::of_ask(error);
        match error {
            AskError::Rejected(rejected) => Self::of_send(rejected.kind()),
            AskError::Unresponsive(unresponsive) => Self::of_unresponsive(unresponsive),
            AskError::Undeliverable(failure) => match failure.reason() {
                FailureReason::NoReply => Self::new(reason, NOTHING).with_effect(Effect::Possible),
                _ => Self::new(reason, failure).with_effect(Effect::Failed),
            },
            AskError::TimedOut => Self::new(reason, NOTHING).with_effect(Effect::Possible),
            _ => Self::new(reason, error).with_effect(Effect::Possible),
        }
    }

    fn of_unresponsive(error: &UnresponsiveError) -> Self {
        let effect = if error.may_have_changed { Effect::Possible } else { Effect::None };
        Self::new(reason::UNRESPONSIVE, error).with_effect(effect)
    }

    /// Returns the problem of a call, given that of its refusal.
    pub fn of_call<E: Display>(error: &CallError<E>, refused: impl FnOnce(&E) -> Self) -> Self {
        match error {
            CallError::Refused(refusal) => refused(refusal),
            CallError::Unresponsive(unresponsive) => Self::of_unresponsive(unresponsive),
            CallError::WouldDeadlock | CallError::Stopped => Self::new(reason::STOPPING, error),
        }
    }

    fn of_registration(error: &RegistrationError) -> Self {
        match error {
            RegistrationError::Duplicate { .. } | RegistrationError::OnOtherNode { .. } => {
                Self::new(reason::DUPLICATE, error)
            }
            RegistrationError::Collision { .. } => Self::new(reason::COLLISION, error),
            RegistrationError::TooManyAgents { .. } => Self::new(reason::TOO_MANY_AGENTS, error),
            RegistrationError::VocabularyFull { .. } => Self::new(reason::VOCABULARY_FULL, error),
            RegistrationError::Reserved { .. } => Self::new(reason::RESERVED, error),
            RegistrationError::InvalidName(_) => Self::new(reason::INVALID_NAME, error),
            RegistrationError::Stopping => Self::new(reason::STOPPING, error),
            _ => Self::new(reason::NOT_REGISTERED, error),
        }
    }

    /// Returns the problem of a change of an agent's state.
    pub fn of_lifecycle(error: &LifecycleError) -> Self {
        match error {
            LifecycleError::UnknownAgent => Self::new(reason::UNKNOWN_AGENT, error),
            LifecycleError::TooManyDrains { .. } => Self::new(reason::TOO_MANY_DRAINS, error),
            LifecycleError::Stopping => Self::new(reason::STOPPING, error),
            _ => Self::new(reason::WRONG_STATE, error),
        }
    }

    /// Returns the problem of a dead letter that was not replayed.
    pub fn of_replay(error: &ReplayError) -> Self {
        match error {
            ReplayError::Unknown { .. } => Self::new(reason::UNKNOWN_DEAD_LETTER, error),
            _ => Self::new(reason::NOT_REPLAYED, error),
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
            TokenError::Missing => reason::TOKEN_MISSING,
            TokenError::Unknown => reason::TOKEN_UNKNOWN,
            TokenError::Expired => reason::TOKEN_EXPIRED,
        };
        Self::new(reason, error)
    }
}

impl From<OutsideError> for Problem {
    fn from(error: OutsideError) -> Self {
        match &error {
            OutsideError::Router(call) => Self::of_call(call, Self::of_registration),
            other => Self::new(other.reason(), error),
        }
    }
}

impl From<TooFast> for Problem {
    fn from(TooFast { per_second, .. }: TooFast) -> Self {
        let detail = format!("more than {per_second} requests per second, which doors.requests_per_second limits");
        Self::new(reason::TOO_MANY_REQUESTS, detail)
    }
}

impl From<DomainError> for Problem {
    fn from(error: DomainError) -> Self {
        Self::new(reason::BAD_PARAMETER, error)
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
            let challenge = if self.reason == reason::TOKEN_MISSING.word {
                "Bearer realm=\"caxton\""
            } else {
                "Bearer realm=\"caxton\", error=\"invalid_token\""
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
