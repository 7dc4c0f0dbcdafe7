//! Overflow: messages that find their receiver's mailbox full, and the memory limit of a shard.
//!
//! Each agent has a policy for messages of other agents: refuse, make the sender wait (see
//! [`stall`](crate::shard::control::backpressure)), or drop the oldest waiting message. Replies are exempt: an agent
//! gets the replies to its requests beyond the mailbox's limit, up to [`REPLY_ROOM`] times that limit. So are the
//! router's notices, which have their own lane.
//!
//! Invariants: a refused or displaced message is dead-lettered with its own reason, and its sender is notified. A
//! message is displaced only if that makes room for the new one.

use crate::base::index::AgentKey;
use crate::flow_control::policy::OverflowPolicy;
use crate::flow_control::stalled::STALLED_MAX;
use crate::flow_control::wait_queues::Waiter;
use crate::mailbox::{Envelope, Reservation};
use crate::message::{AgentId, Message};
use crate::outcome::DeadLetterReason;
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentIndex, Behaviour};
use crate::shard::io::SendErrorKind;
use crate::shard::shard_frame::Control;

pub use crate::mailbox::DISPLACEMENT_SEARCH_MAX;
pub use crate::mailbox::held::MEMORY_RESERVE_FRACTION;

/// Multiple of a mailbox's limits in messages and bytes up to which it holds replies.
pub const REPLY_ROOM: u32 = 2;

impl Shard {
    /// Decides about a message whose receiver's mailbox is full or whose receiver does not accept new messages
    /// normally.
    #[cold]
    pub(in crate::shard) fn overflow(&mut self, envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get(index) else { return };
        // A replayed dead letter waits in the store.
        if slot.flags.is(AgentFlags::DRAINING) || envelope.journal().is_replay() {
            return self.refuse_for(envelope, index);
        }
        let limits = self.config.mailbox_limits();
        // A message from another shard has waited there, as far as that shard knew.
        if slot.flags.is(AgentFlags::CLOSED)
            && envelope.credit_of.is_none()
            && self.flow_control.queues.must_wait(&envelope.message, slot.id)
        {
            let receiver = slot.id;
            return self.wait_for_receiver(envelope, receiver, true);
        }
        if self.is_reply(&envelope.message, index) {
            return self.overflow_with_reply(envelope, index);
        }
        // A message larger than the whole mailbox could wait indefinitely.
        if u64::from(envelope.weight()) > limits.bytes {
            return self.refuse_for(envelope, index);
        }
        match slot.overflow {
            OverflowPolicy::Reject => self.refuse_for(envelope, index),
            OverflowPolicy::BackPressure => self.stall(envelope, index),
            OverflowPolicy::DropOldest => self.displace(envelope, index),
        }
    }

    /// Accepts a reply beyond the limit. It does not overtake earlier messages of its sender.
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

