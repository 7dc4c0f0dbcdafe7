//! What became of a durable message.

use super::DeadLetterReason;

/// What became of a durable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It is in the journal, and will be dispatched.
    Kept,
    /// It became a dead letter.
    DeadLettered(DeadLetterReason),
    /// Its lifetime ended before.
    Expired,
}
