//! What shards tell each other beside messages.
//!
//! Invariants: a notice is no accepted message and never causes another notice; in a full control lane it is counted
//! instead of kept. A notice about a message holds that message's credit or place in the mailbox until there is room
//! for it in the ring to the sender, so that notices are bounded by what was admitted.

use crate::base::index::ShardIndex;
use crate::mailbox::Reservation;
use crate::planted::{self, Bug};
use crate::shard::Shard;
use crate::shard::shard_frame::{Control, Outgoing, ShardFrame};

/// While so much waits to be told to one shard, conversations do not end for want of traffic, because that would have
/// to be told too: so their ends add no more to it than the participants of one conversation.
pub const OUTGOING_WAITING_MAX: usize = 4_096;

impl Shard {
    /// Takes note of what another shard says.
    pub(in crate::shard) fn on_control(&mut self, from: ShardIndex, control: Control) {
        match control {
            Control::Notice(envelope) => {
                if let Some(to) = envelope.message.target() {
                    self.deliver_notice(*envelope, to);
                }
            }
            Control::Advertise(capability, provider) => self.offers.capabilities.advertise(capability, provider),
            Control::Withdraw(capability, agent) => self.offers.capabilities.withdraw(capability, agent),
            Control::Barrier(number) => {
                self.links.outgoing[from.as_usize()].push_back(Outgoing::Control(Control::BarrierPassed(number)));
            }
            Control::BarrierPassed(number) => self.barrier_passed(number),
            Control::Available(agent, available) => self.offers.capabilities.set_available(agent, available),
            Control::Closed(agent, closed) => self.on_receiver_closed(agent, closed),
            Control::Load(agent, waiting) => self.offers.capabilities.report_load(agent, waiting),
            Control::Register(registration, requester) => self.register_for(*registration, requester),
            Control::Committed(_) if planted::strikes(Bug::AcknowledgementLost, 20, self.clock.now_ms) => {}
            Control::Committed(acknowledgements) => self.on_acknowledgements(acknowledgements),
            Control::KeepLetter(letter, waiter) => self.keep_letter_of_other(&letter, waiter),
            Control::Oversee(notice) => self.on_admin_control(*notice),
        }
    }

    /// Tells the other shards how much waits at the providers of this one, where that has changed.
    pub(in crate::shard) fn post_loads(&mut self) {
        if self.offers.load_changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.offers.load_changed);
        for agent in &changed {
            let Some(slot) = self.agents.get_mut(*agent) else { continue };
            slot.load_changed = false;
            if !slot.provider {
                continue;
            }
            let (id, waiting) = (slot.id, slot.mailbox.held());
            for to in 0..self.links.port.shards() {
                // A figure that finds no room is not worth waiting for: the next change brings a newer one.
                if to != self.identity.index.as_usize() && self.links.outgoing[to].is_empty() {
                    let _ = self.links.port.send_uncredited(to, ShardFrame::Control(Control::Load(id, waiting)));
                }
            }
        }
        self.offers.load_changed = changed;
        self.offers.load_changed.clear();
    }

    /// Hands what is to be told to the rings, as far as they have room.
    pub(in crate::shard) fn flush_outgoing(&mut self) {
        self.post_acknowledgements();
        for to in 0..self.links.outgoing.len() {
            while let Some(outgoing) = self.links.outgoing[to].pop_front() {
                let (crossing, reservation) = match outgoing {
                    Outgoing::Notice(envelope, reservation) => {
                        (ShardFrame::Control(Control::Notice(envelope)), reservation)
                    }
                    Outgoing::Control(notice) => (ShardFrame::Control(notice), Reservation::Nothing),
                };
                match self.links.port.send_uncredited(to, crossing) {
                    Ok(()) => self.release(reservation),
                    Err(ShardFrame::Control(Control::Notice(envelope))) => {
                        self.links.outgoing[to].push_front(Outgoing::Notice(envelope, reservation));
                        break;
                    }
                    Err(ShardFrame::Control(notice)) => {
                        self.links.outgoing[to].push_front(Outgoing::Control(notice));
                        break;
                    }
                    Err(ShardFrame::Message(_)) => break,
                }
            }
        }
    }

    /// Whether so much waits to be told to another shard that what can wait should.
    pub(in crate::shard) fn is_backlogged(&self) -> bool {
        self.links.outgoing.iter().any(|waiting| waiting.len() >= OUTGOING_WAITING_MAX)
    }
}
