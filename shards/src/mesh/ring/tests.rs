use std::{
    cell::Cell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use proptest::prelude::*;

use super::*;

fn small_ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring(NonZeroUsize::new(capacity).expect("the tests use rings with slots"))
}

/// Counts its drops. The tests that use it are single-threaded; the marker below relies on that.
struct Counted(Rc<Cell<usize>>);

// SAFETY: no test of this module moves a ring of these to another thread.
unsafe impl Send for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn ends_can_move_to_another_thread() {
    fn assert_send<T: Send>(_: &T) {}
    let (producer, consumer) = small_ring::<Box<u8>>(1);
    assert_send(&producer);
    assert_send(&consumer);
}

#[test]
fn items_are_invisible_until_published() {
    let (mut producer, mut consumer) = small_ring(4);
    producer.push(1).expect("the ring is empty");
    producer.push(2).expect("the ring has room");
    assert!(consumer.is_empty());
    assert_eq!(producer.unpublished(), 2);
    assert_eq!(producer.publish(), 2);
    assert_eq!(producer.publish(), 0);
    assert_eq!(consumer.available(), 2);
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(consumer.pop(), Some(2));
    assert_eq!(consumer.pop(), None);
}

#[test]
fn slots_are_taken_until_released() {
    let (mut producer, mut consumer) = small_ring(1);
    producer.push('a').expect("the ring is empty");
    assert_eq!(producer.push('b'), Err('b'));
    producer.publish();
    assert_eq!(consumer.pop(), Some('a'));
    assert_eq!(producer.free_slots(), 0);
    assert_eq!(producer.in_flight(), 1);
    consumer.release();
    assert_eq!(producer.free_slots(), 1);
    assert_eq!(producer.in_flight(), 0);
    assert_eq!(producer.released(), 1);
}

#[test]
fn drain_chunk_takes_no_more_than_asked() {
    let (mut producer, mut consumer) = small_ring(3);
    for item in 0..3 {
        producer.push(item).expect("three slots hold three items");
    }
    producer.publish();
    let mut taken = Vec::new();
    assert_eq!(consumer.drain_chunk(2, |item| taken.push(item)), 2);
    assert_eq!(consumer.unreleased(), 0);
    assert_eq!(consumer.drain_chunk(2, |item| taken.push(item)), 1);
    assert_eq!(consumer.drain_chunk(2, |item| taken.push(item)), 0);
    assert_eq!(taken, [0, 1, 2]);
}

#[test]
fn dropping_an_end_publishes_or_releases_and_is_noticed() {
    let (mut producer, mut consumer) = small_ring(2);
    assert!(!consumer.is_abandoned());
    producer.push(7).expect("the ring is empty");
    drop(producer);
    assert!(consumer.is_abandoned());
    assert_eq!(consumer.pop(), Some(7));

    let (mut producer, mut consumer) = small_ring(1);
    producer.push(8).expect("the ring is empty");
    producer.publish();
    consumer.pop();
    drop(consumer);
    assert!(producer.is_abandoned());
    assert_eq!(producer.free_slots(), 1);
}

#[test]
fn items_left_behind_are_dropped_once_whichever_end_goes_first() {
    for producer_first in [true, false] {
        let drops = Rc::new(Cell::new(0));
        let (mut producer, mut consumer) = small_ring(3);
        // The first two items leave again, so that those left behind wrap around the end of the slots.
        for _ in 0..2 {
            assert!(producer.push(Counted(Rc::clone(&drops))).is_ok());
        }
        producer.publish();
        assert_eq!(consumer.drain_chunk(2, drop), 2);
        assert_eq!(drops.get(), 2);
        for _ in 0..3 {
            assert!(producer.push(Counted(Rc::clone(&drops))).is_ok());
        }
        producer.publish();
        // One item is popped but its slot is not released; it must not be counted twice.
        drop(consumer.pop());
        assert_eq!(drops.get(), 3);
        if producer_first {
            drop(producer);
            drop(consumer);
        } else {
            drop(consumer);
            drop(producer);
        }
        assert_eq!(drops.get(), 5);
        assert_eq!(Rc::strong_count(&drops), 1);
    }
}

#[test]
fn a_panic_in_the_receiver_loses_only_the_item_it_was_given() {
    let (mut producer, mut consumer) = small_ring(3);
    for item in 0..3 {
        producer.push(item).expect("three slots hold three items");
    }
    producer.publish();
    let outcome =
        catch_unwind(AssertUnwindSafe(|| consumer.drain_chunk(3, |item| assert_ne!(item, 1, "the handler fails"))));
    assert!(outcome.is_err());
    assert_eq!(consumer.pop(), Some(2));
    assert_eq!(consumer.pop(), None);
}

