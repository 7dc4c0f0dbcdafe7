//! Loom checks the ring, the doorbell and the credits over all interleavings of two threads allowed by the memory
//! model. Rings of one to three slots cover every case of full, empty and wrapped.
//!
//! Run with `cargo test -p caxton-shards --features loom --test ring_loom`.

use std::{
    future::poll_fn,
    num::{NonZeroU16, NonZeroUsize},
    task::Poll,
};

use caxton_shards::mesh::{
    LaneCapacity, Port,
    doorbell::Doorbell,
    mesh,
    ring::{Consumer, Popped, Producer, ring},
};
use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

fn small_ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring(NonZeroUsize::new(capacity).expect("the tests use rings with slots"))
}

/// Checks all interleavings in which threads are interrupted at most three times, which keeps the longer models short.
fn bounded_model(check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

fn pair(credits: usize, uncredited: usize) -> (Port<u64>, Port<u64>) {
    let capacity = LaneCapacity {
        credits: NonZeroUsize::new(credits).expect("the tests use at least one credit"),
        uncredited: NonZeroUsize::new(uncredited).expect("the tests use at least one uncredited slot"),
    };
    let mut ports = mesh(NonZeroU16::new(2).expect("two is not zero"), capacity).into_iter();
    let (Some(first), Some(second)) = (ports.next(), ports.next()) else { panic!("two shards have two ports") };
    (first, second)
}

/// Pushes three items through a ring, publishing and releasing after every `published` and `released` of them.
fn pass_three(capacity: usize, published: u32, released: u32) {
    loom::model(move || {
        let (mut producer, mut consumer) = small_ring::<Box<u32>>(capacity);
        let sender = thread::spawn(move || {
            for number in 1..=3 {
                let mut item = Box::new(number);
                while let Err(refused) = producer.push(item) {
                    producer.publish();
                    thread::yield_now();
                    item = refused;
                }
                if number % published == 0 {
                    producer.publish();
                }
            }
        });
        let mut next = 1;
        while next <= 3 {
            let Some(item) = consumer.pop() else {
                consumer.release();
                thread::yield_now();
                continue;
            };
            assert_eq!(*item, next);
            if next % released == 0 {
                consumer.release();
            }
            next += 1;
        }
        sender.join().expect("the sender does not fail");
        assert!(consumer.is_empty());
    });
}

#[test]
fn a_ring_of_one_slot_wraps() {
    pass_three(1, 1, 1);
}

#[test]
fn a_ring_of_two_slots_wraps() {
    pass_three(2, 1, 1);
}

#[test]
fn a_ring_of_two_slots_wraps_in_chunks() {
    pass_three(2, 2, 2);
}

#[test]
fn a_ring_of_three_slots_moves_one_chunk() {
    pass_three(3, 3, 3);
}

#[test]
fn items_are_made_in_their_slots_and_copied_from_them() {
    loom::model(|| {
        let (mut producer, mut consumer) = small_ring::<Box<u32>>(1);
        let sender = thread::spawn(move || {
            for number in 1..=3 {
                while !producer.push_in_place(|slot| slot.write(Box::new(number))) {
                    thread::yield_now();
                }
                producer.publish();
            }
        });
        let mut next = 1;
        while next <= 3 {
            // The second one is moved.
            let number = match consumer.pop_or_copy(|item| (**item != 2).then_some(**item)) {
                Some(Popped::Copied(number)) => number,
                Some(Popped::Moved(item)) => *item,
                None => {
                    thread::yield_now();
                    continue;
                }
            };
            assert_eq!(number, next);
            consumer.release();
            next += 1;
        }
        sender.join().expect("the sender does not fail");
        assert!(consumer.is_empty());
    });
}

#[test]
fn chunks_are_drained_in_order_while_more_are_pushed() {
    loom::model(|| {
        let (mut producer, mut consumer) = small_ring::<Box<u32>>(3);
        producer.push(Box::new(1)).expect("the ring is empty");
        producer.publish();
        let sender = thread::spawn(move || {
            let mut sent = 1;
            for number in 2..=4 {
                if producer.push(Box::new(number)).is_err() {
                    break;
                }
                sent = number;
            }
            producer.publish();
            sent
        });
        let mut next = 1;
        for _ in 0..2 {
            consumer.drain_chunk(2, |item| {
                assert_eq!(*item, next);
                next += 1;
            });
        }
        let sent = sender.join().expect("the sender does not fail");
        consumer.drain_chunk(4, |item| {
            assert_eq!(*item, next);
            next += 1;
        });
        assert_eq!(next, sent + 1);
    });
}

/// Counts its drops through loom, so that their order is checked too.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn items_are_dropped_once_when_both_ends_go_at_the_same_time() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = small_ring(2);
        let counter = Arc::clone(&drops);
        let sender = thread::spawn(move || {
            let mut made = 0;
            for _ in 0..3 {
                made += 1;
                if producer.push(Counted(Arc::clone(&counter))).is_err() {
                    break;
                }
                if made == 1 {
                    producer.publish();
                }
            }
            // What was not published yet is published by the drop at the end.
            made
        });
        drop(consumer.pop());
        drop(consumer);
        let made = sender.join().expect("the sender does not fail");
        assert_eq!(drops.load(Ordering::Relaxed), made);
    });
}

