//! Control data between shards.
//!
//! Invariants: a notice is not an accepted message and never causes another notice; in a full control lane it is
//! counted instead of kept. A notice about a message holds that message's credit or place in the mailbox until there is
//! room for it in the ring to the sender, so that notices are bounded by what was admitted.

use crate::base::index::ShardIndex;
use crate::planted::{self, Bug};
use crate::shard::links::Incoming;
use crate::shard::shard_frame::Control;
use crate::shard::{ARRIVALS_PER_TURN_MAX, Shard};

impl Shard {
    /// Empties the incoming rings, a chunk each. This never depends on room in the outgoing ones.
    pub(in crate::shard) fn receive_from_shards(&mut self) -> usize {
        let mut most = 0;
        for from in self.links.others() {
            let mut taken = 0;
            while taken < ARRIVALS_PER_TURN_MAX {
                match self.links.take(from) {
                    Some(Incoming::Message(envelope)) => self.arrive(from, envelope),
                    Some(Incoming::Control(control)) => self.on_control(from, control),
                    None => break,
                }
                taken += 1;
            }
            if taken > 0 {
                self.links.release_taken(from);
            }
            most = most.max(taken);
        }
        most
    }

    /// Hears what this shard has told itself before this turn. Returns how much that was.
    pub(in crate::shard) fn hear_loopback(&mut self) -> usize {
        let told = self.links.loopback();
        for _ in 0..told {
            let Some(control) = self.links.take_loopback() else { break };
            self.on_control(self.index, control);
        }
        told
    }

    /// Handles control data from another shard.
    pub(in crate::shard) fn on_control(&mut self, from: ShardIndex, control: Control) {
        match control {
            Control::Notice(envelope) => {
                if let Some(to) = envelope.message.target() {
                    self.deliver_notice(*envelope, to);
                }
            }
            Control::Advertise(capability, provider) => self.capabilities.advertise(capability, provider),
            Control::Withdraw(capability, agent) => self.capabilities.withdraw(capability, agent),
            Control::Barrier(number) => {
                self.links.post(from, Control::BarrierPassed(number));
            }
            Control::BarrierPassed(number) => self.barrier_passed(number),
            Control::Available(agent, available) => self.capabilities.set_available(agent, available),
            Control::Closed(agent, closed) => self.on_receiver_closed(agent, closed),
            Control::Load(agent, waiting) => self.capabilities.report_load(agent, waiting),
            Control::Register(registration, requester) => self.register_for(*registration, requester),
            Control::Committed(_) if planted::strikes(Bug::AcknowledgementLost, 20, self.clock.now_ms()) => {}
            Control::Committed(acknowledgements) => self.on_acknowledgements(acknowledgements),
            Control::KeepLetter(letter, waiter) => self.keep_letter_of_other(&letter, waiter),
            Control::Survey => self.continue_surveys(),
            Control::Oversee(notice) => self.on_admin_control(*notice),
        }
    }

    /// Tells the other shards the load of this one's providers, if it has changed.
    pub(in crate::shard) fn post_loads(&mut self) {
        if !self.capabilities.has_load_changed() {
            return;
        }
        let changed = self.capabilities.take_load_changed();
        for agent in &changed {
            let Some(slot) = self.agents.get_mut(*agent) else { continue };
            slot.load_changed = false;
            if !slot.provider {
                continue;
            }
            let (id, waiting) = (slot.id, slot.mailbox.held());
            // A figure that finds no room is not worth waiting for: the next change brings a newer one.
            self.links.broadcast_or_drop(|| Control::Load(id, waiting));
        }
        self.capabilities.give_back(changed);
    }

    /// Moves waiting posts into the rings, as far as they have room.
    pub(in crate::shard) fn flush_outgoing(&mut self) {
        self.post_acknowledgements();
        for to in self.links.others() {
            while let Some(reservation) = self.links.send_next(to) {
                self.release(reservation);
            }
        }
    }
}
