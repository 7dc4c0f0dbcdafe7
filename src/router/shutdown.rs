//! The end of a router: draining, giving up what is left, leaving, and the report of it.
//!
//! Invariants: the stages come in one order and each is reached once, however many threads stop the router; whoever
//! stops it later can bring the end of draining nearer, never put it off; what a shard had is reported by the shard
//! itself or, if its thread does not answer any more, as left behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::partition::ShardIndex;
use caxton_shards::remains::Remains;

use super::calls::WouldDeadlock;
use super::report::{Report, Stats};
use super::{Inner, Router};
use crate::doctor::Finding;
use crate::drive::is_shard_thread;
use crate::link::{Legacy, Shared, Stage};

/// How long the shards get to give up what is left, once the deadline for handling it is over, and then to leave.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long they get to leave when one of them did not give up in time. One whose handler does not return never will.
const HURRIED_DEADLINE: Duration = Duration::from_secs(1);
/// A deadline further away than this is as good as none.
const DEADLINE_MAX: Duration = Duration::from_hours(365 * 24);

impl Router {
    /// Stops the router: admits nothing more, handles what is there until the deadline, gives up the rest with the
    /// reason `stopped`, and ends the shards. Blocks the calling thread meanwhile.
    ///
    /// While the router drains, its agents go on sending to each other, so agents that never come to an end take the
    /// whole time. What is left at the deadline becomes dead letters; senders that live in this router are told by a
    /// `failure`, the owners of inboxes too, who can read it until they drop the inbox. The [`Report`] says what was
    /// left, and has the dead letters. A handler that does not return is waited for some 11 s more, and then left
    /// with its thread: see [`Report::unresponsive`].
    ///
    /// Calling it again, or from several threads, waits for the same end and reports the same figures; draining ends
    /// at the earliest of their deadlines.
    ///
    /// # Errors
    /// [`WouldDeadlock`] on a shard's own thread.
    pub fn shutdown(&self, deadline: Duration) -> Result<Report, WouldDeadlock> {
        if is_shard_thread() {
            return Err(WouldDeadlock);
        }
        Ok(self.inner.stop(deadline))
    }
}

impl Inner {
    pub(super) fn new(shared: Arc<Shared>, warnings: Vec<Finding>) -> Self {
        let (threads, drained_by, store) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { shared, threads, drained_by, store, warnings }
    }

    /// Notes that the router did not start, so that there is nothing to stop.
    pub(super) fn set_unstarted(&self) {
        let report = self.report(false, Duration::ZERO, Instant::now());
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).report = Some(report);
    }

    fn stop(&self, deadline: Duration) -> Report {
        let shared = &self.shared;
        let began = Instant::now();
        self.drain_by(began + deadline.min(DEADLINE_MAX));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = &threads.report {
            return report.clone();
        }
        shared.advance_to(Stage::Draining);
        let drained = self.wait_for_quiet(Stage::Draining, || self.drained_by(began));
        let allowed = self.drained_by(began).saturating_duration_since(began);
        shared.advance_to(Stage::Stopping);
        let stopped_by = Instant::now() + STOP_DEADLINE;
        let stopped = self.wait_for_quiet(Stage::Stopping, || stopped_by);
        shared.advance_to(Stage::Leaving);
        let has_left = |shard: usize| shared.links[shard].left.load(Ordering::Acquire);
        let left_by = Instant::now() + if stopped { STOP_DEADLINE } else { HURRIED_DEADLINE };
        let all_left = shared.wait_until(|| left_by, || (0..shared.links.len()).all(&has_left));
        for (shard, executor) in threads.executors.drain(..).enumerate() {
            // A handler that never returns keeps its thread; whoever waited for that would wait for ever. A shard's
            // panic has been reported by its own thread; the figures show what was left.
            if has_left(shard) {
                let _ = executor.join();
            }
        }
        if let Some(watchdog) = threads.watchdog.take().filter(|_| all_left) {
            let _ = watchdog.join();
        }
        if all_left {
            // Nothing is written any more: another router may have the directory.
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut store) = store {
                if let Some(projector) = store.thread.take() {
                    let _ = projector.join();
                }
                // Where one is not closed, the next start reads it as after a crash, and the generation before this one is kept.
                if shared.links.iter().all(|link| link.journal.closed.load(Ordering::Acquire)) {
                    // What this could not do, the next start does.
                    let _ = store.directory.close();
                }
            }
        }
        let report = self.report(drained, allowed, began);
        threads.report = Some(report.clone());
        report
    }

    /// Has draining end at this moment, unless it ends before.
    fn drain_by(&self, moment: Instant) {
        let mut drained_by = self.drained_by.lock().unwrap_or_else(PoisonError::into_inner);
        *drained_by = Some(drained_by.map_or(moment, |earlier| earlier.min(moment)));
        drop(drained_by);
        self.shared.notify();
    }

    fn drained_by(&self, began: Instant) -> Instant {
        self.drained_by.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(began)
    }

    /// Two rounds have to find all shards quiet with nothing between them: a message may cross during the first.
    fn wait_for_quiet(&self, stage: Stage, deadline: impl Fn() -> Instant) -> bool {
        use std::sync::atomic::Ordering::Acquire;
        let shared = &self.shared;
        shared.wait_until(deadline, || {
            if shared.stage() == Stage::Failed {
                return true;
            }
            let round = || {
                let quiet =
                    shared.links.iter().all(|link| link.gate.is_empty() && link.quiet.load(Acquire) >= stage as u8);
                let account = self.stats().account();
                (quiet && account.departed == account.arrived && account.pending == 0).then_some(account.arrived)
            };
            matches!((round(), round()), (Some(first), Some(second)) if first == second)
        }) && shared.stage() != Stage::Failed
    }

    pub(super) fn stats(&self) -> Stats {
        let links = &self.shared.links;
        Stats {
            shards: links.iter().map(|link| link.published.read()).collect(),
            queued: links.iter().map(|link| link.gate.inside()).sum(),
            watchdog_wakes: self.shared.watchdog_wakes.load(Ordering::Relaxed),
            own_agents: crate::management::own_agents(&self.shared.config),
        }
    }

    /// What the router did. `allowed` is how long draining could take.
    fn report(&self, drained: bool, allowed: Duration, began: Instant) -> Report {
        let mut remains = Remains::default();
        let mut dead_letters = Vec::new();
        let mut unresponsive = Vec::new();
        for (shard, link) in (0..).zip(&self.shared.links) {
            match link.legacy.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(Legacy { remains: its_own, letters }) => {
                    remains = remains.plus(&its_own);
                    dead_letters.extend(letters);
                }
                None => unresponsive.push(ShardIndex(shard)),
            }
        }
        Report {
            stats: self.stats(),
            drained,
            remains,
            unresponsive,
            dead_letters: dead_letters.into(),
            allowed,
            took: began.elapsed(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if is_shard_thread() {
            // The last handle was owned by an agent: its own thread can't wait for itself to end.
            self.shared.advance_to(Stage::Draining);
            self.shared.advance_to(Stage::Stopping);
            self.shared.advance_to(Stage::Leaving);
        } else {
            self.stop(self.shared.config.shutdown.deadline_ms.as_duration());
        }
    }
}
