//! Shutdown: draining, abandoning the rest, leaving, and the report.
//!
//! Invariants: the stages are passed in order and once each, however many threads stop the router. A later caller can
//! shorten draining but never extend it. What a shard held is reported by the shard itself or, if its thread does not
//! respond any more, as left behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::api::Unfinished;
use caxton_shards::routing::partition::ShardIndex;

use super::error::WouldDeadlockError;
use super::reload::Additions;
use super::report::{Report, Stats};
use super::{Inner, Router};
use crate::doctor::Finding;
use crate::drive::is_shard_thread;
use crate::shard_handle::{FinalState, RouterPhase, ShardHandle, Shared};

/// Time for the shards to abandon what is left after the drain deadline, and again to leave.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// A deadline beyond this is treated as none.
const DEADLINE_MAX: Duration = Duration::from_hours(365 * 24);

impl Router {
    /// Stops the router: refuses new messages, handles the existing ones until the deadline, abandons the rest with the
    /// reason `stopped`, and ends the shards. Blocks the calling thread.
    ///
    /// While the router drains, its agents keep sending to each other, so agents that never finish take the whole time.
    /// What is left at the deadline is dead-lettered. Senders in this router get a `failure`, including the owners
    /// of inboxes, who can read it until they drop the inbox. The [`Report`] says what was left, and has the dead
    /// letters.
    ///
    /// A [blocked](Stats::blocked) shard, whose handler or `stopped` does not return, is not waited for beyond the
    /// deadline, or beyond the time at which it counts as blocked, within a second. It is left with its thread and ends
    /// when that call returns: see [`Report::unresponsive`]. Any deadline is allowed.
    ///
    /// One event descriptor of glommio 0.9 per shard stays open until the process ends, because its tasks never release
    /// it ([DataDog/glommio#448](https://github.com/DataDog/glommio/issues/448)). Nothing else is left.
    ///
    /// Further calls, also from several threads, wait for the same end and return the same figures; draining ends at
    /// the earliest of their deadlines.
    ///
    /// # Errors
    ///
    /// Returns [`WouldDeadlockError`] on a shard's own thread.
    pub fn shutdown(&self, deadline: Duration) -> Result<Report, WouldDeadlockError> {
        if is_shard_thread() {
            return Err(WouldDeadlockError);
        }
        Ok(self.inner.stop(deadline))
    }
}

impl Inner {
    pub(super) fn new(shared: Arc<Shared>, warnings: Vec<Finding>) -> Self {
        Self {
            settings: Mutex::new(shared.config.clone()),
            shared,
            threads: Mutex::default(),
            drained_by: Mutex::default(),
            #[cfg(feature = "store")]
            store: Mutex::default(),
            warnings,
            live: Mutex::default(),
            additions: Additions::default(),
            #[cfg(feature = "telemetry")]
            log: None,
            #[cfg(feature = "telemetry")]
            edge: Mutex::default(),
        }
    }

