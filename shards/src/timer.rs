//! The timers of one shard: reply-by deadlines, time-to-live, delayed sends, retries and conversation timeouts.
//!
//! A hierarchical timer wheel. It has no clock: `now` is an argument, in milliseconds since an origin the caller chose.
//! Arming and cancelling are constant-time, firing is constant-time plus a few relocations per timer, and a turn with
//! nothing due is one comparison.
//!
//! Level `L` holds 64 slots of `64^L` milliseconds each. A timer lives on the level of the highest group of six bits in
//! which its due time differs from the hand of the wheel. So the nearest timers are in slots of one millisecond, and when
//! the hand enters a wider slot, the timers in it are relocated to narrower ones. Eleven levels cover every `u64`, so no
//! due time is out of range and no slot wraps around; levels nobody uses cost one bit.
//!
//! Invariants:
//! - A timer's slot is a function of its due time and the hand alone. Hence timers due at the same time share a list, and
//!   keep the order in which they were armed through every relocation.
//! - Occupied slots cover disjoint spans of time, ordered by level and then by position. Hence the first occupied slot of
//!   the lowest occupied level is the earliest, found with two bit scans however far time jumps.
//! - The hand never passes the start of an occupied slot without emptying that slot, and never passes `now`.
//! - `ready_ms` is the start of the earliest occupied slot: before it, there is nothing to do.
//! - Work is bounded: at most `capacity_max` timers are armed, and one [`TimerWheel::advance`] fires at most `max` of them
//!   and relocates at most [`RELOCATIONS_MAX`].

use std::num::NonZeroU32;

/// How many timers one [`TimerWheel::advance`] moves to a narrower slot before it yields.
///
/// A million timers armed within four seconds share a slot; relocating them in one turn would stall the shard.
pub const RELOCATIONS_MAX: usize = 1024;

const SLOT_BITS: u32 = 6;
const POSITION_MASK: u64 = (1 << SLOT_BITS) - 1;
const LEVELS: usize = u64::BITS.div_ceil(SLOT_BITS) as usize;

/// The index that stands for "no entry" in links.
const NONE: u32 = u32::MAX;

/// Names one armed timer, for [`TimerWheel::cancel`].
///
/// A key goes stale when its timer fires or is cancelled, and a stale key cancels nothing, even after its entry has been
/// used again. (A key kept while its entry is used again 2^32 - 1 times would be mistaken for the newest.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    /// Non-zero, so that an `Option<TimerKey>` takes eight bytes too.
    generation: NonZeroU32,
}

/// As many timers as the wheel may hold are armed. Nothing changed; there is room again once a timer fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {capacity_max} timers are armed")]
pub struct TimerFull {
    /// The bound that was reached.
    pub capacity_max: usize,
}

/// A bounded set of armed timers, each carrying an item that is handed back when the timer fires.
#[derive(Debug)]
pub struct TimerWheel<T: Copy> {
    /// The latest time seen by `advance`.
    now_ms: u64,
    /// The start of the earliest occupied slot, or `u64::MAX` when nothing is armed.
    ready_ms: u64,
    /// The time that slots are relative to. Behind `now_ms` only while work that is due has been left for the next turn.
    hand_ms: u64,
    /// The slot being emptied into narrower ones, when a turn ended halfway. Until it is empty the hand stays before it,
    /// so that newly armed timers queue behind the ones already there.
    cascade: Option<Slot>,
    /// One bit per level with an occupied slot.
    occupied_levels: u16,
    /// One bit per occupied slot.
    occupied: [u64; LEVELS],
    lists: [List; LEVELS << SLOT_BITS],
    entries: Vec<Entry<T>>,
    /// First of the unarmed entries, which are chained through `next`.
    free: u32,
    armed: usize,
    capacity_max: usize,
}

