//! What stands in the journal beside messages, and what is needed for long: agents, conversations, records that are written
//! anew so that their part of the journal can be used again, and what a start takes over.

use super::{COMPACTED_PER_TURN_MAX, Compaction, Ending, JournalRef};
use crate::base::index::AgentIndex;
use crate::conversation::ConversationIndex;
use crate::dead_letter::{DeadLetterId, DeadLetterReason};
use crate::journal::record::Lsn;
use crate::mailbox::{Envelope, Reservation};
use crate::message::{AgentId, ConversationId, WallTime};
use crate::planted::{self, Bug};
use crate::shard::{Shard, ShardPhase};

/// Conversations and agents.
impl Shard {
    /// Writes down that a durable message passed its conversation, which lives here.
    #[cold]
    pub(in crate::shard) fn keep_step(
        &mut self,
        index: ConversationIndex,
        initiator: AgentId,
        violates: bool,
        envelope: &Envelope,
    ) {
        if !self.journal.writes() || self.is_journal_given_up() {
            return;
        }
        let (message, journal) = (&envelope.message, envelope.journal());
        // Mostly it has sent the message, or is answered by it.
        let is_sender = message.sender() == Some(initiator);
        let probably = AgentIndex(if is_sender { envelope.sender_place } else { envelope.receiver_place });
        let slot = self.agents.find_near(initiator, probably).and_then(|index| self.agents.get(index));
        let name = slot.map_or("", |slot| &slot.name);
        let sequence = self.journal.records.conversation_step(initiator, name, self.clock.wall(), violates, message);
        self.conversations.set_durable(index);
        // Where the sender's shard is another one, the message itself is written to this journal behind the step.
        if journal.waiter().is_some_and(|waiter| self.is_here(waiter.shard())) {
            self.await_more(journal, 1);
            self.acknowledge_when(sequence, None, journal, Ending::Kept);
        }
    }

    #[cold]
    pub(in crate::shard) fn keep_end_of_conversation(&mut self, initiator: AgentId, id: ConversationId) {
        if self.journal.writes() {
            self.journal.records.conversation_closed(initiator, id);
        }
    }

    /// Writes down an agent that outlives the process, as it is now.
    #[cold]
    pub(in crate::shard) fn keep_agent(&mut self, index: AgentIndex) {
        if !self.journal.writes() {
            return;
        }
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Some(cold) = slot.cold.as_mut().filter(|cold| cold.outlives) else { return };
        let capabilities = cold.capabilities.iter().map(|term| term.as_str());
        cold.record = Some(self.journal.records.agent(&slot.name, capabilities, cold.record));
    }

    /// Such an agent was removed.
    #[cold]
    pub(in crate::shard) fn forget_agent(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        let id = slot.id;
        let Some(cold) = slot.cold.as_mut().filter(|cold| cold.outlives) else { return };
        cold.outlives = false;
        let record = cold.record.take();
        let is_forgotten = planted::is(Bug::DeregisteredAgentReturns);
        if self.journal.writes() && self.phase != ShardPhase::Stopped && !is_forgotten {
            self.journal.records.agent_gone(id, record);
        }
    }
}

/// Old records are rewritten, so that the part of the journal that they stand in can be used again.
impl Shard {
    /// Has everything rewritten that is still needed and stands in a record up to this one. It takes several turns.
    pub(in crate::shard) fn compact(&mut self, upto: Lsn) {
        let place =
            self.journal.compaction.filter(|compaction| compaction.all).map_or(0, |compaction| compaction.place);
        if !self.journal.writes() {
            return;
        }
        self.journal.compaction = Some(Compaction { upto, place, all: true });
        for (number, sequence) in std::mem::take(&mut self.journal.letters) {
            let id = DeadLetterId { shard: self.index, number };
            let sequence = match self.dead_letters.kept(id) {
                Some(letter) if sequence <= upto => self.journal.records.dead_letter(letter, Some(sequence)),
                _ => sequence,
            };
            self.journal.letters.insert(number, sequence);
        }
        let old = |(_, slot): &(AgentIndex, &crate::shard::agent::registry::AgentSlot)| {
            let cold = slot.cold.as_ref().filter(|cold| cold.outlives);
            cold.is_some_and(|cold| cold.record.is_some_and(|record| record <= upto))
        };
        for index in self.agents.iter().filter(old).map(|(index, _)| index).collect::<Vec<_>>() {
            self.keep_agent(index);
        }
    }

