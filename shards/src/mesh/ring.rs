//! The single-producer, single-consumer ring that moves messages by value from one core to another.
//!
//! This is the *cross* stage of a message's path: the sending shard writes the message directly into a slot, and the
//! receiving shard moves it directly into its own memory. Nothing is allocated or locked in between.
//!
//! Visibility is separate from writing. [`Producer::push`] fills slots that are not visible yet, and
//! [`Producer::publish`] makes all of them visible with one store, so a chunk of messages costs one transfer of the
//! index's cache line instead of one per message. The consumer returns slots the same way: [`Consumer::pop`] moves
//! items out and [`Consumer::release`] frees all their slots at once. Each side keeps a private copy of the other
//! side's index and reads the shared one only if the copy shows no progress to be made.
//!
//! # Invariants
//!
//! - `released <= popped <= published <= written <= released + capacity`, where the producer owns `written` and
//!   `published`, the consumer owns `popped` and `released`, and only `published` and `released` are shared.
//! - A slot belongs to the producer while its number is in `[published, released + capacity)` and to the consumer while
//!   it is in `[released, published)`. The Release store of an index gives slots away and the other side's Acquire load
//!   takes them over.
//! - Items come out in the order in which they went in, and each is either popped or dropped, exactly once.
//! - The capacity is exact, not rounded up to a power of two, because a mesh of rings is the largest table of a router.
//!
//! The code runs under loom (feature `loom`), which checks these invariants for all interleavings of small rings.

#![allow(
    unsafe_code,
    reason = "a slot moves between two threads without a lock; ownership follows the indices, not a borrow"
)]

use std::{cell::Cell, fmt, marker::PhantomData, mem::MaybeUninit, num::NonZeroUsize};

use crossbeam::utils::CachePadded;

use self::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// The atomics and cells of the lock-free code: those of `std`, or loom's under model checking.
pub(crate) mod sync {
    #[cfg(feature = "loom")]
    pub(crate) use loom::{
        cell::UnsafeCell,
        sync::{
            Arc, Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
        },
        thread::yield_now,
    };
    #[cfg(not(feature = "loom"))]
    pub(crate) use std::{
        sync::{
            Arc, Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
        },
        thread::yield_now,
    };

    /// `std`'s cell with the scoped access that loom needs to observe reads and writes.
    #[cfg(not(feature = "loom"))]
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    #[cfg(not(feature = "loom"))]
    impl<T> UnsafeCell<T> {
        #[inline]
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

// The indices count items since the ring was created and never wrap in practice: at a billion items per second, 64 bits
// last for 584 years.
const _: () = assert!(usize::BITS >= 64, "the ring's indices would wrap");

/// Creates a ring with room for exactly `capacity` items and returns its two ends.
///
/// The slots take `capacity * size_of::<T>()` bytes. They are not written before their first use, so the operating
/// system places each page on the core that first fills it.
pub fn ring<T: Send>(capacity: NonZeroUsize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.get();
    let shared = Arc::new(Shared {
        published: CachePadded::new(AtomicUsize::new(0)),
        released: CachePadded::new(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        capacity,
        slot: 0,
        written: 0,
        published: 0,
        released_seen: 0,
        not_sync: PhantomData,
    };
    let consumer =
        Consumer { shared, capacity, slot: 0, popped: 0, released: 0, published_seen: 0, not_sync: PhantomData };
    (producer, consumer)
}

/// The sending end of a ring. It may move between threads but is used by one at a time.
///
/// Dropping it publishes everything pushed, so the consumer still receives it.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    capacity: usize,
    /// The slot of the next item; always `written % capacity`, kept to avoid the division.
    slot: usize,
    written: usize,
    published: usize,
    released_seen: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Producer<T> {
    /// Returns the capacity in items.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the number of items pushed but not yet published.
    #[inline]
    pub fn unpublished(&self) -> usize {
        self.written - self.published
    }

    /// Returns the number of items pushed since the ring was created.
    #[inline]
    pub fn pushed(&self) -> usize {
        self.written
    }

    /// Returns the number of slots released by the consumer since the ring was created, read afresh.
    #[inline]
    pub fn released(&mut self) -> usize {
        self.released_seen = self.shared.released.load(Ordering::Acquire);
        debug_assert!(self.released_seen <= self.published, "the consumer released what it never received");
        self.released_seen
    }

    /// Returns the number of published items whose slots the consumer still holds. Exact at the instant of the call.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.published - self.shared.released.load(Ordering::Relaxed)
    }

    /// Returns a lower bound of the number of items that fit. It is zero only if the ring is full at the time of the
    /// call, because the consumer's index is read afresh if the known one leaves no room.
    #[inline]
    pub fn free_slots(&mut self) -> usize {
        let free = self.known_free_slots();
        if free > 0 {
            return free;
        }
        self.released();
        self.known_free_slots()
    }

    /// Whether the consumer is gone, so that pushed items will never be received.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) < 2
    }

    /// Writes an item into the next slot without making it visible; [`publish`](Self::publish) does that.
    ///
    /// # Errors
    ///
    /// Returns the item, without changing anything, if the ring is full. Publishing and trying again later may help.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.free_slots() == 0 {
            return Err(item);
        }
        self.shared.slots[self.slot].with_mut(|slot| {
            // SAFETY: `written < released + capacity` was just checked with an index that was read with Acquire, so
            // the consumer has moved the slot's previous item out and will not touch the slot until it is published.
            // `&mut self` on the only producer excludes every other writer. The old content is uninitialised or moved
            // out, so overwriting it without a drop is right.
            unsafe { (*slot).write(item) };
        });
        self.written += 1;
        self.slot = next_slot(self.slot, self.capacity);
        Ok(())
    }

