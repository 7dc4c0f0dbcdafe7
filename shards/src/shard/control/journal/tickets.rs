//! Who waits until messages are durable, and is told.

use super::{Acknowledgement, Then, Ticket};
use crate::dead_letter::DeadLetterId;
use crate::mailbox::Envelope;
use crate::message::journal_ref::JournalRef;
use crate::outcome::Ending;
use crate::planted::{self, Bug};
use crate::shard::Shard;
use crate::shard::io::{Answer, Token};
use crate::shard::shard_frame::{Control, Outgoing};

impl Shard {
    /// Has the caller of `send` answered when the message is durable.
    #[cold]
    pub(in crate::shard) fn promise_answer(&mut self, envelope: &mut Envelope, token: Token) -> bool {
        let Some(id) = envelope.message.id() else { return false };
        let ticket = self.durables.open(self.identity.index, envelope.deliveries_left(), Then::Answer(token, id));
        envelope.mark(ticket.unwrap_or(JournalRef::NOT));
        ticket.is_some()
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
        let Some(ticket) =
            self.durables.open(self.identity.index, deliveries, Then::EndReplay { letter, request, in_parts })
        else {
            return false;
        };
        envelope.mark(if in_parts { ticket } else { ticket.of_replay() });
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
        if let Some(Ticket { then: Then::EndReplay { in_parts, .. }, .. }) = self.durables.find(journal) {
            *in_parts = true;
        }
    }

    /// Counts further deliveries of a message that somebody waits for.
    pub(in crate::shard) fn await_more(&mut self, ticket: JournalRef, more: u64) {
        if let Some(ticket) = ticket.ticket().and_then(|ticket| self.durables.find(ticket)) {
            ticket.left += more;
        }
    }

    /// Tells whoever holds the ticket what became of one delivery.
    pub(in crate::shard) fn acknowledge(&mut self, ticket: JournalRef, ending: Ending) {
        let Some(ticket) = ticket.ticket() else { return };
        let shard = ticket.shard();
        if self.is_here(shard) {
            self.hear_acknowledgement(ticket, ending);
        } else if let Some(acknowledgements) = self.durables.acknowledgements.get_mut(shard.as_usize()) {
            acknowledgements.push((ticket, ending));
        }
    }

    pub(in crate::shard) fn hear_acknowledgements(&mut self, acknowledgements: Vec<Acknowledgement>) {
        for (ticket, ending) in acknowledgements {
            self.hear_acknowledgement(ticket, ending);
        }
    }

    fn hear_acknowledgement(&mut self, ticket: JournalRef, ending: Ending) {
        let Some(found) = self.durables.find(ticket) else { return };
        found.left = found.left.saturating_sub(if planted::is(Bug::AcknowledgedTwice) { 2 } else { 1 });
        if found.ending == Ending::Kept {
            found.ending = ending;
        }
        if found.left > 0 {
            return;
        }
        let Some(Ticket { ending, then, .. }) = self.durables.tickets.remove(ticket.place()) else { return };
        match (then, ending) {
            (Then::Answer(token, id), Ending::Kept) => self.answer(token, Answer::Sent(Ok(id))),
            (Then::Answer(token, id), ending) => self.answer(token, Answer::NotKept(id, ending)),
            (Then::Settle(sequence), _) => self.release_record(sequence),
            (Then::EndReplay { letter, request, in_parts }, ending) => {
                self.end_replay(letter, request, if in_parts { Ending::Kept } else { ending });
            }
        }
    }

    /// Hands the acknowledgements of this turn to what is told to other shards: one notice for each shard.
    pub(in crate::shard) fn tell_acknowledgements(&mut self) {
        for shard in 0..self.durables.acknowledgements.len() {
            if !self.durables.acknowledgements[shard].is_empty() {
                let acknowledgements = std::mem::take(&mut self.durables.acknowledgements[shard]);
                self.links.outgoing[shard].push_back(Outgoing::Control(Control::Committed(acknowledgements)));
            }
        }
    }
}