    /// Has messages rewritten that have waited since a record up to this one, unless other records are being rewritten.
    pub(in crate::shard) fn show_waiting(&mut self, upto: Lsn) {
        if self.journal.writes() && self.journal.compaction.is_none() {
            self.journal.compaction = Some(Compaction { upto, place: 0, all: false });
        }
    }

    /// Goes on with that. Says whether there is more.
    pub(in crate::shard) fn continue_compaction(&mut self) -> bool {
        let Some(Compaction { upto, place, all }) = self.journal.compaction else { return false };
        let end = place.saturating_add(COMPACTED_PER_TURN_MAX).min(self.held.places());
        for place in place..end {
            let Some(envelope) = self.held.get_mut(place) else { continue };
            let record = envelope.journal().record(self.journal.records.last());
            let Some(record) = record.filter(|record| *record <= upto) else { continue };
            // What is not committed yet is about to be released by its commit's order: it stays.
            if record > self.journal.committed || !all && self.journal.first.contains_key(&record) {
                continue;
            }
            let expires = self.clock.wall_at(envelope.deadline_ms);
            let target = envelope.message.target();
            let slot = target.and_then(|target| self.agents.get(self.agents.find(target)?));
            // A message that is to be tried again is still there when its receiver is gone.
            let former =
                || target.and_then(|target| self.agents.find_former(target)).map_or("", |former| &*former.name);
            let name = slot.map_or_else(former, |slot| &*slot.name);
            let journal = &mut self.journal;
            let first = journal.first.remove(&record).unwrap_or(record);
            let replaces = (!planted::is(Bug::CarriedTwice)).then_some(record);
            let place = (!planted::is(Bug::CarriedOutOfOrder)).then_some(first);
            let sequence = journal.records.message(replaces, place, true, expires, name, &envelope.message);
            journal.first.insert(sequence, first);
            if envelope.attempts > 0 {
                journal.records.attempts(sequence, envelope.attempts);
            }
            envelope.mark(JournalRef::in_record(sequence));
        }
        let more = end < self.held.places();
        self.journal.compaction = more.then_some(Compaction { upto, place: end, all });
        more
    }
}

/// What a shard begins with.
impl Shard {
    /// Takes in a durable message that an earlier run had left, with a record of this run's own.
    pub(in crate::shard) fn restore_message(
        &mut self,
        mut envelope: Envelope,
        receiver: AgentId,
        receiver_name: &str,
        expires: WallTime,
    ) {
        // It has waited since the earlier run.
        let sequence = self.journal.records.message(None, None, true, expires, receiver_name, &envelope.message);
        self.journal.first.insert(sequence, sequence);
        envelope.mark(JournalRef::in_record(sequence));
        self.keep_attempts(&envelope);
        self.ledger.recover();
        let Some(index) = self.add_absent(receiver, receiver_name) else {
            return self.dead_letter(envelope, DeadLetterReason::ShardFull, Reservation::Nothing);
        };
        let Some(slot) = self.agents.get_mut(index) else { return };
        let (key, weight) = (slot.key(index), envelope.weight());
        slot.mailbox.hold(weight);
        self.held.charge(weight);
        if envelope.attempts >= self.attempts_max(&envelope.message) {
            let reservation = Reservation::Mailbox { agent: key, weight };
            let detail = "the router ended while it was handled, each time";
            return self.dead_letter_with(envelope, DeadLetterReason::AttemptsExhausted, detail, reservation);
        }
        self.put_into_mailbox_in_time(envelope, index);
    }

    /// Writes down how many attempts to handle a message have begun, so that a start does not count them from one again.
    #[cold]
    pub(in crate::shard) fn keep_attempts(&mut self, envelope: &Envelope) {
        if envelope.attempts == 0 || !self.journal.writes() {
            return;
        }
        if let Some(sequence) = self.journal.record_of(envelope.journal()) {
            self.journal.records.attempts(sequence, envelope.attempts);
        }
    }

    /// Takes note of a dead letter's record.
    pub(in crate::shard) fn restore_dead_letter(&mut self, id: DeadLetterId) {
        if let Some(letter) = self.dead_letters.get(id) {
            let sequence = self.journal.records.dead_letter(letter, None);
            self.journal.letters.insert(id.number, sequence);
        }
    }
}
