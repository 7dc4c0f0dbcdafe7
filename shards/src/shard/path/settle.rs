//! The end of a message: processed, expired or dead-lettered; and the release of what it held.
//!
//! Invariants: every message is counted once with its outcome. Its share of a mailbox or of credit is released once, by
//! the message itself or by the notice about it.

use crate::dead_letter::{DeadLetter, DeadLetterReason, LAST_ERROR_BYTES_MAX};
use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::journal_ref::JournalRef;
use crate::message::notice::beginning;
use crate::message::{AgentId, Correlation, Message, Reliability, WallTime};
use crate::outcome::Ending as Settlement;
use crate::outcome::Stage;
use crate::planted;
use crate::planted::Bug;
use crate::replies::asks::PendingAsk;
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::control::lifecycle::AgentState;
use crate::shard::io::{Answer, AskError, Event, SendError, SendErrorKind, Token};
use crate::shard::path::route::Blocked;
use crate::trace::StageEvent;

impl Shard {
    /// Turns a message into a dead letter and notifies its sender.
    #[cold]
    pub(in crate::shard) fn dead_letter(
        &mut self,
        envelope: Envelope,
        reason: DeadLetterReason,
        reservation: Reservation,
    ) {
        self.dead_letter_with(envelope, reason, "", reservation);
    }

