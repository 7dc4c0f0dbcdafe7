//! The timers of one shard: reply-by deadlines, time-to-live, delayed sends, retries and conversation timeouts.
//!
//! A hierarchical timer wheel. It has no clock: `now` is an argument, in milliseconds since an origin chosen by the
//! caller. Arming and cancelling take constant time, firing takes constant time plus a few relocations per timer, and a
//! turn with nothing due costs one comparison.
//!
//! Level `L` holds 64 slots of `64^L` milliseconds each. A timer is on the level of the highest group of six bits in
//! which its due time differs from the hand of the wheel. The nearest timers are therefore in slots of one millisecond,
//! and when the hand enters a wider slot, its timers are relocated to narrower ones. Eleven levels cover every `u64`,
//! so no due time is out of range and no slot wraps around; an unused level costs one bit.
//!
//! Invariants:
//! - A timer's slot depends only on its due time and the hand. Timers due at the same time therefore share a list and
//!   stay in the order in which they were armed through every relocation.
//! - Occupied slots cover disjoint spans of time, ordered by level and then by position. The first occupied slot of the
//!   lowest occupied level is therefore the earliest; two bit scans find it however far time jumps.
//! - The hand never passes the start of an occupied slot without emptying that slot, and never passes `now`.
//! - `ready_ms` is the start of the earliest occupied slot; before it, there is nothing to do.
//! - Work is bounded: at most `capacity_max` timers are armed, and one [`TimerWheel::advance`] fires at most `max` of
//!   them and relocates at most [`RELOCATIONS_MAX`].

use std::num::NonZeroU32;

/// Maximum number of timers that one [`TimerWheel::advance`] relocates to narrower slots.
///
/// A million timers armed within four seconds share a slot; relocating all of them in one turn would stall the shard.
pub const RELOCATIONS_MAX: usize = 1024;

const SLOT_BITS: u32 = 6;
const POSITION_MASK: u64 = (1 << SLOT_BITS) - 1;
const LEVELS: usize = u64::BITS.div_ceil(SLOT_BITS) as usize;

/// Marks "no entry" in links.
const NONE: u32 = u32::MAX;

/// Identifies one armed timer, for [`TimerWheel::cancel`].
///
/// A key becomes stale when its timer fires or is cancelled. A stale key cancels nothing, even if its entry has been
/// reused. (Only after 2^32 - 1 reuses would an old key match the newest one.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    /// Non-zero, so that an `Option<TimerKey>` takes eight bytes too.
    generation: NonZeroU32,
}

/// Returned when the maximum number of timers is armed. Nothing changed; there is room again once a timer fires or is
/// cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {capacity_max} timers are armed")]
pub struct TimersFullError {
    /// The limit that was reached.
    pub capacity_max: usize,
}

/// A bounded set of armed timers, each with an item that is returned when the timer fires.
#[derive(Debug)]
pub struct TimerWheel<T: Copy> {
    /// The latest time seen by `advance`.
    now_ms: u64,
    /// The start of the earliest occupied slot, or `u64::MAX` when nothing is armed.
    ready_ms: u64,
    /// The time that slots are relative to. It is behind `now_ms` only while due work is left for the next turn.
    hand_ms: u64,
    /// The slot being relocated, if a turn ended halfway. The hand stays before it until it is empty, so that newly
    /// armed timers queue behind those already there.
    cascade: Option<Slot>,
    /// One bit per level with an occupied slot.
    occupied_levels: u16,
    /// One bit per occupied slot.
    occupied: [u64; LEVELS],
    lists: [List; LEVELS << SLOT_BITS],
    entries: Vec<Entry<T>>,
    /// First of the unarmed entries, linked through `next`.
    free: u32,
    armed: usize,
    capacity_max: usize,
}

impl<T: Copy> TimerWheel<T> {
    /// Creates an empty wheel at `start_ms` for at most `capacity_max` timers (never more than 2^32 - 1).
    ///
    /// Memory is not preallocated. It grows with the largest number of timers armed at once and is kept for reuse.
    pub fn new(start_ms: u64, capacity_max: usize) -> Self {
        Self {
            now_ms: start_ms,
            ready_ms: u64::MAX,
            hand_ms: start_ms,
            cascade: None,
            occupied_levels: 0,
            occupied: [0; LEVELS],
            lists: [List::EMPTY; LEVELS << SLOT_BITS],
            entries: Vec::new(),
            free: NONE,
            armed: 0,
            capacity_max: capacity_max.min(NONE as usize),
        }
    }

