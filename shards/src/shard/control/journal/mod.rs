//! Durable messages: written to the journal before they are acknowledged or dispatched, and released from it when they
//! are settled.
//!
//! A durable message is journalled on its receiver's shard. Until then whoever waits for that holds a *commit waiter* on the shard
//! where it was accepted; the receiver's shard acknowledges it after the commit. Two parties wait: the caller of `send`, and
//! a durable message whose handler sent this one. So a chain of durable messages has no hole, whichever instant the machine
//! stops at: a message is settled only after what its handler sent is durable where it went.
//!
//! Invariants: every delivery of a message with a commit waiter is acknowledged once, as kept, as a dead letter or as expired; a
//! message that stands in the journal is released there once, when it is settled, or stays for the next start; a message
//! that comes again under the same id from the same sender for the same receiver inside the window is not dispatched again.

mod patience;
mod upkeep;
mod waiters;

pub use self::patience::FULL_PATIENCE_MS;
use crate::dead_letter::{DeadLetter, DeadLetterId, DeadLetterReason};
pub(crate) use crate::journal::commits::Acknowledgement;
pub use crate::journal::commits::{Attempt, AttemptMark, JournalCondition};
use crate::journal::commits::{PendingCommit, Undispatched};
use crate::journal::record::Lsn;
use crate::mailbox::{Envelope, Reservation};
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, Message};
pub use crate::outcome::Ending;
use crate::planted::{self, Bug};
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour};
use crate::shard::shard_frame::Control;
use crate::shard::{Shard, ShardPhase};
use crate::stats::unfinished::Place;

/// So many committed messages are dispatched in one turn, or this part of all that wait if that is more.
const DISPATCHED_PER_TURN: usize = 2;
const DISPATCHED_PART: usize = 8;
/// The most places of the slab that one turn looks at to rewrite old records.
const COMPACTED_PER_TURN_MAX: u32 = 1_024;
/// While so many bytes of records wait to be taken by the driver, dead letters of volatile messages are not journalled.
const LETTERS_WAIT_BYTES_MAX: usize = 8 << 20;

/// The way of a durable message into the journal.
impl Shard {
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

    /// Whether a durable message for an agent of this shard has come before, and comes again.
    #[cold]
    pub(in crate::shard) fn has_come(&mut self, message: &Message, receiver: AgentId) -> bool {
        self.is_here(self.config.partition.shard_of(receiver)) && self.journal.has_come(message, receiver)
    }

    /// Acknowledges a commit waiter as soon as this record is durable.
    fn acknowledge_when(&mut self, sequence: Lsn, letter: Option<u64>, waiter: JournalRef, ending: Ending) {
        if waiter.waiter().is_none() {
            return;
        }
        if !self.journal.await_commit(sequence, letter, waiter, ending) {
            self.acknowledge(waiter, ending);
        }
    }

    /// Dispatches what is durable now: a few messages per turn, so that others do not wait for all of them, and a part of many, so
    /// that they do not take many turns. Says how many there were.
    #[inline]
    pub(in crate::shard) fn dispatch_committed(&mut self) -> usize {
        if !self.journal.has_committed() {
            return 0;
        }
        self.dispatch_at_most(DISPATCHED_PER_TURN.max(self.journal.waiting() / DISPATCHED_PART))
    }

    /// Dispatches at most so much of what is durable now, and acknowledges it.
    fn dispatch_at_most(&mut self, most: usize) -> usize {
        let mut dispatched = 0;
        while dispatched < most
            && let Some(waiting) = self.journal.next_committed()
        {
            dispatched += 1;
            self.acknowledge(waiting.waiter, waiting.ending);
            let Some(Undispatched { place, agent }) = waiting.message else { continue };
            let Some(envelope) = self.held.remove(place) else { continue };
            if !self.agents.is_still_there(agent) {
                let reason = self.agents.reason_of_absence(envelope.message.target());
                self.dead_letter(envelope, reason, Reservation::Nothing);
                continue;
            }
            self.say_delivered(&envelope.message, Reservation::Nothing);
            self.put_into_mailbox_in_time(envelope, agent.index);
        }
        if dispatched > 0 && self.phase == ShardPhase::Draining {
            self.leave_mail_of_absent();
        }
        dispatched
    }

