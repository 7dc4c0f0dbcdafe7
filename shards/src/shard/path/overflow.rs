//! What happens to a message that finds its receiver's mailbox full, and what a shard may hold in all.
//!
//! Each agent has a policy for what other agents send it: it is refused, its sender waits (see [`stall`](crate::shard::control::backpressure)),
//! or the oldest message that waits makes room. Replies are subject to none of them: an agent that asked gets its answer
//! beyond the mailbox's limit, up to [`REPLY_ROOM`] times that limit. Nor are the router's notices, which have a lane of
//! their own.
//!
//! Invariants: whatever is refused or displaced is a dead letter with a reason of its own, and its sender is told; a
//! message is displaced only if that makes room for the one that displaces it.

use crate::base::slab::NONE;
use crate::flow_control::policy::OverflowPolicy;
pub use crate::mailbox::DISPLACEMENT_SEARCH_MAX;
pub use crate::mailbox::held::MEMORY_RESERVE_FRACTION;
use crate::mailbox::{Envelope, Reservation};
use crate::message::{AgentId, Message};
use crate::outcome::DeadLetterReason;
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::io::SendErrorKind;

/// A mailbox holds replies up to so many times its limits in messages and bytes.
pub const REPLY_ROOM: u32 = 2;

impl Shard {
    /// Decides about a message whose receiver's mailbox is full, or whose receiver does not take new messages as usual.
    #[cold]
    pub(in crate::shard) fn overflow(&mut self, envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get(index) else { return };
        // A dead letter that is replayed waits where it is.
        if slot.flags.is(AgentFlags::DRAINING) || envelope.journal().is_replay() {
            return self.refuse_for(envelope, index);
        }
        let limits = self.config.mailbox_limits();
        // What comes from another shard has waited there as far as that shard knew.
        if slot.flags.is(AgentFlags::CLOSED)
            && envelope.credit_of.is_none()
            && self.wait_queues.must_wait(&envelope.message, slot.id)
        {
            let receiver = slot.id;
            return self.wait_for_receiver(envelope, receiver, true);
        }
        if self.is_reply(&envelope.message, index) {
            return self.overflow_with_reply(envelope, index);
        }
        // What is larger than the whole mailbox could wait for ever.
        if u64::from(envelope.weight()) > limits.bytes {
            return self.refuse_for(envelope, index);
        }
        match slot.overflow {
            OverflowPolicy::Reject => self.refuse_for(envelope, index),
            OverflowPolicy::BackPressure => self.stall(envelope, index),
            OverflowPolicy::DropOldest => self.displace(envelope, index),
        }
    }

    /// Takes a reply beyond the limit. It does not overtake what its sender sent before.
    fn overflow_with_reply(&mut self, envelope: Envelope, index: AgentIndex) {
        let limits = self.config.mailbox_limits().times(REPLY_ROOM);
        let Some(slot) = self.agents.get(index) else { return };
        let fits = slot.mailbox.has_room(limits, envelope.weight());
        if self.is_behind_its_own(&envelope.message, index) {
            return self.stall(envelope, index);
        }
        if fits {
            self.ledger.take_reply_beyond();
            return self.take_in(envelope, index);
        }
        let reservation = Reservation::of(&envelope);
        self.dead_letter(envelope, DeadLetterReason::RepliesFull, reservation);
    }

    /// Whether a message answers something that its receiver, which lives here, asked: as the shard's questions, the
    /// message's conversation or the message that it was made a reply to say.
    pub(in crate::shard) fn is_reply(&self, message: &Message, index: AgentIndex) -> bool {
        let Some(slot) = self.agents.get(index) else { return false };
        if index == self.agents.gateway() {
            return message.in_reply_to().is_some_and(|correlation| self.asks.contains(correlation));
        }
        message.looks_like_reply()
            || (slot.first_reply != NONE && self.pending_replies.answered_by(slot.id, message).is_some())
    }

    /// Makes room for a message by giving up waiting ones of no higher lane, the oldest of the lowest first.
    fn displace(&mut self, envelope: Envelope, index: AgentIndex) {
        let limits = self.config.mailbox_limits();
        let Some(slot) = self.agents.get(index) else { return };
        let messages = (slot.mailbox.held() + 1).saturating_sub(limits.messages);
        let bytes = (slot.mailbox.held_bytes() + u64::from(envelope.weight())).saturating_sub(limits.bytes);
        // The displaced free their places at once, so what their senders are told is bounded here.
        let (partition, links) = (self.config.partition, &self.links);
        let may_go = |waiting: &Envelope| {
            let much = |sender: AgentId| links.is_backlogged(partition.shard_of(sender));
            !waiting.message.looks_like_reply() && !waiting.message.sender().is_some_and(much)
        };
        let priority = envelope.message.priority();
        let Some(slot) = self.agents.get_mut(index) else { return };
        let key = slot.key(index);
        let Some(places) = slot.mailbox.displace(&mut self.held, priority, messages, bytes, may_go) else {
            return self.refuse_for(envelope, index);
        };
        for place in places {
            let Some(displaced) = self.held.remove(place) else { continue };
            self.release(Reservation::in_mailbox(key, &displaced));
            self.dead_letter(displaced, DeadLetterReason::Displaced, Reservation::Nothing);
        }
        self.take_in(envelope, index);
    }

    /// Why the shard has no memory for another message from outside or from a handler.
    #[cold]
    pub(in crate::shard) fn memory_refusal(&self, message: &Message, effects_bytes: u64) -> Option<SendErrorKind> {
        let limit = self.config.memory_max;
        let bytes = effects_bytes + message.content().len() as u64;
        (!self.held.fits_as(bytes, message.looks_like_reply())).then_some(SendErrorKind::MemoryFull { limit })
    }

    /// Why there is no memory for another message of a handler, with what it has sent before.
    #[inline(always)]
    pub(in crate::shard) fn refusal_for_effects(&mut self, message: &Message) -> Option<SendErrorKind> {
        // The first one was looked at alone.
        if self.effects.is_empty() {
            return None;
        }
        let bytes = self.effects.weight();
        if self.held.fits(bytes + message.content().len() as u64) {
            return None;
        }
        self.memory_refusal(message, bytes)
    }

    /// Gives up a message from another shard for which there is no memory.
    #[cold]
    pub(in crate::shard) fn refuse_arrival(&mut self, envelope: Envelope) {
        let reservation = Reservation::of(&envelope);
        self.dead_letter(envelope, DeadLetterReason::MemoryFull, reservation);
    }
}
