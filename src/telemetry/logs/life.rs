//! A router's start and its end, logged by the threads that start and stop it.

use std::time::Duration;

use caxton_shards::domain::ShardCount;
use tracing::{debug, error, info, warn};

use super::{ROUTER, RouterLog};
use crate::config::{Config, Origin};
use crate::doctor::Finding;
use crate::router::report::Report;
#[cfg(feature = "store")]
use crate::store::Recovered;

impl RouterLog {
    /// Logs the settings, with their origin. Values are left out, because some are secret.
    pub fn starting(&self, config: &Config, shards: ShardCount, warnings: &[Finding]) {
        self.write(|| {
            info!(
                target: ROUTER,
                version = env!("CARGO_PKG_VERSION"),
                shards = shards.into_inner(),
                preset = %config.chosen_preset(),
                preset_from = %config.preset_origin(),
                "router starts"
            );
            for value in config.values().filter(|value| !matches!(value.origin, Origin::Preset(_))) {
                debug!(target: ROUTER, setting = value.key, from = %value.origin, "setting differs from the preset");
            }
            for warning in warnings {
                warn!(target: ROUTER, finding = %warning, "the host makes the router slower or smaller");
            }
        });
    }

    /// Logs what the start found in the data directory.
    #[cfg(feature = "store")]
    pub fn recovered(&self, recovered: &Recovered) {
        self.write(|| {
            let Recovered { messages, expired, dead_letters, agents, conversations, records, took, warnings, .. } =
                recovered;
            let took_ms = milliseconds(*took);
            info!(
                target: ROUTER,
                messages, expired, dead_letters, agents, conversations, records, took_ms, "data directory recovered"
            );
            for warning in warnings {
                warn!(target: ROUTER, warning = warning.as_str(), "recovery");
            }
        });
    }

    /// Logs that the router runs.
    pub fn running(&self, shards: usize, took: Duration) {
        self.write(|| info!(target: ROUTER, shards, took_ms = milliseconds(took), "router runs"));
    }

    /// Logs that the router begins to stop. Does not wait.
    pub fn draining(&self, deadline: Duration) {
        self.write_later(Box::new(move || {
            info!(target: ROUTER, deadline_ms = milliseconds(deadline), "router drains");
        }));
    }

    /// Logs the final report behind everything else, and waits for that for a bounded time.
    pub fn stopped(&self, report: &Report, all_left: bool) {
        let report = report.clone();
        self.end(Box::new(move || log_report(&report)), all_left);
    }
}

fn log_report(report: &Report) {
    for shard in &report.unresponsive {
        let agent = report.held_up_by.iter().find(|(held_up, _)| held_up == shard).map(|(_, agent)| &**agent);
        error!(target: ROUTER, shard = shard.0, agent, "shard did not come to its end");
    }
    let account = report.stats.account();
    if !report.balances() {
        error!(target: ROUTER, left_behind = report.left_behind(), "the router's account does not balance");
    }
    info!(
        target: ROUTER,
        drained = report.drained,
        accepted = account.accepted,
        recovered = account.recovered,
        processed = account.processed,
        dead_lettered = account.dead_lettered,
        expired = account.expired,
        kept = account.kept,
        left_behind = report.left_behind(),
        took_ms = milliseconds(report.took),
        "router stopped"
    );
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