    /// Returns the number of armed timers.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Iterates over all armed timers as due time in milliseconds and item, in no particular order.
    ///
    /// Takes time proportional to the largest number of timers ever armed at once: use it for inspection, not on every
    /// turn.
    pub fn iter(&self) -> impl Iterator<Item = (u64, T)> + '_ {
        self.entries.iter().filter(|entry| entry.slot != Slot::FREE).map(|entry| (entry.due_ms, entry.item))
    }

    /// Returns when [`advance`](Self::advance) next has something to do, or `None` if nothing is armed.
    ///
    /// The result is never later than the earliest due time. It is exact if the earliest timer is alone in its slot.
    /// Otherwise it may be the start of that slot, and advancing then fires timers or relocates them. A timer causes at
    /// most one early wake-up per level above the lowest: two for half a minute, three for an hour, and one more if a
    /// multiple of a larger power of 64 lies in between. If the result is not later than the time already reached, call
    /// `advance` again at once.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        if self.cascade.is_some() {
            return Some(self.ready_ms);
        }
        let first = &self.entries[self.lists[self.earliest()?.index()].first as usize];
        Some(if first.next == NONE { first.due_ms } else { self.ready_ms })
    }

    /// Arms a timer that returns `item` once time has reached `due_ms`.
    ///
    /// A due time in the past counts as due now: the timer fires on the next [`advance`](Self::advance), after
    /// everything that was due before.
    ///
    /// # Errors
    ///
    /// Returns [`TimersFullError`], without changing anything, if `capacity_max` timers are armed.
    pub fn insert(&mut self, due_ms: u64, item: T) -> Result<TimerKey, TimersFullError> {
        let due_ms = due_ms.max(self.now_ms);
        let index = self.acquire(due_ms, item)?;
        let slot = Slot::of(due_ms, self.hand_ms);
        self.push_last(slot, index);
        self.ready_ms = self.ready_ms.min(slot.start_ms(self.hand_ms));
        Ok(TimerKey { index, generation: self.entries[index as usize].generation })
    }

    /// Disarms a timer and returns its item, or `None` if it has already fired or been cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.slot == Slot::FREE {
            return None;
        }
        let (slot, item) = (entry.slot, entry.item);
        self.unlink(key.index);
        self.release(key.index);
        if self.lists[slot.index()].first == NONE {
            self.refresh_ready();
        }
        Some(item)
    }

    /// Advances time to `now_ms` and appends at most `max` due items to `fired`.
    ///
    /// Items are ordered by due time; those due in the same millisecond keep the order in which they were armed, across
    /// calls too. A `now_ms` earlier than one passed before counts as that one: time never goes backwards.
    ///
    /// Returns whether to call again: true if `max` left due items, or if [`RELOCATIONS_MAX`] ended the turn early.
    /// Every such call makes progress if `max` is not zero.
    #[inline]
    pub fn advance(&mut self, now_ms: u64, fired: &mut Vec<T>, max: usize) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        if self.now_ms < self.ready_ms {
            self.hand_ms = self.now_ms;
            return false;
        }
        self.turn(fired, max, RELOCATIONS_MAX)
    }

    /// Empties the slots whose start has been reached, in order, within both limits.
    #[inline(never)]
    fn turn(&mut self, fired: &mut Vec<T>, max: usize, relocations_max: usize) -> bool {
        let mut firings_left = max;
        let mut relocations_left = relocations_max;
        while let Some(slot) = self.cascade.or_else(|| self.earliest()) {
            let start_ms = slot.start_ms(self.hand_ms);
            if start_ms > self.now_ms {
                break;
            }
            let emptied = if slot.level() == 0 {
                self.hand_ms = start_ms;
                self.fire(slot, fired, &mut firings_left)
            } else {
                self.relocate(slot, start_ms, &mut relocations_left)
            };
            if !emptied {
                self.ready_ms = start_ms;
                return true;
            }
        }
        self.hand_ms = self.now_ms;
        self.refresh_ready();
        false
    }

    /// Fires the timers of a one-millisecond slot; returns false if some are left.
    fn fire(&mut self, slot: Slot, fired: &mut Vec<T>, firings_left: &mut usize) -> bool {
        while *firings_left > 0 {
            let Some(index) = self.pop_first(slot) else { return true };
            let entry = &self.entries[index as usize];
            assert!(entry.due_ms == self.hand_ms, "a slot of one millisecond holds timers of that millisecond");
            fired.push(entry.item);
            self.release(index);
            *firings_left -= 1;
        }
        self.lists[slot.index()].first == NONE
    }

    /// Relocates the timers of a wide slot once the hand is at its start; returns false if some are left.
    ///
    /// The narrower levels are empty when this begins, because whatever they hold is earlier than any wider slot. They
    /// may be filled before the hand moves: until then every newly armed timer is due at `start_ms` or later, so it
    /// goes to this slot or to a later one.
    fn relocate(&mut self, slot: Slot, start_ms: u64, relocations_left: &mut usize) -> bool {
        while *relocations_left > 0 {
            let Some(index) = self.pop_first(slot) else { break };
            let narrower = Slot::of(self.entries[index as usize].due_ms, start_ms);
            assert!(narrower.level() < slot.level(), "relocation brings a timer down");
            self.push_last(narrower, index);
            *relocations_left -= 1;
        }
        let emptied = self.lists[slot.index()].first == NONE;
        if emptied {
            self.hand_ms = start_ms;
        }
        self.cascade = (!emptied).then_some(slot);
        emptied
    }

    /// Returns the occupied slot that covers the earliest time. Not meaningful during a cascade.
    fn earliest(&self) -> Option<Slot> {
        if self.occupied_levels == 0 {
            return None;
        }
        let level = self.occupied_levels.trailing_zeros();
        Some(Slot::at(level, self.occupied[level as usize].trailing_zeros()))
    }

    /// During a cascade the time to continue is already right: it has been reached.
    fn refresh_ready(&mut self) {
        if self.cascade.is_none() {
            self.ready_ms = self.earliest().map_or(u64::MAX, |slot| slot.start_ms(self.hand_ms));
        }
    }

    /// Takes an unarmed entry, or adds one if the limit allows it.
    fn acquire(&mut self, due_ms: u64, item: T) -> Result<u32, TimersFullError> {
        let index = self.free;
        if let Some(entry) = self.entries.get_mut(index as usize) {
            self.free = entry.next;
            entry.due_ms = due_ms;
            entry.item = item;
            self.armed += 1;
            return Ok(index);
        }
        let index = u32::try_from(self.entries.len()).ok().filter(|_| self.armed < self.capacity_max);
        let index = index.ok_or(TimersFullError { capacity_max: self.capacity_max })?;
        let generation = NonZeroU32::MIN;
        self.entries.push(Entry { due_ms, item, previous: NONE, next: NONE, generation, slot: Slot::FREE });
        self.armed += 1;
        Ok(index)
    }

    /// Returns an unlinked entry to the free list and makes its key stale.
    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.slot = Slot::FREE;
        entry.next = self.free;
        self.free = index;
        self.armed -= 1;
    }

    fn push_last(&mut self, slot: Slot, index: u32) {
        let list = &mut self.lists[slot.index()];
        let previous = std::mem::replace(&mut list.last, index);
        if previous == NONE {
            list.first = index;
            self.occupied[slot.level() as usize] |= 1 << slot.position();
            self.occupied_levels |= 1 << slot.level();
        } else {
            self.entries[previous as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.previous = previous;
        entry.next = NONE;
        entry.slot = slot;
    }

    fn pop_first(&mut self, slot: Slot) -> Option<u32> {
        let index = self.lists[slot.index()].first;
        if index == NONE {
            return None;
        }
        self.unlink(index);
        Some(index)
    }

    #[inline(always)]
    fn unlink(&mut self, index: u32) {
        let Entry { previous, next, slot, .. } = self.entries[index as usize];
        if previous != NONE {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        let list = &mut self.lists[slot.index()];
        if list.first == index {
            list.first = next;
        }
        if list.last == index {
            list.last = previous;
        }
        if list.first == NONE {
            let occupied = &mut self.occupied[slot.level() as usize];
            *occupied &= !(1 << slot.position());
            if *occupied == 0 {
                self.occupied_levels &= !(1 << slot.level());
            }
        }
    }
}

/// A timer, armed or free. 32 bytes with an item of eight.
#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    due_ms: u64,
    item: T,
    previous: u32,
    next: u32,
    generation: NonZeroU32,
    /// The list that contains the entry, or [`Slot::FREE`].
    slot: Slot,
}

/// The timers of one slot, in the order they were armed.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };
}

/// A level and one of its 64 positions, as a single index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u32);

impl Slot {
    const FREE: Self = Self(u32::MAX);

    fn at(level: u32, position: u32) -> Self {
        Self(level << SLOT_BITS | position)
    }

    /// Returns the slot of a timer due at `due_ms`, which the hand has not passed.
    fn of(due_ms: u64, hand_ms: u64) -> Self {
        let level = ((due_ms ^ hand_ms) | POSITION_MASK).ilog2() / SLOT_BITS;
        Self::at(level, ((due_ms >> (level * SLOT_BITS)) & POSITION_MASK) as u32)
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    fn level(self) -> u32 {
        self.0 >> SLOT_BITS
    }

    fn position(self) -> u32 {
        self.0 % (1 << SLOT_BITS)
    }

    /// Returns the first millisecond of the slot, given the hand of the wheel.
    fn start_ms(self, hand_ms: u64) -> u64 {
        let width_bits = self.level() * SLOT_BITS;
        ((hand_ms >> width_bits) & !POSITION_MASK | u64::from(self.position())) << width_bits
    }
}

#[cfg(test)]
mod tests;
