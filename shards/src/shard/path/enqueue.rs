//! A message goes into the mailbox that holds it: now, when it is durable, or at its moment of delivery.

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

impl Shard {
    /// Puts a message that its mailbox holds into its lane, and the agent into the run queue.
    pub(in crate::shard) fn put_into_mailbox(&mut self, envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let enqueued = enqueue(slot, &mut self.held, &mut self.scheduler, envelope, index);
        self.finish_enqueue(enqueued, index);
    }

    /// Does what few messages need when they are put into their mailboxes.
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

    /// What few messages need on delivery: a question that they answer, notes, receipts, a journal, a delay.
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
        if self.agents.get(index).is_some_and(|slot| slot.first_reply != NONE) {
            self.match_reply(&mut envelope.message, index);
        }
        if envelope.text_borne || envelope.message.details().is_some_and(|details| !details.reply_to.is_empty()) {
            self.note_conversation(&envelope.message);
        }
        if envelope.message.reliability() == Reliability::Durable {
            self.release(reservation);
            return self.keep(envelope, index);
        }
        if !envelope.journal().is_not() {
            // A dead letter that is replayed has come to its receiver.
            self.acknowledge(envelope.journal(), Ending::Kept);
            envelope.mark(JournalRef::NOT);
        }
        self.say_delivered(&envelope.message, reservation);
        self.put_into_mailbox_in_time(envelope, index);
    }

    /// Tells the sender that its message has reached the mailbox, if it wanted to hear that.
    pub(in crate::shard) fn say_delivered(&mut self, message: &Message, reservation: Reservation) {
        match message.receipt() {
            Receipt::Delivered => self.send_receipt(message, Receipt::Delivered, reservation),
            Receipt::None | Receipt::Processed => self.release(reservation),
        }
    }

    /// Puts a message into its mailbox now, or when its moment of delivery has come.
    pub(in crate::shard) fn put_into_mailbox_in_time(&mut self, envelope: Envelope, index: AgentIndex) {
        match self.delay_of(&envelope.message) {
            0 => self.put_into_mailbox(envelope, index),
            // The wall clock may have jumped back since the message was admitted: it does not wait beyond its lifetime.
            delay_ms => {
                let delay_ms = delay_ms.min(envelope.deadline_ms.saturating_sub(self.clock.now_ms()));
                self.put_into_mailbox_later(envelope, index, delay_ms);
            }
        }
    }

    /// Arms a timer that puts a held message into its mailbox. Without a timer to be had it goes there now.
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
            // The delayed message was given up, and something else may have its place.
            return;
        }
        let Some(envelope) = self.held.remove(place) else { return };
        if !self.agents.is_still_there(key) {
            let reason = self.agents.reason_of_absence(envelope.message.target());
            return self.dead_letter(envelope, reason, Reservation::Nothing);
        }
        if envelope.deadline_ms <= self.clock.now_ms() {
            let reservation = Reservation::in_mailbox(key, &envelope);
            let phase = if envelope.attempts > 0 { Stage::Retry } else { Stage::Delayed };
            return self.expire(envelope, phase, reservation);
        }
        self.put_into_mailbox(envelope, key.index);
    }

    /// Hands the message to the journal; it goes into its mailbox once it is durable.
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
            self.ledger.process(1);
            self.journal.count_duplicate();
            self.release(reservation);
            // The first one may not be durable yet, but what is durable up to here includes it.
            return self.acknowledge_when(self.journal.records().last(), None, waiter, Ending::Kept);
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
                // Should its sender try again, it is not to be taken for one that has come.
                if let Some(arrival) = arrival {
                    self.journal.forget_arrival(arrival);
                }
                envelope.mark(waiter);
                self.dead_letter(envelope, DeadLetterReason::ShardFull, reservation);
            }
        }
    }
}

/// What is left to do for a message that was to go into its mailbox.
pub(in crate::shard) enum Enqueued {
    /// Nothing.
    Done,
    /// Its receiver may have to be scheduled.
    Unscheduled,
    /// Its receiver's breaker is open, and the message does not wait for it.
    TurnedAway(Envelope),
    /// The shard holds as many messages as it can. This is the receiver.
    Full(Envelope, AgentKey),
}

/// Puts a message that its mailbox holds into its lane, and the agent into the run queue.
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
