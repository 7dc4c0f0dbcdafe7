//! What a waiting message occupies.

use crate::base::index::{AgentKey, ShardIndex};
use crate::mailbox::Envelope;

/// What a message, or the notice about it, occupies until it has left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reservation {
    Nothing,
    Credit(ShardIndex),
    Mailbox { agent: AgentKey, weight: u32 },
}

impl Reservation {
    /// Returns the reservation of a message that no mailbox has accepted.
    #[inline]
    pub fn of(envelope: &Envelope) -> Self {
        envelope.credit_of.map_or(Self::Nothing, Self::Credit)
    }

    /// Returns the reservation of a message in a mailbox.
    #[inline]
    pub fn in_mailbox(agent: AgentKey, envelope: &Envelope) -> Self {
        Self::Mailbox { agent, weight: envelope.weight() }
    }
}
