//! Journal records besides messages, and long-lived ones: agents, conversations, records rewritten so that their
//! segments can be reused, and the state a start restores.

use super::{COMPACTED_PER_TURN_MAX, Ending, JournalRef};
use crate::base::index::AgentIndex;
use crate::conversation::ConversationIndex;
use crate::dead_letter::{DeadLetterId, DeadLetterReason};
use crate::journal::commits::Compaction;
use crate::journal::record::Lsn;
use crate::mailbox::{Envelope, Reservation};
use crate::message::{AgentId, ConversationId, WallTime};
use crate::planted::{self, Bug};
use crate::shard::{Shard, ShardPhase};

/// Conversations and agents.
impl Shard {
    /// Records that a durable message passed its conversation, which lives here.
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
        // In most cases it is the sender or the receiver.
        let is_sender = message.sender() == Some(initiator);
        let probably = AgentIndex(if is_sender { envelope.sender_place } else { envelope.receiver_place });
        let slot = self.agents.find_near(initiator, probably).and_then(|index| self.agents.get(index));
        let name = slot.map_or("", |slot| &slot.name);
        let sequence =
            self.journal.records_mut().conversation_step(initiator, name, self.clock.wall(), violates, message);
        self.conversations.set_durable(index);
        // If the sender is on another shard, the message itself is written to this journal behind the step.
        if journal.waiter().is_some_and(|waiter| self.is_here(waiter.shard())) {
            self.journal.await_more(journal, 1);
            self.acknowledge_when(sequence, None, journal, Ending::Kept);
        }
    }

    #[cold]
    pub(in crate::shard) fn keep_end_of_conversation(&mut self, initiator: AgentId, id: ConversationId) {
        if self.journal.writes() {
            self.journal.records_mut().conversation_closed(initiator, id);
        }
    }

    /// Records the present state of a persistent agent.
    #[cold]
    pub(in crate::shard) fn keep_agent(&mut self, index: AgentIndex) {
        if !self.journal.writes() {
            return;
        }
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Some(cold) = slot.cold.as_mut().filter(|cold| cold.outlives) else { return };
        let capabilities = cold.capabilities.iter().map(|term| term.as_str());
        cold.record = Some(self.journal.records_mut().agent(&slot.name, capabilities, cold.record));
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
            self.journal.records_mut().agent_gone(id, record);
        }
    }
}

/// Rewriting of old records, so that their segments can be reused.
impl Shard {
    /// Rewrites everything that is still needed in records up to this one. Takes several turns.
    pub(in crate::shard) fn compact(&mut self, upto: Lsn) {
        if !self.journal.writes() {
            return;
        }
        self.journal.begin_compaction(upto);
        self.journal.rewrite_letters(self.index, upto, &self.dead_letters);
        let old = |(_, slot): &(AgentIndex, &crate::shard::agent::registry::AgentSlot)| {
            let cold = slot.cold.as_ref().filter(|cold| cold.outlives);
            cold.is_some_and(|cold| cold.record.is_some_and(|record| record <= upto))
        };
        for index in self.agents.iter().filter(old).map(|(index, _)| index).collect::<Vec<_>>() {
            self.keep_agent(index);
        }
    }

    /// Continues the rewriting. Returns whether there is more.
    pub(in crate::shard) fn continue_compaction(&mut self) -> bool {
        let Some(compaction) = self.journal.compaction() else { return false };
        let place = compaction.place;
        let end = place.saturating_add(COMPACTED_PER_TURN_MAX).min(self.held.places());
        for place in place..end {
            let Some(envelope) = self.held.get_mut(place) else { continue };
            let Some(record) = self.journal.old_record(envelope, compaction) else { continue };
            let expires = self.clock.wall_at(envelope.deadline_ms);
            let target = envelope.message.target();
            let slot = target.and_then(|target| self.agents.get(self.agents.find(target)?));
            // A message that waits for a retry outlives its receiver.
            let former =
                || target.and_then(|target| self.agents.find_former(target)).map_or("", |former| &*former.name);
            let name = slot.map_or_else(former, |slot| &*slot.name);
            let sequence = self.journal.rewrite(record, envelope, name, expires);
            envelope.mark(JournalRef::in_record(sequence));
        }
        let more = end < self.held.places();
        self.journal.set_compaction(more.then_some(Compaction { place: end, ..compaction }));
        more
    }
}

/// What a shard begins with.
impl Shard {
    /// Restores a durable message of an earlier run, with a record of this run.
    pub(in crate::shard) fn restore_message(
        &mut self,
        mut envelope: Envelope,
        receiver: AgentId,
        receiver_name: &str,
        expires: WallTime,
    ) {
        // It has waited since the earlier run.
        let sequence = self.journal.append_restored(&envelope.message, receiver_name, expires);
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

    /// Records the number of started attempts to handle a message, so that a start does not count from one again.
    #[cold]
    pub(in crate::shard) fn keep_attempts(&mut self, envelope: &Envelope) {
        if envelope.attempts == 0 || !self.journal.writes() {
            return;
        }
        if let Some(sequence) = self.journal.record_of(envelope.journal()) {
            self.journal.records_mut().attempts(sequence, envelope.attempts);
        }
    }

    /// Notes a dead letter's record.
    pub(in crate::shard) fn restore_dead_letter(&mut self, id: DeadLetterId) {
        if let Some(letter) = self.dead_letters.get(id) {
            self.journal.keep_letter(letter, None);
        }
    }
}
