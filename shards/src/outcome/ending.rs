//! The final outcome of a durable message.

use super::DeadLetterReason;

/// The final outcome of a durable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The message is in the journal and will be dispatched.
    Kept,
    /// The message was dead-lettered.
    DeadLettered(DeadLetterReason),
    /// The message's lifetime ended before it was journalled.
    Expired,
}
