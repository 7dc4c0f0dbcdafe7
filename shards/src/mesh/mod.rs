//! The rings between all pairs of shards, with the credits that keep them from ever filling up with messages.
//!
//! This is the *cross* stage seen from a shard: its [`Port`] sends to and receives from every other shard. A turn of a
//! shard receives what has come in, works, and ends with one [`flush`](Port::flush), which makes everything that the
//! turn sent visible with one store per destination and names the shards whose doorbell is to be rung.
//!
//! # Credits
//!
//! For each ordered pair of shards, the sender starts with a fixed number of credits. A message takes one, and the
//! receiver gives it back when it has found the message a place: a mailbox, a stall list, or a refusal. Notices and
//! outcomes travel in the same ring and the same order without a credit, in slots reserved for them.
//!
//! A message that only passes through a shard keeps the credit it came with until it has one for its next ring. So that
//! rings full of such messages never wait for each other in a circle, messages on their first ring leave a reserve of
//! credits alone: a message on its last ring always finds its place or is refused, hence the reserve always comes back.
//!
//! # Invariants
//!
//! - A credit is room: a ring has `credits + uncredited` slots, of which items without a credit never hold more than
//!   `uncredited`, so [`send`](Port::send) succeeds whenever [`credits`](Port::credits) is not zero.
//! - `returned <= received <= sent` for each pair: a receiver cannot return what it did not receive, and a sender never
//!   has more credits than it started with.
//! - Two shards never wait for each other. [`receive`](Port::receive) needs nothing from the outgoing rings, so a shard
//!   with every outgoing ring full still empties its incoming ones, which is what the shards at their other ends may
//!   be waiting for; and returning a credit is a store to a counter, which takes no room anywhere. Any wait for room is
//!   thus a wait for the other shard's next turn and not for anything that this shard has yet to do.
//! - Whoever was refused is told: a sender that found neither credit nor room, and has looked again after arming its
//!   doorbell, is named by the receiver's next flush after it has made some, so a parked shard is woken for it, and shards
//!   that wait for nothing are left asleep.
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

/// How many items the ring from one shard to another can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneCapacity {
    /// The messages that may be under way from one shard to another, up to their place in a mailbox.
    pub credits: NonZeroUsize,
    /// The slots for notices and outcomes, which travel without a credit.
    pub uncredited: NonZeroUsize,
}

impl LaneCapacity {
    /// The number of slots of the ring.
    ///
    /// # Panics
    ///
    /// If the sum does not fit into a `usize`.
    pub fn slots(self) -> NonZeroUsize {
        self.credits.checked_add(self.uncredited.get()).expect("a ring cannot have more slots than there are addresses")
    }

    /// The bytes that the slots of a whole mesh of items `T` may take: one ring for each ordered pair of shards, so
    /// `shards * (shards - 1) * slots * size_of::<T>()`.
    ///
    /// It grows with the square of the shard count. At 384 bytes and 1,088 slots a pair of rings takes 0.8 MiB, eight
    /// shards take 22 MiB and 64 shards take 1.6 GiB, hence larger machines should give each pair fewer slots. Slots
    /// take up memory only once they have been used.
    pub fn mesh_bytes<T>(self, shards: NonZeroU16) -> usize {
        let shards = usize::from(shards.get());
        (shards * (shards - 1)).saturating_mul(self.slots().get()).saturating_mul(size_of::<T>())
    }
}

/// Makes the rings between `shards` shards and returns one port for each, in the order of their indices.
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

/// What one shard holds of the mesh: a ring to and a ring from every other shard.
///
/// Methods that name a shard panic when it is the port's own or does not exist, because a message to the own shard has
/// no business here; the queries answer zero for the own shard instead, so that a loop over all shards needs no
/// exception.
pub struct Port<T> {
    index: usize,
    /// By destination; `None` only at the own index.
    outgoing: Vec<Option<Outgoing<T>>>,
    /// By origin; `None` only at the own index.
    incoming: Vec<Option<Incoming<T>>>,
    /// The shards that the last flush found, kept for its allocation.
    to_ring: Vec<usize>,
}

impl<T> Port<T> {
    /// The index of the shard that this port belongs to.
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of shards in the mesh, this one included.
    #[inline]
    pub fn shards(&self) -> usize {
        self.outgoing.len()
    }

    /// How many messages can certainly be sent to a shard now. It is zero only when none were returned at the time of
    /// the call, because the shared counter is read afresh whenever the known one leaves no credit.
    #[inline]
    pub fn credits(&mut self, to: usize) -> usize {
        self.outgoing[to].as_mut().map_or(0, Outgoing::credits)
    }

