//! Why calls of the router fail.

use caxton_shards::api::{LifecycleError, RegistrationError, ReplayError, SendError, Unresponsive};
use caxton_shards::message::Message;

use crate::call::NoAnswer;

/// A call that waits was made on a shard's own thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a call that waits for a shard would, on a shard's own thread, wait for itself")]
pub struct WouldDeadlock;

/// Why an agent could not be added, a dead letter not be replayed, or a question about the router has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The shard refused the registration.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The agent's state could not be changed.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// A dead letter was not replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A call that waits was made on a shard's own thread.
    #[error(transparent)]
    WouldDeadlock(#[from] WouldDeadlock),
    /// A shard did not do its part before the call's deadline.
    #[error(transparent)]
    Unresponsive(#[from] Unresponsive),
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
}

impl From<NoAnswer> for CallError {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Stopped => Self::Stopped,
            NoAnswer::Late(unresponsive) => Self::Unresponsive(unresponsive),
        }
    }
}

impl From<NoAnswer> for SendError {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Stopped => Self::Stopping,
            NoAnswer::Late(unresponsive) => Self::Unresponsive(unresponsive),
        }
    }
}

/// Messages that were not taken from a batch because there was no room in time, or the router is stopping.
#[derive(Debug, thiserror::Error)]
#[error("{} of the batch's messages were not queued: {error}", .messages.len())]
pub struct BatchRejected {
    /// Why.
    #[source]
    pub error: SendError,
    /// The messages that were not queued, in their order.
    pub messages: Vec<Message>,
}
