//! The mailbox of one agent: four priority lanes and a control lane, bounded in messages and bytes.
//!
//! Messages are stored in the shard's slab and the lanes are lists threaded through it, so that an idle agent's mailbox
//! is a few words and a message does not move while it waits.
//!
//! Invariants: lanes of higher priority go first, but at least once in sixteen picks the low lane has first choice, so
//! no lane starves; within a lane, first in, first out. The control lane carries the router's own notices; it goes
//! before the others, has its own limit, and no overflow policy touches it.

pub(crate) mod held;
mod reservation;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::slab::NONE;
use crate::domain::Priority;
pub(crate) use held::Held;
pub(crate) use reservation::Reservation;

pub(crate) use crate::message::delivery_meta::DeliveryFlags;
pub use crate::message::delivery_meta::{DeliveryMeta, EnvelopeKind};
use crate::message::journal_ref::JournalRef;
use crate::message::{AgentId, Body, BodyPool, Message, PlainBody, Receiver};

/// Maximum number of notices waiting for one agent. Beyond it they are coalesced: counted instead of kept.
pub const CONTROL_LANE_MAX: u16 = 64;

/// Maximum number of waiting messages examined to find some that can be displaced. Beyond it the new one is refused.
pub const DISPLACEMENT_SEARCH_MAX: usize = 256;

const CONTROL: usize = 4;
const LANES: usize = 5;

/// A message on its way through a shard.
///
/// Delivery metadata is stored beside the message's body (see [`DeliveryMeta`]), so that an envelope fits into two
/// registers.
#[derive(Debug)]
pub struct Envelope {
    /// The message.
    pub message: Message,
    slip: Slip,
}

/// Fields used without touching the message: the next message in its list (lower half), and the message's size for byte
/// limits (upper half).
///
/// It is one number and not two, because an envelope's second register is written and read as a whole: after a write in
/// two halves, a core can read the whole only once both have reached its cache. That cost each message a tenth of its
/// time.
#[derive(Clone, Copy, Debug)]
struct Slip(u64);

impl Slip {
    #[inline(always)]
    fn new(weight: usize) -> Self {
        Self(u64::from(u32::try_from(weight).unwrap_or(u32::MAX)) << 32 | u64::from(NONE))
    }
}

impl std::ops::Deref for Envelope {
    type Target = DeliveryMeta;

    #[inline]
    fn deref(&self) -> &DeliveryMeta {
        self.message.delivery_meta()
    }
}

impl std::ops::DerefMut for Envelope {
    #[inline]
    fn deref_mut(&mut self) -> &mut DeliveryMeta {
        self.message.delivery_meta_mut()
    }
}

impl Envelope {
    /// Creates the envelope of a message that has just been admitted.
    #[inline]
    pub fn new(mut message: Message, deadline_ms: u64, kind: EnvelopeKind) -> Self {
        let slip = Slip::new(message.weight());
        let delivery_meta = message.delivery_meta();
        let (conversation_place, receiver_place) = (delivery_meta.conversation_place, delivery_meta.receiver_place);
        message.set_journal(JournalRef::NOT);
        let mut flags = kind.flags();
        if message.trace().is_some() {
            flags = flags.or(DeliveryFlags::IN_TRACE);
        }
        *message.delivery_meta_mut() =
            DeliveryMeta { deadline_ms, conversation_place, receiver_place, flags, ..DeliveryMeta::NONE };
        Self { message, slip }
    }

    /// Creates an envelope that keeps the delivery metadata of the message's earlier one.
    #[inline]
    pub(crate) fn again(message: Message) -> Self {
        let slip = Slip::new(message.weight());
        Self { message, slip }
    }

    /// Returns the message's size for byte limits.
    #[inline(always)]
    pub(crate) fn weight(&self) -> u32 {
        (self.slip.0 >> 32) as u32
    }

    /// Returns the next message in the list.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // Exactly one half.
    pub(crate) fn next(&self) -> u32 {
        self.slip.0 as u32
    }

    #[inline(always)]
    fn set_next(&mut self, place: u32) {
        self.slip.0 = self.slip.0 & !u64::from(u32::MAX) | u64::from(place);
    }

    /// Marks the envelope as the last of its list, and returns the one that followed.
    #[inline(always)]
    fn unlink(&mut self) -> u32 {
        let next = self.next();
        self.set_next(NONE);
        next
    }

    /// Returns the message's journal reference.
    #[inline]
    pub(crate) fn journal(&self) -> JournalRef {
        self.message.journal()
    }

    pub(crate) fn mark(&mut self, journal: JournalRef) {
        self.message.set_journal(journal);
    }