    /// The journal says whether it takes records.
    pub(in crate::shard) fn on_journal_condition(&mut self, condition: JournalCondition) {
        if !self.journal.set_condition(condition, self.clock.now_ms()) {
            return;
        }
        self.report_journal();
        self.watch_commits();
        if condition == JournalCondition::Failed {
            // What is committed is dispatched all the same. What is not will not be: those messages are given up, and whoever waits
            // hears of it.
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

/// What comes of a durable message.
impl Shard {
    /// A handler is given a message that stands in the journal, or goes on with it.
    #[cold]
    pub(in crate::shard) fn begin_durable(&mut self, envelope: &Envelope) {
        let sent = self.effects.iter().filter(|effect| effect.is_durable()).count();
        self.journal.begin_handling(envelope, u32::try_from(sent).unwrap_or(u32::MAX));
    }

    /// Has a mark set while a handler has a durable message, which whoever starts next can read however the process ended: what
    /// is found there is for [`Recovery::note_attempts`](crate::shard::control::restore::Recovery::note_attempts).
    pub fn set_attempt_mark(&mut self, mark: Box<dyn AttemptMark>) {
        self.journal.set_attempt_mark(mark);
    }

    /// Has the message that is being handled wait until this one, which its handler sent, is durable.
    #[cold]
    pub(in crate::shard) fn hold_for(&mut self, envelope: &mut Envelope) {
        if planted::is(Bug::SettledEarly) {
            return;
        }
        if let Some(mark) = self.journal.hold_handled(self.index, envelope.deliveries_left()) {
            envelope.mark(mark);
        }
    }

    /// A message that stands in the journal was handled.
    #[cold]
    pub(in crate::shard) fn settle_durable(&mut self, journal: JournalRef) {
        let Some(sequence) = self.journal.record_of(journal) else { return };
        let waiter = self.journal.waiter_of_handled(sequence);
        self.journal.end_handling();
        match waiter {
            Some(waiter) => self.acknowledge(waiter, Ending::Kept),
            None => self.journal.release(sequence),
        }
    }

    /// A message ended without being handled, and no dead letter is kept of it.
    #[cold]
    pub(in crate::shard) fn end_without_letter(&mut self, journal: JournalRef, ending: Ending) {
        match self.journal.record_of(journal) {
            Some(sequence) => self.journal.release(sequence),
            None => self.acknowledge(journal, ending),
        }
    }

    /// A message became a dead letter: that stands in the journal from now on instead of the message.
    #[cold]
    pub(in crate::shard) fn keep_letter(&mut self, id: DeadLetterId, journal: JournalRef, ending: Ending) {
        let Some(letter) = self.dead_letters.get(id) else { return self.end_without_letter(journal, ending) };
        if !self.journal.writes() || self.is_journal_given_up() && !self.needs_letter_here(journal) {
            let letter = Box::new(letter.clone());
            return self.have_letter_kept(letter, journal, ending);
        }
        if journal.is_not() && self.journal.records().bytes().len() > LETTERS_WAIT_BYTES_MAX {
            return;
        }
        let record = self.journal.record_of(journal);
        if planted::is(Bug::DeadLetterNotKept) {
            return self.end_without_letter(journal, ending);
        }
        let sequence = self.journal.keep_letter(letter, record);
        self.acknowledge_when(sequence, Some(id.number), journal, ending);
        if planted::is(Bug::ReplayedLettersForgotten) {
            let all = self.journal.letters();
            let is_replayed = |number: &u64| self.dead_letters.get(DeadLetterId { number: *number, ..id }).is_none();
            let replayed: Vec<u64> = all.into_iter().filter(is_replayed).collect();
            self.forget_dropped_letters(&replayed);
        }
    }

    /// Writes down that these letters were dropped to make room for newer ones. Only the store knows which they are: a letter
    /// that is being replayed is not in it, and stays in the journal until its message is durable anew.
    #[cold]
    pub(in crate::shard) fn forget_dropped_letters(&mut self, dropped: &[u64]) {
        for number in dropped {
            self.journal.forget_letter(DeadLetterId { shard: self.index, number: *number });
        }
    }

    /// Nothing can be written here, so whoever waits writes the letter down, before what it came of is settled.
    fn have_letter_kept(&mut self, letter: Box<DeadLetter>, journal: JournalRef, ending: Ending) {
        match journal.waiter().filter(|waiter| !self.is_here(waiter.shard())) {
            Some(waiter) => {
                self.links.post(waiter.shard(), Control::KeepLetter(letter, waiter));
            }
            None => self.end_without_letter(journal, ending),
        }
    }

    /// A record that is no message's will not be committed.
    fn end_uncommitted(&mut self, waiting: PendingCommit) {
        let id = waiting.letter.map(|number| DeadLetterId { shard: self.index, number });
        match id.and_then(|id| self.dead_letters.find(id)).cloned() {
            Some(letter) => self.have_letter_kept(Box::new(letter), waiting.waiter, waiting.ending),
            None => self.acknowledge(waiting.waiter, Ending::DeadLettered(DeadLetterReason::NotJournalled)),
        }
    }

    /// Another shard, whose journal has failed, gave up a message for which somebody waits here.
    #[cold]
    pub(in crate::shard) fn keep_letter_of_other(&mut self, letter: &DeadLetter, waiter: JournalRef) {
        let ending = match letter.reason {
            DeadLetterReason::Expired => Ending::Expired,
            reason => Ending::DeadLettered(reason),
        };
        if self.journal.writes() {
            let sequence = self.journal.records_mut().dead_letter(letter, None);
            self.acknowledge_when(sequence, None, waiter, ending);
        } else {
            self.acknowledge(waiter, ending);
        }
    }

    /// Gives the messages to the next start that stand in the journal: they are neither handled nor given up here.
    #[cold]
    pub(in crate::shard) fn leave_to_next_start(&mut self, reservation: Reservation) {
        self.ledger.keep();
        self.release(reservation);
    }

    /// Nobody will register the agents any more that were there in an earlier run: their durable mail is left to the next start,
    /// so that draining does not wait for it.
    #[cold]
    pub(in crate::shard) fn leave_mail_of_absent(&mut self) {
        let absent = self.agents.iter().filter(|(_, slot)| slot.flags.is(AgentFlags::ABSENT));
        for index in absent.map(|(index, _)| index).collect::<Vec<_>>() {
            let Some(slot) = self.agents.get_mut(index) else { continue };
            let key = slot.key(index);
            let journalled = |envelope: &Envelope| envelope.journal().is_in_record();
            for place in slot.mailbox.extract(&mut self.held, journalled) {
                let Some(envelope) = self.held.remove(place) else { continue };
                self.ledger.count_unfinished(Place::Mailbox, 1);
                self.leave_to_next_start(Reservation::in_mailbox(key, &envelope));
            }
        }
    }

    /// An inbox took durable messages.
    #[cold]
    pub(in crate::shard) fn settle_taken(&mut self, index: AgentIndex) {
        loop {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            let taken = outside.taken;
            if outside.by_number || outside.journalled.front().is_none_or(|(number, _)| *number > taken) {
                return;
            }
            let Some((_, sequence)) = outside.journalled.pop_front() else { return };
            self.journal.release(sequence);
        }
    }
}
