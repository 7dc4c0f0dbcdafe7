//! From one shard to another.

use crate::base::index::ShardIndex;
use crate::mailbox::{Envelope, PackedMessage, Reservation};
use crate::message::ConversationRole;
use crate::outcome::DeadLetterReason;
use crate::outcome::Stage;
use crate::shard::control::stop::Place;
use crate::shard::shard_frame::ShardFrame;
use crate::shard::{Alarm, SWEEP_INTERVAL_MS, Shard, ShardPhase};

impl Shard {
    #[inline(always)]
    pub(in crate::shard) fn depart(&mut self, envelope: Envelope, to: ShardIndex) {
        let owed = envelope.credit_of;
        if self.links.port.credits(to.as_usize()) == 0 {
            // Credits were counted just before, so this does not happen; but if it did, nothing would be lost.
            debug_assert!(false, "a credit was there and was not");
            return self.dead_letter_all(envelope, DeadLetterReason::ShardFull);
        }
        let sent = if let Some(plain) = envelope.message.plain() {
            let sent = self.links.port.send_in_place(to.as_usize(), |slot| ShardFrame::copy_in(plain, slot));
            envelope.message.spare(&mut self.links.body_pool);
            sent
        } else {
            self.links.port.send(to.as_usize(), ShardFrame::Message(PackedMessage::pack(envelope))).is_ok()
        };
        debug_assert!(sent, "a credit guarantees room in the ring");
        self.ledger.account.departed += 1;
        if let Some(from) = owed {
            self.links.credits_owed[from.as_usize()] += 1;
        }
    }

    /// Takes in a message from another shard.
    #[inline]
    pub(in crate::shard) fn arrive(&mut self, from: ShardIndex, mut envelope: Envelope) {
        self.ledger.account.arrived += 1;
        envelope.credit_of = Some(from);
        if self.phase == ShardPhase::Stopped {
            self.count_unfinished(Place::Crossing, 1);
            return self.dead_letter(envelope, DeadLetterReason::Stopped, Reservation::Credit(from));
        }
        if envelope.deadline_ms <= self.clock.now_ms {
            return self.expire(envelope, Stage::Crossing, Reservation::Credit(from));
        }
        let Some(target) = envelope.message.target() else {
            return self.dead_letter(envelope, DeadLetterReason::NoRoute, Reservation::Credit(from));
        };
        if self.held.memory_left < 0 && !self.has_memory_for(&envelope) {
            return self.refuse_arrival(envelope);
        }
        if envelope.message.conversation().is_some() {
            let initiator = match envelope.message.role() {
                // Of one that is not resolved, this shard knows whether its receiver began the conversation.
                ConversationRole::Participant | ConversationRole::Unresolved => Some(target),
                // A message between participants first comes to the conversation's home, and from there to its
                // receiver, where it has passed already.
                ConversationRole::Member => envelope
                    .message
                    .initiator()
                    .filter(|initiator| self.is_here(self.config.partition.shard_of(*initiator))),
                ConversationRole::Initiator => None,
            };
            if let Some(initiator) = initiator
                && let Err(reason) = self.converse(&mut envelope, initiator, target)
            {
                return self.dead_letter(envelope, reason, Reservation::Credit(from));
            }
            let to = self.config.partition.shard_of(target);
            if !self.is_here(to) {
                return self.relay(envelope, to);
            }
        }
        self.deliver(envelope, target);
    }

    /// Sends a message on to its receiver's shard. While it has to wait it holds the credit that it came with.
    pub(in crate::shard) fn relay(&mut self, envelope: Envelope, to: ShardIndex) {
        if self.links.transit[to.as_usize()].is_empty() && self.links.port.has_transit_credit(to.as_usize()) {
            return self.depart(envelope, to);
        }
        match self.keep_place(envelope) {
            Ok(place) => {
                if self.links.transit[to.as_usize()].is_empty() {
                    self.arm_transit_sweep(to);
                }
                self.links.transit[to.as_usize()].push_back(place);
            }
            Err(envelope) => self.dead_letter_all(envelope, DeadLetterReason::ShardFull),
        }
    }

    /// Goes on with messages that pass through. Each holds the credit that it came with, so there are only so many.
    pub(in crate::shard) fn flush_transit(&mut self) {
        for to in 0..self.links.transit.len() {
            while !self.links.transit[to].is_empty() && self.links.port.has_transit_credit(to) {
                let Some(place) = self.links.transit[to].pop_front() else { break };
                let Some(envelope) = self.take_place(place) else { continue };
                if envelope.deadline_ms <= self.clock.now_ms {
                    self.expire_all(envelope, Stage::Crossing);
                } else {
                    self.depart(envelope, ShardIndex(u16::try_from(to).unwrap_or(u16::MAX)));
                }
            }
        }
    }

    /// Makes sure that what waits to pass on to a shard does not wait beyond its lifetime. Each queue has one timer at
    /// most, because it is armed when the queue begins to fill and again only when it fires.
    pub(in crate::shard) fn arm_transit_sweep(&mut self, to: ShardIndex) {
        if !self.links.transit_swept[to.as_usize()] {
            let timer = self.timers.wheel.insert(self.clock.now_ms + SWEEP_INTERVAL_MS, Alarm::SweepTransit(to));
            self.links.transit_swept[to.as_usize()] = timer.is_ok();
        }
    }

    pub(in crate::shard) fn sweep_transit(&mut self, to: ShardIndex) {
        self.links.transit_swept[to.as_usize()] = false;
        for _ in 0..self.links.transit[to.as_usize()].len() {
            let Some(place) = self.links.transit[to.as_usize()].pop_front() else { break };
            let expired = self.held.slab.get(place).is_some_and(|envelope| envelope.deadline_ms <= self.clock.now_ms);
            if !expired {
                self.links.transit[to.as_usize()].push_back(place);
            } else if let Some(envelope) = self.take_place(place) {
                self.expire_all(envelope, Stage::Crossing);
            }
        }
        if !self.links.transit[to.as_usize()].is_empty() {
            self.arm_transit_sweep(to);
        }
    }
}