    /// Returns the number of deliveries the envelope still stands for: more than one only for a message to several
    /// agents in transit.
    #[inline]
    pub(crate) fn deliveries_left(&self) -> u64 {
        match self.message.receiver() {
            Receiver::Agents(agents) => agents.len() as u64 - u64::from(self.fan_out),
            _ => 1,
        }
    }

    /// Returns the number of deliveries beyond the one that its place in the slab counts as.
    pub(crate) fn more_than_one(&self) -> i64 {
        i64::try_from(self.deliveries_left()).unwrap_or(i64::MAX) - 1
    }

    /// Creates the copy for one of several receivers.
    pub(crate) fn copy_for(&self, agents: &Arc<[AgentId]>, index: u32) -> Self {
        let mut message = self.message.clone();
        message.set_receiver(Receiver::Member(Arc::clone(agents), index));
        let mut copy = Self::new(message, self.deadline_ms, EnvelopeKind::Message);
        copy.mark(self.journal());
        copy.flags.set(DeliveryFlags::WATCHED, self.is_watched());
        copy
    }

    /// Returns itself or, for a message to several agents, one copy for each that has none yet.
    pub(crate) fn into_deliveries(self) -> Vec<Self> {
        let Receiver::Agents(agents) = self.message.receiver() else { return vec![self] };
        let agents = Arc::clone(agents);
        (self.fan_out..u32::try_from(agents.len()).unwrap_or(u32::MAX))
            .map(|index| self.copy_for(&agents, index))
            .collect()
    }
}

/// A first-in, first-out list of places in a slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
}

impl Queue {
    pub const EMPTY: Self = Self { head: NONE, tail: NONE };

    #[inline]
    pub fn is_empty(self) -> bool {
        self.head == NONE
    }

    #[inline]
    pub fn front(self) -> Option<u32> {
        if self.head == NONE { None } else { Some(self.head) }
    }

    /// Appends a place whose envelope links to nothing.
    #[inline(always)]
    pub fn push(&mut self, held: &mut Held, place: u32) {
        debug_assert!(
            held.slab.get(place).is_some_and(|envelope| envelope.next() == NONE),
            "nothing comes behind the last"
        );
        if self.head == NONE {
            self.head = place;
        } else if let Some(last) = held.slab.get_mut(self.tail) {
            last.set_next(place);
        }
        self.tail = place;
    }

    pub fn push_front(&mut self, held: &mut Held, place: u32) {
        if let Some(envelope) = held.slab.get_mut(place) {
            envelope.set_next(self.head);
        }
        if self.head == NONE {
            self.tail = place;
        }
        self.head = place;
    }

    /// Unlinks the first place. Its envelope stays in the slab.
    #[inline(always)]
    pub fn pop(&mut self, held: &mut Held) -> Option<u32> {
        let place = self.front()?;
        self.advance(held.slab.get_mut(place).map_or(NONE, Envelope::unlink));
        Some(place)
    }

    #[inline]
    fn advance(&mut self, next: u32) {
        self.head = next;
        if next == NONE {
            self.tail = NONE;
        }
    }

    /// Unlinks these places, which are in list order, without looking beyond the last of them.
    pub fn unlink(&mut self, held: &mut Held, places: &[u32]) {
        let mut leaving = places.iter().copied().peekable();
        let (mut before, mut place) = (NONE, self.head);
        while let Some(leaves) = leaving.peek().copied() {
            let Some(envelope) = held.slab.get_mut(place) else { return };
            let next = envelope.next();
            if place == leaves {
                envelope.set_next(NONE);
                leaving.next();
                match held.slab.get_mut(before) {
                    Some(before) => before.set_next(next),
                    None => self.head = next,
                }
                if next == NONE {
                    self.tail = before;
                }
            } else {
                before = place;
            }
            place = next;
        }
    }

    /// Unlinks every place whose envelope satisfies `leaves`, and returns them in order.
    pub fn extract(&mut self, held: &mut Held, leaves: &mut impl FnMut(&Envelope) -> bool) -> Vec<u32> {
        let mut left = Vec::new();
        let mut stay = Self::EMPTY;
        while let Some(place) = self.pop(held) {
            let Some(envelope) = held.slab.get_mut(place) else { continue };
            envelope.set_next(NONE);
            if leaves(envelope) {
                left.push(place);
            } else {
                stay.push(held, place);
            }
        }
        *self = stay;
        left
    }
}

/// What one mailbox may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxLimits {
    pub messages: u32,
    pub bytes: u64,
}

