//! The messages that a shard holds, and what they count as: against its memory budget, and as pending deliveries.
//!
//! Invariants: a message counts against the memory budget from when a mailbox takes it in, or it begins to wait on its
//! way, until it is settled or goes on; replies may use the whole budget, other messages all of it but the reserve.

use crate::base::slab::Slab;
use crate::mailbox::Envelope;

/// The share of a shard's memory budget that only replies and notices may use: one part in so many.
pub const MEMORY_RESERVE_FRACTION: u64 = 8;

/// Returns what a shard may hold of messages that are no replies, in bytes, of its share of the memory budget.
pub(crate) const fn ordinary_memory(limit: u64) -> u64 {
    limit - limit / MEMORY_RESERVE_FRACTION
}

/// The messages that a shard holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(in crate::mailbox) slab: Slab<Envelope>,
    memory_max: u64,
    /// Of the part of the budget for messages that are no replies: what mailboxes and waiting messages leave, in bytes.
    memory_left: i64,
    /// Pending deliveries without an envelope of their own in the slab, less notices that have one.
    outside: i64,
}

impl Held {
    /// Creates a store for up to `messages_max` messages and `memory_max` bytes.
    pub fn new(messages_max: usize, memory_max: u64) -> Self {
        let memory_left = ordinary_memory(memory_max).cast_signed();
        Self { slab: Slab::new(messages_max), memory_max, memory_left, outside: 0 }
    }

    /// Takes a place for a message that a mailbox holds, or for a notice. Gives it back when all places are taken.
    #[inline(always)]
    pub fn insert(&mut self, envelope: Envelope) -> Result<u32, Envelope> {
        self.slab.insert(envelope)
    }

    #[inline(always)]
    pub fn get(&self, place: u32) -> Option<&Envelope> {
        self.slab.get(place)
    }

    #[inline(always)]
    pub fn get_mut(&mut self, place: u32) -> Option<&mut Envelope> {
        self.slab.get_mut(place)
    }

    /// Gives back the place of a message that was [inserted](Self::insert).
    #[inline(always)]
    pub fn remove(&mut self, place: u32) -> Option<Envelope> {
        self.slab.remove(place)
    }

    /// Takes a place for a message that waits on its way, with all its deliveries, and charges its weight.
    pub fn park(&mut self, envelope: Envelope) -> Result<u32, Envelope> {
        let (weight, more) = (envelope.weight(), envelope.more_than_one());
        let place = self.slab.insert(envelope)?;
        self.charge(weight);
        self.outside += more;
        Ok(place)
    }

    /// Gives back the place of a message that was [parked](Self::park).
    pub fn unpark(&mut self, place: u32) -> Option<Envelope> {
        let envelope = self.slab.remove(place)?;
        self.discharge(envelope.weight());
        self.outside -= envelope.more_than_one();
        Some(envelope)
    }

    /// Gives back the place of any message because the shard stops, without its weight: see [`Self::reset_memory`].
    pub fn abandon(&mut self, place: u32) -> Option<Envelope> {
        let envelope = self.slab.remove(place)?;
        self.outside -= envelope.more_than_one();
        Some(envelope)
    }

    /// Charges a message's weight to the memory budget.
    #[inline(always)]
    pub fn charge(&mut self, weight: u32) {
        self.memory_left -= i64::from(weight);
    }

    /// Takes a message's weight off the memory budget.
    #[inline(always)]
    pub fn discharge(&mut self, weight: u32) {
        self.memory_left += i64::from(weight);
    }

    /// Takes off the memory budget what a whole mailbox held.
    pub fn discharge_mailbox(&mut self, bytes: u64) {
        self.memory_left += bytes.cast_signed();
    }

    /// Charges the memory budget with these bytes and no others.
    pub fn reset_memory(&mut self, bytes: u64) {
        self.memory_left = ordinary_memory(self.memory_max).cast_signed() - bytes.cast_signed();
    }

    /// Returns the bytes that mailboxes hold and that wait on their way.
    pub fn memory_bytes(&self) -> u64 {
        (ordinary_memory(self.memory_max).cast_signed() - self.memory_left).cast_unsigned()
    }

    /// Whether so many bytes fit into the part of the budget that every message may use.
    #[inline(always)]
    pub fn fits(&self, bytes: u64) -> bool {
        bytes.cast_signed() <= self.memory_left
    }

    /// Whether so many bytes fit into the part of the budget that such a message may use.
    #[cold]
    pub fn fits_as(&self, bytes: u64, is_reply: bool) -> bool {
        let allowed = if is_reply { self.memory_max } else { ordinary_memory(self.memory_max) };
        self.memory_bytes() + bytes <= allowed
    }

    /// Counts deliveries that are pending without an envelope of their own here.
    #[inline(always)]
    pub fn count_outside(&mut self, deliveries: i64) {
        self.outside += deliveries;
    }

    /// Returns the number of deliveries that are pending without an envelope of their own here, less kept notices.
    pub fn outside(&self) -> i64 {
        self.outside
    }

    /// Returns the number of pending deliveries, counted where they are and not from other totals.
    pub fn pending(&self) -> u64 {
        let pending = i64::try_from(self.slab.len()).unwrap_or(i64::MAX) + self.outside;
        debug_assert!(pending >= 0, "there are {pending} pending messages");
        u64::try_from(pending).unwrap_or(0)
    }

    /// Returns the number of places that are taken.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// All places have numbers below this one.
    pub fn places(&self) -> u32 {
        self.slab.places()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Envelope)> {
        self.slab.iter()
    }
}
