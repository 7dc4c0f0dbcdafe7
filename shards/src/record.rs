//! What a shard asks of storage, and how storage answers: input and output like everything else.
//!
//! A shard emits an append with a sequence and goes on. A durable message waits, counted as pending, until the
//! sequence is reported as committed; only then is it put into its mailbox and its sender told.

use crate::message::Message;

/// The number of an append, counted per shard from one. Appends commit in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AppendSequence(pub u64);

/// What has to become durable before the shard goes on with it.
#[derive(Clone, Debug)]
pub struct Append {
    /// Its place in the order of the shard's appends.
    pub sequence: AppendSequence,
    /// The message that was taken in.
    pub message: Message,
}

/// A durable message that waits for its commit, in the slab, and which agent it was taken in for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncommitted {
    pub sequence: AppendSequence,
    pub place: u32,
    pub generation: u32,
}

/// Whether a shard has a journal behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// There is none: a durable message is refused.
    #[default]
    Unavailable,
    /// Appends are written and reported as committed.
    Journal,
}
