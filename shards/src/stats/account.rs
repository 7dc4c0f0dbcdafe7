//! The message accounting of a shard: every delivery is counted in once and out once.
//!
//! Invariant, per shard and between any two steps: `accepted + arrived + recovered = processed + dead_lettered +
//! expired + departed + kept + pending`. `pending` is not derived from the others: it is counted where the messages
//! are.

use std::iter::Sum;
use std::ops::AddAssign;

use crate::outcome::{DeadLetterReason, Stage};

/// Running totals of one shard. Each counts deliveries: a message to five agents counts five times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Account {
    /// Accepted from a sender on this shard.
    pub accepted: u64,
    /// Received from another shard.
    pub arrived: u64,
    /// Durable messages left unsettled by an earlier run of the router.
    pub recovered: u64,
    /// Handled by their receiver.
    pub processed: u64,
    /// Dead-lettered, for any reason.
    pub dead_lettered: u64,
    /// Not handled within their lifetime.
    pub expired: u64,
    /// Transferred to another shard.
    pub departed: u64,
    /// Durable messages left to the next start when the router stopped.
    pub kept: u64,
    /// Still held by this shard.
    pub pending: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
    /// Refused immediately, with an error to the sender: never accepted.
    pub refused: u64,
    /// The router's own notices that were sent.
    pub notices: u64,
    /// The router's own notices that found the control lane full, or no receiver.
    pub notices_coalesced: u64,
    /// Dead letters by reason, in the order of [`DeadLetterReason::ALL`].
    pub dead_by_reason: [u64; DeadLetterReason::COUNT],
    /// Expired messages by stage, in the order of [`Stage::ALL`].
    pub expired_by_stage: [u64; Stage::COUNT],
}

impl Account {
    /// Whether the deliveries counted in equal those counted out and pending.
    pub fn balances(&self) -> bool {
        let into = self.accepted + self.arrived + self.recovered;
        let out = self.processed + self.dead_lettered + self.expired + self.departed + self.kept + self.pending;
        into == out
            && self.dead_by_reason.iter().sum::<u64>() == self.dead_lettered
            && self.expired_by_stage.iter().sum::<u64>() == self.expired
    }
}

impl AddAssign<&Self> for Account {
    fn add_assign(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.arrived += other.arrived;
        self.recovered += other.recovered;
        self.kept += other.kept;
        self.processed += other.processed;
        self.dead_lettered += other.dead_lettered;
        self.expired += other.expired;
        self.departed += other.departed;
        self.pending += other.pending;
        self.retried += other.retried;
        self.refused += other.refused;
        self.notices += other.notices;
        self.notices_coalesced += other.notices_coalesced;
        for (mine, others) in self.dead_by_reason.iter_mut().zip(other.dead_by_reason) {
            *mine += others;
        }
        for (mine, others) in self.expired_by_stage.iter_mut().zip(other.expired_by_stage) {
            *mine += others;
        }
    }
}

impl<'a> Sum<&'a Self> for Account {
    fn sum<I: Iterator<Item = &'a Self>>(shards: I) -> Self {
        shards.fold(Self::default(), |mut sum, shard| {
            sum += shard;
            sum
        })
    }
}
