//! The watchdog thread: wakes shards that stall although they are not asleep, and calls from outside whose
//! [deadlines](crate::deadline) are over; and reports shards whose handler does not return.
//!
//! glommio 0.9 can park an executor that has a runnable task if its preemption timer fires early (stolen processor time
//! is enough). A wake-up from outside ends that. The watchdog checks every few milliseconds the turn counters of the
//! shards that are not parked on purpose, and rings again if one has not moved. While all shards are parked it sleeps
//! itself, so that an idle router costs nothing. So it does while all are busy: if shards use all cores, each check
//! takes one of them away, and a shard that never parks never reaches the point where it could stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use caxton_shards::api::Event;
use caxton_shards::routing::partition::ShardIndex;
use crossbeam::sync::{Parker, Unparker};

use crate::shard_handle::{ShardHandle, Shared};

/// How long a shard may stall before it is rung again. Long enough for any handler that does not block, short enough
/// that a stall is over before a person notices.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The interval while some shards are busy and the others stay parked.
const LOOK_AT_BUSY_EVERY: Duration = Duration::from_millis(20);
/// The interval while all shards are busy. The first to park wakes the watchdog, so this is for one that is blocked.
const LOOK_AT_ALL_BUSY_EVERY: Duration = Duration::from_millis(250);
/// The interval while all shards are parked and none of them is to wake by itself.
const LOOK_AT_ALL_PARKED_EVERY: Duration = Duration::from_hours(1);

/// Wakes the watchdog when a shard parks or wakes up.
pub(crate) struct WatchdogHandle {
    asleep: AtomicBool,
    unparker: Unparker,
}

impl WatchdogHandle {
    /// Creates the handle, and the parker on which the watchdog sleeps.
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

    /// Makes the watchdog check now, whether it sleeps or only waits for its next check.
    pub fn hurry(&self) {
        self.unparker.unpark();
    }
}

/// Watches until all of the router's shards have left: a leaving shard can stall as well.
///
/// `start` is the origin of the shards' monotonic time.
pub(crate) fn watch(shared: &Arc<Shared>, parker: &Parker, start: Instant) {
    let mut seen: Vec<u64> = vec![u64::MAX; shared.links.len()];
    let mut blocked: Vec<Option<u64>> = vec![None; shared.links.len()];
    let mut parks_seen = 0;
    while shared.links.iter().any(|link| !link.left.load(Ordering::Acquire)) {
        let calls_due = wake_due_calls(shared);
        for (shard, blocked) in blocked.iter_mut().enumerate() {
            look_for_blocked(shared, shard, blocked);
        }
        let (mut all_parked, mut all_busy) = (true, true);
        for (link, seen) in shared.links.iter().zip(&mut seen) {
            if link.left.load(Ordering::Acquire) {
                continue;
            }
            if link.doorbell.is_armed() {
                all_busy = false;
                *seen = u64::MAX;
                // A napping shard is back soon, woken by the kernel.
                if link.naps.load(Ordering::Relaxed) {
                    all_parked = false;
                } else if overdue(link, start) && link.doorbell.ring_again() {
                    shared.watchdog_wakes.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            all_parked = false;
            let turns = link.turns.load(Ordering::Relaxed);
            all_busy &= turns != *seen && *seen != u64::MAX;
            // A shard in a turn does not wait for anything that ringing could bring.
            let waits = link.in_turn_since_ns.load(Ordering::Relaxed) == 0;
            if turns == *seen && waits && link.doorbell.ring_again() {
                shared.watchdog_wakes.fetch_add(1, Ordering::Relaxed);
            }
            *seen = turns;
        }
        let parks = parks_of(shared);
        let none_parked_since = std::mem::replace(&mut parks_seen, parks) == parks;
        if all_parked {
            sleep_if(shared, parker, calls_due, || {
                // A shard that woke up before it could see that the watchdog sleeps is seen here.
                let is_away = |link: &ShardHandle| link.doorbell.is_armed() || link.left.load(Ordering::Acquire);
                shared.links.iter().all(is_away).then(|| until_overdue(shared, start))
            });
        } else if all_busy && none_parked_since {
            sleep_if(shared, parker, calls_due, || (parks_of(shared) == parks).then_some(LOOK_AT_ALL_BUSY_EVERY));
        } else {
            sleep(parker, calls_due, if none_parked_since { LOOK_AT_BUSY_EVERY } else { LOOK_EVERY });
        }
    }
    shared.subscribers.clear();
}

/// Reports a shard that has been in one turn for too long, and one that continues after that. `blocked` is when the
/// reported turn began.
fn look_for_blocked(router: &Shared, shard: usize, blocked: &mut Option<u64>) {
    let link = &router.links[shard];
    let since_ns = link.in_turn_since_ns.load(Ordering::Relaxed);
    let for_ms = |since_ns| {
        let time = router.running_for().saturating_sub(Duration::from_nanos(since_ns));
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    };
    let index = ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX));
    if let Some(reported_ns) = blocked.filter(|reported_ns| *reported_ns != since_ns) {
        *blocked = None;
        router.subscribers.tell(&Event::ShardUnblocked { shard: index, for_ms: for_ms(reported_ns) });
    }
    if blocked.is_none() && router.is_blocked(shard) {
        *blocked = Some(since_ns);
        link.times_blocked.fetch_add(1, Ordering::Relaxed);
        let agent = router.called_agent(index);
        router.subscribers.tell(&Event::ShardBlocked { shard: index, agent, for_ms: for_ms(since_ns) });
        // The thread that stops the router does not wait for it.
        router.notify();
    }
}