    /// Whether a message can be sent on its first ring, to a shard, now: whether there is a credit beyond the reserve. A
    /// no counts as a refusal, so the receiver's shard rings this shard's doorbell once it has returned a credit.
    #[inline]
    pub fn has_credit(&mut self, to: usize) -> bool {
        self.outgoing[to].as_mut().is_some_and(|lane| lane.has_credit(lane.reserve))
    }

    /// As [`has_credit`](Self::has_credit), for a message that came from another shard: it may use the reserve.
    #[inline]
    pub fn has_transit_credit(&mut self, to: usize) -> bool {
        self.outgoing[to].as_mut().is_some_and(|lane| lane.has_credit(0))
    }

    /// Whether the shard at the other end is gone, so that nothing sent to it will be received.
    pub fn is_abandoned(&self, to: usize) -> bool {
        self.outgoing[to].as_ref().is_some_and(|lane| lane.producer.is_abandoned())
    }

    /// The number of items in the outgoing rings, published or not, that their receivers have not taken yet.
    ///
    /// The sum over all ports of a mesh at rest is what has departed but not arrived.
    pub fn in_flight(&self) -> usize {
        self.outgoing.iter().flatten().map(Outgoing::in_flight).sum()
    }

    /// As [`in_flight`](Self::in_flight), without the items that travel without a credit. For checking the account: it
    /// looks at each uncredited item.
    pub fn messages_in_flight(&mut self) -> usize {
        self.outgoing.iter_mut().flatten().map(Outgoing::messages_in_flight).sum()
    }

    /// The credits that were spent and have not come back, over all shards: zero when nothing is under way.
    pub fn credits_out(&mut self) -> usize {
        (0..self.shards()).map(|to| self.credits_out_to(to)).sum()
    }

    /// The credits that were spent on a shard and that its last flush did not show as returned.
    pub fn credits_out_to(&mut self, to: usize) -> usize {
        self.outgoing[to].as_mut().map_or(0, |lane| lane.credits - lane.credits_beyond(lane.credits - 1))
    }

    /// As [`messages_in_flight`](Self::messages_in_flight), of the ring to one shard.
    pub fn messages_in_flight_to(&mut self, to: usize) -> usize {
        self.outgoing[to].as_mut().map_or(0, Outgoing::messages_in_flight)
    }

    /// The credits of a shard that were noted as returned since the last flush, so that it cannot see them yet.
    pub fn credits_unflushed(&self, from: usize) -> usize {
        self.incoming[from].as_ref().map_or(0, |lane| lane.returned - lane.returned_published)
    }

    /// Whether an item can be received from any shard at the time of the call. To be asked again after arming the
    /// doorbell, together with [`has_awaited_room`](Self::has_awaited_room).
    pub fn has_incoming(&mut self) -> bool {
        self.incoming.iter_mut().flatten().any(|lane| !lane.consumer.is_empty())
    }

    /// Whether there is now credit or room at a shard that refused an item. To be asked again after arming the doorbell.
    ///
    /// It answers yes once for each refusal, so a shard that has dropped the refused item meanwhile can still park.
    pub fn has_awaited_room(&mut self) -> bool {
        let mut found = false;
        // Every lane is asked, so that one yes stands for all of them.
        for lane in self.outgoing.iter_mut().flatten() {
            found |= lane.has_awaited_room();
        }
        found
    }

    /// Writes a message into the ring to a shard, for one credit. The next [`flush`](Self::flush) makes it visible.
    ///
    /// # Errors
    ///
    /// Gives the message back when no credit is left. The receiver's shard then rings this shard's doorbell once it has
    /// returned one.
    #[inline]
    pub fn send(&mut self, to: usize, message: T) -> Result<(), T> {
        self.outgoing_to(to).send(message)
    }

    /// As [`send`](Self::send), for a message that is made where it stays, as [`Producer::push_in_place`] has it. Returns whether
    /// there was a credit; if not, `fill` was not called.
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
    /// Gives the item back when all slots for uncredited items are taken. The receiver's shard then rings this shard's
    /// doorbell once it has emptied one. The item must keep its credit or its place in the mailbox until then.
    #[inline]
    pub fn send_uncredited(&mut self, to: usize, item: T) -> Result<(), T> {
        self.outgoing_to(to).send_uncredited(item)
    }

    /// Takes up to `max` items from a shard, oldest first, and returns how many there were.
    #[inline]
    pub fn receive(&mut self, from: usize, max: usize, accept: impl FnMut(T)) -> usize {
        let Some(lane) = self.incoming[from].as_mut() else { return 0 };
        let count = lane.consumer.drain_chunk(max, accept);
        lane.made_room |= count > 0;
        count
    }

