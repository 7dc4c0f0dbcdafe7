//! What became of a durable message.

use super::Reason;

/// What became of a durable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It is in the journal, and will be dispatched.
    Kept,
    /// It became a dead letter.
    DeadLettered(Reason),
    /// Its lifetime ended before.
    Expired,
}
