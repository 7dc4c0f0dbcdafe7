//! Wakes a parked shard from another core, at almost no cost while the shard is awake.
//!
//! A busy shard polls its rings, so a new message needs no signal beyond the ring's own store. A shard without work
//! parks and has to be woken. After publishing, a sender rings the doorbell: if the target is awake, ringing costs one
//! fence and one load of a cache line that nobody writes (a few nanoseconds); only if the target is parked does the
//! sender pay for the wake-up. The doorbell knows nothing of the runtime beyond [`Waker`].
//!
//! # Protocol
//!
//! | the sender                            | the shard                                                   |
//! |---------------------------------------|-------------------------------------------------------------|
//! | publishes into a ring                 | [`arm`](Doorbell::arm)s with its task's waker               |
//! | [`ring`](Doorbell::ring)s             | checks all its rings again                                  |
//! |                                       | found something: [`disarm`](Doorbell::disarm)s and works on |
//! |                                       | found nothing: returns `Pending`                            |
//!
//! # Invariants
//!
//! - No lost wake-up: `ring` and `arm` both contain a sequentially consistent fence between their write and the
//!   following read, so either the sender sees the flag, or the shard sees what was published when it checks again.
//! - One wake-up per park: only the sender that clears the flag wakes the shard.
//! - Senders borrow the waker and never take it. Its own shard drops it, in [`clear`](Doorbell::clear) or by arming
//!   with another one, because an executor's wakers must not outlive it. After `clear` returns, no wake-up is in
//!   progress and none will follow.
//! - The shard never blocks on the doorbell while it runs. The lock is taken only around parking and waking; if `arm`
//!   finds it taken, another thread is waking this shard at that moment, so the shard wakes itself instead of waiting.

use std::{fmt, task::Waker};

use crossbeam::utils::CachePadded;

use crate::mesh::ring::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, fence, yield_now};

/// The doorbell of one shard, rung by all other threads.
#[derive(Default)]
pub struct Doorbell {
    /// Read by every sender and written only around parking, so it has its own cache line.
    parked: CachePadded<AtomicBool>,
    sleeper: CachePadded<Sleeper>,
}

