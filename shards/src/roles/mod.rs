//! Helpers for authors of agents: the two sides of the most common FIPA interaction protocols.
//!
//! | protocol | source | initiator | participant |
//! |---|---|---|---|
//! | request, request-when | SC00026, SC00028 | [`Inquiries`] | [`Service`] |
//! | query | SC00027 | [`Inquiries`] | [`Service`] |
//! | subscribe | SC00035 | [`Inquiries`] | [`Subscribers`] |
//! | contract-net | SC00029 | [`Negotiations`] | [`Bidding`] |
//!
//! An initiator's helper is a field of the agent, which hands it the messages that it does not know itself what to do
//! with: [`Inquiries::hear`] and [`Negotiations::hear`] answer what the message means for the conversation that it
//! belongs to, or that it belongs to none of theirs. A participant's helper is an agent itself, made from the part that
//! only its author knows.
//!
//! What comes out of sequence is answered with `not-understood` and changes nothing. Deadlines are the router's
//! (`reply-by`): when it says that no answer came, that is the answer. All helpers keep at most [`SESSIONS_MAX`]
//! conversations. When something can't be sent they have changed nothing, so that a handler which returns the error as
//! its outcome is simply tried again.

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
use crate::shard::io::Rejected;

/// The most conversations that one helper keeps at a time, and the most subscribers of a [`Subscribers`].
pub const SESSIONS_MAX: usize = 10_000;

/// Why a helper did not do what it was asked for. It changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The message is none.
    #[error("the message can't be made: {0}")]
    Message(#[from] MessageError),
    /// The router did not accept it.
    #[error("the message was not accepted: {0}")]
    Rejected(#[from] Rejected),
    /// There are too many conversations already.
    #[error("{SESSIONS_MAX} conversations are open already: allowed are no more than that")]
    TooMany,
    /// The conversation is not there, or not at the point where this can be done.
    #[error("the conversation is not open, or not at the point where this can be done")]
    OutOfSequence,
    /// There is nobody to ask.
    #[error("there is nobody to ask")]
    Nobody,
}

impl<T> From<Result<T, RoleError>> for Outcome {
    /// What came of a handler that only did this: with an error it is tried again.
    fn from(result: Result<T, RoleError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) => Self::failed(error.to_string()),
        }
    }
}

impl Context<'_> {
    /// Replies to `message`, as [`Context::reply`], and sends that.
    ///
    /// # Errors
    /// The reply is no message, or it was not accepted; nothing was sent.
    pub fn answer(
        &mut self,
        message: &Message,
        performative: Performative,
        content: impl IntoContent,
    ) -> Result<MessageId, RoleError> {
        let reply = self.reply(message, performative).content(content).build()?;
        Ok(self.send(reply)?)
    }

    /// The moment that is `time` from now, by the clock on the wall; a part of a millisecond counts as a whole one.
    fn moment_in(&self, time: Duration) -> WallTime {
        let milliseconds = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        WallTime(self.now().wall.0.saturating_add(milliseconds))
    }

    /// Says that a message can't be understood at this point.
    fn object(&mut self, message: &Message, expected: &str) -> Result<(), RoleError> {
        // An objection to an objection would never end.
        if message.performative() != Performative::NotUnderstood {
            let content = format!("({} (unexpected \"{expected}\"))", message.performative());
            self.answer(message, Performative::NotUnderstood, content)?;
        }
        Ok(())
    }
}
