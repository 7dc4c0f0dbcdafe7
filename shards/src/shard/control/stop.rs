//! What a shard still had when it was told to stop, by where it stood.
//!
//! Invariant: every message that is given up because the router stops, or left to the next start, is counted here once, so
//! the total is that of [`DeadLetterReason::Stopped`](crate::dead_letter::DeadLetterReason::Stopped) since the stop, and of what is kept.

use hashbrown::HashMap;

use crate::dead_letter::DeadLetter;
use crate::mailbox::{EnvelopeKind, Queue};
use crate::outcome::DeadLetterReason;
use crate::shard::Shard;
use crate::shard::agent::registry::AgentIndex;

macro_rules! places {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $text:literal;)+) => {
        /// Where a message stood that was not handled when the router stopped.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Place {
            $($(#[$doc])* $variant,)+
        }

        impl Place {
            /// All places, in the order in which a message comes to them.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = [$($word),+].len();

            /// The place as one word, for counters and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The place as part of a sentence.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

places! {
    /// Told to the router, and not yet taken into the sender's shard.
    Queued = "queued", "queued for its sender's shard";
    /// Sent, and not yet on its way.
    Outbox = "outbox", "in its sender's outbox";
    /// Between two shards.
    Crossing = "crossing", "on its way to another shard";
    /// Taken in, and not yet durable.
    Commit = "commit", "waiting for the journal";
    /// Not to be delivered before a moment that had not come.
    Delayed = "delayed", "waiting for its moment of delivery";
    /// Behind others, or its receiver was not called.
    Mailbox = "mailbox", "in its receiver's mailbox";
    /// With a handler that was suspended.
    Suspended = "in-hand", "in the hands of a suspended handler";
    /// Between two attempts.
    Retry = "retry", "waiting for its next attempt";
    /// Handed to an inbox whose owner had not taken it.
    Inbox = "inbox", "in an inbox that nobody read";
}

impl Place {
    /// The place's number in [`Place::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a shard, or a router, had not finished when it was told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// Deliveries that were given up because of the stop, in the order of [`Place::ALL`].
    pub messages: [u64; Place::COUNT],
    /// Messages with `reply-by` whose answers were still awaited. They are no messages on their way.
    pub questions: u64,
    /// Questions from outside that were still waiting for an answer; each was told that the router stops.
    pub asks: u64,
    /// Conversations that were open.
    pub conversations: u64,
}

impl Unfinished {
    /// How many deliveries were given up.
    pub fn total(&self) -> u64 {
        self.messages.iter().sum()
    }

    /// How many of them stood there.
    pub fn at(&self, place: Place) -> u64 {
        self.messages[place.index()]
    }

    /// What two shards had together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (mine, others) in self.messages.iter_mut().zip(other.messages) {
            *mine += others;
        }
        self.questions += other.questions;
        self.asks += other.asks;
        self.conversations += other.conversations;
        self
    }
}

impl Shard {
    /// What was left when the shard was told to stop, and what was given up since for the same reason. Nothing before.
    pub fn unfinished(&self) -> Unfinished {
        self.ledger.unfinished.as_deref().copied().unwrap_or_default()
    }

    /// Gives away the dead letters that it keeps, oldest first: the shard has come to its end.
    pub fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.dead_letters.take_all()
    }

    /// Begins to count, before anything is given up.
    #[cold]
    pub(in crate::shard) fn begin_unfinished(&mut self) {
        let (questions, asks) = (self.replies.pending.awaited() as u64, self.replies.asks.len() as u64);
        let conversations = self.dialogue.conversations.len() as u64;
        let unfinished = self.ledger.unfinished.get_or_insert_default();
        **unfinished = Unfinished { messages: unfinished.messages, questions, asks, conversations };
    }

    /// Counts what is given up because the shard stops.
    #[cold]
    pub(in crate::shard) fn count_unfinished(&mut self, place: Place, deliveries: u64) {
        if deliveries > 0 {
            self.ledger.unfinished.get_or_insert_default().messages[place.index()] += deliveries;
        }
    }

    /// Messages whose handlers are suspended.
    pub(in crate::shard) fn messages_in_hand(&self) -> u64 {
        let in_hand = |(_, slot): &(_, &crate::shard::agent::registry::AgentSlot)| {
            let in_hand = slot.cold.as_ref().and_then(|cold| cold.in_hand.as_ref());
            in_hand.is_some_and(|in_hand| in_hand.envelope.kind == EnvelopeKind::Message)
        };
        self.agents.iter().filter(in_hand).count() as u64
    }

    /// Where the messages of the slab stand that are in no mailbox. Those that are not named wait for a timer.
    pub(in crate::shard) fn places_without_timer(&self) -> HashMap<u32, Place> {
        let committing = self.journal.uncommitted().map(|place| (place, Place::Commit));
        let crossing = self.links.in_transit().map(|place| (place, Place::Crossing));
        let outboxes = self.agents.iter_with_leaving().filter_map(|agent| self.agents.get(agent));
        let sent = outboxes.flat_map(|slot| self.listed(slot.outbox)).map(|place| (place, Place::Outbox));
        committing.chain(crossing).chain(sent).collect()
    }

    /// The places of a list, in its order.
    fn listed(&self, queue: Queue) -> impl Iterator<Item = u32> {
        std::iter::successors(queue.front(), |place| {
            self.held.get(*place).map(crate::mailbox::Envelope::next).filter(|next| *next != crate::base::slab::NONE)
        })
    }
}

/// What is on its way when the shard stops.
impl Shard {
    /// Gives up what is neither in a mailbox nor in a handler: outboxes, fan-outs, transit, delays, commits.
    /// `in_line` are the places of what waits for a receiver that is closed.
    pub(in crate::shard) fn stop_what_travels(&mut self, in_line: &[u32]) {
        let mut stand = self.places_without_timer();
        stand.extend(in_line.iter().map(|place| (*place, Place::Outbox)));
        let places: Vec<u32> = self
            .held
            .iter()
            .filter(|(_, envelope)| envelope.kind == EnvelopeKind::Message)
            .map(|(place, _)| place)
            .collect();
        self.links.stop();
        self.stop_waiting_messages();
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
                let waits = if envelope.attempts > 0 { Place::Retry } else { Place::Delayed };
                let stood = stand.get(&place).copied().unwrap_or(waits);
                self.count_unfinished(stood, envelope.deliveries_left());
                self.dead_letter_all(envelope, DeadLetterReason::Stopped);
            }
        }
        // What was delayed still counts against its mailbox, into which nothing gets any more.
        let held = self.agents.iter_with_leaving().filter_map(|agent| self.agents.get(agent));
        let held: u64 = held.map(|slot| slot.mailbox.held_bytes()).sum();
        self.held.reset_memory(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_own_word_and_number() {
        let words: std::collections::HashSet<_> = Place::ALL.iter().map(|place| place.as_str()).collect();
        assert_eq!(words.len(), Place::COUNT);
        assert!(Place::ALL.iter().enumerate().all(|(index, place)| place.index() == index));
    }

    #[test]
    fn what_two_shards_had_adds_up() {
        let mut one = Unfinished { questions: 1, asks: 2, conversations: 3, ..Unfinished::default() };
        one.messages[Place::Retry.index()] = 4;
        let both = one.plus(&one);
        assert_eq!((both.at(Place::Retry), both.total()), (8, 8));
        assert_eq!((both.questions, both.asks, both.conversations), (2, 4, 6));
    }
}
