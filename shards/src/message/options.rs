//! How a message wants to be delivered, beside what it says.

pub use crate::base::time::WallTime;
use crate::domain::{LifetimeMs, Priority};

/// What a message survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reliability {
    /// Lives in memory: lost with the process, and accounted for as long as the process lives.
    #[default]
    Volatile,
    /// Written to the receiver shard's journal before it is acknowledged or dispatched.
    Durable,
}

/// What the sender wants to hear of the delivery, as an `inform` from the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Receipt {
    /// Nothing.
    #[default]
    None,
    /// That the message reached the receiver's mailbox.
    Delivered,
    /// That the receiver handled it.
    Processed,
}

/// What becomes of a message whose receiver is not to be called for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenUnavailable {
    /// It waits in the receiver's mailbox, within the mailbox's bounds and its own lifetime.
    #[default]
    Wait,
    /// It becomes a dead letter at once, and its sender hears of it.
    FailFast,
}

/// Priority, reliability, lifetime, earliest delivery, receipt, attempts and patience of one message.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct DeliveryOptions {
    /// Which lane of the mailbox the message waits in.
    pub priority: Priority,
    /// What the message survives.
    pub reliability: Reliability,
    /// What the sender wants to hear.
    pub receipt: Receipt,
    /// How often the message is tried before it becomes a dead letter; the router's setting if absent.
    pub attempts_max: Option<std::num::NonZeroU8>,
    /// How long the message may wait for its handler; the router's setting if absent.
    pub time_to_live: Option<LifetimeMs>,
    /// The message is not dispatched before this moment. Its lifetime counts from then.
    pub deliver_at: Option<WallTime>,
    /// Whether the message waits while its receiver is not to be called.
    pub when_unavailable: WhenUnavailable,
}
