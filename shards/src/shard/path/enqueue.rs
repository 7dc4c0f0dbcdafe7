//! Enqueueing a message in its mailbox: now, after its commit, or at its delivery time.

use crate::base::index::AgentKey;
use crate::base::slab::NONE;
use crate::journal::commits::Undispatched;
use crate::mailbox::{Envelope, Held, Reservation};
use crate::message::journal_ref::JournalRef;
use crate::message::{Message, Receipt, Reliability, WhenUnavailable};
use crate::outcome::{DeadLetterReason, Ending};
use crate::planted;
use crate::planted::Bug;
use crate::shard::agent::registry::{AgentIndex, AgentSlot, Behaviour};
use crate::shard::io::Stage;
use crate::shard::scheduler::Scheduler;
use crate::shard::{Alarm, Shard, ShardPhase};
use crate::supervision::BreakerGate;
use crate::trace::StageEvent;

impl Shard {
    /// Puts a message for which the mailbox has reserved room into its lane, and the agent into the run queue.
    pub(in crate::shard) fn put_into_mailbox(&mut self, envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let enqueued = enqueue(slot, &mut self.held, &mut self.scheduler, envelope, index);
        self.finish_enqueue(enqueued, index);
    }

    /// Handles the rare outcomes of enqueueing.
    #[inline(always)]
    pub(in crate::shard) fn finish_enqueue(&mut self, enqueued: Enqueued, index: AgentIndex) {
        match enqueued {
            Enqueued::Done => {}
            Enqueued::Unscheduled => self.schedule(index),
            Enqueued::TurnedAway(envelope) => self.fail_fast(envelope, index),
            Enqueued::Full(envelope, key) => {
                let reservation = Reservation::in_mailbox(key, &envelope);
                self.dead_letter(envelope, DeadLetterReason::ShardFull, reservation);
            }
        }
    }

    /// Delivers a message with rare needs: a pending reply it resolves, notes, receipts, a journal, a delay.
    #[cold]
    pub(in crate::shard) fn deliver_specially(
        &mut self,
        mut envelope: Envelope,
        index: AgentIndex,
        reservation: Reservation,
    ) {
        if self.fails_fast(index, &envelope.message) && self.delay_of(&envelope.message) == 0 {
            // It is neither journalled nor reported as delivered.
            self.release(reservation);
            return self.fail_fast(envelope, index);
        }
        if envelope.is_watched() {
            let came = matches!(reservation, Reservation::Credit(_));
            self.record_stage(&envelope, if came { StageEvent::Arrived } else { StageEvent::Enqueued });
        }
        if self.agents.get(index).is_some_and(|slot| slot.first_reply != NONE) {
            self.match_reply(&mut envelope.message, index);
        }
        if envelope.is_text_borne() || envelope.message.details().is_some_and(|details| !details.reply_to.is_empty()) {
            self.note_conversation(&envelope.message);
        }
        if envelope.message.reliability() == Reliability::Durable {
            self.release(reservation);
            return self.keep(envelope, index);
        }
        if !envelope.journal().is_not() {
            // A replayed dead letter has reached its receiver.
            self.acknowledge(envelope.journal(), Ending::Kept);
            envelope.mark(JournalRef::NOT);
        }
        self.say_delivered(&envelope.message, index, reservation);
        self.put_into_mailbox_in_time(envelope, index);
    }

    /// Sends a "delivered" receipt, if the sender requested one. If the agent is of another node, that node sends it.
    pub(in crate::shard) fn say_delivered(&mut self, message: &Message, index: AgentIndex, reservation: Reservation) {
        match message.receipt() {
            Receipt::Delivered if self.is_elsewhere(index) => {
                self.release(reservation);
            }
            Receipt::Delivered => self.send_receipt(message, Receipt::Delivered, reservation),
            Receipt::None | Receipt::Processed => self.release(reservation),
        }
    }

    /// Puts a message into its mailbox now or at its delivery time.
    pub(in crate::shard) fn put_into_mailbox_in_time(&mut self, envelope: Envelope, index: AgentIndex) {
        match self.delay_of(&envelope.message) {
            0 => self.put_into_mailbox(envelope, index),
            // The wall clock may have jumped back since admission: the message does not wait beyond its lifetime.
            delay_ms => {
                let delay_ms = delay_ms.min(envelope.deadline_ms.saturating_sub(self.clock.now_ms()));
                self.put_into_mailbox_later(envelope, index, delay_ms);
            }
        }
    }

    /// Arms a timer that puts a held message into its mailbox. If no timer is free, the message is put there now.
    pub(in crate::shard) fn put_into_mailbox_later(&mut self, envelope: Envelope, index: AgentIndex, delay_ms: u64) {
        let Some(key) = self.agents.key(index) else { return };
        let reservation = Reservation::in_mailbox(key, &envelope);
        match self.held.insert(envelope) {
            Ok(place) => {
                let due_ms = self.clock.now_ms().saturating_add(delay_ms);
                if planted::strikes(Bug::TimerLost, 20, due_ms) {
                    return;
                }
                if self.timers.insert(due_ms, Alarm::Release { place, agent: key }).is_err() {
                    self.deliver_due(place, key);
                }
            }
            Err(envelope) => self.dead_letter(envelope, DeadLetterReason::ShardFull, reservation),
        }
    }