    /// Like [`Shard::dead_letter`], with a handler's explanation.
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
            // The dead letter from which it was replayed is unchanged.
            return self.acknowledge(journal, Settlement::DeadLettered(reason));
        }
        self.keep_dead_letter(message, reason, attempts, detail, journal, Settlement::DeadLettered(reason));
    }

    /// Keeps a message that ended without being handled, however it was counted.
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

    /// Like [`Shard::dead_letter_with`], but keeps no dead letter. Replies to the message unless it was a notice.
    #[cold]
    pub(in crate::shard) fn count_out(
        &mut self,
        mut envelope: Envelope,
        reason: DeadLetterReason,
        detail: &str,
        reservation: Reservation,
    ) -> Option<Message> {
        if envelope.kind() == EnvelopeKind::Notice {
            self.held.count_outside(1);
            self.ledger.coalesce_notice();
            self.release(reservation);
            return None;
        }
        if reason == DeadLetterReason::Stopped && envelope.journal().is_in_record() {
            if envelope.is_watched() {
                self.record_stage(&envelope, StageEvent::Left);
            }
            self.leave_to_next_start(reservation);
            return None;
        }
        self.ledger.dead_letter(reason);
        self.keep_watching(&mut envelope);
        if envelope.is_watched() {
            self.record_stage(&envelope, StageEvent::DeadLettered(reason));
        }
        let message = envelope.message;
        let shard = self.index;
        if let Some(id) = message.id() {
            let (sender, receiver, conversation) = (message.sender(), message.target(), message.conversation());
            let trace = message.trace();
            self.outputs.report(|| Event::DeadLettered {
                message: id,
                sender,
                receiver,
                conversation,
                trace,
                reason,
                shard,
            });
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

    /// Ends a message whose lifetime is over and notifies its sender. A durable one is kept as a dead letter although
    /// it counts as expired, because its sender was promised that it is not lost.
    #[cold]
    pub(in crate::shard) fn expire(&mut self, mut envelope: Envelope, stage: Stage, reservation: Reservation) {
        self.ledger.expire(stage);
        self.keep_watching(&mut envelope);
        if envelope.is_watched() {
            self.record_stage(&envelope, StageEvent::Expired(stage));
        }
        let (attempts, journal) = (envelope.attempts, envelope.journal());
        let message = envelope.message;
        if let Some(id) = message.id() {
            let (sender, receiver, conversation) = (message.sender(), message.target(), message.conversation());
            let trace = message.trace();
            self.outputs.report(|| Event::Expired { message: id, sender, receiver, conversation, trace, stage });
        }
        self.conversations.forgive_repetition(&message);
        let explanation = format!("the message's lifetime ended {}", stage.explanation());
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

    /// Notes that the mailbox of a provider or of a closed receiver holds less.
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

    #[cold]
    pub(in crate::shard) fn reject(&mut self, error: SendErrorKind, message: Message) -> SendError {
        self.ledger.refuse(1);
        match error {
            SendErrorKind::MemoryFull { .. } => self.ledger.refuse_for_memory(),
            SendErrorKind::ReceiverFull { .. } => self.ledger.refuse_for_receiver(),
            _ => {}
        }
        SendError::new(error, message)
    }

    /// Completes a call from outside. Returns whether a caller was waiting.
    pub(in crate::shard) fn end_ask(&mut self, correlation: Correlation, reply: Result<Message, AskError>) -> bool {
        let Some(token) = self.forget_ask(correlation) else { return false };
        self.outputs.answer(token, Answer::Replied(reply));
        true
    }

    pub(in crate::shard) fn forget_ask(&mut self, correlation: Correlation) -> Option<Token> {
        let PendingAsk { token, timer, .. } = self.replies.asks.remove(correlation)?;
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        Some(token)
    }

    pub(in crate::shard) fn give_up_asking(&mut self, correlation: Correlation) {
        self.end_ask(correlation, Err(AskError::TimedOut));
    }

    /// Gives up a message in an agent's mailbox that asked not to wait.
    #[cold]
    pub(in crate::shard) fn fail_fast(&mut self, envelope: Envelope, index: AgentIndex) {
        let reservation = self.agents.reservation(index, &envelope);
        self.dead_letter(envelope, DeadLetterReason::BreakerOpen, reservation);
    }

    /// Leaves journalled messages to the next start: they are neither handled nor abandoned here.
    #[cold]
    pub(in crate::shard) fn leave_to_next_start(&mut self, reservation: Reservation) {
        self.ledger.keep();
        self.release(reservation);
    }

    /// Leaves the durable mail of agents that were not registered again to the next start, so that draining does not
    /// wait for it.
    #[cold]
    pub(in crate::shard) fn leave_mail_of_absent(&mut self) {
        let absent = self.agents.iter().filter(|(_, slot)| slot.flags.is(AgentFlags::ABSENT));
        for index in absent.map(|(index, _)| index).collect::<Vec<_>>() {
            let Some(slot) = self.agents.get_mut(index) else { continue };
            let key = slot.key(index);
            let journalled = |envelope: &Envelope| envelope.journal().is_in_record();
            for place in slot.mailbox.extract(&mut self.held, journalled) {
                let Some(envelope) = self.held.remove(place) else { continue };
                self.ledger.count_unfinished(Stage::Mailbox, 1);
                if envelope.is_watched() {
                    self.record_stage(&envelope, StageEvent::Left);
                }
                self.leave_to_next_start(Reservation::in_mailbox(key, &envelope));
            }
        }
    }

    /// Gives up a message for an agent that does not exist here, or has the agent looked for.
    #[cold]
    pub(in crate::shard) fn refuse_for_absent(&mut self, envelope: Envelope, target: AgentId) {
        if self.config.looks_for_absent {
            self.want(envelope, target);
        } else {
            self.dead_letter_all(envelope, self.reason_of_unknown(target));
        }
    }

    /// Gives up a message that an agent does not accept.
    #[cold]
    pub(in crate::shard) fn refuse_for(&mut self, envelope: Envelope, index: AgentIndex) {
        let reservation = Reservation::of(&envelope);
        let (reason, detail) = match self.agents.state_of(index) {
            AgentState::Draining => (DeadLetterReason::Draining, ""),
            AgentState::Suspended => (DeadLetterReason::MailboxFull, "the receiver is suspended"),
            AgentState::Initiated => {
                (DeadLetterReason::MailboxFull, "the receiver is initiated and waits to be started")
            }
            AgentState::Active | AgentState::Stopped => (DeadLetterReason::MailboxFull, ""),
        };
        self.dead_letter_with(envelope, reason, detail, reservation);
    }

    /// Abandons a message from another shard for which there is no memory.
    #[cold]
    pub(in crate::shard) fn refuse_arrival(&mut self, envelope: Envelope) {
        let reservation = Reservation::of(&envelope);
        self.dead_letter(envelope, DeadLetterReason::MemoryFull, reservation);
    }

    /// Returns when the message was first accepted, for its dead letter. This is computed from the end of its lifetime
    /// and not stored.
    pub(in crate::shard) fn first_accepted(&self, message: &Message) -> WallTime {
        if let Some(replay) = message.replay() {
            return replay.first;
        }
        match self.lifetime_began(message) {
            Some(began_ms) => self.clock.wall_was(began_ms),
            None => self.clock.wall(),
        }
    }

    #[cold]
    #[allow(clippy::unnecessary_wraps)] // The steps of routing return its result as their own.
    pub(in crate::shard) fn refuse(&mut self, envelope: Envelope, reason: DeadLetterReason) -> Result<(), Blocked> {
        self.dead_letter_all(envelope, reason);
        Ok(())
    }

    /// Abandons a message in transit, with all its deliveries that were not handed out.
    #[cold]
    pub(in crate::shard) fn dead_letter_all(&mut self, envelope: Envelope, reason: DeadLetterReason) {
        for envelope in envelope.into_deliveries() {
            let reservation = Reservation::of(&envelope);
            self.dead_letter(envelope, reason, reservation);
        }
    }

    #[cold]
    pub(in crate::shard) fn expire_all(&mut self, envelope: Envelope, stage: Stage) {
        for envelope in envelope.into_deliveries() {
            let reservation = Reservation::of(&envelope);
            self.expire(envelope, stage, reservation);
        }
    }

    /// Abandons a message with `reply-by` for which there was room when its handler sent it, but is none now.
    #[cold]
    pub(in crate::shard) fn refuse_ask(&mut self, envelope: Envelope) {
        for envelope in envelope.into_deliveries() {
            let detail = "too many messages with reply-by are waiting for their replies";
            self.dead_letter_with(envelope, DeadLetterReason::NotAdmitted, detail, Reservation::Nothing);
        }
    }
}
