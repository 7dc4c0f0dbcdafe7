//! The rings between all pairs of shards, and the credits that keep them from filling up with messages.
//!
//! This is the *cross* stage as seen from a shard: its [`Port`] sends to and receives from every other shard. A turn of
//! a shard receives what has arrived, does its work, and ends with one [`flush`](Port::flush), which makes everything
//! sent in the turn visible with one store per destination and returns the shards whose doorbell to ring.
//!
//! # Credits
//!
//! For each ordered pair of shards, the sender starts with a fixed number of credits. A message takes one, and the
//! receiver returns it once the message has a place: a mailbox, a stall list, or a refusal. Notices and outcomes travel
//! in the same ring and the same order without a credit, in slots reserved for them.
//!
//! A message in transit through a shard keeps the credit it arrived with until it has one for its next ring. To keep
//! rings full of such messages from waiting for each other in a circle, messages on their first ring leave a reserve of
//! credits untouched: a message on its last ring always finds its place or is refused, so the reserve always comes
//! back.
//!
//! # Invariants
//!
//! - A credit is room: a ring has `credits + uncredited` slots, of which items without a credit never hold more than
//!   `uncredited`, so [`send`](Port::send) succeeds whenever [`credits`](Port::credits) is not zero.
//! - `returned <= received <= sent` for each pair: a receiver cannot return what it did not receive, and a sender never
//!   has more credits than it started with.
//! - Two shards never wait for each other. [`receive`](Port::receive) needs nothing from the outgoing rings, so a shard
//!   whose outgoing rings are all full still empties its incoming ones, which the shards at the other ends may be
//!   waiting for. Returning a credit is a store to a counter, which takes no room anywhere. A wait for room is thus a
//!   wait for the other shard's next turn, never for work of this shard.
//! - No lost wake-up after a refusal: a sender that found neither credit nor room, even when it looked again after
//!   arming its doorbell, is named by the receiver's next flush that makes some. Parked shards are woken for it; shards
//!   that wait for nothing stay asleep.
//! - Everything in a ring belongs to exactly one shard, and every counter has a single writer.

pub mod doorbell;
pub mod ring;

use std::{
    collections::VecDeque,
    fmt,
    mem::MaybeUninit,
    num::{NonZeroU16, NonZeroUsize},
};

use crossbeam::utils::CachePadded;

use crate::mesh::ring::{
    Consumer, Popped, Producer, ring,
    sync::{Arc, AtomicBool, AtomicUsize, Ordering, fence},
};
use crate::planted::{self, Bug};

/// Capacity of the ring from one shard to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneCapacity {
    /// Maximum number of messages on their way from one shard to another, up to their place in a mailbox.
    pub credits: NonZeroUsize,
    /// Number of slots for notices and outcomes, which travel without a credit.
    pub uncredited: NonZeroUsize,
}

impl LaneCapacity {
    /// Returns the number of slots of the ring.
    ///
    /// # Panics
    ///
    /// If the sum does not fit into a `usize`.
    pub fn slots(self) -> NonZeroUsize {
        self.credits.checked_add(self.uncredited.get()).expect("a ring cannot have more slots than there are addresses")
    }

    /// Returns the size in bytes of the slots of a mesh of items `T`, with one ring for each ordered pair of shards:
    /// `shards * (shards - 1) * slots * size_of::<T>()`.
    ///
    /// It grows with the square of the number of shards. At 384 bytes and 1,088 slots, a pair of rings takes 0.8 MiB,
    /// eight shards take 22 MiB and 64 shards take 1.6 GiB; larger machines should give each pair fewer slots. Slots
    /// take up memory only once they have been used.
    pub fn mesh_bytes<T>(self, shards: NonZeroU16) -> usize {
        let shards = usize::from(shards.get());
        (shards * (shards - 1)).saturating_mul(self.slots().get()).saturating_mul(size_of::<T>())
    }
}

/// Creates the rings between `shards` shards and returns one port for each, in index order.
pub fn mesh<T: Send>(shards: NonZeroU16, capacity: LaneCapacity) -> Vec<Port<T>> {
    let count = usize::from(shards.get());
    let mut ports: Vec<Port<T>> = (0..count).map(|index| Port::unconnected(index, count)).collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (outgoing, incoming) = lane(capacity);
            ports[from].outgoing[to] = Some(outgoing);
            ports[to].incoming[from] = Some(incoming);
        }
    }
    ports
}

