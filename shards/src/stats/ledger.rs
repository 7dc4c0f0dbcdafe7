//! The books of a shard: each delivery is written down once where it comes from, and once where it goes.

use crate::outcome::{DeadLetterReason, Stage};
use crate::stats::account::Account;
use crate::stats::unfinished::{Place, Unfinished};

/// What became of the messages of a shard, in figures.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    account: Account,
    refusals: Refusals,
    /// What was left at the stop.
    unfinished: Option<Box<Unfinished>>,
}

/// What was refused, or taken all the same, for want of room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Refusals {
    /// Refused because the memory budget was used up.
    pub for_memory: u64,
    /// Refused because the receiver takes nothing at the moment and the sender did not want to wait, or not any longer.
    pub for_receiver: u64,
    /// Replies that were taken beyond the mailbox's limit.
    pub replies_beyond: u64,
}

impl Ledger {
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The totals, to make them wrong.
    #[cfg(test)]
    pub fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Deliveries are taken over from a sender on this shard.
    #[inline(always)]
    pub fn accept(&mut self, deliveries: u64) {
        self.account.accepted += deliveries;
    }

    /// A delivery is taken over from another shard.
    #[inline(always)]
    pub fn arrive(&mut self) {
        self.account.arrived += 1;
    }

    /// A delivery was left unsettled by an earlier run.
    pub fn recover(&mut self) {
        self.account.recovered += 1;
    }

    /// Deliveries were handled by their receivers.
    #[inline(always)]
    pub fn process(&mut self, deliveries: u64) {
        self.account.processed += deliveries;
    }

    /// A delivery is given up.
    pub fn dead_letter(&mut self, reason: DeadLetterReason) {
        self.account.dead_lettered += 1;
        self.account.dead_by_reason[reason.index()] += 1;
    }

    /// The lifetime of a message ended before it was handled.
    pub fn expire(&mut self, stage: Stage) {
        self.account.expired += 1;
        self.account.expired_by_phase[stage.index()] += 1;
    }

    /// A delivery was handed over to another shard.
    #[inline(always)]
    pub fn depart(&mut self) {
        self.account.departed += 1;
    }

    /// A durable delivery is left to the next start.
    pub fn keep(&mut self) {
        self.account.kept += 1;
    }

    /// An attempt failed and another one follows.
    pub fn retry(&mut self) {
        self.account.retried += 1;
    }

    /// Messages were refused, and never accepted.
    pub fn refuse(&mut self, messages: u64) {
        self.account.refused += messages;
    }

    /// A message was refused because the memory budget was used up.
    pub fn refuse_for_memory(&mut self) {
        self.refusals.for_memory += 1;
    }

    /// A message was refused because its receiver takes nothing at the moment.
    pub fn refuse_for_receiver(&mut self) {
        self.refusals.for_receiver += 1;
    }

    /// A reply was taken beyond the mailbox's limit.
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

    /// A notice is counted instead of kept.
    pub fn coalesce_notice(&mut self) {
        self.account.notices_coalesced += 1;
    }

    /// Deliveries are still with the shard, as counted where they are.
    #[inline]
    pub fn set_pending(&mut self, deliveries: u64) {
        self.account.pending = deliveries;
    }

    /// Returns the number of deliveries that were given up, or left to the next start, because the shard stops.
    pub fn stopped(&self) -> u64 {
        self.account.dead_by_reason[DeadLetterReason::Stopped.index()] + self.account.kept
    }

    /// Begins to count what is left, before anything is given up. What was left to the next start before stays counted.
    #[cold]
    pub fn begin_unfinished(&mut self, questions: u64, asks: u64, conversations: u64) {
        let unfinished = self.unfinished.get_or_insert_default();
        **unfinished = Unfinished { messages: unfinished.messages, questions, asks, conversations };
    }

    /// Counts deliveries that are given up because the shard stops, by where they stood.
    #[cold]
    pub fn count_unfinished(&mut self, place: Place, deliveries: u64) {
        if deliveries > 0 {
            self.unfinished.get_or_insert_default().messages[place.index()] += deliveries;
        }
    }

    /// Returns what was left when the shard was told to stop, and what was given up since for the same reason.
    pub fn unfinished(&self) -> Unfinished {
        self.unfinished.as_deref().copied().unwrap_or_default()
    }
}