/// Waits like a shard: arms, looks again and sleeps. Loom reports a deadlock if it sleeps forever.
fn sleep_until(doorbell: &Doorbell, mut ready: impl FnMut() -> bool) {
    block_on(poll_fn(|context| {
        if ready() {
            return Poll::Ready(());
        }
        doorbell.arm(context.waker());
        if ready() {
            doorbell.disarm();
            return Poll::Ready(());
        }
        Poll::Pending
    }));
    doorbell.disarm();
}

#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let (mut producer, mut consumer) = small_ring(1);
        let bell = Arc::clone(&doorbell);
        let sender = thread::spawn(move || {
            producer.push(1).expect("the ring is empty");
            producer.publish();
            bell.ring();
        });
        sleep_until(&doorbell, || !consumer.is_empty());
        assert_eq!(consumer.pop(), Some(1));
        sender.join().expect("the sender does not fail");
        doorbell.clear();
    });
}

#[test]
fn no_wake_up_is_lost_between_two_items() {
    bounded_model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let (mut producer, mut consumer) = small_ring(2);
        let bell = Arc::clone(&doorbell);
        let sender = thread::spawn(move || {
            for number in 1..=2 {
                producer.push(number).expect("two slots hold two items");
                producer.publish();
                bell.ring();
            }
        });
        for number in 1..=2 {
            sleep_until(&doorbell, || !consumer.is_empty());
            assert_eq!(consumer.pop(), Some(number));
        }
        sender.join().expect("the sender does not fail");
        doorbell.clear();
    });
}

#[test]
fn no_wake_up_is_lost_with_two_senders() {
    bounded_model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let mut consumers = Vec::new();
        let mut senders = Vec::new();
        for number in 1..=2 {
            let (mut producer, consumer) = small_ring(1);
            consumers.push(consumer);
            let bell = Arc::clone(&doorbell);
            senders.push(thread::spawn(move || {
                producer.push(number).expect("the ring is empty");
                producer.publish();
                bell.ring();
            }));
        }
        let mut sum = 0;
        while sum < 3 {
            sleep_until(&doorbell, || consumers.iter_mut().any(|consumer| !consumer.is_empty()));
            sum += consumers.iter_mut().filter_map(Consumer::pop).sum::<i32>();
        }
        for sender in senders {
            sender.join().expect("no sender fails");
        }
        doorbell.clear();
    });
}

