//! The links to other shards: sending and receiving, what waits for credit or room, and held credits.
//!
//! Invariants: a message is sent only with a credit, and from then on the credit that it arrived with is owed back;
//! posts reach the other shard in order; a notice holds its message's reservation until there is room for it in the
//! ring.

use std::collections::VecDeque;

use crate::base::index::{AgentIndex, ShardIndex};
use crate::mailbox::{Envelope, PackedMessage, Reservation};
use crate::mesh::Port;
use crate::mesh::ring::Popped;
use crate::message::BodyPool;
use crate::shard::details::LaneFigures;
use crate::shard::shard_frame::{Control, ShardFrame};

/// While this many posts wait for one shard, conversations do not time out, because that would have to be announced
/// too: their ends thereby add no more than the participants of one conversation.
pub const OUTGOING_WAITING_MAX: usize = 4_096;

/// The links to other shards.
pub(in crate::shard) struct Links {
    port: Port<ShardFrame>,
    body_pool: BodyPool,
    /// Credits to be returned at the end of the turn, by shard.
    credits_owed: Vec<usize>,
    /// Agents whose outbox waits for credit, by the shard that has none. The own entry holds unfinished fan-outs.
    blocked: Vec<VecDeque<AgentIndex>>,
    /// Messages in transit to another shard, by that shard. They hold the credit that they arrived with.
    transit: Vec<VecDeque<u32>>,
    /// Whether a sweep timer for messages in transit is armed, by shard.
    transit_swept: Vec<bool>,
    /// Posts waiting for room, by shard.
    outgoing: Vec<VecDeque<Outgoing>>,
}

/// A post that is sent as soon as the ring has room.
enum Outgoing {
    Notice(Box<Envelope>, Reservation),
    Control(Control),
}

/// What arrived from another shard.
pub(in crate::shard) enum Incoming {
    Message(Envelope),
    Control(Control),
}