#[test]
fn an_item_is_made_where_it_stays_or_not_at_all() {
    let (mut producer, mut consumer) = small_ring::<Box<u8>>(1);
    let fails = AssertUnwindSafe(|| producer.push_in_place(|_| panic!("it is not made")));
    assert!(catch_unwind(fails).is_err());
    let elsewhere = AssertUnwindSafe(|| producer.push_in_place(|_| Box::leak(Box::new(Box::new(1)))));
    assert!(catch_unwind(elsewhere).is_err());
    assert_eq!(producer.publish(), 0, "nothing was made");
    assert!(producer.push_in_place(|slot| slot.write(Box::new(2))));
    assert!(!producer.push_in_place(|_| panic!("there is no room")));
    producer.publish();
    assert_eq!(consumer.pop(), Some(Box::new(2)));
}

#[test]
fn an_item_that_is_copied_is_dropped_and_another_is_moved() {
    let (mut producer, mut consumer) = small_ring(3);
    let drops = Rc::new(Cell::new(0));
    for _ in 0..3 {
        assert!(producer.push(Counted(Rc::clone(&drops))).is_ok());
    }
    producer.publish();
    let failed = catch_unwind(AssertUnwindSafe(|| consumer.pop_or_copy::<u8>(|_| panic!("it is not copied"))));
    assert!(failed.is_err());
    assert_eq!((consumer.available(), drops.get()), (3, 0), "it stays");
    assert!(matches!(consumer.pop_or_copy(|item| Some(item.0.get())), Some(Popped::Copied(0))));
    assert_eq!((consumer.available(), drops.get()), (2, 1));
    let Some(Popped::Moved(item)) = consumer.pop_or_copy(|_| None::<u8>) else { panic!("it is moved out") };
    assert_eq!((consumer.available(), drops.get()), (1, 1));
    drop(item);
    assert!(matches!(consumer.pop_or_copy(|_| Some(())), Some(Popped::Copied(()))));
    assert!(consumer.pop_or_copy(|_| Some(())).is_none());
    assert_eq!((consumer.unreleased(), drops.get()), (3, 3));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push,
    PushInPlace,
    Publish,
    Pop,
    Copy,
    Release,
    Drain(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Push),
        2 => Just(Step::PushInPlace),
        2 => Just(Step::Publish),
        2 => Just(Step::Pop),
        1 => Just(Step::Copy),
        1 => Just(Step::Release),
        1 => (0_usize..6).prop_map(Step::Drain),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// The ring behaves like a queue whose items become visible when published and whose room becomes free when
    /// released.
    #[test]
    fn behaves_like_a_queue(capacity in 1_usize..9, steps in steps()) {
        let (mut producer, mut consumer) = small_ring::<Box<u64>>(capacity);
        let mut hidden: VecDeque<u64> = VecDeque::new();
        let mut visible: VecDeque<u64> = VecDeque::new();
        let mut unreleased = 0;
        for (number, step) in (0_u64..).zip(steps) {
            match step {
                Step::Push => {
                    let full = hidden.len() + visible.len() + unreleased == capacity;
                    prop_assert_eq!(producer.push(Box::new(number)).is_err(), full);
                    if !full {
                        hidden.push_back(number);
                    }
                }
                Step::PushInPlace => {
                    let full = hidden.len() + visible.len() + unreleased == capacity;
                    prop_assert_eq!(producer.push_in_place(|slot| slot.write(Box::new(number))), !full);
                    if !full {
                        hidden.push_back(number);
                    }
                }
                Step::Publish => {
                    prop_assert_eq!(producer.publish(), hidden.len());
                    visible.append(&mut hidden);
                }
                Step::Pop => {
                    let expected = visible.pop_front();
                    unreleased += usize::from(expected.is_some());
                    prop_assert_eq!(consumer.pop().map(|item| *item), expected);
                }
                Step::Copy => {
                    let expected = visible.pop_front().map(|number| match number % 2 {
                        0 => Popped::Copied(number),
                        _ => Popped::Moved(Box::new(number)),
                    });
                    unreleased += usize::from(expected.is_some());
                    prop_assert_eq!(consumer.pop_or_copy(|item| (**item % 2 == 0).then_some(**item)), expected);
                }
                Step::Release => {
                    consumer.release();
                    unreleased = 0;
                }
                Step::Drain(max) => {
                    // A chunk is what is known to be published; it is empty only if nothing is.
                    let count = consumer.drain_chunk(max, |item| assert_eq!(Some(*item), visible.pop_front()));
                    prop_assert!(count <= max);
                    prop_assert!(count > 0 || max == 0 || visible.is_empty());
                    unreleased = 0;
                }
            }
            prop_assert_eq!(consumer.is_empty(), visible.is_empty());
            prop_assert_eq!(producer.unpublished(), hidden.len());
            prop_assert_eq!(producer.in_flight(), visible.len() + unreleased);
        }
    }
}