#[test]
fn a_watchdog_that_rings_at_any_time_loses_no_wake_up() {
    bounded_model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let (mut producer, mut consumer) = small_ring(1);
        let bell = Arc::clone(&doorbell);
        let sender = thread::spawn(move || {
            producer.push(1).expect("the ring is empty");
            producer.publish();
            bell.ring();
        });
        let bell = Arc::clone(&doorbell);
        let watchdog = thread::spawn(move || {
            bell.ring_again();
        });
        sleep_until(&doorbell, || !consumer.is_empty());
        assert_eq!(consumer.pop(), Some(1));
        sender.join().expect("the sender does not fail");
        watchdog.join().expect("the watchdog does not fail");
        doorbell.clear();
    });
}

#[test]
fn after_clear_nobody_wakes() {
    loom::model(|| {
        let doorbell = Arc::new(Doorbell::new());
        let bell = Arc::clone(&doorbell);
        let sender = thread::spawn(move || {
            bell.ring();
        });
        block_on(poll_fn(|context| {
            doorbell.arm(context.waker());
            doorbell.clear();
            Poll::Ready(())
        }));
        let rings = doorbell.rings();
        sender.join().expect("the sender does not fail");
        assert_eq!(doorbell.rings(), rings);
    });
}

#[test]
fn a_returned_credit_is_room() {
    loom::model(|| {
        let (mut first, mut second) = pair(1, 1);
        let sender = thread::spawn(move || {
            first.send_uncredited(1, 0).expect("the slot is empty");
            for number in 1..=2 {
                while first.credits(1) == 0 {
                    thread::yield_now();
                }
                first.send(1, number).expect("a credit is room");
                first.flush();
            }
        });
        let mut next = 0;
        while next <= 2 {
            let mut credited = 0;
            let taken = second.receive(0, 4, |number| {
                assert_eq!(number, next);
                credited += usize::from(number > 0);
                next += 1;
            });
            if taken == 0 {
                thread::yield_now();
            }
            second.return_credits(0, credited);
            second.flush();
        }
        sender.join().expect("the sender does not fail");
    });
}

/// The number of items sent through a lane of one: with the third, a sender may use room before it has been announced,
/// and be refused before the receiver announces it.
const THROUGH_ONE_SLOT: u64 = 3;

/// Receives items, parking in between, and rings the shards named by its flush.
fn receive_all(mut port: Port<u64>, doorbells: &[Arc<Doorbell>; 2], credited: bool) {
    let mut next = 1;
    while next <= THROUGH_ONE_SLOT {
        sleep_until(&doorbells[1], || port.has_incoming());
        let taken = port.receive(0, 4, |number| {
            assert_eq!(number, next);
            next += 1;
        });
        if credited {
            port.return_credits(0, taken);
        }
        for &shard in port.flush() {
            doorbells[shard].ring();
        }
    }
    doorbells[1].clear();
}

#[test]
fn a_sender_without_credit_is_woken() {
    bounded_model(|| {
        let (mut first, second) = pair(1, 1);
        let doorbells = [Arc::new(Doorbell::new()), Arc::new(Doorbell::new())];
        let bells = doorbells.clone();
        let receiver = thread::spawn(move || receive_all(second, &bells, true));
        for number in 1..=THROUGH_ONE_SLOT {
            while first.send(1, number).is_err() {
                sleep_until(&doorbells[0], || first.has_awaited_room());
            }
            for &shard in first.flush() {
                doorbells[shard].ring();
            }
        }
        receiver.join().expect("the receiver does not fail");
        doorbells[0].clear();
    });
}

#[test]
fn a_sender_of_notices_without_room_is_woken() {
    bounded_model(|| {
        let (mut first, second) = pair(1, 1);
        let doorbells = [Arc::new(Doorbell::new()), Arc::new(Doorbell::new())];
        let bells = doorbells.clone();
        let receiver = thread::spawn(move || receive_all(second, &bells, false));
        for number in 1..=THROUGH_ONE_SLOT {
            while first.send_uncredited(1, number).is_err() {
                sleep_until(&doorbells[0], || first.has_awaited_room());
            }
            for &shard in first.flush() {
                doorbells[shard].ring();
            }
        }
        receiver.join().expect("the receiver does not fail");
        doorbells[0].clear();
    });
}
