//! What a waiting message occupies.

use crate::base::index::{AgentIndex, ShardIndex};

/// What a message, or the notice about it, occupies until it has left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reservation {
    Nothing,
    Credit(ShardIndex),
    Mailbox { agent: AgentIndex, generation: u32, weight: u32 },
}
