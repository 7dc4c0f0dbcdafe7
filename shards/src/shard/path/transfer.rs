//! From one shard to another.

use crate::base::index::ShardIndex;
use crate::mailbox::{Envelope, Reservation};
use crate::message::ConversationRole;
use crate::outcome::{DeadLetterReason, Stage};
use crate::shard::{Shard, ShardPhase};

impl Shard {
    #[inline(always)]
    pub(in crate::shard) fn depart(&mut self, envelope: Envelope, to: ShardIndex) {
        if let Err(envelope) = self.links.send(envelope, to) {
            // Credits were counted just before, so this does not happen; if it did, nothing would be lost.
            debug_assert!(false, "a credit was there and was not");
            return self.dead_letter_all(envelope, DeadLetterReason::ShardFull);
        }
        self.ledger.depart();
    }

    /// Accepts a message from another shard.
    #[inline]
    pub(in crate::shard) fn arrive(&mut self, from: ShardIndex, mut envelope: Envelope) {
        self.ledger.arrive();
        envelope.credit_of = Some(from);
        if self.phase == ShardPhase::Stopped {
            self.ledger.count_unfinished(Stage::Crossing, 1);
            return self.dead_letter(envelope, DeadLetterReason::Stopped, Reservation::Credit(from));
        }
        if envelope.deadline_ms <= self.clock.now_ms() {
            return self.expire(envelope, Stage::Crossing, Reservation::Credit(from));
        }
        let Some(target) = envelope.message.target() else {
            return self.dead_letter(envelope, DeadLetterReason::NoRoute, Reservation::Credit(from));
        };
        let fits = self.held.fits(0)
            || envelope.message.looks_like_reply() && self.held.fits_as(u64::from(envelope.weight()), true);
        if !fits {
            return self.refuse_arrival(envelope);
        }
        if envelope.message.conversation().is_some() {
            let initiator = match envelope.message.role() {
                // For an unresolved one, this shard knows whether its receiver began the conversation.
                ConversationRole::Participant | ConversationRole::Unresolved => Some(target),
                // A message between participants first reaches the conversation's home, and from there its receiver,
                // where it has passed already.
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

    /// Forwards a message to its receiver's shard. While it waits it holds the credit that it arrived with.
    pub(in crate::shard) fn relay(&mut self, envelope: Envelope, to: ShardIndex) {
        if self.links.can_relay(to) {
            return self.depart(envelope, to);
        }
        match self.held.park(envelope) {
            Ok(place) => {
                if !self.links.has_transit(to) {
                    self.arm_transit_sweep(to);
                }
                self.links.hold_in_transit(to, place);
            }
            Err(envelope) => self.dead_letter_all(envelope, DeadLetterReason::ShardFull),
        }
    }

    /// Continues with messages in transit. Each holds the credit that it arrived with, which bounds their number.
    pub(in crate::shard) fn flush_transit(&mut self) {
        for to in self.links.all() {
            while let Some(place) = self.links.next_in_transit(to) {
                let Some(envelope) = self.held.unpark(place) else { continue };
                if envelope.deadline_ms <= self.clock.now_ms() {
                    self.expire_all(envelope, Stage::Crossing);
                } else {
                    self.depart(envelope, to);
                }
            }
        }
    }

    pub(in crate::shard) fn sweep_transit(&mut self, to: ShardIndex) {
        self.links.set_transit_swept(to, false);
        let (held, now_ms) = (&self.held, self.clock.now_ms());
        let is_late = |place| held.get(place).is_some_and(|envelope| envelope.deadline_ms <= now_ms);
        for place in self.links.extract_transit(to, is_late) {
            if let Some(envelope) = self.held.unpark(place) {
                self.expire_all(envelope, Stage::Crossing);
            }
        }
        if self.links.has_transit(to) {
            self.arm_transit_sweep(to);
        }
    }
}