    /// Like [`push`](Self::push), but constructs the item in its slot instead of copying it there: `fill` writes the
    /// item and returns a reference to it. Returns whether there was room; if not, `fill` was not called.
    ///
    /// # Panics
    ///
    /// If `fill` returns a reference to another place.
    #[inline]
    pub fn push_in_place(&mut self, fill: impl for<'slot> FnOnce(&'slot mut MaybeUninit<T>) -> &'slot mut T) -> bool {
        if self.free_slots() == 0 {
            return false;
        }
        self.shared.slots[self.slot].with_mut(|slot| {
            // SAFETY: as in `push`, nobody else has the slot. It is initialised afterwards because there is a reference
            // to a `T` in its place, which requires that one was written. If `fill` panics or returns another
            // reference, no index has moved and the slot counts as empty.
            let slot = unsafe { &mut *slot };
            let place: *const T = slot.as_ptr();
            assert!(std::ptr::eq(fill(slot), place), "an item was not written into its slot");
        });
        self.written += 1;
        self.slot = next_slot(self.slot, self.capacity);
        true
    }

    /// Makes all pushed items visible to the consumer with one store, and returns how many were new to it.
    #[inline]
    pub fn publish(&mut self) -> usize {
        let count = self.unpublished();
        if count > 0 {
            self.shared.published.store(self.written, Ordering::Release);
            self.published = self.written;
        }
        count
    }

    #[inline]
    fn known_free_slots(&self) -> usize {
        let taken = self.written - self.released_seen;
        debug_assert!(taken <= self.capacity, "more items were written than the ring has slots");
        self.capacity - taken
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Producer")
            .field("capacity", &self.capacity)
            .field("written", &self.written)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

/// The receiving end of a ring. It may move between threads but is used by one at a time.
///
/// Dropping it releases what was popped. Items left in the ring are dropped together with the producer.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    capacity: usize,
    /// The slot of the next item; always `popped % capacity`, kept to avoid the division.
    slot: usize,
    popped: usize,
    released: usize,
    published_seen: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Consumer<T> {
    /// Returns the capacity in items.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the number of items popped since the ring was created.
    #[inline]
    pub fn popped(&self) -> usize {
        self.popped
    }

    /// Returns the number of items popped whose slots have not been released yet.
    #[inline]
    pub fn unreleased(&self) -> usize {
        self.popped - self.released
    }

    /// Returns a lower bound of the number of items that can be popped. It is zero only if nothing was published at the
    /// time of the call, because the producer's index is read afresh if the known one leaves nothing to pop.
    #[inline]
    pub fn available(&mut self) -> usize {
        if self.published_seen == self.popped {
            self.published_seen = self.shared.published.load(Ordering::Acquire);
        }
        debug_assert!(self.published_seen - self.released <= self.capacity, "the producer overran the ring");
        self.published_seen - self.popped
    }

    /// Whether nothing can be popped at the time of the call.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.available() == 0
    }

    /// Whether the producer is gone. Items that it published can still be popped.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) < 2
    }

    /// Moves the oldest item out without freeing its slot; [`release`](Self::release) does that.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.available() == 0 {
            return None;
        }
        Some(self.take())
    }

    /// Like [`pop`](Self::pop), for items that are better copied from their slot than moved. If `copy` returns `None`,
    /// the item is moved out.
    #[inline]
    pub fn pop_or_copy<R>(&mut self, copy: impl FnOnce(&T) -> Option<R>) -> Option<Popped<R, T>> {
        if self.available() == 0 {
            return None;
        }
        let copied = self.shared.slots[self.slot].with(|slot| {
            // SAFETY: as in `take`, the slot is initialised and nobody writes to it; it is only read here. If `copy`
            // panics, the item stays.
            copy(unsafe { (*slot).assume_init_ref() })
        });
        let Some(copied) = copied else { return Some(Popped::Moved(self.take())) };
        let slot = self.slot;
        self.popped += 1;
        self.slot = next_slot(self.slot, self.capacity);
        self.shared.slots[slot].with_mut(|slot| {
            // SAFETY: the item is initialised, as above, and counts as popped by now, so it is dropped only here. The
            // producer does not touch the slot until it is released.
            unsafe { (*slot).assume_init_drop() };
        });
        Some(Popped::Copied(copied))
    }

    /// Returns the slots of all items popped so far to the producer with one store.
    #[inline]
    pub fn release(&mut self) {
        if self.popped != self.released {
            self.shared.released.store(self.popped, Ordering::Release);
            self.released = self.popped;
        }
    }

    /// Moves up to `max` items out, oldest first, releases their slots together and returns their number.
    ///
    /// It stops early when the items published at the start are used up, so that it ends even if the producer never
    /// pauses. If `accept` panics, the item passed to it is lost and the rest stay.
    #[inline]
    pub fn drain_chunk(&mut self, max: usize, mut accept: impl FnMut(T)) -> usize {
        let count = self.available().min(max);
        for _ in 0..count {
            accept(self.take());
        }
        self.release();
        count
    }

    /// Moves the oldest item out. The caller has checked that there is one.
    #[inline]
    fn take(&mut self) -> T {
        debug_assert!(self.popped < self.published_seen, "take is only called when an item is known to be there");
        let item = self.shared.slots[self.slot].with(|slot| {
            // SAFETY: both callers checked `popped < published_seen`, which was read with Acquire, so the slot was
            // initialised by the producer before its Release store and the producer will not touch it until it is
            // released. `&mut self` on the only consumer, together with the increment of `popped` below (nothing in
            // between can panic), ensures that the item is moved out only once.
            unsafe { (*slot).assume_init_read() }
        });
        self.popped += 1;
        self.slot = next_slot(self.slot, self.capacity);
        item
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("capacity", &self.capacity)
            .field("popped", &self.popped)
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}

