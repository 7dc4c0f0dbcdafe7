//! Who waits until messages are durable, and is told.

use super::{Acknowledgement, CommitWaiter, OnCommit};
use crate::dead_letter::DeadLetterId;
use crate::mailbox::Envelope;
use crate::message::journal_ref::JournalRef;
use crate::outcome::Ending;
use crate::planted::{self, Bug};
use crate::shard::Shard;
use crate::shard::io::{Answer, Token};
use crate::shard::shard_frame::Control;

impl Shard {
    /// Has the caller of `send` answered when the message is durable.
    #[cold]
    pub(in crate::shard) fn promise_answer(&mut self, envelope: &mut Envelope, token: Token) -> bool {
        let Some(id) = envelope.message.id() else { return false };
        let waiter = self.journal.open(self.index, envelope.deliveries_left(), OnCommit::Answer(token, id));
        envelope.mark(waiter.unwrap_or(JournalRef::NOT));
        waiter.is_some()
    }

    /// Has a dead letter that is replayed stay until its message has come to its receiver, for this request. Returns false if
    /// too many wait already.
    pub(in crate::shard) fn promise_replay(
        &mut self,
        envelope: &mut Envelope,
        letter: DeadLetterId,
        request: u64,
    ) -> bool {
        let deliveries = envelope.deliveries_left();
        let in_parts = deliveries > 1;
        let Some(waiter) = self.journal.open(self.index, deliveries, OnCommit::EndReplay { letter, request, in_parts })
        else {
            return false;
        };
        envelope.mark(if in_parts { waiter } else { waiter.of_replay() });
        true
    }

    /// The message of a dead letter goes to several agents.
    #[cold]
    pub(in crate::shard) fn spread_replay(&mut self, envelope: &mut Envelope) {
        let journal = envelope.journal();
        if !journal.is_replay() {
            return;
        }
        envelope.mark(journal.in_part());
        if let Some(CommitWaiter { then: OnCommit::EndReplay { in_parts, .. }, .. }) = self.journal.find(journal) {
            *in_parts = true;
        }
    }

    /// Counts further deliveries of a message that somebody waits for.
    pub(in crate::shard) fn await_more(&mut self, waiter: JournalRef, more: u64) {
        if let Some(waiter) = waiter.waiter().and_then(|waiter| self.journal.find(waiter)) {
            waiter.left += more;
        }
    }

    /// Tells whoever holds the commit waiter what became of one delivery.
    pub(in crate::shard) fn acknowledge(&mut self, waiter: JournalRef, ending: Ending) {
        let Some(waiter) = waiter.waiter() else { return };
        let shard = waiter.shard();
        if self.is_here(shard) {
            self.on_acknowledgement(waiter, ending);
        } else if let Some(acknowledgements) = self.journal.acknowledgements.get_mut(shard.as_usize()) {
            acknowledgements.push((waiter, ending));
        }
    }

    pub(in crate::shard) fn on_acknowledgements(&mut self, acknowledgements: Vec<Acknowledgement>) {
        for (waiter, ending) in acknowledgements {
            self.on_acknowledgement(waiter, ending);
        }
    }

    fn on_acknowledgement(&mut self, waiter: JournalRef, ending: Ending) {
        let Some(found) = self.journal.find(waiter) else { return };
        found.left = found.left.saturating_sub(if planted::is(Bug::AcknowledgedTwice) { 2 } else { 1 });
        if found.ending == Ending::Kept {
            found.ending = ending;
        }
        if found.left > 0 {
            return;
        }
        let Some(CommitWaiter { ending, then, .. }) = self.journal.waiters.remove(waiter.place()) else { return };
        match (then, ending) {
            (OnCommit::Answer(token, id), Ending::Kept) => self.outputs.answer(token, Answer::Sent(Ok(id))),
            (OnCommit::Answer(token, id), ending) => self.outputs.answer(token, Answer::NotKept(id, ending)),
            (OnCommit::Settle(sequence), _) => self.release_record(sequence),
            (OnCommit::EndReplay { letter, request, in_parts }, ending) => {
                self.end_replay(letter, request, if in_parts { Ending::Kept } else { ending });
            }
        }
    }

    /// Hands the acknowledgements of this turn to what is told to other shards: one notice for each shard.
    pub(in crate::shard) fn post_acknowledgements(&mut self) {
        for shard in self.links.all() {
            if !self.journal.acknowledgements[shard.as_usize()].is_empty() {
                let acknowledgements = std::mem::take(&mut self.journal.acknowledgements[shard.as_usize()]);
                self.links.post(shard, Control::Committed(acknowledgements));
            }
        }
    }
}
