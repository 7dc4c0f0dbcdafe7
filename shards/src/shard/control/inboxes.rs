//! Agents outside the shards: what the owners of their inboxes have taken, acknowledged or given back.

use crate::mailbox::{DeliveryFlags, Envelope, Reservation};
use crate::message::notice::is_notice;
use crate::message::{AgentId, Message, Receipt};
use crate::outcome::DeadLetterReason;
use crate::outcome::Stage;
use crate::shard::agent::registry::{AgentIndex, Behaviour};
use crate::shard::control::lifecycle::StopReason;
use crate::shard::io::{InboxNumber, Rejection};
use crate::shard::{Shard, ShardPhase};

impl Shard {
    pub(in crate::shard) fn taken(&mut self, agent: AgentId, inbox: InboxNumber, messages: u32, notices: u32) {
        let Some(index) = self.agents.find(agent) else { return };
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
        if outside.inbox != inbox {
            return;
        }
        let messages = messages.min(outside.handed_out);
        outside.handed_out -= messages;
        outside.taken += u64::from(messages);
        outside.room = outside.room.saturating_add(messages).saturating_add(notices).min(outside.window);
        self.ledger.process(u64::from(messages));
        self.held.count_outside(-i64::from(messages));
        self.settle_taken(index);
        self.send_receipts_of_inbox(index);
        self.schedule(index);
    }

    /// Settles messages that the owner of an inbox has finished, in any order.
    pub(in crate::shard) fn acknowledged(&mut self, agent: AgentId, inbox: InboxNumber, numbers: &[u64]) {
        let Some(index) = self.agents.find(agent) else { return };
        for number in numbers {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            if outside.inbox != inbox || outside.handed_out == 0 {
                return;
            }
            let (record, receipt) = outside.finish(*number);
            self.ledger.process(1);
            self.held.count_outside(-1);
            if let Some(sequence) = record {
                self.journal.release(sequence);
            }
            if let Some(message) = receipt {
                self.send_receipt(&message, Receipt::Processed, Reservation::Nothing);
            }
        }
        self.schedule(index);
    }

    /// Gives up messages that the owner of an inbox was handed and does not finish, in any order.
    #[cold]
    pub(in crate::shard) fn rejected(&mut self, agent: AgentId, inbox: InboxNumber, messages: Vec<Rejection>) {
        let Some(index) = self.agents.find(agent) else { return };
        for Rejection { number, message, why } in messages {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            if outside.inbox != inbox || outside.handed_out == 0 {
                return;
            }
            // The dead letter settles its record.
            outside.finish(number);
            self.held.count_outside(-1);
            let mut envelope = Envelope::again(message);
            // Its trace ended when it was handed out.
            envelope.flags.set(DeliveryFlags::WATCHED, false);
            self.dead_letter_with(envelope, DeadLetterReason::AttemptsExhausted, &why, Reservation::Nothing);
        }
        self.schedule(index);
    }

    /// Sends "processed" receipts for messages taken out of an inbox, if their senders requested them.
    pub(in crate::shard) fn send_receipts_of_inbox(&mut self, index: AgentIndex) {
        loop {
            let Some(slot) = self.agents.get_mut(index) else { return };
            let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
            let taken = outside.taken;
            if outside.by_number || outside.receipts.front().is_none_or(|(number, _)| *number > taken) {
                return;
            }
            let Some((_, message)) = outside.receipts.pop_front() else { return };
            self.send_receipt(&message, Receipt::Processed, Reservation::Nothing);
        }
    }

    /// Closes the agent's inbox first if its unprocessed messages have to be dead-lettered with the agent. Returns whether it
    /// does: the agent is then removed once the inbox has returned them.
    ///
    /// Unacknowledged messages are dead-lettered when the agent is deregistered, and at the deadline of its drain those not
    /// taken as well.
    pub(in crate::shard) fn closes_inbox_first(&mut self, index: AgentIndex, why: StopReason) -> bool {
        let Some(slot) = self.agents.get_mut(index) else { return false };
        let Behaviour::InboxState(outside) = &mut slot.behaviour else { return false };
        let gives_back = match why {
            StopReason::DrainDeadline => true,
            StopReason::Deregistered => outside.by_number,
            _ => false,
        };
        if !gives_back || outside.handed_out == 0 {
            return false;
        }
        let inbox = outside.inbox;
        if outside.closing.replace(why).is_none() {
            self.outputs.close_inbox(inbox);
        }
        true
    }

    /// Handles an inbox that its owner has dropped, or that was to be closed: what was not processed is abandoned, and the agent
    /// is removed.
    pub(in crate::shard) fn close_inbox(&mut self, agent: AgentId, inbox: InboxNumber, messages: Vec<Message>) {
        let Some(index) = self.agents.find(agent) else { return };
        let Some(slot) = self.agents.get_mut(index) else { return };
        let Behaviour::InboxState(outside) = &mut slot.behaviour else { return };
        let why = outside.closing.unwrap_or(StopReason::InboxClosed);
        if let Some((index, given_back)) = self.empty_inbox(agent, inbox, messages, why) {
            let slot = self.agents.get_mut(index);
            if let Some(drain) = slot.and_then(|slot| slot.cold.as_mut()?.drain.as_mut()) {
                drain.given_back = given_back;
            }
            self.remove_agent(index, why);
        }
    }

    /// Handles messages returned by an inbox. It then has room again for the router's own messages.
    pub(in crate::shard) fn take_back(&mut self, agent: AgentId, inbox: InboxNumber, messages: Vec<Message>) {
        if let Some((index, _)) = self.empty_inbox(agent, inbox, messages, StopReason::InboxClosed) {
            self.schedule(index);
        }
    }

    /// Abandons messages that come back out of an inbox. Returns its agent and how many there were, if the inbox is still the
    /// current one.
    pub(in crate::shard) fn empty_inbox(
        &mut self,
        agent: AgentId,
        inbox: InboxNumber,
        mut messages: Vec<Message>,
        why: StopReason,
    ) -> Option<(AgentIndex, u32)> {
        messages.retain(|message| !is_notice(message));
        let index = self.agents.find(agent)?;
        let slot = self.agents.get_mut(index)?;
        let Behaviour::InboxState(outside) = &mut slot.behaviour else { return None };
        if outside.inbox != inbox {
            return None;
        }
        // Whatever is neither given back nor reported was taken.
        let given_back = u32::try_from(messages.len()).unwrap_or(u32::MAX).min(outside.handed_out);
        let taken = outside.handed_out - given_back;
        outside.room = outside.room.saturating_add(outside.handed_out).min(outside.window);
        outside.handed_out = 0;
        outside.taken += u64::from(taken);
        self.ledger.process(u64::from(taken));
        self.held.count_outside(-i64::from(taken) - i64::from(given_back));
        let reason = if self.phase == ShardPhase::Stopped {
            self.ledger.count_unfinished(Stage::Inbox, u64::from(given_back));
            DeadLetterReason::Stopped
        } else {
            why.for_what_waited()
        };
        self.settle_taken(index);
        for message in messages.into_iter().take(given_back as usize) {
            let mut envelope = Envelope::again(message);
            // Its trace ended when it was handed out.
            envelope.flags.set(DeliveryFlags::WATCHED, false);
            self.dead_letter(envelope, reason, Reservation::Nothing);
        }
        self.send_receipts_of_inbox(index);
        Some((index, given_back))
    }

    /// Settles durable messages that an inbox took.
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
