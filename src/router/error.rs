//! Errors of the router's calls.

use std::convert::Infallible;

use caxton_shards::api::{SendErrorKind, UnresponsiveError};
use caxton_shards::message::Message;

use crate::call::NoAnswer;

/// A blocking call was made on a shard's own thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a blocking call on a shard's own thread would wait for itself")]
pub struct WouldDeadlockError;

/// Why a call has no result.
///
/// `E` is the reason with which a shard can refuse the call; calls that cannot be [refused](Self::Refused) use
/// `Infallible`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E = Infallible> {
    /// The shard refused the call. Nothing changed, unless the reason says otherwise.
    #[error(transparent)]
    Refused(E),
    /// A call that waits was made on a shard's own thread. Nothing changed.
    #[error("{WouldDeadlockError}")]
    WouldDeadlock,
    /// A shard did not respond before the call's deadline. The error says whether something may have changed.
    #[error(transparent)]
    Unresponsive(#[from] UnresponsiveError),
    /// The router has stopped. Nothing changed.
    #[error("the router has stopped")]
    Stopped,
}

impl<E> From<WouldDeadlockError> for CallError<E> {
    fn from(_: WouldDeadlockError) -> Self {
        Self::WouldDeadlock
    }
}

impl<E> From<NoAnswer> for CallError<E> {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Stopped => Self::Stopped,
            NoAnswer::Late(unresponsive) => Self::Unresponsive(unresponsive),
        }
    }
}

impl From<NoAnswer> for SendErrorKind {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Stopped => Self::Stopping,
            NoAnswer::Late(unresponsive) => Self::Unresponsive(unresponsive),
        }
    }
}

/// Messages of a batch that were not queued because there was no room in time or the router is stopping. The others
/// were queued.
#[derive(Debug, thiserror::Error)]
#[error("{} of the batch's messages were not queued: {kind}", .messages.len())]
pub struct BatchError {
    pub(super) kind: SendErrorKind,
    pub(super) messages: Vec<Message>,
}

impl BatchError {
    /// Returns why the first of them was not queued.
    pub fn kind(&self) -> &SendErrorKind {
        &self.kind
    }

    /// Returns the messages that were not queued, in order per shard.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Returns the messages that were not queued, for another attempt.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }
}
