//! Deadlines of calls from outside, independent of the shards: a call ends in time even if its shard is stalled.
//!
//! Each shard's handle has one set of pending deadlines. The watchdog's thread wakes the calls that are due, and sleeps
//! no longer than until the next one. A call that is answered at once is never entered, and one that is answered in
//! time leaves without waking anybody: the watchdog is notified only of a deadline earlier than its next check.
//!
//! Invariant: a set holds one entry for each pending wait, which leaves it when it is dropped.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::or;

use crate::shard_handle::Shared;

/// The time by which a call ends, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the deadline this far from now; none if the clock does not reach so far.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Returns the deadline moved by this much.
    pub fn later(self, by: Duration) -> Self {
        Self(self.0.and_then(|moment| moment.checked_add(by)))
    }

    /// How long it is until then.
    #[cfg(feature = "wasm")]
    pub fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |moment| moment.saturating_duration_since(Instant::now()))
    }

    /// Returns the point in time, if there is one.
    #[cfg(test)]
    fn moment(self) -> Option<Instant> {
        self.0
    }
}

/// Returns a time in whole milliseconds, rounded up, so that a short time does not become zero; saturates.
pub(crate) fn whole_milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Returns the output of a future, or `None` if the deadline passes first. The wait is one of those of this shard.
pub(crate) async fn within<T>(
    router: &Shared,
    shard: usize,
    deadline: Deadline,
    future: impl Future<Output = T>,
) -> Option<T> {
    let Some(moment) = deadline.0 else { return Some(future.await) };
    or(async { Some(future.await) }, async {
        reached(router, shard, moment).await;
        None
    })
    .await
}

/// Waits until a point in time.
async fn reached(router: &Shared, shard: usize, moment: Instant) {
    let mut pending = Pending { router, shard, moment, number: None };
    poll_fn(|context| {
        if Instant::now() >= moment {
            return Poll::Ready(());
        }
        pending.arm(context.waker());
        Poll::Pending
    })
    .await;
}

/// The entry of a wait in a set.
struct Pending<'a> {
    router: &'a Shared,
    shard: usize,
    moment: Instant,
    number: Option<u64>,
}

impl Pending<'_> {
    fn arm(&mut self, waker: &Waker) {
        let nearer = self.router.links[self.shard].deadlines.arm(self.moment, &mut self.number, waker);
        if nearer {
            self.router.bell.hurry();
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.router.links[self.shard].deadlines.disarm(self.moment, number);
        }
    }
}

/// The pending deadlines of the calls to one shard.
#[derive(Default)]
pub(crate) struct Deadlines(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    wakers: BTreeMap<(Instant, u64), Waker>,
    numbered: u64,
    /// When the watchdog checks at the latest.
    looks_at: Option<Instant>,
}

impl Deadlines {
    /// Enters a deadline, or only its waker if it is already entered. Returns whether the watchdog has to be notified.
    fn arm(&self, moment: Instant, number: &mut Option<u64>, waker: &Waker) -> bool {
        let mut entries = self.lock();
        if let Some(known) = number.and_then(|number| entries.wakers.get_mut(&(moment, number))) {
            known.clone_from(waker);
            return false;
        }
        entries.numbered += 1;
        let own = *number.insert(entries.numbered);
        entries.wakers.insert((moment, own), waker.clone());
        let nearer = entries.looks_at.is_none_or(|looks_at| moment < looks_at);
        if nearer {
            entries.looks_at = Some(moment);
        }
        nearer
    }

    fn disarm(&self, moment: Instant, number: u64) {
        self.lock().wakers.remove(&(moment, number));
    }

    /// Wakes the waits that are due. Returns when to check again.
    pub fn wake_due(&self, now: Instant) -> Option<Instant> {
        let (due, looks_at) = {
            let mut entries = self.lock();
            // It stays, although nobody may wait for it any more, so that the next call does not have to wake the
            // watchdog.
            if entries.looks_at.is_none_or(|looks_at| looks_at > now) {
                return entries.looks_at;
            }
            let later = entries.wakers.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut entries.wakers, later);
            entries.looks_at = entries.wakers.first_key_value().map(|((moment, _), _)| *moment);
            (due, entries.looks_at)
        };
        for waker in due.into_values() {
            waker.wake();
        }
        looks_at
    }

    /// Returns the number of waits.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().wakers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_time_is_rounded_up_and_never_wraps() {
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(999), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (Duration::MAX, u64::MAX),
        ];
        for (time, milliseconds) in cases {
            assert_eq!(whole_milliseconds(time), milliseconds, "{time:?}");
        }
        assert_eq!(Deadline::after(Duration::MAX).moment(), None);
        assert!(Deadline::after(Duration::ZERO).moment().is_some_and(|moment| moment <= Instant::now()));
        assert_eq!(Deadline::after(Duration::ZERO).later(Duration::MAX).moment(), None);
    }

    #[test]
    fn whoever_is_due_is_woken_once_and_the_others_stay() {
        let (deadlines, woken) = (Deadlines::default(), Arc::new(Wakes::default()));
        let (waker, begin) = (Waker::from(Arc::clone(&woken)), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut numbers = [None; 4];
        for (number, (seconds, nearer)) in numbers.iter_mut().zip([(10, true), (20, false), (5, true), (5, false)]) {
            assert_eq!(deadlines.arm(at(seconds), number, &waker), nearer, "{seconds} s");
            assert!(!deadlines.arm(at(seconds), number, &waker), "it is entered once");
        }
        assert_eq!((deadlines.wake_due(at(4)), deadlines.len()), (Some(at(5)), 4));
        assert_eq!((deadlines.wake_due(at(5)), deadlines.len()), (Some(at(10)), 2));
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        deadlines.disarm(at(10), numbers[0].expect("it has a number"));
        assert!(!deadlines.arm(at(15), &mut None, &waker), "the watchdog looks before that anyway");
        assert_eq!((deadlines.wake_due(at(10)), deadlines.len()), (Some(at(15)), 2));
        assert_eq!((deadlines.wake_due(at(60)), deadlines.len()), (None, 0));
        assert_eq!(woken.0.load(Ordering::SeqCst), 4);
    }
}
