//! The ledger of a shard: each delivery is recorded once at its source and once at its destination.

use crate::outcome::{DeadLetterReason, Stage};
use crate::stats::account::Account;
use crate::stats::unfinished::Unfinished;

/// Counters of the outcomes of a shard's messages.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    account: Account,
    refusals: Refusals,
    /// What was left at the stop.
    unfinished: Option<Box<Unfinished>>,
}

/// Messages refused, or accepted beyond the limit, for want of room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Refusals {
    /// Refused because the memory budget was used up.
    pub for_memory: u64,
    /// Refused because the receiver accepted nothing and the sender did not want to wait, or to wait longer.
    pub for_receiver: u64,
    /// Replies accepted beyond the mailbox's limit.
    pub replies_beyond: u64,
}

impl Ledger {
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the totals, to corrupt them in a test.
    #[cfg(test)]
    pub fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Counts deliveries accepted from a sender on this shard.
    #[inline(always)]
    pub fn accept(&mut self, deliveries: u64) {
        self.account.accepted += deliveries;
    }

    /// Counts a delivery from another shard.
    #[inline(always)]
    pub fn arrive(&mut self) {
        self.account.arrived += 1;
    }

    /// Counts a delivery left unsettled by an earlier run.
    pub fn recover(&mut self) {
        self.account.recovered += 1;
    }

    /// Counts deliveries handled by their receivers.
    #[inline(always)]
    pub fn process(&mut self, deliveries: u64) {
        self.account.processed += deliveries;
    }

    /// A delivery is given up.
    pub fn dead_letter(&mut self, reason: DeadLetterReason) {
        self.account.dead_lettered += 1;
        self.account.dead_by_reason[reason.index()] += 1;
    }

    /// Counts a message that expired before it was handled.
    pub fn expire(&mut self, stage: Stage) {
        self.account.expired += 1;
        self.account.expired_by_stage[stage.index()] += 1;
    }

    /// Counts a delivery handed over to another shard.
    #[inline(always)]
    pub fn depart(&mut self) {
        self.account.departed += 1;
    }

    /// Counts a durable delivery left to the next start.
    pub fn keep(&mut self) {
        self.account.kept += 1;
    }

    /// Counts a failed attempt that is followed by another one.
    pub fn retry(&mut self) {
        self.account.retried += 1;
    }

    /// Counts messages that were refused and never accepted.
    pub fn refuse(&mut self, messages: u64) {
        self.account.refused += messages;
    }

    /// Counts a message refused because the memory budget was used up.
    pub fn refuse_for_memory(&mut self) {
        self.refusals.for_memory += 1;
    }

    /// Counts a message refused because its receiver accepts nothing at the moment.
    pub fn refuse_for_receiver(&mut self) {
        self.refusals.for_receiver += 1;
    }

    /// Counts a reply accepted beyond the mailbox's limit.
    pub fn take_reply_beyond(&mut self) {
        self.refusals.replies_beyond += 1;
    }

    pub fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// The router sends a notice.
    pub fn send_notice(&mut self) {
        self.account.notices += 1;
    }

    /// Counts a notice that was merged into a count instead of kept.
    pub fn coalesce_notice(&mut self) {
        self.account.notices_coalesced += 1;
    }

    /// Sets the number of deliveries still with the shard, as counted where they are.
    #[inline]
    pub fn set_pending(&mut self, deliveries: u64) {
        self.account.pending = deliveries;
    }

    /// Returns the number of deliveries that were abandoned, or left to the next start, because the shard stops.
    pub fn stopped(&self) -> u64 {
        self.account.dead_by_reason[DeadLetterReason::Stopped.index()] + self.account.kept
    }

    /// Starts counting what is left, before anything is abandoned. What was left to the next start before stays
    /// counted.
    #[cold]
    pub fn begin_unfinished(&mut self, questions: u64, asks: u64, conversations: u64) {
        let unfinished = self.unfinished.get_or_insert_default();
        **unfinished = Unfinished { messages: unfinished.messages, questions, asks, conversations };
    }

    /// Counts deliveries abandoned because the shard stops, by place.
    #[cold]
    pub fn count_unfinished(&mut self, stage: Stage, deliveries: u64) {
        if deliveries > 0 {
            self.unfinished.get_or_insert_default().messages[stage.index()] += deliveries;
        }
    }

    /// Returns what was left when the shard was told to stop, and what was abandoned since for the same reason.
    pub fn unfinished(&self) -> Unfinished {
        self.unfinished.as_deref().copied().unwrap_or_default()
    }
}