    /// Puts a delayed message into its mailbox, if its receiver is still the same.
    pub(in crate::shard) fn deliver_due(&mut self, place: u32, key: AgentKey) {
        if self.phase == ShardPhase::Stopped {
            // The delayed message was abandoned, and its place may be in use again.
            return;
        }
        let Some(envelope) = self.held.remove(place) else { return };
        if !self.agents.is_still_there(key) {
            let reason = self.reason_of_absence(envelope.message.target());
            return self.dead_letter(envelope, reason, Reservation::Nothing);
        }
        if envelope.deadline_ms <= self.clock.now_ms() {
            let reservation = Reservation::in_mailbox(key, &envelope);
            let phase = if envelope.attempts > 0 { Stage::Retry } else { Stage::Delayed };
            return self.expire(envelope, phase, reservation);
        }
        self.put_into_mailbox(envelope, key.index);
    }

    /// Hands the message to the journal; it enters its mailbox once it is durable.
    #[cold]
    pub(in crate::shard) fn keep(&mut self, mut envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get(index) else { return };
        let (id, key) = (slot.id, slot.key(index));
        let reservation = Reservation::in_mailbox(key, &envelope);
        if !self.journal.writes() || self.is_journal_given_up() {
            return self.dead_letter(envelope, DeadLetterReason::NotJournalled, reservation);
        }
        let waiter = envelope.journal();
        envelope.mark(JournalRef::NOT);
        let (arrival, is_new) = self.journal.note_arrival(&envelope.message, id);
        if !is_new && !planted::is(Bug::DuplicateDispatched) {
            if envelope.is_watched() {
                self.record_stage(&envelope, StageEvent::Duplicate);
            }
            self.ledger.process(1);
            self.journal.count_duplicate();
            self.release(reservation);
            // The first one may not be durable yet, but whatever is durable up to here includes it.
            return self.acknowledge_with_first(waiter);
        }
        let expires = self.clock.wall_at(envelope.deadline_ms);
        if planted::is(Bug::AcknowledgedEarly) {
            self.acknowledge(waiter, Ending::Kept);
        }
        let waiter = if planted::is(Bug::AcknowledgedEarly) { JournalRef::NOT } else { waiter };
        match self.held.insert(envelope) {
            Ok(place) => {
                let Some(envelope) = self.held.get_mut(place) else { return };
                let Some(slot) = self.agents.get(index) else { return };
                let scheduled = envelope.message.details().and_then(|details| details.deliver_at);
                let shown = scheduled.is_some_and(|moment| moment > self.clock.wall());
                let waiting = Undispatched { place, agent: key };
                let sequence = self.journal.append(&envelope.message, (&slot.name, expires, shown), waiting, waiter);
                envelope.mark(JournalRef::in_record(sequence));
            }
            Err(mut envelope) => {
                // If its sender retries, it must not be taken for a duplicate.
                if let Some(arrival) = arrival {
                    self.journal.forget_arrival(arrival);
                }
                envelope.mark(waiter);
                self.dead_letter(envelope, DeadLetterReason::ShardFull, reservation);
            }
        }
    }
}

/// What remains to be done for a message that was to be enqueued.
pub(in crate::shard) enum Enqueued {
    /// Nothing.
    Done,
    /// Its receiver may have to be scheduled.
    Unscheduled,
    /// Its receiver's breaker is open, and the message does not wait for it.
    TurnedAway(Envelope),
    /// The shard holds the maximum number of messages. Carries the receiver.
    Full(Envelope, AgentKey),
}

/// Puts a message for which the mailbox has reserved room into its lane, and the agent into the run queue.
#[inline(always)]
pub(in crate::shard) fn enqueue(
    slot: &mut AgentSlot,
    held: &mut Held,
    scheduler: &mut Scheduler,
    envelope: Envelope,
    index: AgentIndex,
) -> Enqueued {
    let priority = envelope.message.priority();
    let shut = slot.gate == BreakerGate::Open;
    if shut && envelope.message.when_unavailable() == WhenUnavailable::FailFast {
        return Enqueued::TurnedAway(envelope);
    }
    match held.insert(envelope) {
        Ok(place) => {
            slot.mailbox.push(held, place, priority);
            if slot.queued {
                return Enqueued::Done;
            }
            if !shut && slot.outbox.is_empty() && matches!(slot.behaviour, Behaviour::Native(_) | Behaviour::Running) {
                slot.queued = true;
                scheduler.push(index);
                return Enqueued::Done;
            }
            Enqueued::Unscheduled
        }
        Err(envelope) => Enqueued::Full(envelope, slot.key(index)),
    }
}
