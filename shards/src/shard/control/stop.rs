//! What a shard still held when it was told to stop, by place.
//!
//! Invariant: every message that is abandoned because the router stops, or left to the next start, is counted here
//! once. So the total equals the number of [`DeadLetterReason::Stopped`](crate::dead_letter::DeadLetterReason::Stopped)
//! since the stop plus the kept ones.

use hashbrown::HashMap;

use crate::dead_letter::DeadLetter;
use crate::mailbox::{EnvelopeKind, Queue};
use crate::outcome::DeadLetterReason;
use crate::outcome::Stage;
use crate::shard::agent::registry::AgentIndex;
use crate::shard::io::AskError;
use crate::shard::{Shard, ShardPhase};
use crate::stats::unfinished::Unfinished;

impl Shard {
    /// Returns what was left when the shard was told to stop, and what was abandoned since for that reason. Empty
    /// before.
    pub fn unfinished(&self) -> Unfinished {
        self.ledger.unfinished()
    }

    /// Moves out the dead letters, oldest first, when the shard has ended.
    pub fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.dead_letters.take_all()
    }

    /// Starts counting, before anything is abandoned.
    #[cold]
    pub(in crate::shard) fn begin_unfinished(&mut self) {
        let (questions, asks) = (self.replies.pending.awaited() as u64, self.replies.asks.len() as u64);
        let conversations = self.conversations.len() as u64;
        self.ledger.begin_unfinished(questions, asks, conversations);
    }

    /// Returns the number of messages in suspended handlers.
    pub(in crate::shard) fn messages_in_hand(&self) -> u64 {
        let in_hand = |(_, slot): &(_, &crate::shard::agent::registry::AgentSlot)| {
            let in_hand = slot.cold.as_ref().and_then(|cold| cold.in_hand.as_ref());
            in_hand.is_some_and(|in_hand| in_hand.envelope.kind() == EnvelopeKind::Message)
        };
        self.agents.iter().filter(in_hand).count() as u64
    }

    /// Returns the places of the slab's messages that are in no mailbox. Those not listed wait for a timer.
    pub(in crate::shard) fn places_without_timer(&self) -> HashMap<u32, Stage> {
        let committing = self.journal.uncommitted().map(|place| (place, Stage::Commit));
        let crossing = self.links.in_transit().map(|place| (place, Stage::Crossing));
        let outboxes = self.agents.iter_with_leaving().filter_map(|agent| self.agents.get(agent));
        let sent = outboxes.flat_map(|slot| self.listed(slot.outbox)).map(|place| (place, Stage::Outbox));
        committing.chain(crossing).chain(sent).collect()
    }

    /// Returns the places of a list in order.
    fn listed(&self, queue: Queue) -> impl Iterator<Item = u32> {
        std::iter::successors(queue.front(), |place| {
            self.held.get(*place).map(crate::mailbox::Envelope::next).filter(|next| *next != crate::base::slab::NONE)
        })
    }

    /// Abandons everything that is pending.
    pub(in crate::shard) fn stop(&mut self) {
        if self.phase == ShardPhase::Stopped {
            return;
        }
        self.phase = ShardPhase::Stopped;
        self.operations.wanted.clear();
        self.stop_drains();
        self.stop_room_waiters();
        self.begin_unfinished();
        let before = self.ledger.stopped();
        // Draining has left the mail of absent agents to the next start.
        let left_before = self.unfinished().total();
        let in_hand = self.messages_in_hand();
        let agents: Vec<AgentIndex> = self.agents.iter().map(|(index, _)| index).collect();
        for agent in agents {
            self.empty(agent, DeadLetterReason::Stopped);
        }
        self.ledger.count_unfinished(Stage::Suspended, in_hand);
        self.ledger.count_unfinished(Stage::Mailbox, self.ledger.stopped() - before - in_hand);
        let in_line = self.stop_lines();
        self.drop_pending_replies();
        self.stop_what_travels(&in_line);
        for correlation in self.replies.asks.all() {
            self.end_ask(correlation, Err(AskError::Stopped));
        }
        self.stop_barriers();
        self.stop_replays();
        self.stop_inquiries();
        debug_assert_eq!(
            self.unfinished().total() - left_before,
            self.ledger.stopped() - before,
            "what is given up is counted where it stood"
        );
    }
}

/// Messages in transit when the shard stops.
impl Shard {
    /// Abandons what is neither in a mailbox nor in a handler: outboxes, fan-outs, transit, delays, commits. `in_line`
    /// are the places of messages that wait for a receiver that is closed.
    pub(in crate::shard) fn stop_what_travels(&mut self, in_line: &[u32]) {
        let mut stand = self.places_without_timer();
        stand.extend(in_line.iter().map(|place| (*place, Stage::Outbox)));
        let places: Vec<u32> = self
            .held
            .iter()
            .filter(|(_, envelope)| envelope.kind() == EnvelopeKind::Message)
            .map(|(place, _)| place)
            .collect();
        self.links.stop();
        self.journal.stop_messages();
        let agents: Vec<AgentIndex> = self.agents.iter_with_leaving().collect();
        for agent in agents {
            let Some(slot) = self.agents.get_mut(agent) else { continue };
            slot.outbox = Queue::EMPTY;
            slot.outbox_length = 0;
            slot.blocked = None;
            if slot.is_leaving() {
                self.remove_slot(agent);
            }
        }
        for place in places {
            if let Some(envelope) = self.held.abandon(place) {
                let waits = if envelope.attempts > 0 { Stage::Retry } else { Stage::Delayed };
                let stood = stand.get(&place).copied().unwrap_or(waits);
                self.ledger.count_unfinished(stood, envelope.deliveries_left());
                self.dead_letter_all(envelope, DeadLetterReason::Stopped);
            }
        }
        // Delayed messages still count against their mailbox, which accepts nothing more.
        let held = self.agents.iter_with_leaving().filter_map(|agent| self.agents.get(agent));
        let held: u64 = held.map(|slot| slot.mailbox.held_bytes()).sum();
        self.held.reset_memory(held);
    }
}
