//! Delivery metadata of a message in transit.

use crate::base::index::ShardIndex;
use crate::base::slab::NONE;

/// Delivery metadata that travels with a message without being part of it: copies keep only the deadline, and
/// comparisons of messages ignore it.
#[derive(Debug)]
pub struct DeliveryMeta {
    /// The end of the message's lifetime, in milliseconds of monotonic time.
    pub deadline_ms: u64,
    /// Progress of the fan-out of a message to several agents.
    pub(crate) fan_out: u32,
    /// The place of the message's conversation on its home shard when the message last passed it. A hint that replies
    /// carry back; it is verified before use.
    pub(crate) conversation_place: u32,
    /// The place of the sender on its shard. A hint, by which a reply finds its receiver.
    pub(crate) sender_place: u32,
    /// The place of the receiver on its shard, if the message is a reply. A hint.
    pub(crate) receiver_place: u32,
    /// The shard whose credit the message holds.
    pub(crate) credit_of: Option<ShardIndex>,
    /// The number of delivery attempts so far.
    pub attempts: u8,
    /// The kind of traffic.
    pub(crate) kind: EnvelopeKind,
    /// Whether the conversation role had to be resolved because the message arrived as text.
    pub(crate) text_borne: bool,
    /// Whether the message's stages are recorded.
    pub(crate) watched: bool,
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
        watched: false,
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
    /// A message from an agent; accounted for.
    Message,
    /// A notice from the router; not an accepted message, and never a cause for further notices.
    Notice,
}