impl MailboxLimits {
    /// Returns limits so many times as large.
    pub fn times(self, factor: u32) -> Self {
        Self { messages: self.messages.saturating_mul(factor), bytes: self.bytes.saturating_mul(u64::from(factor)) }
    }
}

/// The lanes of one agent.
#[derive(Debug)]
pub(crate) struct Mailbox {
    lanes: [Queue; LANES],
    /// Bit `n` is set if lane `n` is not empty.
    waiting: u8,
    /// The number of picks so far, for giving the lower lanes their turn.
    picks: u8,
    notices: u16,
    /// Messages that count against the capacity: waiting, being retried, delayed, or settling.
    held: u32,
    held_bytes: u64,
}

impl Mailbox {
    pub const EMPTY: Self =
        Self { lanes: [Queue::EMPTY; LANES], waiting: 0, picks: 0, notices: 0, held: 0, held_bytes: 0 };

    /// Returns the number of messages that count against the capacity.
    #[inline]
    pub fn held(&self) -> u32 {
        self.held
    }

    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    #[inline]
    pub fn has_mail(&self) -> bool {
        self.waiting != 0
    }

    #[inline]
    pub fn has_room(&self, limits: MailboxLimits, weight: u32) -> bool {
        self.held < limits.messages && self.held_bytes + u64::from(weight) <= limits.bytes
    }

    /// Counts a message against the capacity, from its acceptance until it is settled.
    #[inline]
    pub fn hold(&mut self, weight: u32) {
        self.held += 1;
        self.held_bytes += u64::from(weight);
    }

    #[inline]
    pub fn release(&mut self, weight: u32) {
        debug_assert!(self.held > 0, "a mailbox lets go of what it held");
        self.held -= 1;
        self.held_bytes -= u64::from(weight);
    }

    /// Unlinks waiting messages in the lane of `priority` and below, the oldest of the lowest lane first, that satisfy
    /// `may_go`, until they make up the given number of messages and bytes. Changes nothing if there are not enough.
    pub fn displace(
        &mut self,
        held: &mut Held,
        priority: Priority,
        messages: u32,
        bytes: u64,
        may_go: impl Fn(&Envelope) -> bool,
    ) -> Option<Vec<u32>> {
        let mut found: [Vec<u32>; CONTROL] = Default::default();
        let (mut found_messages, mut found_bytes, mut looked_at) = (0, 0, 0);
        'lanes: for (lane, found) in found.iter_mut().enumerate().take(lane_of(priority) + 1) {
            let mut next = self.lanes[lane].head;
            while let Some(envelope) = held.slab.get(next) {
                if found_messages >= messages && found_bytes >= bytes {
                    break 'lanes;
                }
                if looked_at >= DISPLACEMENT_SEARCH_MAX {
                    return None;
                }
                looked_at += 1;
                if may_go(envelope) {
                    found.push(next);
                    found_messages += 1;
                    found_bytes += u64::from(envelope.weight());
                }
                next = envelope.next();
            }
        }
        if found_messages < messages || found_bytes < bytes {
            return None;
        }
        for (lane, found) in found.iter().enumerate() {
            self.lanes[lane].unlink(held, found);
            if self.lanes[lane].is_empty() {
                self.waiting &= !(1 << lane);
            }
        }
        Some(found.concat())
    }

    /// Appends a held message to its lane.
    #[inline(always)]
    pub fn push(&mut self, held: &mut Held, place: u32, priority: Priority) {
        let lane = lane_of(priority);
        self.lanes[lane].push(held, place);
        self.waiting |= 1 << lane;
    }

    /// Whether another notice would be kept.
    pub fn has_room_for_notice(&self) -> bool {
        self.notices < CONTROL_LANE_MAX
    }

    /// Appends a notice. Returns whether the control lane had room.
    pub fn push_notice(&mut self, held: &mut Held, place: u32) -> bool {
        if self.notices >= CONTROL_LANE_MAX {
            return false;
        }
        self.notices += 1;
        self.lanes[CONTROL].push(held, place);
        self.waiting |= 1 << CONTROL;
        true
    }

    /// Takes the next message out of its lane and out of the slab. It stays held until it is settled.
    #[inline(always)]
    pub fn pop(&mut self, held: &mut Held) -> Option<Envelope> {
        if self.waiting == 0 {
            return None;
        }
        let lane = self.pick_lane();
        let place = self.lanes[lane].front()?;
        let mut envelope = held.slab.remove(place)?;
        self.lanes[lane].advance(envelope.unlink());
        if self.lanes[lane].is_empty() {
            self.waiting &= !(1 << lane);
        }
        if lane == CONTROL {
            self.notices -= 1;
            held.count_outside(1);
        }
        Some(envelope)
    }

    #[inline]
    fn pick_lane(&mut self) -> usize {
        pick_lane(self.waiting, &mut self.picks)
    }

    /// Passes the messages that [`Mailbox::pop`] would return next to `look`, until it breaks.
    pub fn look_ahead(&self, held: &Held, mut look: impl FnMut(&Envelope) -> ControlFlow<()>) {
        let (mut waiting, mut picks) = (self.waiting, self.picks);
        let mut heads = self.lanes.map(|lane| lane.head);
        while waiting != 0 {
            let lane = pick_lane(waiting, &mut picks);
            let Some(envelope) = held.slab.get(heads[lane]) else { return };
            heads[lane] = envelope.next();
            if envelope.next() == NONE {
                waiting &= !(1 << lane);
            }
            if look(envelope).is_break() {
                return;
            }
        }
    }

    /// Returns the places of the messages at the heads of the lanes, without that of notices.
    pub fn heads(&self) -> impl Iterator<Item = u32> {
        self.lanes[..CONTROL].iter().filter_map(|lane| lane.front())
    }

    /// Unlinks all messages that satisfy `leaves`, from every lane.
    pub fn extract(&mut self, held: &mut Held, mut leaves: impl FnMut(&Envelope) -> bool) -> Vec<u32> {
        let mut left = Vec::new();
        for lane in 0..LANES {
            let extracted = self.lanes[lane].extract(held, &mut leaves);
            if lane == CONTROL {
                self.notices -= u16::try_from(extracted.len()).unwrap_or(self.notices);
            }
            if self.lanes[lane].is_empty() {
                self.waiting &= !(1 << lane);
            }
            left.extend(extracted);
        }
        left
    }
}

