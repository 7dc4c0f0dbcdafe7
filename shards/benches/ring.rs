//! Compares ways of moving a message by value from one pinned thread to another.
//!
//! Items are as large as a message and the receiver moves each into a small local buffer, as a shard moves messages
//! into its slab. All candidates take turns within each of many short rounds, so that noise disturbs them alike. The
//! median and the quartiles over the rounds are printed.
//!
//! Run with `cargo bench -p caxton-shards --bench ring`, or `-- ROUNDS ITEMS` for other sizes.

use std::{
    hint,
    hint::black_box,
    num::NonZeroUsize,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use caxton_shards::mesh::{doorbell::Doorbell, ring::ring};
use crossbeam::queue::ArrayQueue;

const WORDS: usize = 48;
const LOCAL_SLOTS: usize = 64;
const ROUNDS: usize = 31;
const ITEMS: u64 = 400_000;
/// How many times a side polls before it yields the processor.
const SPINS: u32 = 200;

/// A message of 384 bytes. It is not `Copy`, and all its words are written and moved.
struct Item([u64; WORDS]);

impl Item {
    #[inline]
    fn new(number: u64) -> Self {
        Self([number; WORDS])
    }
}

/// The receiver's own memory, into which items are moved.
struct Slab {
    slots: Vec<Item>,
    next: usize,
    expected: u64,
}

impl Slab {
    fn new() -> Self {
        Self { slots: (0..LOCAL_SLOTS).map(|_| Item::new(0)).collect(), next: 0, expected: 0 }
    }

    #[inline]
    fn keep(&mut self, item: Item) {
        assert_eq!(item.0[0], self.expected, "an item was lost or overtaken");
        self.expected += 1;
        self.slots[self.next] = item;
        self.next = (self.next + 1) % LOCAL_SLOTS;
    }
}

/// Waits briefly for the other side.
struct Pause(u32);

impl Pause {
    #[inline]
    fn wait(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(SPINS) {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}

/// Runs a sender and a receiver on two cores and returns the time until everything was received.
fn timed(send: impl FnOnce() + Send, receive: impl FnOnce(&mut Slab) + Send) -> Duration {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (first, second) = (cores.first().copied(), cores.last().copied());
    let start = Arc::new(Barrier::new(2));
    let sender_start = Arc::clone(&start);
    thread::scope(|scope| {
        scope.spawn(move || {
            first.map(core_affinity::set_for_current);
            sender_start.wait();
            send();
        });
        let receiver = scope.spawn(move || {
            second.map(core_affinity::set_for_current);
            let mut slab = Slab::new();
            start.wait();
            let begin = Instant::now();
            receive(&mut slab);
            let elapsed = begin.elapsed();
            black_box(&slab.slots);
            elapsed
        });
        receiver.join().expect("the receiver does not fail")
    })
}

fn own_ring(capacity: usize, chunk: usize, items: u64) -> Duration {
    let (mut producer, mut consumer) = ring(NonZeroUsize::new(capacity).expect("a ring has slots"));
    timed(
        move || {
            let mut pause = Pause(0);
            let mut number = 0;
            while number < items {
                let mut pushed = 0;
                while pushed < chunk && number < items && producer.push(Item::new(number)).is_ok() {
                    pushed += 1;
                    number += 1;
                }
                if producer.publish() == 0 {
                    pause.wait();
                }
            }
        },
        move |slab| {
            let mut pause = Pause(0);
            while slab.expected < items {
                if consumer.drain_chunk(chunk, |item| slab.keep(item)) == 0 {
                    pause.wait();
                }
            }
        },
    )
}

/// rtrb with its own single operations, which publish and release every item.
fn rtrb_single(capacity: usize, items: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(capacity);
    timed(
        move || {
            let mut pause = Pause(0);
            for number in 0..items {
                let mut item = Item::new(number);
                while let Err(rtrb::PushError::Full(refused)) = producer.push(item) {
                    item = refused;
                    pause.wait();
                }
            }
        },
        move |slab| {
            let mut pause = Pause(0);
            while slab.expected < items {
                match consumer.pop() {
                    Ok(item) => slab.keep(item),
                    Err(_) => pause.wait(),
                }
            }
        },
    )
}

/// rtrb with chunks built in place, which needs the whole chunk to be available when it asks for room.
fn rtrb_chunks(capacity: usize, chunk: usize, items: u64) -> Duration {
    let (mut producer, consumer) = rtrb::RingBuffer::new(capacity);
    timed(
        move || {
            let mut pause = Pause(0);
            let mut number = 0;
            while number < items {
                let wanted = chunk.min(usize::try_from(items - number).unwrap_or(usize::MAX));
                let room = cached_room(&producer).min(wanted);
                if room == 0 {
                    pause.wait();
                    continue;
                }
                let slots = producer.write_chunk_uninit(room).expect("the room was just seen");
                slots.fill_from_iter((number..).map(Item::new));
                number += room as u64;
            }
        },
        rtrb_receiver(consumer, chunk, items),
    )
}

/// rtrb behind the interface that a mesh needs: items arrive one at a time during a turn, so they wait in a buffer
/// until the flush, because a chunk cannot stay open between two calls.
fn rtrb_staged(capacity: usize, chunk: usize, items: u64) -> Duration {
    let (mut producer, consumer) = rtrb::RingBuffer::new(capacity);
    timed(
        move || {
            let mut pause = Pause(0);
            let mut number = 0;
            let mut staged: Vec<Item> = Vec::with_capacity(chunk);
            while number < items || !staged.is_empty() {
                while staged.len() < chunk && number < items {
                    staged.push(Item::new(number));
                    number += 1;
                }
                let room = cached_room(&producer).min(staged.len());
                if room == 0 {
                    pause.wait();
                    continue;
                }
                let slots = producer.write_chunk_uninit(room).expect("the room was just seen");
                slots.fill_from_iter(staged.drain(..room));
            }
        },
        rtrb_receiver(consumer, chunk, items),
    )
}

/// Returns the room known without touching the shared index, or the actual room if none is known.
fn cached_room(producer: &rtrb::Producer<Item>) -> usize {
    match producer.cached_slots() {
        0 => producer.slots(),
        room => room,
    }
}

fn rtrb_receiver(mut consumer: rtrb::Consumer<Item>, chunk: usize, items: u64) -> impl FnOnce(&mut Slab) + Send {
    move |slab| {
        let mut pause = Pause(0);
        while slab.expected < items {
            let known = match consumer.cached_slots() {
                0 => consumer.slots(),
                known => known,
            };
            let count = known.min(chunk);
            if count == 0 {
                pause.wait();
                continue;
            }
            for item in consumer.read_chunk(count).expect("the items were just seen") {
                slab.keep(item);
            }
        }
    }
}

fn array_queue(capacity: usize, items: u64) -> Duration {
    let queue = ArrayQueue::new(capacity);
    timed(
        || {
            let mut pause = Pause(0);
            for number in 0..items {
                let mut item = Item::new(number);
                while let Err(refused) = queue.push(item) {
                    item = refused;
                    pause.wait();
                }
            }
        },
        |slab| {
            let mut pause = Pause(0);
            while slab.expected < items {
                match queue.pop() {
                    Some(item) => slab.keep(item),
                    None => pause.wait(),
                }
            }
        },
    )
}

fn flume_bounded(capacity: usize, items: u64) -> Duration {
    let (sender, receiver) = flume::bounded(capacity);
    timed(
        move || {
            for number in 0..items {
                sender.send(Item::new(number)).expect("the receiver stays");
            }
        },
        move |slab| {
            while slab.expected < items {
                for item in receiver.drain().chain(receiver.try_recv()) {
                    slab.keep(item);
                }
            }
        },
    )
}

/// The cost of ringing a shard that is awake, which a sender pays once per chunk.
fn ring_awake(items: u64) -> Duration {
    let doorbell = Doorbell::new();
    let begin = Instant::now();
    for _ in 0..items {
        black_box(&doorbell).ring();
    }
    begin.elapsed()
}

type Candidate = (String, Box<dyn Fn() -> Duration>);

fn candidates(capacity: usize, items: u64) -> Vec<Candidate> {
    let mut list: Vec<Candidate> = vec![
        ("ring, one by one".into(), Box::new(move || own_ring(capacity, 1, items))),
        ("rtrb, one by one".into(), Box::new(move || rtrb_single(capacity, items))),
    ];
    for chunk in [64, 256] {
        list.push((format!("ring, chunks of {chunk}"), Box::new(move || own_ring(capacity, chunk, items))));
        list.push((format!("rtrb, chunks of {chunk} in place"), Box::new(move || rtrb_chunks(capacity, chunk, items))));
        list.push((format!("rtrb, chunks of {chunk} staged"), Box::new(move || rtrb_staged(capacity, chunk, items))));
    }
    list.push(("ArrayQueue".into(), Box::new(move || array_queue(capacity, items))));
    // Flume is slow enough for a quarter of the items to suffice.
    list.push(("flume bounded, items / 4".into(), Box::new(move || flume_bounded(capacity, items / 4) * 4)));
    list
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let rounds = numbers.next().and_then(|rounds| usize::try_from(rounds).ok()).unwrap_or(ROUNDS).max(1);
    let items = numbers.next().unwrap_or(ITEMS).max(4);
    println!(
        "{items} items of {} bytes, median [lowest, first and third quartile] of {rounds} rounds",
        size_of::<Item>()
    );
    for capacity in [1024, 4096] {
        println!("\ncapacity {capacity:<24} {:>10} {:>24}", "M items/s", "ns/item");
        let list = candidates(capacity, items);
        let mut times = vec![Vec::new(); list.len()];
        for _ in 0..rounds {
            for ((_, run), times) in list.iter().zip(&mut times) {
                times.push(run());
            }
        }
        for ((name, _), times) in list.iter().zip(&mut times) {
            times.sort();
            let nanoseconds = |time: Duration| time.as_secs_f64() * 1e9 / items as f64;
            let median = nanoseconds(times[times.len() / 2]);
            let (lowest, first) = (nanoseconds(times[0]), nanoseconds(times[times.len() / 4]));
            let third = nanoseconds(times[times.len() * 3 / 4]);
            println!("{name:<33} {:>10.1} {median:>8.1} [{lowest:.1}, {first:.1}, {third:.1}]", 1e3 / median);
        }
    }
    let ringing = ring_awake(items).as_secs_f64() * 1e9 / items as f64;
    println!("\nringing the doorbell of a shard that is awake: {ringing:.1} ns");
}
