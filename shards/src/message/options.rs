//! Delivery options of a message.

pub use crate::base::time::WallTime;
use crate::domain::{LifetimeMs, Priority};

/// Whether a message survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reliability {
    /// Kept in memory: lost with the process, and accounted for as long as the process runs.
    #[default]
    Volatile,
    /// Written to the journal of the receiver's shard before it is acknowledged or dispatched.
    Durable,
}

/// Which delivery receipt the sender wants, as an `inform` from the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Receipt {
    /// None.
    #[default]
    None,
    /// When the message reaches the receiver's mailbox.
    Delivered,
    /// When the receiver has handled it.
    Processed,
}

/// What happens to a message while its receiver is unavailable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenUnavailable {
    /// It waits in the receiver's mailbox, within the limits of the mailbox and of its own lifetime.
    #[default]
    Wait,
    /// It is dead-lettered at once, and its sender is notified.
    FailFast,
}

/// Priority, reliability, lifetime, delivery time, receipt, attempts and behaviour on unavailability of one message.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct DeliveryOptions {
    /// The mailbox lane in which the message waits.
    pub priority: Priority,
    /// Whether the message survives a crash.
    pub reliability: Reliability,
    /// Which delivery receipt the sender wants.
    pub receipt: Receipt,
    /// Maximum number of attempts before the message is dead-lettered; the router's setting if `None`.
    pub attempts_max: Option<std::num::NonZeroU8>,
    /// How long the message may wait for its handler; the router's setting if `None`.
    pub time_to_live: Option<LifetimeMs>,
    /// The earliest delivery time, from which the lifetime counts.
    pub deliver_at: Option<WallTime>,
    /// Whether the message waits while its receiver is unavailable.
    pub when_unavailable: WhenUnavailable,
}
