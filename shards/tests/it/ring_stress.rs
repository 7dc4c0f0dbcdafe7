//! Two real threads over a ring and over a mesh: nothing is lost, duplicated, reordered or torn.

use std::{
    hint,
    num::{NonZeroU16, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    thread::{self, Thread},
};

use caxton_shards::mesh::{LaneCapacity, Port, doorbell::Doorbell, mesh, ring::ring};

/// As large as a message, and filled so that a torn or stale copy shows.
#[derive(Clone, Copy)]
struct Item([u64; 48]);

impl Item {
    fn new(number: u64) -> Self {
        let mut words = [0; 48];
        for (word, salt) in words.iter_mut().zip(0_u64..) {
            *word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt;
        }
        words[0] = number;
        Self(words)
    }

    /// Returns the number that the item was created from, after checking its first, middle and last words.
    fn checked_number(&self) -> u64 {
        let expected = Self::new(self.0[0]);
        assert_eq!(self.0, expected.0, "an item was torn");
        self.0[0]
    }
}

fn capacity(slots: usize) -> NonZeroUsize {
    NonZeroUsize::new(slots).expect("the tests use rings with slots")
}

/// Moves `count` items through a ring in chunks whose sizes drift apart, so that every alignment of the two occurs.
fn relay(slots: usize, count: u64) {
    let (mut producer, mut consumer) = ring(capacity(slots));
    let sender = thread::spawn(move || {
        let mut chunk = 1;
        let mut number = 0;
        while number < count {
            for _ in 0..chunk {
                if number == count || producer.push(Item::new(number)).is_err() {
                    break;
                }
                number += 1;
            }
            if producer.publish() == 0 {
                thread::yield_now();
            }
            chunk = chunk % 67 + 1;
        }
    });
    let mut next = 0;
    let mut sum = 0_u64;
    let mut chunk = 1;
    while next < count {
        let taken = consumer.drain_chunk(chunk, |item: Item| {
            let number = item.checked_number();
            assert_eq!(number, next, "an item was lost, doubled or overtaken");
            sum = sum.wrapping_add(number);
            next += 1;
        });
        if taken == 0 {
            thread::yield_now();
        }
        chunk = chunk % 41 + 1;
    }
    sender.join().expect("the sender does not fail");
    assert!(consumer.is_empty());
    assert!(consumer.is_abandoned());
    assert_eq!(sum, count * (count - 1) / 2);
}

#[test]
fn a_large_ring_keeps_every_item_in_order() {
    relay(1024, 2_000_000);
}

#[test]
fn a_ring_of_odd_size_keeps_every_item_in_order() {
    relay(37, 500_000);
}

#[test]
fn a_ring_of_one_slot_keeps_every_item_in_order() {
    relay(1, 30_000);
}

/// Owns memory, so that counting detects an item dropped twice or never.
struct Tracked {
    live: Arc<AtomicUsize>,
    number: Box<u64>,
}

impl Tracked {
    fn new(live: &Arc<AtomicUsize>, number: u64) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self { live: Arc::clone(live), number: Box::new(number) }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn items_left_behind_by_either_thread_are_dropped_once() {
    for round in 0..300_u64 {
        let live = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(capacity(8));
        let counter = Arc::clone(&live);
        let sender = thread::spawn(move || {
            for number in 0..100 {
                if producer.push(Tracked::new(&counter, number)).is_err() && producer.is_abandoned() {
                    break;
                }
                if number % 3 == 0 {
                    producer.publish();
                }
            }
        });
        let mut last = None;
        for _ in 0..round {
            let Some(item) = consumer.pop() else { continue };
            assert!(last < Some(*item.number));
            last = Some(*item.number);
            if round % 2 == 0 {
                consumer.release();
            }
        }
        drop(consumer);
        sender.join().expect("the sender does not fail");
        assert_eq!(live.load(Ordering::Relaxed), 0);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The loop of a shard in the test: sends all its items, receives all of the other's, and parks when it can do neither.
/// After a lost wake-up both stay parked forever.
fn exchange(port: &mut Port<Item>, doorbells: &[Arc<Doorbell>], count: u64) {
    let me = port.index();
    let other = 1 - me;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut sent, mut next, mut spins) = (0, 0, 0);
    while sent < count || next < count {
        let mut progress = false;
        while sent < count {
            // Every seventh item travels without a credit, as notices do.
            let item = Item::new(sent);
            let refused = if sent % 7 == 6 { port.send_uncredited(other, item) } else { port.send(other, item) };
            if refused.is_err() {
                break;
            }
            sent += 1;
            progress = true;
        }
        let mut credited = 0;
        let taken = port.receive(other, 16, |item| {
            assert_eq!(item.checked_number(), next, "an item was lost, doubled or overtaken");
            credited += usize::from(next % 7 != 6);
            next += 1;
        });
        progress |= taken > 0;
        port.return_credits(other, credited);
        for &shard in port.flush() {
            doorbells[shard].ring();
        }
        if progress {
            spins = 0;
            continue;
        }
        spins += 1;
        if spins < 20 {
            hint::spin_loop();
            continue;
        }
        doorbells[me].arm(&waker);
        if !port.has_incoming() && !port.has_awaited_room() {
            while doorbells[me].is_armed() {
                thread::park();
            }
        }
        doorbells[me].disarm();
        spins = 0;
    }
}

#[test]
fn two_shards_that_park_and_wake_each_other_exchange_everything() {
    for (credits, uncredited) in [(1, 1), (5, 2), (64, 8)] {
        let ports = mesh(
            NonZeroU16::new(2).expect("two is not zero"),
            LaneCapacity { credits: capacity(credits), uncredited: capacity(uncredited) },
        );
        let doorbells: Vec<Arc<Doorbell>> = (0..2).map(|_| Arc::new(Doorbell::new())).collect();
        let count = if credits == 1 { 20_000 } else { 200_000 };
        let threads: Vec<_> = ports
            .into_iter()
            .map(|mut port| {
                let doorbells = doorbells.clone();
                thread::spawn(move || {
                    exchange(&mut port, &doorbells, count);
                    port
                })
            })
            .collect();
        let ports: Vec<Port<Item>> = threads.into_iter().map(|thread| thread.join().expect("no shard fails")).collect();
        assert!(ports.iter().all(|port| port.in_flight() == 0));
    }
}