impl Links {
    pub fn new(port: Port<ShardFrame>) -> Self {
        let shards = port.shards();
        Self {
            port,
            body_pool: BodyPool::default(),
            credits_owed: vec![0; shards],
            blocked: (0..shards).map(|_| VecDeque::new()).collect(),
            transit: (0..shards).map(|_| VecDeque::new()).collect(),
            transit_swept: vec![false; shards],
            outgoing: (0..shards).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Returns the number of shards, including this one.
    pub fn shards(&self) -> usize {
        self.port.shards()
    }

    /// Returns all shards, including this one.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // There are at most 1024 shards.
    pub fn all(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.port.shards() as u16).map(ShardIndex)
    }

    /// Returns all other shards.
    #[inline]
    pub fn others(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        let own = self.port.index();
        self.all().filter(move |shard| shard.as_usize() != own)
    }

    // Messages.

    /// Whether a message can be sent to a shard now. If not, this shard is woken once one can.
    #[inline(always)]
    pub fn has_credit(&mut self, to: ShardIndex) -> bool {
        self.port.has_credit(to.as_usize())
    }

    /// Sends a message. Returns it if there is no credit for it.
    #[inline(always)]
    pub fn send(&mut self, envelope: Envelope, to: ShardIndex) -> Result<(), Envelope> {
        let owed = envelope.credit_of;
        if self.port.credits(to.as_usize()) == 0 {
            return Err(envelope);
        }
        let sent = if let Some(plain) = envelope.message.plain() {
            let sent = self.port.send_in_place(to.as_usize(), |slot| ShardFrame::copy_in(plain, slot));
            envelope.message.spare(&mut self.body_pool);
            sent
        } else {
            self.port.send(to.as_usize(), ShardFrame::Message(PackedMessage::pack(envelope))).is_ok()
        };
        debug_assert!(sent, "a credit guarantees room in the ring");
        if let Some(from) = owed {
            self.owe(from);
        }
        Ok(())
    }

    /// Takes the next item from a shard.
    #[inline(always)]
    pub fn take(&mut self, from: ShardIndex) -> Option<Incoming> {
        match self.port.take_or_copy(from.as_usize(), |frame| frame.copy_out(&mut self.body_pool))? {
            Popped::Copied(envelope) => Some(Incoming::Message(envelope)),
            Popped::Moved(ShardFrame::Message(packed)) => Some(Incoming::Message(packed.unpack())),
            Popped::Moved(ShardFrame::Control(control)) => Some(Incoming::Control(control)),
        }
    }

    /// Frees the ring slots of what was taken from a shard.
    #[inline]
    pub fn release_taken(&mut self, from: ShardIndex) {
        self.port.release(from.as_usize());
    }

    /// Owes a credit to a shard, until the end of the turn.
    #[inline(always)]
    pub fn owe(&mut self, to: ShardIndex) {
        self.credits_owed[to.as_usize()] += 1;
    }

    /// Returns the owed credits.
    pub fn return_credits(&mut self) {
        for (to, owed) in self.credits_owed.iter_mut().enumerate() {
            if *owed > 0 {
                self.port.return_credits(to, *owed);
                *owed = 0;
            }
        }
    }

    // Waiting for credit.

    /// Makes an agent's outbox wait for credit of a shard, instead of the one it has waited for `before`. An agent
    /// waits for at most one shard, and once.
    pub fn block(&mut self, agent: AgentIndex, shard: ShardIndex, before: Option<ShardIndex>) {
        if before == Some(shard) {
            return;
        }
        if let Some(other) = before {
            // What waited there has expired since, and what follows goes elsewhere.
            self.blocked[other.as_usize()].retain(|waiting| *waiting != agent);
        }
        self.blocked[shard.as_usize()].push_back(agent);
    }

    /// Returns the number of agents whose outboxes wait for a shard.
    pub fn blocked_at(&self, shard: ShardIndex) -> usize {
        self.blocked[shard.as_usize()].len()
    }

    /// Takes the first agent whose outbox can continue. Unfinished fan-outs need no credit.
    pub fn unblock(&mut self, shard: ShardIndex) -> Option<AgentIndex> {
        let needs_credit = shard.as_usize() != self.port.index();
        if needs_credit && !self.has_credit(shard) {
            return None;
        }
        self.blocked[shard.as_usize()].pop_front()
    }

    /// Whether a fan-out is unfinished.
    pub fn has_fan_outs(&self) -> bool {
        !self.blocked[self.port.index()].is_empty()
    }

    /// Whether a message in transit can be sent to a shard without waiting behind others.
    pub fn can_relay(&mut self, to: ShardIndex) -> bool {
        self.transit[to.as_usize()].is_empty() && self.port.has_transit_credit(to.as_usize())
    }

    /// Makes a message in transit to a shard wait.
    pub fn hold_in_transit(&mut self, to: ShardIndex, place: u32) {
        self.transit[to.as_usize()].push_back(place);
    }

    /// Takes the first message in transit that can be sent to a shard.
    pub fn next_in_transit(&mut self, to: ShardIndex) -> Option<u32> {
        let waiting = &mut self.transit[to.as_usize()];
        if waiting.is_empty() || !self.port.has_transit_credit(to.as_usize()) {
            return None;
        }
        waiting.pop_front()
    }

    /// Takes the messages in transit to a shard that satisfy `leave`, in order.
    pub fn extract_transit(&mut self, to: ShardIndex, mut leave: impl FnMut(u32) -> bool) -> Vec<u32> {
        let mut left = Vec::new();
        self.transit[to.as_usize()].retain(|place| {
            let leaves = leave(*place);
            if leaves {
                left.push(*place);
            }
            !leaves
        });
        left
    }

    /// Whether messages in transit to a shard wait.
    pub fn has_transit(&self, to: ShardIndex) -> bool {
        !self.transit[to.as_usize()].is_empty()
    }

    /// Returns every waiting message in transit.
    pub fn in_transit(&self) -> impl Iterator<Item = u32> {
        self.transit.iter().flatten().copied()
    }

    /// Whether a sweep timer for messages in transit to a shard is armed.
    pub fn is_transit_swept(&self, to: ShardIndex) -> bool {
        self.transit_swept[to.as_usize()]
    }

    pub fn set_transit_swept(&mut self, to: ShardIndex, swept: bool) {
        self.transit_swept[to.as_usize()] = swept;
    }

    /// Forgets what waits for credit: it is given up.
    pub fn stop(&mut self) {
        self.blocked.iter_mut().for_each(VecDeque::clear);
        self.transit.iter_mut().for_each(VecDeque::clear);
    }

    // Posts between shards.

    /// Posts control data to a shard, as soon as there is room.
    pub fn post(&mut self, to: ShardIndex, control: Control) {
        self.outgoing[to.as_usize()].push_back(Outgoing::Control(control));
    }

    /// Sends a notice to an agent of a shard as soon as there is room. It holds `reservation` until then.
    pub fn post_notice(&mut self, to: ShardIndex, envelope: Envelope, reservation: Reservation) {
        self.outgoing[to.as_usize()].push_back(Outgoing::Notice(Box::new(envelope), reservation));
    }

    /// Posts control data to every other shard.
    pub fn broadcast(&mut self, control: impl Fn() -> Control) {
        let own = self.port.index();
        for (_, outgoing) in self.outgoing.iter_mut().enumerate().filter(|(to, _)| *to != own) {
            outgoing.push_back(Outgoing::Control(control()));
        }
    }

    /// Posts control data of which only the newest state matters to every other shard. A waiting post for which
    /// `is_older` holds is replaced, so there is at most one.
    pub fn broadcast_newest(&mut self, is_older: impl Fn(&Control) -> bool, control: impl Fn() -> Control) {
        let own = self.port.index();
        for (_, outgoing) in self.outgoing.iter_mut().enumerate().filter(|(to, _)| *to != own) {
            let older = outgoing.iter_mut().find_map(|waiting| match waiting {
                Outgoing::Control(waiting) if is_older(waiting) => Some(waiting),
                _ => None,
            });
            match older {
                Some(older) => *older = control(),
                None => outgoing.push_back(Outgoing::Control(control())),
            }
        }
    }

    /// Posts dispensable control data to every other shard for which nothing waits and there is room.
    pub fn broadcast_or_drop(&mut self, control: impl Fn() -> Control) {
        for to in 0..self.port.shards() {
            if to != self.port.index() && self.outgoing[to].is_empty() {
                let _ = self.port.send_uncredited(to, ShardFrame::Control(control()));
            }
        }
    }

    /// Moves the next post for a shard into the ring. Returns its reservation, or `None` if there was no post or no
    /// room.
    pub fn send_next(&mut self, to: ShardIndex) -> Option<Reservation> {
        let outgoing = &mut self.outgoing[to.as_usize()];
        let (control, reservation) = match outgoing.pop_front()? {
            Outgoing::Notice(envelope, reservation) => (Control::Notice(envelope), reservation),
            Outgoing::Control(control) => (control, Reservation::Nothing),
        };
        match self.port.send_uncredited(to.as_usize(), ShardFrame::Control(control)) {
            Ok(()) => Some(reservation),
            Err(ShardFrame::Control(Control::Notice(envelope))) => {
                outgoing.push_front(Outgoing::Notice(envelope, reservation));
                None
            }
            Err(ShardFrame::Control(control)) => {
                outgoing.push_front(Outgoing::Control(control));
                None
            }
            Err(ShardFrame::Message(_)) => None,
        }
    }

    /// Returns the number of entries in the loopback queue.
    pub fn loopback(&self) -> usize {
        self.outgoing[self.port.index()].len()
    }

    /// Takes what this shard told itself first.
    pub fn take_loopback(&mut self) -> Option<Control> {
        match self.outgoing[self.port.index()].pop_front()? {
            Outgoing::Control(control) => Some(control),
            Outgoing::Notice(envelope, _) => Some(Control::Notice(envelope)),
        }
    }

    /// Whether so many posts wait for a shard that nothing more should cause one.
    pub fn is_backlogged(&self, to: ShardIndex) -> bool {
        self.outgoing[to.as_usize()].len() >= OUTGOING_WAITING_MAX
    }

    /// Whether so many posts wait for some shard that everything that can wait should.
    pub fn is_any_backlogged(&self) -> bool {
        self.outgoing.iter().any(|waiting| waiting.len() >= OUTGOING_WAITING_MAX)
    }

    /// Whether no posts wait.
    pub fn is_quiet(&self) -> bool {
        self.outgoing.iter().all(VecDeque::is_empty)
    }

    // The end of a turn.

    /// Makes what was sent visible to the others, and returns those whose doorbells to ring.
    pub fn flush(&mut self) -> &[usize] {
        self.port.flush()
    }

    /// Whether something has arrived since the last turn, or there is room that was waited for.
    pub fn has_incoming(&mut self) -> bool {
        self.port.has_incoming() || self.port.has_awaited_room()
    }

    // Figures.

    /// Returns the figures of the rings to all shards; the own entry is empty.
    pub fn lanes(&mut self) -> Vec<LaneFigures> {
        let own = self.port.index();
        (0..self.port.shards())
            .map(|to| {
                let (credits, credits_max) = self.port.credits_of(to);
                let senders_waiting = if to == own { 0 } else { self.blocked[to].len() };
                let (in_flight, sent) = (self.port.in_flight_to(to), self.port.sent_to(to));
                LaneFigures { in_flight, credits, credits_max, sent, senders_waiting }
            })
            .collect()
    }

    /// Returns the number of messages in transit that wait for credit.
    pub fn transit_length(&self) -> usize {
        self.transit.iter().map(VecDeque::len).sum()
    }

    // Consistency checks.

    /// Returns the number of messages in the rings to other shards.
    pub fn messages_in_flight(&mut self) -> usize {
        self.port.messages_in_flight()
    }

    /// Returns the number of a shard's credits that are spent, and how many of them on messages in the ring to it.
    pub fn credits_spent_on(&mut self, to: usize) -> (usize, usize) {
        (self.port.credits_out_to(to), self.port.messages_in_flight_to(to))
    }

    /// Returns, by shard, the number of its credits that are owed, or held by notices waiting for room.
    pub fn credits_held(&self) -> Vec<usize> {
        let mut held = self.credits_owed.clone();
        for (from, held) in held.iter_mut().enumerate() {
            *held += self.port.credits_unflushed(from);
        }
        for outgoing in self.outgoing.iter().flatten() {
            if let Outgoing::Notice(_, Reservation::Credit(from)) = outgoing {
                held[from.as_usize()] += 1;
            }
        }
        held
    }

    /// Asserts that no credit is spent and nothing waits for one.
    pub fn assert_at_rest(&mut self) {
        let index = self.port.index();
        assert_eq!(self.port.credits_out(), 0, "credits of shard {index} did not come back");
        assert!(self.blocked.iter().all(VecDeque::is_empty), "shard {index} has outboxes that wait");
        assert!(self.transit.iter().all(VecDeque::is_empty), "shard {index} has messages in transit");
    }
}
