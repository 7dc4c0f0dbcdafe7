//! What the router notes beside a message while it is on its way.

use crate::base::index::ShardIndex;
use crate::base::slab::NONE;

/// What is written on a message's envelope. It travels with the message, but is no part of what it says: a copy keeps
/// of it only when its lifetime ends, and it does not matter when messages are compared.
#[derive(Debug)]
pub struct DeliveryMeta {
    /// When its lifetime ends, in milliseconds of monotonic time.
    pub deadline_ms: u64,
    /// How far a message to several agents has been handed out.
    pub(crate) fan_out: u32,
    /// Where its conversation lay when it last passed there, on its home shard. A hint, which a reply carries back: what
    /// is found there is compared before it is believed.
    pub(crate) conversation_place: u32,
    /// Where its sender lies on the sender's shard. A hint, likewise: the reply finds its receiver by it.
    pub(crate) sender_place: u32,
    /// Where its receiver lies on the receiver's shard, if it is a reply.
    pub(crate) receiver_place: u32,
    /// Whose credit it holds.
    pub(crate) credit_of: Option<ShardIndex>,
    /// How often it was tried.
    pub attempts: u8,
    /// What kind of traffic it is.
    pub(crate) kind: EnvelopeKind,
    /// Whether its conversation role had to be found out because it came as text.
    pub(crate) text_borne: bool,
}

impl DeliveryMeta {
    pub(crate) const NONE: Self = Self {
        deadline_ms: 0,
        fan_out: 0,
        conversation_place: NONE,
        sender_place: NONE,
        receiver_place: NONE,
        credit_of: None,
        attempts: 0,
        kind: EnvelopeKind::Message,
        text_borne: false,
    };
}

impl Clone for DeliveryMeta {
    fn clone(&self) -> Self {
        Self { deadline_ms: self.deadline_ms, ..Self::NONE }
    }
}

impl PartialEq for DeliveryMeta {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Whether a message is accounted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnvelopeKind {
    /// An agent's message: accounted for.
    Message,
    /// The router's own notice: not an accepted message, and no cause for further notices.
    Notice,
}
