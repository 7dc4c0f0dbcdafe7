//! Waiters for durability and how they are notified.

use super::Acknowledgement;
use crate::dead_letter::DeadLetterId;
use crate::journal::commits::OnCommit;
use crate::mailbox::Envelope;
use crate::message::journal_ref::JournalRef;
use crate::outcome::Ending;
use crate::shard::Shard;
use crate::shard::io::{Answer, Token};
use crate::shard::shard_frame::Control;

impl Shard {
    /// Arranges the reply to the caller of `send` once the message is durable. Returns false if there are too many
    /// waiters.
    #[cold]
    pub(in crate::shard) fn promise_answer(&mut self, envelope: &mut Envelope, token: Token) -> bool {
        let Some(id) = envelope.message.id() else { return false };
        let waiter = self.journal.open(self.index, envelope.deliveries_left(), OnCommit::Answer(token, id));
        envelope.mark(waiter.unwrap_or(JournalRef::NOT));
        waiter.is_some()
    }

    /// Keeps a replayed dead letter until its message has reached its receiver, for this request. Returns false if
    /// there are too many waiters.
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

    /// Notes that the message of a dead letter goes to several agents.
    #[cold]
    pub(in crate::shard) fn spread_replay(&mut self, envelope: &mut Envelope) {
        let journal = envelope.journal();
        if !journal.is_replay() {
            return;
        }
        envelope.mark(journal.in_part());
        self.journal.spread(journal);
    }

    /// Sends the outcome of one delivery to the holder of the commit waiter.
    pub(in crate::shard) fn acknowledge(&mut self, waiter: JournalRef, ending: Ending) {
        let Some(waiter) = waiter.waiter() else { return };
        let shard = waiter.shard();
        if self.is_here(shard) {
            self.on_acknowledgement(waiter, ending);
        } else {
            self.journal.acknowledge_to(shard, waiter, ending);
        }
    }

    pub(in crate::shard) fn on_acknowledgements(&mut self, acknowledgements: Vec<Acknowledgement>) {
        for (waiter, ending) in acknowledgements {
            self.on_acknowledgement(waiter, ending);
        }
    }

    fn on_acknowledgement(&mut self, waiter: JournalRef, ending: Ending) {
        let Some((then, ending)) = self.journal.acknowledge(waiter, ending) else { return };
        match (then, ending) {
            (OnCommit::Answer(token, id), Ending::Kept) => self.outputs.answer(token, Answer::Sent(Ok(id))),
            (OnCommit::Answer(token, id), ending) => self.outputs.answer(token, Answer::NotKept(id, ending)),
            (OnCommit::Settle(sequence), _) => self.journal.release(sequence),
            (OnCommit::EndReplay { letter, request, in_parts }, ending) => {
                self.end_replay(letter, request, if in_parts { Ending::Kept } else { ending });
            }
        }
    }

    /// Posts the acknowledgements of this turn to other shards: one notice per shard.
    pub(in crate::shard) fn post_acknowledgements(&mut self) {
        for shard in self.links.all() {
            let acknowledgements = self.journal.take_acknowledgements(shard);
            if !acknowledgements.is_empty() {
                self.links.post(shard, Control::Committed(acknowledgements));
            }
        }
    }
}