impl<T: Copy> TimerWheel<T> {
    /// An empty wheel at `start_ms` that arms at most `capacity_max` timers at once (and never more than 2^32 - 1).
    ///
    /// Memory grows with the largest number of timers armed at once, is kept for reuse, and is not taken in advance.
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

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Every armed timer as its due time in milliseconds and its item, in no particular order.
    ///
    /// Takes time in proportion to the largest number of timers ever armed at once: for inspection, not for every turn.
    pub fn iter(&self) -> impl Iterator<Item = (u64, T)> + '_ {
        self.entries.iter().filter(|entry| entry.slot != Slot::FREE).map(|entry| (entry.due_ms, entry.item))
    }

    /// When [`advance`](Self::advance) next has something to do; `None` when nothing is armed.
    ///
    /// Never later than the earliest due time. It is exact when the earliest timer is alone in its slot, which includes
    /// every wheel with one timer; otherwise it may be the start of that slot, and advancing then fires timers or moves
    /// them to narrower slots. A timer therefore causes at most one early wake-up per level it stands above the lowest: two
    /// for half a minute, three for an hour, and one more when a multiple of a larger power of 64 lies between. A deadline
    /// at or before the time already reached means: advance again at once.
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

    /// Arms a timer that hands back `item` once time has reached `due_ms`.
    ///
    /// A due time already reached counts as due now: it fires on the next [`advance`](Self::advance), behind everything
    /// that was due before.
    ///
    /// # Errors
    /// [`TimerFull`] when `capacity_max` timers are armed; nothing has changed then.
    pub fn insert(&mut self, due_ms: u64, item: T) -> Result<TimerKey, TimerFull> {
        let due_ms = due_ms.max(self.now_ms);
        let index = self.acquire(due_ms, item)?;
        let slot = Slot::of(due_ms, self.hand_ms);
        self.push_last(slot, index);
        self.ready_ms = self.ready_ms.min(slot.start_ms(self.hand_ms));
        Ok(TimerKey { index, generation: self.entries[index as usize].generation })
    }

    /// Disarms a timer and hands back its item; `None` when it has already fired or been cancelled.
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

    /// Moves time on to `now_ms` and appends the items that are due, at most `max`, to `fired`.
    ///
    /// Items come in order of due time, and those due in the same millisecond in the order they were armed; this holds
    /// across calls too. A `now_ms` earlier than one seen before counts as that one: time never goes backwards.
    ///
    /// Returns whether to call again: true when `max` left items that are due, or when [`RELOCATIONS_MAX`] stopped the
    /// turn before it could know. Each such call makes progress if `max` is not zero.
    #[inline]
    pub fn advance(&mut self, now_ms: u64, fired: &mut Vec<T>, max: usize) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        if self.now_ms < self.ready_ms {
            self.hand_ms = self.now_ms;
            return false;
        }
        self.turn(fired, max, RELOCATIONS_MAX)
    }

    /// Empties the slots whose start has been reached, in order, as far as both allowances go.
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

    /// Fires the timers of a slot of one millisecond; false when some are left.
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

    /// Moves the timers of a wide slot to where they belong once the hand is at its start; false when some are left.
    ///
    /// The narrower levels are empty when this begins, because whatever they hold is earlier than any wider slot. They may
    /// be filled before the hand moves: until then every newly armed timer is due at `start_ms` or later, so it goes to
    /// this slot or to a later one.
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

    /// The occupied slot that covers the earliest time. Not meaningful halfway through a cascade.
    fn earliest(&self) -> Option<Slot> {
        if self.occupied_levels == 0 {
            return None;
        }
        let level = self.occupied_levels.trailing_zeros();
        Some(Slot::at(level, self.occupied[level as usize].trailing_zeros()))
    }

    /// Halfway through a cascade the time to continue is already right: it has been reached.
    fn refresh_ready(&mut self) {
        if self.cascade.is_none() {
            self.ready_ms = self.earliest().map_or(u64::MAX, |slot| slot.start_ms(self.hand_ms));
        }
    }

    /// Takes an unarmed entry, or adds one while the bound allows it.
    fn acquire(&mut self, due_ms: u64, item: T) -> Result<u32, TimerFull> {
        let index = self.free;
        if let Some(entry) = self.entries.get_mut(index as usize) {
            self.free = entry.next;
            entry.due_ms = due_ms;
            entry.item = item;
            self.armed += 1;
            return Ok(index);
        }
        let index = u32::try_from(self.entries.len()).ok().filter(|_| self.armed < self.capacity_max);
        let index = index.ok_or(TimerFull { capacity_max: self.capacity_max })?;
        let generation = NonZeroU32::MIN;
        self.entries.push(Entry { due_ms, item, previous: NONE, next: NONE, generation, slot: Slot::FREE });
        self.armed += 1;
        Ok(index)
    }

    /// Makes an unlinked entry available again and its key stale.
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
    /// The list the entry is in, or [`Slot::FREE`].
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

    /// Where a timer due at `due_ms`, which the hand has not passed, belongs.
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

    /// The first millisecond of the slot's span, given the hand of the wheel.
    fn start_ms(self, hand_ms: u64) -> u64 {
        let width_bits = self.level() * SLOT_BITS;
        ((hand_ms >> width_bits) & !POSITION_MASK | u64::from(self.position())) << width_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const HOUR_MS: u64 = 3_600_000;

    /// Everything due at `now_ms`, however many turns that takes.
    fn drain<T: Copy>(wheel: &mut TimerWheel<T>, now_ms: u64) -> Vec<T> {
        let mut fired = Vec::new();
        while wheel.advance(now_ms, &mut fired, usize::MAX) {}
        fired
    }

    fn assert_consistent<T: Copy>(wheel: &TimerWheel<T>) {
        assert!(wheel.hand_ms <= wheel.now_ms);
        let next = wheel.cascade.or_else(|| wheel.earliest());
        assert_eq!(wheel.ready_ms, next.map_or(u64::MAX, |slot| slot.start_ms(wheel.hand_ms)));
        let mut linked = 0;
        for index in 0..wheel.lists.len() {
            let slot = Slot(u32::try_from(index).expect("few slots"));
            let list = wheel.lists[index];
            let bit = wheel.occupied[slot.level() as usize] >> slot.position() & 1;
            assert_eq!(bit == 1, list.first != NONE);
            let (mut previous, mut current) = (NONE, list.first);
            while current != NONE {
                let entry = &wheel.entries[current as usize];
                assert_eq!((entry.previous, entry.slot), (previous, slot));
                if wheel.cascade.is_none() {
                    assert_eq!(slot, Slot::of(entry.due_ms, wheel.hand_ms));
                }
                (previous, current) = (current, entry.next);
                linked += 1;
            }
            assert_eq!(list.last, previous);
        }
        for level in 0..LEVELS {
            assert_eq!(wheel.occupied_levels >> level & 1 == 1, wheel.occupied[level] != 0);
        }
        assert_eq!(linked, wheel.len());
        assert_eq!(wheel.iter().count(), wheel.len());
    }

    #[test]
    fn keys_and_entries_are_small() {
        assert_eq!(size_of::<TimerKey>(), 8);
        assert_eq!(size_of::<Option<TimerKey>>(), 8);
        assert_eq!(size_of::<Entry<u64>>(), 32);
    }

    #[test]
    fn fires_at_the_due_time_and_not_before() {
        for delay_ms in [1, 63, 64, 65, 4_095, 4_096, HOUR_MS, 1 << 36, 1 << 50] {
            let mut wheel = TimerWheel::new(1_000, 4);
            wheel.insert(1_000 + delay_ms, 'a').expect("room");
            assert_eq!(wheel.next_deadline(), Some(1_000 + delay_ms));
            assert!(drain(&mut wheel, 999 + delay_ms).is_empty());
            assert_eq!(drain(&mut wheel, 1_000 + delay_ms), ['a']);
            assert!(wheel.is_empty());
            assert_eq!(wheel.next_deadline(), None);
        }
    }

    #[test]
    fn a_due_time_in_the_past_fires_on_the_next_advance() {
        let mut wheel = TimerWheel::new(500, 4);
        wheel.insert(3, 'a').expect("room");
        assert_eq!(wheel.next_deadline(), Some(500));
        assert_eq!(drain(&mut wheel, 500), ['a']);
    }

    #[test]
    fn time_going_backwards_changes_nothing() {
        let mut wheel = TimerWheel::new(0, 4);
        wheel.insert(100, 'a').expect("room");
        assert!(drain(&mut wheel, 90).is_empty());
        assert!(drain(&mut wheel, 10).is_empty());
        wheel.insert(20, 'b').expect("room");
        assert_eq!(drain(&mut wheel, 10), ['b']);
        assert_eq!(drain(&mut wheel, 100), ['a']);
    }

    #[test]
    fn the_first_and_last_millisecond_of_u64_work() {
        let mut wheel = TimerWheel::new(0, 4);
        wheel.insert(u64::MAX, 'z').expect("room");
        wheel.insert(0, 'a').expect("room");
        assert_eq!(drain(&mut wheel, 0), ['a']);
        assert!(drain(&mut wheel, u64::MAX - 1).is_empty());
        assert_eq!(drain(&mut wheel, u64::MAX), ['z']);
        assert!(drain(&mut wheel, u64::MAX).is_empty());
        wheel.insert(0, 'b').expect("room");
        assert_eq!(drain(&mut wheel, 0), ['b']);
    }

    #[test]
    fn a_stale_key_does_not_cancel_the_timer_that_reuses_its_entry() {
        let mut wheel = TimerWheel::new(0, 1);
        let fired = wheel.insert(1, 'a').expect("room");
        assert_eq!(drain(&mut wheel, 1), ['a']);
        assert_eq!(wheel.cancel(fired), None);
        let cancelled = wheel.insert(2, 'b').expect("room");
        assert_eq!(cancelled.index, fired.index);
        assert_eq!(wheel.cancel(fired), None);
        assert_eq!(wheel.cancel(cancelled), Some('b'));
        wheel.insert(3, 'c').expect("room");
        assert_eq!((wheel.cancel(fired), wheel.cancel(cancelled)), (None, None));
        assert_eq!(drain(&mut wheel, 3), ['c']);
    }

    #[test]
    fn a_key_from_another_wheel_cannot_release_a_free_entry() {
        let (mut ours, mut theirs) = (TimerWheel::new(0, 4), TimerWheel::new(0, 4));
        let spent = ours.insert(1, 'a').expect("room");
        ours.cancel(spent);
        let once = theirs.insert(1, 'b').expect("room");
        theirs.cancel(once);
        let foreign = theirs.insert(1, 'c').expect("room");
        assert_eq!(ours.cancel(foreign), None);
        assert_consistent(&ours);
    }

    #[test]
    fn a_full_wheel_refuses_until_a_timer_leaves() {
        let mut wheel = TimerWheel::new(0, 2);
        let first = wheel.insert(1, 'a').expect("room");
        wheel.insert(2, 'b').expect("room");
        assert_eq!(wheel.insert(3, 'c'), Err(TimerFull { capacity_max: 2 }));
        assert_eq!(wheel.len(), 2);
        wheel.cancel(first);
        wheel.insert(3, 'c').expect("room");
        assert_eq!(drain(&mut wheel, 3), ['b', 'c']);
        assert_eq!(TimerWheel::new(0, 0).insert(1, 'a'), Err(TimerFull { capacity_max: 0 }));
    }

    #[test]
    fn max_bounds_a_turn_and_loses_nothing() {
        let mut wheel = TimerWheel::new(0, 16);
        for (due_ms, item) in [(7, 'b'), (5_000, 'd'), (7, 'c'), (2, 'a')] {
            wheel.insert(due_ms, item).expect("room");
        }
        let mut fired = Vec::new();
        assert!(wheel.advance(10_000, &mut fired, 0));
        assert!(wheel.advance(10_000, &mut fired, 2));
        assert_eq!(fired, ['a', 'b']);
        wheel.insert(1, 'e').expect("room");
        assert!(wheel.next_deadline().is_some_and(|due_ms| due_ms <= 10_000));
        assert!(wheel.advance(10_000, &mut fired, 2));
        assert!(!wheel.advance(10_000, &mut fired, 1), "exactly what was left");
        assert_eq!(fired, ['a', 'b', 'c', 'd', 'e']);
    }

    #[test]
    fn timers_of_one_millisecond_fire_in_the_order_they_were_armed() {
        let mut wheel = TimerWheel::new(0, 4_096);
        let due_ms = HOUR_MS + 77;
        let mut armed = 0_u64;
        for now_ms in (0..due_ms).step_by(7_919).chain(due_ms - 500..due_ms) {
            assert!(drain(&mut wheel, now_ms).is_empty());
            wheel.insert(due_ms, armed).expect("room");
            armed += 1;
        }
        assert_eq!(drain(&mut wheel, due_ms), (0..armed).collect::<Vec<_>>());
    }

    #[test]
    fn one_advance_relocates_a_bounded_number_and_then_continues() {
        let mut wheel = TimerWheel::new(0, 10_000);
        let armed: Vec<_> = (0..5_000_u64).map(|item| wheel.insert(5_000 + item / 100, item).expect("room")).collect();
        let mut fired = Vec::new();
        assert!(wheel.advance(4_999, &mut fired, 1));
        assert_eq!(wheel.cascade.map(Slot::level), Some(2));
        assert_eq!(wheel.next_deadline(), Some(4_096), "reached: advance again at once");
        assert_consistent(&wheel);
        wheel.insert(5_000, 9_999).expect("room");
        assert_eq!(wheel.cancel(armed[0]), Some(0), "already relocated");
        assert_eq!(wheel.cancel(armed[4_999]), Some(4_999), "still to be relocated");
        assert!(drain(&mut wheel, 4_999).is_empty());
        assert_eq!(drain(&mut wheel, 5_000), (1..100).chain([9_999]).collect::<Vec<_>>());
        assert_eq!(drain(&mut wheel, 6_000), (100..4_999).collect::<Vec<_>>());
    }

    #[test]
    fn cancelling_everything_halfway_through_a_cascade_leaves_an_empty_wheel() {
        let mut wheel = TimerWheel::new(0, 10_000);
        let armed: Vec<_> = (0..3_000_u64).map(|item| wheel.insert(5_000, item).expect("room")).collect();
        assert!(wheel.advance(4_500, &mut Vec::new(), 1));
        for key in armed {
            assert!(wheel.cancel(key).is_some());
        }
        assert_eq!(wheel.next_deadline(), None);
        wheel.insert(4_600, 1).expect("room");
        assert!(drain(&mut wheel, 4_599).is_empty());
        assert_eq!(wheel.next_deadline(), Some(4_600));
        assert_eq!(drain(&mut wheel, 4_600), [1]);
    }

    #[test]
    fn entries_are_reused_so_a_steady_state_does_not_allocate() {
        let mut wheel = TimerWheel::new(0, 1_000);
        let mut fired = Vec::new();
        for now_ms in 0..10_000 {
            wheel.insert(now_ms + 50, now_ms).expect("room");
            let key = wheel.insert(now_ms + 900, now_ms).expect("room");
            wheel.cancel(key);
            wheel.advance(now_ms, &mut fired, 10);
        }
        assert!(wheel.entries.len() < 60);
    }

    #[test]
    fn sleeping_until_the_next_deadline_wakes_a_few_times_per_timer() {
        let mut wheel = TimerWheel::new(1_234_567, 1_000);
        for item in 0..1_000_u64 {
            wheel.insert(1_234_567 + item * item * 3, item).expect("room");
        }
        let (mut fired, mut wake_ups) = (Vec::new(), 0);
        while let Some(deadline_ms) = wheel.next_deadline() {
            wheel.advance(deadline_ms, &mut fired, usize::MAX);
            wake_ups += 1;
        }
        assert_eq!(fired, (0..1_000).collect::<Vec<_>>());
        assert!(wake_ups < 2_000, "{wake_ups} wake-ups for 1,000 timers");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert { delay_ms: i64 },
        Cancel { pick: prop::sample::Index },
        Advance { by_ms: i64, max: usize, relocations_max: usize },
        Sleep,
    }

    fn offset_ms() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -100..200_i64,
            3 => 0..10_000_i64,
            2 => 0..(1_i64 << 27),
            1 => (1_i64 << 30)..(1_i64 << 40),
            1 => Just(i64::MAX),
            1 => any::<i64>().prop_map(|wide| wide >> 8),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => offset_ms().prop_map(|delay_ms| Step::Insert { delay_ms }),
            2 => any::<prop::sample::Index>().prop_map(|pick| Step::Cancel { pick }),
            3 => (offset_ms(), 0..6_usize, 1..6_usize)
                .prop_map(|(by_ms, max, relocations_max)| Step::Advance { by_ms, max, relocations_max }),
            1 => Just(Step::Sleep),
        ]
    }

    fn start_ms() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just((1 << 36) - 50), Just(u64::MAX - 5_000), 1_600_000_000_000..1_900_000_000_000_u64]
    }

    /// What the wheel must do, told plainly: armed timers ordered by due time, then by the order they were armed.
    struct Model {
        now_ms: u64,
        armed: BTreeMap<(u64, usize), usize>,
    }

    impl Model {
        fn due(&self, max: usize) -> Vec<usize> {
            self.armed.range(..=(self.now_ms, usize::MAX)).map(|(_, &item)| item).take(max).collect()
        }

        /// Takes what the wheel fired, which must be the first of what is due.
        fn take(&mut self, fired: &[usize]) {
            assert_eq!(fired, self.due(fired.len()));
            for _ in fired {
                self.armed.pop_first();
            }
        }
    }

    const MODEL_CAPACITY_MAX: usize = 40;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_an_ordered_map(start_ms in start_ms(), steps in prop::collection::vec(step(), 1..150)) {
            let mut wheel = TimerWheel::new(start_ms, MODEL_CAPACITY_MAX);
            let mut model = Model { now_ms: start_ms, armed: BTreeMap::new() };
            let mut keys = Vec::new();
            for step in steps {
                match step {
                    Step::Insert { delay_ms } => {
                        let due_ms = model.now_ms.saturating_add_signed(delay_ms);
                        let item = keys.len();
                        let inserted = wheel.insert(due_ms, item);
                        prop_assert_eq!(inserted.is_ok(), model.armed.len() < MODEL_CAPACITY_MAX);
                        if let Ok(key) = inserted {
                            let place = (due_ms.max(model.now_ms), item);
                            model.armed.insert(place, item);
                            keys.push((key, place));
                        }
                    }
                    Step::Cancel { pick } if !keys.is_empty() => {
                        let (key, place) = keys[pick.index(keys.len())];
                        prop_assert_eq!(wheel.cancel(key), model.armed.remove(&place));
                    }
                    Step::Cancel { .. } => {}
                    Step::Advance { by_ms, max, relocations_max } => {
                        let to_ms = model.now_ms.saturating_add_signed(by_ms);
                        model.now_ms = model.now_ms.max(to_ms);
                        let mut fired = Vec::new();
                        wheel.now_ms = model.now_ms;
                        let ready = wheel.ready_ms <= wheel.now_ms;
                        let again = ready && wheel.turn(&mut fired, max, relocations_max);
                        if !ready {
                            prop_assert!(!wheel.advance(to_ms, &mut fired, max));
                        }
                        model.take(&fired);
                        prop_assert!(fired.len() <= max);
                        prop_assert!(again || (model.due(1).is_empty() && wheel.hand_ms == wheel.now_ms));
                        prop_assert!(!again || wheel.cascade.is_some() || (fired.len() == max && !model.due(1).is_empty()));
                    }
                    Step::Sleep => {
                        let mut turns = 0;
                        while let Some(deadline_ms) = wheel.next_deadline().filter(|_| model.due(1).is_empty()) {
                            model.now_ms = model.now_ms.max(deadline_ms);
                            let mut fired = Vec::new();
                            wheel.advance(deadline_ms, &mut fired, usize::MAX);
                            turns += 1;
                            // At worst one to end a cascade, one for each relocation from the top, one to fire.
                            prop_assert!(turns <= LEVELS + 1, "a wake-up made no progress");
                            model.take(&fired);
                            if !fired.is_empty() {
                                break;
                            }
                        }
                    }
                }
                assert_consistent(&wheel);
                prop_assert_eq!(wheel.len(), model.armed.len());
                let earliest_ms = model.armed.first_key_value().map(|((due_ms, _), _)| *due_ms);
                prop_assert_eq!(wheel.next_deadline().is_some(), earliest_ms.is_some());
                prop_assert!(wheel.next_deadline() <= earliest_ms);
            }
            let mut listed: Vec<_> = wheel.iter().collect();
            listed.sort_unstable();
            prop_assert_eq!(listed, model.armed.keys().copied().collect::<Vec<_>>());
            model.now_ms = u64::MAX;
            model.take(&drain(&mut wheel, u64::MAX));
            prop_assert!(model.armed.is_empty() && wheel.is_empty());
        }
    }
}