    /// Takes the oldest item from a shard, as [`Consumer::pop_or_copy`] has it. Its slot is handed back by
    /// [`release`](Self::release), once for many items.
    #[inline]
    pub fn take_or_copy<R>(&mut self, from: usize, copy: impl FnOnce(&T) -> Option<R>) -> Option<Popped<R, T>> {
        self.incoming[from].as_mut()?.consumer.pop_or_copy(copy)
    }

    /// Hands back the slots of all items that were taken from a shard, with one store.
    #[inline]
    pub fn release(&mut self, from: usize) {
        let Some(lane) = self.incoming[from].as_mut() else { return };
        lane.made_room |= lane.consumer.unreleased() > 0;
        lane.consumer.release();
    }

    /// Notes that `count` messages from a shard have found their place. The next [`flush`](Self::flush) returns their
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

    /// Makes everything sent visible and returns the credits, with one store per ring, and names each shard whose
    /// doorbell is to be rung now: those with something new to receive and those that waited for credit or room.
    #[inline]
    pub fn flush(&mut self) -> &[usize] {
        self.to_ring.clear();
        let mut made_room = false;
        for lane in self.incoming.iter_mut().flatten() {
            made_room |= lane.return_credits();
        }
        if made_room {
            // Pairs with the fence in `Outgoing::waits` and the one of the doorbell: a sender that was refused sees the
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

/// Makes the two ends of the way from one shard to another.
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

/// The credits of a lane that are kept for messages in transit: an eighth. A lane with a single credit has none to spare.
fn reserve_of(credits: NonZeroUsize) -> usize {
    if credits.get() == 1 { 0 } else { (credits.get() / 8).max(1) }
}

/// What goes back from the receiver of a lane to its sender beside the ring's own index.
struct Feedback {
    /// How many credits the receiver has returned since the start; written by the receiver only.
    returned: CachePadded<AtomicUsize>,
    /// Whether the sender was refused and wants its doorbell rung; raised by the sender, taken down by the receiver.
    sender_waits: CachePadded<AtomicBool>,
}

/// The sending end of a lane.
struct Outgoing<T> {
    producer: Producer<T>,
    feedback: Arc<Feedback>,
    /// The credits that the lane started with.
    credits: usize,
    /// Those of them that messages on their first ring leave alone.
    reserve: usize,
    /// The messages sent with a credit since the start.
    sent: usize,
    returned_seen: usize,
    /// The positions in the ring of the uncredited items that may still be in it, oldest first. The ring's own index
    /// tells how many slots came free but not whose, so this is how their number is known.
    uncredited: VecDeque<usize>,
    uncredited_max: usize,
    /// A message was refused for want of a credit and none was sent since.
    awaits_credit: bool,
    /// How many credits are of no use to whoever was refused.
    awaits_beyond: usize,
    /// An item was refused for want of an uncredited slot and none was sent since.
    awaits_room: bool,
}

impl<T> Outgoing<T> {
    #[inline]
    fn credits(&mut self) -> usize {
        self.credits_beyond(0)
    }

    /// How many credits there are, read afresh unless more than `beyond` are known of.
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

    /// Has this shard's doorbell rung once there are more than `beyond` credits, unless there are by now.
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
        // The receiver has taken the flag down for room that was in use by then, and will not ring for what comes next.
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

    /// Asks the receiver to have this shard's doorbell rung once there is more credit or room.
    #[cold]
    fn waits(&self) {
        self.feedback.sender_waits.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `flush`: the receiver sees the flag after it has made room, or the look at the
        // counters that follows this sees the room.
        fence(Ordering::SeqCst);
    }
}

/// The receiving end of a lane.
struct Incoming<T> {
    consumer: Consumer<T>,
    feedback: Arc<Feedback>,
    /// The credits returned since the start, those included that the sender cannot see yet.
    returned: usize,
    returned_published: usize,
    /// Whether the ring has slots or the sender has credits that it had not at the last flush.
    made_room: bool,
}

impl<T> Incoming<T> {
    /// Makes the returned credits visible to the sender, and tells whether it has gained anything since the last flush.
    ///
    /// The ring's slots were released before, when the items were received, so whoever sees the credit sees the room.
    #[inline]
    fn return_credits(&mut self) -> bool {
        if self.returned != self.returned_published {
            self.feedback.returned.store(self.returned, Ordering::Release);
            self.returned_published = self.returned;
            self.made_room = true;
        }
        self.made_room
    }

    /// Whether the sender waits for what was gained since the last flush; answers yes only once for each wait.
    #[inline]
    fn is_awaited(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
            && self.feedback.sender_waits.load(Ordering::Relaxed)
            && self.feedback.sender_waits.swap(false, Ordering::AcqRel)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