    /// Makes room for a message by displacing waiting ones of lanes no higher than its own, the oldest of the lowest
    /// first.
    fn displace(&mut self, envelope: Envelope, index: AgentIndex) {
        let limits = self.config.mailbox_limits();
        let Some(slot) = self.agents.get(index) else { return };
        let messages = (slot.mailbox.held() + 1).saturating_sub(limits.messages);
        let bytes = (slot.mailbox.held_bytes() + u64::from(envelope.weight())).saturating_sub(limits.bytes);
        // Displaced messages free their places at once, so the notices to their senders are bounded here.
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

    /// Returns the error if the shard has no memory for another message from outside or from a handler.
    #[cold]
    pub(in crate::shard) fn memory_refusal(&self, message: &Message, effects_bytes: u64) -> Option<SendErrorKind> {
        let limit = self.config.memory_max;
        let bytes = effects_bytes + message.content().len() as u64;
        (!self.held.fits_as(bytes, message.looks_like_reply())).then_some(SendErrorKind::MemoryFull { limit })
    }

    /// Returns the error if there is no memory for another message of a handler together with those it sent before.
    #[inline(always)]
    pub(in crate::shard) fn refusal_for_effects(&mut self, message: &Message) -> Option<SendErrorKind> {
        // The first one was checked alone.
        if self.effects.is_empty() {
            return None;
        }
        let bytes = self.effects.weight();
        if self.held.fits(bytes + message.content().len() as u64) {
            return None;
        }
        self.memory_refusal(message, bytes)
    }

    /// Makes a message wait for room in its receiver's mailbox, or refuses it.
    pub(in crate::shard) fn stall(&mut self, mut envelope: Envelope, index: AgentIndex) {
        let may_close = self.flow_control.queues.may_close();
        let Some(slot) = self.agents.get_mut(index) else { return };
        let closed = slot.flags.is(AgentFlags::CLOSED);
        let length = slot.cold().stalled.as_ref().map_or(0, |stalled| stalled.len());
        if length >= STALLED_MAX || !(closed || may_close) {
            return self.refuse_for(envelope, index);
        }
        let (credit_of, sender) = (envelope.credit_of.take(), envelope.message.sender());
        let reservation = credit_of.map_or(Reservation::Nothing, Reservation::Credit);
        let place = match self.held.park(envelope) {
            Ok(place) => place,
            Err(envelope) => return self.dead_letter(envelope, DeadLetterReason::ShardFull, reservation),
        };
        self.release(reservation);
        if let Some(slot) = self.agents.get_mut(index) {
            slot.cold().stalled.get_or_insert_default().push(place, sender);
        }
        self.flow_control.queues.stall();
        if !closed {
            self.close_receiver(index);
        }
    }

    /// Whether a message from the same sender is in the receiver's stall list.
    pub(in crate::shard) fn is_behind_its_own(&self, message: &Message, index: AgentIndex) -> bool {
        let stalled = self.agents.get(index).and_then(|slot| slot.cold.as_ref()?.stalled.as_ref());
        stalled.is_some_and(|stalled| message.sender().is_some_and(|sender| stalled.has(sender)))
    }

    pub(in crate::shard) fn close_receiver(&mut self, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        slot.flags.add(AgentFlags::CLOSED);
        let id = slot.id;
        self.flow_control.queues.close_here(id);
        self.broadcast_closed(id, true);
        self.arm_waiter_sweep();
    }

    /// Tells every shard whether a receiver is closed.
    pub(in crate::shard) fn broadcast_closed(&mut self, receiver: AgentId, closed: bool) {
        let is_older = |control: &Control| matches!(control, Control::Closed(other, _) if *other == receiver);
        self.links.broadcast_newest(is_older, || Control::Closed(receiver, closed));
    }

    /// Makes a message wait until its receiver is open.
    #[cold]
    pub(in crate::shard) fn wait_for_receiver(&mut self, envelope: Envelope, receiver: AgentId, here: bool) {
        if self.waits_too_much(&envelope.message, receiver) {
            let detail = "its sender has the maximum number of messages waiting for it";
            let reservation = Reservation::of(&envelope);
            return self.dead_letter_with(envelope, DeadLetterReason::MailboxFull, detail, reservation);
        }
        let id = envelope.message.sender();
        match self.held.park(envelope) {
            Ok(place) => {
                let sender = id.and_then(|sender| self.block_sender(sender));
                self.enqueue_waiter(receiver, id, Waiter::Message { place, sender, here });
            }
            Err(envelope) => self.dead_letter_all(envelope, DeadLetterReason::ShardFull),
        }
    }

    pub(in crate::shard) fn enqueue_waiter(&mut self, receiver: AgentId, sender: Option<AgentId>, entry: Waiter) {
        self.flow_control.queues.push(receiver, sender, entry);
        self.arm_waiter_sweep();
    }

    /// Counts a waiting message against its sender. A native agent is not called until none waits.
    pub(in crate::shard) fn block_sender(&mut self, sender: AgentId) -> Option<AgentKey> {
        let index = self.agents.find(sender)?;
        let slot = self.agents.get_mut(index)?;
        slot.cold().waiting += 1;
        if matches!(slot.behaviour, Behaviour::Native(_) | Behaviour::Running) {
            slot.flags.add(AgentFlags::WAITING);
        }
        Some(slot.key(index))
    }

    pub(in crate::shard) fn let_sender_go_on(&mut self, sender: Option<AgentKey>) {
        let Some(slot) = sender.and_then(|sender| self.agents.resolve_mut(sender)) else { return };
        let waiting = &mut slot.cold().waiting;
        *waiting -= 1;
        let goes_on = *waiting == 0 && slot.flags.is(AgentFlags::WAITING);
        if goes_on {
            slot.flags.remove(AgentFlags::WAITING);
        }
        let Some(sender) = sender.filter(|_| !slot.is_leaving()) else { return };
        if goes_on {
            self.go_on(sender.index);
        }
        self.note_departure(sender.index);
    }

    /// Whether a sender has the maximum number of messages waiting for a receiver.
    #[cold]
    pub(in crate::shard) fn waits_too_much(&self, message: &Message, receiver: AgentId) -> bool {
        self.flow_control.queues.waits_too_much(message, receiver, self.config.outbox.into_inner())
    }
}