/// Returns the lane whose turn it is. A function of the lanes alone, independent of the messages in them.
#[inline]
fn pick_lane(waiting: u8, picks: &mut u8) -> usize {
    if waiting & (1 << CONTROL) != 0 {
        return CONTROL;
    }
    *picks = picks.wrapping_add(1);
    let first = match *picks % 16 {
        0 => 0,
        8 => 1,
        4 | 12 => 2,
        _ => 3,
    };
    // Lanes at or below the one whose turn it is, highest first; else the lowest lane above it.
    let at_or_below = waiting & ((2 << first) - 1);
    if at_or_below != 0 { at_or_below.ilog2() as usize } else { waiting.trailing_zeros() as usize }
}

#[inline]
fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
        Priority::Urgent => 3,
    }
}

/// A message between two shards: by value, so that nothing is freed on another core than it was allocated on.
#[derive(Debug)]
pub struct PackedMessage(Body);

impl PackedMessage {
    /// Takes a message out of its envelope.
    #[inline]
    pub(crate) fn pack(envelope: Envelope) -> Self {
        Self(envelope.message.into_body())
    }

    /// Copies a [plain](Message::plain) message.
    #[inline]
    pub(crate) fn copy_of(message: PlainBody<'_>) -> Self {
        Self(message.copy())
    }

    /// Copies a plain message into an envelope of the receiving shard.
    #[inline]
    pub(crate) fn copy_out(&self, spares: &mut BodyPool) -> Option<Envelope> {
        Message::copy_of_plain(&self.0, spares).map(Envelope::again)
    }

    /// Moves the message into an envelope of the receiving shard.
    #[inline]
    pub(crate) fn unpack(self) -> Envelope {
        Envelope::again(Message::from_body(self.0))
    }
}

