//! How a message ends: processed, expired, or as a dead letter; and what it held is free again.
//!
//! Invariants: every message is counted out once, with what became of it; what it held of a mailbox or of credit is released
//! once, by the message itself or by the notice about it.

use crate::dead_letter::{DeadLetter, DeadLetterReason, LAST_ERROR_BYTES_MAX};
use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::journal_ref::JournalRef;
use crate::message::notice::beginning;
use crate::message::{Message, Reliability};
use crate::outcome::Ending as Settlement;
use crate::planted::{self, Bug};
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::io::{Event, Stage};

impl Shard {
    /// Gives a message up: it becomes a dead letter and its sender hears of it.
    #[cold]
    pub(in crate::shard) fn dead_letter(
        &mut self,
        envelope: Envelope,
        reason: DeadLetterReason,
        reservation: Reservation,
    ) {
        self.dead_letter_with(envelope, reason, "", reservation);
    }

    /// As [`Shard::dead_letter`], with what a handler said to it.
    #[cold]
    pub(in crate::shard) fn dead_letter_with(
        &mut self,
        envelope: Envelope,
        reason: DeadLetterReason,
        detail: &str,
        reservation: Reservation,
    ) {
        let (attempts, journal) = (envelope.attempts, envelope.journal());
        let Some(message) = self.count_out(envelope, reason, detail, reservation) else { return };
        if journal.is_replay() {
            // The dead letter that it was made of stays as it was.
            return self.acknowledge(journal, Settlement::DeadLettered(reason));
        }
        self.keep_dead_letter(message, reason, attempts, detail, journal, Settlement::DeadLettered(reason));
    }

    /// Keeps a message that ended without being handled, whatever it was counted as.
    #[cold]
    pub(in crate::shard) fn keep_dead_letter(
        &mut self,
        message: Message,
        reason: DeadLetterReason,
        attempts: u8,
        detail: &str,
        journal: JournalRef,
        ending: Settlement,
    ) {
        let id = self.dead_letters.next_id();
        let dropped = self.dead_letters.push(DeadLetter {
            id,
            reason,
            attempts,
            last_error: (!detail.is_empty()).then(|| beginning(detail, LAST_ERROR_BYTES_MAX).into()),
            first: self.first_accepted(&message),
            last: self.clock.wall(),
            shard: self.index,
            replays: message.replay().map_or(0, |replay| replay.times),
            message,
        });
        if !journal.is_not() || self.journal.writes() {
            self.forget_dropped_letters(&dropped);
            self.keep_letter(id, journal, ending);
        }
    }

    /// As [`Shard::dead_letter_with`], but keeps no dead letter. Answers the message, unless it was a notice.
    #[cold]
    pub(in crate::shard) fn count_out(
        &mut self,
        envelope: Envelope,
        reason: DeadLetterReason,
        detail: &str,
        reservation: Reservation,
    ) -> Option<Message> {
        if envelope.kind == EnvelopeKind::Notice {
            self.held.count_outside(1);
            self.ledger.coalesce_notice();
            self.release(reservation);
            return None;
        }
        if reason == DeadLetterReason::Stopped && envelope.journal().is_in_record() {
            self.leave_to_next_start(reservation);
            return None;
        }
        self.ledger.dead_letter(reason);
        let message = envelope.message;
        let shard = self.index;
        if let Some(id) = message.id() {
            let (sender, receiver) = (message.sender(), message.target());
            self.outputs.report(|| Event::DeadLettered { message: id, sender, receiver, reason, shard });
        }
        let explanation = if detail.is_empty() {
            reason.explanation().to_owned()
        } else {
            format!("{}: {detail}", reason.explanation())
        };
        if reason == DeadLetterReason::ProtocolViolation {
            self.send_not_understood(&message, reservation);
        } else {
            self.conversations.forgive_repetition(&message);
            self.send_failure(&message, reason.as_str(), &explanation, reservation);
        }
        Some(message)
    }

    /// Ends a message whose lifetime is over; its sender hears of it. A durable one is kept as a dead letter, although it counts as
    /// expired: whoever sent it was told that it is not lost.
    #[cold]
    pub(in crate::shard) fn expire(&mut self, envelope: Envelope, phase: Stage, reservation: Reservation) {
        self.ledger.expire(phase);
        let (attempts, journal) = (envelope.attempts, envelope.journal());
        let message = envelope.message;
        if let Some(id) = message.id() {
            let (sender, receiver) = (message.sender(), message.target());
            self.outputs.report(|| Event::Expired { message: id, sender, receiver, phase });
        }
        self.conversations.forgive_repetition(&message);
        let explanation = format!("the message's lifetime ended {}", phase.explanation());
        self.send_failure(&message, DeadLetterReason::Expired.as_str(), &explanation, reservation);
        if journal.is_replay() {
            self.acknowledge(journal, Settlement::Expired);
        } else if message.reliability() == Reliability::Durable {
            self.keep_dead_letter(
                message,
                DeadLetterReason::Expired,
                attempts,
                &explanation,
                journal,
                Settlement::Expired,
            );
        } else if !journal.is_not() {
            self.end_without_letter(journal, Settlement::Expired);
        }
    }

    #[inline(always)]
    pub(in crate::shard) fn release(&mut self, reservation: Reservation) {
        match reservation {
            Reservation::Nothing => {}
            Reservation::Credit(_) if planted::is(Bug::RefusedCreditLost) => {}
            Reservation::Credit(from) => self.links.owe(from),
            Reservation::Mailbox { agent, weight } => {
                if let Some(slot) = self.agents.resolve_mut(agent) {
                    slot.mailbox.release(weight);
                    self.held.discharge(weight);
                    if slot.flags.is(AgentFlags::ROOM_MATTERS) {
                        self.holds_less(agent.index);
                    }
                }
            }
        }
    }

    /// Takes note that the mailbox of a provider or of a closed receiver holds less.
    #[inline(never)]
    pub(in crate::shard) fn holds_less(&mut self, agent: AgentIndex) {
        let Some(slot) = self.agents.get_mut(agent) else { return };
        if slot.begins_load_change() {
            self.capabilities.change_load(agent);
        }
        if slot.flags.is(AgentFlags::CLOSED) {
            self.note_room(agent);
        }
    }
}
