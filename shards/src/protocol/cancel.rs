//! The cancel meta-protocol, which is part of every protocol of the library: the initiator may withdraw at any time, and
//! the participant says whether it did stop (`inform`) or could not (`failure`).
//!
//! What the participant sent before it heard of the cancel is still on its way, so all that was allowed stays allowed
//! until the answer is there. Where an answer could also be the next step of the protocol, `in-reply-to` tells the two
//! apart; without it the message counts as the step, and the answer may follow.

use crate::message::{Correlation, Performative};

/// A cancel that was not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cancelling {
    /// What the answer repeats, if the cancel said so.
    pub reply_with: Option<Correlation>,
}

/// How a participant answered a cancel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It has stopped: the exchange is over.
    Stopped,
    /// It goes on.
    GoesOn,
}

impl Answer {
    /// The answer that an act stands for, if it is one.
    pub fn of(act: Performative) -> Option<Self> {
        match act {
            Performative::Inform => Some(Self::Stopped),
            Performative::Failure => Some(Self::GoesOn),
            _ => None,
        }
    }
}

impl Cancelling {
    /// Whether a message answers the cancel and nothing else.
    pub fn is_answered_by(self, in_reply_to: Option<Correlation>) -> bool {
        self.reply_with.is_some() && self.reply_with == in_reply_to
    }
}