/// One shard's end of the mesh: a ring to and a ring from every other shard.
///
/// Methods that take a shard panic if it does not exist or is the port's own, because messages to the own shard do not
/// use the mesh. Queries return zero for the own shard instead, so that a loop over all shards needs no special case.
pub struct Port<T> {
    index: usize,
    /// By destination; `None` only at the own index.
    outgoing: Vec<Option<Outgoing<T>>>,
    /// By origin; `None` only at the own index.
    incoming: Vec<Option<Incoming<T>>>,
    /// The shards returned by the last flush; kept for its allocation.
    to_ring: Vec<usize>,
}

impl<T> Port<T> {
    /// Returns the index of the port's shard.
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the number of shards in the mesh, including this one.
    #[inline]
    pub fn shards(&self) -> usize {
        self.outgoing.len()
    }

    /// Returns a lower bound of the number of messages that can be sent to a shard now. It is zero only if none were
    /// returned at the time of the call, because the shared counter is read afresh if the known one leaves no credit.
    #[inline]
    pub fn credits(&mut self, to: usize) -> usize {
        self.outgoing[to].as_mut().map_or(0, Outgoing::credits)
    }

    /// Whether a message on its first ring can be sent to a shard now, that is, whether there is a credit beyond the
    /// reserve. A false result counts as a refusal: the receiver's shard rings this shard's doorbell once it has
    /// returned a credit.
    #[inline]
    pub fn has_credit(&mut self, to: usize) -> bool {
        self.outgoing[to].as_mut().is_some_and(|lane| lane.has_credit(lane.reserve))
    }

    /// Like [`has_credit`](Self::has_credit), but for a message in transit from another shard, which may use the
    /// reserve.
    #[inline]
    pub fn has_transit_credit(&mut self, to: usize) -> bool {
        self.outgoing[to].as_mut().is_some_and(|lane| lane.has_credit(0))
    }

    /// Whether the shard at the other end is gone, so that items sent to it will not be received.
    pub fn is_abandoned(&self, to: usize) -> bool {
        self.outgoing[to].as_ref().is_some_and(|lane| lane.producer.is_abandoned())
    }

    /// Returns the number of items in the outgoing rings, published or not, that have not been received.
    ///
    /// The sum over all ports of a mesh at rest is what has departed but not arrived.
    pub fn in_flight(&self) -> usize {
        self.outgoing.iter().flatten().map(Outgoing::in_flight).sum()
    }

    /// Like [`in_flight`](Self::in_flight), for the ring to one shard.
    pub fn in_flight_to(&self, to: usize) -> usize {
        self.outgoing[to].as_ref().map_or(0, Outgoing::in_flight)
    }

    /// Returns the number of messages sent to a shard with a credit, since the start.
    pub fn sent_to(&self, to: usize) -> u64 {
        self.outgoing[to].as_ref().map_or(0, |lane| lane.sent as u64)
    }

    /// Returns the number of credits left for a shard, read afresh, and of all its credits.
    pub fn credits_of(&mut self, to: usize) -> (usize, usize) {
        self.outgoing[to].as_mut().map_or((0, 0), |lane| (lane.credits_beyond(lane.credits - 1), lane.credits))
    }

    /// Like [`in_flight`](Self::in_flight), but without uncredited items. For consistency checks: it looks at each
    /// uncredited item.
    pub fn messages_in_flight(&mut self) -> usize {
        self.outgoing.iter_mut().flatten().map(Outgoing::messages_in_flight).sum()
    }

    /// Returns the number of credits spent and not yet returned, over all shards: zero if nothing is in flight.
    pub fn credits_out(&mut self) -> usize {
        (0..self.shards()).map(|to| self.credits_out_to(to)).sum()
    }

    /// Returns the number of credits spent on a shard that its last flush did not return.
    pub fn credits_out_to(&mut self, to: usize) -> usize {
        self.outgoing[to].as_mut().map_or(0, |lane| lane.credits - lane.credits_beyond(lane.credits - 1))
    }

    /// Like [`messages_in_flight`](Self::messages_in_flight), for the ring to one shard.
    pub fn messages_in_flight_to(&mut self, to: usize) -> usize {
        self.outgoing[to].as_mut().map_or(0, Outgoing::messages_in_flight)
    }

    /// Returns the number of a shard's credits returned since the last flush, which the shard cannot see yet.
    pub fn credits_unflushed(&self, from: usize) -> usize {
        self.incoming[from].as_ref().map_or(0, |lane| lane.returned - lane.returned_published)
    }

