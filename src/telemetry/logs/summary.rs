//! What the shards only count: lines that say how many messages were not handled lately, without a cost per message.

use std::sync::atomic::{AtomicU64, Ordering};

use caxton_shards::api::{Conformance, Stage};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::stats::Account;
use tracing::{debug, warn};

use super::{EVENT, LOG};
use crate::shard_handle::Shared;

/// The counts that were logged last.
#[derive(Default)]
pub(super) struct Summary {
    account: Account,
    violations: u64,
    replies_missing: u64,
    watchdog_wakes: u64,
    lost: u64,
    records_dropped: u64,
}

impl Summary {
    /// Logs by how much each count has grown, if it has: what was lost and, if `counts`, what the shards count.
    pub fn log(&mut self, shared: &Shared, lost: &AtomicU64, counts: bool) {
        if counts {
            self.log_counts(shared);
        }
        self.log_losses(shared, lost);
    }

    fn log_counts(&mut self, shared: &Shared) {
        let shards: Vec<_> = shared.links.iter().map(|link| link.published.read()).collect();
        let account: Account = shards.iter().map(|shard| &shard.account).sum();
        for reason in DeadLetterReason::ALL {
            let (total, before) = (account.dead_by_reason[reason.index()], self.account.dead_by_reason[reason.index()]);
            if let Some(count) = grown(total, before) {
                warn!(target: EVENT, count, total, reason = reason.as_str(), "messages were dead-lettered");
            }
        }
        for stage in Stage::ALL {
            let (total, before) =
                (account.expired_by_stage[stage.index()], self.account.expired_by_stage[stage.index()]);
            if let Some(count) = grown(total, before) {
                warn!(target: EVENT, count, total, stage = stage.as_str(), "messages expired");
            }
        }
        self.account = account;
        let conformance: Conformance = shards.iter().map(|shard| &shard.conformance).sum();
        let violations = conformance.violations();
        if let Some(count) = grown(violations, self.violations) {
            warn!(target: EVENT, count, total = violations, "messages violated their protocol");
            self.violations = violations;
        }
        let missing: u64 = shards.iter().map(|shard| shard.replies_missing).sum();
        if let Some(count) = grown(missing, self.replies_missing) {
            warn!(target: EVENT, count, total = missing, "messages had no reply in time");
            self.replies_missing = missing;
        }
        let wakes = shared.watchdog_wakes.load(Ordering::Relaxed);
        if let Some(count) = grown(wakes, self.watchdog_wakes) {
            debug!(target: EVENT, count, total = wakes, "the watchdog woke stalled shards");
            self.watchdog_wakes = wakes;
        }
    }

    fn log_losses(&mut self, shared: &Shared, lost: &AtomicU64) {
        let dropped = shared.telemetry.records_dropped.load(Ordering::Relaxed);
        if let Some(count) = grown(dropped, self.records_dropped) {
            warn!(target: LOG, count, total = dropped, "records of traced messages were dropped: fewer are traced from now on");
            self.records_dropped = dropped;
        }
        let lost = lost.load(Ordering::Relaxed);
        if let Some(count) = grown(lost, self.lost) {
            warn!(target: LOG, count, total = lost, "records were lost on their way to the log: it was too slow");
            self.lost = lost;
        }
    }
}

fn grown(now: u64, before: u64) -> Option<u64> {
    now.checked_sub(before).filter(|grown| *grown > 0)
}