const _: () = assert!(size_of::<Envelope>() == 16, "envelopes are moved often");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Performative;

    fn fill(mailbox: &mut Mailbox, held: &mut Held, priority: Priority, count: usize) {
        for number in 0..count {
            let message = Message::builder(Performative::Inform)
                .priority(priority)
                .content(number.to_string().as_str())
                .build()
                .unwrap();
            let place = held.insert(Envelope::new(message, 0, EnvelopeKind::Message)).unwrap();
            mailbox.hold(1);
            mailbox.push(held, place, priority);
        }
    }

    fn number(envelope: &Envelope) -> usize {
        envelope.message.content().as_text().unwrap().parse().unwrap()
    }

    #[test]
    fn one_lane_is_first_in_first_out() {
        let (mut mailbox, mut held) = (Mailbox::EMPTY, Held::new(1_000, 1 << 30));
        fill(&mut mailbox, &mut held, Priority::Normal, 300);
        for expected in 0..300 {
            assert_eq!(number(&mailbox.pop(&mut held).unwrap()), expected);
        }
        assert!(!mailbox.has_mail());
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn urgent_goes_first_and_low_never_starves() {
        let (mut mailbox, mut held) = (Mailbox::EMPTY, Held::new(10_000, 1 << 30));
        for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent] {
            fill(&mut mailbox, &mut held, priority, 1_000);
        }
        let mut picks = std::collections::HashMap::new();
        for _ in 0..160 {
            *picks.entry(mailbox.pop(&mut held).unwrap().message.priority()).or_insert(0) += 1;
        }
        assert_eq!(picks[&Priority::Low], 10);
        assert_eq!(picks[&Priority::Normal], 10);
        assert_eq!(picks[&Priority::High], 20);
        assert_eq!(picks[&Priority::Urgent], 120);
    }

    #[test]
    fn every_lane_is_emptied_in_the_end() {
        let (mut mailbox, mut held) = (Mailbox::EMPTY, Held::new(10_000, 1 << 30));
        for priority in [Priority::Low, Priority::Urgent] {
            fill(&mut mailbox, &mut held, priority, 100);
        }
        assert_eq!(std::iter::from_fn(|| mailbox.pop(&mut held)).count(), 200);
    }

    #[test]
    fn the_control_lane_goes_first_and_is_bounded() {
        let (mut mailbox, mut held) = (Mailbox::EMPTY, Held::new(1_000, 1 << 30));
        fill(&mut mailbox, &mut held, Priority::Urgent, 1);
        for _ in 0..CONTROL_LANE_MAX {
            let notice = Message::builder(Performative::Failure).build().unwrap();
            let place = held.insert(Envelope::new(notice, 0, EnvelopeKind::Notice)).unwrap();
            assert!(mailbox.push_notice(&mut held, place));
        }
        let notice = Message::builder(Performative::Failure).build().unwrap();
        let place = held.insert(Envelope::new(notice, 0, EnvelopeKind::Notice)).unwrap();
        assert!(!mailbox.push_notice(&mut held, place));
        assert_eq!(mailbox.pop(&mut held).unwrap().kind(), EnvelopeKind::Notice);
    }

    /// Returns what is displaced from a mailbox with this many messages in the low and the normal lane, and what stays.
    fn displaced(low: usize, normal: usize, priority: Priority, messages: u32) -> (Option<Vec<usize>>, Vec<usize>) {
        let (mut mailbox, mut held) = (Mailbox::EMPTY, Held::new(1_000, 1 << 30));
        fill(&mut mailbox, &mut held, Priority::Low, low);
        fill(&mut mailbox, &mut held, Priority::Normal, normal);
        let even = |envelope: &Envelope| number(envelope).is_multiple_of(2);
        let places = mailbox.displace(&mut held, priority, messages, 0, even);
        let gone = places
            .map(|places| places.into_iter().map(|place| number(&held.remove(place).unwrap())).collect::<Vec<_>>());
        // Later operations must still find the ends of the lanes.
        fill(&mut mailbox, &mut held, Priority::Normal, 1);
        (gone, std::iter::from_fn(|| mailbox.pop(&mut held)).map(|envelope| number(&envelope)).collect())
    }

    #[test]
    fn the_oldest_of_the_lowest_lane_are_displaced_first() {
        assert_eq!(displaced(0, 4, Priority::Normal, 2), (Some(vec![0, 2]), vec![1, 3, 0]));
        assert_eq!(displaced(1, 3, Priority::High, 3), (Some(vec![0, 0, 2]), vec![1, 0]));
        assert_eq!(displaced(0, 1, Priority::Normal, 1), (Some(vec![0]), vec![0]));
    }

    #[test]
    fn without_enough_to_displace_everything_stays() {
        assert_eq!(displaced(0, 2, Priority::Low, 1), (None, vec![0, 1, 0]));
        assert_eq!(displaced(0, 3, Priority::Urgent, 3), (None, vec![0, 1, 2, 0]));
    }

    #[test]
    fn what_is_extracted_leaves_the_rest_in_order() {
        let (mut mailbox, mut held) = (Mailbox::EMPTY, Held::new(1_000, 1 << 30));
        fill(&mut mailbox, &mut held, Priority::Normal, 10);
        let even = mailbox.extract(&mut held, |envelope| number(envelope).is_multiple_of(2));
        assert_eq!(even.len(), 5);
        let rest: Vec<usize> =
            std::iter::from_fn(|| mailbox.pop(&mut held)).map(|envelope| number(&envelope)).collect();
        assert_eq!(rest, [1, 3, 5, 7, 9]);
    }
}
