//! Replies that agents expect by a deadline.

pub(crate) mod asks;
pub mod pending_replies;

use asks::Asks;
use pending_replies::{PENDING_REPLIES_MAX, PendingReplies};

/// The replies that are expected.
pub(crate) struct Replies {
    /// Expected by callers outside, in whose place the gateway asked.
    pub asks: Asks,
    /// Expected by agents.
    pub pending: PendingReplies,
}

impl Replies {
    pub fn new(seed: u64) -> Self {
        Self { asks: Asks::new(seed), pending: PendingReplies::new(PENDING_REPLIES_MAX, seed) }
    }
}