/// An item popped by [`Consumer::pop_or_copy`].
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<R, T> {
    /// What `copy` made of the item, which has been dropped.
    Copied(R),
    /// The item.
    Moved(T),
}

/// The state shared by both ends. The two indices are on separate cache lines, because each is written by another core.
struct Shared<T> {
    /// The number of items that the consumer may see; written by the producer only.
    published: CachePadded<AtomicUsize>,
    /// The number of slots returned by the consumer; written by the consumer only.
    released: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the slots are the only part that is not `Sync` by itself. The indices give each slot to exactly one end at a
// time, with Release and Acquire between the two, so no two threads access a slot at once. Items move from thread to
// thread and are never shared, hence `T: Send` is enough.
unsafe impl<T: Send> Sync for Shared<T> {}

// SAFETY: sending an end, or the last reference to the ring, sends the items in it, which `T: Send` allows. The rest is
// indices and a boxed slice, both of which are `Send`.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends published and released what they had before they dropped the ring, and the reference count orders
        // those stores before this point, so relaxed loads see the final values.
        let released = self.released.load(Ordering::Relaxed);
        let published = self.published.load(Ordering::Relaxed);
        let mut slot = released % self.slots.len();
        for _ in released..published {
            self.slots[slot].with_mut(|slot| {
                // SAFETY: the slots from `released` to `published` were written and never moved out, and `&mut self`
                // means that neither end exists any more. Each is visited once, and should a drop panic, the rest are
                // leaked rather than dropped twice.
                unsafe { (*slot).assume_init_drop() };
            });
            slot = next_slot(slot, self.slots.len());
        }
    }
}

/// Returns the slot after `slot` in a ring of `capacity` slots.
#[inline]
fn next_slot(slot: usize, capacity: usize) -> usize {
    let next = slot + 1;
    if next == capacity { 0 } else { next }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
