//! Helpers for agents: both sides of the most common FIPA interaction protocols.
//!
//! | protocol | source | initiator | participant |
//! |---|---|---|---|
//! | request, request-when | SC00026, SC00028 | [`Inquiries`] | [`Service`] |
//! | query | SC00027 | [`Inquiries`] | [`Service`] |
//! | subscribe | SC00035 | [`Inquiries`] | [`Subscribers`] |
//! | contract-net | SC00029 | [`Negotiations`] | [`Bidding`] |
//!
//! An initiator's helper is a field of the agent, which passes on the messages that it does not handle itself:
//! [`Inquiries::hear`] and [`Negotiations::hear`] return what the message means for its conversation, or that it
//! belongs to none of theirs. A participant's helper is itself an agent, built around the part specific to the
//! application.
//!
//! Messages out of sequence are answered with `not-understood` and change nothing. Deadlines are enforced by the router
//! (`reply-by`): its notice that no reply arrived counts as the reply. All helpers keep at most [`SESSIONS_MAX`]
//! conversations. If a message cannot be sent they have changed nothing, so a handler that returns the error as its
//! outcome is simply retried.

mod bidding;
mod inquiry;
mod negotiation;
mod service;
mod subscribers;

use std::time::Duration;

pub use bidding::{Bidder, Bidding};
pub use inquiry::{Inquired, Inquiries};
pub use negotiation::{Negotiated, Negotiations};
pub use service::{Answer, Serve, Service};
pub use subscribers::{Heard, Subscribers};

use crate::message::{IntoContent, Message, MessageError, MessageId, Performative, WallTime};
use crate::shard::agent::{Context, Outcome};
use crate::shard::io::SendError;

/// Maximum number of conversations of one helper, and of subscribers of a [`Subscribers`].
pub const SESSIONS_MAX: usize = 10_000;

/// A helper could not do what was requested. It changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// The message is invalid.
    #[error("the message is invalid: {0}")]
    Message(#[from] MessageError),
    /// The router did not accept the message.
    #[error("the message was not accepted: {0}")]
    Rejected(#[from] SendError),
    /// There are too many conversations.
    #[error("{SESSIONS_MAX} conversations are open already, which is the limit")]
    TooMany,
    /// The conversation does not exist, or is not in a state that allows this.
    #[error("the conversation is not open, or not in a state that allows this")]
    OutOfSequence,
    /// There are no participants to call.
    #[error("there are no participants to call")]
    Nobody,
}

impl<T> From<Result<T, RoleError>> for Outcome {
    /// Converts the result of a handler that did nothing else: after an error it is retried.
    fn from(result: Result<T, RoleError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) => Self::failed(error.to_string()),
        }
    }
}

impl Context<'_> {
    /// Replies to `message`, like [`Context::reply`], and sends the reply.
    ///
    /// # Errors
    ///
    /// The reply is invalid or was not accepted; nothing was sent.
    pub fn answer(
        &mut self,
        message: &Message,
        performative: Performative,
        content: impl IntoContent,
    ) -> Result<MessageId, RoleError> {
        let reply = self.reply(message, performative).content(content).build()?;
        Ok(self.send(reply)?)
    }

    /// Returns the wall time in `time` from now; fractions of a millisecond are rounded up.
    fn moment_in(&self, time: Duration) -> WallTime {
        let milliseconds = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        WallTime(self.now().wall.0.saturating_add(milliseconds))
    }

    /// Replies that a message is not understood in the current state.
    fn object(&mut self, message: &Message, expected: &str) -> Result<(), RoleError> {
        // An objection to an objection would start an endless exchange.
        if message.performative() != Performative::NotUnderstood {
            let content = format!("({} (unexpected \"{expected}\"))", message.performative());
            self.answer(message, Performative::NotUnderstood, content)?;
        }
        Ok(())
    }
}
