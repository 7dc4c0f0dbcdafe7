//! Durable messages: written to the journal before they are acknowledged or dispatched, and released when they are
//! settled.
//!
//! A durable message is journalled on its receiver's shard. The shard where it was accepted holds a *commit waiter* for
//! it, which the receiver's shard acknowledges after the commit. Two parties wait: the caller of `send`, and a durable
//! message whose handler sent this one. A message is therefore settled only after what its handler sent is durable at
//! its destination, so a chain of durable messages has no gap whenever the machine stops.
//!
//! Invariants: every delivery of a message with a commit waiter is acknowledged once, as kept, as a dead letter or as
//! expired. A journalled message is released once, when it is settled, or stays for the next start. A message with the
//! same id, sender and receiver as one within the window is not dispatched again.

use crate::dead_letter::{DeadLetter, DeadLetterId, DeadLetterReason};
use crate::journal::commits::PendingCommit;
use crate::journal::record::Lsn;
use crate::mailbox::Envelope;
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, Message};
use crate::planted;
use crate::planted::Bug;
use crate::shard::Shard;
use crate::shard::shard_frame::Control;

mod patience;
mod upkeep;
mod waiters;

pub use self::patience::FULL_PATIENCE_MS;
pub(crate) use crate::journal::commits::Acknowledgement;
pub use crate::journal::commits::{Attempt, AttemptMark, JournalCondition};
pub use crate::outcome::Ending;

/// Maximum number of slab places that one turn examines to rewrite old records.
const COMPACTED_PER_TURN_MAX: u32 = 1_024;
/// Bytes of records waiting for the driver at which dead letters of volatile messages are no longer journalled.
const LETTERS_WAIT_BYTES_MAX: usize = 8 << 20;

/// The path of a durable message into the journal.
impl Shard {
    /// Whether a durable message for an agent of this shard is a duplicate.
    #[cold]
    pub(in crate::shard) fn has_come(&mut self, message: &Message, receiver: AgentId) -> bool {
        self.is_here(self.config.partition.shard_of(receiver)) && self.journal.has_come(message, receiver)
    }

    /// Acknowledges a commit waiter as soon as this record is durable.
    pub(in crate::shard) fn acknowledge_when(
        &mut self,
        sequence: Lsn,
        letter: Option<u64>,
        waiter: JournalRef,
        ending: Ending,
    ) {
        if waiter.waiter().is_none() {
            return;
        }
        if !self.journal.await_commit(sequence, letter, waiter, ending) {
            self.acknowledge(waiter, ending);
        }
    }

    /// Acknowledges the sender of a repeated message as soon as the first one is durable.
    pub(in crate::shard) fn acknowledge_with_first(&mut self, waiter: JournalRef) {
        if waiter.waiter().is_some() && !self.journal.await_first(waiter) {
            self.acknowledge(waiter, Ending::Kept);
        }
    }
}

/// The outcome of a durable message.
impl Shard {
    /// Begins or resumes the handling of a journalled message.
    #[cold]
    pub(in crate::shard) fn begin_durable(&mut self, envelope: &Envelope) {
        let sent = self.effects.iter().filter(|effect| effect.is_durable()).count();
        self.journal.begin_handling(envelope, u32::try_from(sent).unwrap_or(u32::MAX));
    }

    /// Installs the mark that is set while a handler has a durable message. The next start can read it however the
    /// process ended; what it finds there is for
    /// [`Recovery::note_attempts`](crate::shard::control::restore::Recovery::note_attempts).
    pub fn set_attempt_mark(&mut self, mark: Box<dyn AttemptMark>) {
        self.journal.set_attempt_mark(mark);
    }

    /// Lets the message that is being handled wait until this one, which its handler sent, is durable.
    #[cold]
    pub(in crate::shard) fn hold_for(&mut self, envelope: &mut Envelope) {
        if planted::is(Bug::SettledEarly) {
            return;
        }
        if let Some(mark) = self.journal.hold_handled(self.index, envelope.deliveries_left()) {
            envelope.mark(mark);
        }
    }

    /// Settles a journalled message that was handled.
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

    /// Ends a message that was not handled and leaves no dead letter.
    #[cold]
    pub(in crate::shard) fn end_without_letter(&mut self, journal: JournalRef, ending: Ending) {
        match self.journal.record_of(journal) {
            Some(sequence) => self.journal.release(sequence),
            None => self.acknowledge(journal, ending),
        }
    }

    /// Replaces a message in the journal by its dead letter.
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

    /// Records that these letters were dropped to make room for newer ones. Only the store knows which they are: a
    /// letter under replay is not in it, and stays in the journal until its message is durable again.
    #[cold]
    pub(in crate::shard) fn forget_dropped_letters(&mut self, dropped: &[u64]) {
        for number in dropped {
            self.journal.forget_letter(DeadLetterId { shard: self.index, number: *number });
        }
    }

    /// Nothing can be written here, so the waiter's shard writes the letter before it settles what the message caused.
    fn have_letter_kept(&mut self, letter: Box<DeadLetter>, journal: JournalRef, ending: Ending) {
        match journal.waiter().filter(|waiter| !self.is_here(waiter.shard())) {
            Some(waiter) => {
                self.links.post(waiter.shard(), Control::KeepLetter(letter, waiter));
            }
            None => self.end_without_letter(journal, ending),
        }
    }

    /// Ends a record that will not be committed and is not a message's.
    pub(in crate::shard) fn end_uncommitted(&mut self, waiting: PendingCommit) {
        let id = waiting.letter.map(|number| DeadLetterId { shard: self.index, number });
        match id.and_then(|id| self.dead_letters.find(id)).cloned() {
            Some(letter) => self.have_letter_kept(Box::new(letter), waiting.waiter, waiting.ending),
            None => self.acknowledge(waiting.waiter, Ending::DeadLettered(DeadLetterReason::NotJournalled)),
        }
    }

    /// Keeps the letter of a message abandoned by another shard, whose journal failed, if a waiter is here.
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
}
