//! What follows when records of the journal are committed, and when the journal takes no more.

use crate::dead_letter::DeadLetterReason;
use crate::journal::commits::Undispatched;
use crate::mailbox::Reservation;
use crate::shard::io::JournalCondition;
use crate::shard::{Shard, ShardPhase};
use crate::trace::StageEvent;

/// Number of committed messages dispatched per turn, or the divisor of the waiting ones if that yields more.
const DISPATCHED_PER_TURN: usize = 2;
const DISPATCHED_PART: usize = 8;

impl Shard {
    /// Dispatches what is durable now: a few messages per turn, so that others do not wait for all of them, and a
    /// fraction of many, so that they do not take many turns. Returns their number.
    #[inline]
    pub(in crate::shard) fn dispatch_committed(&mut self) -> usize {
        if !self.journal.has_committed() {
            return 0;
        }
        self.dispatch_at_most(DISPATCHED_PER_TURN.max(self.journal.waiting() / DISPATCHED_PART))
    }

    /// Dispatches and acknowledges at most `most` durable messages.
    pub(in crate::shard) fn dispatch_at_most(&mut self, most: usize) -> usize {
        let mut dispatched = 0;
        while dispatched < most
            && let Some(waiting) = self.journal.next_committed()
        {
            dispatched += 1;
            self.acknowledge(waiting.waiter, waiting.ending);
            let Some(Undispatched { place, agent }) = waiting.message else { continue };
            let Some(envelope) = self.held.remove(place) else { continue };
            if !self.agents.is_still_there(agent) {
                let reason = self.reason_of_absence(envelope.message.target());
                self.dead_letter(envelope, reason, Reservation::Nothing);
                continue;
            }
            if envelope.is_watched() {
                self.record_stage(&envelope, StageEvent::Committed);
            }
            self.say_delivered(&envelope.message, agent.index, Reservation::Nothing);
            self.put_into_mailbox_in_time(envelope, agent.index);
        }
        if dispatched > 0 && self.phase == ShardPhase::Draining {
            self.leave_mail_of_absent();
        }
        dispatched
    }

    /// Handles a change of the journal's condition.
    pub(in crate::shard) fn on_journal_condition(&mut self, condition: JournalCondition) {
        if !self.journal.set_condition(condition, self.clock.now_ms()) {
            return;
        }
        self.report_journal();
        self.watch_commits();
        if condition == JournalCondition::Failed {
            // What is committed is still dispatched. What is not committed never will be: those messages are abandoned
            // and their waiters are notified.
            self.dispatch_at_most(usize::MAX);
            for waiting in self.journal.take_waiting() {
                let envelope = waiting.message.and_then(|message| self.held.remove(message.place));
                let (Some(Undispatched { agent, .. }), Some(mut envelope)) = (waiting.message, envelope) else {
                    self.end_uncommitted(waiting);
                    continue;
                };
                envelope.mark(waiting.waiter);
                let reservation = if self.agents.is_still_there(agent) {
                    Reservation::in_mailbox(agent, &envelope)
                } else {
                    Reservation::Nothing
                };
                self.dead_letter(envelope, DeadLetterReason::NotJournalled, reservation);
            }
        }
    }
}
