//! Durable messages while the journal has no room.
//!
//! A journal is full for a moment whenever much arrives at once, which nobody needs to know. When it stays full for
//! longer, as on a full disk, it is suspended until it continues: waiting callers are told that their messages were not
//! kept, and messages from other shards are refused. Messages without a waiting caller, and those sent by handlers,
//! wait until their lifetime ends.
//!
//! Invariants: every message that waits for its commit ends at its deadline. A message abandoned here is released in
//! the journal behind its own record, so that it is not handled later, and nobody who has sent it again is told that it is
//! kept. While the journal is suspended, only records
//! that end existing messages are queued.

use super::{Ending, JournalCondition, PendingCommit};
use crate::mailbox::Reservation;
use crate::outcome::DeadLetterReason;
use crate::shard::io::{Event, Stage};
use crate::shard::{Alarm, SWEEP_INTERVAL_MS, Shard, ShardPhase};

/// Milliseconds for which a journal may be full before it is suspended.
pub const FULL_PATIENCE_MS: u64 = 1_000;

impl Shard {
    /// Whether the journal has been full for so long that nothing should wait for it.
    #[inline]
    pub(in crate::shard) fn is_journal_given_up(&self) -> bool {
        self.journal.full_since_ms().is_some_and(|since_ms| self.clock.now_ms() >= since_ms + FULL_PATIENCE_MS)
    }

    /// Whether the dead letter of such a message must be written to this shard's journal even if that is full, because
    /// it ends a message there.
    pub(super) fn needs_letter_here(&self, journal: super::JournalRef) -> bool {
        let sent_here = |waiter: super::JournalRef| self.is_here(waiter.shard()) && !waiter.is_awaited_by_caller();
        journal.is_in_record() || journal.waiter().is_some_and(sent_here)
    }

    /// Ensures that what waits for a full journal does not outlive its lifetime, and that callers do not wait long.
    pub(in crate::shard) fn watch_commits(&mut self) {
        let Some(since_ms) = self.journal.full_since_ms() else { return };
        if self.journal.is_swept() || self.phase == ShardPhase::Stopped {
            return;
        }
        let patience_ends_ms = since_ms + FULL_PATIENCE_MS;
        let mut look_at_ms = self.clock.now_ms() + SWEEP_INTERVAL_MS;
        if patience_ends_ms > self.clock.now_ms() {
            look_at_ms = look_at_ms.min(patience_ends_ms);
        }
        for place in self.journal.uncommitted() {
            if let Some(envelope) = self.held.get(place) {
                look_at_ms = look_at_ms.min(envelope.deadline_ms.max(self.clock.now_ms() + 1));
            }
        }
        self.journal.set_swept(self.timers.insert(look_at_ms, Alarm::SweepCommits).is_ok());
    }

    /// Ends what has waited too long for a full journal.
    pub(in crate::shard) fn sweep_commits(&mut self) {
        self.journal.set_swept(false);
        if self.journal.condition() != JournalCondition::Full || self.phase == ShardPhase::Stopped {
            return;
        }
        let given_up = self.is_journal_given_up();
        self.report_journal();
        let (held, now_ms) = (&self.held, self.clock.now_ms());
        let expired = |waiting: &PendingCommit| {
            let envelope = waiting.message.and_then(|message| held.get(message.place));
            envelope.is_some_and(|envelope| envelope.deadline_ms <= now_ms)
        };
        let refused = |waiting: &PendingCommit| given_up && waiting.waiter.is_awaited_by_caller();
        let ended = self.journal.end_waiting(|waiting| expired(waiting) || refused(waiting));
        let ended: Vec<_> = ended.into_iter().map(|waiting| (waiting, expired(&waiting))).collect();
        for (waiting, expired) in ended {
            self.end_waiting(waiting, expired);
        }
        self.watch_commits();
    }

    /// Reports once that the journal accepts nothing, and once that it continues. A short full period is not reported.
    pub(in crate::shard) fn report_journal(&mut self) {
        let (shard, condition) = (self.index, self.journal.condition());
        let stopped = match condition {
            JournalCondition::Full if !self.is_journal_given_up() => return,
            JournalCondition::Full | JournalCondition::Failed => true,
            JournalCondition::Ready | JournalCondition::Busy | JournalCondition::Unavailable => false,
        };
        let told = self.journal.tell_full(stopped);
        if told != stopped || condition == JournalCondition::Failed {
            self.outputs.report_exception(|| Event::JournalChanged { shard, condition });
        }
    }

    /// Ends a waiting message. Its record is released behind it, or replaced by that of its dead letter.
    fn end_waiting(&mut self, waiting: PendingCommit, expired: bool) {
        let envelope = waiting.message.and_then(|message| self.held.remove(message.place));
        let (Some(message), Some(mut envelope)) = (waiting.message, envelope) else {
            // A dead letter may be lost in a crash, and so may the message that was sent again. So may the step of a
            // conversation, but its message is kept all the same.
            let ending = match waiting.ending {
                Ending::Kept if !waiting.is_repetition => Ending::Kept,
                Ending::Expired => Ending::Expired,
                Ending::Kept | Ending::DeadLettered(_) => Ending::DeadLettered(DeadLetterReason::NotJournalled),
            };
            return self.acknowledge(waiting.waiter, ending);
        };
        let receiver = envelope.message.target();
        if let Some(receiver) = receiver {
            self.journal.forget_message(&envelope.message, receiver);
        }
        let reservation = if self.agents.is_still_there(message.agent) {
            Reservation::in_mailbox(message.agent, &envelope)
        } else {
            Reservation::Nothing
        };
        // Its sender may send it again, even after a restart.
        let record = self.journal.record_of(envelope.journal());
        if let Some(record) = record {
            self.journal.records_mut().withdrawn(record);
            self.journal.give_up_repetitions(record);
        }
        if waiting.waiter.is_replay() {
            // The replayed dead letter stays, so no second one replaces this record.
            if let Some(record) = record {
                self.journal.release(record);
            }
            envelope.mark(waiting.waiter);
            return if expired {
                self.expire(envelope, Stage::Commit, reservation);
            } else {
                self.dead_letter(envelope, DeadLetterReason::NotJournalled, reservation);
            };
        }
        let letter = self.dead_letters.next_id();
        let ending = if expired {
            self.expire(envelope, Stage::Commit, reservation);
            Ending::Expired
        } else {
            self.dead_letter(envelope, DeadLetterReason::NotJournalled, reservation);
            Ending::DeadLettered(DeadLetterReason::NotJournalled)
        };
        if waiting.waiter.is_awaited_by_caller() {
            return self.acknowledge(waiting.waiter, ending);
        }
        // Settles the handled message that caused this one only after the dead letter is durable.
        let letter = self.dead_letters.find(letter).map(|_| letter.number);
        self.acknowledge_when(self.journal.records().last(), letter, waiting.waiter, ending);
    }
}