    /// Whether an item can be received from any shard. Check it again after arming the doorbell, together with
    /// [`has_awaited_room`](Self::has_awaited_room).
    pub fn has_incoming(&mut self) -> bool {
        self.incoming.iter_mut().flatten().any(|lane| !lane.consumer.is_empty())
    }

    /// Whether there is now credit or room at a shard that refused an item. Check it again after arming the doorbell.
    ///
    /// Returns true once for each refusal, so a shard that has since dropped the refused item can still park.
    pub fn has_awaited_room(&mut self) -> bool {
        let mut found = false;
        // No early exit: each lane's wait is cleared, so that one true result stands for all of them.
        for lane in self.outgoing.iter_mut().flatten() {
            found |= lane.has_awaited_room();
        }
        found
    }

    /// Writes a message into the ring to a shard, for one credit. The next [`flush`](Self::flush) makes it visible.
    ///
    /// # Errors
    ///
    /// Returns the message if no credit is left. The receiver's shard then rings this shard's doorbell once it has
    /// returned one.
    #[inline]
    pub fn send(&mut self, to: usize, message: T) -> Result<(), T> {
        self.outgoing_to(to).send(message)
    }

    /// Like [`send`](Self::send), but constructs the message in its slot, as in [`Producer::push_in_place`]. Returns
    /// whether there was a credit; if not, `fill` was not called.
    #[inline]
    pub fn send_in_place(
        &mut self,
        to: usize,
        fill: impl for<'slot> FnOnce(&'slot mut MaybeUninit<T>) -> &'slot mut T,
    ) -> bool {
        let lane = self.outgoing_to(to);
        let sent = lane.has_credit(0) && lane.producer.push_in_place(fill);
        if sent {
            lane.sent += 1;
            lane.awaits_credit = false;
        }
        sent
    }

    /// Writes a notice or an outcome into the ring to a shard, without a credit. The next [`flush`](Self::flush) makes
    /// it visible, and it arrives in order with the messages.
    ///
    /// # Errors
    ///
    /// Returns the item if all slots for uncredited items are taken. The receiver's shard then rings this shard's
    /// doorbell once it has emptied one. The item must keep its credit or its place in the mailbox until then.
    #[inline]
    pub fn send_uncredited(&mut self, to: usize, item: T) -> Result<(), T> {
        self.outgoing_to(to).send_uncredited(item)
    }

    /// Receives up to `max` items from a shard, oldest first, and returns their number.
    #[inline]
    pub fn receive(&mut self, from: usize, max: usize, accept: impl FnMut(T)) -> usize {
        let Some(lane) = self.incoming[from].as_mut() else { return 0 };
        let count = lane.consumer.drain_chunk(max, accept);
        lane.made_room |= count > 0;
        count
    }

    /// Receives the oldest item from a shard, as in [`Consumer::pop_or_copy`]. [`release`](Self::release) frees its
    /// slot, once for many items.
    #[inline]
    pub fn take_or_copy<R>(&mut self, from: usize, copy: impl FnOnce(&T) -> Option<R>) -> Option<Popped<R, T>> {
        self.incoming[from].as_mut()?.consumer.pop_or_copy(copy)
    }

    /// Frees the slots of all items received from a shard, with one store.
    #[inline]
    pub fn release(&mut self, from: usize) {
        let Some(lane) = self.incoming[from].as_mut() else { return };
        lane.made_room |= lane.consumer.unreleased() > 0;
        lane.consumer.release();
    }

    /// Records that `count` messages from a shard have found their place. The next [`flush`](Self::flush) returns their
    /// credits.
    #[inline]
    pub fn return_credits(&mut self, from: usize, count: usize) {
        let index = self.index;
        let Some(lane) = self.incoming[from].as_mut() else { panic!("shard {index} took a credit from itself") };
        lane.returned += count;
        debug_assert!(
            lane.returned <= lane.consumer.popped(),
            "shard {index} returned more credits to shard {from} than it received messages"
        );
    }

    /// Makes everything sent visible and returns credits, with one store per ring. Returns the shards whose doorbell to
    /// ring now: those with something new to receive, and those that waited for credit or room.
    #[inline]
    pub fn flush(&mut self) -> &[usize] {
        self.to_ring.clear();
        let mut made_room = false;
        for lane in self.incoming.iter_mut().flatten() {
            made_room |= lane.return_credits();
        }
        if made_room {
            // Pairs with the fence in `Outgoing::waits` and the one in the doorbell: either a refused sender sees the
            // room when it looks again, or its flag is seen here.
            fence(Ordering::SeqCst);
        }
        for shard in 0..self.outgoing.len() {
            let published = self.outgoing[shard].as_mut().is_some_and(|lane| lane.producer.publish() > 0);
            let awaited = made_room && self.incoming[shard].as_mut().is_some_and(Incoming::is_awaited);
            let awaited = awaited && !planted::is(Bug::WakeUpLost);
            if published || awaited {
                self.to_ring.push(shard);
            }
        }
        &self.to_ring
    }

    fn unconnected(index: usize, shards: usize) -> Self {
        Self {
            index,
            outgoing: (0..shards).map(|_| None).collect(),
            incoming: (0..shards).map(|_| None).collect(),
            to_ring: Vec::with_capacity(shards),
        }
    }

    #[inline]
    fn outgoing_to(&mut self, to: usize) -> &mut Outgoing<T> {
        let index = self.index;
        self.outgoing[to].as_mut().unwrap_or_else(|| panic!("shard {index} sent to itself through the mesh"))
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Port")
            .field("index", &self.index)
            .field("shards", &self.shards())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// Creates the two ends of the lane from one shard to another.
fn lane<T: Send>(capacity: LaneCapacity) -> (Outgoing<T>, Incoming<T>) {
    let (producer, consumer) = ring(capacity.slots());
    let feedback = Arc::new(Feedback {
        returned: CachePadded::new(AtomicUsize::new(0)),
        sender_waits: CachePadded::new(AtomicBool::new(false)),
    });
    let outgoing = Outgoing {
        producer,
        feedback: Arc::clone(&feedback),
        credits: capacity.credits.get(),
        reserve: reserve_of(capacity.credits),
        sent: 0,
        returned_seen: 0,
        uncredited: VecDeque::with_capacity(capacity.uncredited.get()),
        uncredited_max: capacity.uncredited.get(),
        awaits_credit: false,
        awaits_beyond: 0,
        awaits_room: false,
    };
    let incoming = Incoming { consumer, feedback, returned: 0, returned_published: 0, made_room: false };
    (outgoing, incoming)
}

/// Returns the credits of a lane reserved for messages in transit: an eighth. A lane with a single credit reserves
/// none.
fn reserve_of(credits: NonZeroUsize) -> usize {
    if credits.get() == 1 { 0 } else { (credits.get() / 8).max(1) }
}

/// What the receiver of a lane reports to its sender, besides the ring's own index.
struct Feedback {
    /// The number of credits returned since the start; written by the receiver only.
    returned: CachePadded<AtomicUsize>,
    /// Whether the sender was refused and wants its doorbell rung; set by the sender, cleared by the receiver.
    sender_waits: CachePadded<AtomicBool>,
}

/// The sending end of a lane.
struct Outgoing<T> {
    producer: Producer<T>,
    feedback: Arc<Feedback>,
    /// The initial number of credits.
    credits: usize,
    /// The credits that messages on their first ring leave untouched.
    reserve: usize,
    /// The number of messages sent with a credit since the start.
    sent: usize,
    returned_seen: usize,
    /// Positions in the ring of the uncredited items that may still be in it, oldest first. The ring's index shows how
    /// many slots were freed but not which, so this is how their number is known.
    uncredited: VecDeque<usize>,
    uncredited_max: usize,
    /// Whether a message was refused for want of a credit and none was sent since.
    awaits_credit: bool,
    /// The number of credits that the refused message may not use.
    awaits_beyond: usize,
    /// Whether an item was refused for want of an uncredited slot and none was sent since.
    awaits_room: bool,
}

impl<T> Outgoing<T> {
    #[inline]
    fn credits(&mut self) -> usize {
        self.credits_beyond(0)
    }

    /// Returns the number of credits, read afresh unless more than `beyond` are known.
    #[inline]
    fn credits_beyond(&mut self, beyond: usize) -> usize {
        let known = self.known_credits();
        if known > beyond {
            return known;
        }
        self.returned_seen = self.feedback.returned.load(Ordering::Acquire);
        debug_assert!(self.returned_seen <= self.sent, "more credits came back than were spent");
        self.known_credits()
    }

    #[inline]
    fn known_credits(&self) -> usize {
        self.credits - (self.sent - self.returned_seen)
    }

    #[inline]
    fn in_flight(&self) -> usize {
        self.producer.in_flight() + self.producer.unpublished()
    }

    fn messages_in_flight(&mut self) -> usize {
        let released = self.producer.released();
        let uncredited = self.uncredited.iter().filter(|position| **position >= released).count();
        self.producer.pushed() - released - uncredited
    }

    #[inline]
    fn has_credit(&mut self, beyond: usize) -> bool {
        self.credits_beyond(beyond) > beyond || self.await_credit(beyond)
    }

    /// Requests a ring of this shard's doorbell once there are more than `beyond` credits. Returns whether there
    /// already are.
    #[cold]
    fn await_credit(&mut self, beyond: usize) -> bool {
        self.awaits_beyond = if self.awaits_credit { self.awaits_beyond.min(beyond) } else { beyond };
        self.awaits_credit = true;
        self.waits();
        // The receiver may have returned some before it could see the flag.
        self.credits_beyond(beyond) > beyond
    }

    #[inline]
    fn send(&mut self, message: T) -> Result<(), T> {
        if !self.has_credit(0) {
            return Err(message);
        }
        let pushed = self.producer.push(message);
        debug_assert!(pushed.is_ok(), "a credit guarantees room in the ring");
        pushed?;
        self.sent += 1;
        self.awaits_credit = false;
        Ok(())
    }

    #[inline]
    fn send_uncredited(&mut self, item: T) -> Result<(), T> {
        if !self.has_uncredited_room() {
            self.awaits_room = true;
            self.waits();
            // The receiver may have emptied some before it could see the flag.
            if !self.has_uncredited_room() {
                return Err(item);
            }
        }
        let position = self.producer.pushed();
        let pushed = self.producer.push(item);
        debug_assert!(pushed.is_ok(), "uncredited items have slots of their own");
        pushed?;
        self.uncredited.push_back(position);
        self.awaits_room = false;
        Ok(())
    }

    #[inline]
    fn has_uncredited_room(&mut self) -> bool {
        if self.uncredited.len() == self.uncredited_max {
            let released = self.producer.released();
            while self.uncredited.front().is_some_and(|position| *position < released) {
                self.uncredited.pop_front();
            }
        }
        self.uncredited.len() < self.uncredited_max
    }

    fn has_awaited_room(&mut self) -> bool {
        if self.sees_awaited_room() {
            return true;
        }
        if !(self.awaits_credit || self.awaits_room) || self.feedback.sender_waits.load(Ordering::Relaxed) {
            return false;
        }
        // The receiver has cleared the flag for room that has been used since, and will not ring again without it.
        self.waits();
        self.sees_awaited_room()
    }

    fn sees_awaited_room(&mut self) -> bool {
        let beyond = self.awaits_beyond;
        let credit = self.awaits_credit && self.credits_beyond(beyond) > beyond;
        let room = self.awaits_room && self.has_uncredited_room();
        self.awaits_credit &= !credit;
        self.awaits_room &= !room;
        credit || room
    }

    /// Asks the receiver to ring this shard's doorbell once there is more credit or room.
    #[cold]
    fn waits(&self) {
        self.feedback.sender_waits.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `flush`: either the receiver sees the flag after it has made room, or the check that
        // follows sees the room.
        fence(Ordering::SeqCst);
    }
}

/// The receiving end of a lane.
struct Incoming<T> {
    consumer: Consumer<T>,
    feedback: Arc<Feedback>,
    /// The credits returned since the start, including those that the sender cannot see yet.
    returned: usize,
    returned_published: usize,
    /// Whether the ring has gained slots or the sender credits since the last flush.
    made_room: bool,
}

impl<T> Incoming<T> {
    /// Makes the returned credits visible to the sender. Returns whether the sender has gained anything since the last
    /// flush.
    ///
    /// The ring's slots were released earlier, when the items were received, so a sender that sees the credit also sees
    /// the room.
    #[inline]
    fn return_credits(&mut self) -> bool {
        if self.returned != self.returned_published {
            self.feedback.returned.store(self.returned, Ordering::Release);
            self.returned_published = self.returned;
            self.made_room = true;
        }
        self.made_room
    }

    /// Whether the sender waits for what was gained since the last flush. Returns true once for each wait.
    #[inline]
    fn is_awaited(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
            && self.feedback.sender_waits.load(Ordering::Relaxed)
            && self.feedback.sender_waits.swap(false, Ordering::AcqRel)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
