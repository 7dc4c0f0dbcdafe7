//! How a shard waits when it has nothing to do: it spins, then naps, and parks when nothing happens for a while.
//!
//! A nap puts the thread to sleep; parking has glommio do that, which takes several calls of the kernel and an interrupt
//! of all other cores, and as many again on the way back. A nap is short, because nothing else on the executor runs
//! meanwhile, and glommio wants its turn.
//!
//! Invariant: before it sleeps it arms its doorbell, and looks once more for work that came before.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

#[cfg(feature = "store")]
use caxton_shards::shard::Turn;
use crossbeam::sync::{Parker, Unparker};
use glommio::timer::Timer;

use super::Driver;
#[cfg(feature = "store")]
use crate::journal_driver::JournalDriver;

/// A spinning shard reads the clock once in this many polls of its rings.
const SPINS_PER_CLOCK_READ: u32 = 64;
/// Maximum sleep of a shard whose next timer is further away.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);
/// Maximum nap of a shard.
const LONGEST_NAP: Duration = Duration::from_millis(10);
/// The same for a shard with polling agents.
#[cfg(feature = "store")]
const LONGEST_NAP_OF_POLLING: Duration = Duration::from_micros(20);

/// What the doorbell wakes.
pub(super) struct Wakers {
    /// A parked shard.
    executor: Waker,
    /// One that naps.
    thread: Waker,
    parker: Parker,
    /// One that naps while its journal is being written.
    #[cfg(feature = "store")]
    disk: Option<Waker>,
}

/// Wakes a thread that sleeps on its parker.
struct ThreadWaker(Unparker);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Driver {
    /// Whether there is work that did not exist in the last turn.
    fn has_work(&mut self) -> bool {
        #[cfg(feature = "store")]
        if self.journal.is_some() && self.write_down() {
            return true;
        }
        #[cfg(feature = "telemetry")]
        if self.link().details.are_wanted() {
            return true;
        }
        self.shard.has_incoming()
            || !self.work.is_empty()
            || !self.inputs.is_empty()
            || self.link().attention.load(Ordering::Relaxed)
            || self.shared.phase() != self.stage
    }

    /// Polls the rings for a bounded time. Returns whether something arrived.
    pub(super) fn spin_for_work(&mut self) -> bool {
        if self.spin.is_zero() {
            return self.has_work();
        }
        let started = Instant::now();
        loop {
            for _ in 0..SPINS_PER_CLOCK_READ {
                if self.has_work() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if started.elapsed() >= self.spin {
                return false;
            }
        }
    }

    pub(super) async fn make_wakers(&self) -> Wakers {
        let parker = Parker::new();
        Wakers {
            executor: poll_fn(|context| Poll::Ready(context.waker().clone())).await,
            thread: Waker::from(Arc::new(ThreadWaker(parker.unparker().clone()))),
            parker,
            #[cfg(feature = "store")]
            disk: self.journal.as_ref().map(JournalDriver::waker),
        }
    }

    /// Sleeps until the doorbell rings or the shard's next timer is due. Returns false if neither has happened within
    /// [`LONGEST_NAP`].
    pub(super) fn nap(&mut self, next_deadline_ms: Option<u64>) -> bool {
        let due = self.until_due(next_deadline_ms).filter(|due| *due < LONGEST_NAP);
        self.nap_with(|wakers| &wakers.thread, |_, wakers| wakers.parker.park_timeout(due.unwrap_or(LONGEST_NAP)))
            || due.is_some()
    }

    /// Sleeps until the journal's write is complete, the doorbell rings, or the shard's next timer is due. Spinning would
    /// keep the core from the thread that has to finish the write, on a virtual machine without a spare core for
    /// milliseconds.
    #[cfg(feature = "store")]
    pub(super) fn nap_beside_disk(&mut self, turn: &Turn) {
        let longest = if turn.polling { LONGEST_NAP_OF_POLLING } else { LONGEST_NAP };
        let timeout = self.until_due(turn.next_deadline_ms).map_or(longest, |due| due.min(longest));
        self.nap_with(
            |wakers| wakers.disk.as_ref().unwrap_or(&wakers.thread),
            |driver, _| {
                if let Some(journal) = &mut driver.journal {
                    journal.wait(timeout);
                }
            },
        );
    }

    /// Sleeps in a way that a waker ends, unless there is work. Returns whether the doorbell rang, or there was work.
    fn nap_with(&mut self, waker: impl Fn(&Wakers) -> &Waker, sleep: impl FnOnce(&mut Self, &Wakers)) -> bool {
        let Some(wakers) = self.wakers.take() else { return false };
        let shared = Arc::clone(&self.shared);
        let link = &shared.links[self.index];
        link.naps.store(true, Ordering::Relaxed);
        link.doorbell.arm(waker(&wakers));
        let mut has_work = self.has_work();
        if !has_work {
            sleep(self, &wakers);
            has_work = !link.doorbell.is_armed();
        }
        // From here on a stall of the executor can be ended from outside again.
        link.doorbell.arm(&wakers.executor);
        link.doorbell.disarm();
        self.wakers = Some(wakers);
        has_work
    }

    /// Returns the time until the shard's next timer, or its journal's, is due.
    fn until_due(&self, next_deadline_ms: Option<u64>) -> Option<Duration> {
        #[cfg(feature = "store")]
        let next_deadline_ms = {
            let journal_ms = self.journal.as_ref().and_then(JournalDriver::due_ms);
            next_deadline_ms.into_iter().chain(journal_ms).min()
        };
        let now = self.clock.start().elapsed();
        next_deadline_ms.map(|deadline_ms| Duration::from_millis(deadline_ms).saturating_sub(now).min(LONGEST_SLEEP))
    }

    /// Sleeps until the doorbell rings or the shard's next timer is due.
    pub(super) async fn park(&mut self, next_deadline_ms: Option<u64>) {
        let now = self.clock.start().elapsed();
        let timeout = self.until_due(next_deadline_ms);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return;
        }
        let mut armed = false;
        let shared = Arc::clone(&self.shared);
        shared.links[self.index].parks.fetch_add(1, Ordering::Relaxed);
        // From here on the watchdog has something to watch.
        shared.bell.ring();
        let doorbell = &shared.links[self.index].doorbell;
        shared.links[self.index].naps.store(false, Ordering::Relaxed);
        // For the watchdog: glommio can also stall after one of its own timers has woken it.
        let wakes_at_ms = timeout.map_or(u64::MAX, |timeout| milliseconds(now + timeout));
        shared.links[self.index].wakes_at_ms.store(wakes_at_ms, Ordering::Release);
        let rung = poll_fn(|context| {
            if armed && !doorbell.is_armed() {
                return Poll::Ready(());
            }
            doorbell.arm(context.waker());
            armed = true;
            if self.has_work() {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        match timeout {
            Some(timeout) => {
                futures_lite::future::or(rung, async {
                    Timer::new(timeout).await;
                })
                .await;
            }
            None => rung.await,
        }
        doorbell.disarm();
        shared.bell.ring();
    }
}

#[allow(clippy::cast_possible_truncation)] // Half a billion years fit.
fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