#[derive(Default)]
struct Sleeper {
    /// The number of wake-ups delivered.
    rings: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Doorbell {
    /// Creates a disarmed doorbell without a waker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the shard if it is parked, and returns whether it did. Call it after publishing.
    ///
    /// Everything the caller stored before is visible to the shard when it checks again, whether or not this call wakes
    /// it.
    #[inline]
    pub fn ring(&self) -> bool {
        // Pairs with the fence in `arm`: the caller's publication comes before this load in the order that both agree
        // on, or the flag's store comes before the shard's second look at its rings.
        fence(Ordering::SeqCst);
        self.parked.load(Ordering::Relaxed) && self.wake_parked()
    }

    /// Wakes the shard whether or not it is parked, and returns whether it did.
    ///
    /// Does nothing unless the shard has armed since the last [`clear`](Self::clear). For a watchdog that sees pending
    /// work while the shard makes no progress; may be repeated.
    pub fn ring_again(&self) -> bool {
        self.parked.swap(false, Ordering::AcqRel);
        self.wake()
    }

    /// Announces that the shard is about to park, and stores its waker.
    ///
    /// The caller must then check all its rings before it parks, and [`disarm`](Self::disarm) if it finds something.
    /// Only the shard that owns the doorbell may call this.
    pub fn arm(&self, waker: &Waker) {
        match self.sleeper.waker.try_lock() {
            Ok(stored) => store(stored, waker),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => store(poisoned.into_inner(), waker),
            // A watchdog or a late sender is waking the shard right now. Waking itself makes the shard's task run once
            // more instead of parking, which is what the other thread wants, and it arms again then. Yielding lets that
            // thread finish first if both are on the same core.
            Err(std::sync::TryLockError::WouldBlock) => {
                waker.wake_by_ref();
                yield_now();
            }
        }
        // A swap is ordered after every swap of a late sender, so none of those hides this one from a sender whose
        // fence comes later.
        self.parked.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `ring`; the caller's second look at its rings comes after it.
        fence(Ordering::SeqCst);
    }

    /// Announces that the shard is awake, so that senders need not wake it. Only the owning shard may call this.
    #[inline]
    pub fn disarm(&self) {
        // Load first: the shard calls this on every turn, and senders keep a shared copy of the line.
        if self.parked.load(Ordering::Relaxed) {
            self.parked.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the next ring would wake the shard.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Returns the number of wake-ups delivered so far.
    #[inline]
    pub fn rings(&self) -> u64 {
        self.sleeper.rings.load(Ordering::Relaxed)
    }

    /// Disarms and drops the stored waker. Call it on the owning shard before its executor exits.
    ///
    /// It waits for a wake-up in progress in another thread, so that none happens after it returns.
    pub fn clear(&self) {
        self.parked.store(false, Ordering::Relaxed);
        let waker = self.lock_waker().take();
        // The lock is free by now, so a waker may ring a doorbell when it is dropped.
        drop(waker);
    }

    /// The slow path of `ring`: of all senders that see the flag, the one that clears it wakes the shard.
    #[cold]
    fn wake_parked(&self) -> bool {
        self.parked.swap(false, Ordering::AcqRel) && self.wake()
    }

    /// Wakes the shard while holding the lock, so that `clear` cannot return in between.
    fn wake(&self) -> bool {
        let stored = self.lock_waker();
        let Some(waker) = stored.as_ref() else { return false };
        waker.wake_by_ref();
        self.sleeper.rings.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Ignores poisoning: a panic in a foreign waker leaves the stored one intact.
    fn lock_waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.sleeper.waker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Stores a copy of the waker unless the stored one already wakes the same task, which is the usual case.
fn store(mut stored: MutexGuard<'_, Option<Waker>>, waker: &Waker) {
    if stored.as_ref().is_none_or(|known| !known.will_wake(waker)) {
        let previous = stored.replace(waker.clone());
        drop(stored);
        drop(previous);
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Doorbell")
            .field("armed", &self.is_armed())
            .field("rings", &self.rings())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::Doorbell;

    #[derive(Default)]
    struct CountedWakes(AtomicUsize);

    impl Wake for CountedWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<CountedWakes>, Waker) {
        let count = Arc::new(CountedWakes::default());
        let waker = Waker::from(Arc::clone(&count));
        (count, waker)
    }

    #[test]
    fn an_awake_shard_is_not_woken() {
        let (count, waker) = counted();
        let doorbell = Doorbell::new();
        assert!(!doorbell.ring());
        doorbell.arm(&waker);
        doorbell.disarm();
        assert!(!doorbell.ring());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert_eq!(doorbell.rings(), 0);
    }

    #[test]
    fn a_parked_shard_is_woken_once_per_park() {
        let (count, waker) = counted();
        let doorbell = Doorbell::new();
        for park in 1..=3 {
            doorbell.arm(&waker);
            assert!(doorbell.is_armed());
            assert!(doorbell.ring());
            assert!(!doorbell.is_armed());
            assert!(!doorbell.ring());
            assert_eq!(count.0.load(Ordering::Relaxed), park);
        }
        assert_eq!(doorbell.rings(), 3);
    }

    #[test]
    fn a_watchdog_wakes_repeatedly_even_after_the_wake_up_was_used() {
        let (count, waker) = counted();
        let doorbell = Doorbell::new();
        assert!(!doorbell.ring_again(), "there is no waker yet");
        doorbell.arm(&waker);
        assert!(doorbell.ring());
        assert!(doorbell.ring_again());
        assert!(doorbell.ring_again());
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_waker_is_copied_once_and_dropped_by_clear() {
        let (count, waker) = counted();
        let doorbell = Doorbell::new();
        doorbell.arm(&waker);
        doorbell.arm(&waker);
        assert_eq!(Arc::strong_count(&count), 3, "ours, the waker's and the stored copy's");
        assert!(doorbell.ring());
        assert_eq!(Arc::strong_count(&count), 3, "ringing borrows the waker");
        doorbell.arm(&waker);
        doorbell.clear();
        assert_eq!(Arc::strong_count(&count), 2);
        assert!(!doorbell.is_armed());
        assert!(!doorbell.ring());
        assert!(!doorbell.ring_again());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn arming_with_another_waker_replaces_the_first() {
        let (first_wakes, first) = counted();
        let (second_wakes, second) = counted();
        let doorbell = Doorbell::new();
        doorbell.arm(&first);
        doorbell.arm(&second);
        assert!(doorbell.ring());
        assert_eq!(first_wakes.0.load(Ordering::Relaxed), 0);
        assert_eq!(second_wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&first_wakes), 2);
    }
}
