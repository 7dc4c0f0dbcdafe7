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
    /// What makes it an uncommon message.
    pub(crate) flags: DeliveryFlags,
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
        flags: DeliveryFlags::COMMON,
    };

    /// Returns the kind of traffic.
    #[inline(always)]
    pub(crate) fn kind(&self) -> EnvelopeKind {
        if self.flags.is(DeliveryFlags::NOTICE) { EnvelopeKind::Notice } else { EnvelopeKind::Message }
    }

    /// Whether the message's stages are recorded.
    #[inline(always)]
    pub(crate) fn is_watched(&self) -> bool {
        self.flags.is(DeliveryFlags::WATCHED)
    }

    /// Whether the conversation role had to be resolved because the message arrived as text.
    #[inline(always)]
    pub(crate) fn is_text_borne(&self) -> bool {
        self.flags.is(DeliveryFlags::TEXT_BORNE)
    }
}

/// What makes a message uncommon. One comparison tells that a message is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeliveryFlags(u8);

impl DeliveryFlags {
    pub const COMMON: Self = Self(0);
    /// It is the router's own.
    pub const NOTICE: Self = Self(1);
    /// The conversation role had to be resolved because the message arrived as text.
    pub const TEXT_BORNE: Self = Self(2);
    /// The message's stages are recorded.
    pub const WATCHED: Self = Self(4);
    /// It is in a record of the journal, or a caller waits for its commit.
    pub const JOURNALLED: Self = Self(8);
    /// It has a trace context.
    pub const IN_TRACE: Self = Self(16);

    #[inline(always)]
    pub const fn is(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Returns the union of both.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn set(&mut self, flag: Self, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }
}

impl EnvelopeKind {
    /// Returns the flags of a message of this kind.
    #[inline(always)]
    pub(crate) fn flags(self) -> DeliveryFlags {
        match self {
            Self::Message => DeliveryFlags::COMMON,
            Self::Notice => DeliveryFlags::NOTICE,
        }
    }
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
