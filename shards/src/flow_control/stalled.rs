//! What has come to a receiver whose mailbox is full: it waits until there is room, in its order.

use std::collections::VecDeque;

use super::{Senders, extract};
use crate::mailbox::Held;
use crate::message::AgentId;

/// Maximum number of messages that wait for one receiver. Beyond it they are refused.
pub const STALLED_MAX: usize = 65_536;

/// Messages that arrived at a closed receiver.
#[derive(Debug, Default)]
pub(crate) struct Stalled {
    places: VecDeque<u32>,
    senders: Senders,
    /// Whether it is queued to be checked because there is room again.
    due: bool,
}

impl Stalled {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Appends a parked message.
    pub fn push(&mut self, place: u32, sender: Option<AgentId>) {
        self.places.push_back(place);
        self.senders.enter(sender);
    }

    /// Returns the place of the first message.
    pub fn front(&self) -> Option<u32> {
        self.places.front().copied()
    }

    /// Takes the first message out of the list.
    pub fn pop(&mut self, held: &Held) {
        if let Some(place) = self.places.pop_front() {
            self.senders.leave(held.get(place).and_then(|envelope| envelope.message.sender()));
        }
    }

    /// Whether something of this sender waits.
    pub fn has(&self, sender: AgentId) -> bool {
        self.senders.has(sender)
    }

    /// Takes what `leaves` out of the list, in order. Their senders [leave](Self::leave) one by one.
    pub fn extract(&mut self, leaves: impl FnMut(&u32) -> bool) -> VecDeque<u32> {
        extract(&mut self.places, leaves)
    }

    /// Counts out a message that was [extracted](Self::extract).
    pub fn leave(&mut self, sender: Option<AgentId>) {
        self.senders.leave(sender);
    }

    /// Says that there is room. Returns whether that is new.
    pub fn set_due(&mut self) -> bool {
        !std::mem::replace(&mut self.due, true)
    }

    pub fn begin_look(&mut self) {
        self.due = false;
    }

    /// Returns the places of all messages, in order.
    pub fn into_places(self) -> VecDeque<u32> {
        self.places
    }
}
