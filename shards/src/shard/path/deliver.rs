//! Delivery into the receiver's mailbox: the conversation admits the message, the mailbox has room, and its delivery
//! time has come.
//!
//! Invariants: a message counts against its mailbox from acceptance until it is settled, whatever it waits for
//! meanwhile. A message for an agent that is not being called still expires at the end of its lifetime.

use crate::base::slab::NONE;
use crate::mailbox::{DeliveryFlags, Envelope, Reservation};
use crate::message::{AgentId, Receipt, Reliability};
use crate::planted::{self, Bug};
use crate::shard::Shard;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::path::enqueue::enqueue;

impl Shard {
    /// Puts a message into its receiver's mailbox, from which it is settled, or abandons it.
    #[inline(always)]
    pub(in crate::shard) fn deliver(&mut self, envelope: Envelope, target: AgentId) {
        // A reply knows its receiver's place.
        let probably = AgentIndex(envelope.receiver_place);
        if self.agents.lies_at(target, probably) {
            self.deliver_to::<true>(envelope, probably);
        } else {
            self.deliver_by_id(envelope, target);
        }
    }

    /// Like [`Shard::deliver`], for a message that does not know its receiver's place.
    #[inline(never)]
    pub(in crate::shard) fn deliver_by_id(&mut self, envelope: Envelope, target: AgentId) {
        match self.agents.find(target) {
            Some(index) => self.deliver_to::<true>(envelope, index),
            None => self.refuse_for_absent(envelope, target),
        }
    }

    /// Like [`Shard::deliver`], for a message that is accepted regardless of room.
    #[cold]
    pub(in crate::shard) fn take_in(&mut self, envelope: Envelope, index: AgentIndex) {
        self.deliver_to::<false>(envelope, index);
    }

    /// Reserves room in the mailbox, if there is room or none is needed, and puts the message there.
    #[inline(always)]
    pub(in crate::shard) fn deliver_to<const NEEDS_ROOM: bool>(&mut self, mut envelope: Envelope, index: AgentIndex) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        if NEEDS_ROOM {
            let limits = self.config.mailbox_limits();
            if slot.flags.is(AgentFlags::TAKES_NOTHING) || !slot.mailbox.has_room(limits, envelope.weight()) {
                return self.overflow(envelope, index);
            }
        }
        slot.mailbox.hold(envelope.weight());
        self.held.charge(envelope.weight());
        if slot.begins_load_change() {
            self.capabilities.change_load(index);
        }
        let credit_of = envelope.credit_of.take();
        let message = &envelope.message;
        let special = envelope.flags.is(DeliveryFlags::TEXT_BORNE.or(DeliveryFlags::WATCHED))
            || (self.replies.pending.len() > 0 && slot.first_reply != NONE)
            || message.receipt() == Receipt::Delivered
            || message.reliability() == Reliability::Durable
            || message.details().is_some_and(|details| {
                details.deliver_at.is_some() || details.replay.is_some() || !details.reply_to.is_empty()
            });
        if special {
            return self.deliver_specially(
                envelope,
                index,
                credit_of.map_or(Reservation::Nothing, Reservation::Credit),
            );
        }
        if let Some(from) = credit_of
            && !planted::strikes(
                Bug::CreditLost,
                5_000,
                self.clock.now_ms() << 32 ^ u64::from(envelope.weight()) << 16 ^ self.ledger.account().arrived,
            )
        {
            self.links.owe(from);
        }
        let enqueued = enqueue(slot, &mut self.held, &mut self.scheduler, envelope, index);
        self.finish_enqueue(enqueued, index);
    }
}