    /// Notes that the router did not start, so that there is nothing to stop.
    pub(super) fn set_unstarted(&self) {
        let report = self.report(false, Duration::ZERO, Instant::now());
        #[cfg(feature = "telemetry")]
        self.end_edge();
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
        #[cfg(feature = "telemetry")]
        if let Some(log) = &self.log {
            log.draining(deadline);
        }
        shared.advance_to(RouterPhase::Draining);
        let drained = self.wait_for_quiet(RouterPhase::Draining, || self.drained_by(began));
        let allowed = self.drained_by(began).saturating_duration_since(began);
        shared.advance_to(RouterPhase::Stopping);
        let stopped_by = Instant::now() + STOP_DEADLINE;
        let is_quiet = |link: &ShardHandle| link.quiet.load(Ordering::Acquire) >= RouterPhase::Stopping as u8;
        self.wait_for_quiet(RouterPhase::Stopping, || self.unless_blocked(stopped_by, is_quiet));
        shared.advance_to(RouterPhase::Leaving);
        let left_by = Instant::now() + STOP_DEADLINE;
        let all_left = shared.wait_until(
            || self.unless_blocked(left_by, |link| link.left.load(Ordering::Acquire)),
            || shared.links.iter().all(|link| link.left.load(Ordering::Acquire)),
        );
        let has_left = |shard: usize| shared.links[shard].left.load(Ordering::Acquire);
        for (shard, executor) in threads.executors.drain(..).enumerate() {
            // A handler that never returns keeps its thread, so joining it would never end. A shard's panic has been
            // reported by its own thread; the figures show what was left.
            if has_left(shard) {
                let _ = executor.join();
            }
        }
        if let Some(watchdog) = threads.watchdog.take().filter(|_| all_left) {
            let _ = watchdog.join();
        }
        #[cfg(feature = "store")]
        if all_left {
            // Nothing is written any more: another router may use the directory.
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut store) = store {
                if let Some(projector) = store.thread.take() {
                    let _ = projector.join();
                }
                // If a journal is not closed, the next start reads it as after a crash, and the previous generation is
                // kept.
                if shared.links.iter().all(|link| link.journal.closed.load(Ordering::Acquire)) {
                    // The next start does what failed here.
                    let _ = store.directory.close();
                }
            }
        }
        let report = self.report(drained, allowed, began);
        #[cfg(feature = "telemetry")]
        if let Some(log) = &self.log {
            if all_left {
                shared.subscribers.clear();
            }
            log.stopped(&report, all_left);
        }
        // After the log, which may be exported.
        #[cfg(feature = "telemetry")]
        self.end_telemetry(threads.telemetry.take());
        threads.report = Some(report.clone());
        #[cfg(feature = "telemetry")]
        self.end_edge();
        report
    }

    /// Sets the end of draining to this time, unless it is earlier already.
    fn drain_by(&self, moment: Instant) {
        let mut drained_by = self.drained_by.lock().unwrap_or_else(PoisonError::into_inner);
        *drained_by = Some(drained_by.map_or(moment, |earlier| earlier.min(moment)));
        drop(drained_by);
        self.shared.notify();
    }

    fn drained_by(&self, began: Instant) -> Instant {
        self.drained_by.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(began)
    }

    /// Returns the deadline, or now if only blocked shards are not done.
    fn unless_blocked(&self, deadline: Instant, is_done: impl Fn(&ShardHandle) -> bool) -> Instant {
        let blocked = |shard: usize| self.shared.is_blocked(shard);
        let links = &self.shared.links;
        let done_or_blocked = |(shard, link): (usize, &ShardHandle)| is_done(link) || blocked(shard);
        let only_blocked = (0..links.len()).any(blocked) && links.iter().enumerate().all(done_or_blocked);
        if only_blocked { Instant::now().min(deadline) } else { deadline }
    }

    /// Two rounds must find all shards quiet with nothing between them, because a message may cross during the first.
    fn wait_for_quiet(&self, stage: RouterPhase, deadline: impl Fn() -> Instant) -> bool {
        use std::sync::atomic::Ordering::Acquire;
        let shared = &self.shared;
        shared.wait_until(deadline, || {
            if shared.phase() == RouterPhase::Failed {
                return true;
            }
            let round = || {
                let quiet =
                    shared.links.iter().all(|link| link.gate.is_empty() && link.quiet.load(Acquire) >= stage as u8);
                let account = self.stats().account();
                (quiet && account.departed == account.arrived && account.pending == 0).then_some(account.arrived)
            };
            matches!((round(), round()), (Some(first), Some(second)) if first == second)
        }) && shared.phase() != RouterPhase::Failed
    }

    pub(super) fn stats(&self) -> Stats {
        let links = &self.shared.links;
        Stats {
            shards: links.iter().map(|link| link.published.read()).collect(),
            queued: links.iter().map(|link| link.gate.inside()).sum(),
            watchdog_wakes: self.shared.watchdog_wakes.load(Ordering::Relaxed),
            blocked: (0..links.len())
                .filter(|shard| self.shared.is_blocked(*shard))
                .map(|shard| ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX)))
                .collect(),
            times_blocked: links.iter().map(|link| link.times_blocked.load(Ordering::Relaxed)).sum(),
            own_agents: crate::management::own_agents(&self.shared.config),
        }
    }

    /// Returns the report. `allowed` is the time that was allowed for draining.
    fn report(&self, drained: bool, allowed: Duration, began: Instant) -> Report {
        let mut unfinished = Unfinished::default();
        let mut dead_letters = Vec::new();
        let mut unresponsive = Vec::new();
        for (shard, link) in (0..).zip(&self.shared.links) {
            match link.final_state.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(FinalState { unfinished: its_own, letters }) => {
                    unfinished += &its_own;
                    dead_letters.extend(letters);
                }
                None => unresponsive.push(ShardIndex(shard)),
            }
        }
        let held_up_by = unresponsive.iter().filter(|shard| self.shared.in_turn_for(shard.as_usize()).is_some());
        let held_up_by = held_up_by.filter_map(|shard| Some((*shard, self.shared.called_agent(*shard)?))).collect();
        Report {
            held_up_by,
            stats: self.stats(),
            drained,
            unfinished,
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
            // The last handle was owned by an agent, whose thread cannot wait for its own end.
            self.shared.advance_to(RouterPhase::Draining);
            self.shared.advance_to(RouterPhase::Stopping);
            self.shared.advance_to(RouterPhase::Leaving);
        } else {
            self.stop(self.shared.config.shutdown.deadline_ms.as_duration());
        }
    }
}
