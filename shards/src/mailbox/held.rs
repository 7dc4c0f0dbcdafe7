//! The messages held by a shard, and their accounting: against its memory budget, and as pending deliveries.
//!
//! Invariants: a message counts against the memory budget from when a mailbox accepts it, or it begins to wait in
//! transit, until it is settled or leaves; replies may use the whole budget, other messages all of it but the reserve.

use crate::base::slab::Slab;
use crate::mailbox::Envelope;

/// The share of a shard's memory budget reserved for replies and notices: one part in this many.
pub const MEMORY_RESERVE_FRACTION: u64 = 8;

/// Returns the part of a shard's memory budget available to messages other than replies, in bytes.
pub(crate) const fn ordinary_memory(limit: u64) -> u64 {
    limit - limit / MEMORY_RESERVE_FRACTION
}

/// The messages held by a shard.
#[derive(Debug)]
pub(crate) struct Held {
    pub(in crate::mailbox) slab: Slab<Envelope>,
    memory_max: u64,
    /// What mailboxes and waiting messages leave of the budget for messages other than replies, in bytes.
    memory_left: i64,
    /// Pending deliveries without their own envelope in the slab, minus notices that have one.
    outside: i64,
}

impl Held {
    /// Creates a store for up to `messages_max` messages and `memory_max` bytes.
    pub fn new(messages_max: usize, memory_max: u64) -> Self {
        let memory_left = ordinary_memory(memory_max).cast_signed();
        Self { slab: Slab::new(messages_max), memory_max, memory_left, outside: 0 }
    }

    /// Stores a message held by a mailbox, or a notice. Returns it if all places are taken.
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

    /// Removes a message that was [inserted](Self::insert).
    #[inline(always)]
    pub fn remove(&mut self, place: u32) -> Option<Envelope> {
        self.slab.remove(place)
    }

    /// Stores a message waiting in transit, with all its deliveries, and charges its weight.
    pub fn park(&mut self, envelope: Envelope) -> Result<u32, Envelope> {
        let (weight, more) = (envelope.weight(), envelope.more_than_one());
        let place = self.slab.insert(envelope)?;
        self.charge(weight);
        self.outside += more;
        Ok(place)
    }

    /// Removes a message that was [parked](Self::park).
    pub fn unpark(&mut self, place: u32) -> Option<Envelope> {
        let envelope = self.slab.remove(place)?;
        self.discharge(envelope.weight());
        self.outside -= envelope.more_than_one();
        Some(envelope)
    }

    /// Removes any message because the shard stops, without its weight: see [`Self::reset_memory`].
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

    /// Credits a message's weight to the memory budget.
    #[inline(always)]
    pub fn discharge(&mut self, weight: u32) {
        self.memory_left += i64::from(weight);
    }

    /// Credits the bytes of a whole mailbox to the memory budget.
    pub fn discharge_mailbox(&mut self, bytes: u64) {
        self.memory_left += bytes.cast_signed();
    }

    /// Sets the charged bytes.
    pub fn reset_memory(&mut self, bytes: u64) {
        self.memory_left = ordinary_memory(self.memory_max).cast_signed() - bytes.cast_signed();
    }

    /// Returns the bytes held by mailboxes and waiting in transit.
    pub fn memory_bytes(&self) -> u64 {
        (ordinary_memory(self.memory_max).cast_signed() - self.memory_left).cast_unsigned()
    }

    /// Whether this many bytes fit into the part of the budget available to every message.
    #[inline(always)]
    pub fn fits(&self, bytes: u64) -> bool {
        bytes.cast_signed() <= self.memory_left
    }

    /// Whether this many bytes fit into the part of the budget available to such a message.
    #[cold]
    pub fn fits_as(&self, bytes: u64, is_reply: bool) -> bool {
        let allowed = if is_reply { self.memory_max } else { ordinary_memory(self.memory_max) };
        self.memory_bytes() + bytes <= allowed
    }

    /// Counts pending deliveries without their own envelope here.
    #[inline(always)]
    pub fn count_outside(&mut self, deliveries: i64) {
        self.outside += deliveries;
    }

    /// Returns the number of pending deliveries without their own envelope here, minus kept notices.
    pub fn outside(&self) -> i64 {
        self.outside
    }

    /// Returns the number of pending deliveries, counted where they are and not from other totals.
    pub fn pending(&self) -> u64 {
        let pending = i64::try_from(self.slab.len()).unwrap_or(i64::MAX) + self.outside;
        debug_assert!(pending >= 0, "there are {pending} pending messages");
        u64::try_from(pending).unwrap_or(0)
    }

    /// Returns the number of occupied places.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns an exclusive upper bound of all place numbers.
    pub fn places(&self) -> u32 {
        self.slab.places()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Envelope)> {
        self.slab.iter()
    }
}
