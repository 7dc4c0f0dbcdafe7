//! The thread that wakes a shard which stands still although it is not asleep.
//!
//! glommio 0.9 can park an executor that has a runnable task when its preemption timer fires early (stolen processor
//! time is enough). A wake-up from outside ends that. The watchdog looks every few milliseconds at the turn counters
//! of the shards that are not parked on purpose, and rings again where one has not moved; while all shards are
//! parked it sleeps itself, so that an idle router costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use crossbeam::sync::{Parker, Unparker};

use crate::link::{Link, Shared};

/// How long a shard may stand still before it is rung again. Long enough for any handler that keeps its promise not
/// to block, short enough that the stall is over before a person notices.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The same while no shard parks. A shard that is busy all the time rarely goes where it could stall, and each look takes
/// a core away from it.
const LOOK_AT_BUSY_EVERY: Duration = Duration::from_millis(20);

/// Wakes the watchdog when a shard wakes up.
pub(crate) struct Bell {
    asleep: AtomicBool,
    unparker: Unparker,
}

impl Bell {
    /// The bell, and what the watchdog sleeps on.
    pub fn new() -> (Self, Parker) {
        let parker = Parker::new();
        (Self { asleep: AtomicBool::new(false), unparker: parker.unparker().clone() }, parker)
    }

    /// Wakes the watchdog if it sleeps.
    #[inline]
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.unparker.unpark();
        }
    }

    /// Has the watchdog look now, whether it sleeps or only waits for its next look.
    pub fn hurry(&self) {
        self.unparker.unpark();
    }
}

/// Watches until all of the router's shards have left: one that is to leave can stand still as well.
///
/// `start` is the moment from which the shards count monotonic time.
pub(crate) fn watch(shared: &Arc<Shared>, parker: &Parker, start: Instant) {
    let mut seen: Vec<u64> = vec![u64::MAX; shared.links.len()];
    let mut parks_seen = 0;
    while shared.links.iter().any(|link| !link.left.load(Ordering::Acquire)) {
        let mut all_parked = true;
        for (link, seen) in shared.links.iter().zip(&mut seen) {
            if link.left.load(Ordering::Acquire) {
                continue;
            }
            if link.doorbell.is_armed() {
                *seen = u64::MAX;
                // Who naps is back soon, and it is the kernel that wakes it.
                if link.naps.load(Ordering::Relaxed) {
                    all_parked = false;
                } else if overdue(link, start) && link.doorbell.ring_again() {
                    shared.watchdog_wakes.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            all_parked = false;
            let turns = link.turns.load(Ordering::Relaxed);
            if turns == *seen && link.doorbell.ring_again() {
                shared.watchdog_wakes.fetch_add(1, Ordering::Relaxed);
            }
            *seen = turns;
        }
        if !all_parked {
            let parks = shared.links.iter().map(|link| link.parks.load(Ordering::Relaxed)).sum();
            let busy = std::mem::replace(&mut parks_seen, parks) == parks;
            parker.park_timeout(if busy { LOOK_AT_BUSY_EVERY } else { LOOK_EVERY });
            continue;
        }
        shared.bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // A shard that woke up before it could see the flag is seen here.
        let still_parked =
            shared.links.iter().all(|link| link.doorbell.is_armed() || link.left.load(Ordering::Acquire));
        if still_parked {
            // A shard that leaves hurries the watchdog, also if it does so before this.
            let wakes_at_ms = shared.links.iter().map(|link| link.wakes_at_ms.load(Ordering::Acquire)).min();
            match wakes_at_ms {
                Some(wakes_at_ms) if wakes_at_ms < u64::MAX => {
                    let left = Duration::from_millis(wakes_at_ms).saturating_sub(start.elapsed());
                    parker.park_timeout(left + LOOK_EVERY);
                }
                _ => parker.park(),
            }
        }
        shared.bell.asleep.store(false, Ordering::Relaxed);
    }
}

/// Whether a parked shard should have woken by itself a while ago.
fn overdue(link: &Link, start: Instant) -> bool {
    let wakes_at_ms = link.wakes_at_ms.load(Ordering::Acquire);
    wakes_at_ms < u64::MAX && start.elapsed() >= Duration::from_millis(wakes_at_ms) + LOOK_EVERY
}