/// Wakes calls from outside whose deadlines are over. Returns the next deadline.
fn wake_due_calls(shared: &Shared) -> Option<Instant> {
    let now = Instant::now();
    shared.links.iter().filter_map(|link| link.deadlines.wake_due(now)).min()
}

/// Sleeps for this long, or until a call's deadline.
fn sleep(parker: &Parker, calls_due: Option<Instant>, longest: Duration) {
    let until_due = calls_due.map_or(longest, |moment| moment.saturating_duration_since(Instant::now()));
    parker.park_timeout(longest.min(until_due));
}

/// Returns the number of times shards have parked.
fn parks_of(shared: &Shared) -> u64 {
    shared.links.iter().map(|link| link.parks.load(Ordering::Relaxed)).sum()
}

/// Sleeps until a shard rings, but no longer than `longest`, and not at all if that is `None`. It is evaluated once
/// every shard can see that the watchdog sleeps. A leaving shard hurries the watchdog, even if it does so before this.
fn sleep_if(shared: &Shared, parker: &Parker, calls_due: Option<Instant>, longest: impl FnOnce() -> Option<Duration>) {
    shared.bell.asleep.store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if let Some(longest) = longest() {
        sleep(parker, calls_due, longest);
    }
    shared.bell.asleep.store(false, Ordering::Relaxed);
}

/// Returns the time until the first parked shard is overdue, and a long time if none will be.
fn until_overdue(shared: &Shared, start: Instant) -> Duration {
    let wakes_at_ms = shared.links.iter().map(|link| link.wakes_at_ms.load(Ordering::Acquire)).min();
    let wakes_in = Duration::from_millis(wakes_at_ms.unwrap_or(u64::MAX)).saturating_sub(start.elapsed());
    (wakes_in + LOOK_EVERY).min(LOOK_AT_ALL_PARKED_EVERY)
}

/// Whether a parked shard should have woken by itself a while ago.
fn overdue(link: &ShardHandle, start: Instant) -> bool {
    let wakes_at_ms = link.wakes_at_ms.load(Ordering::Acquire);
    wakes_at_ms < u64::MAX && start.elapsed() >= Duration::from_millis(wakes_at_ms) + LOOK_EVERY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Preset};
    use caxton_shards::domain::ShardCount;
    use caxton_shards::routing::partition::Partition;
    use std::sync::atomic::AtomicU64;
    use std::task::{Wake, Waker};
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Retries until the condition holds. Returns whether it finally does.
    fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        while !condition() {
            if began.elapsed() > PATIENCE {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    #[test]
    fn it_sleeps_while_all_shards_are_busy_and_wakes_one_that_parks_then_and_stands_still() {
        let (bell, parker) = WatchdogHandle::new();
        let (work, _work) = flume::bounded(1);
        let partition = Partition::new(ShardCount::try_new(1).expect("one shard is allowed"));
        let shared = Arc::new(Shared::new(
            vec![ShardHandle::new(work)],
            partition,
            Config::preset(Preset::Testing),
            bell,
            Instant::now(),
        ));
        let (link, wakes) = (&shared.links[0], Arc::new(Wakes::default()));
        let (slept, woke, rung) = thread::scope(|scope| {
            scope.spawn(|| {
                let parker = parker;
                watch(&shared, &parker, Instant::now());
            });
            let slept = comes_true(|| {
                link.turns.fetch_add(1, Ordering::Relaxed);
                shared.bell.asleep.load(Ordering::Relaxed)
            });
            // It parks, and does nothing more when it is rung.
            link.parks.fetch_add(1, Ordering::Relaxed);
            shared.bell.ring();
            let woke = !shared.bell.asleep.load(Ordering::Relaxed);
            link.doorbell.arm(&Waker::from(Arc::clone(&wakes)));
            link.doorbell.ring();
            let rung = comes_true(|| shared.watchdog_wakes.load(Ordering::Relaxed) > 0);
            link.left.store(true, Ordering::Release);
            shared.bell.hurry();
            (slept, woke, rung)
        });
        assert!(slept, "it looked again and again at a shard that was busy");
        assert!(woke && rung, "it left a shard alone that stood still");
        assert!(wakes.0.load(Ordering::SeqCst) >= 2);
    }
}
