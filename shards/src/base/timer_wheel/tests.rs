use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOUR_MS: u64 = 3_600_000;

/// Fires everything due at `now_ms`, in as many turns as needed.
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
    assert_eq!(wheel.insert(3, 'c'), Err(TimersFullError { capacity_max: 2 }));
    assert_eq!(wheel.len(), 2);
    wheel.cancel(first);
    wheel.insert(3, 'c').expect("room");
    assert_eq!(drain(&mut wheel, 3), ['b', 'c']);
    assert_eq!(TimerWheel::new(0, 0).insert(1, 'a'), Err(TimersFullError { capacity_max: 0 }));
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

/// A naive model of the wheel: armed timers ordered by due time, then by the order in which they were armed.
struct Model {
    now_ms: u64,
    armed: BTreeMap<(u64, usize), usize>,
}

impl Model {
    fn due(&self, max: usize) -> Vec<usize> {
        self.armed.range(..=(self.now_ms, usize::MAX)).map(|(_, &item)| item).take(max).collect()
    }

    /// Removes the fired items, which must be the first of those due.
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
                        // At most one to end a cascade, one per relocation from the top, and one to fire.
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
